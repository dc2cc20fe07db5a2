import dataclasses
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantus_ext import explain, explainer
from quantus_ext.model_output import tensor_of

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@dataclasses.dataclass
class Logits:
    logits: Tensor
    hidden: Any = None


@dataclasses.dataclass
class Other:
    scores: Tensor


class ModelOutput(OrderedDict):
    """The form of transformers' outputs."""

    @property
    def logits(self):
        return self["logits"]


class Returning(nn.Module):
    def __init__(self, net, make):
        super().__init__()
        self.net, self.make = net, make

    def forward(self, x):
        return self.make(self.net(x))


WITH_LOGITS = {
    "dict": lambda z: {"logits": z, "hidden": z[:, :1]},
    "dataclass": Logits,
    "ModelOutput": lambda z: ModelOutput(hidden=z[:, :1], logits=z),
}
WITHOUT = {
    "tuple": (lambda z: (z, z[:, :1]), lambda output: output[0]),
    "list": (lambda z: [z], lambda output: output[0]),
    "dict": (lambda z: {"scores": z}, lambda output: output["scores"]),
    "dataclass": (Other, lambda output: output.scores),
}


@pytest.mark.parametrize("kind", WITH_LOGITS)
@pytest.mark.parametrize("name", ["Saliency", "DeepLift", "WeightedGradients", "LayerGradCam"])
def test_logits_are_explained(net, images, kind, name):
    x, y, _ = images
    kwargs = {"WeightedGradients": {"n_steps": 2, "baselines": np.arange(252.0).reshape(2, 3, 6, 7) / 252}}.get(
        name, {}
    )
    layered = name == "LayerGradCam"
    model = Returning(net, WITH_LOGITS[kind]).eval()
    expected = explainer(name, **kwargs, **({"gc_layer": "0"} if layered else {}))(net, x, y)
    result = explainer(name, **kwargs, **({"gc_layer": "net.0"} if layered else {}))(model, x, y)
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert not model._forward_hooks


@pytest.mark.parametrize("kind", WITHOUT)
def test_anything_else_is_refused_with_the_cure(net, images, kind):
    x, y, _ = images
    make, choice = WITHOUT[kind]
    model = Returning(net, make).eval()
    for call in (explainer("Saliency"), explainer("ExpectedGradients"), explain):
        with pytest.raises(TypeError, match=r"must return a Tensor, got .*register_forward_hook"):
            call(model, x, y)
    model.register_forward_hook(lambda module, args, output: choice(output))
    np.testing.assert_array_equal(explainer("Saliency")(model, x, y), explainer("Saliency")(net, x, y))


def test_a_tensor_is_itself():
    z = torch.zeros(2, 3)
    assert tensor_of(z) is z
