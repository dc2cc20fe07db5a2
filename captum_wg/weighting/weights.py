"""From fitness to weights: powers, equal norms, and the choice of the fittest. Shapes: B examples, K baselines."""

from __future__ import annotations

import numbers

import torch
from torch import Tensor


def inverse_power(distances: Tensor, power: float = 1.0) -> Tensor:
    """Weights (B, K), float64, proportional to D**-power and summing to 1 (Duc et al. 2025, section 4.1, App. B.4)."""
    # By the best baseline first: a large power would underflow.
    ratio = distances.double().amin(1, keepdim=True) / distances.double()
    raised = ratio**power
    return raised / raised.sum(1, keepdim=True)


def equal_weights(n_examples: int, n_baselines: int) -> Tensor:
    """1 / K each, (B, K), float64."""
    return torch.full((n_examples, n_baselines), 1 / n_baselines, dtype=torch.float64)


def of_normalised_maps(weights: Tensor, norms: Tensor) -> Tensor:
    """The weights (B, K) of maps that are proportional to w_k / ||map_k||_1, and sum to 1.

    The average by them is that of the maps divided by their norms (B, K) up to one factor per example, which makes it
    complete. A map that is 0 everywhere gets none; if all are, the weights stay as they are.
    """
    norms = norms.to(weights)
    shares = torch.where(norms > 0, weights / norms.where(norms > 0, torch.ones_like(norms)), 0.0)
    total = shares.sum(1, keepdim=True)
    return torch.where(total > 0, shares / total.where(total > 0, torch.ones_like(total)), weights)


def smallest(distances: Tensor, n_kept: int) -> Tensor:
    """The numbers (B, n_kept) of the baselines with the smallest D_alpha, in ascending order; ties go by position."""
    best = distances.argsort(dim=1, stable=True)[:, :n_kept]
    return best.sort(dim=1).values


def only(weights: Tensor, chosen: Tensor) -> Tensor:
    """weights (B, K) of the chosen (B, M) alone, summing to 1; 0 for the others."""
    left = torch.zeros_like(weights).scatter_(1, chosen, weights.gather(1, chosen))
    return left / left.sum(1, keepdim=True)


def check_keep(keep: object, n_baselines: int) -> int:
    """How many baselines `keep` says: an int counts them, a float in (0, 1] is a share, at least one; None: all."""
    if keep is None:
        return n_baselines
    if isinstance(keep, numbers.Real) and not isinstance(keep, numbers.Integral) and 0 < float(keep) <= 1:
        return max(1, round(float(keep) * n_baselines))
    if isinstance(keep, numbers.Integral) and not isinstance(keep, bool) and 1 <= int(keep) <= n_baselines:
        return int(keep)
    raise ValueError(
        f"keep must be a whole number from 1 to the number of baselines ({n_baselines}), or a share, a float in (0, "
        f"1]; got {keep!r}"
    )
