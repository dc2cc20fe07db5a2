"""Batches, and what is made of them, as columns: flat dictionaries of Tensors that have a row for each example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

Columns = dict[str, Tensor]

_FORMS = (
    "loader must yield Tensors of inputs, pairs (inputs, target), or dictionaries of 'inputs', 'target' and whatever "
    "else `attribute` takes for each example"
)


def flat(value: Any, name: str) -> Columns:
    """The Tensors in nested tuples, lists and dictionaries by their path, such as "attributions/0"."""
    if isinstance(value, Tensor | np.ndarray):
        return {name: torch.as_tensor(value)}
    if not isinstance(value, Mapping | list | tuple):
        raise TypeError(f"{name} must be a Tensor, or Tensors in tuples, lists or dictionaries; got {value!r:.80}")
    if isinstance(value, Mapping) and (bad := [key for key in value if "/" in str(key) or str(key).isdecimal()]):
        raise ValueError(f"{name} has the names {bad}; a name must hold no '/' and not be a number, so rename these")
    parts = value.items() if isinstance(value, Mapping) else enumerate(value)
    return {k: v for key, part in parts for k, v in flat(part, f"{name}/{key}").items()}


def nested(columns: Columns) -> dict[str, Any]:
    """What `flat` was made from, by its first name; lists come back as tuples."""
    tree: dict[str, Any] = {}
    for path, column in columns.items():
        *parents, last = path.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = column
    return {name: _tuples(part) for name, part in tree.items()}


def _tuples(part: Any) -> Any:
    if isinstance(part, Tensor):
        return part
    if all(key.isdecimal() for key in part):
        return tuple(_tuples(part[str(i)]) for i in range(len(part)))
    return {key: _tuples(inner) for key, inner in part.items()}


def rows(columns: Columns, what: str) -> int:
    """How many rows all the columns have.

    Raises:
        ValueError: not the same number.
    """
    shapes = {name: tuple(column.shape) for name, column in columns.items()}
    counts = {shape[0] if shape else None for shape in shapes.values()}
    if len(counts) != 1 or None in counts:
        raise ValueError(f"{what} must have one row for each example in dimension 0; got {shapes}")
    return next(iter(counts)) or 0


def joined(parts: Sequence[Columns], what: str) -> Columns:
    """Columns one below the other.

    Raises:
        ValueError: they don't have the same names and shapes.
    """
    shapes = {tuple((name, tuple(column.shape[1:])) for name, column in sorted(part.items())) for part in parts}
    if len(shapes) > 1:
        raise ValueError(f"{what} must have the same names and shapes, got {sorted(shapes)}")
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def of_batch(batch: Any) -> Columns:
    """A batch of a loader: "inputs", "target" where it has one, and the other names of a dictionary.

    Raises:
        TypeError, ValueError: it has another form.
    """
    if isinstance(batch, Mapping):
        named = {name: part for name, part in batch.items() if part is not None}
    elif isinstance(batch, list | tuple) and 1 <= len(batch) <= 2:
        named = dict(zip(("inputs", "target"), batch, strict=False))
    elif isinstance(batch, Tensor | np.ndarray):
        named = {"inputs": batch}
    else:
        size = f" of {len(batch)}" if isinstance(batch, list | tuple) else ""
        raise TypeError(f"{_FORMS}; got {type(batch).__name__}{size}")
    if "inputs" not in named:
        raise ValueError(f"{_FORMS}; got a dictionary of {sorted(map(str, named))}")
    if "target" in named:
        named["target"] = _target(named["target"])
    columns = {k: v for name, part in named.items() for k, v in flat(part, str(name)).items()}
    rows(columns, "what a batch of loader holds")
    return columns


def _target(target: Any) -> Tensor:
    """Targets (B,), or (B, n) where each is a tuple of n indices."""
    if isinstance(target, list | tuple) and target and isinstance(target[0], Tensor):
        made = torch.stack([torch.as_tensor(part) for part in target], dim=1)  # tuples, as torch's collate turns them
    else:
        made = torch.as_tensor(target)
    if made.is_floating_point() or made.is_complex() or made.ndim not in (1, 2):
        raise ValueError(
            f"the targets of a batch must be whole numbers (B,) or (B, n), got {made.dtype} {tuple(made.shape)}; give "
            "attribute_kwargs={'target': ...} to use one target, or None, for all examples in place of the loader's"
        )
    return made
