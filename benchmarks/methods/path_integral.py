"""Integrated gradients along a path that need not be straight.

With a path c from c(0) to c(1) = x, t_j = j / n, p = p_c the class' probability and g its gradient,

    a = sum_{j=0}^{n-1} g(c((t_j + t_{j+1}) / 2)) (c(t_{j+1}) - c(t_j))

so that the map sums to p(x) - p(c(0)) up to what n steps miss of the integral.

Source: Sundararajan, Taly, Yan, "Axiomatic Attribution for Deep Networks" (2017), section 5 (path methods).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.methods.outputs import probability_and_gradient

# Shares of the way (S,) -> points of the path (S, C, H, W).
Path = Callable[[Tensor], Tensor]


def path_integral(model: nn.Module, path: Path, target: int, *, n_steps: int, rows: int = 16) -> Tensor:
    """The map (1, C, H, W); it takes n_steps gradients.

    Args:
        path: c.
        rows: points of one pass; bounds memory.
    """
    total: Tensor | float = 0.0
    for steps in torch.arange(n_steps, dtype=torch.float64).split(rows):
        points = path((steps + 0.5) / n_steps)
        _, gradients = probability_and_gradient(model, points, target)
        way = path((steps + 1) / n_steps).double() - path(steps / n_steps).double()
        total = total + (gradients.double() * way).sum(0, keepdim=True)
    return total.to(points.dtype)  # type: ignore[union-attr]
