"""Statistics of gradients over sample points, folded in tile by tile: Payne et al. 2024, equations 4 and 6 to 8.

A measure is an object with three methods, called for one group of b examples after another:

    init(inputs)                                                    forget everything, a new group begins
    update(gradients, points, inputs, input_gradients, weights)     fold in a tile of s points
    finish() -> Tensor or tuple of Tensors (b, ...)                 the attribution of the group

with gradients and points (b, s, *feature), inputs and input_gradients (b, *feature) and weights (1 or b, s), which sum
to 1 over all points of the call. They are Tensors, or tuples of Tensors if the caller's inputs are a tuple; inputs and
input_gradients are None where an attribution is over a set alone. A measure with the attribute
`needs_input_gradients = False` is given None for input_gradients and spares one gradient per example; the results of
one with `like_inputs = True` are brought to the inputs' dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_wg.cosines import ANGLES, cosines
from captum_wg.engine.checks import check_choice
from captum_wg.engine.tensors import Inputs, along, as_tuple, at_least_float32, beside, like_inputs


@runtime_checkable
class Measure(Protocol):
    """What GeneralizedAttribution asks of a measure."""

    def init(self, inputs: Any) -> None: ...

    def update(self, gradients: Any, points: Any, inputs: Any, input_gradients: Any, weights: Tensor) -> None: ...

    def finish(self) -> Any: ...


class Mean:
    """E[g], the integrated gradients of the set (Eq. 2, 4 and 5): streamed as sum(w g) / sum(w)."""

    needs_input_gradients = False
    like_inputs = True

    def init(self, inputs: Inputs | None) -> None:
        self._totals: list[Tensor] = []

    def update(self, gradients: Inputs, points: Any, inputs: Any, input_gradients: Any, weights: Tensor) -> None:
        self._is_tuple = isinstance(gradients, tuple)
        totals = [weights.sum(1), *(_weighted_sum(g, weights) for g in _wide(gradients))]
        self._totals = [a + b for a, b in zip(self._totals, totals, strict=True)] if self._totals else totals

    def finish(self) -> Inputs:
        return like_inputs(_per_weight(self._totals[1:], next(iter(self._totals), None)), self._is_tuple)


class Variance:
    """E[(g - E[g])^2], the gradient variance (Eq. 6), over the population of points: streamed with Chan's update.

    Never negative, and exactly 0 for a gradient that is the same at every point; the paper's E[g^2] - E[g]^2 is neither
    in floating point.
    """

    needs_input_gradients = False
    like_inputs = True

    def init(self, inputs: Inputs | None) -> None:
        self._weight: Tensor | None = None
        self._origins: list[Tensor] = []
        self._moments: list[tuple[Tensor, Tensor]] = []  # the means, and the sums of squares around them

    def update(self, gradients: Inputs, points: Any, inputs: Any, input_gradients: Any, weights: Tensor) -> None:
        self._is_tuple = isinstance(gradients, tuple)
        wide = _wide(gradients)
        if self._weight is None:
            # All is relative to the first point: equal gradients have a mean of exactly 0, and the running mean of
            # large, nearly equal ones keeps its digits.
            self._origins = [g[:, :1].clone() for g in wide]
        weight = weights.sum(1)
        moments = []
        for g in (g - origin for g, origin in zip(wide, self._origins, strict=True)):
            mean = _weighted_sum(g, _share(weights, weight.unsqueeze(1)))
            moments.append((mean, _weighted_sum((g - mean.unsqueeze(1)).square(), weights)))
        if self._weight is None:
            self._weight, self._moments = weight, moments
            return
        total = self._weight + weight
        share = _share(weight, total)
        between = self._weight * share
        for i, ((old_mean, old_squares), (mean, squares)) in enumerate(zip(self._moments, moments, strict=True)):
            difference = mean - old_mean
            squares = old_squares + squares + difference.square() * _weight(between, mean)
            self._moments[i] = (old_mean + difference * _weight(share, mean), squares)
        self._weight = total

    def finish(self) -> Inputs:
        return like_inputs(_per_weight([squares for _, squares in self._moments], self._weight), self._is_tuple)


class _MeanCosine(Mean):
    """The mean cosine between the gradients at the points and another direction."""

    name = ""

    def __init__(self, angle: str = "auto"):
        self.angle = check_choice(angle, "angle", ANGLES)

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def init(self, inputs: Inputs | None) -> None:
        if inputs is None:
            raise ValueError(
                f"{self.name} compares with an input, but inputs is None; give inputs, or leave it out of measures"
            )
        super().init(inputs)

    def update(self, gradients: Inputs, points: Any, inputs: Any, input_gradients: Any, weights: Tensor) -> None:
        values = cosines(_wide(gradients), self._other(points, inputs, input_gradients), self.angle)
        super().update(like_inputs(values, isinstance(gradients, tuple)), points, inputs, None, weights)

    def finish(self) -> Inputs:
        # Rounding of the sum may leave the mean of numbers in [-1, 1] just outside of it.
        return like_inputs(tuple(m.clamp(-1, 1) for m in as_tuple(super().finish())), self._is_tuple)


class StabilityCosine(_MeanCosine):
    """E[cos(s - x, grad F(s))]: whether the gradients around x point back to it (Eq. 7). In [-1, 1].

    The paper's text and this use s - x; the published code has x - s, the negative.
    """

    name = "stability"

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        return tuple(p - x.unsqueeze(1) for p, x in zip(_wide(points), _wide(inputs), strict=True))


class ConsistencyCosine(_MeanCosine):
    """E[cos(grad F(x), grad F(s))]: whether the gradients around x agree with that at x (Eq. 8). In [-1, 1]."""

    name = "consistency"
    needs_input_gradients = True

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        return tuple(g.unsqueeze(1) for g in _wide(input_gradients))


class Collected:
    """A plain function of all gradients as a measure: it keeps them until the last point has come.

    The function is called once for each group of examples as function(gradients, points, inputs, input_gradients,
    weights), with S points in place of s.
    """

    needs_input_gradients = True

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def init(self, inputs: Inputs | None) -> None:
        self._tiles: list[tuple[Inputs, Inputs, Tensor]] = []

    def update(self, gradients: Inputs, points: Inputs, inputs: Any, input_gradients: Any, weights: Tensor) -> None:
        self._others = inputs, input_gradients
        self._tiles.append((gradients, points, weights))

    def finish(self) -> Any:
        gradients, points, weights = map(_joined, zip(*self._tiles, strict=True))
        self._tiles = []
        return self.function(gradients, points, *self._others, weights)


def _joined(tiles: tuple[Inputs, ...]) -> Inputs:
    joined = tuple(torch.cat(parts, 1) for parts in zip(*map(as_tuple, tiles), strict=True))
    return like_inputs(joined, isinstance(tiles[0], tuple))


def _wide(values: Inputs) -> tuple[Tensor, ...]:
    return tuple(map(at_least_float32, as_tuple(values)))


def _weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """The sum over points of values (b, s, ...) times weights (1 or b, s)."""
    return (values * along(weights.to(values.dtype), values)).sum(1)


def _weight(weight: Tensor, like: Tensor) -> Tensor:
    """A weight (1 or b,) to multiply values (b, *feature)."""
    return beside(weight.to(like.dtype), like)


def _share(part: Tensor, total: Tensor) -> Tensor:
    """part / total, and 0 where nothing has any weight."""
    return torch.where(total > 0, part / total, torch.zeros_like(part))


def _per_weight(totals: Iterable[Tensor], weight: Tensor | None) -> tuple[Tensor, ...]:
    if weight is None:
        raise RuntimeError("a measure was finished before it was given any point")
    return tuple(t / _weight(weight, t) for t in totals)
