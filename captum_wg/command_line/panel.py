"""The picture of one image: the photograph beside its map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from captum_wg.smoothing import mirrored_gaussian
from captum_wg.visualization import visualize_attributions

STYLES = ("overlay", "heat", "signed", "unsigned")
# Of the Gaussian, as a share of the side.
_SMOOTH = 1 / 100
_CLIP = 0.995


def write_panel(path: Path, pixels: Tensor, attribution: Tensor, style: str, titles: tuple[str, str]) -> None:
    """Write the photograph (3, H, W) in [0, 1] and its map (C, H, W), side by side, as PNG."""
    figure = Figure(figsize=(9, 4.4), layout="constrained", dpi=120)
    left, right = figure.subplots(1, 2)
    left.imshow(pixels.permute(1, 2, 0).numpy())
    _draw(figure, right, pixels, attribution, style)
    for axes, title in zip((left, right), titles, strict=True):
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")


def _draw(figure: Figure, axes: Axes, pixels: Tensor, attribution: Tensor, style: str) -> None:
    if style in ("signed", "unsigned"):
        visualize_attributions(attribution, style == "signed", plt_fig_axis=(figure, axes))
        return
    summed = attribution.sum(0).double()
    down, across = (mirrored_gaussian(side, _SMOOTH * side) for side in summed.shape)
    map_ = (down @ summed @ across.T).numpy()
    most = float(np.quantile(np.abs(map_), _CLIP)) or float(np.abs(map_).max()) or 1.0
    strength = np.clip(np.abs(map_) / most, 0, 1)
    if style == "overlay":
        axes.imshow(pixels.mean(0).numpy() * 0.7 + 0.3, cmap="gray", vmin=0, vmax=1)
    shown = axes.imshow(map_, cmap="RdBu_r", vmin=-most, vmax=most, alpha=strength**0.5 if style == "overlay" else None)
    bar = figure.colorbar(shown, ax=axes, fraction=0.046, pad=0.02)
    if bar.solids is not None:
        bar.solids.set_alpha(1)
    bar.ax.tick_params(labelsize=7)
    axes.set_xlabel(
        f"red speaks for the class, blue against it; channels summed, smoothed by {_SMOOTH:.0%} of the side", fontsize=7
    )
