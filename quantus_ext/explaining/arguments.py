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
from captum_wg.engine.forward_args import ForwardArgs, Reading, Shared
from captum_wg.engine.outputs import output_tensor
from captum_wg.engine.probe import probe
from captum_wg.engine.problem import automatic_rows
from quantus_ext.arrays import chunks, require_finite, require_real, to_array, to_tensor
from quantus_ext.model_state import device_of, dtype_of

_SAMPLES_AT_ONCE = tuple(getattr(captum.attr, level + "GradientShap") for level in ("", "Layer", "Neuron"))
_BASELINES_AT_ONCE = tuple(getattr(captum.attr, level + "DeepLiftShap") for level in ("", "Layer", "Neuron"))
SHARED_BASELINES = (*_SAMPLES_AT_ONCE, *_BASELINES_AT_ONCE)
_PERMUTING = (captum.attr.FeaturePermutation, captum.attr.LayerFeaturePermutation)
# Those that belong to the examples where they have the inputs' dimensions and as many rows.
_PER_EXAMPLE = ("feature_mask", "layer_mask", "weighting")


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
    require_real(x, "inputs")
    require_finite(to_array(x), "inputs")
    return x.to(device_of(model) or x.device, dtype, copy=True)


def to_targets(targets: Any, count: int, device: torch.device) -> Any:
    """None, an int for all examples, a Tensor (N,), or a list of tuples for outputs of more dims."""
    if targets is None:
        return None
    values = to_array(targets)
    if values.dtype.kind not in "iufb" or not (values == np.floor(values)).all():
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
        require_real(value, name)
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


def per_example(model: nn.Module, additional_forward_args: Any, x: Tensor) -> Reading:
    """The numbers of the additional_forward_args that go with the examples, as a probe of the model tells."""
    args = ForwardArgs(additional_forward_args, len(x))
    if not args.ambiguous:
        return args.ambiguous
    with torch.no_grad():
        return probe(lambda rows, of: output_tensor(model(*rows, *of)), (x,), args, 1, min(len(x), 8)).per_example


def cut(
    kwargs: Mapping[str, Any], rows: slice, x: Tensor, attribution: Attribution, reading: Reading
) -> dict[str, Any]:
    """The arguments of some rows of x; what belongs to all of them is left as it is."""

    def part(name: str, value: Tensor) -> Tensor:
        if name == "baselines":
            of_examples = value.ndim == x.ndim + 1 or (value.ndim == x.ndim and _paired(attribution, kwargs))
        else:
            of_examples = name in _PER_EXAMPLE and value.ndim == x.ndim
        return value[rows] if of_examples and len(value) == len(x) else value

    call = {name: _changed(value, partial(part, name)) for name, value in kwargs.items()}
    if (given := kwargs.get("additional_forward_args")) is not None:
        given = given if isinstance(given, tuple) else (given,)
        call["additional_forward_args"] = tuple(
            a[rows] if i in reading else a.value if isinstance(a, Shared) and _is_captums(attribution) else a
            for i, a in enumerate(given)
        )
    return call


def bounded(
    kwargs: Mapping[str, Any], batch_size: int | None, x: Tensor, attribution: Attribution
) -> tuple[list[slice], dict[str, Any]]:
    """The examples of each call of attribute, and its arguments, with an internal_batch_size for a class of Captum's.

    Without a batch_size a forward has at most as many rows as the engine of captum_wg would give it, and a call 64
    examples. (Captum's GradientShap and DeepLiftShap put all samples of all their examples into one forward.)
    """
    rows = automatic_rows((x,), x.device)
    parameters = inspect.signature(attribution.attribute).parameters
    kwargs = dict(kwargs)
    of_captum = _is_captums(attribution)
    if of_captum and "internal_batch_size" in parameters and kwargs.get("internal_batch_size") is None:
        kwargs["internal_batch_size"] = rows
    if batch_size is not None:
        size = check_positive_int(batch_size, "batch_size")
    elif not of_captum or isinstance(attribution, _PERMUTING):
        size = 64
    else:
        repeats, baselines = 1, kwargs.get("baselines")
        if isinstance(attribution, _SAMPLES_AT_ONCE):
            repeats = check_positive_int(kwargs.get("n_samples", 5), "n_samples")
        elif isinstance(attribution, _BASELINES_AT_ONCE) and isinstance(baselines, Tensor):
            repeats = max(1, len(baselines))
        size = min(64, max(1, rows // repeats))
    if not isinstance(attribution, _PERMUTING):
        return chunks(len(x), size), kwargs
    if len(x) < 2:
        raise ValueError(
            f"{type(attribution).__name__} exchanges values between the examples of a batch, so it needs at "
            f"least 2 of them, got 1; explain several inputs in one call"
        )
    return chunks(len(x), size, smallest=2), kwargs


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """value with its arrays and Tensors changed: those in tuples and lists, and a weighting's neutral, too."""
    if isinstance(value, tuple | list):
        parts = [_changed(part, change) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, Shared):
        return Shared(_changed(value.value, change))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "neutral"):
        return dataclasses.replace(value, **{"neutral": _changed(value.neutral, change)})
    return change(value) if isinstance(value, np.ndarray | Tensor) else value


def _is_captums(attribution: Attribution) -> bool:
    return type(attribution).__module__.startswith("captum.")


def _paired(attribution: Attribution, kwargs: Mapping[str, Any]) -> bool:
    """Whether the class takes row i of baselines of the inputs' dimensions for input i."""
    attribution = getattr(attribution, "attribution_method", attribution)
    if "pairing" in inspect.signature(attribution.attribute).parameters:
        return kwargs.get("pairing") == "paired"
    return not isinstance(attribution, SHARED_BASELINES)
