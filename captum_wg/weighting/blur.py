"""Images blurred, as torchvision blurs them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from captum_wg.engine.tensors import at_least_float32


def blurred(x: Tensor, sigma: float, reach: float) -> Tensor:
    """Images (B, C, H, W) blurred by a Gaussian of sigma pixels, cut `reach` sigma, at most a side less 1, from its
    middle; mirrored at the border, which itself stands there once (d c b | a b c d), as torchvision's gaussian_blur."""
    radii = [min(math.ceil(reach * sigma), side - 1) for side in x.shape[2:]]
    vertical, horizontal = (_gaussian(radius, sigma, x) for radius in radii)
    kernel = torch.mm(vertical[:, None], horizontal[None, :]).expand(x.shape[1], 1, -1, -1)
    # Not every PyTorch mirrors half precision.
    padded = functional.pad(at_least_float32(x), (radii[1], radii[1], radii[0], radii[0]), mode="reflect")
    return functional.conv2d(padded.to(x.dtype), kernel, groups=x.shape[1])


def _gaussian(radius: int, sigma: float, like: Tensor) -> Tensor:
    """2 radius + 1 weights, which sum to 1."""
    offsets = torch.linspace(-radius, radius, 2 * radius + 1, dtype=like.dtype, device=like.device)
    density = torch.exp(-0.5 * (offsets / sigma).pow(2))
    return density / density.sum()
