"""Integrated gradients with as many steps as they need: nested points, taken until the convergence delta is small.

The rule is "riemann_shared_end" of `captum_wg.integrals.nodes`. Its n points are among those of 3 n - 1, so a path goes
on from 6 points to 17, 50, 149, ... and every gradient counts in the end. Shapes: B examples, K baselines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_number, check_positive_int, name_rows, warn
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem, even_parts
from captum_wg.engine.tensors import beside
from captum_wg.integrals.average import whole_paths
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.rule import SHARED_END, Part, Rule, Sums, zero_sums
from captum_wg.integrals.walk import add_gradients, end_gradients

FIRST_STEPS = 6


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

    Examples:
        >>> from captum_wg import ExpectedGradients
        >>> kink = ExpectedGradients(lambda z: (z - 0.7).relu().sum(1))
        >>> x = torch.ones(1, 1)
        >>> kink.attribute(x, n_steps=Automatic(tolerance=0.02), return_steps=True).steps
        tensor([[149]])
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
        return _Refinement(self, problem, references, completeness, each).parts()

    def coarse(self, n_steps: int) -> Fixed:
        return Fixed(SHARED_END, n_steps, "screening_steps")

    def going_on(self, n_steps: int, sums: Sums) -> tuple[Rule, Sums | None]:
        return _Continued(self, n_steps, sums), None


class _Continued(NamedTuple):
    """An automatic rule that goes on from n_steps points on every path, whose mean gradients are sums (B, K, ...)."""

    rule: Automatic
    n_steps: int
    sums: Sums

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        return _Refinement(self.rule, problem, references, completeness, each, self).parts()


@dataclass
class _Refinement:
    """The integral along every path, of a few examples at a time, with as many points as the tolerance takes.

    With delta_k = <mean gradient, x - x'_k> - (F(x) - F(x'_k)) and scale = mean_k |F(x) - F(x'_k)|, an example is
    finished when both |mean_k delta_k| and sqrt(sum_k delta_k^2) / K (what chance makes of their mean; without it
    errors that happen to cancel would end it too soon) are within tolerance * scale. Until then some of its baselines
    go on to 3 n - 1 points: of those at the lowest level whose delta_k is more than rounding the ones with the largest
    |delta_k|, at most half of all K.

    Args:
        each: every |delta_k| has to be within tolerance * scale instead, so that any weighted mean of them is; the
            paths that are not go on.
        begun: points on every path to go on from instead of 6.

    Raises:
        ValueError: the output at an input or a baseline is NaN or infinite.
    """

    rule: Automatic
    problem: Problem
    references: BaselineSet
    completeness: Completeness
    each: bool
    begun: _Continued | None = None

    def __post_init__(self) -> None:
        at_inputs = self.completeness.at_inputs.unsqueeze(1)
        self._rises = (at_inputs - self.completeness.at_baselines).cpu().double()
        bad = ~torch.isfinite(self._rises).all(1)
        if bad.any():
            raise ValueError(
                f"n_steps='auto' goes by the output's change, which is NaN or infinite for examples {name_rows(bad)} "
                "(at the input or at a baseline); give n_steps a number, or other baselines"
            )
        # What rounding alone may leave of a delta: of the sums, and of the outputs themselves.
        epsilon, output = 16 * torch.finfo(zero_sums(self.problem.inputs)[0].dtype).eps, self.problem.output_dtype
        if output is not None and output.is_floating_point:
            epsilon = max(epsilon, 2 * torch.finfo(output).eps)
        self._rounding = epsilon * (at_inputs.cpu().double().abs() + self._rises.abs()).amax(1)
        self._allowed = self.rule.tolerance * self._rises.abs().mean(1) + self._rounding

    def parts(self) -> Iterator[Part]:
        """All parts; a warning of the examples that max_steps ends outside the tolerance, with the largest delta."""
        problem, count = self.problem, self.references.count
        weights = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
        off = torch.zeros_like(self._allowed)
        first_gradients = problem.n_examples * (count * (FIRST_STEPS - 1) + 1)
        with problem.progress(first_gradients if self.begun is None else 0) as bar:
            for bounds in even_parts(problem.n_examples, max(1, problem.rows() // count)):
                examples = slice(*bounds)
                sums, steps, off[examples] = self._integrals(examples, bar)
                yield from whole_paths(problem, self.references, sums, weights, examples, steps=steps)
        missed = ~(off <= self._allowed)
        if missed.any():
            self._warn_of(missed, off)

    def _integrals(self, examples: slice, bar: Any) -> tuple[Sums, Tensor, Tensor]:
        """The mean gradient along each path, (b, K, *feature); its points; and how far an example is off, (b,)."""
        totals, steps = self._first(examples, bar)
        while True:
            deltas = self._products(totals, examples, steps) - self._rises[examples]
            refine = self._to_refine(deltas, steps, examples)
            if not refine.any():
                break
            steps = torch.where(refine, 3 * steps - 1, steps)
            # Without the middle of every three nodes, those of (n + 1) / 3 points.
            nodes = [own[torch.arange(len(own), device="cpu") % 3 != 1] for own in map(_nodes, steps[refine].tolist())]
            bar.total += sum(map(len, nodes))
            add_gradients(self.problem, self.references, totals, refine, nodes, (examples.start, 0), bar)
        for total in totals:
            total /= beside((steps - 0.5).to(total), total)
        return totals, steps, self._off(deltas)

    def _first(self, examples: slice, bar: Any) -> tuple[Sums, Tensor]:
        """The sums of the gradients that every path starts with, half of that at x among them, and how many."""
        shape = (examples.stop - examples.start, self.references.count)
        totals = zero_sums(self.problem.inputs, *shape)
        if self.begun is not None:
            n = self.begun.n_steps
            for total, mean in zip(totals, self.begun.sums, strict=True):
                total += mean[examples] * (n - 0.5)  # what is summed counts 1 / (n - 1/2) each in the mean
            return totals, torch.full(shape, n, device="cpu")
        for total, gradient in zip(totals, end_gradients(self.problem, examples, bar), strict=True):
            total += gradient.unsqueeze(1) / 2
        steps = torch.full(shape, FIRST_STEPS, device="cpu")
        nodes = [_nodes(FIRST_STEPS)] * steps.numel()
        add_gradients(self.problem, self.references, totals, steps > 0, nodes, (examples.start, 0), bar)
        return totals, steps

    def _products(self, totals: Sums, examples: slice, steps: Tensor) -> Tensor:
        """sum_i of the mean gradient times x - x'_k, (b, K), float64 on the CPU."""
        found = torch.zeros(steps.shape, dtype=totals[0].dtype, device=totals[0].device)
        for k in range(steps.shape[1]):
            # Baseline by baseline: differences of all of them would double the memory.
            differences = self.references.differences(self.problem.inputs, examples, k, found.dtype)
            for total, difference in zip(totals, differences, strict=True):
                found[:, k] += (total[:, k] * difference).reshape(len(found), -1).sum(1)
        return found.cpu().double() / (steps - 0.5)

    def _off(self, deltas: Tensor) -> Tensor:
        """What has to be within the tolerance, (b,)."""
        if self.each:
            return deltas.abs().amax(1)
        spread = deltas.square().sum(1).sqrt() / deltas.shape[1]
        return torch.maximum(deltas.mean(1).abs(), spread)

    def _to_refine(self, deltas: Tensor, steps: Tensor, examples: slice) -> Tensor:
        """Which paths go on to 3 n - 1 points, (b, K)."""
        allowed = self._allowed[examples]
        possible = 3 * steps - 1 <= self.rule.max_steps
        if self.each:
            return possible & (deltas.abs() > allowed.unsqueeze(1))
        possible &= (self._off(deltas) > allowed).unsqueeze(1)
        possible &= deltas.abs() > self._rounding[examples].unsqueeze(1)
        lowest = steps.masked_fill(~possible, torch.iinfo(torch.long).max).amin(1, keepdim=True)
        candidates = possible & (steps == lowest)
        # Stable, so that ties go by position.
        order = deltas.abs().masked_fill(~candidates, -math.inf).argsort(dim=1, descending=True, stable=True)
        return candidates & (order.argsort(dim=1) < -(-order.shape[1] // 2))

    def _warn_of(self, missed: Tensor, off: Tensor) -> None:
        level = FIRST_STEPS if self.begun is None else self.begun.n_steps
        while 3 * level - 1 <= self.rule.max_steps:
            level = 3 * level - 1
        worst = max(zip(off[missed].tolist(), self._allowed[missed].tolist(), strict=True))
        warn(
            f"for examples {name_rows(missed)} the convergence delta is not known to be within tolerance = "
            f"{self.rule.tolerance:g} with {level} points per baseline (at worst it may be {worst[0]:.2g} where "
            f"{worst[1]:.2g} is allowed). Raise max_steps to {3 * level - 1}, the next level, or the tolerance, of "
            "n_steps=Automatic(tolerance, max_steps); or look for jumps of the model along the paths"
        )


def _nodes(n: int) -> Tensor:
    """The nodes of n points but for x."""
    return (torch.arange(n - 1, dtype=torch.float64, device="cpu") + 0.5) / (n - 0.5)
