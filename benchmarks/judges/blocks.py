"""Metrics whose features are the blocks of a grid, whatever the size of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.weighting.masking import Features


def grid(shape: tuple[int, ...], cells: int) -> Tensor:
    """The number of each element's block, (1, C, H, W), of images (B, C, H, W): cells x cells from the top left.

    Where the side is no multiple of cells the last blocks are smaller, and may be fewer.
    """
    down, across = (torch.arange(side) // -(-side // cells) for side in shape[2:])
    return (down[:, None] * cells + across).expand(1, *shape[1:])


def by_blocks(kind: type, cells: int) -> type:
    """A metric's class, `PerturbationAUC` or `RemovalCorrelation`, with the blocks of a grid for its features."""

    class ByBlocks(kind):  # type: ignore[misc]
        __doc__ = kind.__doc__

        def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
            """As the metric, with the blocks as its feature mask."""
            self.feature_mask = grid(x.shape, cells)
            return super().checked(x, data)

        def features_of(self, x: Tensor) -> Features:
            """The blocks."""
            return Features((x,), (grid(tuple(x.shape), cells),))

    ByBlocks.__name__ = kind.__name__
    return ByBlocks
