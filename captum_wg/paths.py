"""Points on the straight paths from baselines to an input, at quadrature nodes or at random."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_wg.arguments import accumulation_dtype, check_generator, check_positive_int
from captum_wg.baseline_set import BaselineSet
from captum_wg.quadrature import nodes_and_weights
from captum_wg.samplers import reference_order

Noise = Callable[[slice], tuple[Tensor, ...]]


class Paths:
    """S points x'_k + a (x + noise - x'_k), with k and a the same for all examples.

    Args:
        inputs: (B, *feature) for each element.
        references: the K baselines.
        which, nodes, weights: k, a and the weight of each point, (S,).
        noise: what is added to the inputs at some of the points, (1, s, *feature) for each element; None: nothing.
    """

    def __init__(
        self,
        inputs: tuple[Tensor, ...],
        references: BaselineSet,
        which: Tensor,
        nodes: Tensor,
        weights: Tensor,
        noise: Noise | None = None,
    ):
        self._inputs = inputs
        self._dtype = accumulation_dtype(*(x.dtype for x in inputs))
        device = inputs[0].device
        self.references = references
        self.count = len(which)
        self.which = which.to(device)
        self.nodes = nodes.to(self._dtype).to(device)
        self.weights = weights.to(self._dtype).to(device)
        self._noise = noise

    def __call__(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        """The points, (b, s, *feature) in the inputs' dtype."""
        nodes = self.nodes[chosen]
        return tuple(
            (r.to(self._dtype) + along(nodes, d) * d).to(x.dtype)
            for x, r, d in zip(
                self._inputs,
                self.references.at(examples, self.which[chosen]),
                self.differences(examples, chosen),
                strict=True,
            )
        )

    def differences(self, examples: slice, chosen: slice) -> tuple[Tensor, ...]:
        """x + noise - x'_k at these points, (b, s, *feature)."""
        ends = tuple(x[examples].unsqueeze(1).to(self._dtype) for x in self._inputs)
        if self._noise is not None:
            ends = tuple(x + n for x, n in zip(ends, self._noise(chosen), strict=True))
        references = self.references.at(examples, self.which[chosen])
        return tuple(x - r.to(self._dtype) for x, r in zip(ends, references, strict=True))


def quadrature_paths(inputs: tuple[Tensor, ...], references: BaselineSet, n_steps: int, method: str) -> Paths:
    """The points of a quadrature rule on each path, baseline by baseline; weights are 1/K of the rule's."""
    nodes, weights = (torch.from_numpy(v) for v in nodes_and_weights(method, n_steps))
    count = references.count
    which = torch.arange(count).repeat_interleave(len(nodes))
    return Paths(inputs, references, which, nodes.repeat(count), weights.repeat(count) / count)


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
