"""Deletion and insertion curves of several methods, and what they differ by on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_wg.engine.checks import check_generator, check_number, check_positive_int
from captum_wg.visualization.arrays import Array, AxesArray, Map, check_count, check_named, values_of
from captum_wg.visualization.canvas import FONT, axes_given, canvas, write_below

_LINES = ("-", "--", "-.", ":")


def show_curves(
    curves: Mapping[str, Mapping[str, Map]],
    levels: Sequence[float] | None = None,
    *,
    reference: str | None = None,
    higher_is_better: Mapping[str, bool] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    generator: torch.Generator | int | None = None,
    caption: bool = True,
    ax: Any = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> tuple[Figure, AxesArray]:
    """Mean curves with bands, and beneath the paired differences of their areas:

        area_i = mean over levels of image i's curve
        d_i    = area_i(method) - area_i(reference)        of the same image

    Bars of two methods overlap because images differ; their differences, image by image, don't. Bands and bars are
    percentile bootstrap intervals of the mean over images, the same images drawn for all methods; the dots are the d_i.

        show_curves({"deletion": {"IG": ig, "WG": wg}, "insertion": {...}}, higher_is_better={"deletion": False})

    Args:
        curves: by judge, then by method: (images, levels) each, as `quantus_ext`'s metrics give them with
            return_curve=True. The methods of a judge are of the same images in the same order.
        levels: the share of features of each level; None: 1/L, 2/L, ... 1.
        reference: the method that the others are compared with; None: the first.
        higher_is_better: by judge, for its title; a judge left out has none.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap samples of the images.
        generator: a torch.Generator, an int seed, or None for a fixed seed.
        caption: write beneath what is drawn.
        ax: Axes to draw on, rows times judges of them; None makes a new figure.
        fig_size, use_pyplot: as in `visualize_attributions`.

    Returns:
        The figure and a numpy array of its Axes: (2, judges); (1, judges) if there is but one method.

    Raises:
        TypeError, ValueError: no dict; curves of another shape, of other images, or that are not finite; a reference,
            or a judge in higher_is_better, that is not there.
    """
    panels = _panels(curves)
    methods = list(dict.fromkeys(method for panel in panels.values() for method in panel))
    lengths = {panel[method].shape[1] for panel in panels.values() for method in panel}
    if len(lengths) > 1:
        raise ValueError(f"curves must have the same number of levels, got {sorted(lengths)}")
    (count,) = lengths
    shares = np.arange(1, count + 1) / count if levels is None else np.asarray(levels, dtype=float)
    check_count("levels", np.atleast_1d(shares), count, "levels in curves")
    reference = methods[0] if reference is None else reference
    if missing := [judge for judge, panel in panels.items() if reference not in panel]:
        raise ValueError(f"reference {reference!r} has no curves for {missing}; the methods are {methods}")
    better = dict(higher_is_better or {})
    if unknown := [judge for judge in better if judge not in panels]:
        raise ValueError(f"higher_is_better names {unknown}, which curves does not have; it has {list(panels)}")
    check_number(confidence, "confidence", 0.0, 1.0, open_interval=True)
    check_positive_int(resamples, "resamples")
    draws = check_generator(generator, torch.device("cpu"))

    rows, others = (2 if len(methods) > 1 else 1), [method for method in methods if method != reference]
    size = fig_size or (3.8 * len(panels) + 0.4, 3.0 + (rows - 1) * (0.8 + 0.3 * len(others)) + 0.4)
    heights = {"height_ratios": [3.0, 0.8 + 0.3 * len(others)][:rows]}
    with canvas(axes_given(ax), (rows, len(panels)), size, use_pyplot, "ax must be", grid=heights) as (figure, flat):
        axes = flat.reshape(rows, len(panels))
        for column, (judge, panel) in zip(axes.T, panels.items(), strict=True):
            n = len(panel[reference])
            drawn = torch.randint(n, (resamples, n), generator=draws).numpy()
            shares_of_images = np.stack([np.bincount(row, minlength=n) for row in drawn]) / n
            _draw_curves(column[0], shares, panel, methods, shares_of_images, confidence)
            arrow = {True: ": higher is better", False: ": lower is better", None: ""}[better.get(judge)]
            column[0].set_title(judge + arrow, fontsize=10)
            if rows > 1:
                areas = {method: panel[method].mean(1) for method in others if method in panel}
                differences = {method: area - panel[reference].mean(1) for method, area in areas.items()}
                _draw_differences(column[1], differences, methods, shares_of_images, confidence)
                column[1].set_xlabel(f"area, less {reference}'s", fontsize=FONT)
        axes[0, 0].legend(fontsize=7, frameon=False)
        if caption:
            numbers = ", ".join(str(n) for n in dict.fromkeys(len(panel[reference]) for panel in panels.values()))
            text = (
                f"Means over {numbers} images with {100 * confidence:.3g} % bootstrap intervals. Dots: the difference "
                "on one image."
            )
            write_below(figure, axes[-1, 0], text if rows > 1 else text.split(" Dots")[0], ax is None)
    return figure, axes


def interval(values: Array, shares_of_images: Array, confidence: float) -> tuple[Array, Array]:
    """The percentile bootstrap interval of the mean of values (images, ...).

    shares_of_images: how much each image counts in each bootstrap sample, (resamples, images), rows of sum 1.
    """
    low, high = np.quantile(shares_of_images @ values, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def _panels(curves: Any) -> dict[str, dict[str, Array]]:
    check_named(curves, "judge", "curves", "curves")
    panels: dict[str, dict[str, Array]] = {}
    for judge, named in curves.items():
        check_named(named, "method", f"curves[{judge!r}]", "curves")
        panels[judge] = {method: values_of(a, f"curves[{judge!r}][{method!r}]") for method, a in named.items()}
        for method, values in panels[judge].items():
            first = next(iter(panels[judge].values()))
            if values.ndim != 2 or len(values) != len(first):
                raise ValueError(
                    f"curves[{judge!r}][{method!r}] must have shape (images, levels), with the same images for each "
                    f"method, got {values.shape} beside {first.shape}"
                )
    return panels


def _draw_curves(
    axis: Axes, shares: Array, panel: Mapping[str, Array], methods: list[str], resampled: Array, confidence: float
) -> None:
    for i, method in enumerate(methods):
        if method in panel:
            low, high = interval(panel[method], resampled, confidence)
            # Lines differ where colours can't be told apart.
            line = _LINES[i // 10 % len(_LINES)] if len(methods) > 10 else _LINES[i % len(_LINES)]
            axis.plot(shares, panel[method].mean(0), line, color=f"C{i}", label=method, linewidth=1.5)
            axis.fill_between(shares, low, high, color=f"C{i}", alpha=0.2, linewidth=0)
    axis.set_xlabel("share of features", fontsize=FONT)
    _plain(axis)


def _draw_differences(
    axis: Axes, differences: Mapping[str, Array], methods: list[str], resampled: Array, confidence: float
) -> None:
    if not differences:
        axis.set_axis_off()
        return
    axis.axvline(0, color="0.5", linewidth=1)
    for place, (method, d) in enumerate(differences.items()):
        colour = f"C{methods.index(method)}"
        low, high = interval(d, resampled, confidence)
        axis.plot(d, np.full(len(d), place), ".", color=colour, alpha=0.25, markersize=4)
        axis.plot([low, high], [place, place], color=colour, linewidth=3, solid_capstyle="butt")
        axis.plot(d.mean(), place, "o", color=colour, markeredgecolor="white", markersize=7)
    axis.set_yticks(range(len(differences)), list(differences))
    axis.set_ylim(len(differences) - 0.5, -0.5)
    _plain(axis)


def _plain(axis: Axes) -> None:
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
