"""A given number of points for all paths together: random ones, or evenly spread and shifted from path to path."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import BaselineSet
from captum_wg.engine.checks import check_generator, check_positive_int
from captum_wg.engine.tensors import accumulation_dtype
from captum_wg.integrals.walk import Noise, Paths, PathsRule

Seed = torch.Generator | int | None


def reference_order(n_references: int, n_samples: int, generator: torch.Generator) -> Tensor:
    """Which reference each of S points goes to, (S,): in random order, every one before any is used again."""
    order = torch.randperm(n_references, generator=generator, device=generator.device)
    return order[torch.arange(n_samples, device=generator.device) % n_references]


class Random(PathsRule):
    """n_samples random points: every baseline before any is used twice, a uniform on [0, 1], Gaussian noise on request.

    The expectation is that of GradientShap, which draws all three anew for each example.
    """

    def __init__(self, n_samples: int, stdevs: float | tuple[float, ...] = 0.0, generator: Seed = None):
        self.n_samples = check_positive_int(n_samples, "n_samples")
        self.stdevs = stdevs
        self.generator = generator

    def paths(self, inputs: tuple[Tensor, ...], references: BaselineSet) -> Paths:
        """The points; each counts 1 / n_samples."""
        stdevs = self.stdevs
        each = stdevs if isinstance(stdevs, tuple) else (stdevs,) * len(inputs)
        if len(each) != len(inputs) or not all(map(_is_deviation, each)):
            raise ValueError(
                f"stdevs must be a number of at least 0, or one for each of the {len(inputs)} inputs, got {stdevs!r}"
            )
        draws = check_generator(self.generator, inputs[0].device)
        n = self.n_samples
        which = reference_order(references.count, n, draws)
        nodes = torch.rand(n, generator=draws, device=draws.device, dtype=torch.float64)
        weights = torch.full((n,), 1 / n, dtype=torch.float64, device="cpu")
        noise = gaussian_noise(inputs, n, each, draws) if any(each) else None
        return Paths(inputs, references, which, nodes, weights, noise)


class Staggered(PathsRule):
    """n_samples points for baselines that get few each: evenly spaced on each path, shifted from path to path, and x.

    With K baselines and S points, n_k = floor or ceil of (S - 1) / K nodes fall to path k, at (j + (p(k) + 1/2) / K)
    h_k for j < n_k, p a random order of the baselines; h_k = c / n_k, c = m / (m + 3/8), m the largest n_k. Each counts
    h_k, and x itself, once for all paths, the rest. With S = K there is one node a path, c = 1, and x has none.
    """

    def __init__(self, n_samples: int, generator: Seed = None):
        self.n_samples = check_positive_int(n_samples, "n_samples")
        self.generator = generator

    def paths(self, inputs: tuple[Tensor, ...], references: BaselineSet) -> Paths:
        """The points, baseline by baseline, and x."""
        count = references.count
        if self.n_samples < count:
            raise ValueError(
                f"n_samples must be at least the number of baselines ({count}) for sampling='staggered', got "
                f"{self.n_samples}; give more, fewer baselines, or use sampling='random'"
            )
        at_end = self.n_samples > count
        draws = check_generator(self.generator, inputs[0].device)
        offsets = (torch.randperm(count, generator=draws, device=draws.device).cpu().double() + 0.5) / count
        order = torch.randperm(count, generator=draws, device=draws.device).cpu()
        least, more = divmod(self.n_samples - at_end, count)
        counts = least + (order < more).long()
        most = least + (more > 0)
        covered = most / (most + 0.375) if at_end else 1.0
        widths = covered / counts.double()
        which = torch.arange(count, device="cpu").repeat_interleave(counts)
        place = torch.cat([torch.arange(int(n), device="cpu") for n in counts])
        nodes = (place + offsets[which]) * widths[which]
        end_weight = (1 - covered) / count if at_end else None
        return Paths(inputs, references, which, nodes, widths[which] / count, end_weight=end_weight)


def _is_deviation(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")


def gaussian_noise(
    inputs: tuple[Tensor, ...],
    n_samples: int,
    stdevs: tuple[float, ...],
    generator: torch.Generator,
    antithetic: bool = False,
) -> Noise:
    """Gaussian noise at S points, the same for all examples: noise(points) -> (1, s, *feature) for each element.

    antithetic: points come in pairs, of which the second has the noise of the first with the other sign.
    """
    # One seed a point, or pair: its noise is drawn when its turn comes, so that memory does not grow with n_samples.
    each = 2 if antithetic else 1
    seeds = torch.randint(2**62, (-(-n_samples // each),), generator=generator, device=generator.device).tolist()
    dtype = accumulation_dtype(*(x.dtype for x in inputs))

    def noise(chosen: slice) -> tuple[Tensor, ...]:
        first = chosen.start // each
        draws = [torch.Generator(generator.device).manual_seed(seed) for seed in seeds[first : -(-chosen.stop // each)]]
        wanted = slice(chosen.start - each * first, chosen.stop - each * first)

        def drawn(x: Tensor) -> Tensor:
            shape = (1, 1, *x.shape[1:])
            own = [torch.randn(shape, generator=g, device=g.device, dtype=dtype) for g in draws]
            once = torch.cat(own, dim=1).to(x.device, non_blocking=x.is_cuda)  # the CPU need not wait
            return torch.stack([once, -once], dim=2).flatten(1, 2)[:, wanted] if antithetic else once

        return tuple(stdev * drawn(x) for stdev, x in zip(stdevs, inputs, strict=True))

    return noise
