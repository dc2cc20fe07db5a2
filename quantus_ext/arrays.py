"""Arrays and Tensors of a call, brought to one form and checked with the row named."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.engine.checks import name_rows


def to_array(value: Any) -> np.ndarray:
    """A numpy array of a Tensor (any device or dtype), an array or a list. Quantus slices arrays only."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        value = (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
    array: np.ndarray = np.asarray(value)
    return array


def to_tensor(array: np.ndarray) -> Tensor:
    """A CPU Tensor that shares no memory with the array, so that nothing of the caller's can change."""
    return torch.tensor(np.ascontiguousarray(array))


def chunks(count: int, size: int, smallest: int = 1) -> list[slice]:
    """count rows in nearly equal chunks of at most size, but of at least `smallest` rows if count allows it."""
    number = max(1, min(math.ceil(count / size), count // smallest))
    return list(itertools.starmap(slice, itertools.pairwise(count * i // number for i in range(number + 1))))


def named(bad: np.ndarray, first: int = 0) -> str:
    """ "rows 0, 3, 4" or "row 2" of the rows marked in bad (B,), counted from first, at most ten of them."""
    return f"row{'s' if bad.sum() > 1 else ''} {name_rows(torch.tensor(bad), first)}"


def require_finite(array: np.ndarray, name: str) -> None:
    """No row holds NaN or an infinity."""
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
    if bad.any():
        raise ValueError(f"{name} holds NaN or infinite values in {named(bad)}; give finite ones")


def require_real(values: np.ndarray | np.generic | Tensor, name: str) -> None:
    """No complex numbers."""
    if values.dtype.is_complex if isinstance(values, Tensor) else values.dtype.kind == "c":
        raise ValueError(f"{name} must hold real numbers, got {values.dtype}; pass .real or abs() of it")
