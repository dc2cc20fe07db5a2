"""The integrands P_k(a) = gradient at x'_k + a (x - x'_k) times (x - x'_k) of one image, and errors of their estimates.

`Tabulated` takes gradients once, at the midpoints of a fine grid, and keeps their inner products: every estimate is a
weighting of the grid's rows, and the squared error of a weighting is a quadratic form. `Exact` takes gradients wherever
an estimator asks for them, for networks small enough.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.quadrature.estimators import Array, Points
from captum_wg.integrals.walk import point

# at(k, nodes (n,)) -> P_k at the nodes (n, features)
AtNodes = Callable[[int, Array], Tensor]


class Tabulated:
    """P_k at the N midpoints of [0, 1] for K paths, as inner products.

    A node is moved to the midpoint of its cell, by 1/(2 N) at most: an estimate then is off by about as much as N
    midpoints are from the integral, or by less where displacements cancel. The reference are all K N midpoints.

    Attributes:
        reference: the mean of all rows, (features,), for maps that are computed elsewhere.
    """

    def __init__(self, at: AtNodes, count: int, steps: int):
        self.count, self.steps = count, steps
        nodes = (np.arange(steps) + 0.5) / steps
        rows = torch.cat([at(k, nodes).detach().cpu() for k in range(count)])  # row k N + j is P_k((j + 1/2) / N)
        gram = torch.zeros(len(rows), len(rows), dtype=torch.float64)
        reference = []
        for part in rows.split(4096, dim=1):  # few columns at a time in float64
            part = part.double()
            gram.addmm_(part, part.T)
            reference.append(part.mean(0))
        self.reference = torch.cat(reference)
        self._gram = gram.numpy()
        self._mean = self._gram.mean(1)  # inner products with the reference
        self._norm = float(self._mean.mean())  # |reference|^2

    def cells(self, nodes: Array) -> Array:
        """The cell of the grid that each node lies in."""
        return np.clip((np.asarray(nodes) * self.steps).astype(int), 0, self.steps - 1)

    def error(self, points: Points) -> float:
        """|estimate - reference| / |reference|."""
        rows = points.which * self.steps + self.cells(points.nodes)
        weights = points.weights
        own = weights @ self._gram[np.ix_(rows, rows)] @ weights
        squared = own - 2 * weights @ self._mean[rows] + self._norm
        return float(np.sqrt(max(squared, 0.0) / self._norm))

    def distances(self, k: int, nodes: Array) -> Array:
        rows = k * self.steps + self.cells(nodes)
        a, b = rows[:-1], rows[1:]
        squared = self._gram[a, a] + self._gram[b, b] - 2 * self._gram[a, b]
        return np.sqrt(np.maximum(squared, 0))


class Exact:
    """P_k wherever it is asked for, against a reference of `reference_steps` points per path.

    These are the two Gauss points of reference_steps / 2 equal cells: as many midpoints would be off by more than what
    Gauss-Legendre's rule reaches on a smooth network.
    """

    def __init__(self, at: AtNodes, count: int, reference_steps: int):
        self.count = count
        self._at = at
        middles = (np.arange(reference_steps // 2) + 0.5) / (reference_steps // 2)
        nodes = np.concatenate([middles + side / (np.sqrt(3) * reference_steps) for side in (-1, 1)])
        self.reference = torch.stack([at(k, nodes).mean(0) for k in range(count)]).mean(0)

    def estimate(self, points: Points) -> Tensor:
        """The estimated map, (features,)."""
        total = torch.zeros_like(self.reference)
        for k in np.unique(points.which):
            own = points.which == k
            total += torch.from_numpy(points.weights[own]).to(total) @ self._at(int(k), points.nodes[own])
        return total

    def error(self, points: Points) -> float:
        """|estimate - reference| / |reference|."""
        return map_error(self.estimate(points), self.reference)

    def distances(self, k: int, nodes: Array) -> Array:
        return self._at(k, nodes).diff(dim=0).norm(dim=1).numpy()


def map_error(found: Tensor, reference: Tensor) -> float:
    """|found - reference| / |reference|."""
    return ((found - reference).norm() / reference.norm()).item()


def along_paths(forward: Callable[[Tensor], Tensor], x: Tensor, references: Tensor, rows: int = 32) -> AtNodes:
    """P_k at nodes of the paths from references (K, *feature) to x (*feature); forward gives one number a row."""

    def products(k: int, nodes: Array) -> Tensor:
        difference = x - references[k]
        found = []
        for share in torch.from_numpy(np.asarray(nodes)).to(x).view(-1, *(1,) * x.ndim).split(rows):
            points = point(references[k], difference, share).requires_grad_()
            (gradient,) = torch.autograd.grad(forward(points).sum(), points)
            found.append((gradient * difference).flatten(1))
        return torch.cat(found)

    return products
