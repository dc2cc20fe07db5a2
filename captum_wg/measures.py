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

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice
from captum_wg.engine.tensors import Inputs, accumulation_dtype, as_tuple, like_inputs

ANGLES = ("auto", "channel_pairs", "pixel", "global")

# (first, second, the remaining channel that shows their angle): rg -> blue, gb -> red, br -> green.
_CHANNEL_PAIRS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


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
        self._sums: tuple[Tensor, ...] = ()
        self._weight: Tensor | None = None
        self._is_tuple = False

    def update(
        self,
        gradients: Inputs,
        points: Inputs,
        inputs: Inputs | None,
        input_gradients: Inputs | None,
        weights: Tensor,
    ) -> None:
        self._is_tuple = isinstance(gradients, tuple)
        sums = tuple(_weighted_sum(_wide(g), weights) for g in as_tuple(gradients))
        weight = weights.sum(1)
        if self._weight is None:
            self._sums, self._weight = sums, weight
            return
        self._sums = tuple(a + b for a, b in zip(self._sums, sums, strict=True))
        self._weight = self._weight + weight

    def finish(self) -> Inputs:
        return _per_weight(self._sums, self._weight, self._is_tuple)


class Variance:
    """E[(g - E[g])^2], the gradient variance (Eq. 6), over the population of points: streamed with Chan's update.

    Never negative, and exactly 0 for a gradient that is the same at every point; the paper's E[g^2] - E[g]^2 is neither
    in floating point.
    """

    needs_input_gradients = False
    like_inputs = True

    def init(self, inputs: Inputs | None) -> None:
        self._origins: list[Tensor] = []
        self._means: list[Tensor] = []
        self._squares: list[Tensor] = []
        self._weight: Tensor | None = None
        self._is_tuple = False

    def update(
        self,
        gradients: Inputs,
        points: Inputs,
        inputs: Inputs | None,
        input_gradients: Inputs | None,
        weights: Tensor,
    ) -> None:
        self._is_tuple = isinstance(gradients, tuple)
        weight = weights.sum(1)
        means, squares = [], []
        if self._weight is None:
            # All is relative to the first point: equal gradients have a mean of exactly 0, and the running mean of
            # large, nearly equal ones keeps its digits.
            self._origins = [_wide(g)[:, :1].clone() for g in as_tuple(gradients)]
        for gradient, origin in zip(as_tuple(gradients), self._origins, strict=True):
            g = _wide(gradient) - origin
            mean = _weighted_sum(g, _share(weights, weight.unsqueeze(1)))
            squares.append(_weighted_sum((g - mean.unsqueeze(1)).square(), weights))
            means.append(mean)
        if self._weight is None:
            self._means, self._squares, self._weight = means, squares, weight
            return
        total = self._weight + weight
        share = _share(weight, total)
        for i, (mean, square) in enumerate(zip(means, squares, strict=True)):
            difference = mean - self._means[i]
            self._means[i] = self._means[i] + difference * _beside(share, mean)
            between = difference.square() * _beside(self._weight * share, mean)
            self._squares[i] = self._squares[i] + square + between
        self._weight = total

    def finish(self) -> Inputs:
        return _per_weight(tuple(self._squares), self._weight, self._is_tuple)


class _MeanCosine:
    """The mean cosine between the gradients at the points and another direction."""

    name = ""
    like_inputs = True

    def __init__(self, angle: str = "auto"):
        self.angle = check_choice(angle, "angle", ANGLES)

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        raise NotImplementedError

    def init(self, inputs: Inputs | None) -> None:
        if inputs is None:
            raise ValueError(
                f"{self.name} compares with an input, but inputs is None; give inputs, or leave it out of measures"
            )
        self._mean = Mean()
        self._mean.init(inputs)

    def update(
        self,
        gradients: Inputs,
        points: Inputs,
        inputs: Inputs,
        input_gradients: Inputs,
        weights: Tensor,
    ) -> None:
        others = self._other(points, inputs, input_gradients)
        values = cosines(tuple(_wide(g) for g in as_tuple(gradients)), others, self.angle)
        self._mean.update(like_inputs(values, isinstance(gradients, tuple)), points, inputs, None, weights)

    def finish(self) -> Inputs:
        # Rounding of the sum may leave the mean of numbers in [-1, 1] just outside of it.
        means = self._mean.finish()
        return like_inputs(tuple(m.clamp(-1, 1) for m in as_tuple(means)), isinstance(means, tuple))


class StabilityCosine(_MeanCosine):
    """E[cos(s - x, grad F(s))]: whether the gradients around x point back to it (Eq. 7). In [-1, 1].

    The paper's text and this use s - x; the published code has x - s, the negative.
    """

    name = "stability"
    needs_input_gradients = False

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        return tuple(_wide(p) - _wide(x).unsqueeze(1) for p, x in zip(as_tuple(points), as_tuple(inputs), strict=True))


class ConsistencyCosine(_MeanCosine):
    """E[cos(grad F(x), grad F(s))]: whether the gradients around x agree with that at x (Eq. 8). In [-1, 1]."""

    name = "consistency"
    needs_input_gradients = True

    def _other(self, points: Inputs, inputs: Inputs, input_gradients: Inputs) -> tuple[Tensor, ...]:
        return tuple(_wide(g).unsqueeze(1) for g in as_tuple(input_gradients))


class Collected:
    """A plain function of all gradients as a measure: it keeps them until the last point has come.

    The function is called once for each group of examples as function(gradients, points, inputs, input_gradients,
    weights), with S points in place of s.
    """

    needs_input_gradients = True

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def init(self, inputs: Inputs | None) -> None:
        self._tiles: list[tuple[tuple[Tensor, ...], tuple[Tensor, ...], Tensor]] = []

    def update(
        self, gradients: Inputs, points: Inputs, inputs: Inputs, input_gradients: Inputs, weights: Tensor
    ) -> None:
        self._others = inputs, input_gradients, isinstance(gradients, tuple)
        self._tiles.append((as_tuple(gradients), as_tuple(points), weights))

    def finish(self) -> Any:
        inputs, input_gradients, is_tuple = self._others
        gradients, points = (
            like_inputs(tuple(torch.cat(parts, 1) for parts in zip(*tiles, strict=True)), is_tuple)
            for tiles in list(zip(*self._tiles, strict=True))[:2]
        )
        weights = torch.cat([tile[2] for tile in self._tiles], 1)
        self._tiles = []
        return self.function(gradients, points, inputs, input_gradients, weights)


def cosines(u: tuple[Tensor, ...], v: tuple[Tensor, ...], angle: str = "auto") -> tuple[Tensor, ...]:
    """Cosines of the angles between two sets of vectors (b, s, *feature), shown on every element they belong to.

    angle: "channel_pairs": at each pixel three angles of 2-dimensional vectors, of channels (r, g) shown on b, (g, b)
    on r and (b, r) on g; for images of 3 channels. "pixel": at each pixel one angle, of the vectors of all its
    channels, shown on all of them. "global": one angle for the whole example, all Tensors of a tuple together, shown on
    every element. "auto": channel_pairs for images of 3 channels, pixel for images of other C > 1, global otherwise; an
    image is a Tensor (B, C, H, W) or of more dimensions. A zero vector has cosine 0; values are in [-1, 1].

    Raises:
        ValueError: channel_pairs for other than 3 channels, pixel without channels.
    """
    modes = [_angle_of(x, angle) for x in u]
    whole = None
    if "global" in modes:
        whole = _cosine([x.flatten(2) for x in map(_at_least_3d, u)], [x.flatten(2) for x in map(_at_least_3d, v)])
    result = []
    for a, b, mode in zip(u, v, modes, strict=True):
        if mode == "global":
            value = whole.reshape(*whole.shape[:2], *(1,) * (a.ndim - 2))  # type: ignore[union-attr]
        elif mode == "pixel":
            value = _cosine([a.movedim(2, -1)], [b.movedim(2, -1)]).unsqueeze(2)
        else:
            value = _cosines_of_pairs(a, b)
        result.append(value.expand_as(a))
    return tuple(result)


def _angle_of(x: Tensor, angle: str) -> str:
    """The angle of one element (b, s, *feature) of the inputs."""
    channels = x.shape[2] if x.ndim > 3 else None
    if angle == "auto":
        if x.ndim < 5 or channels == 1:
            return "global"
        return "channel_pairs" if channels == 3 else "pixel"
    if angle == "channel_pairs" and channels != 3:
        raise ValueError(
            "angle='channel_pairs' needs inputs with 3 channels, (B, 3, ...), got (B, "
            f"{', '.join(map(str, x.shape[2:]))}); "
            "use 'pixel', 'global' or 'auto'"
        )
    if angle == "pixel" and channels is None:
        raise ValueError(
            f"angle='pixel' needs inputs with channels, (B, C, ...), got (B, {', '.join(map(str, x.shape[2:]))}); use "
            "'global'"
        )
    return angle


def _cosines_of_pairs(u: Tensor, v: Tensor) -> Tensor:
    """The angle of every two of three channels, (b, s, 3, ...), shown on the third."""
    shown = torch.empty_like(u)
    for first, second, third in _CHANNEL_PAIRS:
        (a, b), (c, d) = _unit(u[:, :, first], u[:, :, second]), _unit(v[:, :, first], v[:, :, second])
        shown[:, :, third] = a * c + b * d
    return shown.clamp_(-1, 1)


def _unit(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors (a, b) divided by their lengths, zero vectors left as they are."""
    # By the larger element first: squares of the tiny gradients of a saturated softmax would underflow to 0.
    larger = torch.maximum(a.abs(), b.abs())
    larger = torch.where(larger > 0, larger, torch.ones_like(larger))
    a, b = a / larger, b / larger
    length = (a * a + b * b).sqrt_().clamp_(min=1)
    return a / length, b / length


def _cosine(u: list[Tensor], v: list[Tensor]) -> Tensor:
    """Cosine along the last dimension, of vectors whose elements lie in several Tensors; 0 where one is zero."""
    u, v = _scaled(u), _scaled(v)
    dot = torch.stack([(a * b).sum(-1) for a, b in zip(u, v, strict=True)]).sum(0)
    norms = [torch.stack([x.square().sum(-1) for x in w]).sum(0).sqrt() for w in (u, v)]
    product = norms[0] * norms[1]
    return torch.where(product > 0, dot / product, torch.zeros_like(dot)).clamp(-1, 1)


def _scaled(vector: list[Tensor]) -> list[Tensor]:
    # By their largest element: squares of the tiny gradients of a saturated softmax would underflow to 0.
    largest = torch.stack([x.abs().amax(-1) for x in vector]).amax(0).unsqueeze(-1)
    return [x / torch.where(largest > 0, largest, torch.ones_like(largest)) for x in vector]


def _at_least_3d(x: Tensor) -> Tensor:
    return x.unsqueeze(-1) if x.ndim == 2 else x


def _wide(x: Tensor) -> Tensor:
    return x.to(accumulation_dtype(x.dtype))


def _weighted_sum(values: Tensor, weights: Tensor) -> Tensor:
    """The sum over points of values (b, s, ...) times weights (1 or b, s)."""
    return (values * weights.to(values.dtype).view(*weights.shape, *(1,) * (values.ndim - 2))).sum(1)


def _share(part: Tensor, total: Tensor) -> Tensor:
    """part / total, and 0 where nothing has any weight."""
    return torch.where(total > 0, part / total, torch.zeros_like(part))


def _per_weight(totals: tuple[Tensor, ...], weight: Tensor | None, is_tuple: bool) -> Inputs:
    if weight is None:
        raise RuntimeError("a measure was finished before it was given any point")
    return like_inputs(tuple(t / _beside(weight, t) for t in totals), is_tuple)


def _beside(weight: Tensor, values: Tensor) -> Tensor:
    """A weight (1 or b,) shaped to multiply values (b, *feature)."""
    return weight.to(values.dtype).view(-1, *(1,) * (values.ndim - 1))
