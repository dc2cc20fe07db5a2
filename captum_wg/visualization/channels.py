"""Pictures of attributions that hide as little as possible, after Payne et al. (2024), section 3.

A map is shown per colour channel and is never multiplied by the input; only clipping to quantiles and scaling stand
between the numbers and the pixels. With m = |a| for every element of a map a (C, H, W), and low, high the quantiles of
m over all its elements (all channels together, so that a colour says which channel matters more),

    u = (clip(m, low, high) - low) / (high - low)     in [0, 1]

    unsigned picture:  round(255 u)                   0, black: m at most low; 255: m at least high
    signed picture:    128 + round(127 sign(a) u)     128, 50 % grey: m at most low, so also a = 0;
                                                      darker, to 1: negative; brighter, to 255: positive

The signed picture of -a is that of a mirrored around the grey: p(-a) = 256 - p(a). If high = low (to within 1e-6 of
high) there is nothing to scale: u is 1 where m > 0 reaches high and 0 elsewhere, so that a constant map gives a plain
picture and a map of a few peaks among zeros shows its peaks. The paper names no quantiles; 5 % and 95 % are ours.

Maps are (H, W), (C, H, W) or (B, C, H, W), C = 1 (grey) or 3 (red, green, blue), as torch Tensors (of any floating
type, on any device, with or without gradients) or numpy arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from captum_wg.visualization.arrays import (
    FLAT,
    Array,
    Bounds,
    Image,
    Map,
    check_count,
    maps_of,
    refuse_texts,
    rgb,
    values_of,
)
from captum_wg.visualization.canvas import canvas, draw_bare

QUANTILES = (0.05, 0.95)
GREY = 128  # a signed picture's zero; 127 steps lie on either side of it


def unsigned_image(attributions: Map, quantiles: Bounds = QUANTILES, scale: str | Bounds | None = None) -> Image:
    """The magnitude |a| from dark to bright: round(255 u), u as the module defines it.

    Args:
        attributions: a map, or a batch of them.
        quantiles: of |a|, to which it is clipped; (0, 1) clips nothing.
        scale: None: every map has its own low and high; "common": those of the whole batch together; (low, high):
            these, for instance from `magnitude_scale`, and quantiles are not used.

    Returns:
        uint8 (H, W, 3), or (B, H, W, 3) for a batch; three equal channels where C = 1.

    Raises:
        TypeError: attributions is neither a Tensor nor an array of real numbers.
        ValueError: another shape; NaN or infinite values (the message names the rows); impossible quantiles or scale.
    """
    return _image(attributions, False, quantiles, scale)


def signed_image(attributions: Map, quantiles: Bounds = QUANTILES, scale: str | Bounds | None = None) -> Image:
    """The attributions around 50 % grey: 128 + round(127 sign(a) u), u as the module defines it.

    It is |a| that is clipped: equal magnitudes stand equally far from grey, and values below the lower quantile of |a|
    are grey whatever their sign. Arguments, result and errors as in `unsigned_image`.
    """
    return _image(attributions, True, quantiles, scale)


def magnitude_scale(maps: Map | Iterable[Map] | Mapping[str, Map], quantiles: Bounds = QUANTILES) -> Bounds:
    """One (low, high) for several maps, to be passed on as `scale`: the quantiles of all their |a| together.

    maps: a map or a batch, or several of them (a sequence or a dict's values), of any shapes; each element counts once,
    so a map of three channels weighs three times one of a single channel.
    """
    if isinstance(maps, Tensor | np.ndarray):
        return _pooled([values_of(maps, "maps")], quantiles)
    if not isinstance(maps, Iterable):
        raise TypeError(f"maps must be a Tensor, an array or several of them, got {type(maps).__name__}")
    named: Iterable[tuple[Any, Map]] = maps.items() if isinstance(maps, Mapping) else enumerate(maps)
    if not (values := [values_of(a, f"maps[{name!r}]") for name, a in named]):
        raise ValueError("maps is empty; give at least one map")
    return _pooled(values, quantiles)


def visualize_attributions(
    attributions: Map,
    signed: bool | None = None,
    *,
    quantiles: Bounds = QUANTILES,
    scale: str | Bounds | None = None,
    title: str | Sequence[str] | None = None,
    plt_fig_axis: tuple[Figure, Any] | None = None,
    fig_size: tuple[float, float] | None = None,
    use_pyplot: bool = False,
) -> tuple[Figure, Any]:
    """Draw a map, or a batch in a row, as `captum.attr.visualization.visualize_image_attr` does.

    Args:
        attributions, quantiles, scale: as in `unsigned_image`; one grey map as (H, W) or (1, 1, H, W), since (1, H, W)
            may be a text's.
        signed: which picture; None: signed if any value is negative.
        title: of the map, or one for each map of a batch.
        plt_fig_axis: (figure, axes) to draw on: one Axes, for a batch B of them. None makes new ones.
        fig_size: of a new figure, in inches; None: 3 for each map.
        use_pyplot: register a new figure with pyplot and show it; otherwise it is only returned, which needs no display
            (`figure.savefig(...)`).

    Returns:
        The figure and its Axes, for a batch a numpy array of B Axes.
    """
    refuse_texts({"attributions": attributions})
    image = _image(attributions, signed, quantiles, scale)
    pictures = image if image.ndim == 4 else image[None]
    count = len(pictures)
    titles = [title] if isinstance(title, str) else [""] * count if title is None else title
    check_count("title", titles, count, "maps")
    with canvas(plt_fig_axis, (1, count), fig_size or (3.0 * count, 3.0), use_pyplot) as (figure, axes):
        for axis, picture, text in zip(axes, pictures, titles, strict=True):
            draw_bare(axis, picture)
            if text:
                axis.set_title(text)
    return figure, axes if image.ndim == 4 else axes[0]


def _image(attributions: Map, signed: bool | None, quantiles: Bounds, scale: str | Bounds | None) -> Image:
    """The picture (H, W, 3) of a map, or those (B, H, W, 3) of a batch."""
    maps, batched = maps_of(attributions)
    pictures = pictures_of(maps, signed, *scales_of([maps], quantiles, scale))
    return pictures if batched else pictures[0]


def pictures_of(maps: Array, signed: bool | None, scales: Sequence[Bounds]) -> Image:
    """The maps (B, C, H, W) as pictures (B, H, W, 3), each on its scale."""
    u = scaled(maps, scales)
    if signed or (signed is None and (maps < 0).any()):
        return rgb(GREY + np.rint((255 - GREY) * np.sign(maps) * u))
    return rgb(np.rint(255 * u))


def scaled(maps: Array, scales: Sequence[Bounds]) -> Array:
    """u of the maps (B, C, H, W), each on its scale: see the module."""
    u = np.empty_like(maps)
    for i, (magnitudes, (low, high)) in enumerate(zip(np.abs(maps), scales, strict=True)):
        if high - low <= FLAT * high:
            u[i] = (magnitudes > 0) & (magnitudes >= (1 - FLAT) * high)
        else:
            u[i] = (np.clip(magnitudes, low, high) - low) / (high - low)
    return u


def scales_of(
    columns: Sequence[Array], quantiles: Bounds, scale: Any, names: tuple[str, ...] = ("common",)
) -> list[list[Bounds]]:
    """(low, high) for each row of each of the columns (B, C, H, W); names: those of scale's that the caller knows."""
    check_quantiles(quantiles)
    rows, count = len(columns[0]), len(columns)
    if scale is None:
        return [[_pooled([a], quantiles) for a in column] for column in columns]
    if isinstance(scale, str) and scale in names:
        if scale == "image":
            return [[_pooled([column[row] for column in columns], quantiles) for row in range(rows)]] * count
        if scale == "all":
            return [[_pooled(columns, quantiles)] * rows] * count
        return [[_pooled([column], quantiles)] * rows for column in columns]
    if isinstance(scale, str) or np.shape(scale) != (2,) or not 0 <= scale[0] <= scale[1] < np.inf:
        known = ", ".join(f'"{name}"' for name in names)
        raise ValueError(f"scale must be None, {known} or two finite numbers 0 <= low <= high, got {scale!r}")
    return [[(float(scale[0]), float(scale[1]))] * rows] * count


def _pooled(maps: Iterable[Array], quantiles: Bounds) -> Bounds:
    """(low, high), the quantiles of the magnitudes of all maps together."""
    magnitudes = np.concatenate([np.abs(a).ravel() for a in maps])
    low, high = np.quantile(magnitudes, check_quantiles(quantiles))
    return float(low), float(high)


def check_quantiles(quantiles: Bounds) -> Bounds:
    if np.shape(quantiles) != (2,) or not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(f"quantiles must be two numbers, 0 <= lower < upper <= 1, got {quantiles!r}")
    return quantiles
