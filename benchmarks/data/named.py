"""Photographs by the name of their data set, with what references are drawn from and where their masks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from benchmarks.data import coco, photographs, pictures
from benchmarks.data.pictures import Pictures
from benchmarks.run.errors import BenchmarkError

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


def source(places: Places, classes: int) -> Source:
    """The photographs that the settings name.

    Args:
        classes: of the model that explains them.

    Raises:
        BenchmarkError: they are not there, or not of the model's classes.
    """
    found = _SOURCES[places.data](places, classes)
    if places.references is not None:
        found = replace(found, references=pictures.all_files(places.references, "references", "--references"))
    if places.masks is not None:
        own = pictures.MaskFolder(places.masks, found.pictures).mask
        found = replace(found, mask_of=own if found.mask_of is None else _where_both(found.mask_of, own))
    return found


def _of_ten(places: Places, classes: int) -> None:
    if classes != 10:
        raise BenchmarkError(f"{places.model} has {classes} classes; --data {places.data} has 10")


def _digits(places: Places, classes: int) -> Source:
    _of_ten(places, classes)
    train, test = pictures.digits_pictures()
    return Source(test, train)


def _cifar10(places: Places, classes: int) -> Source:
    train, test = pictures.cifar10_pictures(places.root, all_classes=True)
    _of_ten(places, classes)
    return Source(test, train)


def _photographs(places: Places, classes: int) -> Source:
    references, shown = photographs.photographs()
    return Source(shown, references)


def _imagenet(places: Places, classes: int) -> Source:
    root = _root(places)
    if places.labels is None:
        found = pictures.class_folders(root, "ImageNet folder", classes)
    else:
        found = pictures.labelled_files(root, places.labels, "ImageNet folder", classes)
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
