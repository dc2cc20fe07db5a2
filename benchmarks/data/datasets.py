"""The data sets by name."""

from __future__ import annotations

from pathlib import Path

from benchmarks.data.cifar10 import cifar10
from benchmarks.data.digits import digits
from benchmarks.data.preparation import Images
from benchmarks.run.errors import BenchmarkError

NAMES = ("digits", "cifar10")


def load(name: str, root: str | Path | None = None) -> Images:
    """The data set called `name`; "cifar10" reads from the folder `root`.

    Raises:
        BenchmarkError: unknown name, no root, or nothing usable in it.
    """
    if name == "digits":
        return digits()
    if name == "cifar10":
        return cifar10(root)
    raise BenchmarkError(f"unknown data {name!r}; known are {', '.join(NAMES)}")
