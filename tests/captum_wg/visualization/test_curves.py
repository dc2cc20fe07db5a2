import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from captum_wg.visualization import show_curves
from captum_wg.visualization.curves import interval


def random_curves(n=12, levels=5, seed=0, shift=0.0):
    return np.random.default_rng(seed).random((n, levels)) + shift


def both():
    return {
        "deletion": {"IG": random_curves(), "WG": random_curves(seed=1, shift=-0.5)},
        "insertion": {"IG": torch.from_numpy(random_curves(seed=2)), "WG": random_curves(seed=3, shift=0.5)},
    }


def test_means_are_drawn_over_the_levels():
    curves = both()
    figure, axes = show_curves(curves, [0.1, 0.2, 0.3, 0.4, 0.9], higher_is_better={"deletion": False})
    assert isinstance(figure, Figure) and axes.shape == (2, 2)
    assert [axis.get_title() for axis in axes[0]] == ["deletion: lower is better", "insertion"]
    for axis, panel in zip(axes[0], curves.values(), strict=True):
        for line, (method, values) in zip(axis.get_lines(), panel.items(), strict=True):
            assert line.get_label() == method and line.get_xdata().tolist() == [0.1, 0.2, 0.3, 0.4, 0.9]
            assert np.allclose(line.get_ydata(), [sum(float(v) for v in column) / 12 for column in values.T])
    _, axes = show_curves(curves)
    assert np.allclose(axes[0, 0].get_lines()[0].get_xdata(), [0.2, 0.4, 0.6, 0.8, 1.0])
    assert "12 images with 95 % bootstrap" in figure.get_supxlabel()


def test_bands_are_bootstrap_intervals_of_the_mean():
    values = random_curves(40, 3)
    draws = torch.Generator().manual_seed(5)
    drawn = torch.randint(40, (500, 40), generator=draws).numpy()
    means = sorted(sum(float(values[i, 1]) for i in row) / 40 for row in drawn)
    _, axes = show_curves({"d": {"IG": values}}, resamples=500, generator=5, confidence=0.9)
    (band,) = axes[0, 0].collections
    at = [y for x, y in band.get_paths()[0].vertices if x == pytest.approx(2 / 3)]
    # Between two order statistics: numpy interpolates.
    assert means[24] <= min(at) <= means[25] and means[474] <= max(at) <= means[475]


def test_the_interval_covers_the_mean_as_often_as_it_says():
    draws = np.random.default_rng(0)
    covered = 0
    for _ in range(200):
        sample = draws.standard_normal((50, 1))
        shares = draws.multinomial(50, [1 / 50] * 50, 400) / 50
        low, high = interval(sample, shares, 0.8)
        covered += low[0] <= 0 <= high[0]
    assert 0.70 < covered / 200 < 0.88


def test_differences_are_paired():
    hard = 10 * np.random.default_rng(0).random((12, 1))  # images differ far more than methods
    ig = hard + random_curves()
    curves = {"deletion": {"IG": ig, "WG": ig - 0.1, "EG": ig + 0.2}}
    _, axes = show_curves(curves, reference="EG")
    below = axes[1, 0]
    assert [label.get_text() for label in below.get_yticklabels()] == ["IG", "WG"]
    drawn = [line.get_xdata() for line in below.get_lines()[1:]]  # after the line at zero: dots, interval, mean
    for dots, ends, mean, expected in ((*drawn[:3], -0.2), (*drawn[3:], -0.3)):
        assert np.allclose(dots, expected) and np.allclose(ends, expected) and np.allclose(mean, expected)
    assert below.get_xlabel() == "area, less EG's"


def test_a_seed_repeats_the_picture_and_another_does_not():
    def band(generator):
        return show_curves({"d": {"IG": random_curves()}}, generator=generator)[1][0, 0].collections[0].get_paths()[0]

    assert (band(None).vertices == band(0).vertices).all() and (band(1).vertices != band(0).vertices).any()
    assert (band(torch.Generator().manual_seed(1)).vertices == band(1).vertices).all()


def test_one_method_or_one_image_is_drawn():
    _, axes = show_curves({"d": {"IG": random_curves(1)}})
    assert axes.shape == (1, 1)
    _, axes = show_curves({"d": {"IG": np.zeros((1, 4)), "WG": np.zeros((1, 4))}, "i": {"IG": np.zeros((3, 4))}})
    assert axes.shape == (2, 2)


def test_given_axes_are_drawn_on():
    figure = Figure()
    axes = figure.subplots(2, 2)
    result, drawn = show_curves(both(), ax=axes)
    assert result is figure and (drawn == axes).all() and "bootstrap" in axes[1, 0].get_xlabel()
    assert axes[1, 0].get_xlabel().startswith("area, less IG's")
    with pytest.raises(ValueError, match="ax must be 4 Axes"):
        show_curves(both(), ax=axes[0])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"curves": {}}, ValueError, "curves is empty; give the curves of at least one judge"),
        ({"curves": {"d": {}}}, ValueError, r"curves\['d'\] is empty; give the curves of at least one method"),
        ({"curves": {"d": np.zeros((2, 3))}}, TypeError, r"curves\['d'\] must be a dict of curves by method"),
        ({"curves": {"d": {"IG": np.zeros(3)}}}, ValueError, r"must have shape \(images, levels\)"),
        (
            {"curves": {"d": {"IG": np.zeros((2, 3)), "WG": np.zeros((3, 3))}}},
            ValueError,
            r"curves\['d'\]\['WG'\] must have .* the same images .* got \(3, 3\) beside \(2, 3\)",
        ),
        (
            {"curves": {"d": {"IG": np.zeros((2, 3)), "WG": np.zeros((2, 4))}}},
            ValueError,
            r"the same number of levels, got \[3, 4\]",
        ),
        ({"curves": {"d": {"IG": np.full((2, 3), np.nan)}}}, ValueError, r"curves\['d'\]\['IG'\] holds NaN"),
        ({"levels": [0.1]}, ValueError, "levels has 1 entries, but there are 5 levels in curves"),
        ({"reference": "EG"}, ValueError, r"reference 'EG' has no curves for \['deletion', 'insertion'\]"),
        ({"higher_is_better": {"x": True}}, ValueError, r"higher_is_better names \['x'\]"),
        ({"confidence": 1.0}, ValueError, "confidence must be a number in"),
        ({"resamples": 0}, ValueError, "resamples must be a whole number of at least 1"),
        ({"generator": "a"}, TypeError, "generator must be a torch.Generator, an int seed or None"),
    ],
)
def test_bad_curves_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        show_curves(**({"curves": both()} | changes))
