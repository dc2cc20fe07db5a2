"""Points on the straight paths from baselines to an input, at quadrature nodes or at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import accumulation_dtype, check_generator, check_positive_int
from captum_wg.integrals.nodes import Rule
from captum_wg.samplers import reference_order

Noise = Callable[[slice], tuple[Tensor, ...]]


class Paths:
    """S points x'_k + a (x + noise - x'_k), with k and a the same for all examples.

    Args:
        inputs: (B, *feature) for each element.
        references: the K baselines.
        which, nodes, weights: k, a and the weight of each point, (s,).
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
            nodes = torch.cat([nodes, nodes.new_ones(1)])
            weights = torch.cat([weights, end_weights.sum().view(1)])
            share = (end_weights / end_weights.sum()).to(self._dtype).to(device)
            self._mean = references.mean(share)
        self.count = len(nodes)
        self.which = which.to(device)
        self.nodes = nodes.to(self._dtype).to(device)
        self.weights = weights.to(self._dtype).to(device)
        self._noise = noise
        self._latest: tuple[slice, slice, tuple[Tensor, ...]] | None = None

    def __call__(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        """The points, (b, s, *feature) in the inputs' dtype."""
        nodes = self.nodes[chosen]
        starts, differences = self._starts(examples, chosen), self.differences(examples, chosen)
        points = tuple(
            (r + along(nodes, d) * d).to(x.dtype) for x, r, d in zip(self._inputs, starts, differences, strict=True)
        )
        if self.shared_end and chosen.stop > self.inner:
            for x, point in zip(self._inputs, points, strict=True):
                point[:, -1] = x[examples]  # without the rounding of the sum
        return points

    def differences(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        """x + noise - x'_k at these points, (b, s, *feature)."""
        if self._latest is not None and self._latest[:2] == (examples, chosen):
            # Of the tile whose gradients have just been taken.
            return self._latest[2]
        ends = tuple(x[examples].unsqueeze(1).to(self._dtype) for x in self._inputs)
        if self._noise is not None:
            ends = tuple(x + n for x, n in zip(ends, self._noise(chosen), strict=True))
        found = tuple(x - r for x, r in zip(ends, self._starts(examples, chosen), strict=True))
        self._latest = (examples, chosen, found)
        return found

    def _starts(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        starts = tuple(r.to(self._dtype) for r in self.references.at(examples, self.which[chosen]))
        if not self.shared_end or chosen.stop <= self.inner:
            return starts
        means = tuple(m if self.references.shared else m[examples] for m in self._mean)
        return tuple(torch.cat([s, m], dim=1) for s, m in zip(starts, means, strict=True))


def quadrature_paths(inputs: tuple[Tensor, ...], references: BaselineSet, rule: Rule) -> Paths:
    """The points of a quadrature rule on each path, baseline by baseline; weights are 1/K of the rule's.

    A node at 1 is the input itself on every path: it is taken once, as the last point.
    """
    nodes, weights = (torch.from_numpy(v) for v in rule)
    count = references.count
    end_weights = None
    if len(nodes) and nodes[-1] == 1:
        end_weights = weights[-1].expand(count) / count
        nodes, weights = nodes[:-1], weights[:-1]
    which = torch.arange(count).repeat_interleave(len(nodes))
    return Paths(inputs, references, which, nodes.repeat(count), weights.repeat(count) / count, end_weights=end_weights)


def staggered_paths(
    inputs: tuple[Tensor, ...],
    references: BaselineSet,
    n_samples: int,
    generator: torch.Generator | int | None = None,
) -> Paths:
    """n_samples points for baselines that get few each: evenly spaced on each path, shifted from path to path, and x.

    With K baselines and S points, n_k = floor or ceil of (S - 1) / K nodes fall to path k, at (j + (p(k) + 1/2) / K)
    h_k for j < n_k, p a random order of the baselines; h_k = c / n_k, c = m / (m + 3/8), m the largest n_k. Each counts
    h_k, and x itself, once for all paths, the rest.
    """
    n_samples = check_positive_int(n_samples, "n_samples")
    count = references.count
    if n_samples <= count:
        raise ValueError(
            f"n_samples must be larger than the number of baselines ({count}) for sampling='staggered', got "
            f"{n_samples}; give more, fewer baselines, or use sampling='random'"
        )
    draws = check_generator(generator, inputs[0].device)
    offsets = (torch.randperm(count, generator=draws, device=draws.device).cpu().double() + 0.5) / count
    order = torch.randperm(count, generator=draws, device=draws.device).cpu()
    least, more = divmod(n_samples - 1, count)
    counts = least + (order < more).long()
    most = least + (more > 0)
    covered = most / (most + 0.375)
    widths = covered / counts.double()
    which = torch.arange(count).repeat_interleave(counts)
    place = torch.cat([torch.arange(int(n)) for n in counts])
    nodes = (place + offsets[which]) * widths[which]
    end_weights = torch.full((count,), (1 - covered) / count, dtype=torch.float64)
    return Paths(inputs, references, which, nodes, widths[which] / count, end_weights=end_weights)


def random_paths(
    inputs: tuple[Tensor, ...],
    references: BaselineSet,
    n_samples: int,
    stdevs: float | tuple[float, ...] = 0.0,
    generator: torch.Generator | int | None = None,
) -> Paths:
    """n_samples random points: every baseline before any is used twice, a uniform on [0, 1], Gaussian noise on request.

    The expectation is that of GradientShap, which draws all three anew for each example.
    """
    n_samples = check_positive_int(n_samples, "n_samples")
    each = stdevs if isinstance(stdevs, tuple) else (stdevs,) * len(inputs)
    if len(each) != len(inputs) or not all(isinstance(s, int | float) and 0 <= s < float("inf") for s in each):
        raise ValueError(
            f"stdevs must be a number of at least 0, or one for each of the {len(inputs)} inputs, got {stdevs!r}"
        )
    draws = check_generator(generator, inputs[0].device)
    which = reference_order(references.count, n_samples, draws)
    nodes = torch.rand(n_samples, generator=draws, device=draws.device, dtype=torch.float64)
    noise = _noise(inputs, n_samples, each, draws) if any(each) else None
    weights = torch.full((n_samples,), 1 / n_samples, dtype=torch.float64)
    return Paths(inputs, references, which, nodes, weights, noise)


def along(values: Tensor, like: Tensor) -> Tensor:
    """values of points, (s,), shaped to multiply (b, s, *feature)."""
    return values.view(1, -1, *(1,) * (like.ndim - 2))


def _noise(inputs: tuple[Tensor, ...], n_samples: int, stdevs: tuple[float, ...], generator: torch.Generator) -> Noise:
    # One seed a point: its noise is drawn when its turn comes, so that memory does not grow with n_samples.
    seeds = torch.randint(2**62, (n_samples,), generator=generator, device=generator.device).tolist()
    dtype = accumulation_dtype(*(x.dtype for x in inputs))

    def noise(chosen: slice) -> tuple[Tensor, ...]:
        drawn = []
        for seed in seeds[chosen]:
            own = torch.Generator(generator.device).manual_seed(seed)
            drawn.append(
                [torch.randn((1, 1, *x.shape[1:]), generator=own, device=own.device, dtype=dtype) for x in inputs]
            )
        return tuple(
            stdev * torch.cat(parts, dim=1).to(x.device)
            for stdev, parts, x in zip(stdevs, zip(*drawn, strict=True), inputs, strict=True)
        )

    return noise
