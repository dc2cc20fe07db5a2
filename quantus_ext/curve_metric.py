"""A metric of Quantus that is the area under a curve over levels: what deletion, insertion and overlap AUC share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from torch import Tensor

from captum_wg.engine.checks import check_bool
from captum_wg.weighting.masking import Features, ranks
from quantus_ext.arrays import to_tensor
from quantus_ext.attribution_metric import AttributionMetric
from quantus_ext.levels import Levels, areas, check_levels


class CurveMetric(AttributionMetric):
    """The abstract side of the AUC metrics. A subclass computes `curves_of` a batch and names the axes of their plot.

    Attributes:
        curves: the curves (B, number of levels) of the last call's examples; None before it.
        fractions: their levels as shares of the features.
    """

    rule: str = "mean"

    def __init__(
        self,
        levels: Levels,
        ranking: str,
        abs: bool,
        normalise: bool,
        normalise_func: Callable[..., np.ndarray] | None,
        normalise_func_kwargs: dict[str, Any] | None,
        return_curve: bool,
        return_aggregate: bool,
        aggregate_func: Callable[..., Any] | None,
        default_plot_func: Callable[..., Any] | None,
        disable_warnings: bool,
        display_progressbar: bool,
        **kwargs: Any,
    ):
        """Set up what the metrics share, and Quantus' side of it."""
        self.return_curve = check_bool(return_curve, "return_curve")
        self.levels, self._levels = levels, check_levels(levels, self.rule)
        self.fractions = self._levels / (1 if self._levels.dtype.kind == "f" else self._levels[-1])
        self.curves: np.ndarray | None = None
        aggregate_func = aggregate_func or (partial(np.mean, axis=0) if return_curve else np.mean)
        default_plot_func = default_plot_func or self.plot_curves
        # fmt: off
        super().__init__(
            ranking, abs, normalise, normalise_func, normalise_func_kwargs, return_aggregate, aggregate_func,
            default_plot_func, disable_warnings, display_progressbar, **kwargs,
        )
        # fmt: on

    def custom_preprocess(self, *, x_batch: np.ndarray, **data: Any) -> dict[str, Any]:
        """What the metrics share, and room for the curves."""
        self.curves = np.full((len(x_batch), len(self.fractions)), np.nan)
        return {**super().custom_preprocess(x_batch=x_batch, **data), "curve_batch": self.curves}

    def evaluate_batch(
        self, x_batch: np.ndarray, a_batch: np.ndarray, curve_batch: np.ndarray, row_batch: np.ndarray, **data: Any
    ) -> list[Any]:
        """The scores or curves of one batch, channels first; curve_batch is its part of `curves`."""
        inputs = to_tensor(x_batch)
        features = self.features_of(inputs, data)
        places = ranks(features.scores((to_tensor(a_batch),), self.ranking))
        curve_batch[:] = curves = self.curves_of(inputs, features, places, int(row_batch[0]), data)
        return list(curves) if self.return_curve else list(areas(curves, self.rule, self._levels).tolist())

    def features_of(self, x: Tensor, data: dict[str, Any]) -> Features:
        """What is ranked: pixels of an image, elements of other inputs."""
        return Features((x,))

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The curves (B, N) of inputs x whose features have these places (B, P) in the ranking.

        first is the number of the first example; data is the rest of the batch.
        """
        raise NotImplementedError

    @property
    def axis_labels(self) -> tuple[str, str]:
        """What the plot says of the levels, and of the curves."""
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
        if results is None and self.curves is None:
            raise ValueError("there are no curves to plot yet: call the metric first, or pass results")
        given = results if isinstance(results, Mapping) else {None: self.curves if results is None else results}
        named = {name: np.asarray(curves, dtype=float) for name, curves in given.items()}
        for name, curves in named.items():
            if curves.ndim != 2 or curves.shape[1] != len(self.fractions) or not len(curves):
                raise ValueError(
                    f"results must hold curves of shape (images, {len(self.fractions)}), got {curves.shape}"
                    f"{'' if name is None else f' for {name!r}'}; make the metric with return_curve=True"
                )
        if ax is None:
            _, ax = plt.subplots(figsize=(8, 6))
        for name, curves in named.items():
            mean, deviation = curves.mean(0), curves.std(0)
            (line,) = ax.plot(self.fractions, mean, label=name)
            ax.fill_between(self.fractions, mean - deviation, mean + deviation, color=line.get_color(), alpha=0.2, lw=0)
        xlabel, ylabel = self.axis_labels
        ax.set(xlabel=xlabel, ylabel=ylabel)
        if isinstance(results, Mapping):
            ax.legend()
        return ax
