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
    AxesArray,
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

_SHARED = {"image": "for each image", "method": "for each method", "all": "for all", None: "for each map"}


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
        smooth: the Gaussian's sigma as a share of the side; 0: none; None: 1/48, and 0 for "signed" and "unsigned".
        cmap: a diverging colour map, by name or as it is; None: "RdBu_r".
        colorbar: beside the maps, one for each scale; "topk", "signed" and "unsigned" have none.
        ax: Axes to draw on: one for a single map; for a grid rows times columns of them. None makes a new figure.
        mean, std: a number or one for each channel; image * std + mean is shown.
        scale: which maps of a grid share their colours: "image": those of a row, "method": those of a column, "all",
            None: each has its own; or the largest magnitude as a number.
        top: for "topk": the share of pixels, in (0, 1].
        title: of the picture, or of the whole grid (not with ax).
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
    _check_scale(scale)
    if cmap is not None and style in (*PER_CHANNEL, "topk"):
        raise ValueError(f"cmap has no meaning for style={style!r}; leave it out")
    if not cell_size > 0:
        raise ValueError(f"cell_size must be a positive number of inches, got {cell_size!r}")
    colours = colours_of(cmap)
    photographs = None if image is None else input_images(image, mean, std, "image")
    if photographs is None and style not in ("heat", *PER_CHANNEL):
        raise ValueError(f"style={style!r} is drawn over the image, which is None; give it, or say style='heat'")
    given = _by_method(attribution, image, photographs, style)
    rows = len(next(iter(given.values())))
    if labels is not None:
        check_count("labels", labels, rows, "images")
    sizes = {a.shape[2:] for a in given.values()}
    height, width = next(iter(sizes)) if photographs is None else photographs.shape[1:3]
    maps = {name: prepared(a, name, (height, width), style, smooth) for name, a in given.items()}

    single = not isinstance(attribution, Mapping) and rows == 1
    if title and ax is not None and not single:
        raise ValueError("title of a grid belongs to the figure, which with ax is the caller's; leave title out")
    beside = [] if photographs is None or single else ["input"]
    shape = (rows, len(beside) + len(maps))
    cell = 2 * cell_size if single else cell_size
    beyond = 0.6 + 0.4 * caption + 0.25 * bool(title) + 0.5 * (colorbar and scale == "method")
    size = (shape[1] * cell + 0.8 * colorbar, rows * cell * height / width + beyond)
    with canvas(axes_given(ax), shape, size, use_pyplot, "ax must be") as (figure, flat):
        axes = flat.reshape(shape)
        if photographs is not None and beside:
            for axis, photograph in zip(axes[:, 0], photographs, strict=True):
                draw_bare(axis, photograph)
        own = axes[:, len(beside) :]
        if style in SUMMED:
            drawn = _draw_summed(own, list(maps.values()), photographs, style, scale, colours, top)
            if colorbar and style != "topk":
                _bars(own, drawn, scale)
        else:
            _draw_per_channel(own, list(maps.values()), style == "signed", scale)
        if not single:
            for axis, name in zip(axes[0], wrapped([*beside, *maps], cell)[0], strict=True):
                axis.set_title(name, fontsize=9)
        for axis, text in zip(axes[:, 0], labels or (), strict=False):
            axis.set_ylabel(text, fontsize=9)
        if title and single:
            axes[0, 0].set_title(title, fontsize=10)
        elif title:
            figure.suptitle(title, fontsize=10)
        if caption:
            coarse = sizes - {(height, width)}
            done = [_of_smoothing(style, smooth * min(height, width), coarse)]
            done += _of_colours(style, scale, top, cmap, rows * len(maps) > 1)
            write_below(figure, axes[-1, 0], "; ".join(done) + ".", ax is None)
    return figure, axes[0, 0] if single else axes


def _check_scale(scale: str | float | None) -> None:
    if isinstance(scale, int | float):
        if isinstance(scale, bool) or not 0 < scale < np.inf:
            raise ValueError(f"scale must be a positive finite number, one of {SCALES} or None, got {scale!r}")
    elif scale is not None:
        check_choice(scale, "scale", SCALES)


def _by_method(
    attribution: Map | Mapping[str, Map], image: Map | None, photographs: Image | None, style: str
) -> dict[str, Array]:
    """The maps by method, (B, C, H, W) each."""
    if isinstance(attribution, Mapping):
        check_named(attribution, "method", "attribution")
        named = {name: (f"attribution[{name!r}]", a) for name, a in attribution.items()}
    else:
        named = {"attribution": ("attribution", attribution)}
    refuse_texts(dict(named.values()), image)
    channels = () if style in SUMMED and image is not None else (1, 3)
    maps = {name: maps_of(a, called, channels)[0] for name, (called, a) in named.items()}
    rows = len(next(iter(maps.values())) if photographs is None else photographs)
    for name, (called, _) in named.items():
        check_count(called, maps[name], rows, "images", entries="maps")
    return maps


def _draw_summed(
    axes: AxesArray,
    maps: list[Array],
    photographs: Image | None,
    style: str,
    scale: str | float | None,
    colours: Colormap,
    top: float,
) -> AxesArray:
    """Draw the maps (B, 1, H, W) of each column; what colour bars are made of, in the axes' shape."""
    ends = _ends(maps, scale)
    drawn = np.empty(axes.shape, dtype=object)
    for (row, column), axis in np.ndenumerate(axes):
        photograph = None if photographs is None else photographs[row]
        drawn[row, column] = draw_map(axis, maps[column][row, 0], photograph, style, ends[row][column], colours, top)
    return drawn


def _draw_per_channel(axes: AxesArray, maps: list[Array], signed: bool, scale: str | float | None) -> None:
    bounds = (0.0, float(scale)) if isinstance(scale, int | float) else scale
    scales = scales_of(maps, QUANTILES, bounds, SCALES)
    for column, a, own in zip(axes.T, maps, scales, strict=True):
        for axis, picture in zip(column, pictures_of(a, signed, own), strict=True):
            draw_bare(axis, picture)


def _ends(maps: list[Array], scale: str | float | None) -> list[list[float]]:
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


def _of_smoothing(style: str, sigma: float, coarse: set[Any]) -> str:
    """For the caption: what was done to the numbers; sigma in pixels."""
    whose = "Sum over the channels" if style in SUMMED else "Each colour channel on its own"
    enlarged = "; enlarged from " + ", ".join(f"{h} x {w}" for h, w in sorted(coarse)) if coarse else ""
    return (
        f"{whose}; smoothed by a Gaussian of {sigma:.2g} pixels{enlarged}"
        if sigma
        else f"{whose}; not smoothed{enlarged}"
    )


def _of_colours(
    style: str, scale: str | float | None, top: float, cmap: str | Colormap | None, several: bool
) -> list[str]:
    """For the caption: what the colours mean."""
    if style == "topk":
        return [f"in colour: the {100 * top:.3g} % of the pixels that speak most for the output"]
    given = f"{scale:.3g}" if isinstance(scale, int | float) else None
    shared = "for all" if isinstance(scale, int | float) else _SHARED[scale]
    one_scale = f", one scale {shared}" if several else ""
    if style in SUMMED:
        end = given or f"the {100 * LARGEST:.3g} % quantile of magnitudes"
        signs = ["red: positive, blue: negative"] if cmap in (None, COLOURS) else []
        return [f"colours end at {end}{one_scale}", *signs]
    low, high = (100 * q for q in QUANTILES)
    clipped = f"clipped at {given}" if given else f"clipped to their {low:.0f} and {high:.0f} % quantiles"
    zero = "0 is grey, brighter is positive, darker negative" if style == "signed" else "0 is black"
    return [f"magnitudes {clipped}{one_scale}", zero]
