"""A metric of Quantus that is the area under a curve over levels: what deletion, insertion and overlap AUC share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor

from captum_wg.engine.checks import check_bool, check_positive_int
from captum_wg.weighting.masking import Features, ranks
from quantus_ext.arrays import to_tensor
from quantus_ext.attribution_metric import AttributionMetric

RULES = ("mean", "trapezoid", "steps")

Levels = int | Sequence[float] | Sequence[int] | np.ndarray


class CurveMetric(AttributionMetric):
    """The abstract side of the AUC metrics. A subclass computes `curves_of` a batch and names the axes of their plot.

    Attributes:
        curves: the curves (B, number of levels) of the last call's examples; None before it.
        fractions: their levels as shares of the features.
        axis_labels: what the plot says of the levels, and of the curves.
    """

    rule: str = "mean"
    axis_labels: tuple[str, str]

    def __init__(self, levels: Levels, ranking: str, return_curve: bool = False, **options: Any):
        """Set up the levels; options are those of `AttributionMetric`."""
        self.return_curve = check_bool(return_curve, "return_curve")
        self.levels, self._levels = levels, check_levels(levels, self.rule)
        self.fractions = self._levels / (1 if self._levels.dtype.kind == "f" else self._levels[-1])
        self.curves: np.ndarray | None = None
        if return_curve and options.get("aggregate_func") is None:
            options["aggregate_func"] = partial(np.mean, axis=0)
        options["default_plot_func"] = options.get("default_plot_func") or self.plot_curves
        super().__init__(ranking, **options)

    def custom_preprocess(self, *, x_batch: np.ndarray, **data: Any) -> dict[str, Any]:
        """What the metrics share, and room for the curves."""
        self.curves = np.full((len(x_batch), len(self.fractions)), np.nan)
        return {**super().custom_preprocess(x_batch=x_batch, **data), "curve_batch": self.curves}

    def evaluate_batch(
        self, x_batch: np.ndarray, a_batch: np.ndarray, curve_batch: np.ndarray, row_batch: np.ndarray, **data: Any
    ) -> list[Any]:
        """The scores or curves of one batch, channels first; curve_batch is its part of `curves`.

        Ranked are the groups of a mask, if there is one, or else pixels of an image and elements of other inputs.
        """
        inputs = to_tensor(x_batch)
        mask = data.get("mask_batch", data.get("mask"))
        features = Features((inputs,), None if mask is None else (torch.as_tensor(mask),))
        places = ranks(features.scores((to_tensor(a_batch),), self.ranking))
        curve_batch[:] = curves = self.curves_of(inputs, features, places, int(row_batch[0]), data)
        return list(curves) if self.return_curve else list(areas(curves, self.rule, self._levels).tolist())

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The curves (B, N) of inputs x whose features have these places (B, P) in the ranking.

        first is the number of the first example; data is the rest of the batch.
        """
        raise NotImplementedError

    def plot_curves(self, results: Any = None, ax: Any = None) -> Any:
        """Draw the mean curve of the last call in its band of one standard deviation.

        Args:
            results: other curves (B, number of levels) instead, or a dictionary from methods' names to curves, as
                `quantus.evaluate` gives them with return_curve=True.
            ax: matplotlib axes; None makes a figure.

        Returns:
            the axes.

        Raises:
            ValueError: nothing evaluated yet; results that are not curves over these levels.
        """
        results = self.curves if results is None else results
        if results is None:
            raise ValueError("there are no curves to plot yet: call the metric first, or pass results")
        ax = plt.subplots(figsize=(8, 6))[1] if ax is None else ax
        for name, given in (results if isinstance(results, Mapping) else {None: results}).items():
            curves = np.asarray(given, dtype=float)
            if curves.ndim != 2 or curves.shape[1] != len(self.fractions) or not len(curves):
                raise ValueError(
                    f"results must hold curves of shape (images, {len(self.fractions)}), got {curves.shape}"
                    f"{'' if name is None else f' for {name!r}'}; make the metric with return_curve=True"
                )
            mean, deviation = curves.mean(0), curves.std(0)
            (line,) = ax.plot(self.fractions, mean, label=name)
            ax.fill_between(self.fractions, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, lw=0)
        ax.set(xlabel=self.axis_labels[0], ylabel=self.axis_labels[1])
        if isinstance(results, Mapping):
            ax.legend()
        return ax


def check_levels(levels: Any, rule: str) -> np.ndarray:
    """The levels (N,), as shares of the features (floats) or as numbers of features (integers).

    An int N stands for the shares i / N, i = 1 ... N; rules other than the mean need 0 before them.
    """
    if isinstance(levels, int | np.integer | float | str) or levels is None:
        n = check_positive_int(levels, "levels")
        return np.array([i / n for i in range(0 if rule != "mean" else 1, n + 1)])
    array = np.asarray(levels)
    if (
        array.ndim != 1
        or array.dtype.kind not in "iuf"
        or len(array) < (1 if rule == "mean" else 2)
        or not (np.isfinite(array).all() and (np.diff(array) > 0).all())
        or array[0] < 0
        or (array.dtype.kind == "f" and array[-1] > 1)
    ):
        raise ValueError(
            "levels must be a number of levels, or an ascending list of shares of the features (floats from 0 to 1) or "
            f"of numbers of features (integers from 0){', at least two of them' if rule != 'mean' else ''}; "
            f"got {levels!r}"
        )
    return array


def areas(curves: np.ndarray, rule: str, levels: np.ndarray) -> np.ndarray:
    """The area (B,) under the curves (B, N), over the range of their levels as a unit.

    "mean" is the mean of the points; "trapezoid" goes by the distances of the levels, "steps" takes all for equal.
    """
    if rule == "mean":
        return np.asarray(curves.mean(1))
    middles, widths = (curves[:, :-1] + curves[:, 1:]) / 2, np.diff(levels)
    even = rule == "steps" or np.allclose(widths, widths[0])
    return np.asarray(middles.mean(1) if even else middles @ (widths / widths.sum()))
