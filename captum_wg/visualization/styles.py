"""The ways to draw one map for a reader: its channels summed, lightly smoothed, zero in the middle of the colours.

    m = G sum_c a_c        G: a Gaussian of sigma = smooth * side, borders mirrored, so that the sum stays
    colour of m            on [-v, v], v the 99.5 % quantile of |m| (of |m| > 0 if that is 0): a few pixels don't
                           leave the rest invisible

Shapes: B images, C channels, H, W.
"""

from __future__ import annotations

from collections.abc import Iterable

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm, Colormap, ListedColormap
from matplotlib.ticker import MaxNLocator
from torch.nn.functional import interpolate

from captum_wg.smoothing import mirrored_gaussian
from captum_wg.visualization.arrays import Array, Image
from captum_wg.visualization.canvas import draw_bare

SUMMED = ("overlay", "heat", "topk", "contour")  # styles of the sum over channels
PER_CHANNEL = ("signed", "unsigned")  # the papers' own
STYLES = (*SUMMED, *PER_CHANNEL)
SMOOTH = 1 / 48  # of the side: 4.7 of 224 pixels
COLOURS = "RdBu_r"  # told apart by the colour-blind
LARGEST = 0.995
_LEVELS = np.array([-0.75, -0.5, -0.25, 0.25, 0.5, 0.75])  # of contours, as shares of v


def resized(maps: Array, height: int, width: int, smoothly: bool) -> Array:
    """Maps (B, C, h, w) at another size: bilinear, or as blocks."""
    if maps.shape[2:] == (height, width):
        return maps
    how = {"mode": "bilinear", "align_corners": False} if smoothly else {"mode": "nearest"}
    enlarged: Array = interpolate(torch.from_numpy(maps), (height, width), **how).numpy()
    return enlarged


def blurred(maps: Array, smooth: float) -> Array:
    """G of maps (B, C, H, W), sigma a share of each side."""
    if smooth == 0:
        return maps
    down, across = (mirrored_gaussian(side, smooth * side).numpy() for side in maps.shape[2:])
    soft: Array = down @ maps @ across
    return soft


def prepared(a: Array, name: str, size: tuple[int, int], style: str, smooth: float) -> Array:
    """Maps (B, C, h, w) as they are drawn: summed if the style is (C = 1), at the images' size, smoothed.

    Raises:
        ValueError: not in the images' proportions, or the sum overflows.
    """
    (height, width), (h, w) = size, a.shape[2:]
    if height * w != width * h:
        raise ValueError(
            f"the attribution {name!r} has {h} x {w} pixels and the image {height} x {width}, which is no enlargement "
            "of it; give the attribution of this image"
        )
    with np.errstate(over="ignore"):
        summed = a.sum(1, keepdims=True) if style in SUMMED else a
    if not np.isfinite(summed).all():
        raise ValueError(f"the attribution {name!r} overflows when its channels are summed; divide it by its maximum")
    return blurred(resized(summed, height, width, style in SUMMED), smooth)


def largest(maps: Iterable[Array]) -> float:
    """v of several maps together; 0 if they are 0 everywhere."""
    magnitudes = np.concatenate([np.abs(m).ravel() for m in maps])
    v = float(np.quantile(magnitudes, LARGEST))
    if v == 0 and magnitudes.any():
        v = float(np.quantile(magnitudes[magnitudes > 0], LARGEST))
    return v


def colour_norm(v: float) -> CenteredNorm:
    return CenteredNorm(0, v if v > 0 else 1.0)


def overlay_colours(cmap: Colormap) -> ListedColormap:
    """A diverging map that is transparent in its middle."""
    colours = cmap(np.linspace(0, 1, 255))
    colours[:, 3] = 0.9 * np.abs(np.linspace(-1, 1, 255)) ** 1.2  # small values don't hide the photograph
    return ListedColormap(colours)


def grey_photograph(photograph: Image) -> Image:
    """Light and grey, so that colours are seen on it."""
    grey = 255 * 0.4 + 0.6 * photograph.mean(2, keepdims=True)
    return np.broadcast_to(np.rint(grey), photograph.shape).astype(np.uint8)


def top_photograph(photograph: Image, m: Array, top: float) -> Image:
    """The photograph at the share `top` of its pixels that has the largest m > 0, ties by position; pale elsewhere."""
    order = np.argsort(-m, axis=None, kind="stable")[: max(1, round(top * m.size))]
    kept = np.zeros(m.size, dtype=bool)
    kept[order] = True
    shown = kept.reshape(m.shape) & (m > 0)
    pale = 255 * 0.7 + 0.3 * grey_photograph(photograph)
    return np.where(shown[..., None], photograph, np.rint(pale)).astype(np.uint8)


def draw_map(
    axis: Axes, m: Array, photograph: Image | None, style: str, v: float, cmap: Colormap, top: float
) -> ScalarMappable | None:
    """Draw m (H, W) in one of SUMMED; what a colour bar is made of, None for "topk".

    photograph: (H, W, 3); None for "heat" alone.
    """
    norm = colour_norm(v)
    if style == "topk" and photograph is not None:
        draw_bare(axis, top_photograph(photograph, m, top))
        return None
    if style != "heat" and photograph is not None:
        draw_bare(axis, grey_photograph(photograph))
    if style == "contour":
        levels = norm.vmax * _LEVELS
        levels = levels[(levels > m.min()) & (levels < m.max())]
        if levels.size:
            axis.contour(m, levels, cmap=cmap, norm=norm, linewidths=1.3)
        return ScalarMappable(norm, cmap)
    colours = overlay_colours(cmap) if style == "overlay" else cmap
    drawn = axis.imshow(m, cmap=colours, norm=norm, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    return drawn


def colours_of(cmap: str | Colormap | None) -> Colormap:
    """A colour map by name or as it is.

    Raises:
        ValueError: matplotlib has none of that name.
    """
    if isinstance(cmap, Colormap):
        return cmap
    name = COLOURS if cmap is None else cmap
    if name not in matplotlib.colormaps:
        raise ValueError(f"cmap must be a name of matplotlib's colour maps, such as {COLOURS!r}, got {cmap!r}")
    return matplotlib.colormaps[name]


def colour_bar(axes: list[Axes], drawn: ScalarMappable, where: str) -> None:
    """The colours of what is drawn on these axes, to their "right" or at the "bottom"."""
    bar = axes[0].figure.colorbar(drawn, ax=axes, location=where, fraction=0.05, pad=0.02, shrink=0.9)
    bar.ax.tick_params(labelsize=7)
    bar.locator = MaxNLocator(5 if where == "right" else 3)
    bar.update_ticks()
