"""Tensors, or tuples of them where a model has several inputs: brought to one form, and shaped to fit each other."""

from __future__ import annotations

from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor

Inputs = Tensor | tuple[Tensor, ...]
# What goes in as a Tensor comes out as one, a tuple as a tuple.
In = TypeVar("In", Tensor, tuple[Tensor, ...])


def as_tuple(value: Inputs) -> tuple[Tensor, ...]:
    """A Tensor as a tuple of one; a tuple as it is."""
    return value if isinstance(value, tuple) else (value,)


def like_inputs(values: tuple[Tensor, ...], is_tuple: bool) -> Inputs:
    """The tuple itself where the caller's inputs were a tuple, its only element otherwise."""
    return values if is_tuple else values[0]


def accumulation_dtype(*values: Tensor | torch.dtype) -> torch.dtype:
    """The precision sums of these are kept in: that of the widest, but never less than float32."""
    dtypes = (value.dtype if isinstance(value, Tensor) else value for value in values)
    return reduce(torch.promote_types, dtypes, torch.float32)


def beside(values: Tensor, like: Tensor) -> Tensor:
    """values shaped to multiply `like`, whose first dimensions they have."""
    return values.view(*values.shape, *(1,) * (like.ndim - values.ndim))


def along(values: Tensor, like: Tensor) -> Tensor:
    """values of s points, (s,) or (b, s), shaped to multiply (b, s, *feature)."""
    return beside(values if values.ndim == 2 else values.unsqueeze(0), like)


def at_least_float32(values: Tensor) -> Tensor:
    return values.to(accumulation_dtype(values))


def finest(device: torch.device) -> torch.dtype:
    """float64 where the device has it (MPS does not)."""
    return torch.float32 if device.type == "mps" else torch.float64
