"""What published methods explain: the probability of a class, where this project's own explain the network's output."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def probability(model: nn.Module, x: Tensor, target: int) -> Tensor:
    """p_c(x), the softmax over a classifier's outputs (N, classes) at class `target`: (N,)."""
    return model(x).softmax(1)[:, target]


def probability_and_gradient(model: nn.Module, x: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """p_c(x) (N,), and its gradient at each of the rows (N, C, H, W)."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        p = probability(model, x, target)
        (gradient,) = torch.autograd.grad(p.sum(), x)
    return p.detach(), gradient
