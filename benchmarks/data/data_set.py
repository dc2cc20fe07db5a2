"""What a data set is, and what it gives: photographs to explain, and what belongs to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Preparation

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


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set, as a row of the registry (`benchmarks.data.datasets.DATA_SETS`).

    Attributes:
        open: its photographs, for a model of so many classes.
        parts: the training and the test images below a root, for the network that learns from them.
        preparation: of the images for that network.
        network: the one that explains it by default.
        class_names: where the class numbers are of the data's own, and not of the model's.
        n_classes: that its model must have; None: any.
        root: what --root is; "": it needs none, or says so itself.
        has_masks: whether it knows where the explained class is.
        explained: which images are explained, and by which class.
        files: what else decides the results, by its setting.
    """

    open: Callable[[Places, int], Source]
    parts: Callable[[str | Path | None], tuple[Pictures, Pictures]] | None = None
    preparation: Preparation | None = None
    network: str | None = None
    class_names: tuple[str, ...] = ()
    n_classes: int | None = None
    root: str = ""
    has_masks: bool = False
    explained: str = "Only images that the model classifies correctly are explained."
    files: Callable[[Places], Mapping[str, Path]] = lambda places: {}
