"""The data sets by name: what a network learns from and is tested on, and what the tables explain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.data import cifar10, coco, digits, folders, masks, photographs
from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Inputs
from benchmarks.run.errors import BenchmarkError

# Those that a ResNet-18 of this project learns from.
NAMES = ("digits", "cifar10")

# Place and class -> the photograph's mask (height, width) and "", or None and why there is none.
Masks = Callable[[int, int], tuple[np.ndarray | None, str]]


class Places(Protocol):
    """Where the data are, as `benchmarks.experiment.settings.Experiment` says it."""

    data: str
    model: str
    root: str | None
    labels: str | None
    instances: str | None
    images_dir: str | None
    masks: str | None
    references: str | None


@dataclass(frozen=True, eq=False)
class Source:
    """Photographs to explain.

    Attributes:
        references: those that references are drawn from, where they are others.
        mask_of: where their masks are; None where the data have no masks.
    """

    pictures: Pictures
    references: Pictures | None = None
    mask_of: Masks | None = None


def load(name: str, root: str | Path | None = None) -> tuple[Inputs, Inputs]:
    """The training and the test images of a name, as its ResNet-18 takes them; "cifar10" reads from the folder `root`.

    Raises:
        BenchmarkError: unknown name, no root, or nothing usable in it.
    """
    if name == "digits":
        parts, preparation = digits.digits_pictures(), digits.DIGITS
    elif name == "cifar10":
        parts, preparation = cifar10.cifar10_pictures(root, size=(cifar10.SIDE,) * 2), cifar10.CIFAR10
    else:
        raise BenchmarkError(f"unknown data {name!r}; known are {', '.join(NAMES)}")
    train, test = (Inputs(part, preparation.image) for part in parts)
    return train, test


def source(places: Places, classes: int) -> Source:
    """The photographs that the settings name.

    Args:
        classes: of the model that explains them.

    Raises:
        BenchmarkError: they are not there, or not of the model's classes.
    """
    found = _SOURCES[places.data](places, classes)
    if places.references is not None:
        found = replace(found, references=folders.all_files(places.references, "references", "--references"))
    if places.masks is not None:
        own = masks.MaskFolder(places.masks, found.pictures).mask
        found = replace(found, mask_of=own if found.mask_of is None else _where_both(found.mask_of, own))
    return found


def _of_ten(places: Places, classes: int) -> None:
    if classes != 10:
        raise BenchmarkError(f"{places.model} has {classes} classes; --data {places.data} has 10")


def _digits(places: Places, classes: int) -> Source:
    _of_ten(places, classes)
    train, test = digits.digits_pictures()
    return Source(test, train)


def _cifar10(places: Places, classes: int) -> Source:
    train, test = cifar10.cifar10_pictures(places.root, all_classes=True)
    _of_ten(places, classes)
    return Source(test, train)


def _photographs(places: Places, classes: int) -> Source:
    references, shown = photographs.photographs()
    return Source(shown, references)


def _imagenet(places: Places, classes: int) -> Source:
    root = _root(places)
    if places.labels is None:
        found = folders.class_folders(root, "ImageNet folder", classes)
    else:
        found = folders.labelled_files(root, places.labels, "ImageNet folder", classes)
    return Source(replace(found, name=f"{found.name}, {len(found)} photographs"))


def _coco(places: Places, classes: int) -> Source:
    if classes != 1000:
        raise BenchmarkError(f"--data coco needs a model of ImageNet's 1000 classes; {places.model} has {classes}")
    found = coco.load_coco(_root(places), places.instances, places.images_dir)
    return Source(found.pictures, mask_of=found.mask)


_SOURCES = {
    "digits": _digits,
    "photographs": _photographs,
    "cifar10": _cifar10,
    "imagenet": _imagenet,
    "coco": _coco,
}
DATA = tuple(_SOURCES)


def _root(places: Places) -> str:
    if places.root is None:
        raise BenchmarkError(f"--data {places.data} needs --root: the folder of the photographs")
    return places.root


def _where_both(condition: Masks, masks: Masks) -> Masks:
    """The second's masks of those photographs and classes of which the first has one, too."""

    def mask_of(position: int, label: int) -> tuple[np.ndarray | None, str]:
        found, reason = condition(position, label)
        return (None, reason) if found is None else masks(position, label)

    return mask_of
