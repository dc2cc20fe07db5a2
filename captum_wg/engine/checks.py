"""Checks of what a caller passes; every message says what was expected, what came, what to do."""

from __future__ import annotations

import math
import numbers
import operator
import sys
import warnings
from collections.abc import Iterable
from typing import SupportsIndex, cast

import torch
from torch import Tensor

DEFAULT_SEED = 0

_NOT_THE_CALLERS = ("captum", "captum_wg", "quantus", "quantus_ext")


def name_rows(marked: Tensor, first: int = 0) -> str:
    """The numbers, counted from `first`, of the marked rows of a bool Tensor (B,) for a message: "2, 5, 7"."""
    rows = (marked.nonzero().flatten() + first).tolist()
    shown = ", ".join(map(str, rows[:10]))
    return shown if len(rows) <= 10 else f"{shown}, ... ({len(rows)} in all)"


def not_finite(values: Tensor) -> Tensor:
    """For each row of values (B, ...) whether it holds NaN or an infinity, (B,)."""
    rows = values.reshape(values.shape[0], -1)
    if rows.shape[1] == 0:
        return torch.zeros(len(rows), dtype=torch.bool, device=rows.device)
    # NaN and infinities reach the extremes, which cost a tenth of asking every element.
    return ~(torch.isfinite(rows.amax(1)) & torch.isfinite(rows.amin(1)))


def check_inputs(
    inputs: object, name: str = "inputs", finite: bool = True, whole_numbers: bool = False
) -> tuple[Tensor, ...]:
    """inputs as a tuple of floating Tensors (B, *feature) with the same B >= 1; finite: without NaN or infinities;
    whole_numbers: or of whole numbers."""
    values = inputs if isinstance(inputs, tuple) else (inputs,)
    if not values:
        raise ValueError(f"{name} is an empty tuple; give at least one Tensor")
    for x in values:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"{name} must be a Tensor or a tuple of Tensors, got {type(x).__name__}"
                + (" (make a list a tuple)" if isinstance(x, list) else "")
            )
        if not x.is_floating_point() and not (whole_numbers and not x.is_complex() and x.dtype != torch.bool):
            raise TypeError(
                f"{name} must be floating point to have gradients, got {x.dtype}. For token ids or categories "
                "attribute at the embedding layer (LayerExpectedGradients and the like), or pass the embeddings as "
                "inputs; for images convert them to float first; what needs no attribution goes into "
                "additional_forward_args"
            )
        if x.ndim == 0 or x.shape[0] == 0:
            raise ValueError(f"{name} must have at least one example in dimension 0, got shape {tuple(x.shape)}")
        if x.shape[0] != values[0].shape[0]:
            raise ValueError(
                f"{name} must agree in dimension 0 (examples), got {[v.shape[0] for v in values]}; a graph's nodes and "
                "edge weights are of one example: x[None] and weights[None] (docs/examples/graph.py)"
            )
        if finite and (bad := not_finite(x)).any():
            raise ValueError(f"{name} holds NaN or infinite values in examples {name_rows(bad)}; replace them")
    return values


def check_positive_int(value: object, name: str) -> int:
    """value as an int >= 1."""
    try:
        number = 0 if isinstance(value, bool) else operator.index(cast(SupportsIndex, value))
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return number


def check_choice(value: object, name: str, choices: Iterable[str]) -> str:
    """value, one of the names in choices."""
    known = tuple(choices)
    if value not in known:
        raise ValueError(f"{name} must be one of {known}, got {value!r}")
    return str(value)


def check_number(value: object, name: str, low: float, high: float = math.inf, *, open_interval: bool = False) -> float:
    """value as a float in [low, high], or strictly between the two."""
    number = float(value) if isinstance(value, numbers.Real) and not isinstance(value, bool) else math.nan
    if not (low < number < high if open_interval else low <= number <= high):
        where = f"({low}, {high})" if open_interval else f"[{low}, {high}]"
        raise ValueError(f"{name} must be a number in {where}, got {value!r}")
    return number


def check_generator(generator: object, device: torch.device) -> torch.Generator:
    """The source of randomness: the caller's own, or one seeded by an int (None: a fixed seed).

    A seed draws on the CPU whatever the device, so it gives the same points everywhere.
    """
    if isinstance(generator, torch.Generator):
        if generator.device.type != device.type:
            raise ValueError(
                f"generator is on {generator.device}, the inputs are on {device}; make it with "
                f"torch.Generator({str(device)!r}), or give an int seed"
            )
        return generator
    seed = DEFAULT_SEED if generator is None else generator
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral):
        raise TypeError(f"generator must be a torch.Generator, an int seed or None, got {type(seed).__name__}")
    return torch.Generator().manual_seed(int(seed))


def warn(message: str) -> None:
    """A UserWarning at the caller's own line: the first one outside of these packages and of their hosts."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in _NOT_THE_CALLERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=level)


def check_bool(value: object, name: str) -> bool:
    """value, True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")
    return value


def check_bools(**switches: object) -> None:
    """Every argument named is True or False."""
    for name, value in switches.items():
        check_bool(value, name)


def check_finite(values: tuple[Tensor, ...], name: str) -> None:
    """Nothing of what leaves is NaN or infinite."""
    for value in values:
        if (bad := not_finite(value)).any():
            raise ValueError(
                f"the {name} of examples {name_rows(bad)} are NaN or infinite: a sum or product is beyond "
                f"{value.dtype}. Scale inputs, baselines or outputs, or use a wider dtype"
            )
