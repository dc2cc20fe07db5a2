"""All that a table may see: plain values, so that a report loads no network and no image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.experiment.scores import joined
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.judge import Judge
from benchmarks.methods.method import Method

# Why an image does not count.
USED, REFERENCE, UNREADABLE, MISCLASSIFIED = "used", "a reference image", "unreadable", "misclassified"
LEFT_OUT = "left out"
EMPTY_MASK, NO_MASK = "the mask is empty after the crop", "no mask"


@dataclass(frozen=True)
class Chosen:
    """An image that counts: its place in the data, its name and CRC-32, the class that is explained and its probability
    by the model."""

    position: int
    name: str
    crc: int
    label: int
    probability: float = 0.0


@dataclass(frozen=True)
class Selection:
    """The images that count, in their order; how many photographs were tried, by their status; and for each that could
    not be decoded why."""

    images: tuple[Chosen, ...]
    statuses: Mapping[str, int]
    unreadable: tuple[str, ...] = ()

    @classmethod
    def of(cls, images: Sequence[Chosen], statuses: pd.Series) -> Selection:
        """From the status of each photograph that was tried."""
        short = Counter(status.partition(":")[0] for status in statuses)
        return cls(tuple(images), dict(short), tuple(text for text in statuses if text.startswith(UNREADABLE)))

    @property
    def others(self) -> str:
        """How many don't count, and why."""
        return ", ".join(f"{n} {status}" for status, n in self.statuses.items() if status != USED)

    @property
    def line(self) -> str:
        """How many count, of how many, and why the others don't."""
        tried = sum(self.statuses.values())
        return f"n = {len(self.images)} of {tried} tried" + (f" ({self.others})" if self.others else "")


@dataclass(frozen=True)
class Warned:
    """A warning of some rows; the same message but for its numbers counts as one.

    Attributes:
        example: the message as it was first given, of `images`, perturbed or not.
        chunks: in how many chunks of images it was given.
    """

    methods: tuple[str, ...]
    example: str
    images: tuple[str, ...]
    perturbed: bool
    chunks: int


@dataclass(frozen=True, eq=False)
class Weighted:
    """What baselines say of an image, the heaviest first: their places among all, pixels and maps (k, C, H, W), D_alpha
    and weights (k,), by the row `method` of `of` baselines."""

    method: str
    of: int
    places: np.ndarray
    pixels: np.ndarray
    maps: np.ndarray
    distances: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Drawn:
    """The images of a picture: their pixels (n, C, H, W) in [0, 1], and the maps (n, C, H, W) of the methods that have
    one of each.

    Attributes:
        weighted: by image, for the first row with weights that follow from D_alpha; an image may have none.
    """

    images: tuple[Chosen, ...] = ()
    pixels: np.ndarray = field(default_factory=lambda: np.empty((0, 3, 1, 1), np.float32))
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)
    weighted: Mapping[str, Weighted] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ModelResults:
    """One model's results.

    Attributes:
        experiment: with all that decides the results; its `model` names the model.
        data: what the photographs are, as it stands in the tables.
        images: those of the selection that were judged, such as a half.
        shape: (C, H, W) of an input.
        scores: one row for each method, judge and image; see `benchmarks.experiment.scores`.
        left_out: why a (method, judge) was not computed at all.
        costs: of one image's map and all that it is made of, by method: the columns seconds (on one thread), gradients
            and forwards. NaN where nothing was computed.
        warnings: in the order of the rows.
        chunks: how many chunks of images there were.
        radius: the local radius of the local measures; NaN where no row needs one.
        unreadable_references: why, for each photograph that would have been a reference and could not be decoded.
        equal_fitness: images for which all baselines have the same D_alpha, by the experiment's own settings: WG is EG
            there.
        curves: where the experiment holds them, the mean curve of each method by each judge that has one: the columns
            judge, method, fraction (of the pixels), value.
    """

    experiment: Experiment
    data: str
    selection: Selection
    images: tuple[Chosen, ...]
    shape: tuple[int, int, int]
    scores: pd.DataFrame
    left_out: Mapping[tuple[str, str], str] = field(default_factory=dict)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    warnings: tuple[Warned, ...] = ()
    chunks: int = 0
    radius: float = float("nan")
    unreadable_references: tuple[str, ...] = ()
    equal_fitness: int = 0
    drawn: Drawn = field(default_factory=Drawn)
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def model(self) -> str:
        return self.experiment.model


@dataclass(frozen=True, eq=False)
class Results:
    """A table's results: its rows and columns in their order, and what each model gave."""

    methods: tuple[Method, ...]
    judges: tuple[Judge, ...]
    models: tuple[ModelResults, ...]

    @property
    def scores(self) -> pd.DataFrame:
        """Those of all models, one below the other."""
        return joined(one.scores for one in self.models)

    @property
    def data(self) -> str:
        """What the photographs are."""
        return self.models[0].data

    @property
    def directions(self) -> dict[str, bool | None]:
        """Whether higher is better, by judge."""
        return {judge.name: judge.higher_is_better for judge in self.judges}
