"""What complete attributions sum to: F(x) - sum_k w_k F(x'_k), and by how much they miss it."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_finite
from captum_wg.engine.problem import Points, Problem
from captum_wg.engine.tensors import Inputs, as_tuple, at_least_float32


class Completeness:
    """F at the inputs and at their baselines; both are taken once, when they are first asked for.

    Args:
        problem, references: the explained function and examples, and their K baselines.
        kept: another Completeness, and the numbers (B, K) of these baselines among its.
    """

    def __init__(self, problem: Problem, references: BaselineSet, kept: tuple[Completeness, Tensor] | None = None):
        self._problem, self._references, self._kept = problem, references, kept

    def of(self, kept: Tensor) -> Completeness:
        """That of the baselines numbered kept (B, M), each example its own."""
        # K forwards do for baselines that examples share, before each of them has its own.
        among = (self, kept) if self._references.shared else None
        return Completeness(self._problem, self._references.choose(kept), among)

    @cached_property
    def at_inputs(self) -> Tensor:
        """F(x), (B,)."""
        return self._problem.outputs_at_inputs()

    @cached_property
    def at_baselines(self) -> Tensor:
        """F(x'_k), (B, K)."""
        if self._kept is not None:
            among, numbers = self._kept
            return among.at_baselines.gather(1, numbers)
        references = self._references
        if references.shared:
            return self._problem.outputs_at_shared(references.values)
        which = torch.arange(references.count, device=references.values[0].device)
        return self._problem.outputs(lambda e, s: Points(references.at(e, which[s])), references.count, "at baselines")

    def delta(self, attributions: Inputs, weights: Tensor | None = None) -> Tensor:
        """sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,), with w_k = 1/K unless weights (B, K) are given."""
        total = torch.stack([at_least_float32(a).reshape(len(a), -1).sum(1) for a in as_tuple(attributions)]).sum(0)
        at_baselines = self.at_baselines
        if weights is None:
            expected = at_baselines.mean(1)
        else:
            # One after another, so that baselines of weight 0 leave every bit as it is without them.
            expected = torch.zeros_like(at_baselines[:, 0])
            for value, weight in zip(at_baselines.unbind(1), weights.to(at_baselines).unbind(1), strict=True):
                expected = expected + weight * value
        delta = total - (self.at_inputs - expected)
        check_finite((delta,), "convergence deltas")
        return delta
