import numpy as np
import pytest
import torch
from torch import nn

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
