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
        self._sums = sums
        self._multiply = multiply

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        examples, which = numbers // self.count, numbers % self.count
        found = tuple(s[examples, which] for s in self._sums)
        if not self._multiply:
            return found
        starts = self._references.of_rows(examples, which)
        return tuple(
            f * (x[examples].to(f.dtype) - s.to(f.dtype)) for f, x, s in zip(found, self._inputs, starts, strict=True)
        )

    def norms(self) -> Tensor:
        return norms(self, len(self._inputs[0]))


class StoredMaps:
    """Maps that are there already, (B, K, *feature) for each element of the inputs."""

    def __init__(self, maps: tuple[Tensor, ...], features: Features):
        self.count = maps[0].shape[1]
        self.features = features
        self._examples = len(maps[0])
        self._flat = tuple(m.flatten(0, 1) for m in maps)

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(m[numbers] for m in self._flat)

    def norms(self) -> Tensor:
        return norms(self, self._examples)


def norms(maps: Maps, n_examples: int) -> Tensor:
    """sum_i |map_k,i|, (B, K), one baseline of all examples at a time."""
    columns = []
    for k in range(maps.count):
        numbers = torch.arange(n_examples) * maps.count + k
        columns.append(torch.stack([m.flatten(1).abs().sum(1).cpu() for m in maps.rows(numbers)]).sum(0))
    return torch.stack(columns, dim=1)
