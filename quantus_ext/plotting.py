"""Mean curves with their band."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np


def plot_curves(results: Any, fractions: np.ndarray, xlabel: str, ylabel: str, ax: Any = None) -> Any:
    """Draw the mean over images of each set of curves, in a band of one standard deviation to both sides.

    Args:
        results: curves (images, levels), or a dictionary from a method's name to its curves.
        fractions: the levels (levels,), from 0 to 1.
        xlabel: what the levels are.
        ylabel: what the curves are.
        ax: matplotlib axes; None makes a figure.

    Returns:
        the axes.

    Raises:
        ValueError: results that are not curves over these levels.
    """
    named = dict(results) if isinstance(results, Mapping) else {None: results}
    checked = {}
    for name, value in named.items():
        curves = np.asarray(value, dtype=float)
        if curves.ndim != 2 or curves.shape[1] != len(fractions) or not len(curves):
            raise ValueError(
                f"results must hold curves of shape (images, {len(fractions)}), got {curves.shape}"
                f"{'' if name is None else f' for {name!r}'}; make the metric with return_curve=True"
            )
        checked[name] = curves
    if ax is None:
        _, ax = plt.subplots(figsize=(8, 6))
    for name, curves in checked.items():
        mean, deviation = curves.mean(0), curves.std(0)
        (line,) = ax.plot(fractions, mean, label=name)
        ax.fill_between(fractions, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, lw=0)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    if isinstance(results, Mapping):
        ax.legend()
    return ax
