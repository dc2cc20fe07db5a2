"""Where along the paths gradients are taken, and how much each counts: many rules behind one signature.

An estimator gets the K integrands of an image, P_k(a) = gradient at x'_k + a (x - x'_k) times (x - x'_k), and a number
of gradients, and returns points (k, a, weight). Sum of weight * P_k(a) estimates 1/K sum_k integral_0^1 P_k(a) da.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.stats import qmc

from captum_wg.integrals.adaptive import FIRST_SHARE, LEAST_FIRST, place, refined_nodes, smooth_weights
from captum_wg.integrals.nodes import nodes_and_weights

Array = np.ndarray

# What a forward costs, in units of a forward with its input gradient.
FORWARD = 0.45
GOLDEN = (5**0.5 - 1) / 2


class Integrands(Protocol):
    """What an estimator may learn about the P_k of one image while it chooses its points."""

    count: int

    def distances(self, k: int, nodes: Array) -> Array:
        """|P_k(a_(j+1)) - P_k(a_j)| between neighbours, (n - 1,)."""

    def increments(self, k: int, edges: Array) -> Array:
        """F(a_(j+1)) - F(a_j) along path k, (n - 1,)."""

    def slopes(self, k: int, nodes: Array) -> Array:
        """dF/da = sum_i P_k,i at the nodes, (n,)."""

    def best_weights(self, k: int, nodes: Array) -> Array:
        """The weights whose sum of P_k(a_j) comes closest to the integral: uses the answer, so only a bound."""


@dataclass(frozen=True)
class Points:
    """S points: which path (S,), where on it (S,), and the weight of each (S,).

    Attributes:
        shared_end: a = 1 is x itself on every path; one gradient serves all of them.
        forwards: forwards taken beside the gradients.
    """

    which: Array
    nodes: Array
    weights: Array
    shared_end: bool = False
    forwards: int = 0

    @property
    def gradients(self) -> float:
        """What the points cost, in gradients."""
        at_end = int(np.count_nonzero(self.nodes == 1)) if self.shared_end else 0
        return len(self.nodes) - max(0, at_end - 1) + FORWARD * self.forwards


Estimate = Callable[[Integrands, int, np.random.Generator], Points]


@dataclass(frozen=True)
class Estimator:
    """A named rule.

    Attributes:
        group: "random", "per baseline", "other" or "bound".
        random: repeated with fresh draws, whose mean error counts.
        least: gradients per baseline below which it is not defined.
        per_image: whether the points depend on the image.
    """

    name: str
    group: str
    estimate: Estimate
    random: bool = False
    least: float = 1
    per_image: bool = False


def per_baseline(
    nodes: Sequence[Array], weights: Sequence[Array], *, shared_end: bool = False, forwards: int = 0
) -> Points:
    """Points of a list of rules on [0, 1], one for each of the K paths, each counting 1/K."""
    which = np.repeat(np.arange(len(nodes)), [len(n) for n in nodes])
    return Points(which, np.concatenate(nodes), np.concatenate(weights) / len(nodes), shared_end, forwards)


def everywhere(count: int, nodes: Array, weights: Array, *, shared_end: bool = False) -> Points:
    """The same rule on all paths."""
    return per_baseline([nodes] * count, [weights] * count, shared_end=shared_end)


# Weights for given nodes


def voronoi_weights(nodes: Array) -> Array:
    """The length of [0, 1] nearest to each node."""
    order = np.argsort(nodes)
    ascending = np.asarray(nodes, dtype=float)[order]
    weights = np.empty(len(ascending))
    weights[order] = np.diff(np.r_[0, (ascending[1:] + ascending[:-1]) / 2, 1])
    return weights


def spline_weights(nodes: Array) -> Array:
    """The integral over [0, 1] of the not-a-knot cubic spline through ascending nodes; fewer than four: Voronoi."""
    if len(nodes) < 4:
        return voronoi_weights(nodes)
    return CubicSpline(nodes, np.eye(len(nodes)), bc_type="not-a-knot").integrate(0, 1)


# Random points


def monte_carlo(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """Path and a both at random, as in GradientShap."""
    return _equal(generator.integers(0, problem.count, total), generator.random(total))


def equal_counts(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """a at random, every path before any is used twice."""
    return _equal(_dealt(problem.count, total, generator), generator.random(total))


def stratified(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """One random point in each of n equal cells of each path."""
    n = total // problem.count
    nodes = [(np.arange(n) + generator.random(n)) / n for _ in range(problem.count)]
    return per_baseline(nodes, [np.full(n, 1 / n)] * problem.count)


def latin(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """The midpoints of `total` cells of [0, 1] dealt out at random, every path before any is used twice."""
    return _equal(_dealt(problem.count, total, generator), (generator.permutation(total) + 0.5) / total)


def low_discrepancy(problem: Integrands, total: int, generator: np.random.Generator, sequence: type) -> Points:
    """A scrambled sequence over (path, a)."""
    at = sequence(2, scramble=True, seed=generator)
    # Sobol's first points of a whole power of two: other counts are warned of.
    u = at.random_base2(int(np.ceil(np.log2(total))))[:total] if sequence is qmc.Sobol else at.random(total)
    return _equal(np.minimum((u[:, 0] * problem.count).astype(int), problem.count - 1), u[:, 1])


def _equal(which: Array, nodes: Array) -> Points:
    return Points(which, nodes, np.full(len(nodes), 1 / len(nodes)))


def _dealt(count: int, total: int, generator: np.random.Generator) -> Array:
    return generator.permutation(count)[np.arange(total) % count]


# One rule for each path


def quadrature(problem: Integrands, total: int, _: np.random.Generator, method: str) -> Points:
    """A rule of captum_wg, total // K points on each path."""
    return everywhere(problem.count, *nodes_and_weights(method, total // problem.count))


def midpoints(n: int) -> Array:
    return (np.arange(n) + 0.5) / n


def weighted_midpoints(
    problem: Integrands, total: int, _: np.random.Generator, weigh: Callable[[Array], Array]
) -> Points:
    """Midpoints with other weights."""
    nodes = midpoints(total // problem.count)
    return everywhere(problem.count, nodes, weigh(nodes))


def warped(problem: Integrands, total: int, _: np.random.Generator, warp: Callable[[Array], Array]) -> Points:
    """Cells between warp(0), warp(1/n), ..., warp(1), each with its warped midpoint."""
    n = total // problem.count
    return everywhere(problem.count, warp(midpoints(n)), np.diff(warp(np.arange(n + 1) / n)))


def staggered(problem: Integrands, total: int, generator: np.random.Generator, voronoi: bool = False) -> Points:
    """Path k takes (j + (p(k) + 1/2) / K) / n for j < n, p a random order: together a fine grid of [0, 1]."""
    n = total // problem.count
    nodes = [(np.arange(n) + (p + 0.5) / problem.count) / n for p in generator.permutation(problem.count)]
    return per_baseline(nodes, [voronoi_weights(v) if voronoi else np.full(n, 1 / n) for v in nodes])


def golden(problem: Integrands, total: int, _: np.random.Generator, shifted: bool = False) -> Points:
    """Multiples of the golden ratio modulo 1, which can be continued at any n; Voronoi weights."""
    base = (np.arange(total // problem.count) * GOLDEN + 0.5) % 1
    nodes = [(base + shifted * k / problem.count) % 1 for k in range(problem.count)]
    return per_baseline(nodes, [voronoi_weights(v) for v in nodes])


def midpoints_and_end(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """n cells of width h = 1 / (n + 1/2) with their midpoints; the half cell left over belongs to x, shared by all.

    One gradient more than `total`, as in `trapezoid_and_end`.
    """
    nodes = _first_stage(total // problem.count)
    return everywhere(problem.count, nodes, voronoi_weights(nodes), shared_end=True)


def trapezoid_and_end(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """The trapezoid rule, x evaluated once for all paths."""
    nodes, weights = nodes_and_weights("riemann_trapezoid", total // problem.count + 1)
    return everywhere(problem.count, nodes, weights, shared_end=True)


def staggered_and_end(problem: Integrands, total: int, generator: np.random.Generator) -> Points:
    """Staggered points and x, in exactly `total` gradients.

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


# Rules that look at the integrand


def complete(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """Midpoints; each path's map scaled to sum to F(x) - F(x'_k), by a factor within [1/2, 2]. K + 1 forwards."""
    n = total // problem.count
    weights = []
    for k in range(problem.count):
        found = problem.slopes(k, midpoints(n)).mean()
        change = problem.increments(k, np.array([0.0, 1.0]))[0]
        weights.append(np.full(n, np.clip(change / found, 0.5, 2) / n if found else 1 / n))
    return per_baseline([midpoints(n)] * problem.count, weights, forwards=problem.count + 1)


def complete_cells(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """Midpoints; in each cell the weight w nearest to h with w dF/da = F's change over it, damped where dF/da is small.

    Takes the forwards at the cells' ends: K n + 1, which it pays by taking fewer gradients.
    """
    n = max(1, int((total - FORWARD) / (problem.count * (1 + FORWARD))))
    weights = []
    for k in range(problem.count):
        slopes = problem.slopes(k, midpoints(n))
        missing = problem.increments(k, np.arange(n + 1) / n) - slopes / n
        squares = slopes**2 + np.mean(slopes**2)
        weights.append(1 / n + missing * slopes / np.where(squares > 0, squares, 1))
    return per_baseline([midpoints(n)] * problem.count, weights, forwards=problem.count * n + 1)


def equal_change(problem: Integrands, total: int, _: np.random.Generator) -> Points:
    """Nodes denser where F changes more: half of the density uniform, half by |dF| of as many cells. Voronoi weights.

    F is taken at the cells' ends by K n + 1 forwards, paid by taking fewer gradients.
    """
    n = max(1, int((total - FORWARD) / (problem.count * (1 + FORWARD))))
    edges = np.arange(n + 1) / n
    nodes = []
    for k in range(problem.count):
        change = np.abs(problem.increments(k, edges))
        density = 0.5 / n + 0.5 * (change / change.sum() if change.any() else 1 / n)
        nodes.append(np.interp(midpoints(n), np.r_[0, np.cumsum(density)], edges))
    return per_baseline(nodes, [voronoi_weights(v) for v in nodes], forwards=problem.count * n + 1)


def insertion(problem: Integrands, total: int, _: np.random.Generator, share: float = 0.7) -> Points:
    """A share of the points as midpoints, the others halve the intervals of the largest |change of P| * width."""
    count = problem.count
    n = max(2, round(share * total / count))
    start = midpoints(n)
    gains = np.stack([problem.distances(k, start) for k in range(count)]) * np.diff(start)
    chosen = np.argsort(-gains, axis=None, kind="stable")[: max(0, total - count * n)]
    nodes = [start] * count
    for k, j in zip(*np.unravel_index(chosen, gains.shape), strict=True):
        nodes[k] = np.append(nodes[k], (start[j] + start[j + 1]) / 2)
    nodes = [np.sort(v) for v in nodes]
    return per_baseline(nodes, [voronoi_weights(v) for v in nodes])


def trisection(problem: Integrands, total: int, _: np.random.Generator, share: float = 0.4) -> Points:
    """A share of the points as midpoints; the cells of the largest |change of P| to a neighbour are cut into three.

    The midpoint of a cell is that of its middle third, so that all stays a midpoint rule.
    """
    count = problem.count
    n = max(2, round(share * total / count))
    start = midpoints(n)
    gains = []
    for k in range(count):
        d = problem.distances(k, start)
        gains.append(np.maximum(np.r_[0, d], np.r_[d, 0]))
    chosen = np.argsort(-np.stack(gains), axis=None, kind="stable")[: max(0, (total - count * n) // 2)]
    nodes = [list(start) for _ in range(count)]
    weights = [[1 / n] * n for _ in range(count)]
    for k, j in zip(*np.unravel_index(chosen, (count, n)), strict=True):
        weights[k][j] /= 3
        nodes[k] += [start[j] - 1 / (3 * n), start[j] + 1 / (3 * n)]
        weights[k] += [1 / (3 * n)] * 2
    return per_baseline([np.array(v) for v in nodes], [np.array(w) for w in weights])


def allocation(problem: Integrands, total: int, _: np.random.Generator, share: float = 0.6) -> Points:
    """A share of the points as midpoints; all cells of the most variable paths are cut into three, as many as fit."""
    count = problem.count
    n = max(2, round(share * total / count))
    variation = [problem.distances(k, midpoints(n)).sum() for k in range(count)]
    finer = set(np.argsort(variation)[::-1][: max(0, (total - count * n) // (2 * n))])
    counts = [3 * n if k in finer else n for k in range(count)]
    return per_baseline([midpoints(m) for m in counts], [np.full(m, 1 / m) for m in counts])


def two_stage(
    problem: Integrands,
    total: int,
    _: np.random.Generator,
    share: float = FIRST_SHARE,
    least: int = LEAST_FIRST,
    weigh: Callable[[Array], Array] = smooth_weights,
) -> Points:
    """`captum_wg.integrals.adaptive`: a share of the points as midpoints and x, the others where P changes most.

    With x it is total + 1 gradients. Up to `least` points per baseline this is `midpoints_and_end`.
    """
    count = problem.count
    start = _first_stage(min(total // count, max(least, round(share * total / count))))
    left = total - count * (len(start) - 1)
    if left == 0:
        return everywhere(count, start, voronoi_weights(start), shared_end=True)
    added = place(np.stack([problem.distances(k, start) for k in range(count)]), start, left)
    nodes = [refined_nodes(start, added[k]) for k in range(count)]
    return per_baseline(nodes, [weigh(v) for v in nodes], shared_end=True)


def _first_stage(n: int) -> Array:
    """n midpoints of cells of width 1 / (n + 1/2), and 1."""
    return nodes_and_weights("riemann_shared_end", n + 1)[0]


# Bounds


def best_weights(problem: Integrands, total: int, generator: np.random.Generator, estimate: Estimate) -> Points:
    """The points of another estimator with the best weights there are, found from the answer."""
    points = estimate(problem, total, generator)
    weights = points.weights.copy()
    for k in range(problem.count):
        of_path = points.which == k
        weights[of_path] = problem.best_weights(k, points.nodes[of_path]) / problem.count
    return Points(points.which, points.nodes, weights, points.shared_end, points.forwards)


_midpoint = partial(quadrature, method="riemann_middle")

MIDPOINT = Estimator("midpoint", "per baseline", _midpoint)
MONTE_CARLO = Estimator("Monte-Carlo", "random", monte_carlo, random=True)
TWO_STAGE = Estimator("two-stage, end at x", "other", two_stage, per_image=True)
STAGGERED_END = Estimator("staggered, end at x", "other", staggered_and_end, random=True)

ESTIMATORS = (
    MONTE_CARLO,
    Estimator("Monte-Carlo, equal counts", "random", equal_counts, random=True),
    Estimator("stratified", "random", stratified, random=True),
    Estimator("Latin hypercube", "random", latin, random=True),
    Estimator("Sobol", "random", partial(low_discrepancy, sequence=qmc.Sobol), random=True),
    Estimator("Halton", "random", partial(low_discrepancy, sequence=qmc.Halton), random=True),
    Estimator("Gauss-Legendre", "per baseline", partial(quadrature, method="gausslegendre")),
    MIDPOINT,
    Estimator("trapezoid", "per baseline", partial(quadrature, method="riemann_trapezoid"), least=2),
    Estimator("staggered", "other", staggered, random=True),
    Estimator("staggered, Voronoi", "other", partial(staggered, voronoi=True), random=True),
    Estimator("warped a^1.5", "other", partial(warped, warp=lambda u: u**1.5)),
    Estimator("warped 1-(1-a)^1.5", "other", partial(warped, warp=lambda u: 1 - (1 - u) ** 1.5)),
    Estimator("warped cosine", "other", partial(warped, warp=lambda u: (1 - np.cos(np.pi * u)) / 2)),
    Estimator("golden ratio", "other", golden),
    Estimator("golden ratio, staggered", "other", partial(golden, shifted=True)),
    Estimator("spline weights", "other", partial(weighted_midpoints, weigh=spline_weights)),
    Estimator("smooth weights", "other", partial(weighted_midpoints, weigh=smooth_weights)),
    Estimator("complete maps", "other", complete, per_image=True),
    Estimator("complete cells", "other", complete_cells, least=2, per_image=True),
    Estimator("equal |dF| nodes", "other", equal_change, least=2, per_image=True),
    Estimator("insertion", "other", insertion, least=3, per_image=True),
    Estimator("trisection", "other", trisection, least=4, per_image=True),
    Estimator("allocation", "other", allocation, least=4, per_image=True),
    Estimator("midpoint, end at x", "other", midpoints_and_end),
    Estimator("trapezoid, end at x", "other", trapezoid_and_end),
    STAGGERED_END,
    Estimator("two-stage, end at x, Voronoi", "other", partial(two_stage, weigh=voronoi_weights), per_image=True),
    TWO_STAGE,
    Estimator("best weights, midpoints", "bound", partial(best_weights, estimate=_midpoint), per_image=True),
    Estimator("best weights, two-stage", "bound", partial(best_weights, estimate=two_stage), per_image=True),
)
