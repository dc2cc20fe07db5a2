"""A metric of Quantus that judges attributions of any sign, as arrays or Tensors: what all of ours share.

Shapes: B examples, C channels, H rows, W columns, F tabular features, T time steps.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from quantus.helpers import utils, warn
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType
from quantus.metrics.base import Metric
from torch import nn

from captum_wg.engine.checks import check_bool, check_bools, check_choice, check_positive_int
from captum_wg.engine.checks import warn as warn_caller
from captum_wg.weighting.masking import RANKINGS, Features
from quantus_ext.arrays import chunks, named, require_finite, require_real, to_array, to_tensor
from quantus_ext.model import check_is_no_function, device_of

_SWITCHES = ("abs", "normalise", "return_aggregate", "disable_warnings", "display_progressbar")
_FUNCTIONS = ("normalise_func", "normalise_func_kwargs", "aggregate_func", "default_plot_func")
# Quantus does not type it.
_refuse_unknown: Callable[[dict[str, Any]], object] = warn.check_kwargs


class AttributionMetric(Metric[Any]):
    """The abstract side of the metrics. A subclass says what it needs of a call (`checked`), and evaluates a batch.

    Attributes:
        definition: whose definition of the metric this is.
    """

    data_applicability: ClassVar = {DataType.IMAGE, DataType.TIMESERIES, DataType.TABULAR}
    model_applicability: ClassVar = {ModelType.TORCH, ModelType.TF}
    evaluation_category = EvaluationCategory.FAITHFULNESS
    sensitive_params: ClassVar[str]
    needs_masks: ClassVar[bool] = False
    by_rank: ClassVar[bool] = True
    definition: str = "Duc et al. 'Weighted Average Gradients', 2025"

    def __init__(self, ranking: str, **options: Any):
        """Set up what the metrics share: the ranking, and Quantus' options as in `DeletionAUC`."""
        options = {**dict.fromkeys(_SWITCHES, False), **dict.fromkeys(_FUNCTIONS), **options}
        check_bools(**{name: options[name] for name in _SWITCHES})
        self.ranking = check_choice(ranking, "ranking", RANKINGS)
        super().__init__(**options)
        if not self.disable_warnings:
            needs = "It needs masks of the objects." if self.needs_masks else ""
            warn.warn_parameterisation(type(self).__name__, self.sensitive_params, needs, self.definition)

    def __repr__(self) -> str:
        return f"{type(self).__name__} as defined by {self.definition}"

    def interpret_scores(self) -> None:
        """Print what the class says of its scores, up to which are better."""
        print(f"{str(inspect.getdoc(type(self))).partition('better')[0]}better.")

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
            model: a torch or Keras model in evaluation mode.
            x_batch: inputs (B, ...).
            y_batch: class numbers (B,).
            a_batch: attributions; without them explain_func makes them, batch_size examples at a time.
            s_batch: masks of the objects, for `OverlapAUC` alone.
            channel_first: where inputs have their channels; None infers it from the shape, and takes them to come
                first where the shape is ambiguous and the model is torch's. False moves the channels of inputs and
                attributions to the front for a torch model.
            explain_func, explain_func_kwargs: a function with the signature of `quantus.explain`, and its arguments.
            model_predict_kwargs: keyword arguments of the model's call.
            softmax: Quantus' word, read where the metric's output is "auto": None and True leave it at that (so a
                model that ends in a softmax is not given a second one); False takes the model's output itself, or,
                where the last module of a torch model is a Softmax, what that is given.
            device: the device for inputs; None means the model's.
            batch_size: how many examples are explained together; forwards have a size of their own.

        Returns:
            one float per example, or one array with return_curve.

        Raises:
            ValueError: shapes that don't fit; NaN or infinite values; classes out of range; attributions that rank
                nothing; no mask, an empty one, or one that is not binary.
        """
        _refuse_unknown(kwargs)
        if softmax is not None:
            check_bool(softmax, "softmax")
        arguments = self.call_arguments(
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

    def call_arguments(
        self,
        model: Any,
        x_batch: Any,
        y_batch: Any,
        a_batch: Any = None,
        s_batch: Any = None,
        channel_first: bool | None = None,
        explain_func: Callable[..., Any] | None = None,
        explain_func_kwargs: Mapping[str, Any] | None = None,
        device: Any = None,
        batch_size: int = 64,
    ) -> dict[str, Any]:
        """The arguments of a call, checked, as Quantus' own `__call__` takes them."""
        check_positive_int(batch_size, "batch_size")
        check_is_no_function(model)
        if self.needs_masks and s_batch is None:
            raise ValueError(f"{type(self).__name__} needs s_batch, one mask of the object for each image; got None")
        x = _inputs(x_batch)
        is_torch = isinstance(model, nn.Module)
        first = _channel_first(x, channel_first, is_torch)
        # A Keras model keeps the layout that it was given.
        layout, x_first = first or is_torch or model is None, utils.make_channel_first(x, first)
        x = x_first if layout else x
        y = None if y_batch is None else to_array(y_batch)
        options = {**({} if device is None else {"device": device}), **(explain_func_kwargs or {})}
        if a_batch is None:
            a_batch = self._explanations(model, x, y, explain_func, options, batch_size)
        return dict(
            model=model,
            x_batch=x,
            y_batch=y,
            # Quantus refuses attributions that are negative throughout, although they rank the features as any others
            # do, so they take the way that it leaves open for a metric's own data.
            a_batch=None,
            custom_batch=self._attributions(to_array(a_batch), x_first, first),
            s_batch=None if s_batch is None else to_array(s_batch),
            channel_first=layout,
            explain_func=explain_func or to_array,  # Quantus asks for one, and does not call it
            explain_func_kwargs=options,
            device=device_of(model) if is_torch and device is None else device,
            batch_size=int(batch_size),
        )

    def custom_preprocess(self, *, x_batch: np.ndarray, custom_batch: Any, **data: Any) -> dict[str, Any]:
        """The attributions in their place, and what the metric needs of the call."""
        if data["model"] is None and not self.needs_masks:
            raise ValueError(f"{type(self).__name__} needs a model, got None")
        self.a_axes = range(x_batch.ndim - 1)
        rows = np.arange(len(x_batch))
        return {**self.checked(x_batch, data), "a_batch": custom_batch, "row_batch": rows, "custom_batch": None}

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """What the metric needs of a call, checked: what is named ..._batch is cut with the examples."""
        raise NotImplementedError

    def _explanations(
        self, model: Any, x: np.ndarray, y: np.ndarray | None, explain_func: Any, options: Any, batch_size: int
    ) -> np.ndarray:
        name = type(self).__name__
        if not callable(explain_func):
            raise ValueError(
                f"{name} needs attributions: pass a_batch, or a callable explain_func that makes them "
                f"(got explain_func={explain_func!r})"
            )
        if model is None:
            raise ValueError(f"{name} needs a model to make explanations with; pass model, or a_batch instead")
        parts = []
        for rows in chunks(len(x), batch_size):
            targets = y[rows] if y is not None and y.ndim else y
            parts.append(to_array(explain_func(model=model, inputs=x[rows], targets=targets, **options)))
        return np.concatenate(parts)

    def _attributions(self, a: np.ndarray, x: np.ndarray, channel_first: bool) -> np.ndarray:
        """a for x with channels first: (B, 1 or C, H, W) for an image, in x's shape for any other input."""
        came, shape = a.shape, x.shape
        if a.dtype.kind not in "biuf":
            raise ValueError(f"a_batch must hold real numbers, got an array of {a.dtype}")
        a = a if a.dtype.kind == "f" else a.astype(np.float64)
        if not channel_first and len(shape) > 2 and a.ndim == len(shape) and a.shape[1:-1] == shape[2:]:
            a = np.moveaxis(a, -1, 1)
        if a.ndim == len(shape) - 1 and a.ndim > 1:
            a = a[:, None]
        fits = a.ndim == len(shape) and a.shape[0] == shape[0] and a.shape[2:] == shape[2:]
        if not fits or a.shape[1] not in ({shape[1]} if len(shape) == 2 else {1, shape[1]}):
            one = f", {(shape[0], 1, *shape[2:])} or {(shape[0], *shape[2:])}" if len(shape) > 2 else ""
            raise ValueError(
                f"a_batch has shape {came}, which does not fit inputs of shape {shape} (channels first); give "
                f"{shape}{one}"
            )
        require_finite(a, "a_batch")
        a = a if len(shape) == 4 else np.broadcast_to(a, shape)
        if self.normalise and self.normalise_func:
            # Some of Quantus' normalisations work in place.
            a = self.normalise_func(a.copy())
            require_finite(a, "a_batch after normalise_func")
        if self.abs:
            a = np.abs(a)
        if self.by_rank:
            self._check_ranks(Features((to_tensor(x),)).scores((to_tensor(a),), self.ranking).numpy())
        return a

    def _check_ranks(self, scores: np.ndarray) -> None:
        """Scores (B, P) of the features tell at least some of them apart."""
        constant = (scores == scores[:, :1]).all(1) & (scores.shape[1] > 1)
        if constant.all():
            raise ValueError(
                "a_batch gives every feature of an example the same score, in every example: it ranks nothing; "
                "recompute the attributions"
            )
        if constant.any() and not self._disable_warnings:
            warn_caller(
                f"a_batch gives every feature the same score in {named(constant)}: there the features are ranked by "
                "position"
            )


def _inputs(x_batch: Any) -> np.ndarray:
    x = to_array(x_batch)
    require_real(x, "x_batch")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x_batch must be of shape (B, ...) and not empty, got {x.shape}")
    x = x if x.dtype.kind == "f" else x.astype(np.float32)
    require_finite(x, "x_batch")
    return x


def _channel_first(x: np.ndarray, channel_first: bool | None, is_torch: bool) -> bool:
    if channel_first is not None:
        if not isinstance(channel_first, bool | np.bool_):
            raise ValueError(f"channel_first must be True, False or None, got {channel_first!r}")
        return bool(channel_first)
    try:
        inferred = bool(utils.infer_channel_first(x))
    except ValueError as error:
        # The shape alone does not tell, but torch models take channels first.
        if is_torch:
            return True
        raise ValueError(
            f"x_batch of shape {x.shape} does not tell where its channels are; pass channel_first=True or False"
        ) from error
    if not inferred and x.ndim == 4 and is_torch:
        raise ValueError(
            f"x_batch of shape {x.shape} looks as if its channels came last, but a torch model takes them first; "
            f"pass channel_first=False to have them moved, or channel_first=True if dim 1 does hold the channels"
        )
    # Steps of a time series may be fewer than its channels.
    return inferred or is_torch
