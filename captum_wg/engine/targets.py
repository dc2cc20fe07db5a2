"""Which output is explained, in Captum's forms of `target`: None (one output per example), an int or a Tensor of one
int (the same for all examples), a tuple of ints (the same for all, outputs of more dimensions), a list of B ints or a
1-D Tensor of B ints, a list of B tuples."""

from __future__ import annotations

import operator
from reprlib import repr as _short
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from captum_wg.engine.outputs import output_tensor

Target = int | tuple[int, ...] | Tensor | list[int] | list[tuple[int, ...]] | None


class Targets:
    """A checked `target` for B examples, from which the targets of any choice of examples can be taken."""

    def __init__(self, target: Target, n_examples: int):
        self._each: Tensor | list[tuple[int, ...]] | None = None
        self._same: int | tuple[int, ...] | None = None
        self.bounds: tuple[int, int] | None = None
        if isinstance(target, Tensor):
            if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
                raise TypeError(f"target must hold integers, got a Tensor of {target.dtype}")
            if target.numel() == 1:
                self._same = int(target)
            elif target.ndim == 1:
                self._each = target.long()
            else:
                shape = tuple(target.shape)
                raise ValueError(f"target must be a Tensor of one integer or of one per example, got shape {shape}")
        elif isinstance(target, list):
            tuples = [t for t in target if isinstance(t, tuple)]
            several = tuples and len(tuples) == len(target)
            self._each = tuples if several else torch.tensor([_as_int(t) for t in target], dtype=torch.long)
        elif target is not None:
            self._same = target if isinstance(target, tuple) else _as_int(target)
        if self._each is not None and len(self._each) != n_examples:
            raise ValueError(
                f"target has {len(self._each)} entries for {n_examples} examples; give one for each, or one"
            )
        if isinstance(self._each, Tensor):
            # Read once: a value out of range must not reach a device's index kernel.
            self.bounds = int(self._each.min()), int(self._each.max())

    @property
    def any_per_example(self) -> bool:
        """Whether examples have targets of their own."""
        return self._each is not None

    def of(self, examples: Tensor) -> Target:
        """The target of rows that belong to `examples` (R,), in a form Captum accepts."""
        if self._each is None:
            return self._same
        if isinstance(self._each, Tensor):
            self._each = self._each.to(examples.device)
            return self._each[examples]
        return [self._each[e] for e in examples.tolist()]

    def select(self, output: object, examples: Tensor) -> Tensor:
        """The explained output of each row, (R,), out of the model's output for rows of `examples` (R,)."""
        return select(output, self.of(examples), len(examples), self.bounds)


def select(output: object, target: Target, rows: int, bounds: tuple[int, int] | None = None) -> Tensor:
    """One number per row, (R,), of the model's output at `target`."""
    output = output_tensor(output)
    if output.ndim == 0 and rows == 1:
        output = output.reshape(1)
    shape = tuple(output.shape)
    if output.ndim == 0 or output.shape[0] != rows:
        raise ValueError(
            f"forward_func must return one row per example: {rows} rows went in, an output of shape {shape} came back"
        )
    if target is None:
        if output.numel() != rows:
            raise ValueError(
                f"target is missing: forward_func returns outputs of shape {shape}, more than one number per example; "
                "say which one to explain"
            )
        return output.reshape(rows)
    if output.ndim == 1:
        raise ValueError(
            f"target={_short(target)} was given, but forward_func returns one number per example; leave target out"
        )
    if not isinstance(target, tuple | list):
        low, high = bounds or (int(target.min()), int(target.max())) if isinstance(target, Tensor) else (target, target)
        columns = output.shape[1]
        if not (-columns <= low and high < columns):
            raise ValueError(
                f"target {high if high >= columns else low} is out of range: forward_func returns {columns} columns (0 "
                f"to {columns - 1})"
            )
    if isinstance(target, Tensor):
        if output.ndim != 2:
            raise ValueError(
                f"target with one integer per example needs outputs of shape (B, classes), got {shape}; "
                "give a tuple, or a list of tuples"
            )
        index = target.to(output.device)
        return output.gather(1, (index % output.shape[1]).unsqueeze(1)).squeeze(1)
    try:
        if isinstance(target, list):
            chosen = torch.stack([output[(i, *t)] for i, t in enumerate(target) if isinstance(t, tuple)])
        else:
            column: Any = target if isinstance(target, tuple) else (target,)
            chosen = output[(slice(None), *column)]
    except IndexError as error:
        raise ValueError(f"target={_short(target)} is out of range for outputs of shape {shape}: {error}") from error
    if chosen.numel() != rows:
        raise ValueError(
            f"target={_short(target)} selects {tuple(chosen.shape[1:])} of an output of shape {shape}; it must select "
            "one number per example (give a tuple with one index for each further dimension)"
        )
    return chosen.reshape(rows)


def _as_int(value: object) -> int:
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        try:
            return operator.index(value)
        except TypeError:  # a Tensor or an array of something else
            pass
    raise TypeError(
        "target must be an int, a tuple of ints, a list with one of these for each example, an integer Tensor or None, "
        f"got {type(value).__name__}"
    )
