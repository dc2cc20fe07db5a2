"""One map in the usual display and in ours, after Figure 3 of Payne et al. (2024)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from captum_wg.visualization.arrays import (
    AxesArray,
    Bounds,
    Image,
    Map,
    Numbers,
    check_count,
    input_images,
    maps_of,
    refuse_texts,
    rgb,
)
from captum_wg.visualization.channels import QUANTILES, pictures_of, scaled, scales_of
from captum_wg.visualization.grid import draw_grid


def usual_image(
    image: Map,
    attribution: Map,
    quantiles: Bounds = QUANTILES,
    *,
    mean: Numbers | None = None,
    std: Numbers | None = None,
) -> Image:
    """The display that the papers of integrated and of expected gradients use, and that Payne et al. advise against:

        s = sum_c |a_c|     u = (clip(s, low, high) - low) / (high - low)     picture = round(u x)

    with low and high the quantiles of s, and x the image as it is seen, in [0, 255]. Signs and colours are lost, and
    what is seen is the input's own structure, where the map has none, too: a constant map gives the image.

    Args:
        image: (C, H, W) or (B, C, H, W), C = 1 or 3, in [0, 1] (or uint8), or normalised with mean and std.
        attribution: of the same height and width, C = 1 or 3.
        quantiles: as in `unsigned_image`, of s.
        mean, std: a number or one for each channel; image * std + mean is shown.

    Returns:
        uint8 (H, W, 3), or (B, H, W, 3) for a batch.

    Raises:
        TypeError, ValueError: as `unsigned_image`; images outside of [0, 1], or of another height, width or number; a
            map that may be a text's.
    """
    images = input_images(image, mean, std, "image")
    refuse_texts({"attribution": attribution}, image)
    maps, batched = maps_of(attribution, "attribution")
    check_count("attribution", maps, len(images), "images", entries="maps")
    if maps.shape[2:] != images.shape[1:3]:
        raise ValueError(
            f"attribution must have the image's height and width {images.shape[1:3]}, got {maps.shape[2:]}"
        )
    summed = np.abs(maps).sum(1, keepdims=True)
    (scales,) = scales_of([summed], quantiles, None)
    pictures = rgb(np.rint(scaled(summed, scales) * np.moveaxis(images, -1, 1)))
    return pictures if batched else pictures[0]


def show_displays(
    image: Map,
    attribution: Map,
    *,
    quantiles: Bounds = QUANTILES,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    labels: Sequence[str] | None = None,
    cell_size: float = 1.5,
    dpi: float = 150,
    use_pyplot: bool = False,
) -> tuple[Figure, AxesArray]:
    """The usual display of a map beside ours: the input, `usual_image`, `unsigned_image`, `signed_image`.

        figure, axes = show_displays(x, attributions, mean=MEAN, std=STD)

    Args:
        image, attribution, quantiles, mean, std: as in `usual_image`.
        labels, cell_size, dpi, use_pyplot: as in `grid`.

    Returns:
        The figure and a numpy array of its Axes, (B, 4).

    Raises:
        TypeError, ValueError: as `usual_image` and `grid`.
    """
    usual = usual_image(image, attribution, quantiles, mean=mean, std=std)
    maps, _ = maps_of(attribution, "attribution")
    (scales,) = scales_of([maps], quantiles, None)
    titles = ["input", "usual: |a| summed, times input", "ours, unsigned", "ours, signed"]
    columns = [
        input_images(image, mean, std, "image"),
        usual.reshape(len(maps), *usual.shape[-3:]),
        pictures_of(maps, False, scales),
        pictures_of(maps, True, scales),
    ]
    return draw_grid(titles, columns, labels, cell_size, dpi, use_pyplot)
