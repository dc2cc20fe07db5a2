"""What the speed of this project is measured against: bare loops, other libraries, and the papers' own algorithms.

Shapes: B inputs, K baselines, n points on each path, S points around each input.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from captum.attr import GradientShap, IntegratedGradients
from torch import Tensor, nn

# (first, second, the channel that shows their angle)
_CHANNEL_PAIRS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


def bare_gradients(model: nn.Module, x: Tensor, target: int, count: int, rows: int) -> None:
    """Input gradients of `count` copies of x (1, C, H, W), `rows` at a time, and nothing else."""
    while count > 0:
        points = x.expand(min(rows, count), -1, -1, -1).clone().requires_grad_()
        torch.autograd.grad(model(points)[:, target].sum(), points)
        count -= len(points)


def bare_forwards(model: nn.Module, x: Tensor, count: int, rows: int) -> None:
    """Class probabilities of `count` copies of x (1, C, H, W), `rows` at a time, and nothing else."""
    with torch.no_grad():
        while count > 0:
            points = x.expand(min(rows, count), -1, -1, -1).clone()
            model(points).softmax(1)
            count -= len(points)


def captum_looped(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_steps: int) -> Tensor:
    """Captum's integrated gradients, baseline by baseline and input by input, averaged."""
    method = IntegratedGradients(model)
    maps = [
        torch.stack(
            [method.attribute(x[i : i + 1], r.unsqueeze(0), int(target[i]), n_steps=n_steps)[0] for r in baselines]
        ).mean(0)
        for i in range(len(x))
    ]
    return torch.stack(maps)


def captum_one_batch(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_steps: int) -> Tensor:
    """Captum's integrated gradients of all pairs of an input and a baseline in one call, averaged."""
    b, k = len(x), len(baselines)
    pairs = IntegratedGradients(model).attribute(
        x.repeat_interleave(k, 0), baselines.repeat(b, 1, 1, 1), target.repeat_interleave(k), n_steps=n_steps
    )
    return pairs.view(b, k, *x.shape[1:]).mean(1)


def gradient_shap(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_samples: int) -> Tensor:
    """Captum's GradientShap with n_samples random points for each input."""
    return GradientShap(model).attribute(x, baselines, n_samples=n_samples, target=target)


def shap_gradients(model: nn.Module, x: Tensor, baselines: Tensor, n_samples: int, seed: int) -> np.ndarray:
    """shap's GradientExplainer for each input's highest class, n_samples random points for each input."""
    import shap

    values, _ = shap.GradientExplainer(model, baselines).shap_values(
        x, nsamples=n_samples, ranked_outputs=1, rseed=seed
    )
    return values


def published_weighted_gradients(
    model: nn.Module,
    x: Tensor,
    target: Tensor,
    baselines: Tensor,
    n_points: int,
    alpha: float = 0.5,
    tolerance: float = 0.01,
    max_iterations: int = 100,
    seed: int = 0,
) -> Tensor:
    """Weighted gradients as published: for each input and baseline the map of n random points, then Algorithm 1 with
    one forward after another (its branches the right way round, without which it does not find D_alpha)."""
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for i in range(len(x)):
        xi, c = x[i : i + 1], int(target[i])
        side = max(1, int(0.1 * xi.shape[2]))
        ends = (slice(side), slice(-side, None))
        squares = [xi[..., rows, columns].mean((2, 3), keepdim=True) for rows in ends for columns in ends]
        neutral = torch.stack(squares).mean(0)
        with torch.no_grad():
            goal = alpha * model(xi).softmax(1)[0, c]
        own, distances = [], []
        for r in baselines:
            t = torch.rand(n_points, 1, 1, 1, generator=generator).to(xi)
            points = (r + t * (xi - r)).requires_grad_()
            (gradient,) = torch.autograd.grad(model(points)[:, c].sum(), points)
            attribution = (gradient * (xi - r)).mean(0)
            order = attribution.abs().sum(0).flatten().argsort(descending=True)
            low, high, middle = 0, len(order), len(order)
            for _ in range(max_iterations):
                if low >= high:
                    break
                middle = (low + high) // 2
                mask = torch.zeros(len(order), device=xi.device)
                mask[order[:middle]] = 1
                mask = mask.view(1, 1, *xi.shape[2:])
                with torch.no_grad():
                    score = model(xi * (1 - mask) + neutral * mask).softmax(1)[0, c]
                if abs(score - goal) <= tolerance:
                    break
                low, high = (low, middle - 1) if score < goal else (middle + 1, high)
            own.append(attribution)
            distances.append(max(1, middle))
        weights = 1 / torch.tensor(distances, dtype=torch.float64)
        weights = (weights / weights.sum()).to(xi)
        maps.append((torch.stack(own) * weights.view(-1, 1, 1, 1)).sum(0))
    return torch.stack(maps)


def published_measures(
    model: nn.Module, x: Tensor, target: Tensor, references: Tensor, n_samples: int, rows: int, seed: int = 0
) -> dict[str, Tensor]:
    """The four measures of generalized integrated attributions as published: one after another, each with a pass of
    its own whose gradients (S, C, H, W) are all kept, and the equations applied to these."""

    def all_gradients(i: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        which = torch.randint(len(references), (n_samples,), generator=generator)
        t = torch.rand(n_samples, 1, 1, 1, generator=generator).to(x)
        points = x[i] + t * (references[which.to(x.device)] - x[i])
        return points, torch.cat([gradients_at(part, i) for part in points.split(rows)])

    def gradients_at(points: Tensor, i: int) -> Tensor:
        points = points.clone().requires_grad_()
        return torch.autograd.grad(model(points)[:, int(target[i])].sum(), points)[0]

    maps: dict[str, list[Tensor]] = {name: [] for name in ("mean", "variance", "stability", "consistency")}
    for i in range(len(x)):
        _, gradients = all_gradients(i)
        maps["mean"].append(gradients.mean(0))
    for i in range(len(x)):
        _, gradients = all_gradients(i)
        maps["variance"].append(gradients.square().mean(0) - gradients.mean(0).square())
    for i in range(len(x)):
        points, gradients = all_gradients(i)
        maps["stability"].append(_channel_cosines(points - x[i], gradients))
    for i in range(len(x)):
        _, gradients = all_gradients(i)
        maps["consistency"].append(_channel_cosines(gradients_at(x[i : i + 1], i).expand_as(gradients), gradients))
    return {name: torch.stack(parts) for name, parts in maps.items()}


def pixel_flipping(
    model: nn.Module, x: np.ndarray, y: np.ndarray, maps: np.ndarray, levels: int, device: str
) -> list[list[float]]:
    """Quantus' PixelFlipping of maps (M, 1, H, W) with this number of steps."""
    import quantus

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.PixelFlipping(features_in_step=x[0].size // levels, disable_warnings=True)
        return metric(model=model, x_batch=x, y_batch=y, a_batch=maps, device=device, channel_first=True)


def _channel_cosines(u: Tensor, v: Tensor) -> Tensor:
    shown = [u[:, 0]] * 3
    for first, second, third in _CHANNEL_PAIRS:
        shown[third] = torch.cosine_similarity(u[:, [first, second]], v[:, [first, second]], dim=1)
    return torch.stack(shown, 1).mean(0)
