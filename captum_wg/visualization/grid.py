"""Images by methods, in the papers' pictures per channel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from captum_wg.visualization.arrays import (
    AxesArray,
    Bounds,
    Image,
    Map,
    Numbers,
    check_count,
    check_named,
    input_images,
    maps_of,
    refuse_texts,
)
from captum_wg.visualization.canvas import EDGE, FONT, GAP, canvas, draw_bare, wrapped
from captum_wg.visualization.channels import QUANTILES, pictures_of, scales_of

SCALES = ("method", "image", "all")


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
    shown = input_images(images, mean, std)
    rows = len(shown)
    check_named(maps, "title")
    refuse_texts({f"maps[{name!r}]": a for name, a in maps.items()}, images)
    columns = {name: maps_of(a, f"maps[{name!r}]")[0] for name, a in maps.items()}
    for name, column in columns.items():
        check_count(f"maps[{name!r}]", column, rows, "images", entries="maps")
    signs = signed if isinstance(signed, Mapping) else dict.fromkeys(columns, signed)
    if unknown := [name for name in signs if name not in columns]:
        raise ValueError(f"signed names {unknown}, which maps does not have; its titles are {list(columns)}")
    scales = scales_of(list(columns.values()), quantiles, scale, SCALES)
    pictures = [pictures_of(a, signs.get(name), own) for (name, a), own in zip(columns.items(), scales, strict=True)]
    return draw_grid(["input", *columns], [shown, *pictures], labels, cell_size, dpi, use_pyplot)


def draw_grid(
    titles: Sequence[str],
    columns: Sequence[Image],
    labels: Sequence[str] | None,
    cell_size: float,
    dpi: float,
    use_pyplot: bool,
) -> tuple[Figure, AxesArray]:
    """Columns of pictures (B, H, W, 3) under their titles, beside the rows' labels: the figure and its Axes."""
    rows, height, width, _ = columns[0].shape
    labels = [""] * rows if labels is None else labels
    check_count("labels", labels, rows, "images")
    if not cell_size > 0:
        raise ValueError(f"cell_size must be a positive number of inches, got {cell_size!r}")
    # Laid out in inches by hand: matplotlib's layout engines are slow for hundreds of axes.
    cell_height = cell_size * height / width
    above, top = wrapped(titles, cell_size)
    beside, left = wrapped(labels, cell_height)
    size = (left + len(titles) * (cell_size + GAP) + EDGE, top + rows * (cell_height + GAP) + EDGE)
    margins = {"left": left / size[0], "right": 1 - EDGE / size[0], "top": 1 - top / size[1], "bottom": EDGE / size[1]}
    margins |= {"wspace": GAP / cell_size, "hspace": GAP / cell_height}
    with canvas(None, (rows, len(titles)), size, use_pyplot, dpi=dpi, margins=margins) as (figure, flat):
        axes = flat.reshape(rows, len(titles))
        for below, column, title in zip(axes.T, columns, above, strict=True):
            below[0].set_title(title, fontsize=FONT, pad=3, linespacing=1.1)
            for axis, picture in zip(below, column, strict=True):
                draw_bare(axis, picture)
        for axis, text in zip(axes[:, 0], beside, strict=True):
            axis.set_ylabel(text, fontsize=FONT, labelpad=3, linespacing=1.1)
    return figure, axes
