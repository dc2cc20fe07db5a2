"""Sets of interest around an input, and the points at which an attribution samples them.

A sampler's points are made when a micro-batch needs them, from draws that all examples of a call share; so neither
memory nor the map of an example depends on how the work was cut up. Shapes: B examples, K references, S points.

| sampler     | point                                                    | needs                       |
|-------------|----------------------------------------------------------|-----------------------------|
| "segments"  | x + t (r - x),  t uniform on [0, min(1, radius/|r - x|)] | references                  |
| "staggered" | the same, t evenly spaced, shifted between references    | references                  |
| "ball"      | x + radius u^(1/n) d,  d uniform on the unit sphere      | a finite radius             |
| "rays"      | x + u radius r / |r|,  u uniform on [0, 1]               | references, a finite radius |

Norms are over all n elements of an input, and of all Tensors of a tuple together. With radius = inf "segments" are the
paths of expected gradients (Erion et al. 2021). "rays" is what the code published with Payne et al. 2024 does; the
paper's text describes "segments" cut off by the ball. "staggered" has less error than "segments" at as many points.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_generator, check_positive_int, name_rows, not_finite
from captum_wg.engine.problem import Points, PointSource
from captum_wg.engine.tensors import accumulation_dtype, along, as_tuple, like_inputs
from captum_wg.integrals.random import reference_order

SAMPLERS = ("segments", "staggered", "ball", "rays")

Sampler = str | Callable[..., object]

# The points, how many, and Tensors whose rows are like the inputs'.
Sample = tuple[PointSource, int, tuple[Tensor, ...]]


def check_radius(radius: object) -> float:
    """radius as a float: greater than 0, possibly infinite."""
    if isinstance(radius, bool) or not isinstance(radius, numbers.Real) or not float(radius) > 0:
        raise ValueError(f"radius must be a number greater than 0 (float('inf') for no limit), got {radius!r}")
    return float(radius)


def segments(
    inputs: tuple[Tensor, ...],
    references: BaselineSet,
    radius: float,
    n_samples: int,
    generator: torch.Generator,
    staggered: bool = False,
) -> PointSource:
    """Points on the segments from each input towards the references, no farther than radius.

    staggered: with K references and S points, the n_k points of reference k lie at the shares (j + (p(k) + 1/2) / m) /
    n_k, j < n_k, of its segment, p a random order of the m = min(K, S) references used.
    """
    which, share = _along_references(inputs, references.count, n_samples, generator, staggered)
    dtype = accumulation_dtype(*inputs)

    def points(examples: slice, chosen: slice) -> Points:
        ends = zip(inputs, references.at(examples, which[chosen]), strict=True)
        offsets = tuple(r.to(dtype) - x[examples].unsqueeze(1).to(dtype) for x, r in ends)
        distance = _norm(offsets)
        limit = torch.where(distance > radius, radius / distance, torch.ones_like(distance))
        lengths = share[chosen].to(limit.dtype) * limit
        return _moved(inputs, examples, (along(lengths, d) * d for d in offsets))

    return points


def rays(
    inputs: tuple[Tensor, ...], references: BaselineSet, radius: float, n_samples: int, generator: torch.Generator
) -> PointSource:
    """Points x + u radius r / |r|: in the direction of the reference itself, not of its difference to the input."""
    if not math.isfinite(radius):
        raise ValueError("radius must be finite for sampler='rays', got inf; give one, or use 'segments'")
    which, share = _along_references(inputs, references.count, n_samples, generator)
    zero = _norm(references.values, batch_dims=1 if references.shared else 2) == 0
    if zero.any():
        rows = zero if references.shared else zero.any(0)
        raise ValueError(
            f"baselines number {name_rows(rows)} are zero, which has no direction; sampler='rays' goes along the "
            "references themselves: leave them out, or use 'segments'"
        )

    def points(examples: slice, chosen: slice) -> Points:
        directions = tuple(r.to(share.dtype) for r in references.at(examples, which[chosen]))
        lengths = share[chosen] * radius / _norm(directions)
        return _moved(inputs, examples, (along(lengths, d) * d for d in directions))

    return points


def ball(inputs: tuple[Tensor, ...], radius: float, n_samples: int, generator: torch.Generator) -> PointSource:
    """Points uniform in the ball of the given radius around each input."""
    if not math.isfinite(radius):
        raise ValueError("radius must be finite for sampler='ball', got inf; the whole space has no uniform points")
    # One seed a point: its direction can then be drawn whenever its turn comes, without keeping all S of them.
    seeds = torch.randint(2**62, (n_samples,), generator=generator, device=generator.device).tolist()
    dimension, dtype = sum(x[0].numel() for x in inputs), accumulation_dtype(*inputs)

    def offset(seed: int) -> list[Tensor]:
        own = torch.Generator(generator.device).manual_seed(seed)
        drawn = (torch.randn((1, 1, *x.shape[1:]), generator=own, device=own.device, dtype=dtype) for x in inputs)
        normal = tuple(n.to(x.device) for n, x in zip(drawn, inputs, strict=True))
        u = torch.rand((), generator=own, device=own.device, dtype=torch.float64).item()
        length = radius * u ** (1 / dimension) / _norm(normal)
        return [n * along(length, n) for n in normal]

    def points(examples: slice, chosen: slice) -> Points:
        offsets = zip(*map(offset, seeds[chosen]), strict=True)
        return _moved(inputs, examples, (torch.cat(parts, dim=1) for parts in offsets))

    return points


def from_callable(sampler: Callable[..., object], inputs: tuple[Tensor, ...], is_tuple: bool) -> Sample:
    """The sample a caller's own sampler gives.

    sampler(inputs) -> (B, S, *feature); with no input (an attribution over a set) sampler(None) -> (1, S, *feature).
    """
    given: Any = sampler(like_inputs(inputs, is_tuple) if inputs else None)
    values: tuple[Any, ...] = as_tuple(given)
    if not all(isinstance(v, Tensor) for v in values):
        raise TypeError(
            f"sampler must return a Tensor, or a tuple of Tensors for a tuple of inputs, got {type(given).__name__}"
        )
    if inputs and len(values) != len(inputs):
        raise ValueError(f"sampler must return one Tensor for each of the {len(inputs)} inputs, got {len(values)}")
    n_points = values[0].shape[1] if values[0].ndim > 1 else 0
    for value, x in zip(values, inputs or values, strict=True):
        lead, wanted = (len(x), f"(B, S, *feature) = ({len(x)}, S, ...)") if inputs else (1, "(1, S, *feature)")
        shape = tuple(value.shape)
        if n_points == 0 or shape != (lead, n_points, *x.shape[1 if inputs else 2 :]):
            raise ValueError(f"sampler must return points of shape {wanted}, the same S >= 1 throughout, got {shape}")
        if value.dtype != x.dtype:
            raise TypeError(f"sampler returns {value.dtype}, the inputs are {x.dtype}; convert the points")
        if not value.is_floating_point():
            raise TypeError(f"sampler must return floating point Tensors, got {value.dtype}")
        if (bad := not_finite(value)).any():
            raise ValueError(f"sampler returns NaN or infinite points for examples {name_rows(bad)}")
    points = tuple(v.detach() for v in values)
    like = inputs or tuple(p[0] for p in points)
    return lambda examples, chosen: Points(tuple(p[examples, chosen] for p in points)), n_points, like


def make_points(
    sampler: Sampler,
    inputs: tuple[Tensor, ...],
    is_tuple: bool,
    references: BaselineSet | None,
    radius: object,
    n_samples: object,
    generator: object,
) -> Sample:
    """The sample of a call: that of a built-in sampler, whose needs are checked, or of the caller's own."""
    if callable(sampler):
        return from_callable(sampler, inputs, is_tuple)
    if not inputs:
        raise ValueError(
            f"inputs is None and sampler={sampler!r}: an attribution over a set alone needs a callable sampler that "
            "returns the set's points, (1, S, *feature)"
        )
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {SAMPLERS} or a callable of the inputs, got {sampler!r}")
    limit, count = check_radius(radius), check_positive_int(n_samples, "n_samples")
    draws = check_generator(generator, inputs[0].device)
    if sampler == "ball":
        return ball(inputs, limit, count, draws), count, inputs
    if references is None:
        raise ValueError(
            f"baselines are the reference points that sampler={sampler!r} goes towards, got None; give some (a Tensor "
            "(K, *feature) of training examples, or captum_wg.baselines.sample), or use sampler='ball'"
        )
    if sampler == "rays":
        return rays(inputs, references, limit, count, draws), count, inputs
    return segments(inputs, references, limit, count, draws, staggered=sampler == "staggered"), count, inputs


def _along_references(
    inputs: tuple[Tensor, ...], count: int, n_samples: int, generator: torch.Generator, staggered: bool = False
) -> tuple[Tensor, Tensor]:
    """Which of `count` references each point goes to and which share of the way, both (S,)."""
    device = generator.device
    which = reference_order(count, n_samples, generator)
    if staggered:
        used = min(count, n_samples)
        order = torch.arange(n_samples, device=device)
        turn, place = order.div(used, rounding_mode="floor"), order % used
        shift = torch.randperm(used, generator=generator, device=device).double() + 0.5
        share = (turn + shift[place] / used) / place.bincount(minlength=used)[place]
    else:
        # Drawn in float64 and cut later: a wider dtype of the inputs then sees the same points.
        share = torch.rand(n_samples, generator=generator, device=device, dtype=torch.float64)
    return which.to(inputs[0].device), share.to(accumulation_dtype(*inputs)).to(inputs[0].device)


def _norm(values: tuple[Tensor, ...], batch_dims: int = 2) -> Tensor:
    """The Euclidean norm over all elements of all Tensors, (b, s)."""
    parts = [torch.linalg.vector_norm(v.reshape(*v.shape[:batch_dims], -1), dim=-1) for v in values]
    norm: Tensor = torch.linalg.vector_norm(torch.stack(parts, dim=-1), dim=-1)
    return norm


def _moved(inputs: tuple[Tensor, ...], examples: slice, offsets: Iterable[Tensor]) -> Points:
    """x + offset, (b, s, *feature) in the inputs' dtype."""
    moved = ((x[examples].unsqueeze(1) + d).to(x.dtype) for x, d in zip(inputs, offsets, strict=True))
    return Points(tuple(moved))
