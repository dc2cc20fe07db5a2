"""Integrated gradients with points placed where the gradient changes: a second round after a first one.

For functions with kinks all along a path (ReLU networks) equal steps waste points where little happens. The first
round takes a share of the points, equally spaced; the others go into the intervals whose two ends differ most, over all
baselines of an example. Shapes: B examples, K baselines.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_positive_int
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import beside
from captum_wg.integrals.average import whole_paths
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.nodes import nodes_and_weights
from captum_wg.integrals.rule import SHARED_END, Part, Rule, Sums, zero_sums
from captum_wg.integrals.walk import add_gradients, end_gradients, path_gradients

FIRST_SHARE = 0.6
LEAST_FIRST = 6
POOL = 0.2

# What the first round's gradients of one example may take; its baselines are treated in groups beyond it.
HELD_BYTES = 2**27


class Adaptive:
    """The integral along every path by K (n_steps - 1) + 1 gradients an example, x itself being one of them.

    With m = n_steps - 1, first round: on each path the nodes (j + 1/2) / (r + 1/2), j < r, r = max(6, round(0.6 m)),
    and 1. Each interval [a_j, a_(j+1)] of width h is given the expected squared error

        V = d^2 h^2 / 12,   d^2 = 0.8 |P_k(a_(j+1)) - P_k(a_j)|^2 + 0.2 (its mean over k and j),

    P_k = gradient times x - x'_k; c more nodes, equally spaced, leave V / (c + 1)^2. [0, a_0] has only its right end:
    V = d_0^2 / h_0 a_0^3 / 3, of which c more nodes, at a_0 (2 t + 1) / (2 c + 1), leave V / (2 c + 1)^2. Second round:
    the other K (m - r) nodes, one by one where the next takes away most. Weights: `smooth_weights`. Up to m = 6 there
    is no second round: the rule is "riemann_shared_end".

    The first round's gradients are held until the second's nodes are known: those of one example, of as many baselines
    as 128 MiB have room for (at least one); others follow as a group of their own.
    """

    def __init__(self, n_steps: int):
        self.n_steps = self.points = check_positive_int(n_steps, "n_steps")
        inner = self.n_steps - 1
        self.first = min(inner, max(LEAST_FIRST, round(FIRST_SHARE * inner)))
        # Of each path, between the first round and n_steps points.
        self.more = inner - self.first
        self.start = nodes_and_weights(SHARED_END, self.first + 1)[0]

    def coarse(self, n_steps: int) -> Fixed:
        return Fixed(SHARED_END, n_steps, "screening_steps")

    def going_on(self, n_steps: int, sums: Sums) -> tuple[Rule, Sums | None]:
        return self, None  # Its points are chosen anew.

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        count = references.count
        held = max(1, self.first) * sum(s.nbytes for s in zero_sums(problem.inputs))
        group = max(1, HELD_BYTES // held)
        weights = torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")
        with problem.progress(problem.n_examples * (count * (self.n_steps - 1) + 1)) as bar:
            for e in range(problem.n_examples):
                here = slice(e, e + 1)
                ends = end_gradients(problem, here, bar)
                for low in range(0, count, group):
                    paths = range(low, min(low + group, count))
                    sums = self._sums(problem, references, e, paths, ends, bar)
                    yield from whole_paths(problem, references, sums, weights, here, low)

    def _sums(self, problem: Problem, references: BaselineSet, e: int, paths: range, ends: Sums, bar: Any) -> Sums:
        """The mean gradient along some paths of example e, (1, k, *feature) for each element."""
        k, start = len(paths), self.start
        firsts = _first_round(problem, references, e, paths, start[:-1], bar)
        if self.more:
            added = place(_distances(problem, references, e, paths, firsts, ends), start, k * self.more)
            nodes = [refined_nodes(start, own) for own in added]
            weights = [smooth_weights(own) for own in nodes]
        else:
            nodes, weights = [start] * k, [nodes_and_weights(SHARED_END, self.n_steps)[1]] * k
        sums = zero_sums(problem.inputs, 1, k)
        later, shares = [], []
        for j in range(k):
            old = np.isin(nodes[j], start)
            share = torch.from_numpy(weights[j][old][:-1])
            for total, own, end in zip(sums, firsts, ends, strict=True):
                total[0, j] += (own[j] * beside(share.to(own), own[j])).sum(0)
                total[0, j] += end[0] * float(weights[j][-1])
            later.append(torch.from_numpy(nodes[j][~old]))
            shares.append(torch.from_numpy(weights[j][~old]))
        del firsts
        every = torch.ones(1, k, dtype=torch.bool, device="cpu")
        add_gradients(problem, references, sums, every, later, (e, paths.start), bar, shares)
        return sums


def place(distances: np.ndarray, start: np.ndarray, budget: int) -> np.ndarray:
    """How many nodes more each piece gets, (K, pieces), of `budget` in all; column 0: the piece before the first node.

    distances (K, n - 1): |P_k(a_(j+1)) - P_k(a_j)| between the n nodes `start`.
    """
    widths = np.diff(start)
    squares = distances**2
    squares = (1 - POOL) * squares + POOL * squares.mean()
    inside = squares * widths**2 / 12
    before = squares[:, :1] / widths[0] * start[0] ** 3 / 3
    return greedy(np.hstack([before, inside]), budget)


def greedy(variances: np.ndarray, budget: int) -> np.ndarray:
    """Nodes given out one by one to the piece whose variance (K, pieces) the next one lowers most."""
    added = np.zeros(variances.shape, dtype=int)

    def gain(k: int, j: int) -> float:
        c, per_node = added[k, j], 2 if j == 0 else 1
        return float(variances[k, j] * ((per_node * c + 1) ** -2.0 - (per_node * (c + 1) + 1) ** -2.0))

    heap = [(-gain(k, j), k, j) for k, j in np.ndindex(*variances.shape)]
    heapq.heapify(heap)
    for _ in range(budget):
        _, k, j = heap[0]
        added[k, j] += 1
        heapq.heapreplace(heap, (-gain(k, j), k, j))
    return added


def refined_nodes(start: np.ndarray, added: np.ndarray) -> np.ndarray:
    """The first nodes, themselves, and the added ones between them, ascending."""
    c = int(added[0])
    parts = [start[0] * (2 * np.arange(c) + 1) / (2 * c + 1)]
    for j, c in enumerate(added[1:]):
        parts.append(np.append(start[j], np.linspace(start[j], start[j + 1], int(c) + 2)[1:-1]))
    return np.concatenate([*parts, start[-1:]])


def smooth_weights(nodes: np.ndarray, length: float = 0.2, noise: float = 0.01) -> np.ndarray:
    """The weights of least expected squared error for a random function of a constant and a Matern-3/2 part.

    With c(r) = (1 + s) e^-s, s = sqrt(3) r / length, they solve

        (c(|a_i - a_j|) + noise [i = j]) w + mu = integral_0^1 c(|a_i - u|) du,    sum w = 1.

    For equal spacing they are nearly equal; where spacing changes they damp what the length nearest to a node, as its
    weight, would leave.
    """
    nodes = np.asarray(nodes, dtype=float)
    n = len(nodes)
    system = np.ones((n + 1, n + 1))
    system[:n, :n] = _matern(np.abs(nodes[:, None] - nodes), length) + noise * np.eye(n)
    system[n, n] = 0
    right = _matern_integral(nodes, length) + _matern_integral(1 - nodes, length)
    return np.linalg.solve(system, np.append(right, 1))[:n]


def _matern(distance: np.ndarray, length: float) -> np.ndarray:
    s = math.sqrt(3) * distance / length
    return (1 + s) * np.exp(-s)


def _matern_integral(width: np.ndarray, length: float) -> np.ndarray:
    """integral_0^width c(r) dr."""
    s = math.sqrt(3) * width / length
    return length / math.sqrt(3) * (2 - (2 + s) * np.exp(-s))


def _first_round(problem: Problem, references: BaselineSet, e: int, paths: range, nodes: np.ndarray, bar: Any) -> Sums:
    """The gradients of example e at the same nodes of some paths, (k, r, *feature) for each element."""
    k, n = len(paths), len(nodes)
    of_point = torch.tensor([[e, k] for k in paths], device="cpu").repeat_interleave(n, dim=0)
    kept = zero_sums(problem.inputs, k * n)
    for rows, gradients in path_gradients(problem, references, of_point, torch.from_numpy(nodes).repeat(k), bar):
        for every, own in zip(kept, gradients, strict=True):
            every[rows] = own.to(every.dtype)
    return tuple(g.view(k, n, *g.shape[1:]) for g in kept)


def _distances(problem: Problem, references: BaselineSet, e: int, paths: range, firsts: Sums, ends: Sums) -> np.ndarray:
    """|P_k(a_(j+1)) - P_k(a_j)| over all elements of a tuple, (k, r): between the r nodes of a path and x."""
    squares = firsts[0].new_zeros(firsts[0].shape[:2])
    for j, k in enumerate(paths):
        differences = references.differences(problem.inputs, slice(e, e + 1), k, squares.dtype)
        for gradients, end, difference in zip(firsts, ends, differences, strict=True):
            changes = torch.cat([gradients[j], end]).diff(dim=0) * difference
            squares[j] += changes.reshape(len(changes), -1).square().sum(1)
    return squares.sqrt().cpu().double().numpy()
