"""Integrated gradients with as many steps as they need: nested points, taken until the convergence delta is small.

The rule is "riemann_shared_end" of `captum_wg.integrals.nodes`. Its n points are among those of 3 n - 1, so a path goes
on from 6 points to 17, 50, 149, ... and every gradient counts in the end. Shapes: B examples, K baselines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import accumulation_dtype, check_number, check_positive_int, name_rows, warn
from captum_wg.engine.problem import Problem, even_parts

FIRST_STEPS = 6
DELTA_TOLERANCE = 0.01
MAX_STEPS = 200


@dataclass(frozen=True)
class Refined:
    """The integrals of a few examples, b of the B.

    Attributes:
        examples: which.
        sums: for each element of the inputs the mean gradient along each path, (b, K, *feature).
        deltas: sum_i of it times x - x'_k, less F(x) - F(x'_k), (b, K), float64 on the CPU.
        steps: points on each path, x included, (b, K), int64 on the CPU.
    """

    examples: slice
    sums: tuple[Tensor, ...]
    deltas: Tensor
    steps: Tensor


def check_refinement(automatic: bool, delta_tolerance: object, max_steps: object) -> tuple[float, int]:
    """The two arguments, checked; refused if they say something and n_steps is not "auto"."""
    if not automatic:
        if delta_tolerance != DELTA_TOLERANCE or max_steps != MAX_STEPS:
            raise ValueError("delta_tolerance and max_steps are those of n_steps='auto'; give that, or leave them out")
        return DELTA_TOLERANCE, MAX_STEPS
    tolerance = check_number(delta_tolerance, "delta_tolerance", 0.0, open_interval=True)
    most = check_positive_int(max_steps, "max_steps")
    if most < FIRST_STEPS:
        raise ValueError(f"max_steps must be at least {FIRST_STEPS}, with which every path starts, got {most}")
    return tolerance, most


def refined_integrals(
    problem: Problem,
    references: BaselineSet,
    tolerance: float,
    max_steps: int,
    each: bool = False,
    begun: tuple[int, tuple[Tensor, ...]] | None = None,
) -> Iterator[Refined]:
    """The integral along every path, of a few examples at a time, with as many points as the tolerance takes.

    With delta_k = <mean gradient, x - x'_k> - (F(x) - F(x'_k)) and scale = mean_k |F(x) - F(x'_k)|, an example is
    finished when both |mean_k delta_k| and sqrt(sum_k delta_k^2) / K (what chance makes of their mean; without it
    errors that happen to cancel would end it too soon) are within tolerance * scale. Until then some of its baselines
    go on to 3 n - 1 points: of those at the lowest level whose delta_k is more than rounding the ones with the largest
    |delta_k|, at most half of all K. Memory holds one map per baseline of the examples at work.

    Args:
        problem, references: the explained function and examples, and their K baselines.
        tolerance: relative, > 0.
        max_steps: no path gets more points than this.
        each: every |delta_k| has to be within tolerance * scale instead, so that any weighted mean of them is; the
            paths that are not go on.
        begun: n and the mean gradients (B, K, *feature) of its points on every path, to go on from instead of 6.

    Raises:
        ValueError: the output at an input or a baseline, or a gradient, is NaN or infinite.

    Warns:
        UserWarning: examples that max_steps ends outside the tolerance, with the largest delta among them.
    """
    n_baselines = references.count
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    device = problem.inputs[0].device
    first_steps = FIRST_STEPS if begun is None else begun[0]
    at_inputs = problem.outputs_at_inputs()
    rises = (at_inputs.unsqueeze(1) - outputs_at_baselines(problem, references)).cpu().double()
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
    missed = torch.zeros(problem.n_examples, dtype=torch.bool)
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
                totals = tuple(sums[examples].to(dtype) * (first_steps - 0.5) for sums in begun[1])
            steps = torch.full((last - first, n_baselines), first_steps)
            refine = torch.full_like(steps, begun is None, dtype=torch.bool)
            allowed = tolerance * scale[examples] + rounding[examples]
            fresh = begun is None
            while True:
                if refine.any():
                    nodes = [_new_nodes(int(n), fresh) for n in steps[refine]]
                    if not fresh:
                        bar.total += sum(map(len, nodes))
                        bar.refresh()
                    accumulate_paths(problem, references, totals, refine.nonzero(), nodes, first, bar)
                deltas = _products(problem, references, totals, examples, steps) - rises[examples]
                refine = _paths_to_refine(deltas, steps, allowed, rounding[examples], max_steps, each)
                if not refine.any():
                    break
                steps = torch.where(refine, 3 * steps - 1, steps)
                fresh = False
            for total in totals:
                total /= _beside((steps - 0.5).to(dtype).to(device), total)
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
            f"for examples {name_rows(missed)} the convergence delta is not known to be within delta_tolerance = "
            f"{tolerance:g} with {level} points per baseline (at worst it may be {worst[0]:.2g} where {worst[1]:.2g} "
            f"is allowed). Raise max_steps to {3 * level - 1}, the next level, or delta_tolerance; or look for jumps "
            "of the model along the paths"
        )


def outputs_at_baselines(problem: Problem, references: BaselineSet) -> Tensor:
    """F at all baselines, (B, K), in K forwards where examples share them."""
    if references.shared:
        return problem.outputs_at_shared(references.values)
    which = torch.arange(references.count, device=problem.inputs[0].device)
    return problem.outputs(lambda e, chosen: references.at(e, which[chosen]), references.count, "at baselines")


def _new_nodes(n: int, fresh: bool) -> Tensor:
    """The nodes of n points but for x; unless fresh without the middle of every three, those of (n + 1) / 3 points."""
    j = torch.arange(n - 1, dtype=torch.float64)
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


def accumulate_paths(
    problem: Problem,
    references: BaselineSet,
    totals: tuple[Tensor, ...],
    paths: Tensor,
    nodes: list[Tensor],
    first: int,
    bar: object,
    weights: list[Tensor] | None = None,
    first_baseline: int = 0,
) -> None:
    """Add the gradients at the nodes of some paths, times their weights, to totals (b, k, *feature).

    paths (n, 2) are places in totals; place [0, 0] is of example `first` and of baseline `first_baseline`.
    """
    dtype, device = totals[0].dtype, totals[0].device
    counts = [len(n) for n in nodes]
    bounds = [0, *accumulate(counts)]
    example, baseline = paths.to(device).unbind(1)
    of_row = torch.arange(len(paths)).repeat_interleave(torch.tensor(counts)).to(device)
    at = torch.cat(nodes).to(dtype).to(device)
    numbers, which = example[of_row] + first, baseline[of_row] + first_baseline
    share = None if weights is None else torch.cat(weights).to(dtype).to(device)

    def points(rows: slice) -> tuple[Tensor, ...]:
        here = numbers[rows]
        found = []
        for x, start in zip(problem.inputs, references.of_rows(here, which[rows]), strict=True):
            origin = start.to(dtype)
            found.append((origin + _beside(at[rows], origin) * (x[here].to(dtype) - origin)).to(x.dtype))
        return tuple(found)

    path = 0
    for rows, gradients in problem.row_gradients(points, numbers, bar):
        # A run of paths with as many nodes each is summed at once; index_add_ would leave the order of summation to
        # chance on a GPU.
        while path < len(counts) and bounds[path] < rows.stop:
            begin, stop = max(bounds[path], rows.start), min(bounds[path + 1], rows.stop)
            end = path + 1
            if stop - begin == counts[path]:
                while end < len(counts) and counts[end] == counts[path] and bounds[end + 1] <= rows.stop:
                    end += 1
                stop = bounds[end]
            for total, gradient in zip(totals, gradients, strict=True):
                own = gradient[begin - rows.start : stop - rows.start].to(dtype)
                if share is not None:
                    own = own * _beside(share[begin:stop], own)
                total[example[path:end], baseline[path:end]] += own.view(end - path, -1, *own.shape[1:]).sum(1)
            if bounds[end] > rows.stop:
                break
            path = end


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
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return candidates & (place < -(-order.shape[1] // 2))


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """values shaped to multiply like, whose first dimensions they have."""
    return values.view(*values.shape, *(1,) * (like.ndim - values.ndim))
