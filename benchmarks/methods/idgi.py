"""IDGI: each step of a path gives its rise of the output to the pixels by the square of their gradients.

On the straight path x_j = x' + j / n (x - x') from the baseline x' to the image, with p = p_c the class' probability
and g_j its gradient at x_j,

    a = sum_{j=0}^{n-1} (p(x_{j+1}) - p(x_j)) g_j^2 / |g_j|^2

so that the map sums to p(x) - p(x') exactly wherever no gradient vanishes; a step whose gradient does gives nothing.

Source: Yang, Wang, Bilgic, "IDGI: A Framework to Eliminate Explanation Noise from Integrated Gradients" (2023),
algorithm 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.methods.outputs import probability_and_gradient
from captum_wg.integrals.walk import point


def idgi(
    model: nn.Module, x: Tensor, target: int, baseline: Tensor | float = 0.0, *, n_steps: int = 128, rows: int = 16
) -> Tensor:
    """The map (1, C, H, W) of an image (1, C, H, W); it takes n_steps + 1 gradients, the last for its output alone.

    Args:
        baseline: x', (1, C, H, W) or a number.
        rows: points of one pass; bounds memory.
    """
    start = torch.as_tensor(baseline, dtype=x.dtype, device=x.device).expand_as(x)
    fractions = torch.arange(n_steps + 1, dtype=x.dtype, device=x.device).view(-1, 1, 1, 1) / n_steps
    total = torch.zeros_like(x, dtype=torch.float64)
    last: tuple[Tensor, Tensor] | None = None
    for part in fractions.split(rows):
        p, gradients = probability_and_gradient(model, point(start, x - start, part), target)
        if last is not None:
            p, gradients = torch.cat([last[0], p]), torch.cat([last[1], gradients])
        total += _steps(p.double(), gradients[:-1].double())
        last = p[-1:], gradients[-1:]
    return total.to(x.dtype)


def _steps(p: Tensor, gradients: Tensor) -> Tensor:
    """The sum over the steps between outputs p (S + 1,), with the gradients (S, C, H, W) at their beginnings."""
    squares = gradients.square()
    shares = squares / squares.sum((1, 2, 3), keepdim=True).clamp(min=torch.finfo(squares.dtype).tiny)
    return (p.diff().view(-1, 1, 1, 1) * shares).sum(0, keepdim=True)
