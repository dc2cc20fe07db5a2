"""What a weighting rule is, and a caller's own one.

A weighting is a callable of the problem and of the maps of its K baselines:

    def by_norm(problem, maps):
        norms = maps.norms()                      # (B, K)
        return norms / norms.sum(1, keepdim=True)

    WeightedGradients(model).attribute(x, baselines, target=y, weighting=by_norm)

problem (`captum_wg.engine.problem.Problem`) has the checked `inputs` (a tuple of Tensors (B, *feature)), `n_examples`,
`baselines`, `outputs_at_inputs()`, and `raw_outputs(rows, examples)`, the model's output without gradients; maps
(`captum_wg.weighting.maps.Maps`) have `count` (K), `rows(numbers)`, `norms()` and `features`. The callable returns
weights (B, K): finite, not negative, each row of sum 1. It is called once, after the gradients; with `keep` the
baselines of the largest weights are kept, and with `screening_steps` it is called for the maps of few steps too.

Shapes: B examples, K baselines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from captum_wg.engine.checks import name_rows
from captum_wg.engine.problem import Problem
from captum_wg.weighting.both import Both
from captum_wg.weighting.deletion import Deletion
from captum_wg.weighting.equal import Equal
from captum_wg.weighting.fitness import FitnessWeighting
from captum_wg.weighting.insertion import Insertion
from captum_wg.weighting.maps import Maps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import only, smallest

Ours = FitnessWeighting | Equal
NAMED: dict[str, type[Ours]] = {"deletion": Deletion, "insertion": Insertion, "both": Both, "equal": Equal}
FORMS = (
    f"weighting must be one of {tuple(NAMED)}, an object such as Deletion(alpha=0.5), or a callable "
    "(problem, maps) -> (B, K)"
)

Weighting = str | Callable[[Problem, Maps], Tensor]


class BoundWeighting(Protocol):
    """A weighting for the examples of one call."""

    def needs_maps(self, n_baselines: int, fewer: bool) -> bool:
        """Whether the weights of K baselines, of which fewer are kept or not, depend on their maps."""

    def check(self, fewer: bool) -> None:
        """Raise before gradients are taken, if it is clear by now that there will be no weights."""

    def __call__(self, maps: Maps, n_kept: int | None = None) -> Tensor:
        """Weights (B, K), float64, of sum 1; 0 for all but the n_kept best."""

    def choose(self, maps: Maps, n_kept: int) -> Tensor:
        """The numbers (B, n_kept) of the best baselines, ascending."""


def bind(weighting: object, problem: Problem, features: Features) -> BoundWeighting:
    """The weighting that an argument means, for the examples of one call.

    Raises:
        TypeError, ValueError: neither a known name, one of our objects nor a callable.
    """
    if isinstance(weighting, str):
        if weighting not in NAMED:
            raise ValueError(f"{FORMS}, got {weighting!r}")
        weighting = NAMED[weighting]()
    if isinstance(weighting, Ours):
        return weighting.bind(problem, features)
    if isinstance(weighting, type):
        raise TypeError(f"{FORMS}, got {weighting!r}; make an object of it: {weighting.__name__}()")
    if not callable(weighting):
        raise TypeError(f"{FORMS}, got {weighting!r}")
    return BoundCallable(weighting, problem)


class BoundCallable(NamedTuple):
    """A caller's own rule, whose result is checked."""

    rule: Callable[[Problem, Maps], Tensor]
    problem: Problem

    def needs_maps(self, n_baselines: int, fewer: bool) -> bool:
        return n_baselines > 1

    def check(self, fewer: bool) -> None:
        pass

    def __call__(self, maps: Maps, n_kept: int | None = None) -> Tensor:
        weights = self._weights(maps)
        return weights if n_kept is None else only(weights, smallest(-weights, n_kept))

    def choose(self, maps: Maps, n_kept: int) -> Tensor:
        return smallest(-self._weights(maps), n_kept)

    def _weights(self, maps: Maps) -> Tensor:
        with torch.no_grad():
            weights = self.rule(self.problem, maps)
        shape = (self.problem.n_examples, maps.count)
        if not isinstance(weights, Tensor) or not weights.is_floating_point():
            came = f"a Tensor of {weights.dtype}" if isinstance(weights, Tensor) else type(weights).__name__
            raise TypeError(f"weighting must return a floating point Tensor (B, K) = {shape}, got {came}")
        if tuple(weights.shape) != shape:
            raise ValueError(f"weighting must return weights (B, K) = {shape}, got shape {tuple(weights.shape)}")
        weights = weights.detach().cpu().double()
        if (rows := ~torch.isfinite(weights).all(1)).any():
            raise ValueError(f"weighting returns NaN or infinite weights for examples {name_rows(rows)}")
        if (rows := (weights < 0).any(1)).any():
            raise ValueError(
                f"weighting returns negative weights for examples {name_rows(rows)}; give shares from 0 to 1"
            )
        sums = weights.sum(1)
        if (rows := (sums - 1).abs() > 1e-3).any():
            raise ValueError(
                f"weighting must return rows of sum 1, got {sums[rows][0]:.4g} (examples {name_rows(rows)}); divide by "
                "weights.sum(1, keepdim=True)"
            )
        return weights / sums.unsqueeze(1)
