"""SmoothGrad times the input: gradients averaged over noisy copies of it (Smilkov et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from captum_wg.attribution_base import BaselineAttribution, check_smooth_maps, logged
from captum_wg.engine.baseline_set import Baselines
from captum_wg.engine.checks import check_bool, check_generator, check_number, check_positive_int
from captum_wg.engine.problem import Points
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import In, accumulation_dtype, along, finest
from captum_wg.integrals.random import Seed, gaussian_noise
from captum_wg.integrals.rule import zero_sums
from captum_wg.smoothing import Smooth

NOISE_LEVEL = 0.15


class SmoothGrad(BaselineAttribution):
    """The mean gradient at noisy copies of the input, times the input from the mean of K baselines x'_k:

        phi_i(x) = (x_i - 1/K sum_k x'_k,i) 1/S sum_s dF(x + sigma e_s) / dx_i,        e_s ~ N(0, I),

    sigma being the share `noise_level` of the range max(x) - min(x) of each example, as in Smilkov et al. 2017,
    "SmoothGrad: removing noise by adding noise". The range is over all features of an example: standardise the columns
    of a table first. Where there is one number, or all are equal, there is no range, and no noise.

    Baselines say what the input is compared with; no gradient is taken there, so they cost nothing. Without any it is
    compared with zeros, and how inputs are encoded counts (of images in [0, 1] zeros are black): give references, or
    `captum_wg.baselines.channel_mean`.

    Captum's NoiseTunnel(Saliency) with abs=False is the mean gradient alone; NoiseTunnel(InputXGradient) has the noise
    in the factor too, which adds sigma^2 times the mean second derivative, and variance. Here noise comes in pairs e,
    -e (`antithetic`), which cancels the gradient's linear part for even n_samples; the draws are the same for all
    examples, scaled by the range of each.

    Few gradients suffice for a low deletion AUC (docs/results.md, by NoiseTunnel's form from zeros), and for
    `PatchCorrected` to start from. There is no completeness: the sum means nothing, and there is no convergence delta.

    Args:
        forward_func, baselines: as in `BaselineAttribution`.
        multiply_by_inputs: False leaves the factor x - mean x'_k out: SmoothGrad itself, signed.

    Examples:
        >>> x = torch.tensor([[3.0, 1.0]])
        >>> square = SmoothGrad(lambda z: z.square().sum(1))  # gradients 2 z, of which pairs have the mean 2 x
        >>> square.attribute(x, torch.tensor([[0.0, 0.0], [2.0, 2.0]]), n_samples=2)  # (3 - 1) 6, (1 - 1) 2
        tensor([[12.,  0.]])
    """

    def __init__(self, forward_func: Callable[..., Any], multiply_by_inputs: bool = True, baselines: Baselines = None):
        super().__init__(forward_func, baselines)
        self._multiply_by_inputs = check_bool(multiply_by_inputs, "multiply_by_inputs")

    @logged
    def attribute(
        self,
        inputs: In,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_samples: int = 50,
        noise_level: float | tuple[float, ...] = NOISE_LEVEL,
        internal_batch_size: int | None = None,
        *,
        pairing: str | None = None,
        show_progress: bool | None = None,
        antithetic: bool = True,
        generator: Seed = None,
        smooth: Smooth = None,
    ) -> In:
        """SmoothGrad of inputs, times what they are compared with.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), floating point.
            baselines, target, additional_forward_args, internal_batch_size, pairing, show_progress, smooth: as in
                `ExpectedGradients.attribute`.
            n_samples: S, best even; B * S gradients are taken.
            noise_level: the noise's standard deviation as a share of each example's range, at least 0 (there the map is
                InputXGradient's, from the mean baseline); one number, or one for each element of a tuple.
            antithetic: whether samples come in pairs of noise with either sign.
            generator: of the noise: a torch.Generator on the inputs' device, an int seed, or None for a fixed seed.

        Returns:
            In the inputs' structure, shape, dtype and device.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. A NaN or infinite gradient.
        """
        count = check_positive_int(n_samples, "n_samples")
        check_bool(antithetic, "antithetic")
        problem, references = self._problem(
            inputs, baselines, target, additional_forward_args, pairing, internal_batch_size, show_progress
        )
        check_smooth_maps(problem, smooth)
        levels = _levels(noise_level, len(problem.inputs))
        draws = check_generator(generator, problem.inputs[0].device)
        noise = gaussian_noise(problem.inputs, count, levels, draws, antithetic)
        dtype = accumulation_dtype(*problem.inputs)
        ranges = tuple(_range(x, dtype) for x in problem.inputs)

        def points(examples: slice, chosen: slice) -> Points:
            added = (along(r[examples].unsqueeze(1), e) * e for r, e in zip(ranges, noise(chosen), strict=True))
            at = zip(problem.inputs, added, strict=True)
            return Points(tuple((x[examples].unsqueeze(1).to(dtype) + e).to(x.dtype) for x, e in at))

        totals = zero_sums(problem.inputs, problem.n_examples)
        for tile in problem.gradients(points, count):
            for total, gradient in zip(totals, tile.gradients, strict=True):
                total[tile.examples] += gradient.to(total.dtype).sum(1)
        # As exact as can be: 0 where an example is its baselines.
        exact = finest(totals[0].device)
        means = references.mean(totals[0].new_full((references.count,), 1 / references.count, dtype=exact))
        maps = tuple(
            total / count * (x.to(total.dtype) - mean.squeeze(1).to(total.dtype) if self._multiply_by_inputs else 1)
            for total, x, mean in zip(totals, problem.inputs, means, strict=True)
        )
        return cast(In, self._finish(problem, maps, smooth)[0])

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs


def _levels(noise_level: object, n_inputs: int) -> tuple[float, ...]:
    """One for each element of the inputs."""
    each = noise_level if isinstance(noise_level, tuple) else (noise_level,) * n_inputs
    if len(each) != n_inputs:
        raise ValueError(f"noise_level must be a number, or one for each of the {n_inputs} inputs, got {noise_level!r}")
    for level in each:
        if check_number(level, "noise_level", 0.0) == math.inf:
            raise ValueError("noise_level must be finite, a share of each example's range, got inf")
    return tuple(map(float, each))


def _range(x: Tensor, dtype: torch.dtype) -> Tensor:
    """max - min of each example, (B,)."""
    low, high = x.reshape(len(x), -1).aminmax(dim=1)
    return high.to(dtype) - low.to(dtype)
