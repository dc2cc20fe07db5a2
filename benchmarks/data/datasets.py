"""The data sets by name: what a network learns from and is tested on, and what the tables explain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from benchmarks.data import cifar10, coco, digits, folders, photographs, planted
from benchmarks.data.data_set import Places, Source
from benchmarks.data.masks import MaskFolder
from benchmarks.data.preparation import Inputs
from benchmarks.run.errors import BenchmarkError

DATA_SETS = {
    "digits": digits.DATA_SET,
    "photographs": photographs.DATA_SET,
    "cifar10": cifar10.DATA_SET,
    "imagenet": folders.DATA_SET,
    "coco": coco.DATA_SET,
    **planted.DATA_SETS,
}
DATA = tuple(DATA_SETS)
# Those that a network of this project learns from.
NAMES = tuple(name for name, own in DATA_SETS.items() if own.parts)


def load(name: str, root: str | Path | None = None) -> tuple[Inputs, Inputs]:
    """The training and the test images of a name, as its network takes them; "cifar10" reads from the folder `root`.

    Raises:
        BenchmarkError: unknown name, no root, or nothing usable in it.
    """
    own = DATA_SETS.get(name)
    if own is None or own.parts is None or own.preparation is None:
        raise BenchmarkError(f"unknown data {name!r}; known are {', '.join(NAMES)}")
    train, test = (Inputs(part, own.preparation.image) for part in own.parts(root))
    return train, test


def source(places: Places, classes: int) -> Source:
    """The photographs that the settings name.

    Args:
        classes: of the model that explains them.

    Raises:
        BenchmarkError: they are not there, or not of the model's classes.
    """
    own = DATA_SETS[places.data]
    if own.n_classes not in (None, classes):
        raise BenchmarkError(f"{places.model} has {classes} classes; --data {places.data} needs {own.n_classes}")
    if own.root and places.root is None:
        raise BenchmarkError(f"--data {places.data} needs --root: {own.root}")
    found = own.open(places, classes)
    if places.references is not None:
        found = replace(found, references=folders.all_files(places.references, "references", "--references"))
    if places.masks is not None:
        found = replace(found, mask_of=MaskFolder(places.masks, found.pictures, found.mask_of).mask)
    return found
