"""A baseline that is learned by exploration and exploitation, in the manner of BEE.

Baselines are random tensors of five kinds. Which kind is tried next follows from how well those tried before did for
this image, by Thompson sampling; the map shown is the best of all by the metric.

    for each of n draws:
        q_k ~ Beta(1 + wins_k, 1 + losses_k) for each kind k; k = argmax q_k
        x' ~ kind k;  m = integrated gradients from x' to x
        r = the share of the earlier maps that m is not worse than, by the metric;  a win with probability r, or a loss
    the best m

Kinds, for each channel by itself: normal noise of the image's mean and deviation; uniform noise between the image's
extremes; the image blurred by a random sigma; a random constant between the extremes; a random one of the references.

Source: Barkan, Elisha, Weill, Koenigstein, "BEE: Metric-Adapted Explanations via Baseline Exploration-Exploitation"
(AAAI 2025) and the authors' code: the five kinds, rewards by rank, the best of many draws. Departures, as nothing here
is trained before: the posterior is of this image alone, where theirs is a Bayesian logistic regression on features of
the image (a network's, finetuned, over 5000 images), so that its first draws are blind; integrated gradients are of the
input, where theirs are of several layers' activations, rectified; the metric is deletion AUC over corners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from captum.attr import IntegratedGradients
from torch import Tensor, nn

from captum_wg.baselines import gaussian_blur
from quantus_ext import DeletionAUC

# Sigma of the blur, as shares of the longer side: the authors' 3 to 50 pixels of 224.
BLURS = 3 / 224, 50 / 224


def bee(
    model: nn.Module,
    x: Tensor,
    target: int,
    references: Tensor,
    *,
    n_draws: int = 50,
    n_steps: int = 5,
    levels: int = 10,
    generator: np.random.Generator,
    rows: int = 16,
) -> Tensor:
    """The map (1, C, H, W) of an image (1, C, H, W); it takes n_draws n_steps gradients and n_draws (levels + 1)
    forwards.

    Args:
        references: (K, C, H, W).
        n_draws, n_steps: baselines that are tried, and points on the path from each.
        levels: of the metric's curve.
        rows: points of one pass; bounds memory.
    """
    metric = DeletionAUC(levels=levels, internal_batch_size=rows, disable_warnings=True)
    judged: dict[str, Any] = dict(model=model, x_batch=x, y_batch=np.array([target]), channel_first=True)
    explain = IntegratedGradients(model).attribute
    wins, losses = np.ones(len(KINDS)), np.ones(len(KINDS))
    scores: list[float] = []
    best = torch.zeros_like(x)
    for _ in range(n_draws):
        kind = int(generator.beta(wins, losses).argmax())
        baseline = KINDS[kind](x, references, generator)
        found: Tensor = explain(x, baseline, target, n_steps=n_steps, internal_batch_size=rows)
        (score,) = metric(**judged, a_batch=found)
        rank = np.mean([score <= earlier for earlier in scores]) if scores else 1.0
        won = generator.random() < rank
        wins[kind], losses[kind] = wins[kind] + won, losses[kind] + (not won)
        if not scores or score < min(scores):
            best = found
        scores.append(score)
    return best


def _normal(x: Tensor, references: Tensor, generator: np.random.Generator) -> Tensor:
    noise = torch.from_numpy(generator.standard_normal(x.shape)).to(x)
    return x.mean((2, 3), keepdim=True) + x.std((2, 3), keepdim=True) * noise


def _uniform(x: Tensor, references: Tensor, generator: np.random.Generator) -> Tensor:
    return _between_extremes(x, generator.random(x.shape))


def _blur(x: Tensor, references: Tensor, generator: np.random.Generator) -> Tensor:
    blurred: Tensor = gaussian_blur(generator.uniform(*BLURS) * max(x.shape[2:]))(x)  # type: ignore[assignment]
    return blurred[:, 0]


def _constant(x: Tensor, references: Tensor, generator: np.random.Generator) -> Tensor:
    return _between_extremes(x, generator.random((1, x.shape[1], 1, 1))).expand_as(x)


def _reference(x: Tensor, references: Tensor, generator: np.random.Generator) -> Tensor:
    return references[generator.integers(len(references))][None]


def _between_extremes(x: Tensor, shares: np.ndarray) -> Tensor:
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    return low + (high - low) * torch.from_numpy(shares).to(x)


KINDS: tuple[Callable[[Tensor, Tensor, np.random.Generator], Tensor], ...] = (
    _normal,
    _uniform,
    _blur,
    _constant,
    _reference,
)
