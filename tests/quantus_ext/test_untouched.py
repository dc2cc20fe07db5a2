"""Nothing of the caller's changes, whatever the model does to what it is given, and also after an error."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from captum_wg import Deletion
from quantus_ext import AverageDrop, DeletionAUC, InsertionAUC, NoisyLinearImputation, explainer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Writing(nn.Module):
    """Its first operation, and its last one on a second argument, are in place."""

    def __init__(self, fails=False):
        super().__init__()
        torch.manual_seed(0)
        self.rest, self.fails = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), fails
        self.eval()

    def forward(self, x, scale=None):
        outputs = self.rest(x.mul_(2).sub_(1))
        if self.fails:
            raise RuntimeError("stop")
        return outputs if scale is None else outputs * scale.mul_(2)


def tensors():
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(3, 3, 2, 2, generator=generator),
        "baselines": torch.randn(3, 3, 2, 2, generator=generator),
        "mask": torch.arange(4).reshape(1, 1, 2, 2),
        "neutral": torch.randn(3, 3, 2, 2, generator=generator),
        "scale": torch.rand(3, 1, generator=generator),
        "a": torch.randn(3, 3, 2, 2, generator=generator),
    }


CALLS = {
    "FeatureAblation": lambda t: {"baselines": t["baselines"], "feature_mask": t["mask"]},
    "Occlusion": lambda t: {"baselines": t["baselines"][:1], "window": (3, 1, 1)},
    "ShapleyValueSampling": lambda t: {"baselines": t["baselines"], "n_samples": 1, "feature_mask": t["mask"]},
    "IntegratedGradients": lambda t: {"baselines": t["baselines"], "n_steps": 3},
    "ExpectedGradients": lambda t: {"baselines": t["baselines"], "n_steps": 3, "pairing": "shared"},
    "WeightedGradients": lambda t: {
        "baselines": t["baselines"],
        "n_steps": 3,
        "pairing": "shared",
        "weighting": Deletion(neutral=t["neutral"]),
        "feature_mask": t["mask"],
    },
    "DeepLift": lambda t: {"baselines": t["baselines"]},
}


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("batch_size", [None, 1])
@pytest.mark.parametrize("name", CALLS)
def test_of_explanations(name, batch_size, fails):
    given, before = tensors(), tensors()
    kwargs = {**CALLS[name](given), "additional_forward_args": given["scale"], "batch_size": batch_size}
    try:
        explainer(name, **kwargs)(Writing(fails), given["x"], torch.tensor([0, 1, 2]))
    except RuntimeError as error:
        # Captum's gradients can't go through such a model.
        assert fails or "in-place" in str(error)
    for key, value in given.items():
        assert torch.equal(value, before[key]), key


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize(
    "cls, removal",
    [
        *itertools.product((DeletionAUC, InsertionAUC, AverageDrop), ("blur", "neutral", lambda x: x.zero_(), 0)),
        (DeletionAUC, NoisyLinearImputation()),
        (InsertionAUC, lambda x, removed: x.zero_()),
    ],
)
def test_of_metrics(cls, removal, fails):
    given, before = tensors(), tensors()
    metric = cls(removal=given["neutral"] if removal == "neutral" else removal, abs=True, normalise=True)
    try:
        metric(Writing(fails), given["x"].numpy(), np.array([0, 1, 2]), given["a"].numpy())
    except RuntimeError as error:
        assert fails and "stop" in str(error)
    for key, value in given.items():
        assert torch.equal(value, before[key]), key
