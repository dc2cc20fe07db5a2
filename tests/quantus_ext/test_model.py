import dataclasses
import threading
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from quantus_ext import explain, explainer
from quantus_ext.model import tensor_of

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
        with pytest.raises(TypeError, match=r"the model must return a Tensor, got .*register_forward_hook"):
            call(model, x, y)
    model.register_forward_hook(lambda module, args, output: choice(output))
    np.testing.assert_array_equal(explainer("Saliency")(model, x, y), explainer("Saliency")(net, x, y))


def test_a_tensor_is_itself():
    z = torch.zeros(2, 3)
    assert tensor_of(z) is z


class Slow(nn.Module):
    """Lets other threads in between while it is in use, and is random in train mode."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))

    def forward(self, x):
        time.sleep(0.001)
        return self.layers(x)


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("Saliency", {}),
        ("DeepLift", {}),
        ("GradientShap", {"generator": 0, "stdevs": 0.5}),
        ("Lime", {"generator": 0, "n_samples": 6}),
        ("ShapleyValueSampling", {"generator": 0, "n_samples": 2}),
        ("ExpectedGradients", {"n_steps": 3}),
    ],
)
def test_threads_share_a_model(name, kwargs):
    torch.manual_seed(0)
    model = Slow().train()
    x, y = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32), [0, 2]
    make = explainer(name, **kwargs)
    expected = make(model, x, y)
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    start = threading.Barrier(4)

    def many(_):
        start.wait()
        return [make(model, x, y) for _ in range(4)]

    with ThreadPoolExecutor(4) as pool:
        maps = [each for of_thread in pool.map(many, range(4)) for each in of_thread]
    for each in maps:
        np.testing.assert_array_equal(each, expected)
    assert all(module.training for module in model.modules())
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])


def test_fresh_draws_are_counted_across_threads(net, images):
    x, y, _ = images
    kwargs = {"stdevs": 0.5, "generator": 3, "fresh_draws": True}
    one = explainer("GradientShap", **kwargs)
    expected = sorted(one(net, x, y).tobytes() for _ in range(8))
    shared = explainer("GradientShap", **kwargs)
    with ThreadPoolExecutor(4) as pool:
        found = sorted(a.tobytes() for a in pool.map(lambda _: shared(net, x, y), range(8)))
    assert found == expected


def test_quantus_own_methods_take_turns_too(net, images):
    x, y, _ = images
    net.train()
    with ThreadPoolExecutor(4) as pool:
        maps = list(pool.map(lambda _: explain(net, x, y, method="Gradient"), range(12)))
    assert net.training and net[0].training
    assert all((each == maps[0]).all() for each in maps)
