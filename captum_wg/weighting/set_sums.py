"""Sums of a map over sets of features, and how well they go with what the output loses with these sets.

An additive attribution claims that the two are equal. Shapes: B examples, P features, S sets. Needs scipy.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# What sums in float64 may differ by, though equal, as a share of the largest.
_DECIMALS = 9


def set_sums(scores: Tensor, sets: Tensor) -> np.ndarray:
    """The sums of scores (B, P) over each set of bool (S, P), as shares of the largest: (B, S), float64.

    Rounded, so that sums which are equal but for the order of summation are equal.
    """
    members = sets.to(scores).T
    largest = (scores.abs() @ members).amax(1, keepdim=True)
    shares: np.ndarray = (scores @ members / largest.where(largest > 0, torch.ones_like(largest))).numpy()
    return shares.round(_DECIMALS)


def correlations(a: np.ndarray, b: np.ndarray, ranked: bool) -> np.ndarray:
    """Pearson's correlation over the last dimension, or Spearman's (of ranks; ties have their mean rank).

    0 where either is constant, as it then tells nothing of the other.
    """
    if ranked:
        from scipy.stats import rankdata  # late: the attribution methods do without scipy

        a, b = rankdata(a, axis=-1), rankdata(b, axis=-1)
    a, b = (v - v.mean(-1, keepdims=True) for v in (a, b))
    norm = np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    result: np.ndarray = np.where(norm > 0, (a * b).sum(-1) / np.where(norm > 0, norm, 1), 0.0)
    return result
