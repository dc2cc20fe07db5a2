"""Faster forms of a model go through the engine as they are."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.fx.experimental.optimization import fuse

from captum_wg import (
    Automatic,
    Deletion,
    ExpectedGradients,
    GeneralizedAttribution,
    LayerExpectedGradients,
    NeuronExpectedGradients,
    WeightedGradients,
)

pytestmark = pytest.mark.filterwarnings(
    "error::UserWarning",
    "ignore::FutureWarning",
    "ignore::DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",  # of a compiler that looks for it
)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1, bias=False),
            nn.BatchNorm2d(6),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(24, 3),
            nn.Softmax(1),
        )
        net(torch.randn(64, 3, 8, 8) * 2 + 1)  # running statistics that are not those of a new layer
    return net.eval()


def frozen(model):
    return copy.deepcopy(model).requires_grad_(False)


def channels_last(model):
    return copy.deepcopy(model).to(memory_format=torch.channels_last)


def compiled(model):
    torch.compiler.reset()
    # The default backend needs a C++ compiler; what reaches the engine is the same.
    return torch.compile(copy.deepcopy(model), backend="aot_eager")


def traced(model):
    return torch.jit.trace(copy.deepcopy(model), torch.zeros(1, 3, 8, 8))


def folded(model):
    return fuse(copy.deepcopy(model))


def data_parallel(model):
    return nn.DataParallel(copy.deepcopy(model))


FORMS = (frozen, channels_last, compiled, traced, folded, data_parallel)


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
def test_a_form_of_the_model_has_the_models_maps(model, form):
    generator = torch.Generator().manual_seed(1)
    x, references = (torch.randn(n, 3, 8, 8, generator=generator) for n in (2, 4))
    other, y = form(model), [0, 2]

    def maps(f):
        return (
            ExpectedGradients(f).attribute(x, references, y, n_steps=5),
            ExpectedGradients(f).attribute(x, references, y, n_steps=Automatic(0.05)),
            WeightedGradients(f).attribute(
                x, references, y, n_steps=5, weighting=Deletion(alpha=0.97), keep=2, screening_steps=2
            ),
            *GeneralizedAttribution(f).attribute(x, references, y, n_samples=9).values(),
        )

    for found, expected in zip(maps(other), maps(model), strict=True):
        assert found.is_contiguous() == expected.is_contiguous()
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_layers_and_neurons_of_a_compiled_model(model):
    generator = torch.Generator().manual_seed(1)
    x, references = (torch.randn(n, 3, 8, 8, generator=generator) for n in (2, 4))
    other = compiled(model)
    for number, at_input in ((2, False), (5, True)):
        expected = LayerExpectedGradients(model, model[number])
        found = LayerExpectedGradients(other, other._orig_mod[number])
        maps = [m.attribute(x, references, 1, n_steps=3, attribute_to_layer_input=at_input) for m in (found, expected)]
        torch.testing.assert_close(*maps, rtol=1e-3, atol=1e-5)
    expected = NeuronExpectedGradients(model, model[5]).attribute(x, 1, references, n_steps=3)
    found = NeuronExpectedGradients(other, other._orig_mod[5]).attribute(x, 1, references, n_steps=3)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)


def test_inputs_in_channels_last_have_the_same_maps(model):
    generator = torch.Generator().manual_seed(1)
    x, references = (torch.randn(n, 3, 8, 8, generator=generator) for n in (2, 4))
    other = [v.to(memory_format=torch.channels_last) for v in (x, references)]
    for method, kwargs in (
        (ExpectedGradients(model), {}),
        (WeightedGradients(model), {"weighting": Deletion(alpha=0.97)}),
    ):
        expected = method.attribute(x, references, [0, 2], n_steps=5, **kwargs)
        found = method.attribute(*other, [0, 2], n_steps=5, **kwargs)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
