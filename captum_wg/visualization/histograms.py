"""How attribution values are distributed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from captum_wg.visualization.arrays import FLAT, Array, AxesArray, Bounds, Map, check_named, values_of
from captum_wg.visualization.canvas import canvas
from captum_wg.visualization.channels import check_quantiles

_COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive")


def histogram(
    maps: Mapping[str, Map | Mapping[str, Map]],
    *,
    bins: int = 100,
    density: bool = True,
    log: bool = False,
    quantiles: Bounds = (0.005, 0.995),
    plt_fig_axis: tuple[Figure, Any] | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> tuple[Figure, AxesArray]:
    """How attribution values are distributed: a panel for each measure, several models overlaid (Fig. 8).

    Args:
        maps: by measure, its attributions, or a dict of these by label ({"Stability": {"trained": a, "untrained": b}}).
            Tensors or arrays of any shape; all their elements are counted.
        bins: of equal width, shared by the labels of a panel.
        density: True: share of all of a label's values per unit, so that sets of different sizes compare; False:
            counts.
        log: a logarithmic vertical axis.
        quantiles: the part of a panel's values, all labels together, that is drawn. Densities still refer to all
            values: the area that is missing is what lies outside.
        plt_fig_axis, fig_size, use_pyplot: as in `visualize_attributions`; one Axes for each measure.

    Returns:
        The figure and a numpy array of Axes, one for each measure.
    """
    check_named(maps, "measure")
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be an integer of at least 1, got {bins!r}")
    check_quantiles(quantiles)
    panels: dict[str, dict[str, Array]] = {}
    for name, entry in maps.items():
        named = {"": entry} if not isinstance(entry, Mapping) else entry
        panels[name] = {
            k: values_of(a, f"maps[{name!r}]" + (f"[{k!r}]" if k else "")).ravel() for k, a in named.items()
        }
    if not all(panels.values()):
        raise ValueError("maps has a measure without attributions; give at least one map for each")
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel))
    size = fig_size or (3.2 * len(panels), 2.6)
    with canvas(plt_fig_axis, (1, len(panels)), size, use_pyplot) as (figure, axes):
        for axis, (name, panel) in zip(axes, panels.items(), strict=True):
            edges = _bin_edges(np.concatenate(list(panel.values())), bins, quantiles)
            for label, values in panel.items():
                heights = np.histogram(values, edges)[0].astype(float)
                if density:
                    heights /= values.size * (edges[1] - edges[0])
                colour = _COLOURS[labels.index(label) % len(_COLOURS)]
                axis.stairs(heights, edges, fill=True, alpha=0.35, color=colour)
                axis.stairs(heights, edges, color=colour, linewidth=1, label=label)
            axis.set_title(name, fontsize=9)
            axis.tick_params(labelsize=7)
            axis.margins(x=0)
            axis.locator_params(axis="x", nbins=5)
            if log:
                axis.set_yscale("log")
            if any(panel):
                axis.legend(fontsize=7)
        axes[0].set_ylabel("density" if density else "count", fontsize=8)
    return figure, axes


def _bin_edges(values: Array, bins: int, quantiles: Bounds) -> Array:
    low, high = np.quantile(values, quantiles)
    if high - low <= FLAT * max(abs(low), abs(high)):
        middle = (low + high) / 2
        half = abs(middle) / 2 or 0.5
        low, high = middle - half, middle + half
    return np.linspace(low, high, bins + 1)
