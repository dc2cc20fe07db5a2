"""What two things have to share to have the same fingerprint."""

from __future__ import annotations

import copy
import functools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, Saliency
from torch import nn

from captum_wg import Deletion, ExpectedGradients
from captum_wg.datasets.fingerprint import differences, digest, fingerprint


class Scaled(nn.Module):
    def __init__(self, scale=2.0):
        super().__init__()
        self.scale, self.inner = scale, nn.Linear(2, 2)
        self.register_buffer("table", torch.ones(3), persistent=False)


def linear(bias=0.0):
    made = nn.Linear(2, 2)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.fill_(bias)
    return made


def changed(module, **attributes):
    made = copy.deepcopy(module)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def power(exponent):
    return lambda x: x**exponent


MODULE = Scaled()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 2),
        (1.0, math.inf),
        ("a", "b"),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 2}),
        (torch.zeros(2), torch.ones(2)),
        (torch.zeros(2), torch.zeros(2, dtype=torch.float64)),
        (torch.zeros(2, 1), torch.zeros(1, 2)),
        (np.zeros(2), np.ones(2)),
        (b"a", b"b"),
        (linear(), linear(1.0)),
        (MODULE, changed(MODULE, scale=3.0)),
        (MODULE, changed(MODULE, table=torch.zeros(3))),
        (MODULE, changed(MODULE, training=False)),
        (nn.Conv2d(1, 1, 1, stride=1, bias=False).requires_grad_(False), nn.Conv2d(1, 1, 1, stride=2, bias=False)),
        (lambda x: x + 1, lambda x: x + 2),
        (lambda x: x.sin(), lambda x: x.cos()),
        (lambda x, k=1: x, lambda x, k=2: x),
        (power(2), power(3)),
        (functools.partial(power, 2), functools.partial(power, 3)),
        (math.sin, math.cos),
        (Deletion(alpha=0.5), Deletion(alpha=0.6)),
        (ExpectedGradients(linear()), ExpectedGradients(linear(1.0))),
        (ExpectedGradients(linear()), IntegratedGradients(linear())),
        (ExpectedGradients(linear()), ExpectedGradients(linear(), multiply_by_inputs=False)),
        (Saliency(linear()).attribute, Saliency(linear(1.0)).attribute),
        (Deletion, Saliency),
    ],
)
def test_same_for_copies_and_other_for_others(one, other):
    twin = one if isinstance(one, type) else copy.deepcopy(one)
    assert fingerprint(one) == fingerprint(twin) == json.loads(json.dumps(fingerprint(one)))
    assert fingerprint(one) != fingerprint(other)


def test_collections_and_numbers():
    assert fingerprint({"a": (1, 2.5, None, True)}) == {"a": [1, 2.5, None, True]}
    assert fingerprint(np.float64(2.5)) == 2.5
    assert fingerprint(math.nan) == "nan"
    assert fingerprint({3, 1, 2}) == [1, 2, 3]
    assert fingerprint(torch.float16) == "torch.float16"
    assert fingerprint(torch.ones(2, 3).T) == fingerprint(torch.ones(2, 3).T.contiguous())
    assert fingerprint(torch.tensor(1.0)).startswith("torch.float32 () ")
    assert fingerprint(torch.ones(2, 0)).startswith("torch.float32 (2, 0) ")
    assert fingerprint(torch.eye(2).to_sparse()) == fingerprint(torch.eye(2))


def test_what_holds_itself():
    held = {}
    held["self"] = held
    assert fingerprint(held) == {"self": "itself"}


@pytest.mark.slow
def test_a_function_of_the_script_is_known_by_what_it_refers_to():
    script = """
import torch; from captum_wg.datasets.fingerprint import fingerprint, digest
def f(x):
    return x * scale if x in {'a', 'b', 'c', 'd'} else (lambda y: y)(torch.sin(x))
for scale in (1, 2):
    print(digest(fingerprint(f)))
"""
    # Each has another order of sets, and other addresses.
    first, again = (
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(2)
    )
    assert first == again and first[0] != first[1]


def test_differences_name_what_differs():
    there = {"method": {"steps": 3, "rule": "a"}, "seed": 0, "old": 1}
    here = {"method": {"steps": 4, "rule": "a"}, "seed": 0, "new": "x" * 100}
    assert differences(there, here) == (
        f'method.steps: 3 there, 4 here; new: nothing there, "{"x" * 76}... here; old: 1 there, nothing here'
    )
    assert differences(there, there) == ""
    assert differences({"a": None, "b": 1}, {"b": 1}) == "a: null there, nothing here"
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_a_generator_is_refused_wherever_it_is_held(net):
    with pytest.raises(ValueError, match=r"holds a torch.Generator.*int seed"):
        fingerprint({"method": functools.partial(net, generator=torch.Generator())})
