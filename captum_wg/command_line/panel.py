"""The picture of one image: the photograph beside its map."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from captum_wg.visualization import STYLES, show

__all__ = ["STYLES", "write_panel"]


def write_panel(path: Path, pixels: Tensor, attribution: Tensor, style: str, titles: tuple[str, str]) -> None:
    """Write the photograph (3, H, W) in [0, 1] and its map (C, H, W), side by side, as PNG."""
    figure = Figure(figsize=(9, 4.6), layout="constrained", dpi=120)
    photograph, map_ = figure.subplots(1, 2)
    photograph.imshow(pixels.permute(1, 2, 0).numpy())
    photograph.set(xticks=[], yticks=[])
    show(pixels, attribution, style=style, ax=map_)
    for axes, title in zip((photograph, map_), titles, strict=True):
        axes.set_title(title, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, bbox_inches="tight")
