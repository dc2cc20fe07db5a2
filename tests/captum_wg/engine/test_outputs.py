"""The forms that a model's output comes in."""

from __future__ import annotations

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch

from captum_wg import ExpectedGradients, Stability, WeightedGradients
from captum_wg.engine.outputs import output_tensor

LOGITS = torch.arange(6.0).view(2, 3)


@dataclass
class WithLogits:
    loss: object
    logits: torch.Tensor


@dataclass
class Scores:
    scores: torch.Tensor


Pair = namedtuple("Pair", "scores aux")


@pytest.mark.parametrize("output", [LOGITS, WithLogits(None, LOGITS), {"logits": LOGITS, "x": 1}])
def test_the_tensor_or_its_logits(output):
    assert output_tensor(output) is LOGITS


@pytest.mark.parametrize(
    "output, part",
    [
        ((LOGITS, LOGITS), r"got tuple.*model\(\*x\)\[0\]"),
        ([LOGITS], r"got list.*model\(\*x\)\[0\]"),
        (Pair(LOGITS, 1), r"got Pair.*model\(\*x\)\.scores"),
        ({"out": LOGITS}, r"got dict.*model\(\*x\)\['out'\]"),
        (Scores(LOGITS), r"got Scores.*model\(\*x\)\.scores"),
        (None, "got NoneType$"),
        (LOGITS.numpy(), "got ndarray$"),
    ],
)
def test_another_form_is_refused_with_the_wrapper(output, part):
    with pytest.raises(TypeError, match=f"forward_func must return a Tensor, {part}"):
        output_tensor(output)


@pytest.mark.parametrize("method", [ExpectedGradients, WeightedGradients, Stability])
def test_attribution_of_logits_and_of_what_has_none(method):
    x, baselines = torch.rand(2, 4), torch.zeros(3, 4)
    w = torch.rand(4, 3)
    plain = method(lambda z: z.tanh() @ w).attribute(x, baselines, target=1)
    found = method(lambda z: WithLogits(None, z.tanh() @ w)).attribute(x, baselines, target=1)
    assert torch.equal(plain, found)
    with pytest.raises(TypeError, match=r"lambda \*x: model\(\*x\)\[0\]"):
        method(lambda z: (z @ w, z)).attribute(x, baselines, target=1)
