"""The picture made for eyes: photographs under the maps of several methods, and the curves whose areas are the scores.

For each photograph a line: the photograph, then each method's map as `captum_wg.visualization.show` lays it over the
photograph in grey: red is for the class, blue against it, and where it is zero the photograph shows. A map that is
nowhere near zero, such as uniform random numbers, would hide the photograph: it is drawn around its mean.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torchvision.models import ResNet50_Weights

from benchmarks.data.datasets import DATA_SETS
from benchmarks.experiment.results import ModelResults, Results
from captum_wg.visualization import show
from captum_wg.visualization.styles import SMOOTH, blurred

NEAR = 0.1
CONTROL = "Random"
MOST = 8  # methods side by side
_INCH = 1.55  # of a photograph
_CURVES = 2.5  # of a panel of curves, in inches


def picture(
    pixels: np.ndarray,
    titles: Sequence[str],
    maps: Mapping[str, np.ndarray],
    curves: pd.DataFrame,
    directions: Mapping[str, bool | None],
) -> Figure:
    """The figure, without pyplot: it needs no display.

    Args:
        pixels: photographs (n, 3, H, W) in [0, 1].
        titles: the class that is explained of each, such as "espresso, 84 %".
        maps: by method, (n, C, H, W).
        curves: mean curves, the columns judge, method, fraction, value; without rows there are no panels.
        directions: whether a higher area is better, by judge.
    """
    n, side = len(pixels), min(pixels.shape[2:])
    height, below = n * (_INCH + 0.28) + 0.5, [_CURVES] * (not curves.empty)
    figure = Figure(
        figsize=((_INCH + 0.05) * (1 + len(maps)) + 0.2, height + sum(below) + 0.8), dpi=110, layout="constrained"
    )
    parts = figure.subfigures(1 + len(below), 1, height_ratios=[height, *below], squeeze=False)[:, 0]
    axes = parts[0].subplots(n, 1 + len(maps), squeeze=False)
    columns = {_wrapped(name): smoothed(column) for name, column in maps.items()}
    show(pixels.clip(0, 1), columns, smooth=0, scale=None, colorbar=False, caption=False, cell_size=_INCH, ax=axes)
    for axis, title in zip(axes[:, 0], titles, strict=True):
        axis.set_title(title, fontsize=9, fontweight="bold")
    if below:
        _panels(parts[1], curves, directions, list(maps))
    figure.suptitle("Why does the network see this? Red speaks for the class, blue against it", fontsize=12)
    caption = (
        f"Each map is summed over the colour channels, smoothed by a Gaussian of {SMOOTH * side:.1f} pixels (what "
        "is judged is not), and drawn on a scale of its own, up to its largest magnitude, or around its mean if it is "
        "nowhere near zero."
    )
    figure.supxlabel(textwrap.fill(caption, int(14 * figure.get_figwidth())), fontsize=8, color="0.3")
    return figure


def of_results(results: Results) -> Figure:
    """The picture of the first model's results: its drawn images, the most probable class first, and the first `MOST`
    rows that have a map of each."""
    model = results.models[0]
    images, drawn = model.drawn.images, model.drawn
    order = sorted(range(len(images)), key=lambda i: -images[i].probability)
    titles = [f"{class_name(model, images[i].label)}, {100 * images[i].probability:.0f} %" for i in order]
    shown = [row.name for row in results.methods if row.name in drawn.maps][:MOST]
    maps = {name: drawn.maps[name][order] for name in shown}
    return picture(drawn.pixels[order], titles, maps, model.curves, results.directions)


def class_name(model: ModelResults, label: int) -> str:
    """A class in words where they are known: of weights that a user gave only the numbers are, unless these are the
    data's own."""
    if own := DATA_SETS[model.experiment.data].class_names:
        return own[label]
    if model.experiment.weights is not None:
        return f"class {label}"
    return str(ResNet50_Weights.DEFAULT.meta["categories"][label])


def smoothed(maps: np.ndarray) -> np.ndarray:
    """Maps (n, C, H, W) as they are drawn: summed over the channels and blurred, (n, 1, H, W)."""
    soft = blurred(np.asarray(maps, np.float64).sum(1, keepdims=True), SMOOTH)
    sizes = np.abs(soft)
    far = sizes.min((2, 3), keepdims=True) > NEAR * sizes.max((2, 3), keepdims=True)
    return soft - np.where(far, soft.mean((2, 3), keepdims=True), 0)


def _panels(
    figure: SubFigure, curves: pd.DataFrame, directions: Mapping[str, bool | None], methods: Sequence[str]
) -> None:
    judges = list(dict.fromkeys(curves["judge"]))
    axes: list[Axes] = list(np.atleast_1d(figure.subplots(1, len(judges), sharey=True)))
    for axis, judge in zip(axes, judges, strict=True):
        for i, method in enumerate(methods):
            own = curves[(curves["judge"] == judge) & (curves["method"] == method)]
            color, line = ("0.5", "--") if method == CONTROL else (f"C{i}", "-")
            axis.plot(100 * own["fraction"], own["value"], label=method, linewidth=1.5, color=color, linestyle=line)
        inserted = judge.startswith("Insertion")
        better = {True: ": higher is better", False: ": lower is better", None: ""}[directions.get(judge)]
        axis.set_title(f"{judge}{better}", fontsize=9)
        axis.set_xlabel(f"pixels {'restored' if inserted else 'removed'}, highest first (%)", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlim(0, 100)
    axes[0].set_ylim(0, 1.05 * curves["value"].max())
    axes[0].set_ylabel("mean probability of the class", fontsize=8)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False)


def _wrapped(name: str) -> str:
    """A method's name with its settings below: each on a line of its own."""
    return re.sub(r", |(?=\()", lambda m: "\n" if not m[0] else ",\n", name)
