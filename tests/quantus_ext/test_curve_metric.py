import itertools

import matplotlib.pyplot as plt
import numpy as np
import pytest

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC
from quantus_ext.curve_metric import areas


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_draws_mean_and_band(net, images):
    metric = DeletionAUC(levels=5, rule="trapezoid")
    metric(net, *images)
    metric.plot(show=False)
    (ax,) = plt.gcf().axes
    (line,) = ax.lines
    np.testing.assert_allclose(line.get_xdata(), np.linspace(0, 1, 6))
    np.testing.assert_allclose(line.get_ydata(), metric.curves.mean(0))
    band = ax.collections[0].get_paths()[0].vertices
    mean, deviation = metric.curves.mean(0), metric.curves.std(0)
    assert band[:, 1].min() == pytest.approx((mean - deviation).min())
    assert band[:, 1].max() == pytest.approx((mean + deviation).max())
    assert ax.get_xlabel() == "Fraction of features removed"
    assert ax.get_legend() is None


def test_draws_several_methods_on_given_axes(net, images, tmp_path):
    x, y, a = images
    metric = InsertionAUC(levels=5, return_curve=True)
    results = {"a": metric(net, x, y, a), "-a": metric(net, x, y, -a)}
    _, ax = plt.subplots()
    assert metric.plot_curves(results, ax=ax) is ax
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "-a"]
    assert ax.get_xlabel() == "Fraction of features inserted"
    path = tmp_path / "curves.png"
    metric.plot(results=results, show=False, path_to_save=str(path))
    assert path.stat().st_size > 0


def test_overlap_curves(images):
    x, _, a = images
    metric = OverlapAUC(levels=5)
    metric(None, x, None, a, np.ones((4, 6, 7)))
    assert len(metric.plot_curves().lines) == 1


def test_own_plot_function(net, images):
    calls = []
    metric = DeletionAUC(default_plot_func=lambda *args, **kwargs: calls.append((args, kwargs)))
    metric.plot(None, False, None, 1, b=2)
    assert calls == [((1,), {"b": 2})]


def test_bad_results(net, images):
    metric = DeletionAUC(levels=5)
    with pytest.raises(ValueError, match="call the metric first"):
        metric.plot(show=False)
    with pytest.raises(ValueError, match="call the metric first"):
        OverlapAUC().plot(show=False)
    scores = metric(net, *images)
    with pytest.raises(ValueError, match=r"curves of shape \(images, 5\), got \(4,\) for 'IG'.*return_curve=True"):
        metric.plot(results={"IG": scores}, show=False)
    with pytest.raises(ValueError, match=r"curves of shape \(images, 5\), got \(2, 4\)"):
        metric.plot(results=np.ones((2, 4)), show=False)


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


@pytest.mark.parametrize(
    "levels", [[], [0.5, 0.5], [0.5, 0.2], [-0.1, 1.0], [0.5, 1.1], [np.nan], [[0.5]], ["a"], [True], [-1, 2], "10"]
)
def test_bad_levels(levels):
    with pytest.raises(ValueError, match="levels must be"):
        DeletionAUC(levels=levels)


def test_bad_levels_of_a_rule_or_an_input(net, images):
    with pytest.raises(ValueError, match="at least two of them"):
        DeletionAUC(levels=[0.5], rule="trapezoid")
    with pytest.raises(ValueError, match="levels holds 50 features, but an example has 42"):
        DeletionAUC(levels=[0, 50])(net, *images)
