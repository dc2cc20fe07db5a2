from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy.ndimage import gaussian_filter

from benchmarks.experiment.results import Chosen, Drawn
from benchmarks.tables.picture import CONTROL, class_name, of_results, picture, smoothed


@pytest.fixture
def shown():
    generator = np.random.default_rng(0)
    maps = {name: generator.normal(size=(2, 3, 48, 48)) for name in ("One", "Two(power=0.5, keep=3)")}
    maps[CONTROL] = generator.random((2, 3, 48, 48))
    rows = [
        (judge, method, fraction, 0.8 * (1 - fraction) / (i + 1))
        for judge in ("DeletionAUC", "InsertionAUC-blur")
        for i, method in enumerate(maps)
        for fraction in (0.0, 0.5, 1.0)
    ]
    return dict(
        pixels=generator.random((2, 3, 48, 48), dtype=np.float32),
        titles=["espresso, 84 %", "tripod, 93 %"],
        maps=maps,
        curves=pd.DataFrame(rows, columns=["judge", "method", "fraction", "value"]),
        directions={"DeletionAUC": False, "InsertionAUC-blur": True},
    )


def axes_of(figure):
    FigureCanvasAgg(figure).draw()
    return figure.get_axes()


def test_a_line_for_each_photograph_and_a_panel_for_each_judge(shown):
    axes = axes_of(picture(**shown))
    pictures = [axis for axis in axes if axis.images]
    panels = [axis for axis in axes if axis.lines]
    assert (len(pictures), len(panels)) == (2 * 4, 2)
    assert [axis.get_title() for axis in pictures if axis.get_title()] == [
        "espresso, 84 %",
        "One",
        "Two\n(power=0.5,\nkeep=3)",
        "Random",
        "tripod, 93 %",
    ]
    assert [axis.get_title() for axis in panels] == [
        "DeletionAUC: lower is better",
        "InsertionAUC-blur: higher is better",
    ]
    assert ["removed" in axis.get_xlabel() for axis in panels] == [True, False]


def test_the_map_lies_over_the_photograph_in_grey_on_its_own_scale(shown):
    shown["maps"]["One"] = shown["maps"]["One"] * np.array([1, 1000]).reshape(2, 1, 1, 1)
    figure = picture(**shown)
    axes = [axis for axis in axes_of(figure) if axis.images]
    photograph = axes[0].images[0].get_array() / 255
    assert np.abs(photograph - shown["pixels"][0].transpose(1, 2, 0)).max() <= 0.5 / 255 + 1e-6
    grey, drawn = axes[5].images  # the second photograph's first map
    assert np.corrcoef(grey.get_array()[..., 0].ravel(), shown["pixels"][1].mean(0).ravel())[0, 1] > 0.999
    assert np.array_equal(drawn.get_array(), smoothed(shown["maps"]["One"])[1, 0])
    ends = [axes[i].images[1].norm.vmax for i in (1, 5)]
    assert ends == pytest.approx([np.quantile(np.abs(one), 0.995) for one in smoothed(shown["maps"]["One"])])
    assert "a Gaussian of 1.0 pixels" in " ".join(figure.get_supxlabel().split())


def test_a_map_is_summed_and_smoothed():
    maps = np.random.default_rng(1).normal(size=(2, 3, 64, 64))
    for one, found in zip(maps, smoothed(maps), strict=True):
        assert found[0] == pytest.approx(gaussian_filter(one.sum(0), 64 / 48))


def test_a_map_nowhere_near_zero_is_drawn_around_its_mean():
    noise = np.random.default_rng(2).random((1, 3, 40, 40))
    assert abs(smoothed(noise).mean()) < 1e-12
    peak = np.zeros((1, 1, 40, 40))
    peak[0, 0, 20, 20] = 1
    assert smoothed(peak).min() >= 0


def test_an_empty_map_leaves_the_photograph():
    assert np.array_equal(smoothed(np.zeros((1, 3, 8, 8))), np.zeros((1, 1, 8, 8)))


def test_the_curves_are_those_given_and_the_control_is_grey(shown):
    panel = next(axis for axis in axes_of(picture(**shown)) if axis.lines)
    assert [line.get_label() for line in panel.lines] == list(shown["maps"])
    assert panel.lines[1].get_xydata().tolist() == [[0, 0.4], [50, 0.2], [100, 0]]
    assert [line.get_linestyle() for line in panel.lines] == ["-", "-", "--"]
    assert panel.get_ylim()[1] > 0.8


def test_without_curves_there_are_no_panels(shown):
    shown["curves"] = shown["curves"][:0]
    assert not [axis for axis in axes_of(picture(**shown)) if axis.lines]


def test_the_picture_of_results_begins_with_the_surest_class_and_keeps_the_order_of_the_rows(make, shown):
    maps = {"Random": shown["maps"][CONTROL], "ExpectedGradients": shown["maps"]["One"]}
    images = (Chosen(0, "a.png", 1, 967, 0.843), Chosen(1, "b.png", 2, 872, 0.93))
    drawn = Drawn(images, shown["pixels"], maps)
    figure = of_results(
        make(model="efficientnet_lite0", kind="photographs", images=2, drawn=drawn, curves=shown["curves"][:0])
    )
    titles = [axis.get_title() for axis in axes_of(figure) if axis.images and axis.get_title()]
    assert titles == ["tripod, 93 %", "ExpectedGradients", "Random", "espresso, 84 %"]
    drawn = [axis for axis in axes_of(figure) if axis.images][2]
    assert np.array_equal(drawn.images[1].get_array(), smoothed(maps["Random"])[1, 0])


@pytest.mark.parametrize(
    ("kind", "weights", "name"),
    [
        ("imagenet", None, "hen"),
        ("imagenet", "own.pt", "class 8"),
        ("cifar10", "own.pt", "ship"),
        ("digits", None, "digit 8"),
    ],
)
def test_a_class_is_named_where_its_name_is_known(make, kind, weights, name):
    (results,) = make(kind=kind).models
    assert class_name(replace(results, experiment=replace(results.experiment, weights=weights)), 8) == name
