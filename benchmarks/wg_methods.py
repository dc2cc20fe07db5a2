"""The methods of the weighted-gradients tables: weightings of the baselines' own maps, and maps without a network.

Every weighting shares the maps of the single baselines, which cost the gradients, and their D_alpha. With K baselines:

    ExpectedGradients              1/K each
    WeightedGradients              proportional to 1/D
    BestSingle                     the fittest alone, that is WeightedGradients-keep1
    ShuffledWeights                those of WeightedGradients in a random order: as unequal, but blind to the fitness
    Random                         a map of random numbers
    EdgeDetector                   the image's own edges (Sobel)

The weightings take words, joined by "-", that say how they differ from the experiment's own settings:

    power2                         proportional to D**-2
    keep5                          of the five fittest, the others 0
    normalised                     each map divided by its L1 norm before it is weighted
    alpha0.3                       D by another alpha
    signed, absolute               D by another order of the pixels
    neutral=corners+blur           D by other removals; of several their geometric mean
    deletion, insertion, both      D by removing, by restoring, or the geometric mean of both
    steps5, random1                maps of 5 quadrature points, or of one random point (the published code), a path
    pool20                         of the first 20 baselines alone
    screened3                      with keep: the kept are chosen by maps of 3 points

so that WeightedGradients-both-neutral=corners+blur-normalised is one of them.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.run.errors import BenchmarkError
from captum_wg.weighting import fitness as fit

EG, WG = "ExpectedGradients", "WeightedGradients"
CONTROLS = {
    "ShuffledWeights": "WG's weights in a random order",
    "BestSingle": "the fittest baseline alone",
    "EdgeDetector": "the image's Sobel gradient, without the network",
    "Random": "random numbers",
}
NEUTRALS = ("corners", "mean", "blur", "black", "zero")
RANKINGS = ("signed", "absolute")
WORDS_OF_EG = "stepsN, randomN, poolN, normalised"
WORDS = (
    f"{WORDS_OF_EG}, powerP, keepN, screenedN, alphaA, {', '.join((*RANKINGS, *fit.FITNESSES))}, "
    f"neutral=A+B (of {', '.join(NEUTRALS)})"
)


@dataclass(frozen=True)
class Fitness:
    """How D_alpha is taken.

    Attributes:
        neutrals: of NEUTRALS; D is the geometric mean over them.
        kind: "deletion", "insertion" or "both".
    """

    alpha: float = 0.5
    neutrals: tuple[str, ...] = ("corners",)
    ranking: str = "signed"
    kind: str = "deletion"

    @property
    def name(self) -> str:
        return f"{self.kind}-{'+'.join(self.neutrals)}-{self.ranking}-alpha{self.alpha!r}"

    @property
    def neutral(self) -> list[str | float]:
        """As `WeightedGradients` takes it."""
        return [0.0 if name == "zero" else name for name in self.neutrals]


@dataclass(frozen=True)
class Method:
    """A method by its name.

    Attributes:
        points: of its maps: "stepsN" or "randomN".
        fitness: what its weights follow from.
        power, keep: of a weighting: the exponent of 1/D, and how many baselines are kept (None: all).
        pool: how many baselines there are to choose from, the first ones.
        screening: of the maps by which the kept are chosen; "": the full maps.
        normalised: whether the maps are divided by their L1 norms.
        shuffled: whether the weights change places at random.
        control: "", or the name of a map that no network is asked for.
    """

    name: str
    points: str
    fitness: Fitness
    power: float = 1.0
    keep: int | None = None
    pool: int | None = None
    screening: str = ""
    normalised: bool = False
    shuffled: bool = False
    control: str = ""

    @property
    def needs_fitness(self) -> bool:
        return not self.control and (self.power > 0 or self.keep is not None)

    def map(
        self,
        x: Tensor,
        maps: np.ndarray,
        distances: np.ndarray,
        generator: np.random.Generator,
        screening: np.ndarray | None = None,
    ) -> np.ndarray:
        """The map (C, H, W), float32, of one image.

        Args:
            x: the input (C, H, W).
            maps: the map of each baseline (K, C, H, W).
            distances: the D_alpha (K,) of each; of no meaning to a method that needs no fitness.
            generator: of the methods that draw.
            screening: the D_alpha (K,) of the maps by which the kept are chosen.
        """
        if self.control == "Random":
            return generator.random(x.shape, dtype=np.float32)
        if self.control == "EdgeDetector":
            return edges(x).numpy()
        maps = maps[: self.pool]
        weights = self.weights(distances, screening) if self.needs_fitness else np.full(len(maps), 1 / len(maps))
        if self.shuffled:
            weights = generator.permutation(weights)
        if self.normalised:
            norms = torch.from_numpy(np.abs(maps).sum((1, 2, 3), dtype=np.float64))
            weights = fit.of_normalised_maps(torch.from_numpy(weights)[None], norms[None])[0].numpy()
        total = np.zeros(maps.shape[1:])
        for weight, own in zip(weights, maps, strict=True):
            total += weight * own
        return total.astype(np.float32)

    def weights(self, distances: np.ndarray, screening: np.ndarray | None = None) -> np.ndarray:
        """The weights of the pool, float64, before any shuffling and norms; they sum to 1."""
        d = torch.from_numpy(np.array(distances[: self.pool]))[None]
        weights = fit.weights(d, self.power)
        if self.keep is not None and self.keep < d.shape[1]:
            by = d if screening is None else torch.from_numpy(np.array(screening[: self.pool]))[None]
            kept = fit.kept_baselines(by, self.keep)
            weights = torch.zeros_like(weights).scatter_(1, kept, weights.gather(1, kept))
            weights = weights / weights.sum(1, keepdim=True)
        return weights[0].numpy()

    def evaluations(self, n_baselines: int, n_features: int) -> tuple[int, int]:
        """The gradients, and the most forwards of the fitness, that `WeightedGradients` takes for one image."""
        pool, points = self.pool or n_baselines, _number(self.points)
        if self.control:
            return 0, 0
        kept = min(self.keep or pool, pool)
        screened = bool(self.screening) and kept < pool
        gradients = pool * _number(self.screening) + kept * points if screened else pool * points
        if pool == 1 or not self.needs_fitness:
            return gradients, 0
        searches = len(self.fitness.neutrals) * len(fit.FITNESSES[self.fitness.kind])
        # Of an insertion also f with every feature removed.
        more = len(self.fitness.neutrals) if self.fitness.kind != "deletion" else 0
        searched = [pool] if not screened else [pool, *([kept] if kept > 1 and self.power > 0 else [])]
        per_map = searches * math.ceil(math.log2(n_features + 1))
        return gradients, 1 + sum(count * per_map + more for count in searched)


def _number(points: str) -> int:
    return int(points.lstrip("abcdefghijklmnopqrstuvwxyz"))


def method(name: str, n_baselines: int, n_steps: int, fitness: Fitness | None = None) -> Method:
    """The method of a name, for this number of baselines.

    Args:
        n_steps, fitness: where the name says nothing else.

    Raises:
        BenchmarkError: unknown name, or more baselines to keep than there are.
    """
    base, *words = name.split("-")
    found = Method(name, f"steps{n_steps}", fitness or Fitness())
    if base in ("Random", "EdgeDetector") and not words:
        return replace(found, control=base)
    if base == "BestSingle":
        found = replace(found, keep=1)
    elif base == "ShuffledWeights":
        found = replace(found, shuffled=True)
    elif base == EG:
        found = replace(found, power=0.0)
    elif base != WG:
        raise BenchmarkError(f"unknown method {name!r}; known are {EG}, {WG} and the controls {', '.join(CONTROLS)}")
    for word in words:
        changed = _changed(found, word, base)
        if (again := _settings(word)) in (given := {_settings(other) for other in words[: words.index(word)]}) or (
            base == "BestSingle" and again == "keep"
        ):
            raise BenchmarkError(f"{name} says {again} twice ({', '.join(sorted(given)) or base})")
        found = changed
    pool = n_baselines if found.pool is None else found.pool
    if not 1 <= pool <= n_baselines:
        raise BenchmarkError(f"{name} chooses from {pool} baselines, but there are {n_baselines}")
    if found.keep is not None and not 1 <= found.keep <= pool:
        raise BenchmarkError(f"{name} keeps {found.keep} baselines, but there are {pool}")
    if found.screening and found.keep is None:
        raise BenchmarkError(f"{name}: screening chooses which baselines to keep; add keepN")
    return found


def _settings(word: str) -> str:
    """Which setting a word is of."""
    if word in RANKINGS:
        return "ranking"
    if word in fit.FITNESSES:
        return "fitness"
    key = re.match("[a-z]*", word).group()  # type: ignore[union-attr]
    return "points" if key in ("steps", "random") else key


def _changed(method: Method, word: str, base: str) -> Method:
    match = re.fullmatch(r"(neutral=|[a-z]+)(.*)", word)
    key, value = match.groups() if match else ("", "")
    whole, number = re.fullmatch(r"\d+", value), re.fullmatch(r"\d+(\.\d+)?", value)
    own = method.fitness
    if key in ("steps", "random") and whole and int(value) > 0:
        return replace(method, points=f"{key}{int(value)}")
    if word == "normalised":
        return replace(method, normalised=True)
    if key == "pool" and whole:
        return replace(method, pool=int(value))
    if base != EG:
        if key == "power" and number:
            return replace(method, power=float(value))
        if key == "keep" and whole:
            return replace(method, keep=int(value))
        if key == "screened" and whole and int(value) > 0:
            return replace(method, screening=f"steps{int(value)}")
        if key == "alpha" and number and 0 < float(value) < 1:
            return replace(method, fitness=replace(own, alpha=float(value)))
        if word in RANKINGS:
            return replace(method, fitness=replace(own, ranking=word))
        if word in fit.FITNESSES:
            return replace(method, fitness=replace(own, kind=word))
        if key == "neutral=" and all(one in NEUTRALS for one in value.split("+")):
            return replace(method, fitness=replace(own, neutrals=tuple(value.split("+"))))
    known = WORDS_OF_EG if base == EG else WORDS
    raise BenchmarkError(f"{method.name}: {word!r} says nothing of {base}; known are {known}")


def kept(count: int) -> str:
    """The name of the weighting that keeps this many baselines."""
    return f"{WG}-keep{count}"


def meaning(name: str) -> str:
    """What a row is, for the notes."""
    return CONTROLS.get(name, "a weighting of the baselines' maps")


def edges(x: Tensor) -> Tensor:
    """The magnitude of the Sobel gradient of the channels' mean, the same in all channels, (C, H, W) float32."""
    grey = nn.functional.pad(x.float().mean(0)[None, None], (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None].to(grey)
    magnitude = nn.functional.conv2d(grey, kernels).square().sum(1).sqrt()
    return magnitude.expand(x.shape).contiguous()
