"""What a column of the tables is: a metric of Quantus or of quantus_ext, with its settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class JudgeSettings:
    """What of an experiment the metrics are made with.

    Attributes:
        levels: of the curves.
        ranking: of pixels, "signed" or "absolute"; the one that D_alpha is taken with.
        batch: how many masked images share a forward; None: by the size of an input.
        classes: of the model.
    """

    levels: int = 100
    ranking: str = "signed"
    batch: int | None = None
    classes: int = 1000


@dataclass(frozen=True, eq=False)
class Judge:
    """A column.

    Attributes:
        name: as it stands in the tables and is asked for by `--judges`.
        make: a new instance of the metric.
        higher_is_better: None where neither is.
        form: of the maps it is given: 1 (summed over the channels), 3 (all), None for each row's own
            (`Method.channels`), or a function (maps, settings) -> maps.
        settings: what the metric is made with, for the notes.
        notes: what a reader must know of it, in which {name} stands for its name and {pixels}, {values}, {log_pixels}
            and {log_values} for the size of a map of one channel and of all.
        masks: whether it compares with the object's mask.
        slow: left out unless it is asked for, being slow or much like another.
        explains: whether it explains again: perturbed inputs, another network, or another class.
        alone: whether it must be given one image at a time.
        stream: what its random draws follow from; judges of one stream see the same draws and, where they explain
            again, are computed together. By default its metric.
        metric: the name without the form of the maps, by which `--judges` finds all its forms.
        works_by: ("deletion" or "insertion", removal) of a judge that removes or restores pixels as D_alpha does.
        removes: whether it is a deletion, whose score falls as the baselines get fitter.
    """

    name: str
    make: Callable[[JudgeSettings], Callable[..., Any]] = field(repr=False)
    higher_is_better: bool | None
    form: int | Callable[[np.ndarray, JudgeSettings], np.ndarray] | None = None
    settings: str = ""
    notes: tuple[str, ...] = ()
    masks: bool = False
    slow: bool = False
    explains: bool = False
    alone: bool = False
    stream: str = ""
    metric: str = ""
    works_by: tuple[str, str] | None = None
    removes: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "metric", self.metric or self.name)
        object.__setattr__(self, "stream", self.stream or self.metric)

    @property
    def arrow(self) -> str:
        """The better direction."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    def notes_for(self, shape: tuple[int, int, int]) -> list[str]:
        """The notes of maps (C, H, W)."""
        pixels, values = shape[1] * shape[2], math.prod(shape)
        sizes = dict(pixels=pixels, values=values, log_pixels=math.log(pixels), log_values=math.log(values))
        return [note.format(name=self.name, **sizes) for note in self.notes]
