"""The examples of a loader in groups of a fixed size, whatever the loader's batches are.

The examples of a group are attributed in one call. As the groups depend on the order of the examples alone, so do the
last bits of every result. A shard is a fixed number of groups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, IterableDataset, SequentialSampler

from captum_wg.datasets.columns import Columns, joined, of_batch, rows
from captum_wg.datasets.fingerprint import digest, fingerprint


class Group(NamedTuple):
    """Consecutive examples: which shard they belong to, the group's number in the data set, and their columns."""

    shard: int
    number: int
    columns: Columns


@dataclass(frozen=True)
class Rows:
    """A data set whose examples can be had one by one, so that a shard can be made without the others.

    Attributes:
        dataset: the loader's.
        order: the indices of its N examples.
        examples: N.
        options: of the DataLoader that reads them.
        group_size, shard_size: in examples.
    """

    dataset: Any
    order: Sequence[Any]
    options: dict[str, Any]
    group_size: int
    shard_size: int

    @property
    def examples(self) -> int:
        return len(self.order)

    @property
    def order_digest(self) -> str | None:
        """Of the order, where it is not that of the data set."""
        return None if isinstance(self.order, range) else digest(fingerprint(self.order))

    def groups(self, shards: Iterable[int]) -> Iterator[Group]:
        """The groups of these shards."""
        shards = list(shards)

        def starts() -> Iterator[int]:
            for shard in shards:
                first = shard * self.shard_size
                yield from range(first, min(first + self.shard_size, self.examples), self.group_size)

        # A sampler that makes the indices when they are needed. A generator of its own: a DataLoader draws a seed.
        batches = (list(self.order[start : start + self.group_size]) for start in starts())
        loader: Iterable[Any] = DataLoader(
            self.dataset,
            batch_sampler=batches,
            generator=torch.Generator(),
            **self.options,
        )
        for start, batch in zip(starts(), loader, strict=True):
            yield Group(start // self.shard_size, start // self.group_size, of_batch(batch))


@dataclass(frozen=True)
class Stream:
    """Batches that can be read from the beginning only."""

    batches: Iterable[Any]
    group_size: int
    shard_size: int
    examples = order_digest = None

    def groups(self, shards: Iterable[int]) -> Iterator[Group]:
        """The groups of all shards, whichever are asked for."""
        for number, columns in enumerate(_regrouped(map(of_batch, self.batches), self.group_size)):
            yield Group(number * self.group_size // self.shard_size, number, columns)


def source_of(loader: Any, group_size: int, shard_size: int) -> Rows | Stream:
    """What a loader reads.

    Raises:
        TypeError: it is no iterable of batches that starts from the beginning each time.
        ValueError: its order changes, or which examples it leaves out depends on its batch size.
    """
    if not isinstance(loader, DataLoader) or isinstance(loader.dataset, IterableDataset) or not loader.batch_sampler:
        if not isinstance(loader, Iterable) or isinstance(loader, Iterator | str | dict | torch.Tensor):
            raise TypeError(
                "loader must be a DataLoader, or another iterable of batches that starts from the beginning each time "
                f"it is read; got {type(loader).__name__}"
            )
        return Stream(loader, group_size, shard_size)
    options = {
        name: getattr(loader, name)
        for name in ("num_workers", "collate_fn", "pin_memory", "timeout", "worker_init_fn", "multiprocessing_context")
    }
    if loader.num_workers:
        options["prefetch_factor"] = loader.prefetch_factor
    return Rows(loader.dataset, _order(loader), options, group_size, shard_size)


def _order(loader: DataLoader[Any]) -> Sequence[Any]:
    """The indices of the examples in the loader's order."""
    plain = loader.batch_size is not None
    if getattr(loader.batch_sampler, "drop_last", False):
        raise ValueError(
            "loader has drop_last=True, so that its batch size decides which examples are left out; give "
            "drop_last=False"
        )
    if plain and type(loader.sampler) is SequentialSampler:
        return range(len(loader.dataset))  # type: ignore[arg-type]
    first, again = (
        list(loader.sampler if plain else chain.from_iterable(loader.batch_sampler or ())) for _ in range(2)
    )
    if first != again:
        raise ValueError(
            "loader has another order each time it is read (shuffle=True, or a sampler that draws), so that rows could "
            "not be told apart; give shuffle=False, or a sampler of a fixed order such as a list of indices"
        )
    return first


def _regrouped(batches: Iterable[Columns], size: int) -> Iterator[Columns]:
    """The same rows in groups of `size`; the last may be smaller."""
    waiting: list[Columns] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += rows(batch, "what a batch of loader holds")
        if count < size:
            continue
        table = joined(waiting, "the examples of loader")
        whole = count - count % size
        yield from (_cut(table, start, start + size) for start in range(0, whole, size))
        waiting, count = [_cut(table, whole, count)], count - whole
    if count:
        yield joined(waiting, "the examples of loader")


def _cut(table: Columns, start: int, stop: int) -> Columns:
    # Clones, which don't hold on to their batch, and lie in memory as a batch of that size does.
    return {name: column[start:stop].clone() for name, column in table.items()}
