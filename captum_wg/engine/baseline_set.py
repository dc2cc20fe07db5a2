"""The baselines of one call, whatever form they came in: K for each of B examples."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from captum_wg.engine.checks import name_rows, not_finite, warn
from captum_wg.engine.tensors import Inputs

Baselines = None | int | float | Tensor | tuple[Any, ...] | Callable[..., object]

PAIRINGS = (None, "shared", "paired")


class BaselineSet:
    """K baselines for each example.

    Attributes:
        count: K.
        values: for each element of the inputs a Tensor (K, *feature) that all examples share, or (B, K, *feature).
        shared: which of the two.
    """

    def __init__(self, values: tuple[Tensor, ...], shared: bool):
        self.values = values
        self.shared = shared
        self.count = values[0].shape[0 if shared else 1] if values else 0

    def at(self, examples: slice, which: Tensor) -> tuple[Tensor, ...]:
        """Baselines number `which` (s,) of some examples: (b, s, *feature), or (1, s, *feature) if they are shared."""
        return tuple(v[which].unsqueeze(0) if self.shared else v[examples][:, which] for v in self.values)

    def of_rows(self, examples: Tensor, which: Tensor) -> tuple[Tensor, ...]:
        """Baseline which[i] of example examples[i], both (r,): (r, *feature)."""
        return tuple(v[which] if self.shared else v[examples, which] for v in self.values)

    def differences(
        self, inputs: tuple[Tensor, ...], examples: slice, k: int, dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        """x - x'_k of some examples, (b, *feature), for baseline number k."""
        return tuple(
            x[examples].to(dtype) - (v[k] if self.shared else v[examples, k]).to(dtype)
            for x, v in zip(inputs, self.values, strict=True)
        )

    def mean(self, weights: Tensor) -> tuple[Tensor, ...]:
        """sum_k w_k x'_k with weights (K,), in their dtype: (1, 1, *feature), or (B, 1, *feature) if not shared."""
        means = []
        for v in (v.unsqueeze(0) if self.shared else v for v in self.values):
            total = torch.zeros_like(v[:, :1], dtype=weights.dtype)
            for k, weight in enumerate(weights):
                # Not as a matrix product: autocast and TF32 would round it.
                total += weight * v[:, k : k + 1].to(weights.dtype)
            means.append(total)
        return tuple(means)

    def choose(self, kept: Tensor) -> BaselineSet:
        """The baselines numbered kept (B, M), each example its own."""
        rows = torch.arange(len(kept), device=kept.device).unsqueeze(1)
        return BaselineSet(tuple(v[kept] if self.shared else v[rows, kept] for v in self.values), shared=False)


def format_baselines(
    baselines: Baselines, inputs: tuple[Tensor, ...], is_tuple: bool = False, pairing: str | None = None
) -> BaselineSet:
    """The baselines of a call as a checked BaselineSet.

    Args:
        baselines: None (zeros), a number, a Tensor (K, *feature) shared by all examples, a Tensor (B, K, *feature), a
            callable of the inputs, or of nothing, that returns one of these, or for a tuple of inputs a tuple of these,
            row k of each together forming baseline k; one row beside several serves them all. Whole numbers are
            brought to the inputs' dtype.
        inputs: checked inputs; none for an attribution over a set alone, which has no baselines.
        is_tuple: whether the caller gave a tuple: what a callable is called with.
        pairing: "shared" or "paired": how a Tensor of B rows is read (paired: row i is example i's only baseline).

    Raises:
        TypeError: another type or dtype than the inputs'.
        ValueError: no baselines, another shape or device, different K within a tuple, NaN or infinite values.
    """
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing must be 'shared', 'paired' or None, got {pairing!r}")
    if not inputs:
        return BaselineSet((), shared=True)
    if callable(baselines):
        baselines = cast(Baselines, _called(baselines, inputs if is_tuple else inputs[0]))
    if baselines is None or isinstance(baselines, int | float):
        baselines = (baselines,) * len(inputs)
    each = baselines if isinstance(baselines, tuple) else (baselines,)
    if len(each) != len(inputs):
        raise ValueError(
            f"baselines must have one element for each of the {len(inputs)} inputs, got "
            + (f"a tuple of {len(each)}" if isinstance(baselines, tuple) else f"a single {type(baselines).__name__}")
        )
    values = [_format_one(value, x, i, pairing) for i, (value, x) in enumerate(zip(each, inputs, strict=True))]

    n_examples = len(inputs[0])
    as_many = [v for v, own in values if not own and len(v) == n_examples > 1]
    if pairing is None and any(bool((v != v[:1]).any()) for v in as_many):
        warn(
            f"baselines has as many rows ({n_examples}) as there are examples. It is read as {n_examples} baselines "
            "shared by all examples (as GradientShap does); IntegratedGradients would pair row i with example i. Say "
            "pairing='shared' or pairing='paired'"
        )

    counts = [v.shape[1 if own else 0] for v, own in values]
    count = max(counts)
    if any(c not in (1, count) for c in counts):
        raise ValueError(
            f"baselines must have the same number of rows in every element of the tuple, or one, got {counts}: row k "
            "of each together is baseline k"
        )
    shared = not any(own for _, own in values)
    lead = (count,) if shared else (n_examples, count)
    formatted = tuple(v.expand(*lead, *x.shape[1:]) for (v, _), x in zip(values, inputs, strict=True))
    return BaselineSet(formatted, shared)


def _format_one(value: object, x: Tensor, element: int, pairing: str | None) -> tuple[Tensor, bool]:
    """One element's baselines, and whether they are (B, K, *feature) rather than (K, *feature)."""
    if callable(value):
        value = _called(value, x)
    if value is None:
        value = 0.0
    feature = tuple(x.shape[1:])
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not x.is_floating_point() and not float(value).is_integer():
            raise TypeError(f"baselines must be whole numbers as the inputs are ({x.dtype}), got {value}")
        tensor = x.new_tensor(float(value))
        if not torch.isfinite(tensor):
            raise ValueError(f"baselines must be finite, got {value}")
        return tensor.reshape((1,) * x.ndim), False
    if not isinstance(value, Tensor):
        raise TypeError(
            f"baselines must be None, a number, a Tensor, a callable or a tuple of these, got {type(value).__name__}"
            + (" (convert it with torch.as_tensor)" if hasattr(value, "__array__") else "")
        )
    where = f"element {element} of the tuple" if element else "the inputs"
    if not (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        value = value.to(x.dtype)
    if value.dtype != x.dtype:
        raise TypeError(f"baselines are {value.dtype}, {where} {x.dtype}; convert them with .to(inputs.dtype)")
    if value.device != x.device:
        raise ValueError(f"baselines are on {value.device}, {where} on {x.device}; move them with .to(inputs.device)")
    value = value.detach()
    shape = tuple(value.shape)
    own = value.ndim == x.ndim + 1 and len(value) == len(x)
    if value.ndim != x.ndim + own or shape[1 + own :] != feature:
        dims = ", ".join(map(str, feature)) or "-"
        raise ValueError(f"baselines must have shape (K, {dims}) or (B, K, {dims}) with B = {len(x)}, got {shape}")
    if shape[own] == 0:
        raise ValueError(f"baselines are empty, shape {shape}; give at least one (K >= 1)")
    bad = not_finite(value)
    if bad.any():
        raise ValueError(f"baselines hold NaN or infinite values in rows {name_rows(bad)}; remove or replace them")
    if pairing == "paired" and not own and len(value) > 1:
        if len(value) != len(x):
            raise ValueError(
                f"pairing='paired' needs one baseline for each of the {len(x)} examples, got {len(value)} rows"
            )
        return value.unsqueeze(1), True
    return value, own


def _called(baselines: Callable[..., object], inputs: Inputs) -> object:
    """What a callable returns that takes the inputs, or, as GradientShap allows, nothing."""
    try:
        takes_none = not inspect.signature(baselines).parameters
    except (TypeError, ValueError):  # a built-in one
        takes_none = False
    return baselines() if takes_none else baselines(inputs)
