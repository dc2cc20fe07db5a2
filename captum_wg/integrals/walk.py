"""The walk along straight paths, x'_k + a (x - x'_k): the only place where their points are made.

Two ways of walking: points with the same k and a for all examples, in tiles (`Paths`); and any list of points, each on
a path of its own (`path_gradients`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Points, Problem
from captum_wg.engine.tensors import accumulation_dtype, along, beside
from captum_wg.integrals.rule import Part, Sums

Noise = Callable[[slice], tuple[Tensor, ...]]


def point(start: Tensor, difference: Tensor, share: Tensor) -> Tensor:
    """x'_k + a (x - x'_k)."""
    return start + share * difference


class Paths:
    """S points x'_k + a (x + noise - x'_k), with k and a the same for all examples.

    Args:
        inputs: (B, *feature) for each element.
        references: the K baselines.
        which, nodes, weights: k, a and the weight of each point in the mean over all paths, (s,).
        noise: what is added to the inputs at some of the points, (1, s, *feature) for each element; None: nothing.
        end_weight: what the gradient at x itself counts on each path. It is the same on all of them, so that one point
            more, the last, serves them all: it counts K times as much, and its reference is the mean baseline.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        references: BaselineSet,
        which: Tensor,
        nodes: Tensor,
        weights: Tensor,
        noise: Noise | None = None,
        end_weight: float | None = None,
    ):
        self._inputs = inputs
        self._dtype = accumulation_dtype(*(x.dtype for x in inputs))
        device = inputs[0].device
        self.references = references
        self.shared_end = end_weight is not None
        self.inner = len(which)
        if end_weight is not None:
            ends = torch.full((references.count,), end_weight, dtype=torch.float64, device="cpu")
            which = torch.cat([which, which.new_full((1,), -1)])
            nodes = torch.cat([nodes, nodes.new_ones(1)])
            weights = torch.cat([weights, ends.sum().view(1)])
            self._mean = references.mean((ends / ends.sum()).to(self._dtype).to(device))
        self.count = len(nodes)
        self.which = which.cpu()
        self.nodes = nodes.to(self._dtype).to(device)
        self.weights = weights.to(self._dtype).to(device)
        self._of_inner = self.which[: self.inner].to(device)
        self._noise = noise

    def at(self, examples: slice, chosen: slice) -> Points:
        """The points, (b, s, *feature) in the inputs' dtype, and x + noise - x'_k there."""
        starts = tuple(r.to(self._dtype) for r in self.references.at(examples, self._of_inner[chosen]))
        if self._with_end(chosen):
            means = (m if self.references.shared else m[examples] for m in self._mean)
            starts = tuple(torch.cat([s, m], dim=1) for s, m in zip(starts, means, strict=True))
        ends = tuple(x[examples].unsqueeze(1).to(self._dtype) for x in self._inputs)
        if self._noise is not None:
            ends = tuple(x + n for x, n in zip(ends, self._noise(chosen), strict=True))
        differences = tuple(x - r for x, r in zip(ends, starts, strict=True))
        nodes = self.nodes[chosen]
        points = tuple(
            point(r, d, along(nodes, d)).to(x.dtype) for x, r, d in zip(self._inputs, starts, differences, strict=True)
        )
        if self._with_end(chosen):
            for x, p in zip(self._inputs, points, strict=True):
                p[:, -1] = x[examples]  # without the rounding of the sum
        return Points(points, differences)

    def walk(self, problem: Problem, what: str = "") -> Iterator[Part]:
        """The gradients at all points, tile by tile."""
        for tile in problem.gradients(self.at, self.count, what=what) if self.count else ():
            yield Part(
                tile.examples,
                self.which[tile.points],
                self.weights[tile.points],
                tile.gradients,
                tile.differences or (),
                self._with_end(tile.points),
            )

    def _with_end(self, chosen: slice) -> bool:
        """Whether x itself is among these points."""
        return self.shared_end and chosen.stop > self.inner


class PathsRule(ABC):
    """A rule whose points are known before any gradient is taken, and the same for all examples."""

    @abstractmethod
    def paths(self, inputs: tuple[Tensor, ...], references: BaselineSet) -> Paths:
        """All its points."""

    def parts(
        self, problem: Problem, references: BaselineSet, completeness: Completeness, each: bool = False, what: str = ""
    ) -> Iterator[Part]:
        return self.paths(problem.inputs, references).walk(problem, what)


def path_gradients(
    problem: Problem, references: BaselineSet, paths: Tensor, nodes: Tensor, bar: Any = None
) -> Iterator[tuple[slice, tuple[Tensor, ...]]]:
    """The gradients at points i, nodes[i] of the path to example paths[i, 0] from its baseline paths[i, 1].

    Micro-batch by micro-batch: which points, and (r, *feature) for each element.
    """
    dtype, device = accumulation_dtype(*(x.dtype for x in problem.inputs)), problem.inputs[0].device
    (examples, which), nodes = paths.to(device).unbind(1), nodes.to(dtype).to(device)

    def points(rows: slice) -> tuple[Tensor, ...]:
        here, found = examples[rows], []
        for x, start in zip(problem.inputs, references.of_rows(here, which[rows]), strict=True):
            origin = start.to(dtype)
            found.append(point(origin, x[here].to(dtype) - origin, beside(nodes[rows], origin)).to(x.dtype))
        return tuple(found)

    return problem.row_gradients(points, examples, bar)


def end_gradients(problem: Problem, examples: slice, bar: Any = None) -> Sums:
    """The gradients at some examples themselves, (b, *feature) for each element, in the precision of sums."""
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    numbers = torch.arange(examples.start, examples.stop, device=problem.inputs[0].device)
    rows = problem.row_gradients(lambda r: tuple(x[numbers[r]] for x in problem.inputs), numbers, bar)
    return tuple(torch.cat(parts).to(dtype) for parts in zip(*(gradients for _, gradients in rows), strict=True))


def add_gradients(
    problem: Problem,
    references: BaselineSet,
    totals: Sums,
    paths: Tensor,
    nodes: list[Tensor],
    corner: tuple[int, int] = (0, 0),
    bar: Any = None,
    weights: list[Tensor] | None = None,
) -> None:
    """Add the gradients at the nodes of some paths, times their weights, to totals (b, k, *feature).

    paths (b, k) marks these; place [0, 0] is of the example and the baseline numbered `corner`.
    """
    places = paths.nonzero()
    example, baseline = places.to(totals[0].device).unbind(1)
    counts = torch.tensor([len(n) for n in nodes], device="cpu")
    bounds = [0, *counts.cumsum(0).tolist()]
    of_point = (places + torch.tensor(corner, device="cpu")).repeat_interleave(counts, dim=0)
    share = None if weights is None else torch.cat(weights).to(totals[0])

    path = 0
    for rows, gradients in path_gradients(problem, references, of_point, torch.cat(nodes), bar):
        # A run of paths with as many nodes each is summed at once; index_add_ would leave the order of summation to
        # chance on a GPU.
        while path < len(nodes) and bounds[path] < rows.stop:
            begin, stop = max(bounds[path], rows.start), min(bounds[path + 1], rows.stop)
            count, end = stop - begin, path + 1
            if count == len(nodes[path]):
                while end < len(nodes) and len(nodes[end]) == count and bounds[end + 1] <= rows.stop:
                    end += 1
                stop = bounds[end]
            for total, gradient in zip(totals, gradients, strict=True):
                own = gradient[begin - rows.start : stop - rows.start].to(total.dtype)
                if share is not None:
                    own = own * beside(share[begin:stop], own)
                total[example[path:end], baseline[path:end]] += own.view(end - path, count, *own.shape[1:]).sum(1)
            if bounds[end] > rows.stop:
                break
            path = end
