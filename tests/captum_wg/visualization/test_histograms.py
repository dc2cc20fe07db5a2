import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_wg.visualization import histogram


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def heights_and_edges(axis):
    """Of the outlines: each label is drawn as a filled area and an outline."""
    return [patch.get_data()[:2] for patch in axis.patches if patch.get_label() or not patch.get_fill()]


def test_histogram_counts():
    values = random_maps(2, 3, 5, 5)
    _, axes = histogram({"IG": values}, bins=7, density=False, quantiles=(0, 1))
    counts, edges = heights_and_edges(axes[0])[-1]
    expected = [0] * 7
    low, high = values.min(), values.max()
    for v in values.ravel():
        expected[min(int((v - low) / (high - low) * 7), 6)] += 1
    assert counts.tolist() == expected and edges[0] == low and edges[-1] == high
    assert axes[0].get_title() == "IG" and axes[0].get_ylabel() == "count" and axes[0].get_legend() is None


def test_densities_are_shares_of_all_values():
    small, large = random_maps(50), random_maps(5000, seed=1)
    _, axes = histogram({"IG": {"trained": torch.from_numpy(small), "untrained": large}}, bins=20, quantiles=(0, 1))
    outlines = heights_and_edges(axes[0])
    for heights, edges in outlines:
        assert (heights * np.diff(edges)).sum() == pytest.approx(1)
    assert [text.get_text() for text in axes[0].get_legend().get_texts()] == ["trained", "untrained"]
    _, axes = histogram({"IG": large}, quantiles=(0.1, 0.9))
    heights, edges = heights_and_edges(axes[0])[-1]
    assert (heights * np.diff(edges)).sum() == pytest.approx(0.8, abs=0.001)


def test_a_label_has_one_colour_in_all_panels():
    a = random_maps(30)
    _, axes = histogram({"IG": {"trained": a, "untrained": 2 * a}, "Variance": {"untrained": a**2}}, log=True)
    assert axes[0].get_yscale() == "log"
    colours = [[tuple(p.get_edgecolor()) for p in axis.patches if p.get_label()] for axis in axes]
    assert colours[1][-1] == colours[0][-1] != colours[0][0]


@pytest.mark.parametrize("value", [0.0, 3.0, -1e30, 1e-30])
def test_histogram_of_a_constant(value):
    figure, axes = histogram({"a": np.full((3, 4, 4), value)}, density=False)
    counts, _ = heights_and_edges(axes[0])[-1]
    assert counts.sum() == 48 and (counts > 0).sum() == 1
    figure.savefig("/dev/null", format="png")


def test_histogram_draws_on_given_axes():
    figure = Figure()
    axes = figure.subplots(1, 2)
    result, drawn = histogram({"a": random_maps(9), "b": random_maps(9)}, plt_fig_axis=(figure, axes))
    assert result is figure and list(drawn) == list(axes)


@pytest.mark.parametrize(
    ("maps", "changes", "error", "message"),
    [
        ({}, {}, ValueError, "maps is empty"),
        ({"a": {}}, {}, ValueError, "has a measure without attributions"),
        (np.zeros(3), {}, TypeError, "maps must be a dict of attributions by measure"),
        ({"a": np.zeros(3)}, {"bins": 0}, ValueError, "bins must be an integer of at least 1, got 0"),
        ({"a": np.zeros(3)}, {"bins": 2.5}, ValueError, "bins must be an integer"),
        ({"a": "b"}, {}, TypeError, r"maps\['a'\] must be a Tensor"),
    ],
)
def test_bad_histograms_are_refused(maps, changes, error, message):
    with pytest.raises(error, match=message):
        histogram(maps, **changes)
