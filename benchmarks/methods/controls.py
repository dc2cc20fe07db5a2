"""Rows that a method must differ from: noise, edges, and a network that has learned nothing."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.methods.method import NEW_DRAWS, Batch, Method, MethodSettings, explained
from benchmarks.methods.mixes import centred_blob
from benchmarks.run.randomness import seeded
from captum_wg import ExpectedGradients

BLOB = 1 / 4  # of the side, a sigma
UNTRAINED = "ExpectedGradients-random-weights"
_WORTH = "A method worth its name differs from the controls."


def noise(x: Tensor, values: tuple[np.ndarray, ...], generator: np.random.Generator) -> np.ndarray:
    """Numbers uniform in [0, 1), for each channel apart."""
    return generator.random(x.shape, dtype=np.float32)


def edges(x: Tensor) -> Tensor:
    """The magnitude of the Sobel gradient of the channels' mean, the same in all channels, (C, H, W) float32."""
    grey = nn.functional.pad(x.float().mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(grey)
    magnitude = nn.functional.conv2d(grey, kernels).square().sum(1).sqrt()
    return magnitude.expand(x.shape).contiguous()


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the model with weights as at the start of a training."""
    model = copy.deepcopy(model)
    with seeded(seed, "random weights"):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return model.eval()


def untrained(name: str, settings: MethodSettings) -> Method:
    """Expected gradients of the network with the weights that a training would begin with."""

    def explain(batch: Batch) -> Tensor:
        model = randomized(batch.model, batch.seed)
        return batch.in_parts(ExpectedGradients(model).attribute, n_steps=settings.n_steps)

    note = f"{name} explains the network with weights as before training."
    return explained(name, explain, group="control", notes=(note, _WORTH))


ROWS = {
    "EdgeDetector": Method(
        "EdgeDetector",
        combine=lambda x, values, generator: edges(x).numpy(),
        group="control",
        notes=("EdgeDetector: the image's Sobel gradient, without the network.", _WORTH),
    ),
    "Random": Method(
        "Random", combine=noise, group="control", notes=("Random: uniform random numbers.", _WORTH), draws=NEW_DRAWS
    ),
    "CentredBlob": Method(
        "CentredBlob",
        combine=lambda x, values, generator: centred_blob(tuple(x.shape), BLOB).float().numpy(),
        group="control",
        notes=("CentredBlob: a Gaussian of a quarter of the side around the middle of every image.", _WORTH),
    ),
    UNTRAINED: untrained,
}
