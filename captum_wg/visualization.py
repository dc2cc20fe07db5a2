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

import math
import re
import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

Map = Tensor | np.ndarray
Array = NDArray[np.float64]
Image = NDArray[np.uint8]
AxesArray = NDArray[np.object_]
Bounds = tuple[float, float]
Numbers = float | Sequence[float]

QUANTILES = (0.05, 0.95)
GREY = 128  # a signed picture's zero; 127 steps lie on either side of it
SCALES = ("method", "image", "all")
_FLAT = 1e-6  # a few float32 roundings: differences below this share of the magnitude are no structure
_COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:orange", "tab:purple", "tab:brown", "tab:pink", "tab:olive")
_FONT, _GAP, _EDGE = 8.0, 0.05, 0.1  # a grid's letters in points, the space between and around its pictures in inches


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
        return _pooled([_values(maps, "maps")], quantiles)
    if not isinstance(maps, Iterable):
        raise TypeError(f"maps must be a Tensor, an array or several of them, got {type(maps).__name__}")
    named: Iterable[tuple[Any, Map]] = maps.items() if isinstance(maps, Mapping) else enumerate(maps)
    if not (values := [_values(a, f"maps[{name!r}]") for name, a in named]):
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
        attributions, quantiles, scale: as in `unsigned_image`.
        signed: which picture; None: signed if any value is negative.
        title: of the map, or one for each map of a batch.
        plt_fig_axis: (figure, axes) to draw on: one Axes, for a batch B of them. None makes new ones.
        fig_size: of a new figure, in inches; None: 3 for each map.
        use_pyplot: register a new figure with pyplot and show it; otherwise it is only returned, which needs no display
            (`figure.savefig(...)`).

    Returns:
        The figure and its Axes, for a batch a numpy array of B Axes.
    """
    image = _image(attributions, signed, quantiles, scale)
    pictures = image if image.ndim == 4 else image[None]
    count = len(pictures)
    titles = [title] if isinstance(title, str) else [""] * count if title is None else title
    _check_count("title", titles, count, "maps")
    with _canvas(plt_fig_axis, (1, count), fig_size or (3.0 * count, 3.0), use_pyplot) as (figure, axes):
        for axis, picture, text in zip(axes, pictures, titles, strict=True):
            _draw(axis, picture)
            if text:
                axis.set_title(text)
    return figure, axes if image.ndim == 4 else axes[0]


def grid(
    images: Map,
    maps: Mapping[str, Map],
    signed: bool | Mapping[str, bool] | None = None,
    *,
    quantiles: Bounds = QUANTILES,
    scale: str | Bounds | None = None,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    labels: Sequence[str] | None = None,
    cell_size: float = 1.0,
    dpi: float = 150,
    use_pyplot: bool = False,
) -> tuple[Figure, AxesArray]:
    """Images by methods: a row for each image, the image first, then its map by each method.

    Args:
        images: (B, C, H, W) or (C, H, W), in [0, 1] (or uint8, in 0 ... 255); or normalised ones.
        maps: by title, for each method its attributions of these images: (B, C, H, W); neither C nor H and W need be
            the images' own.
        signed: which pictures, for all or by title; None, or a title left out: signed if any of the method's values is
            negative.
        quantiles: as in `unsigned_image`.
        scale: None: every map has its own; "method": one for each column; "image": one for each row; "all": one for the
            whole grid; or (low, high).
        mean, std: a number or one for each channel; images * std + mean is shown, clipped to [0, 1].
        labels: B texts, set beside the rows.
        cell_size: the width of a picture in inches. Titles are wrapped to fit it.
        use_pyplot: as in `visualize_attributions`.

    Returns:
        The figure and a numpy array of its Axes, (B, 1 + number of methods).
    """
    shown = _input_images(images, mean, std)
    rows = len(shown)
    _check_named(maps, "title")
    columns = {name: _maps(a, f"maps[{name!r}]")[0] for name, a in maps.items()}
    for name, column in columns.items():
        _check_count(f"maps[{name!r}]", column, rows, "images", entries="maps")
    signs = signed if isinstance(signed, Mapping) else dict.fromkeys(columns, signed)
    if unknown := [name for name in signs if name not in columns]:
        raise ValueError(f"signed names {unknown}, which maps does not have; its titles are {list(columns)}")
    labels = [""] * rows if labels is None else labels
    _check_count("labels", labels, rows, "images")
    if not cell_size > 0:
        raise ValueError(f"cell_size must be a positive number of inches, got {cell_size!r}")
    scales = _scales(list(columns.values()), quantiles, scale, SCALES)
    pictures = [_pictures(a, signs.get(name), own) for (name, a), own in zip(columns.items(), scales, strict=True)]

    # Laid out in inches by hand: matplotlib's layout engines are slow for hundreds of axes.
    cell_height = cell_size * shown.shape[1] / shown.shape[2]
    titles, top = _wrap(["input", *columns], cell_size)
    beside, left = _wrap(labels, cell_height)
    width = left + len(titles) * (cell_size + _GAP) + _EDGE
    height = top + rows * (cell_height + _GAP) + _EDGE
    margins = {"left": left / width, "right": 1 - _EDGE / width, "top": 1 - top / height, "bottom": _EDGE / height}
    margins |= {"wspace": _GAP / cell_size, "hspace": _GAP / cell_height}
    with _canvas(None, (rows, len(titles)), (width, height), use_pyplot, dpi=dpi, margins=margins) as (figure, flat):
        axes = flat.reshape(rows, len(titles))
        for below, of_column, title in zip(axes.T, [shown, *pictures], titles, strict=True):
            below[0].set_title(title, fontsize=_FONT, pad=3, linespacing=1.1)
            for axis, picture in zip(below, of_column, strict=True):
                _draw(axis, picture)
        for axis, text in zip(axes[:, 0], beside, strict=True):
            axis.set_ylabel(text, fontsize=_FONT, labelpad=3, linespacing=1.1)
    return figure, axes


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
    _check_named(maps, "measure")
    if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
        raise ValueError(f"bins must be an integer of at least 1, got {bins!r}")
    _check_quantiles(quantiles)
    panels: dict[str, dict[str, Array]] = {}
    for name, entry in maps.items():
        named = {"": entry} if not isinstance(entry, Mapping) else entry
        panels[name] = {k: _values(a, f"maps[{name!r}]" + (f"[{k!r}]" if k else "")).ravel() for k, a in named.items()}
    if not all(panels.values()):
        raise ValueError("maps has a measure without attributions; give at least one map for each")
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel))
    size = fig_size or (3.2 * len(panels), 2.6)
    with _canvas(plt_fig_axis, (1, len(panels)), size, use_pyplot) as (figure, axes):
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


def _values(attributions: Map, name: str) -> Array:
    """The numbers as a float64 array on the CPU; empty or not finite ones are refused."""
    if isinstance(attributions, Tensor) and not attributions.is_complex():
        # To the CPU first: not every device has float64.
        values = attributions.detach().cpu().double().numpy()
    elif isinstance(attributions, np.ndarray) and attributions.dtype.kind in "fiub":
        values = attributions.astype(np.float64)
    else:
        kind = getattr(attributions, "dtype", type(attributions).__name__)
        raise TypeError(
            f"{name} must be a Tensor or a numpy array of real numbers, got {kind}; of a tuple of attributions give "
            "one element at a time"
        )
    if values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}, which holds no values; give at least one map")
    bad = ~np.isfinite(values)
    if bad.any():
        where = f" in rows {np.unique(bad.nonzero()[0]).tolist()}" if values.ndim > 3 else ""
        raise ValueError(f"{name} holds NaN or infinite values{where}; pictures need finite ones")
    return values


def _maps(attributions: Map, name: str = "attributions") -> tuple[Array, bool]:
    """The maps as float64 (B, C, H, W), and whether a batch was given."""
    values = _values(attributions, name)
    shape = values.shape
    if values.ndim == 2:
        return values[None, None], False
    if values.ndim not in (3, 4) or shape[-3] not in (1, 3):
        last = values.ndim in (3, 4) and shape[-1] in (1, 3)
        remedy = "channels come first here: move the last axis"
        raise ValueError(
            f"{name} must have shape (H, W), (C, H, W) or (B, C, H, W) with 1 or 3 channels, got {shape}; "
            + (remedy if last else "sum over the channels, or show three of them at a time")
        )
    return (values, True) if values.ndim == 4 else (values[None], False)


def _check_named(maps: Any, by: str) -> None:
    if not isinstance(maps, Mapping):
        raise TypeError(f"maps must be a dict of attributions by {by}, got {type(maps).__name__}")
    if not maps:
        raise ValueError(f"maps is empty; give the attributions of at least one {by}")


def _check_count(name: str, given: Sequence[Any] | Array, count: int, of: str, entries: str = "entries") -> None:
    if len(given) != count:
        raise ValueError(f"{name} has {len(given)} {entries}, but there are {count} {of}; give one for each")


def _check_quantiles(quantiles: Bounds) -> Bounds:
    if np.shape(quantiles) != (2,) or not 0 <= quantiles[0] < quantiles[1] <= 1:
        raise ValueError(f"quantiles must be two numbers, 0 <= lower < upper <= 1, got {quantiles!r}")
    return quantiles


def _pooled(maps: Iterable[Array], quantiles: Bounds) -> Bounds:
    """(low, high), the quantiles of the magnitudes of all maps together."""
    magnitudes = np.concatenate([np.abs(a).ravel() for a in maps])
    low, high = np.quantile(magnitudes, _check_quantiles(quantiles))
    return float(low), float(high)


def _scales(
    columns: Sequence[Array], quantiles: Bounds, scale: Any, names: tuple[str, ...] = ("common",)
) -> list[list[Bounds]]:
    """(low, high) for each row of each of the columns (B, C, H, W); names: those of scale's that the caller knows."""
    _check_quantiles(quantiles)
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


def _image(attributions: Map, signed: bool | None, quantiles: Bounds, scale: str | Bounds | None) -> Image:
    """The picture (H, W, 3) of a map, or those (B, H, W, 3) of a batch."""
    maps, batched = _maps(attributions)
    pictures = _pictures(maps, signed, *_scales([maps], quantiles, scale))
    return pictures if batched else pictures[0]


def _pictures(maps: Array, signed: bool | None, scales: Sequence[Bounds]) -> Image:
    """The maps (B, C, H, W) as pictures (B, H, W, 3), each on its scale."""
    u = np.empty_like(maps)  # of the module's docstring
    for i, (magnitudes, (low, high)) in enumerate(zip(np.abs(maps), scales, strict=True)):
        if high - low <= _FLAT * high:
            u[i] = (magnitudes > 0) & (magnitudes >= (1 - _FLAT) * high)
        else:
            u[i] = (np.clip(magnitudes, low, high) - low) / (high - low)
    if signed or (signed is None and (maps < 0).any()):
        return _rgb(GREY + np.rint((255 - GREY) * np.sign(maps) * u))
    return _rgb(np.rint(255 * u))


def _rgb(pixels: Array) -> Image:
    """(B, C, H, W) with C = 1 or 3 as uint8 (B, H, W, 3)."""
    colours = np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:]))
    return np.moveaxis(colours, 1, -1).astype(np.uint8)


def _input_images(images: Map, mean: Numbers | None, std: Numbers | None) -> Image:
    values, _ = _maps(images, "images")
    if (mean is None) != (std is None):
        raise ValueError("give both mean and std, or neither")
    if mean is not None:
        channels = values.shape[1]
        shift, spread = (np.asarray(v, dtype=np.float64).reshape(-1, 1, 1) for v in (mean, std))
        for name, v, sign in (("mean", shift, ""), ("std", spread, "positive ")):
            if len(v) not in (1, channels) or not np.isfinite(v).all() or (sign and v.min() <= 0):
                raise ValueError(
                    f"{name} must be one finite {sign}number or one for each of the {channels} channels, got "
                    f"{v.ravel().tolist()}"
                )
        values = np.clip(values * spread + shift, 0, 1)
    elif str(images.dtype).endswith("uint8"):
        values = values / 255
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ValueError(
            f"images must lie in [0, 1], got values from {values.min():.4g} to {values.max():.4g}; give the mean and "
            "std they were normalised with"
        )
    return _rgb(np.rint(255 * np.clip(values, 0, 1)))


@contextmanager
def _canvas(
    given: tuple[Figure, Any] | None, shape: tuple[int, int], fig_size: Bounds, use_pyplot: bool, **layout: Any
) -> Iterator[tuple[Figure, AxesArray]]:
    """The figure and a flat array of rows * columns Axes: those given, or new ones; shown once they are drawn on."""
    if use_pyplot:
        # Imported late: pyplot chooses a display, which drawing into a file does not need.
        from matplotlib import pyplot
    if given is not None:
        figure, axes = given[0], np.asarray(given[1], dtype=object).ravel()
        if len(axes) != (count := math.prod(shape)) or not all(isinstance(axis, Axes) for axis in axes):
            raise ValueError(f"plt_fig_axis must be (figure, axes) with {count} Axes, one a picture, got {len(axes)}")
    else:
        make, margins = pyplot.figure if use_pyplot else Figure, layout.pop("margins", None)
        figure = make(figsize=fig_size, layout=None if margins else "constrained", **layout)
        axes = figure.subplots(*shape, squeeze=False, gridspec_kw=margins).ravel()
    yield figure, axes
    if use_pyplot:
        with warnings.catch_warnings():
            # Without a display there is nothing to show, and nothing to say about it.
            warnings.filterwarnings("ignore", message=".*non-interactive")
            pyplot.show()


def _draw(axis: Axes, picture: Image) -> None:
    axis.imshow(picture, interpolation="nearest")
    # The axis itself stays on: it carries a row's label.
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


class _Wrapper(textwrap.TextWrapper):
    """Breaks at spaces, after _ / - and inside CamelCase."""

    wordsep_re = re.compile(r"(\s+|(?<=[a-z0-9])(?=[A-Z])|(?<=[_/\-])(?=\S))")


def _wrap(texts: Sequence[str], inches: float) -> tuple[list[str], float]:
    """Texts in lines of that length, and the room that the highest takes, in inches."""
    wrapper = _Wrapper(max(4, int(inches * 72 / (0.6 * _FONT))))
    wrapped = ["\n".join(wrapper.fill(line) for line in text.splitlines()) for text in texts]
    most = max(text.count("\n") + bool(text) for text in wrapped)
    return wrapped, _EDGE + 1.25 * _FONT / 72 * most


def _bin_edges(values: Array, bins: int, quantiles: Bounds) -> Array:
    low, high = np.quantile(values, quantiles)
    if high - low <= _FLAT * max(abs(low), abs(high)):
        middle = (low + high) / 2
        half = abs(middle) / 2 or 0.5
        low, high = middle - half, middle + half
    return np.linspace(low, high, bins + 1)
