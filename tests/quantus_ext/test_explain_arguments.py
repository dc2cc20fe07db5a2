import pickle

import captum.attr
import numpy as np
import pytest
import torch
from torch import nn

import captum_wg
from captum_wg import Both, Deletion, WeightedGradients
from quantus_ext import explain, explainer


@pytest.fixture
def references():
    return np.random.default_rng(5).normal(size=(3, 3, 6, 7)).astype(np.float32)


def test_complex_numbers_are_refused(net, images, references):
    x, y, _ = images
    with pytest.raises(ValueError, match="inputs must hold real numbers, got"):
        explainer("Saliency")(net, x.astype(complex), y)
    with pytest.raises(ValueError, match="inputs must hold real numbers, got"):
        explainer("Saliency")(net, torch.from_numpy(x) * 1j, y)
    with pytest.raises(ValueError, match="baselines must hold real numbers, got"):
        explainer("ExpectedGradients", baselines=references * 1j)(net, x, y)
    for bad in (y.astype(complex), y > 1):
        with pytest.raises(ValueError, match="targets must be class numbers, got"):
            explainer("Saliency")(net, x, bad)


@pytest.mark.parametrize("name", ["keepdims", "fresh_draws", "softmax"])
def test_booleans_are_booleans(net, images, name):
    for bad in ("no", 1, 0):
        with pytest.raises(TypeError, match=f"{name} must be True or False, got {bad!r}"):
            explainer("Saliency", **{name: bad})
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            explainer("Saliency")(net, *images[:2], **{name: bad})


def test_sizes_and_axes_are_no_booleans_or_words(net, images):
    for bad in ("yes", 7):
        with pytest.raises(ValueError, match=rf"interpolate must be True, False or a size .*got {bad!r}"):
            explainer("Saliency", interpolate=bad)
    with pytest.raises(ValueError, match=r"reduce_axes must name dims of the inputs.*got True"):
        explainer("Saliency", reduce_axes=(True,))(net, *images[:2])


def test_one_hot_targets_and_channels_last(net, images):
    x, y, _ = images
    one_hot = np.eye(5)[y]
    for name in ("Saliency", "ExpectedGradients", "DeepLift"):
        with pytest.raises(ValueError, match=r"one-hot rows, pass class numbers: targets.argmax\(1\)"):
            explainer(name)(net, x, one_hot)
        with pytest.raises(ValueError, match=r"channels came last.*np.moveaxis\(inputs, -1, 1\)"):
            explainer(name)(net, np.moveaxis(x, 1, -1), y)
    for targets, inputs in ((one_hot, x), (y, np.moveaxis(x, 1, -1))):
        with pytest.raises(ValueError, match=r"one-hot rows|channels came last"):
            explain(net, inputs, targets, method="Gradient")
    np.testing.assert_array_equal(explainer("Saliency")(net, x, one_hot.argmax(1)), explainer("Saliency")(net, x, y))
    # What fits the model is not refused for its looks.
    flat = nn.Sequential(nn.Flatten(), nn.Linear(126, 5)).eval()
    assert explainer("Saliency", reduce_axes=())(flat, np.moveaxis(x, 1, -1), y).shape == (4, 6, 7, 3)


def test_a_weighting_is_cut_with_its_examples(net, images, references):
    x, y, _ = images
    own = np.random.default_rng(6).normal(size=x.shape)
    for weighting in (Deletion(neutral=own), Both(neutral=[own, "blur", 0.5], power=0.5), Deletion(neutral=(own,))):
        make = explainer("WeightedGradients", baselines=references, n_steps=3, weighting=weighting, reduce_axes=())
        # Each example by itself, with its own row of the neutral.
        alone = []
        for i in range(len(x)):
            row = torch.tensor(own[i : i + 1], dtype=torch.float32)
            neutral = {list: [row, "blur", 0.5], tuple: (row,)}.get(type(weighting.neutral), row)
            setting = type(weighting)(neutral=neutral, power=weighting.power)
            alone.append(
                WeightedGradients(net).attribute(
                    torch.from_numpy(x[i : i + 1]),
                    torch.from_numpy(references),
                    int(y[i]),
                    n_steps=3,
                    weighting=setting,
                    pairing="shared",
                )
            )
        for batch_size in (1, 3, None):
            np.testing.assert_allclose(make(net, x, y, batch_size=batch_size), torch.cat(alone), atol=1e-6)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(make))(net, x, y), make(net, x, y))
        assert isinstance(weighting.neutral if not isinstance(weighting.neutral, list | tuple) else own, np.ndarray)


def test_a_neutral_of_the_features_is_shared(net, images, references):
    x, y, _ = images
    shared = np.full((3, 1, 1), 0.5)
    make = explainer("WeightedGradients", baselines=references, n_steps=2, weighting=Deletion(neutral=shared))
    number = explainer("WeightedGradients", baselines=references, n_steps=2, weighting=Deletion(neutral=0.5))
    np.testing.assert_array_equal(make(net, x, y, batch_size=1), number(net, x, y, batch_size=1))


@pytest.mark.parametrize(
    "name, kwargs",
    [
        ("IntegratedGradients", {}),
        ("IntegratedGradients", {"n_steps": 7}),
        ("InternalInfluence", {"gc_layer": "model.0"}),
        ("GradientShap", {"n_samples": 7, "stdevs": 0.1}),
        ("DeepLiftShap", {"baselines": np.zeros((9, 3, 64, 64))}),
        ("Saliency", {}),
    ],
)
def test_forwards_are_bounded_by_default(net, counting, name, kwargs):
    x = np.random.default_rng(0).normal(size=(20, 3, 64, 64)).astype(np.float32)
    # 98304 // (3 * 64 * 64) = 8 rows, the rule of the gradients' engine.
    rows = 8
    if name == "DeepLiftShap":
        rows, seen = 2 * 9, []
        net.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
        explainer(name, **kwargs)(net, x, np.zeros(20, int))
        # Example and baselines go together through DeepLift.
        assert max(seen) <= rows and len(seen) >= 20
        return
    model = counting(net)
    explainer(name, **kwargs)(model, x, np.zeros(20, int))
    assert max(model.rows) <= rows


def test_forwards_of_a_noise_tunnel_are_bounded(net, counting):
    x = np.random.default_rng(0).normal(size=(20, 3, 64, 64)).astype(np.float32)
    for inner, kwargs in [
        (captum.attr.Saliency, {}),
        (captum.attr.IntegratedGradients, {"n_steps": 10}),
        (captum.attr.Saliency, {"nt_samples": 20, "nt_samples_batch_size": 4}),
        (captum.attr.GradientShap, {"n_samples": 2, "nt_samples": 4, "baselines": np.zeros((1, 3, 64, 64))}),
    ]:
        model = counting(net)
        explainer(lambda m, inner=inner: captum.attr.NoiseTunnel(inner(m)), **kwargs)(model, x, np.zeros(20, int))
        assert max(model.rows) <= 8


def test_bounded_maps_are_the_same(net, images):
    x, y, _ = images
    x, y = np.repeat(x, 12, 0), np.repeat(y, 12)
    expected = captum.attr.IntegratedGradients(net).attribute(torch.from_numpy(x), target=torch.from_numpy(y))
    result = explainer("IntegratedGradients", reduce_axes=())(net, x, y)
    np.testing.assert_allclose(result, expected.detach(), atol=1e-6)


def test_own_bounds_are_kept(net, images, counting):
    x, y, _ = images
    model = counting(net)
    explainer("IntegratedGradients", internal_batch_size=20, n_steps=50)(model, x, y)
    assert max(model.rows) == 20
    model = counting(net)
    explainer("GradientShap", batch_size=4, n_samples=5)(model, x, y)
    assert max(model.rows) == 20


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "ExpectedGradients", "FeatureAblation"])
def test_arguments_that_all_examples_share(name):
    """Their number of rows may be that of the examples: a probe of the model tells what is meant."""
    torch.manual_seed(0)

    class Prototypes(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(4, 6)

        def forward(self, x, prototypes, scale):
            return torch.tanh(self.linear(x) * scale) @ prototypes.T

    class Bound(Prototypes):
        def __init__(self, model, prototypes, scale):
            super().__init__()
            self.linear, self.rest = model.linear, (prototypes, scale)

        def forward(self, x):
            return super().forward(x, *self.rest)

    model = Prototypes()
    for n in (4, 5, 6):
        x, y = torch.randn(n, 4), [0, 1, 2, 3, 4, 0][:n]
        prototypes, scale = torch.randn(5, 6), torch.rand(n, 1) + 0.5
        rows = [explainer(name)(Bound(model, prototypes, scale[i]), x[i : i + 1], y[i : i + 1]) for i in range(n)]
        for given in ((prototypes, scale), (captum_wg.shared(prototypes), scale), (prototypes.numpy(), scale)):
            make = explainer(name, additional_forward_args=given)
            for batch_size in (2, 3):
                np.testing.assert_allclose(make(model, x, y, batch_size=batch_size), np.concatenate(rows), atol=1e-6)


@pytest.mark.parametrize("name", ["Saliency", "ExpectedGradients"])
def test_examples_that_influence_each_other_stay_together(name):
    class Graph(nn.Module):
        """Its nodes are the examples."""

        def forward(self, x):
            return torch.tanh(x + torch.roll(x, 1, 0)) @ torch.ones(4, 2)

    x, y = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), [0] * 9
    # The gradients of the sum of the nodes' outputs, by the definitions.
    steps = torch.ones(1) if name == "Saliency" else torch.arange(0.5, 400) / 400
    gradients = []
    for a in steps:
        z = (a * x).requires_grad_()
        Graph()(z)[:, 0].sum().backward()
        gradients.append(z.grad)
    mean = torch.stack(gradients).mean(0)
    expected = mean.abs() if name == "Saliency" else x * mean
    for batch_size in (2, 4, None):
        found = explainer(name, batch_size=batch_size)(Graph().eval(), x, y)
        np.testing.assert_allclose(found, expected, atol=1e-4)
