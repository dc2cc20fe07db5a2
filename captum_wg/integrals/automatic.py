"""Integrated gradients with as many steps as they need: nested points, taken until the convergence delta is small.

The rule is "riemann_shared_end" of `captum_wg.integrals.nodes`. Its n points are among those of 3 n - 1, so a path goes
on from 6 points to 17, 50, 149, ... and every gradient counts in the end. Shapes: B examples, K baselines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_number, check_positive_int, name_rows, warn
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem, even_parts
from captum_wg.engine.tensors import accumulation_dtype, beside
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.rule import SHARED_END, Part, Rule, Sums
from captum_wg.integrals.walk import add_gradients

FIRST_STEPS = 6


class _Begun(NamedTuple):
    """n points on every path that have been taken already, and the mean gradients (B, K, *feature) of them."""

    n_steps: int
    sums: Sums


@dataclass(frozen=True)
class Automatic:
    """As many points per path as bring the convergence delta within a tolerance, for each example on its own.

    For `n_steps`: "auto" is short for Automatic(). The gradients taken on the way all count. (The tolerance bounds the
    sum of the map's errors, not the error of the map. One map per baseline is held for the examples at work.)

    Args:
        tolerance: of the convergence delta, relative to the mean over baselines of |F(x) - F(x'_k)|; above 0. In
            WeightedGradients it holds for the delta of every baseline's own integral, and so for any weights.
        max_steps: the most points per baseline, of 6, 17, 50, 149, 446, ...; examples left outside the tolerance are
            warned of.
    """

    tolerance: float = 0.01
    max_steps: int = 200

    def __post_init__(self) -> None:
        check_number(self.tolerance, "tolerance", 0.0, open_interval=True)
        if check_positive_int(self.max_steps, "max_steps") < FIRST_STEPS:
            raise ValueError(
                f"max_steps must be at least {FIRST_STEPS}, with which every path starts, got {self.max_steps}"
            )

    @property
    def points(self) -> int:
        return FIRST_STEPS

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        return _parts(self, problem, references, completeness, each, None)

    def coarse(self, n_steps: int) -> Fixed:
        return Fixed(SHARED_END, n_steps, "screening_steps")

    def going_on(self, n_steps: int, sums: Sums) -> tuple[Rule, Sums | None]:
        return _Continued(self, _Begun(n_steps, sums)), None


class _Continued:
    """An automatic rule that goes on from points that have been taken already."""

    def __init__(self, rule: Automatic, begun: _Begun):
        self._rule = rule
        self._begun = begun

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        return _parts(self._rule, problem, references, completeness, each, self._begun)


class Refined(NamedTuple):
    """The integrals of a few examples, b of the B.

    Attributes:
        examples: which.
        sums: for each element of the inputs the mean gradient along each path, (b, K, *feature).
        deltas: sum_i of it times x - x'_k, less F(x) - F(x'_k), (b, K), float64 on the CPU.
        steps: points on each path, x included, (b, K), int64 on the CPU.
    """

    examples: slice
    sums: Sums
    deltas: Tensor
    steps: Tensor


def _parts(
    rule: Automatic,
    problem: Problem,
    references: BaselineSet,
    completeness: Completeness,
    each: bool,
    begun: _Begun | None,
) -> Iterator[Part]:
    for refined in refined_integrals(rule, problem, references, completeness, each, begun):
        for k in range(references.count):
            differences = references.differences(problem.inputs, refined.examples, k, refined.sums[0].dtype)
            yield Part(
                refined.examples,
                torch.tensor([k], device="cpu"),
                refined.sums[0].new_full((1,), 1 / references.count),
                tuple(s[:, k : k + 1] for s in refined.sums),
                tuple(d.unsqueeze(1) for d in differences),
                steps=refined.steps[:, k : k + 1],
            )


def refined_integrals(
    rule: Automatic,
    problem: Problem,
    references: BaselineSet,
    completeness: Completeness,
    each: bool = False,
    begun: _Begun | None = None,
) -> Iterator[Refined]:
    """The integral along every path, of a few examples at a time, with as many points as the tolerance takes.

    With delta_k = <mean gradient, x - x'_k> - (F(x) - F(x'_k)) and scale = mean_k |F(x) - F(x'_k)|, an example is
    finished when both |mean_k delta_k| and sqrt(sum_k delta_k^2) / K (what chance makes of their mean; without it
    errors that happen to cancel would end it too soon) are within tolerance * scale. Until then some of its baselines
    go on to 3 n - 1 points: of those at the lowest level whose delta_k is more than rounding the ones with the largest
    |delta_k|, at most half of all K. Memory holds one map per baseline of the examples at work.

    Args:
        rule: tolerance and max_steps.
        problem, references, completeness: the explained function and examples, their K baselines, and F at both.
        each: every |delta_k| has to be within tolerance * scale instead, so that any weighted mean of them is; the
            paths that are not go on.
        begun: points on every path to go on from instead of 6.

    Raises:
        ValueError: the output at an input or a baseline, or a gradient, is NaN or infinite.

    Warns:
        UserWarning: examples that max_steps ends outside the tolerance, with the largest delta among them.
    """
    tolerance, max_steps, n_baselines = rule.tolerance, rule.max_steps, references.count
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    device = problem.inputs[0].device
    first_steps = FIRST_STEPS if begun is None else begun.n_steps
    at_inputs = completeness.at_inputs
    rises = (at_inputs.unsqueeze(1) - completeness.at_baselines).cpu().double()
    bad = ~torch.isfinite(rises).all(1)
    if bad.any():
        raise ValueError(
            f"n_steps='auto' goes by the output's change, which is NaN or infinite for examples {name_rows(bad)} (at "
            "the input or at a baseline); give n_steps a number, or other baselines"
        )
    # What rounding alone may leave of a delta: of the sums, and of the outputs themselves.
    epsilon = 16 * torch.finfo(dtype).eps
    if problem.output_dtype is not None and problem.output_dtype.is_floating_point:
        epsilon = max(epsilon, 2 * torch.finfo(problem.output_dtype).eps)
    rounding = epsilon * (at_inputs.unsqueeze(1).cpu().double().abs() + rises.abs()).amax(1)
    scale = rises.abs().mean(1)
    missed = torch.zeros(problem.n_examples, dtype=torch.bool, device="cpu")
    worst = (0.0, 0.0)
    with problem.progress(problem.n_examples * (n_baselines * (first_steps - 1) + 1) if begun is None else 0) as bar:
        for first, last in even_parts(problem.n_examples, max(1, problem.rows() // n_baselines)):
            examples = slice(first, last)
            if begun is None:
                totals = tuple(
                    torch.zeros(last - first, n_baselines, *x.shape[1:], dtype=dtype, device=device)
                    for x in problem.inputs
                )
                _add_half_of_the_ends(problem, totals, examples, bar)
            else:
                # What is summed counts 1 / (n - 1/2) each in the mean.
                totals = tuple(sums[examples].to(dtype) * (first_steps - 0.5) for sums in begun.sums)
            steps = torch.full((last - first, n_baselines), first_steps, device="cpu")
            refine = torch.full_like(steps, begun is None, dtype=torch.bool)
            allowed = tolerance * scale[examples] + rounding[examples]
            fresh = begun is None
            while True:
                if refine.any():
                    nodes = [_new_nodes(int(n), fresh) for n in steps[refine]]
                    if not fresh:
                        bar.total += sum(map(len, nodes))
                    add_gradients(problem, references, totals, refine.nonzero(), nodes, first, bar)
                deltas = _products(problem, references, totals, examples, steps) - rises[examples]
                refine = _paths_to_refine(deltas, steps, allowed, rounding[examples], max_steps, each)
                if not refine.any():
                    break
                steps = torch.where(refine, 3 * steps - 1, steps)
                fresh = False
            for total in totals:
                total /= beside((steps - 0.5).to(dtype).to(device), total)
            off = _distance(deltas, each)
            outside = ~(off <= allowed)
            missed[examples] = outside
            if outside.any():
                worst = max(worst, *zip(off[outside].tolist(), allowed[outside].tolist(), strict=True))
            yield Refined(examples, totals, deltas, steps)
    if missed.any():
        level = first_steps
        while 3 * level - 1 <= max_steps:
            level = 3 * level - 1
        warn(
            f"for examples {name_rows(missed)} the convergence delta is not known to be within tolerance = "
            f"{tolerance:g} with {level} points per baseline (at worst it may be {worst[0]:.2g} where {worst[1]:.2g} "
            f"is allowed). Raise max_steps to {3 * level - 1}, the next level, or the tolerance, of "
            "n_steps=Automatic(tolerance, max_steps); or look for jumps of the model along the paths"
        )


def _new_nodes(n: int, fresh: bool) -> Tensor:
    """The nodes of n points but for x; unless fresh without the middle of every three, those of (n + 1) / 3 points."""
    j = torch.arange(n - 1, dtype=torch.float64, device="cpu")
    nodes = (j + 0.5) / (n - 0.5)
    return nodes if fresh else nodes[j % 3 != 1]


def _add_half_of_the_ends(problem: Problem, totals: tuple[Tensor, ...], examples: slice, bar: object) -> None:
    """Add half of the gradient at x, which counts half a cell, to the totals of all paths."""
    numbers = torch.arange(examples.start, examples.stop, device=totals[0].device)

    def points(rows: slice) -> tuple[Tensor, ...]:
        return tuple(x[numbers[rows]] for x in problem.inputs)

    for rows, gradients in problem.row_gradients(points, numbers, bar):
        for total, gradient in zip(totals, gradients, strict=True):
            total[rows] += gradient.to(total.dtype).unsqueeze(1) / 2


def _products(
    problem: Problem, references: BaselineSet, totals: tuple[Tensor, ...], examples: slice, steps: Tensor
) -> Tensor:
    """sum_i of the mean gradient times x - x'_k, (b, K), float64 on the CPU."""
    found = torch.zeros(steps.shape, dtype=totals[0].dtype, device=totals[0].device)
    for k in range(steps.shape[1]):
        # Baseline by baseline: differences of all of them would double the memory.
        differences = references.differences(problem.inputs, examples, k, found.dtype)
        for total, difference in zip(totals, differences, strict=True):
            found[:, k] += (total[:, k] * difference).reshape(len(found), -1).sum(1)
    return found.cpu().double() / (steps - 0.5)


def _distance(deltas: Tensor, each: bool) -> Tensor:
    """What has to be within the tolerance, (b,)."""
    if each:
        return deltas.abs().amax(1)
    spread = deltas.square().sum(1).sqrt() / deltas.shape[1]
    return torch.maximum(deltas.mean(1).abs(), spread)


def _paths_to_refine(
    deltas: Tensor, steps: Tensor, allowed: Tensor, rounding: Tensor, max_steps: int, each: bool
) -> Tensor:
    """Which paths go on to 3 n - 1 points, (b, K)."""
    possible = 3 * steps - 1 <= max_steps
    if each:
        return possible & (deltas.abs() > allowed.unsqueeze(1))
    possible &= (_distance(deltas, each) > allowed).unsqueeze(1) & (deltas.abs() > rounding.unsqueeze(1))
    lowest = steps.masked_fill(~possible, torch.iinfo(torch.long).max).amin(1, keepdim=True)
    candidates = possible & (steps == lowest)
    # Stable, so that ties go by position.
    order = deltas.abs().masked_fill(~candidates, -math.inf).argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1], device="cpu").expand_as(order))
    return candidates & (place < -(-order.shape[1] // 2))
