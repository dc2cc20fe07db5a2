"""A metric of Quantus that is the area under a curve over levels: what deletion, insertion and overlap AUC share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import matplotlib.pyplot as plt
import numpy as np
from quantus.helpers import warn
from quantus.helpers.enums import ModelType
from quantus.metrics.base import Metric
from torch import Tensor

from captum_wg.engine.checks import check_bool, check_choice
from captum_wg.weighting.masking import RANKINGS, Features, ranks
from quantus_ext.arrays import to_tensor
from quantus_ext.call_arguments import call_arguments
from quantus_ext.levels import Levels, areas, check_levels

# Quantus does not type it.
_refuse_unknown: Callable[[dict[str, Any]], object] = warn.check_kwargs


class CurveMetric(Metric[Any]):
    """The abstract side of the AUC metrics. A subclass says what it needs of a call (`checked`), computes `curves_of` a
    batch, and names the axes of their plot.

    Attributes:
        curves: the curves (B, number of levels) of the last call's examples; None before it.
        fractions: their levels as shares of the features.
    """

    model_applicability: ClassVar = {ModelType.TORCH, ModelType.TF}
    sensitive_params: ClassVar[str]
    data_domain: ClassVar[str] = ""
    needs_masks: ClassVar[bool] = False
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
        switches = {
            "abs": abs,
            "normalise": normalise,
            "return_curve": return_curve,
            "return_aggregate": return_aggregate,
        }
        switches |= {"disable_warnings": disable_warnings, "display_progressbar": display_progressbar}
        for name, value in switches.items():
            check_bool(value, name)
        self.levels, self._levels = levels, check_levels(levels, self.rule)
        self.ranking = check_choice(ranking, "ranking", RANKINGS)
        self.return_curve = return_curve
        self.fractions = self._levels / (1 if self._levels.dtype.kind == "f" else self._levels[-1])
        self.curves: np.ndarray | None = None
        aggregate_func = aggregate_func or (partial(np.mean, axis=0) if return_curve else np.mean)
        default_plot_func = default_plot_func or self.plot_curves
        # fmt: off
        super().__init__(
            abs, normalise, normalise_func, normalise_func_kwargs, return_aggregate, aggregate_func, default_plot_func,
            disable_warnings, display_progressbar, **kwargs,
        )
        # fmt: on
        if not self.disable_warnings:
            warn.warn_parameterisation(
                metric_name=type(self).__name__,
                sensitive_params=self.sensitive_params,
                data_domain_applicability=self.data_domain,
                citation="Duc et al. 'Weighted Average Gradients', 2025",
            )

    def __call__(
        self,
        model: Any,
        x_batch: Any,
        y_batch: Any,
        a_batch: Any = None,
        s_batch: Any = None,
        channel_first: bool | None = None,
        explain_func: Callable[..., Any] | None = None,
        explain_func_kwargs: Mapping[str, Any] | None = None,
        model_predict_kwargs: dict[str, Any] | None = None,
        softmax: bool | None = None,
        device: Any = None,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> Any:
        """Evaluate attributions. Arrays and torch Tensors are accepted alike; nothing of the caller's is changed.

        Args:
            model: a torch or Keras model in evaluation mode. `OverlapAUC` uses it to make attributions only: None
                with a_batch.
            x_batch: inputs (B, ...).
            y_batch: class numbers (B,). `OverlapAUC` hands them to explain_func only: None with a_batch.
            a_batch: attributions; without them explain_func makes them, batch_size examples at a time.
            s_batch: masks of the objects (B, H, W), (B, 1, H, W) or (B, H, W, 1), for `OverlapAUC` alone.
            channel_first: where inputs have their channels; None infers it from the shape, and takes them to come
                first where the shape is ambiguous and the model is torch's. False moves the channels of inputs and
                attributions to the front for a torch model.
            explain_func: a function with the signature of `quantus.explain`.
            explain_func_kwargs: its keyword arguments.
            model_predict_kwargs: keyword arguments of the model's call.
            softmax: Quantus' word, read where the metric's output is "auto": None and True leave it at that (so a
                model that ends in a softmax is not given a second one); False takes the model's output itself, or,
                where the last module of a torch model is a Softmax, what that is given. Unused by `OverlapAUC`.
            device: the device for inputs; None means the model's.
            batch_size: how many examples are explained together; forwards have a size of their own.

        Returns:
            one float per example, or one array with return_curve.

        Raises:
            ValueError: shapes that don't fit; NaN or infinite values; classes out of range; attributions that rank
                nothing; no mask, an empty one, or one that is not binary.
        """
        _refuse_unknown(kwargs)
        arguments = call_arguments(
            self,
            model=model,
            x_batch=x_batch,
            y_batch=y_batch,
            a_batch=a_batch,
            s_batch=s_batch,
            channel_first=channel_first,
            explain_func=explain_func,
            explain_func_kwargs=explain_func_kwargs,
            device=device,
            batch_size=batch_size,
        )
        return super().__call__(**arguments, model_predict_kwargs=model_predict_kwargs, softmax=softmax)

    def custom_preprocess(self, *, x_batch: np.ndarray, custom_batch: Any, **data: Any) -> dict[str, Any]:
        """The attributions in their place, room for the curves, and what `curves_of` needs."""
        self.a_axes = range(x_batch.ndim - 1)
        self.curves = np.full((len(x_batch), len(self.fractions)), np.nan)
        return {
            **self.checked(x_batch, data),
            "a_batch": custom_batch,
            "curve_batch": self.curves,
            "row_batch": np.arange(len(x_batch)),
            "custom_batch": None,
        }

    def evaluate_batch(
        self, x_batch: np.ndarray, a_batch: np.ndarray, curve_batch: np.ndarray, row_batch: np.ndarray, **data: Any
    ) -> list[Any]:
        """The scores or curves of one batch, channels first; curve_batch is its part of `curves`."""
        inputs = to_tensor(x_batch)
        features = self.features_of(inputs, data)
        places = ranks(features.scores((to_tensor(a_batch),), self.ranking))
        curve_batch[:] = curves = self.curves_of(inputs, features, places, int(row_batch[0]), data)
        return list(curves) if self.return_curve else list(areas(curves, self.rule, self._levels).tolist())

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """What `curves_of` needs of a call, checked: what is named ..._batch is cut with the examples."""
        raise NotImplementedError

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
