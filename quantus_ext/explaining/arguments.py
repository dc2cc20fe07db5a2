"""What an explanation function is called with, as Captum takes it: Tensors beside the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_wg.engine.forward_args import Shared
from quantus_ext.arrays import require_finite, require_real, to_array, to_tensor
from quantus_ext.model import device_of, dtype_of


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
    if values.dtype.kind not in "iuf" or not (values == np.floor(values)).all():
        raise ValueError(f"targets must be class numbers, got {values.dtype} values that are not whole numbers")
    if values.ndim == 2 and len(values) == count and values.shape[1] > 1:
        return [tuple(row) for row in values.astype(int).tolist()]
    if values.size == 1:
        return int(values.item())
    if values.size != count or values.ndim > 2:
        raise ValueError(f"targets must hold one class number for each of the {count} inputs, got {values.shape}")
    return torch.from_numpy(values.reshape(-1).astype(np.int64)).to(device)


@contextmanager
def naming_remedies(x: Tensor, targets: Any, where: str = "") -> Iterator[None]:
    """An error also says what may be wrong with inputs or targets that look like these."""
    try:
        yield
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        remedy = ""
        if isinstance(targets, list) and all(sorted(row) == [0] * (len(row) - 1) + [1] for row in targets):
            remedy = "; if the targets are one-hot rows, pass class numbers: targets.argmax(1)"
        elif x.ndim == 4 and x.shape[3] < min(x.shape[1:3]):
            remedy = (
                f"; inputs of shape {tuple(x.shape)} look as if their channels came last, but torch models take them "
                "first: pass np.moveaxis(inputs, -1, 1)"
            )
        if not remedy and not (where and isinstance(error, ValueError)):
            raise
        raise ValueError(f"{error}{where}{remedy}") from error


def to_axes(reduce_axes: Any, ndim: int) -> tuple[int, ...]:
    """reduce_axes as dims of the inputs, any but the first."""
    axes = (reduce_axes,) if isinstance(reduce_axes, int) else tuple(reduce_axes)
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -ndim < axis < ndim or axis == 0:
            raise ValueError(f"reduce_axes must name dims of the inputs but the first, 1 to {ndim - 1}, got {axis!r}")
    return axes


def to_model(kwargs: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """Arrays and Tensors beside x, those of baselines and all real ones in its dtype."""

    def moved(name: str, value: np.ndarray | Tensor) -> Tensor:
        value = to_tensor(value) if isinstance(value, np.ndarray) else value
        require_real(value, name)
        return value.to(x.device, x.dtype if name == "baselines" or value.is_floating_point() else value.dtype)

    return {name: changed(value, partial(moved, name)) for name, value in kwargs.items()}


def changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """value with its arrays and Tensors changed: also those in tuples and lists and in a weighting's neutral."""
    if isinstance(value, tuple | list):
        parts = [changed(part, change) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, Shared):
        return Shared(changed(value.value, change))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "neutral"):
        return dataclasses.replace(value, **{"neutral": changed(value.neutral, change)})
    return change(value) if isinstance(value, np.ndarray | Tensor) else value
