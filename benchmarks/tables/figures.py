"""Figures of the reports: maps of the same images by several methods, and figures as bytes that are the same again."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from captum_wg import visualization


def maps(
    images: Sequence[Tensor | np.ndarray],
    columns: Mapping[str, Sequence[Tensor | np.ndarray]],
    labels: Sequence[str] | None = None,
) -> Figure:
    """Images down, methods across: an image (3, H, W) in [0, 1], then its map (C, H, W) by each method.

    They may differ in size, as models' inputs do: all are shown at that of the largest.
    """
    if not len(images):
        return Figure(figsize=(4, 1))
    size = max(tuple(image.shape[1:]) for image in images)

    def stacked(column: Sequence[Tensor | np.ndarray]) -> Tensor:
        return torch.cat([nn.functional.interpolate(torch.as_tensor(one)[None].float(), size) for one in column])

    titled = {re.sub(r"-|(?=\()", "\n", name): stacked(column) for name, column in columns.items()}
    return visualization.grid(stacked(images), titled, labels=labels)[0]


def png(figure: Figure) -> bytes:
    """The figure as a PNG file that depends on it alone, and not on the version of matplotlib."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()
