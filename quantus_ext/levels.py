"""The levels of a curve, and the area under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from captum_wg.engine.checks import check_positive_int

RISE = "RISE (Petsiuk et al. 2018, causal metric)"
RULES = ("mean", "trapezoid", "steps")

Levels = int | Sequence[float] | Sequence[int]


def check_levels(levels: Any, rule: str) -> np.ndarray:
    """The levels (N,), as shares of the features (floats) or as numbers of features (integers).

    An int N stands for the shares i / N, i = 1 ... N; rules other than the mean need 0 before them.
    """
    if isinstance(levels, int | np.integer | float | str) or levels is None:
        n = check_positive_int(levels, "levels")
        return np.array([i / n for i in range(0 if rule != "mean" else 1, n + 1)])
    array = np.asarray(levels)
    shares = array.dtype.kind == "f"
    if (
        array.ndim != 1
        or array.dtype.kind not in "iuf"
        or len(array) < (1 if rule == "mean" else 2)
        or not (np.diff(array) > 0).all()
        or array[0] < 0
        or (shares and array[-1] > 1)
    ):
        raise ValueError(
            "levels must be a number of levels, or an ascending list of shares of the features (floats from 0 to 1) or "
            f"of numbers of features (integers from 0){', at least two of them' if rule != 'mean' else ''}; "
            f"got {levels!r}"
        )
    return array


def steps(features: int, step: int) -> list[int]:
    """0, step, 2 step, ... features: the last step may be short."""
    total = check_positive_int(features, "pixels")
    return [*range(0, total, check_positive_int(step, "step")), total]


def counts_at(levels: np.ndarray, features: np.ndarray) -> np.ndarray:
    """How many of their P features (B,) the examples have at each level, (B, N)."""
    if levels.dtype.kind == "f":
        return np.array([[round(k * p) for k in levels.tolist()] for p in features.tolist()])
    if levels[-1] > features.min():
        raise ValueError(f"levels holds {levels[-1]} features, but an example has {features.min()}; end at that")
    return np.broadcast_to(levels, (len(features), len(levels)))


def areas(curves: np.ndarray, rule: str, levels: np.ndarray) -> np.ndarray:
    """The area (B,) under the curves (B, N), over the range of their levels as a unit.

    "mean" is the mean of the points; "trapezoid" goes by the distances of the levels, "steps" takes all for equal.
    """
    if rule == "mean":
        result: np.ndarray = curves.mean(1)
        return result
    middles, widths = (curves[:, :-1] + curves[:, 1:]) / 2, np.diff(levels)
    if rule == "steps" or np.allclose(widths, widths[0]):
        return np.asarray(middles.mean(1))
    return np.asarray(middles @ (widths / widths.sum()))
