"""Integrated gradients with as many steps as they need: nested points, taken until the convergence delta is small.

The rule is "riemann_shared_end" of `captum_wg.quadrature`. Its n points are among those of 3 n - 1, so a path goes on
from 6 points to 17, 50, 149, ... and every gradient counts in the end. Shapes: B examples, K baselines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_wg.arguments import accumulation_dtype, check_number, check_positive_int, name_rows, warn
from captum_wg.baseline_set import BaselineSet
from captum_wg.gradients import Problem, even_parts

FIRST_STEPS = 6


@dataclass(frozen=True)
class Refined:
    """The integrals of a few examples, b of the B.

    Attributes:
        examples: which.
        sums: for each element of the inputs the mean gradient along each path, (b, K, *feature).
        products: sum_i of it times x - x'_k, (b, K).
        deltas: products less F(x) - F(x'_k), (b, K), float64 on the CPU.
        steps: points on each path, x included, (b, K), int64 on the CPU.
    """

    examples: slice
    sums: tuple[Tensor, ...]
    products: Tensor
    deltas: Tensor
    steps: Tensor


def check_refinement(delta_tolerance: object, max_steps: object) -> tuple[float, int]:
    """The two arguments, checked."""
    tolerance = check_number(delta_tolerance, "delta_tolerance", 0.0, open_interval=True)
    most = check_positive_int(max_steps, "max_steps")
    if most < FIRST_STEPS:
        raise ValueError(f"max_steps must be at least {FIRST_STEPS}, with which every path starts, got {most}")
    return tolerance, most


def refined_integrals(
    problem: Problem, references: BaselineSet, tolerance: float, max_steps: int, each: bool = False
) -> Iterator[Refined]:
    """The integral along every path, of a few examples at a time, with as many points as the tolerance takes.

    With delta_k = <mean gradient, x - x'_k> - (F(x) - F(x'_k)) and scale = mean_k |F(x) - F(x'_k)|, an example is
    finished when both |mean_k delta_k| and sqrt(sum_k delta_k^2) / K (what chance makes of their mean; without it
    errors that happen to cancel would end it too soon) are within tolerance * scale. Until then that half of its
    baselines with fewest points and among these the largest |delta_k| go on to 3 n - 1 points.

    Args:
        problem, references: the explained function and examples, and their K baselines.
        tolerance: relative, > 0.
        max_steps: no path gets more points than this.
        each: every |delta_k| has to be within tolerance * scale instead, so that any weighted mean of them is; the
            paths that are not go on.

    Raises:
        ValueError: the output at an input or a baseline, or a gradient, is NaN or infinite.

    Warns:
        UserWarning: examples that max_steps ends outside the tolerance, with the largest delta among them.
    """
    n_baselines = references.count
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    device = problem.inputs[0].device
    everyone = torch.arange(n_baselines, device=device)
    at_inputs = problem.outputs_at_inputs()
    rises = (at_inputs.unsqueeze(1) - outputs_at_baselines(problem, references)).double().cpu()
    bad = ~torch.isfinite(rises).all(1)
    if bad.any():
        raise ValueError(
            f"n_steps='auto' goes by the output's change, which is NaN or infinite for examples {name_rows(bad)} (at "
            "the input or at a baseline); give n_steps a number, or other baselines"
        )
    largest = (at_inputs.unsqueeze(1).double().cpu().abs() + rises.abs()).amax(1)
    # Deltas of a flat function are rounding.
    rounding = 16 * torch.finfo(dtype).eps * largest
    scale = rises.abs().mean(1)
    missed = torch.zeros(problem.n_examples, dtype=torch.bool)
    worst = 0.0
    group = max(1, problem.rows() // n_baselines)
    with problem.progress(problem.n_examples * (n_baselines * (FIRST_STEPS - 1) + 1)) as bar:
        for first, last in even_parts(problem.n_examples, group):
            examples = slice(first, last)
            b = last - first
            inputs = tuple(x[examples].to(dtype) for x in problem.inputs)
            starts = tuple(r.to(dtype).expand(b, *r.shape[1:]) for r in references.at(examples, everyone))
            totals = tuple(torch.zeros(b, n_baselines, *x.shape[1:], dtype=dtype, device=device) for x in inputs)
            ends = tuple(torch.zeros_like(x) for x in inputs)
            numbers = torch.arange(first, last, device=device)
            for rows, gradients in problem.row_gradients(
                lambda rows: tuple(x[rows].to(p.dtype) for x, p in zip(inputs, problem.inputs, strict=True)),  # noqa: B023
                numbers,
                bar,
            ):
                for end, gradient in zip(ends, gradients, strict=True):
                    end[rows] = gradient.to(dtype)
            steps = torch.full((b, n_baselines), FIRST_STEPS)
            products = torch.zeros(b, n_baselines, dtype=dtype, device=device)
            deltas = torch.zeros(b, n_baselines, dtype=torch.float64)
            allowed = tolerance * scale[examples] + rounding[examples]
            refine = torch.ones(b, n_baselines, dtype=torch.bool)
            fresh = True
            while refine.any():
                paths = refine.nonzero()
                nodes = [_new_nodes(int(n), fresh) for n in steps[refine]]
                if not fresh:
                    bar.total += sum(map(len, nodes))
                    bar.refresh()
                _accumulate(problem, totals, inputs, starts, paths, nodes, first, bar)
                products = _products(totals, ends, inputs, starts, steps)
                deltas = products.double().cpu() - rises[examples]
                refine = _paths_to_refine(deltas, steps, allowed, max_steps, each)
                steps = torch.where(refine, 3 * steps - 1, steps)
                fresh = False
            widths = (1 / (steps.double() - 0.5)).to(dtype).to(device)
            for total, end in zip(totals, ends, strict=True):
                total += end.unsqueeze(1) / 2
                total *= _beside(widths, total)
            off = _distance(deltas, each)
            outside = off > allowed
            missed[examples] = outside
            if outside.any():
                worst = max(worst, float((off / scale[examples])[outside].max()))
            yield Refined(examples, totals, products, deltas, steps)
    if missed.any():
        warn(
            f"for examples {name_rows(missed)} the convergence delta is not known to be within delta_tolerance = "
            f"{tolerance:g} after max_steps = {max_steps} points per baseline (at worst {worst:.2g} of the output's "
            "change); "
            "raise either, or check the model for jumps along the paths"
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


def _accumulate(
    problem: Problem,
    totals: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    starts: tuple[Tensor, ...],
    paths: Tensor,
    nodes: list[Tensor],
    first: int,
    bar: object,
) -> None:
    """Add the gradients at the nodes of paths (n, 2: example of the group, baseline) to totals."""
    device = inputs[0].device
    counts = torch.tensor([len(n) for n in nodes])
    of_row = torch.arange(len(paths)).repeat_interleave(counts)
    bounds = torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]).tolist()
    example, baseline = paths[of_row].to(device).unbind(1)
    at = torch.cat(nodes).to(inputs[0].dtype).to(device)

    def points(rows: slice) -> tuple[Tensor, ...]:
        here, which = example[rows], baseline[rows]
        found = []
        for x, start, like in zip(inputs, starts, problem.inputs, strict=True):
            origin = start[here, which]
            found.append((origin + _beside(at[rows], origin) * (x[here] - origin)).to(like.dtype))
        return tuple(found)

    pairs = paths.tolist()
    path = 0
    for rows, gradients in problem.row_gradients(points, example + first, bar):
        # Path by path: index_add_ would leave the order of summation to chance on a GPU.
        while path < len(pairs) and bounds[path] < rows.stop:
            own = slice(max(bounds[path], rows.start) - rows.start, min(bounds[path + 1], rows.stop) - rows.start)
            e, k = pairs[path]
            for total, gradient in zip(totals, gradients, strict=True):
                total[e, k] += gradient[own].to(total.dtype).sum(0)
            if bounds[path + 1] > rows.stop:
                break
            path += 1


def _products(
    totals: tuple[Tensor, ...],
    ends: tuple[Tensor, ...],
    inputs: tuple[Tensor, ...],
    starts: tuple[Tensor, ...],
    steps: Tensor,
) -> Tensor:
    """sum_i of the mean gradient times x - x'_k, (b, K)."""
    found = torch.zeros(steps.shape, dtype=inputs[0].dtype, device=inputs[0].device)
    for total, end, x, start in zip(totals, ends, inputs, starts, strict=True):
        for k in range(steps.shape[1]):
            # Baseline by baseline: differences of all of them would double the memory.
            product = (total[:, k] + end / 2) * (x - start[:, k])
            found[:, k] += product.reshape(len(x), -1).sum(1)
    return found / (steps.to(found.device) - 0.5).to(found.dtype)


def _distance(deltas: Tensor, each: bool) -> Tensor:
    """What has to be within the tolerance, (b,)."""
    if each:
        return deltas.abs().amax(1)
    spread = deltas.square().sum(1).sqrt() / deltas.shape[1]
    return torch.maximum(deltas.mean(1).abs(), spread)


def _paths_to_refine(deltas: Tensor, steps: Tensor, allowed: Tensor, max_steps: int, each: bool) -> Tensor:
    """Which paths go on to 3 n - 1 points, (b, K)."""
    possible = 3 * steps - 1 <= max_steps
    if each:
        return possible & (deltas.abs() > allowed.unsqueeze(1))
    possible &= (_distance(deltas, each) > allowed).unsqueeze(1)
    fewest = steps.masked_fill(~possible, torch.iinfo(torch.long).max).amin(1, keepdim=True)
    candidates = possible & (steps == fewest)
    # The largest deltas of those with fewest points; stable, so that ties go by position.
    order = deltas.abs().masked_fill(~candidates, -math.inf).argsort(dim=1, descending=True, stable=True)
    place = torch.empty_like(order).scatter_(1, order, torch.arange(order.shape[1]).expand_as(order))
    return candidates & (place < -(-order.shape[1] // 2))


def _beside(values: Tensor, like: Tensor) -> Tensor:
    """values shaped to multiply like, whose first dimensions they have."""
    return values.view(*values.shape, *(1,) * (like.ndim - values.ndim))
