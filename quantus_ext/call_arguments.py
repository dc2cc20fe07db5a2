"""What the metrics accept in a call, and what they hand on to Quantus.

Shapes: B examples, C channels, H rows, W columns, F tabular features, T time steps. Everything that leaves this
module is a numpy array with channels first.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from quantus.helpers import utils
from torch import nn

from captum_wg.engine.checks import check_positive_int
from captum_wg.weighting.masking import Features
from quantus_ext.arrays import chunks, named, require_finite, require_real, to_array, to_tensor
from quantus_ext.model_output import check_is_no_function
from quantus_ext.model_state import device_of


def call_arguments(
    metric: Any,
    *,
    model: Any,
    x_batch: Any,
    y_batch: Any,
    a_batch: Any,
    s_batch: Any,
    channel_first: bool | None,
    explain_func: Callable[..., Any] | None,
    explain_func_kwargs: Mapping[str, Any] | None,
    device: Any,
    batch_size: int,
) -> dict[str, Any]:
    """The arguments of `quantus.metrics.base.Metric.__call__`, with the attributions as its custom_batch.

    Quantus refuses attributions that are negative throughout, although they rank the features as any others do,
    so they take the way that Quantus leaves open for a metric's own data.

    Raises:
        ValueError: inputs or attributions that are empty, not finite or of shapes that don't fit; an ambiguous
            layout of the channels; neither a_batch nor explain_func; attributions that rank nothing.
    """
    name = type(metric).__name__
    check_positive_int(batch_size, "batch_size")
    check_is_no_function(model)
    if metric.needs_masks and s_batch is None:
        raise ValueError(f"{name} needs s_batch, one mask of the object for each image; got None")
    x = to_array(x_batch)
    require_real(x, "x_batch")
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x_batch must be of shape (B, ...) and not empty, got {x.shape}")
    if not np.issubdtype(x.dtype, np.floating):
        x = x.astype(np.float32)
    require_finite(x, "x_batch")

    is_torch = isinstance(model, nn.Module)
    first = _channel_first(x, channel_first, model)
    x_first = utils.make_channel_first(x, first)
    # A Keras model keeps the layout that it was given.
    layout = first or is_torch or model is None
    x = x_first if layout else x

    kwargs = dict(explain_func_kwargs or {})
    if device is not None:
        kwargs.setdefault("device", device)
    if a_batch is None:
        a_batch = _explanations(name, model, x, y_batch, explain_func, kwargs, batch_size)
    a = _attributions(to_array(a_batch), x_first.shape, first)
    if metric.normalise:
        # Some of Quantus' normalisations work in place.
        a = metric.normalise_func(a.copy())
        require_finite(a, "a_batch after normalise_func")
    if metric.abs:
        a = np.abs(a)
    _require_ranking(a, x_first, metric)

    if is_torch and device is None:
        device = device_of(model)
    return {
        "model": model,
        "x_batch": x,
        "y_batch": None if y_batch is None else to_array(y_batch),
        "a_batch": None,
        "s_batch": None if s_batch is None else to_array(s_batch),
        "custom_batch": a,
        "channel_first": layout,
        "explain_func": explain_func or _no_explain_func,
        "explain_func_kwargs": kwargs,
        "device": device,
        "batch_size": int(batch_size),
    }


def _channel_first(x: np.ndarray, channel_first: bool | None, model: Any) -> bool:
    if channel_first is not None:
        if not isinstance(channel_first, bool | np.bool_):
            raise ValueError(f"channel_first must be True, False or None, got {channel_first!r}")
        return bool(channel_first)
    try:
        inferred = utils.infer_channel_first(x)
    except ValueError as error:
        # The shape alone does not tell, but torch models take channels first.
        if isinstance(model, nn.Module):
            return True
        raise ValueError(
            f"x_batch of shape {x.shape} does not tell where its channels are; pass channel_first=True or False"
        ) from error
    if not inferred and x.ndim == 4 and isinstance(model, nn.Module):
        raise ValueError(
            f"x_batch of shape {x.shape} looks as if its channels came last, but a torch model takes them first; "
            f"pass channel_first=False to have them moved, or channel_first=True if dim 1 does hold the channels"
        )
    # Steps of a time series may be fewer than its channels.
    return inferred or isinstance(model, nn.Module)


def _explanations(
    name: str,
    model: Any,
    x: np.ndarray,
    y_batch: Any,
    explain_func: Callable[..., Any] | None,
    kwargs: dict[str, Any],
    batch_size: int,
) -> np.ndarray:
    if not callable(explain_func):
        raise ValueError(
            f"{name} needs attributions: pass a_batch, or a callable explain_func that makes them "
            f"(got explain_func={explain_func!r})"
        )
    if model is None:
        raise ValueError(f"{name} needs a model to make explanations with; pass model, or a_batch instead")
    y = None if y_batch is None else to_array(y_batch)
    parts = []
    for rows in chunks(len(x), batch_size):
        targets = y[rows] if y is not None and y.ndim else y
        parts.append(to_array(explain_func(model=model, inputs=x[rows], targets=targets, **kwargs)))
    return np.concatenate(parts)


def _attributions(a: np.ndarray, shape: tuple[int, ...], channel_first: bool) -> np.ndarray:
    """a as (B, 1 or C, H, W) for an image and in x's shape for any other input."""
    came = a.shape
    if a.dtype == bool or not np.issubdtype(a.dtype, np.floating):
        if not (a.dtype == bool or np.issubdtype(a.dtype, np.integer)):
            raise ValueError(f"a_batch must hold real numbers, got an array of {a.dtype}")
        a = a.astype(np.float64)
    if not channel_first and len(shape) > 2 and a.ndim == len(shape) and a.shape[1:-1] == shape[2:]:
        a = np.moveaxis(a, -1, 1)
    if a.ndim == len(shape) - 1 and a.ndim > 1:
        a = a[:, None]
    fits = a.ndim == len(shape) and a.shape[0] == shape[0] and a.shape[2:] == shape[2:]
    if not fits or a.shape[1] not in ({shape[1]} if len(shape) == 2 else {1, shape[1]}):
        one = f", {(shape[0], 1, *shape[2:])} or {(shape[0], *shape[2:])}" if len(shape) > 2 else ""
        raise ValueError(
            f"a_batch has shape {came}, which does not fit inputs of shape {shape} (channels first); give {shape}{one}"
        )
    require_finite(a, "a_batch")
    return a if len(shape) == 4 else np.broadcast_to(a, shape)


def _require_ranking(a: np.ndarray, x: np.ndarray, metric: Any) -> None:
    scores = Features((to_tensor(x),)).scores((to_tensor(a),), metric.ranking)
    if scores.shape[1] == 1:
        return
    constant = (scores == scores[:, :1]).all(1).numpy()
    if constant.all():
        raise ValueError(
            "a_batch gives every feature of an example the same score, in every example: it ranks nothing; "
            "recompute the attributions"
        )
    if constant.any() and not metric._disable_warnings:
        warnings.warn(
            f"a_batch gives every feature the same score in {named(constant)}: "
            f"there the features are ranked by position",
            stacklevel=4,
        )


def _no_explain_func(*args: Any, **kwargs: Any) -> None:
    raise ValueError("no explain_func was given in the metric's call")
