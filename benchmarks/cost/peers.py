"""What the speed of this project is measured against: bare loops, other libraries, and the papers' own algorithms.

Shapes: B inputs, K baselines, n points on each path, S points around each input.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from captum.attr import GradientShap, IntegratedGradients
from torch import Tensor, nn

from captum_wg.integrals.walk import point

# Of the published code's search.
ALPHA, TOLERANCE, MAX_ITERATIONS = 0.5, 0.01, 100


def bare_gradients(model: nn.Module, x: Tensor, target: int, count: int, rows: int) -> None:
    """Input gradients of `count` copies of x (1, C, H, W), `rows` at a time, and nothing else."""
    for points in _copies(x, count, rows):
        points.requires_grad_()
        torch.autograd.grad(model(points)[:, target].sum(), points)


def bare_forwards(model: nn.Module, x: Tensor, count: int, rows: int) -> None:
    """Class probabilities of `count` copies of x (1, C, H, W), `rows` at a time, and nothing else."""
    with torch.no_grad():
        for points in _copies(x, count, rows):
            model(points).softmax(1)


def _copies(x: Tensor, count: int, rows: int) -> Iterator[Tensor]:
    for start in range(0, count, rows):
        yield x.expand(min(rows, count - start), -1, -1, -1).clone()


def captum_looped(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_steps: int) -> Tensor:
    """Captum's integrated gradients, baseline by baseline and input by input, averaged."""
    explain = IntegratedGradients(model).attribute
    maps = [
        explain(one[None], baseline[None], int(label), n_steps=n_steps)
        for one, label in zip(x, target, strict=True)
        for baseline in baselines
    ]
    return torch.cat(maps).unflatten(0, (len(x), len(baselines))).mean(1)


def captum_one_batch(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_steps: int) -> Tensor:
    """Captum's integrated gradients of all pairs of an input and a baseline in one call, averaged."""
    b, k = len(x), len(baselines)
    pairs = IntegratedGradients(model).attribute(
        x.repeat_interleave(k, 0), baselines.repeat(b, 1, 1, 1), target.repeat_interleave(k), n_steps=n_steps
    )
    return pairs.unflatten(0, (b, k)).mean(1)


def gradient_shap(model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_samples: int) -> Tensor:
    """Captum's GradientShap with n_samples random points for each input."""
    return GradientShap(model).attribute(x, baselines, n_samples=n_samples, target=target)


def shap_gradients(model: nn.Module, x: Tensor, baselines: Tensor, n_samples: int, seed: int) -> np.ndarray:
    """shap's GradientExplainer for each input's highest class, n_samples random points for each input."""
    from shap import GradientExplainer

    return GradientExplainer(model, baselines).shap_values(x, nsamples=n_samples, ranked_outputs=1, rseed=seed)[0]


def published_weighted_gradients(
    model: nn.Module, x: Tensor, target: Tensor, baselines: Tensor, n_points: int, seed: int = 0
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
            goal = ALPHA * model(xi).softmax(1)[0, c]
        own, distances = [], []
        for r in baselines:
            t = torch.rand(n_points, 1, 1, 1, generator=generator).to(xi)
            points = point(r, xi - r, t).requires_grad_()
            (gradient,) = torch.autograd.grad(model(points)[:, c].sum(), points)
            attribution = (gradient * (xi - r)).mean(0)
            order = attribution.abs().sum(0).flatten().argsort(descending=True)
            low, high, middle = 0, len(order), len(order)
            for _ in range(MAX_ITERATIONS):
                if low >= high:
                    break
                middle = (low + high) // 2
                mask = torch.zeros(len(order), device=xi.device)
                mask[order[:middle]] = 1
                mask = mask.view(1, 1, *xi.shape[2:])
                with torch.no_grad():
                    score = model(xi * (1 - mask) + neutral * mask).softmax(1)[0, c]
                if abs(score - goal) <= TOLERANCE:
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

    def gradients_at(points: Tensor, i: int) -> Tensor:
        points = points.clone().requires_grad_()
        return torch.autograd.grad(model(points)[:, int(target[i])].sum(), points)[0]

    def all_gradients(i: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        which = torch.randint(len(references), (n_samples,), generator=generator)
        t = torch.rand(n_samples, 1, 1, 1, generator=generator).to(x)
        points = point(x[i], references[which.to(x.device)] - x[i], t)
        return points, torch.cat([gradients_at(part, i) for part in points.split(rows)])

    measures = {
        "mean": lambda i, points, g: g.mean(0),
        "variance": lambda i, points, g: g.square().mean(0) - g.mean(0).square(),
        "stability": lambda i, points, g: _channel_cosines(points - x[i], g),
        "consistency": lambda i, points, g: _channel_cosines(gradients_at(x[i : i + 1], i).expand_as(g), g),
    }
    return {
        name: torch.stack([measure(i, *all_gradients(i)) for i in range(len(x))]) for name, measure in measures.items()
    }


def _channel_cosines(u: Tensor, v: Tensor) -> Tensor:
    # Each channel shows the angle of the two others.
    pairs = ([1, 2], [2, 0], [0, 1])
    return torch.stack([torch.cosine_similarity(u[:, pair], v[:, pair], dim=1) for pair in pairs], 1).mean(0)


def pixel_flipping(
    model: nn.Module, x: np.ndarray, y: np.ndarray, maps: np.ndarray, levels: int, device: str
) -> list[list[float]]:
    """Quantus' PixelFlipping of maps (M, 1, H, W) with this number of steps."""
    import quantus

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = quantus.PixelFlipping(features_in_step=x[0].size // levels, disable_warnings=True)
        return metric(model=model, x_batch=x, y_batch=y, a_batch=maps, device=device, channel_first=True)
