"""One call that draws maps so that a person reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import Colormap
from matplotlib.figure import Figure

from captum_wg.engine.checks import check_choice, check_number
from captum_wg.visualization.arrays import (
    Array,
    Image,
    Map,
    Numbers,
    check_count,
    check_named,
    input_images,
    maps_of,
    refuse_texts,
)
from captum_wg.visualization.canvas import axes_given, canvas, draw_bare, wrapped, write_below
from captum_wg.visualization.channels import QUANTILES, pictures_of, scales_of
from captum_wg.visualization.grid import SCALES
from captum_wg.visualization.styles import (
    COLOURS,
    LARGEST,
    PER_CHANNEL,
    SMOOTH,
    STYLES,
    SUMMED,
    colour_bar,
    colours_of,
    draw_map,
    largest,
    prepared,
)

_SHARED = {"image": "for each image", "method": "for each method", None: "for each map"}


def show(
    image: Map | None,
    attribution: Map | Mapping[str, Map],
    style: str = "overlay",
    *,
    smooth: float | None = None,
    cmap: str | Colormap | None = None,
    colorbar: bool = True,
    ax: Any = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    scale: str | float | None = "image",
    top: float = 0.1,
    title: str | None = None,
    labels: Sequence[str] | None = None,
    caption: bool = True,
    cell_size: float = 2.2,
    use_pyplot: bool = False,
) -> tuple[Figure, Any]:
    """Draw a map, or images by methods, and say beneath what was done to the numbers.

        figure, ax = show(x[0], attributions[0], mean=MEAN, std=STD)
        figure, axes = show(x, {"IG": ig, "WG": wg}, mean=MEAN, std=STD)
        figure.savefig("maps.png")

    Styles, of the map m that `captum_wg.visualization.styles` defines (channels summed, lightly smoothed) but for the
    last two:

        overlay     m in colours over the photograph in grey, transparent where m is 0
        heat        m in colours alone
        contour     lines of m at 25, 50 and 75 % of the largest colour's value, over the photograph in grey
        topk        the photograph where m is largest, pale elsewhere
        signed, unsigned    per colour channel, as `signed_image` and `unsigned_image` (Payne et al. 2024)

    Args:
        image: (C, H, W) or (B, C, H, W), C = 1 or 3, in [0, 1] (or uint8), or normalised with mean and std. None: no
            image, for "heat", "signed" and "unsigned".
        attribution: of one image (H, W) or (C, H, W), of several (B, C, H, W), or these by method. They may be coarser
            than the images in the same proportions, as those of layers are, and have any number of channels. (1, H, W)
            beside an image of that form or none is refused: it may be a text (B, T, E), for which `show_text` is.
        smooth: the Gaussian's sigma as a share of the side; 0: none; None: 1/64, and 0 for "signed" and "unsigned".
        cmap: a diverging colour map, by name or as it is; None: "RdBu_r".
        colorbar: beside the maps, one for each scale; "topk", "signed" and "unsigned" have none.
        ax: Axes to draw on: one for a single map; for a grid rows times columns of them. None makes a new figure.
        mean, std: a number or one for each channel; image * std + mean is shown.
        scale: which maps of a grid share their colours: "image": those of a row, "method": those of a column, "all",
            None: each has its own; or the largest magnitude as a number.
        top: for "topk": the share of pixels, in (0, 1].
        title: of the picture, or of the whole grid.
        labels: B texts beside the rows of a grid.
        caption: write beneath what is drawn, and how it was smoothed and scaled.
        cell_size: the width of one of a grid's pictures in inches (twice that for a single map).
        use_pyplot: register a new figure with pyplot and show it, as in `visualize_attributions`.

    Returns:
        The figure and its Axes: for a single map one; for several images or a dict a numpy array (B, columns), the
        images first (if there are any), then a column for each method.

    Raises:
        TypeError: maps or images of another kind; ax that is none.
        ValueError: shapes that don't fit; an image outside of [0, 1]; a text's map; an impossible option.
    """
    check_choice(style, "style", STYLES)
    smooth = (SMOOTH if style in SUMMED else 0.0) if smooth is None else check_number(smooth, "smooth", 0.0, 1.0)
    if check_number(top, "top", 0.0, 1.0) == 0:
        raise ValueError("top must be a share of the pixels in (0, 1], got 0")
    if isinstance(scale, int | float) and not 0 < scale < np.inf:
        raise ValueError(f"scale must be a positive finite number, one of {SCALES} or None, got {scale!r}")
    if scale is not None and not isinstance(scale, int | float):
        check_choice(scale, "scale", SCALES)
    if cmap is not None and style in (*PER_CHANNEL, "topk"):
        raise ValueError(f"cmap has no meaning for style={style!r}; leave it out")
    if not cell_size > 0:
        raise ValueError(f"cell_size must be a positive number of inches, got {cell_size!r}")
    colours = colours_of(cmap)
    photographs = None if image is None else input_images(image, mean, std, "image")
    if photographs is None and style not in ("heat", *PER_CHANNEL):
        raise ValueError(f"style={style!r} is drawn over the image, which is None; give it, or say style='heat'")
    columns, single = _columns(attribution, image, photographs, style)
    rows = len(next(iter(columns.values())))
    if labels is not None:
        check_count("labels", labels, rows, "images")
    sizes = {a.shape[2:] for a in columns.values()}
    height, width = next(iter(sizes)) if photographs is None else photographs.shape[1:3]
    maps = {name: prepared(a, name, (height, width), style, smooth) for name, a in columns.items()}

    shown = [] if photographs is None or single else [photographs]
    count = len(shown) + len(maps)
    cell = 2 * cell_size if single else cell_size
    bars = colorbar and style in SUMMED and style != "topk"
    size = (count * cell + 0.8 * bars, rows * cell * height / width + 0.5 + 0.3 * caption)
    with canvas(axes_given(ax), (rows, count), size, use_pyplot, "ax must be") as (figure, flat):
        axes = flat.reshape(rows, count)
        for column, pictures in zip(axes.T, shown, strict=False):
            for axis, picture in zip(column, pictures, strict=True):
                draw_bare(axis, picture)
        own = axes[:, len(shown) :]
        if style in SUMMED:
            halves = _halves(list(maps.values()), scale)
            mappables = [
                draw_map(own[i, j], m[0], None if photographs is None else photographs[i], style, v, colours, top)
                for i, of_row in enumerate(halves)
                for (j, v), m in zip(enumerate(of_row), (a[i] for a in maps.values()), strict=True)
            ]
            if bars:
                _bars(own, np.array(mappables, dtype=object).reshape(own.shape), scale)
        else:
            bounds = (0.0, float(scale)) if isinstance(scale, int | float) else scale
            scales = scales_of(list(maps.values()), QUANTILES, bounds, SCALES)
            for column, a, each in zip(own.T, maps.values(), scales, strict=True):
                for axis, picture in zip(column, pictures_of(a, style == "signed", each), strict=True):
                    draw_bare(axis, picture)
        if not single:
            names, _ = wrapped([*(["input"] * len(shown)), *maps], cell)
            for axis, name in zip(axes[0], names, strict=True):
                axis.set_title(name, fontsize=9)
        for axis, text in zip(axes[:, 0], labels or (), strict=False):
            axis.set_ylabel(text, fontsize=9)
        if title and (single or ax is not None):
            axes[0, 0].set_title(title, fontsize=10)
        elif title:
            figure.suptitle(title, fontsize=10)
        if caption:
            coarse = sizes - {(height, width)}
            text = _caption(style, smooth, (height, width), coarse, scale, top, cmap, rows * len(maps) > 1)
            write_below(figure, axes[-1, 0], text, ax is None)
    return figure, axes[0, 0] if single else axes


def _columns(
    attribution: Map | Mapping[str, Map], image: Map | None, photographs: Image | None, style: str
) -> tuple[dict[str, Array], bool]:
    """The maps by method, each (B, C, H, W), and whether there is but one to draw."""
    several = isinstance(attribution, Mapping)
    if isinstance(attribution, Mapping):
        check_named(attribution, "method", "attribution")
        named = {f"attribution[{name!r}]": a for name, a in attribution.items()}
    else:
        named = {"attribution": attribution}
    refuse_texts(named, image)
    channels = () if style in SUMMED and image is not None else (1, 3)
    found = [maps_of(a, name, channels) for name, a in named.items()]
    rows = len(found[0][0]) if photographs is None else len(photographs)
    for name, (a, _) in zip(named, found, strict=True):
        check_count(name, a, rows, "images", entries="maps")
    batched = any(is_batch for _, is_batch in found)
    names = list(attribution) if isinstance(attribution, Mapping) else ["attribution"]
    return {name: a for name, (a, _) in zip(names, found, strict=True)}, not several and not (batched and rows > 1)


def _halves(maps: list[Array], scale: str | float | None) -> list[list[float]]:
    """The magnitude at which the colours of each map end, (rows, methods)."""
    rows, count = len(maps[0]), len(maps)
    if isinstance(scale, int | float):
        return [[float(scale)] * count] * rows
    if scale == "all":
        return [[largest(maps)] * count] * rows
    if scale == "image":
        return [[largest([m[i] for m in maps])] * count for i in range(rows)]
    if scale == "method":
        return [[largest([m]) for m in maps]] * rows
    return [[largest([m[i]]) for m in maps] for i in range(rows)]


def _bars(axes: Any, drawn: Any, scale: str | float | None) -> None:
    """A colour bar for each scale: its maps' Axes, and one of what is drawn there."""
    if scale == "image":
        groups = [(list(row), of_row[0], "right") for row, of_row in zip(axes, drawn, strict=True)]
    elif scale == "method":
        groups = [(list(column), of[0], "bottom") for column, of in zip(axes.T, drawn.T, strict=True)]
    elif scale is None:
        groups = [([axis], one, "right") for axis, one in zip(axes.flat, drawn.flat, strict=True)]
    else:
        groups = [(list(axes.flat), drawn.flat[0], "right")]
    for of, mappable, where in groups:
        colour_bar(of, mappable, where)


def _caption(
    style: str,
    smooth: float,
    size: tuple[int, int],
    coarse: set[Any],
    scale: str | float | None,
    top: float,
    cmap: str | Colormap | None,
    several: bool,
) -> str:
    """What was done to the numbers, in words."""
    sigma = smooth * min(size)
    soft = f"smoothed by a Gaussian of {sigma:.2g} pixels" if smooth else "not smoothed"
    parts = ["sum over the channels" if style in SUMMED else "each colour channel on its own", soft]
    if coarse:
        parts.append("enlarged from " + ", ".join(f"{h} x {w}" for h, w in sorted(coarse)))
    if style == "topk":
        parts.append(f"in colour: the {100 * top:.3g} % of the pixels that speak most for the output")
    elif style in SUMMED:
        shared = "for all" if isinstance(scale, int | float) else _SHARED.get(scale, "for all")
        ends = f"{scale:.3g}" if isinstance(scale, int | float) else f"the {100 * LARGEST:.3g} % quantile of magnitudes"
        parts.append(f"colours end at {ends}" + (f", one scale {shared}" if several else ""))
        if cmap in (None, COLOURS):
            parts.append("red: positive, blue: negative")
    else:
        parts.append(f"magnitudes clipped to their {100 * QUANTILES[0]:.0f} and {100 * QUANTILES[1]:.0f} % quantiles")
        parts.append("0 is grey, brighter is positive, darker negative" if style == "signed" else "0 is black")
    text = "; ".join(parts)
    return text[0].upper() + text[1:] + "."
