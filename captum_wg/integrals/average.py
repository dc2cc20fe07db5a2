"""The reducer: the mean over paths of whatever a rule yields, or the integral of each path by itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import along
from captum_wg.integrals.rule import Part, Sums, zero_sums


def average(problem: Problem, parts: Iterable[Part], multiply: bool, n_baselines: int) -> tuple[Sums, Tensor | None]:
    """sum of weight times gradient times x - x'_k (or without it) over all parts, (B, *feature) for each element.

    And the steps each path took, (B, K), or None for rules that take as many as they were told. Memory depends on
    neither the number of baselines nor that of points.
    """
    totals = zero_sums(problem.inputs, problem.n_examples)
    steps: Tensor | None = None
    for part in parts:
        for total, gradient, difference in zip(totals, part.gradients, part.differences, strict=True):
            weighted = gradient.to(total.dtype) * along(part.weights.to(total.dtype), gradient)
            total[part.examples] += (weighted * difference if multiply else weighted).sum(1)
        steps = _with_steps(steps, part, (problem.n_examples, n_baselines))
    return totals, steps


def integrals(
    problem: Problem, parts: Iterable[Part], n_baselines: int, into: Sums | None = None
) -> tuple[Sums, Tensor | None]:
    """The mean gradient along each path, (B, K, *feature) for each element; added to `into` if given. And the steps."""
    shape = (problem.n_examples, n_baselines)
    sums = into or zero_sums(problem.inputs, *shape)
    steps: Tensor | None = None
    for part in parts:
        # Weights of one path sum to 1 / K in the mean over all, to 1 in its own integral.
        share = part.weights * n_baselines
        # Neighbouring points of one path, and which path it is.
        inner = part.baselines[: -1 if part.at_inputs else None]
        paths, lengths = (v.tolist() for v in torch.unique_consecutive(inner, return_counts=True))
        lengths += [1] * part.at_inputs
        for total, gradient in zip(sums, part.gradients, strict=True):
            pieces = torch.split(gradient.to(total.dtype), lengths, dim=1), torch.split(share, lengths)
            for k, g, s in zip(paths, *pieces, strict=False):  # x itself, the last, is left over
                total[part.examples, k] += (g * along(s, g)).sum(1)
            if part.at_inputs:
                # In the mean it counts K times as much as on one path.
                total[part.examples] += gradient[:, -1:].to(total.dtype) * (share[-1] / n_baselines)
        steps = _with_steps(steps, part, shape)
    return sums, steps


def whole_paths(
    problem: Problem,
    references: BaselineSet,
    sums: Sums,
    weights: Tensor,
    examples: slice | None = None,
    first: int = 0,
    steps: Tensor | None = None,
) -> Iterator[Part]:
    """Integrals as parts, one path of some examples (None: all) at a time.

    sums (b, k, *feature) and steps (b, k) begin with path `first`; weights are of all paths, (K,) or (b, K).
    """
    examples = slice(0, problem.n_examples) if examples is None else examples
    for j in range(sums[0].shape[1]):
        k = first + j
        differences = references.differences(problem.inputs, examples, k, sums[0].dtype)
        yield Part(
            examples,
            torch.tensor([k], device="cpu"),
            weights[..., k : k + 1].to(sums[0]),
            tuple(s[:, j : j + 1] for s in sums),
            tuple(d.unsqueeze(1) for d in differences),
            steps=None if steps is None else steps[:, j : j + 1],
        )


def _with_steps(steps: Tensor | None, part: Part, shape: tuple[int, int]) -> Tensor | None:
    if part.steps is None:
        return steps
    if steps is None:
        steps = torch.zeros(shape, dtype=torch.long, device=part.gradients[0].device)
    steps[part.examples, part.baselines.to(steps.device)] = part.steps.to(steps.device)
    return steps
