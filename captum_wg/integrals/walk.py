"""The walk along straight paths, x'_k + a (x - x'_k): the only place where their points are made.

Two ways of walking: points with the same k and a for all examples, in tiles (`Paths`); and any list of points, each on
a path of its own (`row_points`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import accumulate

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.problem import Points, Problem
from captum_wg.engine.tensors import accumulation_dtype, along, beside
from captum_wg.integrals.rule import Part

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
        end_weights: (K,), what the gradient at x itself counts on each path. It is the same on all of them, so that
            one point more, the last, serves them all: its weight is their sum and its reference their weighted mean.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        references: BaselineSet,
        which: Tensor,
        nodes: Tensor,
        weights: Tensor,
        noise: Noise | None = None,
        end_weights: Tensor | None = None,
    ):
        self._inputs = inputs
        self._dtype = accumulation_dtype(*(x.dtype for x in inputs))
        device = inputs[0].device
        self.references = references
        self.shared_end = end_weights is not None
        self.inner = len(which)
        if end_weights is not None:
            which = torch.cat([which, which.new_full((1,), -1)])
            nodes = torch.cat([nodes, nodes.new_ones(1)])
            weights = torch.cat([weights, end_weights.sum().view(1)])
            share = (end_weights / end_weights.sum()).to(self._dtype).to(device)
            self._mean = references.mean(share)
        self.count = len(nodes)
        self.which = which.cpu()
        self.nodes = nodes.to(self._dtype).to(device)
        self.weights = weights.to(self._dtype).to(device)
        self._of_inner = self.which[: self.inner].to(device)
        self._noise = noise

    def at(self, examples: slice, chosen: slice) -> Points:
        """The points, (b, s, *feature) in the inputs' dtype, and x + noise - x'_k there."""
        starts = self._starts(examples, chosen)
        ends = tuple(x[examples].unsqueeze(1).to(self._dtype) for x in self._inputs)
        if self._noise is not None:
            ends = tuple(x + n for x, n in zip(ends, self._noise(chosen), strict=True))
        differences = tuple(x - r for x, r in zip(ends, starts, strict=True))
        nodes = self.nodes[chosen]
        points = tuple(
            point(r, d, along(nodes, d)).to(x.dtype) for x, r, d in zip(self._inputs, starts, differences, strict=True)
        )
        if self.shared_end and chosen.stop > self.inner:
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
                self.shared_end and tile.points.stop > self.inner,
            )

    def _starts(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        starts = tuple(r.to(self._dtype) for r in self.references.at(examples, self._of_inner[chosen]))
        if not self.shared_end or chosen.stop <= self.inner:
            return starts
        means = tuple(m if self.references.shared else m[examples] for m in self._mean)
        return tuple(torch.cat([s, m], dim=1) for s, m in zip(starts, means, strict=True))


def row_points(
    inputs: tuple[Tensor, ...], references: BaselineSet, examples: Tensor, which: Tensor, nodes: Tensor
) -> Callable[[slice], tuple[Tensor, ...]]:
    """rows -> (r, *feature): point i lies at nodes[i] on the path from baseline which[i] to example examples[i]."""
    dtype = nodes.dtype

    def points(rows: slice) -> tuple[Tensor, ...]:
        here = examples[rows]
        found = []
        for x, start in zip(inputs, references.of_rows(here, which[rows]), strict=True):
            origin = start.to(dtype)
            found.append(point(origin, x[here].to(dtype) - origin, beside(nodes[rows], origin)).to(x.dtype))
        return tuple(found)

    return points


def add_gradients(
    problem: Problem,
    references: BaselineSet,
    totals: tuple[Tensor, ...],
    paths: Tensor,
    nodes: list[Tensor],
    first: int,
    bar: object,
    weights: list[Tensor] | None = None,
    first_baseline: int = 0,
) -> None:
    """Add the gradients at the nodes of some paths, times their weights, to totals (b, k, *feature).

    paths (n, 2) are places in totals; place [0, 0] is of example `first` and of baseline `first_baseline`.
    """
    dtype, device = totals[0].dtype, totals[0].device
    counts = [len(n) for n in nodes]
    bounds = [0, *accumulate(counts)]
    example, baseline = paths.to(device).unbind(1)
    of_row = torch.arange(len(paths), device="cpu").repeat_interleave(torch.tensor(counts, device="cpu")).to(device)
    at = torch.cat(nodes).to(dtype).to(device)
    numbers, which = example[of_row] + first, baseline[of_row] + first_baseline
    share = None if weights is None else torch.cat(weights).to(dtype).to(device)

    path = 0
    points = row_points(problem.inputs, references, numbers, which, at)
    for rows, gradients in problem.row_gradients(points, numbers, bar):
        # A run of paths with as many nodes each is summed at once; index_add_ would leave the order of summation to
        # chance on a GPU.
        while path < len(counts) and bounds[path] < rows.stop:
            begin, stop = max(bounds[path], rows.start), min(bounds[path + 1], rows.stop)
            end = path + 1
            if stop - begin == counts[path]:
                while end < len(counts) and counts[end] == counts[path] and bounds[end + 1] <= rows.stop:
                    end += 1
                stop = bounds[end]
            for total, gradient in zip(totals, gradients, strict=True):
                own = gradient[begin - rows.start : stop - rows.start].to(dtype)
                if share is not None:
                    own = own * beside(share[begin:stop], own)
                total[example[path:end], baseline[path:end]] += own.view(end - path, -1, *own.shape[1:]).sum(1)
            if bounds[end] > rows.stop:
                break
            path = end
