"""Baselines that all count the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from captum_wg.engine.checks import check_bool
from captum_wg.engine.problem import Problem
from captum_wg.weighting.maps import Maps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import equal_weights, of_normalised_maps

NO_FITTEST = "weighting='equal' has no fittest baselines to keep; use Deletion(power=0), or leave keep out"


@dataclass(frozen=True)
class Equal:
    """w_k = 1 / K, for the price of ExpectedGradients: no masked forward is run.

    Args:
        normalise_maps: divide each baseline's map by its L1 norm first, so that none counts for more because its map is
            larger (as in `captum_wg.weighting.fitness.FitnessWeighting`).
    """

    normalise_maps: bool = False

    def __post_init__(self) -> None:
        check_bool(self.normalise_maps, "normalise_maps")

    def __call__(self, problem: Problem, maps: Maps) -> Tensor:
        equal = equal_weights(problem.n_examples, maps.count)
        return of_normalised_maps(equal, maps.norms()) if self.normalise_maps else equal

    def bind(self, problem: Problem, features: Features) -> BoundEqual:
        """The weighting for the examples of one call."""
        return BoundEqual(self, problem)


class BoundEqual(NamedTuple):
    """`Equal` for the examples of one call."""

    rule: Equal
    problem: Problem

    def needs_maps(self, n_baselines: int, fewer: bool) -> bool:
        return n_baselines > 1 and self.rule.normalise_maps

    def check(self, fewer: bool) -> None:
        if fewer:
            raise ValueError(NO_FITTEST)

    def __call__(self, maps: Maps, n_kept: int | None = None) -> Tensor:
        return self.rule(self.problem, maps)

    def choose(self, maps: Maps, n_kept: int) -> Tensor:
        raise ValueError(NO_FITTEST)
