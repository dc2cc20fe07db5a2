"""Seeds of groups, and what is put back."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from captum_wg.datasets.reproducible import reproducible, seed_group

CPU = torch.device("cpu")


def drawn():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_a_group_draws_the_same_whatever_came_before():
    with reproducible(1, CPU):
        draws = {}
        for group in (3, 0, 1, 3, 0):
            seed_group(7, group, CPU)
            draws.setdefault(group, set()).add(drawn())
        assert [len(each) for each in draws.values()] == [1, 1, 1]
        # Every generator for itself, and other groups and seeds draw other numbers.
        assert all(len(set(one)) == 3 for one in zip(*(next(iter(d)) for d in draws.values()), strict=True))
        seed_group(6, 1, CPU)
        assert drawn() not in {draw for each in draws.values() for draw in each}


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_put_back(fails):
    threads, benchmark = torch.get_num_threads(), torch.backends.cudnn.benchmark
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = drawn()
    random.setstate(states[0]), np.random.set_state(states[1]), torch.set_rng_state(states[2])
    torch.backends.cudnn.benchmark = True
    try:
        with reproducible(threads + 1, None):
            assert torch.get_num_threads() == threads + 1
            assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
            seed_group(0, 0, None)
            if fails:
                raise KeyError("stop")
    except KeyError:
        assert fails
    assert torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = benchmark
    assert torch.get_num_threads() == threads
    assert drawn() == expected
