import numpy as np
import pytest
import quantus
import torch

from quantus_ext import AverageDrop, IncreaseInConfidence, NoisyLinearImputation


def literal(net, image, label, attribution, neutral=0.0, absolute=False):
    """f(x) and f of the image seen through its map, pixel by pixel."""
    channels, height, width = image.shape
    values = np.abs(attribution).sum(0) if absolute else attribution.sum(0)
    highest = max(0.0, float(values.max()))
    through = image.copy()
    for i in range(height):
        for j in range(width):
            shown = max(0.0, float(values[i, j])) / highest if highest > 0 else 0.0
            for c in range(channels):
                through[c, i, j] = shown * image[c, i, j] + (1 - shown) * neutral
    with torch.no_grad():
        return [net(torch.from_numpy(z)[None]).softmax(1)[0, label].item() for z in (image, through)]


@pytest.mark.parametrize(
    "kwargs, settings", [({}, {}), ({"removal": 0.5}, {"neutral": 0.5}), ({"ranking": "absolute"}, {"absolute": True})]
)
def test_agree_with_a_literal_loop(net, images, kwargs, settings):
    x, y, a = images
    pairs = [literal(net, *each, **settings) for each in zip(x, y, a, strict=True)]
    drop = AverageDrop(**kwargs)(net, x, y, a, batch_size=3)
    assert drop == pytest.approx([max(0, u - v) / u for u, v in pairs], abs=1e-5)
    rise = IncreaseInConfidence(**kwargs)(net, x, y, a, batch_size=3)
    assert rise == [float(v > u) for u, v in pairs]
    assert 0 < sum(rise) + sum(d > 0 for d in drop) == 4
    assert AverageDrop(**kwargs, internal_batch_size=1)(net, x, y, a) == pytest.approx(drop, abs=1e-5)


def test_the_whole_input_loses_nothing(net, images):
    x, y, a = images
    # A constant map ranks nothing, but here its values count.
    assert AverageDrop()(net, x, y, np.ones_like(a)) == pytest.approx([0] * 4, abs=1e-5)


def test_tables_and_a_map_without_positive_values(tabular):
    model, x, y, a = tabular
    with torch.no_grad():
        f, empty = (model(torch.from_numpy(z)).softmax(1)[range(3), y] for z in (x, np.zeros_like(x)))
    expected = ((f - empty).clamp(min=0) / f).numpy()
    np.testing.assert_allclose(AverageDrop()(model, x, y, -np.abs(a)), expected, atol=1e-6)


def test_a_voxel_of_a_volume_is_shown_with_all_its_channels():
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(3, 2, 2, 3, 2)).astype(np.float32), rng.normal(size=(3, 2, 2, 3, 2))
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 3)).eval()
    shown = np.maximum(a.sum(1, keepdims=True), 0)
    shown /= shown.max((1, 2, 3, 4), keepdims=True)
    with torch.no_grad():
        f, g = (model(torch.from_numpy(z).float()).softmax(1)[range(3), range(3)] for z in (x, x * shown))
    expected = ((f - g).clamp(min=0) / f).numpy()
    np.testing.assert_allclose(AverageDrop()(model, x, [0, 1, 2], a), expected, atol=1e-6)


def test_are_metrics_of_quantus(net, images):
    x, y, a = images
    metrics = {"drop": AverageDrop(return_aggregate=True), "rise": IncreaseInConfidence(), "abs": AverageDrop(abs=True)}
    results = quantus.evaluate(metrics, {"a": np.abs(a)}, net, x, y, explain_func_kwargs={})
    assert results["a"]["drop"] == [pytest.approx(np.mean(AverageDrop()(net, x, y, np.abs(a))))]
    assert results["a"]["rise"] == IncreaseInConfidence()(net, x, y, np.abs(a))
    assert AverageDrop().score_direction.value == "lower" and IncreaseInConfidence().score_direction.value == "higher"
    assert "Grad-CAM++" in repr(AverageDrop())


def test_bad_calls(net, images):
    x, y, a = images
    with pytest.raises(ValueError, match=r"f\(x\) must be positive to drop from, but is not in row"):
        AverageDrop(output=lambda z: z - 100)(net, x, y, a)
    with pytest.raises(ValueError, match="AverageDrop needs a model"):
        AverageDrop()(None, x, y, a)
    with pytest.raises(ValueError, match="must not be a function of a mask"):
        AverageDrop(removal=NoisyLinearImputation())
    with pytest.raises(TypeError, match="abs must be True or False"):
        IncreaseInConfidence(abs="no")
