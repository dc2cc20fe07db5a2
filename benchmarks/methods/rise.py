"""RISE: how probable the class is where a pixel is seen, averaged over random masks.

With N masks M_i in [0, 1]^(H, W), each pixel of which is seen with probability p,

    S = 1 / (N p) sum_i p_c(x * M_i) M_i

A mask is a grid of s x s cells, each seen (1) with probability p or not (0), enlarged bilinearly to (s + 1) cells of
ceil(H / s) x ceil(W / s) pixels and cropped to H x W at a random place within the first cell.

Source: Petsiuk, Das, Saenko, "RISE: Randomized Input Sampling for Explanation of Black-box Models" (2018), section 3.
Departure: there a cell is floor(H / s) pixels, which leaves too few to crop from where s does not divide H.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.outputs import probability


@torch.no_grad()
def rise(
    model: nn.Module,
    x: Tensor,
    target: int,
    *,
    n_masks: int = 4000,
    cells: int = 7,
    seen: float = 0.5,
    seed: int = 0,
    rows: int = 64,
) -> Tensor:
    """The map S (1, 1, H, W) of an image (1, C, H, W); it takes n_masks forwards.

    Args:
        cells, seen: s and p. What is hidden becomes 0, the mean colour of normalised images.
        seed: of the masks, which are the same for all images of a size.
        rows: masked images of one forward; bounds memory.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = x.shape[2:]
    cell = -(-height // cells), -(-width // cells)
    grids = (torch.rand(n_masks, 1, cells, cells, generator=generator) < seen).float()
    down, right = (torch.randint(side, (n_masks,), generator=generator).tolist() for side in cell)
    size = tuple((cells + 1) * side for side in cell)
    total = torch.zeros(1, 1, height, width, dtype=torch.float64, device=x.device)
    for start in range(0, n_masks, rows):
        enlarged = F.interpolate(grids[start : start + rows].to(x), size=size, mode="bilinear", align_corners=False)
        masks = torch.stack(
            [
                mask[:, i : i + height, j : j + width]
                for mask, i, j in zip(enlarged, down[start : start + rows], right[start : start + rows], strict=True)
            ]
        )
        total += (probability(model, x * masks, target).view(-1, 1, 1, 1).double() * masks).sum(0, keepdim=True)
    return (total / (n_masks * seen)).to(x.dtype)
