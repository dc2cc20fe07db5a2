import itertools

import numpy as np
import pytest
import torch
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC
from quantus_ext.levels import areas, check_levels, counts_at, steps


def test_shares_and_counts(net, images):
    x, y, a = images
    dense = DeletionAUC(levels=42, rule="trapezoid", return_curve=True)
    every = np.array(dense(net, x, y, a))
    shares = DeletionAUC(levels=[0.0, 0.1, 0.5, 1.0], return_curve=True)
    np.testing.assert_array_equal(shares(net, x, y, a), every[:, [0, 4, 21, 42]])
    assert shares.fractions.tolist() == [0, 0.1, 0.5, 1]
    counts = DeletionAUC(levels=[0, 1, 5, 42], return_curve=True)
    np.testing.assert_array_equal(counts(net, x, y, a), every[:, [0, 1, 5, 42]])
    np.testing.assert_allclose(counts.fractions, [0, 1 / 42, 5 / 42, 1])
    assert counts.plot_curves().lines
    # A maximum share: the highest ranked fifth alone.
    part = DeletionAUC(levels=np.linspace(0.05, 0.2, 4))(net, x, y, a)
    np.testing.assert_allclose(part, every[:, [2, 4, 6, 8]].mean(1))


def test_areas_under_uneven_levels(net, images):
    x, y, a = images
    ks = [0.0, 0.1, 0.5, 1.0]
    curves = DeletionAUC(levels=ks, return_curve=True)(net, x, y, a)
    for rule in ("mean", "trapezoid", "steps"):
        for curve, score in zip(curves, DeletionAUC(levels=ks, rule=rule)(net, x, y, a), strict=True):
            middles = [(u + v) / 2 for u, v in itertools.pairwise(curve)]
            expected = {
                "mean": sum(curve) / 4,
                "steps": sum(middles) / 3,
                "trapezoid": middles[0] * 0.1 + middles[1] * 0.4 + middles[2] * 0.5,
            }[rule]
            assert score == pytest.approx(expected, abs=1e-9)
    # Over a part of the range the area is that of the part as a unit.
    assert areas(np.array([[1.0, 1.0, 1.0]]), "trapezoid", np.array([0.1, 0.2, 0.6])) == pytest.approx([1])


def test_overlap_takes_shares(images):
    x, _, a = images
    s = np.zeros((4, 6, 7))
    s[:, 1:4, 2:5] = 1
    whole = OverlapAUC(levels=4, return_curve=True)(None, x, None, a, s)
    half = OverlapAUC(levels=[0.25, 0.5], return_curve=True)(None, x, None, a, s)
    np.testing.assert_array_equal(half, np.array(whole)[:, :2])
    with pytest.raises(ValueError, match="levels must be a number of levels, or shares"):
        OverlapAUC(levels=[1, 2])


def test_steps():
    assert steps(10, 4) == [0, 4, 8, 10] and steps(8, 4) == [0, 4, 8]
    assert counts_at(check_levels([0.5, 1.0], "mean"), np.array([5, 7])).tolist() == [[2, 5], [4, 7]]


@pytest.mark.parametrize(
    "levels", [[], [0.5, 0.5], [0.5, 0.2], [-0.1, 1.0], [0.5, 1.1], [[0.5]], ["a"], [True], [-1, 2], "10"]
)
def test_bad_levels(levels):
    with pytest.raises(ValueError, match="levels must be"):
        DeletionAUC(levels=levels)


def test_bad_levels_of_a_rule_or_an_input(net, images):
    with pytest.raises(ValueError, match="at least two of them"):
        DeletionAUC(levels=[0.5], rule="trapezoid")
    with pytest.raises(ValueError, match="levels holds 50 features, but an example has 42"):
        DeletionAUC(levels=[0, 50])(net, *images)


def rise(model, image, explanation, label, mode, step):
    """The published CausalMetric.single_run and auc, but for the class, which is given."""
    from scipy.ndimage import gaussian_filter

    channels, hw = image.shape[1], image.shape[2] * image.shape[3]
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = np.zeros((channels, channels, 11, 11))
    for c in range(channels):
        kernel[c, c] = gaussian_filter(delta, 5)
    kernel = torch.from_numpy(kernel.astype("float32"))
    n_steps = (hw + step - 1) // step
    if mode == "del":
        start, finish = image.clone(), torch.zeros_like(image)
    else:
        start, finish = nn.functional.conv2d(image, kernel, padding=5), image.clone()
    scores = np.empty(n_steps + 1)
    order = np.flip(np.argsort(explanation.reshape(-1, hw), axis=1), axis=-1)
    for i in range(n_steps + 1):
        with torch.no_grad():
            scores[i] = model(start).softmax(1)[0, label]
        if i < n_steps:
            coords = order[:, step * i : step * (i + 1)]
            start.numpy().reshape(1, channels, hw)[0, :, coords] = finish.numpy().reshape(1, channels, hw)[0, :, coords]
    return (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (scores.shape[0] - 1)


@pytest.mark.parametrize("cls, mode", [(DeletionAUC, "del"), (InsertionAUC, "ins")])
@pytest.mark.parametrize("size, step", [((16, 16), 16), ((12, 13), 25)])
def test_rise(net, cls, mode, size, step):
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(3, 3, *size)).astype(np.float32), rng.normal(size=(3, *size))
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    metric = cls.rise(size[0] * size[1], step)
    expected = [rise(net, torch.from_numpy(x[i : i + 1]), a[i], y[i], mode, step) for i in range(3)]
    np.testing.assert_allclose(metric(net, x, y, a), expected, atol=1e-7, rtol=0)
    assert "RISE" in repr(metric) and "Duc" in repr(cls())
    assert cls.rise().levels[-2:] == [224 * 223, 224 * 224]
    assert cls.rise(100, 10, levels=3, output="identity").output == "identity"
