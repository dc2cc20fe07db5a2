"""Which images of a data set are taken: the first that can be read, or that the model classifies correctly.

A data set is a sequence of (image (C, H, W), class) that raises `Unreadable` where an image is damaged.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.run.errors import BenchmarkError, Unreadable
from benchmarks.run.faults import faults_of_the_run

# Skipped images that are named one by one.
NAMED = 10


@dataclass(frozen=True)
class Selection:
    """Some images of a data set: x (N, C, H, W), y (N,), and their places; of none x is empty.

    Attributes:
        unreadable: of the images that were looked at to find them, by their places, why some could not be read.
    """

    x: Tensor
    y: Tensor
    positions: tuple[int, ...]
    unreadable: dict[int, str] = field(default_factory=dict)


def order(test: Dataset, seed: int) -> np.ndarray:
    """The places of all test images in the random order in which they are taken."""
    return np.random.default_rng(seed).permutation(len(test))  # type: ignore[arg-type]


def select_correct(
    model: nn.Module, test: Dataset, count: int, seed: int, device: torch.device | str = "cpu", batch_size: int = 64
) -> Selection:
    """The first `count` correctly classified test images in a random order given by the seed.

    Raises:
        BenchmarkError: there are fewer.
    """
    places = order(test, seed)
    right: list[int] = []
    unreadable: dict[int, str] = {}
    for part in np.array_split(places, np.arange(batch_size, len(places), batch_size)):
        batch = readable(test, part)
        unreadable |= batch.unreadable
        if batch.positions:
            with torch.no_grad():
                correct = model(batch.x.to(device)).argmax(1).cpu() == batch.y
            right += [place for place, hit in zip(batch.positions, correct.tolist(), strict=True) if hit]
        if len(right) >= count:
            right = right[:count]
            looked_at = places[: list(places).index(right[-1])]
            return Selection(
                *stack(test, right), tuple(right), {p: why for p, why in unreadable.items() if p in looked_at}
            )
    raise BenchmarkError(
        f"{count} correctly classified test images asked for, but the model gets only {len(right)} of "
        f"{len(places)} right{f' ({len(unreadable)} of them are unreadable)' * bool(unreadable)}; ask for fewer "
        f"(--images), or check that the weights belong to this data"
    )


def sample_references(train: Dataset, count: int, seed: int) -> Tensor:
    """`count` training images (count, C, H, W), drawn without replacement by the seed; unreadable ones are named and
    passed over.

    Raises:
        BenchmarkError: there are fewer.
    """
    available = len(train)  # type: ignore[arg-type]
    if not 1 <= count <= available:
        raise BenchmarkError(
            f"--baselines must lie between 1 and {available}, the number of training images; got {count}"
        )
    # Another stream than the test images' order.
    found = readable(train, np.random.default_rng([seed, 1]).permutation(available), count)
    if len(found.positions) < count:
        raise BenchmarkError(
            f"--baselines {count}: only {len(found.positions)} of the {available} training images can be read; the "
            f"first that can't: {next(iter(found.unreadable.values()))}"
        )
    tell_unreadable(found.unreadable.values())
    return found.x


def tell_unreadable(messages: Collection[str]) -> None:
    """Name images that are skipped, the first of them if they are many."""
    for message in itertools.islice(messages, NAMED):
        print(f"skipped, unreadable: {message}", file=sys.stderr)
    if len(messages) > NAMED:
        print(f"skipped, unreadable: {len(messages)} images in all", file=sys.stderr)


@faults_of_the_run()
def readable(dataset: Dataset, positions: Iterable[int], count: int | None = None) -> Selection:
    """Those of the images at these places that can be read, the first `count` of them if it is given.

    Raises:
        BenchmarkError: one that can't be read here or now, which is no fault of the image.
    """
    found: dict[int, tuple[Tensor, int]] = {}
    unreadable: dict[int, str] = {}
    for place in map(int, positions):
        if len(found) == count:
            break
        try:
            found[place] = dataset[place]
        except Unreadable as error:
            unreadable[place] = str(error)
    x, y = stack(found, found) if found else (torch.empty(0), torch.tensor([]))
    return Selection(x, y, tuple(found), unreadable)


def stack(dataset: Dataset | Mapping[int, tuple[Tensor, int]], positions: Iterable[int]) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) and classes (N,) at these places of the data set.

    Raises:
        Unreadable: one of them can't be read.
    """
    x, y = zip(*(dataset[int(position)] for position in positions), strict=True)
    return torch.stack(x), torch.tensor([int(label) for label in y])
