"""What an explanation function is called with, as Captum takes it: Tensors beside the model, cut by examples."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_wg.engine.checks import check_positive_int, warn
from quantus_ext.arrays import chunks, require_finite, to_array, to_tensor
from quantus_ext.model_state import device_of, dtype_of

_SHARED_BASELINES = tuple(
    getattr(captum.attr, level + name) for level in ("", "Layer", "Neuron") for name in ("GradientShap", "DeepLiftShap")
)
_PERMUTING = (captum.attr.FeaturePermutation, captum.attr.LayerFeaturePermutation)
# Those that belong to the examples where they have the inputs' dimensions and as many rows.
_PER_EXAMPLE = ("feature_mask", "layer_mask", "neutral", "weighting")


def to_inputs(inputs: Any, model: nn.Module) -> Tensor:
    """A copy of the inputs where the model is, in its dtype."""
    if not isinstance(inputs, Tensor | np.ndarray):
        raise ValueError(f"inputs must be one array or Tensor (N, ...), got {type(inputs).__name__}")
    x = to_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs.detach()
    dtype = dtype_of(model)
    if dtype is None:
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"inputs must be of shape (N, ...) and not empty, got {tuple(x.shape)}")
    require_finite(to_array(x), "inputs")
    return x.to(device_of(model) or x.device, dtype, copy=True)


def to_targets(targets: Any, count: int, device: torch.device) -> Any:
    """None, an int for all examples, a Tensor (N,), or a list of tuples for outputs of more dims."""
    if targets is None:
        return None
    values = to_array(targets)
    if not np.issubdtype(values.dtype, np.number) or not (values == np.floor(values)).all():
        raise ValueError(f"targets must be class numbers, got {values.dtype} values that are not whole numbers")
    if values.ndim == 2 and len(values) == count and values.shape[1] > 1:
        return [tuple(row) for row in values.astype(int).tolist()]
    if values.size == 1:
        return int(values.item())
    if values.size != count or values.ndim > 2:
        raise ValueError(f"targets must hold one class number for each of the {count} inputs, got {values.shape}")
    return torch.from_numpy(values.reshape(-1).astype(np.int64)).to(device)


def to_axes(reduce_axes: Any, ndim: int) -> tuple[int, ...]:
    """reduce_axes as dims of the inputs, any but the first."""
    axes = (reduce_axes,) if isinstance(reduce_axes, int) else tuple(reduce_axes)
    for axis in axes:
        if not isinstance(axis, int | np.integer) or not -ndim < axis < ndim or axis == 0:
            raise ValueError(f"reduce_axes must name dims of the inputs but the first, 1 to {ndim - 1}, got {axis!r}")
    return axes


def to_model(kwargs: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """Arrays and Tensors beside x, those of baselines and all real ones in its dtype."""

    def moved(name: str, value: np.ndarray | Tensor) -> Tensor:
        value = to_tensor(value) if isinstance(value, np.ndarray) else value
        return value.to(x.device, x.dtype if name == "baselines" or value.is_floating_point() else value.dtype)

    return {name: _changed(value, partial(moved, name)) for name, value in kwargs.items()}


def settle_pairing(kwargs: dict[str, Any], x: Tensor, attribution: Attribution) -> dict[str, Any]:
    """Baselines (K, ...) are shared unless pairing says otherwise, also in a chunk of as many examples as baselines."""
    baselines = kwargs.get("baselines")
    if not isinstance(baselines, Tensor) or baselines.ndim != x.ndim or kwargs.get("pairing") is not None:
        return kwargs
    if "pairing" not in inspect.signature(attribution.attribute).parameters:
        return kwargs
    if len(baselines) == len(x) > 1:
        warn(
            f"baselines has as many rows ({len(x)}) as there are inputs. They are shared by all inputs; say "
            "pairing='shared', or pairing='paired' if row i belongs to input i alone"
        )
    return {**kwargs, "pairing": "shared"}


def cut(kwargs: Mapping[str, Any], rows: slice, x: Tensor, attribution: Attribution) -> dict[str, Any]:
    """The arguments of some rows of x; what belongs to all of them is left as it is."""

    def part(name: str, value: Tensor) -> Tensor:
        if name == "additional_forward_args":
            of_examples = value.ndim > 0
        elif name == "baselines":
            of_examples = value.ndim == x.ndim + 1 or (value.ndim == x.ndim and _paired(attribution, kwargs))
        else:
            of_examples = name in _PER_EXAMPLE and value.ndim == x.ndim
        return value[rows] if of_examples and len(value) == len(x) else value

    return {name: _changed(value, partial(part, name)) for name, value in kwargs.items()}


def slices(count: int, batch_size: Any, attribution: Attribution) -> list[slice]:
    """The examples of each call of attribute."""
    size = check_positive_int(batch_size, "batch_size")
    if not isinstance(attribution, _PERMUTING):
        return chunks(count, size)
    if count < 2:
        raise ValueError(
            f"{type(attribution).__name__} exchanges values between the examples of a batch, so it needs at "
            f"least 2 of them, got 1; explain several inputs in one call"
        )
    return chunks(count, size, smallest=2)


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """value with its arrays and Tensors changed: those in tuples and lists, and a weighting's neutral, too."""
    if isinstance(value, tuple | list):
        return type(value)([_changed(part, change) for part in value])
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "neutral"):
        return dataclasses.replace(value, **{"neutral": _changed(value.neutral, change)})
    return change(value) if isinstance(value, np.ndarray | Tensor) else value


def _paired(attribution: Attribution, kwargs: Mapping[str, Any]) -> bool:
    """Whether the class takes row i of baselines of the inputs' dimensions for input i."""
    attribution = getattr(attribution, "attribution_method", attribution)
    if "pairing" in inspect.signature(attribution.attribute).parameters:
        return kwargs.get("pairing") == "paired"
    return not isinstance(attribution, _SHARED_BASELINES)
