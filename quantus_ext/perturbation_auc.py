"""What deletion and insertion AUC share: everything but which features are removed, and the direction of the score."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from quantus.helpers import warn
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType
from quantus.helpers.model.model_interface import ModelInterface
from quantus.metrics.base import Metric

from captum_wg.weighting.masking import RANKINGS
from quantus_ext.arrays import one_of, positive_integer
from quantus_ext.call_arguments import call_arguments, feature_ranks
from quantus_ext.perturbation_curve import (
    RULES,
    areas,
    check_classes,
    check_removal,
    fractions,
    in_own_dtype,
    neutral_like,
    perturbation_curves,
)
from quantus_ext.plotting import plot_curves


class PerturbationAUC(Metric[Any]):
    """The abstract side of `DeletionAUC` and `InsertionAUC`, which say what it computes.

    Attributes:
        curves: the curves (B, number of levels) of the last call's examples; None before it.
        fractions: their levels, from 0 (rule "trapezoid") or 1/N to 1.
    """

    data_applicability: ClassVar = {DataType.IMAGE, DataType.TIMESERIES, DataType.TABULAR}
    model_applicability: ClassVar = {ModelType.TORCH, ModelType.TF}
    evaluation_category = EvaluationCategory.FAITHFULNESS

    insert: ClassVar[bool]

    def __init__(
        self,
        levels: int = 100,
        rule: str = "mean",
        removal: Any = "corners",
        ranking: str = "signed",
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_curve: bool = False,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] | None = None,
        default_plot_func: Callable[..., Any] | None = None,
        internal_batch_size: int | None = None,
        disable_warnings: bool = False,
        display_progressbar: bool = False,
        **kwargs: Any,
    ):
        """Set up the metric. The score is the mean probability of the class over all levels: lower is better when
        features are deleted, higher when they are inserted.

        Args:
            levels: N, the number of levels.
            rule: "mean" of the levels 1/N ... 1, as published, or "trapezoid", which adds the level 0.
            removal: what replaces a removed feature: "corners" (default), per channel the mean of the image's four
                corner squares, for inputs other than images 0; "black", the example's smallest value, as Quantus
                means it; "mean" of the channel; "blur"; a number; an array or Tensor that broadcasts to the inputs
                (channels first), also one value for each example; a callable that takes the inputs (a Tensor with
                channels first) and returns one of these.
            ranking: "signed" ranks by the sum of the attribution over channels, "absolute" by the sum of its absolute
                values. Match it to what the explanation means: see `WeightedGradients`' argument of that name. Of maps
                whose channels were summed before (the default of Quantus and of `explainer`), "absolute" sees only the
                absolute value of that sum; keep the channels with reduce_axes=().
            abs: take absolute values of the attributions first, as in Quantus' metrics.
            normalise: apply normalise_func to the attributions first. Its default does not change a ranking.
            normalise_func: Quantus' normalise_by_max by default.
            normalise_func_kwargs: its keyword arguments.
            return_curve: return for each example its curve, an array (levels,) or (levels + 1,), not the area.
            return_aggregate: return the aggregate over the examples of a call alone.
            aggregate_func: makes it; by default the mean, of curves the mean curve.
            default_plot_func: what `plot` calls; by default `plot_curves`.
            internal_batch_size: rows per forward, whatever the call's batch_size is. None: by the size of an input,
                32 for 3x32x32 on a CPU; more are slower there.
            disable_warnings: no warnings.
            display_progressbar: show a progress bar over batches, and one over the masked inputs of each.

        Raises:
            ValueError: levels or internal_batch_size below 1; unknown rule, removal or ranking.
        """
        self.levels = positive_integer(levels, "levels")
        self.rule = one_of(rule, RULES, "rule")
        self.removal = check_removal(removal)
        self.ranking = one_of(ranking, RANKINGS, "ranking")
        self.return_curve = return_curve
        self.internal_batch_size = (
            None if internal_batch_size is None else positive_integer(internal_batch_size, "internal_batch_size")
        )
        self.fractions = fractions(self.levels, self.rule)
        self.curves: np.ndarray | None = None
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func or (partial(np.mean, axis=0) if return_curve else np.mean),
            default_plot_func=default_plot_func or self.plot_curves,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
            **kwargs,
        )
        if not self.disable_warnings:
            warn.warn_parameterisation(
                metric_name=self.__class__.__name__,
                sensitive_params="what replaces a removed feature 'removal' and the order of the features 'ranking'",
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
        softmax: bool | None = True,
        device: Any = None,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> Any:
        """Evaluate attributions. Arrays and torch Tensors are accepted alike; nothing of the caller's is changed.

        Args:
            model: a torch or Keras model in evaluation mode.
            x_batch: inputs (B, ...).
            y_batch: class numbers (B,).
            a_batch: attributions; without them explain_func makes them, batch_size examples at a time.
            s_batch: unused.
            channel_first: where inputs have their channels; None infers it from the shape, and takes them to come
                first where the shape is ambiguous and the model is torch's. False moves the channels of inputs and
                attributions to the front for a torch model.
            explain_func: a function with the signature of `quantus.explain`.
            explain_func_kwargs: its keyword arguments.
            model_predict_kwargs: keyword arguments of the model's call.
            softmax: whether f is the softmax of the model's output (default) or the output itself.
            device: the device for inputs; None means the model's.
            batch_size: how many examples are explained together; forwards have a size of their own.

        Returns:
            one float per example, or one array with return_curve.

        Raises:
            ValueError: shapes that don't fit; NaN or infinite values; classes out of range; attributions that
                rank nothing.
        """
        warn.check_kwargs(kwargs)
        arguments = call_arguments(
            self,
            model,
            x_batch,
            y_batch,
            a_batch,
            s_batch,
            channel_first,
            explain_func,
            explain_func_kwargs,
            device,
            batch_size,
        )
        return super().__call__(**arguments, model_predict_kwargs=model_predict_kwargs, softmax=softmax)

    def custom_preprocess(  # type: ignore[override]
        self,
        *,
        model: ModelInterface | None,
        x_batch: np.ndarray,
        y_batch: np.ndarray | None,
        custom_batch: np.ndarray,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Check the classes, and put the attributions and the neutral values in their place."""
        if model is None:
            raise ValueError(f"{type(self).__name__} needs a model, got None")
        examples = len(x_batch)
        self.a_axes = range(x_batch.ndim - 1)
        self.curves = np.full((examples, len(self.fractions)), np.nan)
        return {
            "model": in_own_dtype(model),
            "y_batch": check_classes(y_batch, examples),
            "a_batch": custom_batch,
            "neutral_batch": neutral_like(x_batch, self.removal),
            "row_batch": np.arange(examples),
            "custom_batch": None,
        }

    def evaluate_batch(  # type: ignore[override]
        self,
        model: ModelInterface,
        x_batch: np.ndarray,
        y_batch: np.ndarray,
        a_batch: np.ndarray,
        neutral_batch: np.ndarray,
        row_batch: np.ndarray,
        **kwargs: Any,
    ) -> list[Any]:
        """The scores or curves of one batch, channels first."""
        curves = perturbation_curves(
            model,
            x_batch,
            y_batch,
            feature_ranks(x_batch, a_batch, self.ranking),
            neutral_batch,
            self.fractions,
            insert=self.insert,
            rows=self.internal_batch_size,
            first=int(row_batch[0]),
            show_progress=self.display_progressbar,
        )
        self.curves[row_batch] = curves  # type: ignore[index]
        return list(curves) if self.return_curve else areas(curves, self.rule).tolist()

    def plot_curves(self, results: Any = None, ax: Any = None) -> Any:
        """Draw the mean curve of the last call in its band of one standard deviation.

        Args:
            results: other curves instead, or a dictionary from methods' names to curves, as `quantus.evaluate`
                gives them with return_curve=True.
            ax: matplotlib axes; None makes a figure.

        Raises:
            ValueError: nothing evaluated yet; results that are not curves.
        """
        if results is None and self.curves is None:
            raise ValueError("there are no curves to plot yet: call the metric first, or pass results")
        return plot_curves(
            self.curves if results is None else results,
            self.fractions,
            f"Fraction of features {'inserted' if self.insert else 'removed'}",
            "Output for the class",
            ax,
        )
