"""Where along the paths gradients are taken, and how much each counts: eight rules behind one signature.

An estimator gets the K integrands of an image, P_k(a) = gradient at x'_k + a (x - x'_k) times (x - x'_k), and a number
of gradients, and returns points (k, a, weight). Sum of weight * P_k(a) estimates 1/K sum_k integral_0^1 P_k(a) da.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from captum_wg.integrals.adaptive import FIRST_SHARE, LEAST_FIRST, place, refined_nodes, smooth_weights
from captum_wg.integrals.nodes import nodes_and_weights

Array = np.ndarray


class Integrands(Protocol):
    """What an estimator may learn about the P_k of one image while it chooses its points."""

    count: int

    def distances(self, k: int, nodes: Array) -> Array:
        """|P_k(a_(j+1)) - P_k(a_j)| between neighbours, (n - 1,)."""


@dataclass(frozen=True)
class Points:
    """S points: which path (S,), where on it (S,), and the weight of each (S,).

    Attributes:
        shared_end: a = 1 is x itself on every path; one gradient serves all of them.
    """

    which: Array
    nodes: Array
    weights: Array
    shared_end: bool = False

    @property
    def gradients(self) -> int:
        """How many the points take."""
        at_end = int(np.count_nonzero(self.nodes == 1)) if self.shared_end else 0
        return len(self.nodes) - max(0, at_end - 1)


Estimate = Callable[[Integrands, int, np.random.Generator], Points]


@dataclass(frozen=True)
class Estimator:
    """A named rule.

    Attributes:
        stream: of one that draws its points, the number of its random stream: it is repeated with fresh draws, whose
            mean error counts.
        least: gradients per baseline below which it is not defined.
    """

    name: str
    estimate: Estimate
    stream: int | None = None
    least: int = 1


def per_baseline(nodes: Sequence[Array], weights: Sequence[Array], shared_end: bool = False) -> Points:
    """Points of a list of rules on [0, 1], one for each of the K paths, each counting 1/K."""
    which = np.repeat(np.arange(len(nodes)), [len(n) for n in nodes])
    return Points(which, np.concatenate(nodes), np.concatenate(weights) / len(nodes), shared_end)


def monte_carlo(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """Path and a both at random, as in GradientShap."""
    which = generator.integers(0, problem.count, total)
    return Points(which, generator.random(total), np.full(total, 1 / total))


def equal_counts(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """a at random, every path before any is used twice: `n_samples` of ExpectedGradients."""
    which = generator.permutation(problem.count)[np.arange(total) % problem.count]
    return Points(which, generator.random(total), np.full(total, 1 / total))


def quadrature(
    problem: Integrands, total: int, _: np.random.Generator, method: str, shared_end: bool = False
) -> Points:
    """A `method` of captum_wg, total // K points on each path; with a shared end x is one more, for all paths."""
    rule = nodes_and_weights(method, total // problem.count + shared_end)
    return per_baseline(*([part] * problem.count for part in rule), shared_end=shared_end)


def staggered_and_end(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """Staggered points and x, in exactly `total` gradients: sampling="staggered" of ExpectedGradients.

    n = ceil((total - 1) / K). Path k takes (j + (p(k) + 1/2) / K) h for j < n, h = 1 / (n + 3/8), each counting h / K,
    and x the rest. So that the sum is total, the last paths in a random order take one point less, in wider cells.
    """
    count, inner = problem.count, total - 1
    offsets = (generator.permutation(count) + 0.5) / count
    order = generator.permutation(count)
    n_most = -(-inner // count)
    covered = n_most / (n_most + 0.375)
    nodes, weights = [], []
    for k in range(count):
        n = inner // count + (order[k] < inner % count)
        h = covered / max(n, 1)
        nodes.append(np.r_[(np.arange(n) + offsets[k]) * h, 1.0])
        weights.append(np.r_[np.full(n, h), 1 - n * h])
    return per_baseline(nodes, weights, shared_end=True)


def two_stage(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """method="adaptive": a share of the points as midpoints and x, the others where P changes most.

    With x it is total + 1 gradients. Of few points per baseline it is "riemann_shared_end".
    """
    count = problem.count
    first = min(total // count, max(LEAST_FIRST, round(FIRST_SHARE * total / count)))
    left = total - count * first
    if left == 0:
        return quadrature(problem, total, _, "riemann_shared_end", shared_end=True)
    start, _ = nodes_and_weights("riemann_shared_end", first + 1)
    added = place(np.stack([problem.distances(k, start) for k in range(count)]), start, left)
    nodes = [refined_nodes(start, own) for own in added]
    return per_baseline(nodes, [smooth_weights(own) for own in nodes], shared_end=True)


def _rule(method: str, shared_end: bool = False) -> Estimate:
    return partial(quadrature, method=method, shared_end=shared_end)


MONTE_CARLO = Estimator("Monte-Carlo", monte_carlo, stream=0)
MIDPOINT = Estimator("midpoint", _rule("riemann_middle"))
SHARED_END = Estimator("midpoint, end at x", _rule("riemann_shared_end", shared_end=True))
STAGGERED_END = Estimator("staggered, end at x", staggered_and_end, stream=26)
TWO_STAGE = Estimator("two-stage, end at x", two_stage)

ESTIMATORS = (
    MONTE_CARLO,
    Estimator("Monte-Carlo, equal counts", equal_counts, stream=1),
    Estimator("Gauss-Legendre", _rule("gausslegendre")),
    MIDPOINT,
    Estimator("trapezoid", _rule("riemann_trapezoid"), least=2),
    SHARED_END,
    STAGGERED_END,
    TWO_STAGE,
)
