"""BlurIG: integrated gradients on the path that brings a blurred image into focus.

With G_s the blur by a Gaussian of s pixels, the path is c(t) = G_{(1 - t) s_max} x: from the image at its coarsest to
the image itself, with no detail on the way that is not in it. No baseline has to be chosen.

Source: Xu, Venugopalan, Sundararajan, "Attribution in Scale and Space" (2020). There s_max is 50 pixels of some 224 to
299, in 100 steps of equal size, as here. Departures: the differences of the path are its own, in place of derivatives
by small steps, and gradients are taken in the middle of a step; borders are mirrored, so that a blurred image keeps its
mean, where the authors' library pads with 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.methods.path_integral import path_integral
from captum_wg.smoothing import mirrored_gaussian


def blur_ig(
    model: nn.Module, x: Tensor, target: int, *, n_steps: int = 100, largest: float = 0.2, rows: int = 16
) -> Tensor:
    """The map (1, C, H, W) of an image (1, C, H, W); it takes n_steps gradients.

    Args:
        largest: s_max as a share of the longer side.
        rows: points of one pass; bounds memory.
    """
    sigma = largest * max(x.shape[2:])

    def path(t: Tensor) -> Tensor:
        down, across = (_blurs(side, ((1 - t) * sigma).tolist()).to(x) for side in x.shape[2:])
        return torch.einsum("sij,cjk,skl->scil", down, x[0], across)

    return path_integral(model, path, target, n_steps=n_steps, rows=rows)


def _blurs(side: int, sigmas: list[float]) -> Tensor:
    """One symmetric matrix (side, side) for each sigma; the identity for 0."""
    return torch.stack([mirrored_gaussian(side, s) if s > 0 else torch.eye(side, dtype=torch.float64) for s in sigmas])
