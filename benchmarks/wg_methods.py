"""The methods of the weighted-gradients tables: weightings of the baselines' own maps, and maps without a network.

Every weighting shares the maps of the single baselines, which cost the gradients, and their D_alpha. With K baselines:

    ExpectedGradients              1/K each
    WeightedGradients              proportional to 1/D
    WeightedGradients-power2       proportional to D**-2; power0 is ExpectedGradients
    WeightedGradients-keep5        of the five fittest, the others 0; also after -powerP
    BestSingle                     the fittest alone, that is keep1
    ShuffledWeights                those of WeightedGradients in a random order: as unequal, but blind to the fitness
    Random                         a map of random numbers
    EdgeDetector                   the image's own edges (Sobel)
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from captum_wg import fitness

EG, WG = "ExpectedGradients", "WeightedGradients"
CONTROLS = {
    "ShuffledWeights": "WG's weights in a random order",
    "BestSingle": "the fittest baseline alone",
    "EdgeDetector": "the image's Sobel gradient, without the network",
    "Random": "random numbers",
}

_WEIGHTED = re.compile(rf"{WG}(-power(?P<power>\d+(\.\d+)?))?(-keep(?P<keep>\d+))?")


@dataclass(frozen=True)
class Method:
    """A method by its name.

    Attributes:
        power, keep: of a weighting: the exponent of 1/D, and how many baselines are kept (None: all).
        shuffled: whether the weights change places at random.
        control: "", or the name of a map that no network is asked for.
    """

    name: str
    power: float = 1.0
    keep: int | None = None
    shuffled: bool = False
    control: str = ""

    def map(self, x: Tensor, maps: np.ndarray, distances: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The map (C, H, W), float32, of one image.

        Args:
            x: the input (C, H, W).
            maps: the map of each baseline (K, C, H, W).
            distances: the D_alpha (K,) of each.
            generator: of the methods that draw.
        """
        if self.control == "Random":
            return generator.random(x.shape, dtype=np.float32)
        if self.control == "EdgeDetector":
            return edges(x).numpy()
        weights = self.weights(distances)
        if self.shuffled:
            weights = generator.permutation(weights)
        total = np.zeros(maps.shape[1:])
        for weight, own in zip(weights, maps, strict=True):
            total += weight * own
        return total.astype(np.float32)

    def weights(self, distances: np.ndarray) -> np.ndarray:
        """The weights (K,), float64, before any shuffling; they sum to 1."""
        d = torch.from_numpy(np.array(distances))[None]
        weights = fitness.weights(d, self.power)
        if self.keep is not None and self.keep < d.shape[1]:
            kept = fitness.kept_baselines(d, self.keep)
            weights = torch.zeros_like(weights).scatter_(1, kept, weights.gather(1, kept))
            weights = weights / weights.sum(1, keepdim=True)
        return weights[0].numpy()


def method(name: str, n_baselines: int) -> Method:
    """The method of a name, for this number of baselines.

    Raises:
        BenchmarkError: unknown name, or more baselines to keep than there are.
    """
    if name == EG:
        return Method(name, power=0.0)
    if name == "ShuffledWeights":
        return Method(name, shuffled=True)
    if name == "BestSingle":
        return Method(name, keep=1)
    if name in CONTROLS:
        return Method(name, control=name)
    match = _WEIGHTED.fullmatch(name)
    if match is None:
        raise BenchmarkError(
            f"unknown method {name!r}; known are {EG}, {WG}, {WG}-powerP, {WG}-keepN, {WG}-powerP-keepN and the "
            f"controls {', '.join(CONTROLS)}"
        )
    power, keep = match["power"], match["keep"]
    if keep is not None and not 1 <= int(keep) <= n_baselines:
        raise BenchmarkError(f"{name} keeps {keep} baselines, but there are {n_baselines}")
    return Method(name, 1.0 if power is None else float(power), None if keep is None else int(keep))


def kept(count: int) -> str:
    """The name of the weighting that keeps this many baselines."""
    return f"{WG}-keep{count}"


def meaning(name: str) -> str:
    """What a row is, for the notes."""
    return CONTROLS.get(name, "a weighting of WG's maps")


def edges(x: Tensor) -> Tensor:
    """The magnitude of the Sobel gradient of the channels' mean, the same in all channels, (C, H, W) float32."""
    grey = nn.functional.pad(x.float().mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(grey)
    magnitude = nn.functional.conv2d(grey, kernels).square().sum(1).sqrt()
    return magnitude.expand(x.shape).contiguous()
