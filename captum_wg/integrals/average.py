"""The reducer: the mean over paths of whatever a rule yields, or the integral of each path by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import accumulation_dtype, along
from captum_wg.integrals.rule import Part, Sums


def average(problem: Problem, parts: Iterable[Part], multiply: bool, n_baselines: int) -> tuple[Sums, Tensor | None]:
    """sum of weight times gradient times x - x'_k (or without it) over all parts, (B, *feature) for each element.

    And the steps each path took, (B, K), or None for rules that take as many as they were told. Memory depends on
    neither the number of baselines nor that of points.
    """
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    totals = tuple(torch.zeros_like(x, dtype=dtype) for x in problem.inputs)
    steps: Tensor | None = None
    for part in parts:
        for total, gradient, difference in zip(totals, part.gradients, part.differences, strict=True):
            weighted = gradient.to(dtype) * along(part.weights.to(dtype), gradient)
            total[part.examples] += (weighted * difference if multiply else weighted).sum(1)
        steps = _with_steps(steps, part, (problem.n_examples, n_baselines))
    return totals, steps


def integrals(
    problem: Problem, parts: Iterable[Part], n_baselines: int, into: Sums | None = None
) -> tuple[Sums, Tensor | None]:
    """The mean gradient along each path, (B, K, *feature) for each element; added to `into` if given. And the steps."""
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    shape = (problem.n_examples, n_baselines)
    sums = into or tuple(torch.zeros(*shape, *x.shape[1:], dtype=dtype, device=x.device) for x in problem.inputs)
    steps: Tensor | None = None
    for part in parts:
        # Weights of one path sum to 1 / K in the mean over all, to 1 in its own integral.
        share = part.weights * n_baselines
        for own, k in _runs(part.baselines, part.at_inputs):
            for total, gradient in zip(sums, part.gradients, strict=True):
                g = gradient[:, own].to(dtype)
                total[part.examples, k] += (g * along(share[own], g)).sum(1)
        if part.at_inputs:
            for total, gradient in zip(sums, part.gradients, strict=True):
                # In the mean it counts K times as much as on one path.
                total[part.examples] += gradient[:, -1:].to(dtype) * (share[-1] / n_baselines)
        steps = _with_steps(steps, part, shape)
    return sums, steps


def whole_paths(problem: Problem, references: BaselineSet, sums: Sums, weights: Tensor) -> Iterator[Part]:
    """Integrals (B, K, *feature) as parts that count `weights` (B, K): one path of all examples at a time."""
    everyone = slice(0, problem.n_examples)
    for k in range(references.count):
        differences = references.differences(problem.inputs, everyone, k, sums[0].dtype)
        yield Part(
            everyone,
            torch.tensor([k], device="cpu"),
            weights[:, k : k + 1].to(sums[0]),
            tuple(s[:, k : k + 1] for s in sums),
            tuple(d.unsqueeze(1) for d in differences),
        )


def _runs(baselines: Tensor, at_inputs: bool) -> Iterator[tuple[slice, int]]:
    """Neighbouring points of one path, and which path it is."""
    own = baselines[:-1] if at_inputs else baselines
    start = 0
    for k, run in groupby(own.tolist()):
        stop = start + len(list(run))
        yield slice(start, stop), k
        start = stop


def _with_steps(steps: Tensor | None, part: Part, shape: tuple[int, int]) -> Tensor | None:
    if part.steps is None:
        return steps
    if steps is None:
        steps = torch.zeros(shape, dtype=torch.long, device=part.gradients[0].device)
    steps[part.examples, part.baselines.to(steps.device)] = part.steps.to(steps.device)
    return steps
