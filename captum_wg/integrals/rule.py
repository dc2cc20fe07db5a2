"""What every rule of integration gives: gradients on the paths from baselines to the input, and what each counts.

The integral of a path is that of integrated gradients, integral_0^1 dF(x'_k + a (x - x'_k)) / dx_i da. A rule says
where on which paths gradients are taken; one reducer (`captum_wg.integrals.average`) makes maps of whatever it yields.
Shapes: B examples, K baselines; b and s a part's share of them and of the points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import accumulation_dtype

# The rule that others start from; see `captum_wg.integrals.nodes`.
SHARED_END = "riemann_shared_end"

Sums = tuple[Tensor, ...]


def zero_sums(inputs: tuple[Tensor, ...], *lead: int) -> Sums:
    """Zeros (*lead, *feature) for each element of the inputs, in the precision that sums are kept in."""
    dtype = accumulation_dtype(*(x.dtype for x in inputs))
    return tuple(torch.zeros(*lead, *x.shape[1:], dtype=dtype, device=x.device) for x in inputs)


class Part(NamedTuple):
    """Gradients at s points on the paths of b examples, or integrals of s whole paths.

    Attributes:
        examples: which of the B.
        baselines: the number k of each point's path, (s,), on the CPU.
        weights: what each counts in the mean over all K paths, (s,) or (b, s); they sum to 1 over all parts.
        gradients: for each element of the inputs (b, s, *feature).
        differences: x - x'_k there, which broadcasts to the gradients.
        at_inputs: whether the last point is x itself, which lies on all paths; its difference is that to the mean
            baseline.
        steps: how many points the integral of each path took, (b, s), where a rule finds that out.
    """

    examples: slice
    baselines: Tensor
    weights: Tensor
    gradients: tuple[Tensor, ...]
    differences: tuple[Tensor, ...]
    at_inputs: bool = False
    steps: Tensor | None = None


class Rule(Protocol):
    """Where gradients are taken along K paths."""

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        """All parts; those of one example follow each other. each: every path's integral will be used by itself."""


class Refinable(Rule, Protocol):
    """A rule of some points a path that can start from fewer: what screens baselines."""

    @property
    def points(self) -> int:
        """On each path, at least."""

    def coarse(self, n_steps: int) -> Rule:
        """The rule of n_steps points on each path that comes before this one."""

    def going_on(self, n_steps: int, sums: Sums) -> tuple[Rule, Sums | None]:
        """The rule for what is left to do after coarse(n_steps), and what of its integrals (B, K, *feature) counts."""
