"""Rows drawn without replacement, each set of k equally likely, from the data that `baselines.sample` takes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from captum_wg.engine.tensors import as_tuple

Row = tuple[Tensor, ...]  # one for each element of the inputs
Select = Callable[[Any], Any] | None


def n_rows(data: Any) -> int | None:
    """N, or None for data that tell it only when they have been read."""
    if isinstance(data, DataLoader | IterableDataset):
        return None
    arrays = arrays_of(data)
    if any(a.ndim == 0 for a in arrays):
        raise ValueError("data must have shape (N, *feature), got a single number")
    if len({len(a) for a in arrays}) > 1:
        raise ValueError(f"data is a tuple of Tensors with {[len(a) for a in arrays]} rows; give equally many")
    if arrays:
        return len(arrays[0])
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__") or isinstance(data, dict | str):
        raise TypeError(
            "data must be a Tensor or array (N, *feature), a tuple of these, a Dataset with a length, an "
            f"IterableDataset or a DataLoader, got {type(data).__name__}"
        )
    return len(data)


def check_enough(k: int, size: int | None) -> None:
    """Whether data of this size, if it is known, hold k rows."""
    if size == 0:
        raise ValueError("data is empty; give at least k rows")
    if size is not None and k > size:
        raise ValueError(f"k={k} rows cannot be drawn without replacement from data of {size}; give a smaller k")


def draw_rows(data: Any, k: int, select: Select, generator: torch.Generator) -> list[Row]:
    """k rows that share no memory with the data."""
    size = n_rows(data)
    if size is None:
        with _own_global_state(generator):
            return _reservoir(_stream(data, select), k, generator)
    chosen = torch.randperm(size, generator=generator, device=generator.device)[:k].tolist()
    return rows_at(data, chosen, select, generator)


def rows_at(data: Any, chosen: list[int], select: Select, generator: torch.Generator) -> list[Row]:
    """The rows of these numbers, which share no memory with the data; the generator seeds what the data draw."""
    if arrays := arrays_of(data):
        return [_copied(tuple(_tensor(a[i]) for a in arrays)) for i in chosen]
    with _own_global_state(generator):
        return [_copied(_input_of(data[i], select)) for i in chosen]


def _stream(data: Any, select: Select) -> Iterator[Row]:
    """The rows of a DataLoader or IterableDataset, one at a time."""
    batched = isinstance(data, DataLoader) and data.batch_sampler is not None
    for item in data:
        entries = _input_of(item, select)
        if not batched:
            yield entries
            continue
        if any(entry.ndim == 0 for entry in entries) or len({len(entry) for entry in entries}) > 1:
            raise ValueError(
                f"data yields a batch with inputs of shapes {[tuple(entry.shape) for entry in entries]}, "
                f"whose first dimensions should be one batch size; use select to pick the inputs"
            )
        yield from zip(*entries, strict=True)


def _reservoir(rows: Iterable[Row], k: int, generator: torch.Generator) -> list[Row]:
    """Vitter's algorithm R: row i (from 1) enters with probability k / i."""
    kept: list[Row] = []
    seen = 0
    for seen, row in enumerate(rows, start=1):
        if seen <= k:
            kept.append(_copied(row))
            continue
        place = int(torch.randint(seen, (), generator=generator, device=generator.device))
        if place < k:
            kept[place] = _copied(row)
    check_enough(k, seen)
    return kept


def _input_of(item: Any, select: Select) -> Row:
    """The input of an item or of a batch."""
    if select is not None:
        item = select(item)
    elif isinstance(item, tuple | list) and item:
        item = item[0]
    several = isinstance(item, tuple | list)
    entries = tuple(item) if several else (item,)
    if not entries or not all(map(_is_array, entries)):
        kind = [type(entry).__name__ for entry in entries] if several else type(item).__name__
        raise TypeError(
            f"data must yield Tensors or arrays, or tuples that begin with one such as (image, label), "
            f"got {kind}; add a transform that makes Tensors, or pass select"
        )
    return tuple(map(_tensor, entries))


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def arrays_of(data: Any) -> tuple[Any, ...]:
    """The Tensors or arrays that the data are, DataFrames as arrays; none if they are something else."""
    each: tuple[Any, ...] = tuple(a.to_numpy() if hasattr(a, "to_numpy") else a for a in as_tuple(data))
    return each if all(map(_is_array, each)) else ()


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    # The copy serves read-only and reversed arrays, which torch can't take as they are.
    return value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))


def _copied(row: Row) -> Row:
    # A view would keep its whole batch in memory, and follow later changes of the data.
    return tuple(entry.clone() for entry in row)


@contextmanager
def _own_global_state(generator: torch.Generator) -> Iterator[None]:
    """What a data set draws from global generators repeats with our seed, and leaves no trace."""
    python, numpy = random.getstate(), np.random.get_state()
    # torch.manual_seed and fork_rng's default would reach into every CUDA device.
    with torch.random.fork_rng(devices=[]):
        try:
            seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)
