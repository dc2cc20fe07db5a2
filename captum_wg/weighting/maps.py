"""The maps of K baselines for each of B examples, made when they are needed: what a weighting looks at."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.weighting.masking import Features


class Maps(Protocol):
    """What a weighting rule is given.

    Attributes:
        count: K.
        features: what is ranked and removed as a whole: pixels, elements, or the groups of a feature_mask.
    """

    count: int
    features: Features

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Those of baseline k of example b, b K + k = numbers (r,): (r, *feature) for each element of the inputs."""

    def norms(self) -> Tensor:
        """sum_i |map_k,i| over all elements of the inputs, (B, K)."""


class StoredMaps:
    """Maps that are there already, (B, K, *feature) for each element of the inputs."""

    def __init__(self, maps: tuple[Tensor, ...], features: Features):
        self.count = maps[0].shape[1]
        self.features = features
        self._maps = maps

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(m[numbers // self.count, numbers % self.count] for m in self._maps)

    def norms(self) -> Tensor:
        return _norms(self, len(self._maps[0]))


class PathMaps:
    """Mean gradients along paths (B, K, *feature), times x - x'_k where they are asked for."""

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        references: BaselineSet,
        sums: tuple[Tensor, ...],
        multiply: bool,
        features: Features,
    ):
        self.count = references.count
        self.features = features
        self._inputs = inputs
        self._references = references
        self._sums = StoredMaps(sums, features)
        self._multiply = multiply

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        found = self._sums.rows(numbers)
        if not self._multiply:
            return found
        examples = numbers // self.count
        starts = self._references.of_rows(examples, numbers % self.count)
        return tuple(f * (x[examples].to(f) - s.to(f)) for f, x, s in zip(found, self._inputs, starts, strict=True))

    def norms(self) -> Tensor:
        return _norms(self, len(self._inputs[0]))


def _norms(maps: Maps, n_examples: int) -> Tensor:
    columns = []
    for k in range(maps.count):
        # One baseline of all examples at a time.
        rows = maps.rows(torch.arange(n_examples) * maps.count + k)
        columns.append(torch.stack([m.flatten(1).abs().sum(1).cpu() for m in rows]).sum(0))
    return torch.stack(columns, dim=1)
