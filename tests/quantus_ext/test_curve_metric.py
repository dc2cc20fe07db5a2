import matplotlib.pyplot as plt
import numpy as np
import pytest

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC


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
