"""Guided integrated gradients: the path changes first the pixels whose gradients are small.

The path leads from the baseline x' to the image x within the box between them. With a_i in [0, 1] how far element i
has come, z = x' + a (x - x') is a point of it, and sum_i |x_i - x'_i| (1 - a_i) what remains. In step t = 1 ... T,

    g = gradient of p_c at z;    low, high = t / T - r, t / T + r, within [0, 1]
    a_i = max(a_i, low)
    until what remains is the (1 - t / T)-th part of the whole:
        of the elements with a_i < high, those with the smallest |g_i|, up to the given fraction of all elements,
        go on towards high: all the way, or as far as is still needed
    map_i += g_i (how far z_i went in this step)

r = 0 is the straight path (integrated gradients), r = 1 a path anywhere in the box.

Source: Kapishnikov et al., "Guided Integrated Gradients: An Adaptive Path Method for Removing Noise" (2021), with the
bound on the distance from the straight path and the defaults of the authors' library.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.methods.outputs import probability_and_gradient
from captum_wg.integrals.walk import point

_REACHED = 1e-9


def guided_ig(
    model: nn.Module,
    x: Tensor,
    target: int,
    baseline: Tensor | float = 0.0,
    *,
    n_steps: int = 200,
    fraction: float = 0.25,
    radius: float = 0.02,
) -> Tensor:
    """The map (1, C, H, W) of an image (1, C, H, W); it takes n_steps gradients, one after another.

    Args:
        baseline: x', (1, C, H, W) or a number.
        fraction, radius: of the elements that go on at once, and r.

    Raises:
        FloatingPointError: a gradient on the path is NaN or infinite, so that no next pixel can be chosen.
    """
    start = torch.as_tensor(baseline, dtype=torch.float64, device=x.device).expand_as(x)
    way = x.double() - start
    length = way.abs()
    whole = length.sum()
    chosen_at_most = int(fraction * (x.numel() - 1)) + 1
    done = torch.zeros_like(way)
    total = torch.zeros_like(way)
    for step in range(1, n_steps + 1):
        _, gradient = probability_and_gradient(model, point(start, way, done).to(x.dtype), target)
        if not gradient.isfinite().all():
            raise FloatingPointError(f"the gradient at step {step} of {n_steps} of the path is not finite")
        low, high = max(step / n_steps - radius, 0.0), min(step / n_steps + radius, 1.0)
        before, done = done, done.clamp(min=low)
        while (missing := (length * (1 - done)).sum() - whole * (1 - step / n_steps)) > _REACHED * whole:
            size = gradient.abs().double().where((done < high) & (length > 0), torch.inf)
            threshold = size.flatten().kthvalue(chosen_at_most).values
            chosen = (size <= threshold) & size.isfinite()
            share = missing / (length * (high - done))[chosen].sum()
            done = torch.where(chosen, high if share >= 1 else done + share * (high - done), done)
        total += gradient * (done - before) * way
    return total.to(x.dtype)
