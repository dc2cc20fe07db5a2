import random

import numpy as np
import pytest
import torch

from benchmarks.run.randomness import seeded


def draw():
    return random.random(), np.random.random(), torch.rand(()).item()


def test_draws_follow_from_the_entropy():
    draws = []
    for entropy in ((0, "a"), (0, "a"), (1, "a"), (0, "b"), (0, b"b", 3)):
        with seeded(*entropy):
            draws.append(draw())
    assert draws[0] == draws[1]
    assert len(set(draws)) == 4


def test_generators_are_put_back_even_after_an_error():
    with seeded(5):
        before = draw()
    with seeded(5):
        with pytest.raises(KeyError), seeded(6):
            draw()
            raise KeyError
        assert draw() == before
