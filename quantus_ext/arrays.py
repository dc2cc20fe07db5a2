"""Arrays and Tensors of a metric's call, brought to one form and checked with the row named."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_array(value: Any) -> np.ndarray:
    """A numpy array of a Tensor (any device or dtype), an array or a list. Quantus slices arrays only."""
    if isinstance(value, Tensor):
        value = value.detach().cpu()
        return (value.float() if value.dtype in (torch.bfloat16, torch.float16) else value).numpy()
    return np.asarray(value)


def to_tensor(array: np.ndarray) -> Tensor:
    """A CPU Tensor that shares no memory with the array, so that nothing of the caller's can change."""
    return torch.tensor(np.ascontiguousarray(array))


def chunks(count: int, size: int, smallest: int = 1) -> list[slice]:
    """count rows in nearly equal chunks of at most size, but of at least `smallest` rows if count allows it."""
    number = max(1, min(math.ceil(count / size), count // smallest))
    edges = [count * i // number for i in range(number + 1)]
    return [slice(start, stop) for start, stop in itertools.pairwise(edges)]


def name_rows(bad: Any, first: int = 0) -> str:
    """ "rows 0, 3, 4" of the rows marked in bad (B,), at most ten of them."""
    rows = (np.flatnonzero(bad) + first).tolist()
    shown = ", ".join(map(str, rows[:10])) + (f", ... ({len(rows)} in all)" if len(rows) > 10 else "")
    return f"row{'s' if len(rows) > 1 else ''} {shown}"


def require_finite(array: np.ndarray, name: str) -> None:
    bad = ~np.isfinite(array.reshape(len(array), -1)).all(1)
    if bad.any():
        raise ValueError(f"{name} holds NaN or infinite values in {name_rows(bad)}; give finite ones")


def positive_integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def one_of(value: Any, choices: tuple[str, ...], name: str) -> Any:
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{name} must be one of {choices}, got {value!r}")
    return value
