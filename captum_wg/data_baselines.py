"""Baselines that stand for a data set: its clusters' centres, and a draw that keeps the shares of its classes.

They are part of `captum_wg.baselines`, which says what all of its generators have in common.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.data_rows import Row, Select, arrays_of, check_enough, n_rows, rows_at
from captum_wg.engine.checks import check_bool, check_choice, check_generator, check_inputs, check_positive_int
from captum_wg.engine.tensors import Inputs, like_inputs
from captum_wg.integrals.random import Seed

ALLOCATIONS = ("proportional", "equal")


class OfData(ABC):
    """K rows made of data, the same for all examples: with a seed in the first call, and kept."""

    generator: Seed
    _kept: list[list[Row]]

    @abstractmethod
    def _rows(self, draws: torch.Generator) -> list[Row]:
        """K rows that share no memory with the data."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        # The data are only read: a deep copy of a data set could be gigabytes, and draw the rows once more.
        new = replace(self, generator=copy.deepcopy(self.generator, memo))  # type: ignore[type-var]
        object.__setattr__(new, "_kept", self._kept)
        return new

    def __call__(self, inputs: Inputs) -> Inputs:
        elements = check_inputs(inputs, finite=False, whole_numbers=True)
        draws, *_ = (check_generator(self.generator, x.device) for x in elements)
        rows = self._kept[0] if self._kept else self._rows(draws)
        if not self._kept and not isinstance(self.generator, torch.Generator):
            self._kept.append(rows)
        expected = [tuple(x.shape[1:]) for x in elements]
        for number, row in enumerate(rows):
            shapes = [tuple(entry.shape) for entry in row]
            if shapes != expected:
                raise ValueError(
                    f"data has a row of shapes {shapes}, but an example of the inputs has {expected}; crop or resize "
                    "the data, or use select to pick the inputs"
                )
            for entry, x in zip(row, elements, strict=True):
                _check_kind(entry, x)
            if not all(torch.isfinite(entry).all() for entry in row):
                raise ValueError(f"data has NaN or infinite values in drawn row {number}; give finite ones")
        columns = zip(*rows, strict=True)
        stacked = tuple(torch.stack(column).to(x) for column, x in zip(columns, elements, strict=True))
        return like_inputs(stacked, isinstance(inputs, tuple))


@dataclass(frozen=True, eq=False, repr=False)
class k_means(OfData):
    """The centres of K clusters of a data set, by scikit-learn's KMeans.

    A summary of many rows for the price of K, as shap.kmeans is; but here all K count equally, whatever the sizes of
    their clusters. Distances are those of the data as they are: standardise columns of different units first, as for
    the model. Centres are means, which no example need look like (a category's columns become shares); nearest takes
    the row next to each centre instead, of its own cluster.

    Args:
        data: a Tensor, array or DataFrame (N, *feature), or a tuple of these with equal N for tuple inputs.
        k: at most the number of different rows.
        generator: of the first centres; of an int seed (None: 0) the centres are found in the first call and kept.
        nearest: rows instead of centres.

    Returns when called: (K, *feature).

    Raises:
        ImportError: scikit-learn is not there.
        TypeError, ValueError: data of another form, with NaN or infinite values, or with fewer different rows.
    """

    data: Any
    k: int
    generator: Seed = None
    nearest: bool = False
    _kept: list[list[Row]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_positive_int(self.k, "k"))
        check_generator(self.generator, getattr(self.generator, "device", torch.device("cpu")))
        check_bool(self.nearest, "nearest")
        check_enough(self.k, n_rows(self.data))
        if not arrays_of(self.data):
            raise TypeError(
                "data must be a Tensor or array (N, *feature), or a tuple of these, to have clusters, got "
                f"{type(self.data).__name__}; read it into one, or draw rows by baselines.sample"
            )

    def __repr__(self) -> str:
        return f"k_means(<{_named(self.data)}>, k={self.k}, generator={self.generator!r}, nearest={self.nearest})"

    def _rows(self, draws: torch.Generator) -> list[Row]:
        try:
            from sklearn.cluster import KMeans  # late: it takes a while, and need not be there
        except ImportError as error:
            raise ImportError("k_means needs scikit-learn; install it: pip install scikit-learn") from error
        arrays = [np.asarray(a.detach().cpu() if isinstance(a, Tensor) else a) for a in arrays_of(self.data)]
        flat = np.concatenate([a.reshape(len(a), -1).astype(np.float64) for a in arrays], axis=1)
        if not np.isfinite(flat).all():
            raise ValueError("data has NaN or infinite values; give finite ones")
        different = len(np.unique(flat, axis=0))
        if different < self.k:
            raise ValueError(f"data has {different} different rows, too few for k={self.k} clusters; give a smaller k")
        seed = int(torch.randint(2**31 - 1, (), generator=draws, device=draws.device))
        found = KMeans(self.k, n_init=10, random_state=seed).fit(flat)
        if self.nearest:
            distances = ((flat - found.cluster_centers_[found.labels_]) ** 2).sum(1)
            own = found.labels_ == np.arange(self.k)[:, None]
            return rows_at(self.data, np.where(own, distances, np.inf).argmin(1).tolist(), None, draws)
        bounds = np.cumsum([a[0].size for a in arrays])[:-1]
        parts = np.split(found.cluster_centers_, bounds, axis=1)
        shaped = [torch.from_numpy(p.copy()).view(-1, *a.shape[1:]) for p, a in zip(parts, arrays, strict=True)]
        return list(zip(*shaped, strict=True))


@dataclass(frozen=True, eq=False, repr=False)
class stratified(OfData):
    """K rows of a data set, drawn without replacement from each of its strata: as many as the stratum's share of the
    data makes of K.

    The shares of classes among the baselines are then no matter of chance: less spread from draw to draw than of
    `sample`, for the same K. What is left after rounding down goes to the largest remainders, ties by position.

    Args:
        data: as in `sample`, but with a length.
        strata: the stratum of each row, (N,): labels of any kind. For a regression bins of the target, such as
            `pandas.qcut(y, 5).codes`.
        k: at most N.
        generator: of the draw; of an int seed (None: 0) rows are drawn in the first call and kept.
        allocation: "proportional", or "equal": K / n of each of n strata, whatever its share.
        select: as in `sample`.

    Returns when called: (K, *feature), strata one after another.

    Raises:
        TypeError, ValueError: as `sample`; strata of another length; one with fewer rows than its part of K.
    """

    data: Any
    strata: Any
    k: int
    generator: Seed = None
    allocation: str = "proportional"
    select: Select = None
    _kept: list[list[Row]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_positive_int(self.k, "k"))
        check_generator(self.generator, getattr(self.generator, "device", torch.device("cpu")))
        check_choice(self.allocation, "allocation", ALLOCATIONS)
        size = n_rows(self.data)
        if size is None:
            raise TypeError(
                f"data must have a length to have strata, got {type(self.data).__name__}; draw by baselines.sample"
            )
        check_enough(self.k, size)
        strata = self.strata
        names = np.asarray(strata.detach().cpu() if isinstance(strata, Tensor) else strata)
        if names.shape != (size,):
            raise ValueError(f"strata must name the stratum of each row of data, ({size},), got shape {names.shape}")
        object.__setattr__(self, "strata", names)

    def __repr__(self) -> str:
        return (
            f"stratified(<{_named(self.data)}>, <{len(np.unique(self.strata))} strata>, k={self.k}, "
            f"generator={self.generator!r}, allocation={self.allocation!r})"
        )

    def _rows(self, draws: torch.Generator) -> list[Row]:
        names, own, sizes = np.unique(self.strata, return_inverse=True, return_counts=True)
        shares = sizes if self.allocation == "proportional" else np.ones_like(sizes)
        parts, remainders = np.divmod(self.k * shares, shares.sum())  # in whole numbers, whose ties are exact
        parts[np.argsort(-remainders, kind="stable")[: self.k - parts.sum()]] += 1
        chosen: list[int] = []
        for number, (name, size, part) in enumerate(zip(names, sizes, parts.tolist(), strict=True)):
            if part > size:
                raise ValueError(
                    f"stratum {name!r} has {size} rows, too few for {part} of k={self.k}; give a smaller k, or "
                    "allocation='proportional'"
                )
            order = torch.randperm(int(size), generator=draws, device=draws.device)[:part].tolist()
            chosen += np.flatnonzero(own == number)[order].tolist()
        return rows_at(self.data, chosen, self.select, draws)


def _check_kind(entry: Tensor, x: Tensor) -> None:
    """Whether a row holds what the inputs do: floating-point or whole numbers."""
    if entry.is_floating_point() == x.is_floating_point() and not entry.is_complex() and entry.dtype != torch.bool:
        return
    if x.is_floating_point():
        raise TypeError(
            f"data must hold floating-point rows, got {entry.dtype}; prepare them exactly like the inputs "
            "(scale to [0, 1], normalise) first"
        )
    raise TypeError(
        f"data must hold rows of whole numbers, as the inputs do ({x.dtype}), got {entry.dtype}; draw rows of ids, and "
        "of k_means the nearest ones (nearest=True)"
    )


def _named(data: Any) -> str:
    size = n_rows(data)
    return type(data).__name__ + ("" if size is None else f" of {size}")
