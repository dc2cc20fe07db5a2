"""A metric of Quantus that judges attributions of any sign, as arrays or Tensors: what all of ours share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from quantus.helpers import warn
from quantus.helpers.enums import ModelType
from quantus.metrics.base import Metric

from captum_wg.engine.checks import check_bools, check_choice
from captum_wg.weighting.masking import RANKINGS
from quantus_ext.call_arguments import call_arguments

# Quantus does not type it.
_refuse_unknown: Callable[[dict[str, Any]], object] = warn.check_kwargs


class AttributionMetric(Metric[Any]):
    """The abstract side of the metrics. A subclass says what it needs of a call (`checked`), and evaluates a batch.

    Attributes:
        definition: whose definition of the metric this is.
    """

    model_applicability: ClassVar = {ModelType.TORCH, ModelType.TF}
    sensitive_params: ClassVar[str]
    data_domain: ClassVar[str] = ""
    needs_masks: ClassVar[bool] = False
    definition: str = "Duc et al. 'Weighted Average Gradients', 2025"

    def __init__(
        self,
        ranking: str,
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] = np.mean,
        default_plot_func: Callable[..., Any] | None = None,
        disable_warnings: bool = False,
        display_progressbar: bool = False,
        **kwargs: Any,
    ):
        """Set up what the metrics share, and Quantus' side of it."""
        check_bools(
            abs=abs,
            normalise=normalise,
            return_aggregate=return_aggregate,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
        )
        self.ranking = check_choice(ranking, "ranking", RANKINGS)
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
                citation=self.definition,
            )

    def __repr__(self) -> str:
        return f"{type(self).__name__} as defined by {self.definition}"

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
        """The attributions in their place, and what the metric needs of the call."""
        self.a_axes = range(x_batch.ndim - 1)
        return {
            **self.checked(x_batch, data),
            "a_batch": custom_batch,
            "row_batch": np.arange(len(x_batch)),
            "custom_batch": None,
        }

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """What the metric needs of a call, checked: what is named ..._batch is cut with the examples."""
        raise NotImplementedError
