"""What deletion, insertion and their difference share: groups of features, curves relative to f(x), switches."""

import numpy as np
import pytest
import torch

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC, SymmetricRelevanceGain


def literal_groups(net, image, label, attribution, groups, levels, insert):
    """Groups of unequal size, one masked copy at a time, replaced by 0."""
    numbers = sorted(set(groups.ravel().tolist()))
    sums = {g: sum(float(attribution[c][groups == g].sum()) for c in range(3)) for g in numbers}
    order = sorted(numbers, key=lambda g: (-sums[g], g))
    curve = []
    for i in range(1, levels + 1):
        top = order[: round(i / levels * len(numbers))]
        masked = image.copy()
        for g in numbers:
            if (g in top) != insert:
                masked[:, groups == g] = 0
        with torch.no_grad():
            curve.append(net(torch.from_numpy(masked)[None]).softmax(1)[0, label].item())
    return curve


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
@pytest.mark.parametrize("own", [False, True])
def test_feature_masks(net, images, cls, own):
    x, y, a = images
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 6, size=(4, 6, 7)) if own else np.repeat(rng.integers(0, 6, size=(1, 6, 7)), 4, 0)
    if own:
        # Of one image a group more than of the others, and other numbers.
        groups[2, 0, 0] = 77
    given = groups[:, None] if own else groups[:1, None]
    metric = cls(levels=4, removal=0.0, feature_mask=given, return_curve=True)
    curves = metric(net, x, y, a, batch_size=3)
    for i, curve in enumerate(curves):
        expected = literal_groups(net, x[i], y[i], a[i], groups[i], 4, cls is InsertionAUC)
        np.testing.assert_allclose(curve, expected, atol=1e-6)
    tensor = cls(levels=4, removal=0.0, feature_mask=torch.from_numpy(given), return_curve=True)
    np.testing.assert_array_equal(tensor(net, x, y, a, batch_size=3), curves)


def test_bad_feature_masks(net, images):
    for bad in (np.ones((1, 6, 7)), np.ones((1, 6, 7), bool), np.ones(3, int)):
        with pytest.raises(ValueError, match="feature_mask must hold group numbers"):
            DeletionAUC(feature_mask=bad)
    with pytest.raises(ValueError, match="feature_mask has shape"):
        DeletionAUC(feature_mask=np.ones((1, 1, 5, 7), int))(net, *images)


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC, SymmetricRelevanceGain])
def test_relative_to_the_input(net, images, cls):
    x, y, a = images
    with torch.no_grad():
        f = net(torch.from_numpy(x)).softmax(1).numpy()[np.arange(4), y]
    scores = cls(levels=6, relative=True)(net, x, y, a, batch_size=3)
    np.testing.assert_allclose(scores, np.array(cls(levels=6)(net, x, y, a)) / f, rtol=1e-5)
    # The attributions' normalisation is another thing.
    assert cls(levels=6, normalise=True)(net, x, y, a) == cls(levels=6)(net, x, y, a)
    with pytest.raises(ValueError, match=r"relative divides by f\(x\), which is not positive in row"):
        cls(levels=6, relative=True, output=lambda z: z - 100)(net, x, y, a)


@pytest.mark.parametrize("rule", ["mean", "trapezoid"])
def test_symmetric_relevance_gain(net, images, rule):
    x, y, a = images
    gain = SymmetricRelevanceGain(levels=7, rule=rule)
    scores = gain(net, x, y, a, batch_size=3)
    difference = np.subtract(
        InsertionAUC(levels=7, rule=rule)(net, x, y, a), DeletionAUC(levels=7, rule=rule)(net, x, y, a)
    )
    np.testing.assert_allclose(scores, difference, atol=1e-6)
    if rule == "trapezoid":
        # Removal in both orders: 42 pixels in 7 steps of 6.
        least_first = DeletionAUC(levels=7, rule=rule)(net, x, y, -a)
        np.testing.assert_allclose(
            scores, np.subtract(least_first, DeletionAUC(levels=7, rule=rule)(net, x, y, a)), atol=1e-6
        )
        np.testing.assert_allclose(gain(net, x, y, -a), np.negative(scores), atol=1e-6)


def test_the_gain_is_a_metric(net, images, capsys):
    gain = SymmetricRelevanceGain(levels=3)
    assert gain.score_direction.value == "higher" and gain.name == "Symmetric relevance gain"
    gain.interpret_scores()
    assert "insertion AUC minus the deletion AUC" in capsys.readouterr().out
    gain(net, *images)
    assert gain.plot_curves().get_ylabel() == "Difference of the output for the class"


SWITCHES = ("abs", "normalise", "return_curve", "return_aggregate", "disable_warnings", "display_progressbar")


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC, OverlapAUC])
@pytest.mark.parametrize("name", SWITCHES)
def test_booleans_are_booleans(cls, name):
    for bad in ("no", 1, 0, None):
        with pytest.raises(TypeError, match=f"{name} must be True or False, got {bad!r}"):
            cls(**{name: bad})


def test_relative_is_a_boolean():
    with pytest.raises(TypeError, match="relative must be True or False, got 'no'"):
        DeletionAUC(relative="no")
    with pytest.raises(ValueError, match=r"output must be one of .*got 'logits'"):
        DeletionAUC(output="logits")


def test_complex_numbers_are_refused(net, images):
    x, y, a = images
    for arguments, name in [((x * 1j, y, a), "x_batch"), ((x, y, a * 1j), "a_batch")]:
        with pytest.raises(ValueError, match=f"{name} must hold real numbers, got"):
            DeletionAUC()(net, *arguments)
    with pytest.raises(ValueError, match=r"y_batch must hold one class number.*complex"):
        DeletionAUC()(net, x, y.astype(complex), a)
    with pytest.raises(ValueError, match="s_batch must hold numbers or booleans, got"):
        OverlapAUC()(None, x, None, a, np.ones((4, 6, 7), complex))
