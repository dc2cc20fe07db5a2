"""Rows that weight the maps of single baselines: expected and weighted gradients with all their settings.

They share the maps, which cost the gradients, and the D_alpha of these. With K baselines, the weights are

    ExpectedGradients              1/K each
    WeightedGradients              proportional to 1/D
    BestSingle                     1 for the fittest, that is WeightedGradients(keep=1)
    ShuffledWeights                those of WeightedGradients in a random order: as unequal, but blind to the fitness
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.method import NEW_DRAWS, Batch, Ingredient, Method, MethodSettings
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import generator_of
from captum_wg import ExpectedGradients
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting import fitness as fit
from captum_wg.weighting.masking import Features, neutral_values

EG, WG = "ExpectedGradients", "WeightedGradients"
NEUTRALS = ("corners", "mean", "blur", "black", "zero")
RANKINGS = ("signed", "absolute")
# How D_alpha is taken, and the ways of which it is the geometric mean.
WAYS = fit.FITNESSES


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
    def works_by(self) -> list[tuple[str, str]]:
        """The ways and removals that it is fitted to, as `Judge.works_by` names them."""
        return [(way, removal) for way in WAYS[self.kind] for removal in self.neutrals]

    def relation(self, works_by: tuple[str, str] | None) -> str:
        """What a judge is to it: "fitted"; of the "same removal", where it removes as the judge inserts or the reverse;
        or "unseen"."""
        if works_by in self.works_by:
            return "fitted"
        return "same removal" if works_by in replace(self, kind="both").works_by else "unseen"

    def distances(self, batch: Batch, position: int, maps: np.ndarray) -> np.ndarray:
        """The D_alpha (K,) of the maps (K, C, H, W) of one image of a batch."""
        if len(maps) == 1:
            return np.ones(1)
        x, label = batch.inputs[position : position + 1], int(batch.targets[position])
        problem = Problem(batch.model, input_gradients, x, label, None, batch.internal_batch_size, False, "fitness")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an image whose D_alpha are all P is counted in the notes
            found = fit.d_alpha(
                problem,
                (torch.from_numpy(maps.copy()).to(x)[None],),
                *fit.reference_scores(problem),
                Features(problem.inputs),
                [neutral_values(problem.inputs, 0.0 if name == "zero" else name) for name in self.neutrals],
                alpha=self.alpha,
                ranking=self.ranking,
                fitness=self.kind,
            )
        return found[0].cpu().numpy()


@dataclass(frozen=True)
class BaselineMaps(Ingredient):
    """The integrated gradients (N, K, C, H, W) from each baseline, one image at a time.

    Attributes:
        name: "stepsS" for a quadrature of S points, "randomS" for S points drawn uniformly on each path.
    """

    @classmethod
    def of(cls, n_points: int, random: bool, count: int) -> BaselineMaps:
        return cls(f"{'random' if random else 'steps'}{n_points}", count)

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        one = range(len(batch.inputs))
        return np.stack([self._of_image(batch, i) for i in one])

    def _of_image(self, batch: Batch, i: int) -> np.ndarray:
        x = batch.inputs[i : i + 1]
        baselines = batch.baselines(x) if callable(batch.baselines) else batch.baselines.to(x)
        own = (baselines[0] if baselines.ndim == 5 else baselines)[: self.count]
        explain = ExpectedGradients(batch.model).attribute
        common: dict[str, Any] = dict(target=int(batch.targets[i]), internal_batch_size=batch.internal_batch_size)
        kind = self.name.rstrip("0123456789")
        number = int(self.name[len(kind) :])
        if kind == "steps":
            # Expected gradients of a single baseline for each row: (K, 1, ...) pairs row k with baseline k.
            found = explain(x.expand_as(own), own[:, None], n_steps=number, **common)
        else:
            # One call for each baseline: the draws of a call are shared by its rows.
            seed = int(generator_of(batch.seed, self.name, batch.names[i]).integers(2**31))
            drawn = torch.Generator(x.device).manual_seed(seed)
            random = dict(n_samples=number, generator=drawn, pairing="shared", **common)
            found = torch.cat([explain(x, one[None], **random) for one in own])
        return found.cpu().numpy()


@dataclass(frozen=True)
class Distances(Ingredient):
    """The D_alpha (N, K) of the baselines' maps."""

    by: Fitness = field(kw_only=True)
    kind: ClassVar[str] = "fitness"

    @classmethod
    def of(cls, maps: BaselineMaps, by: Fitness) -> Distances:
        return cls(f"{maps.name}-{by.name}", maps.count, (maps,), by=by)

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        (maps,) = needed
        return np.stack([self.by.distances(batch, i, own[: self.count]) for i, own in enumerate(maps)]).astype(float)


@dataclass(frozen=True)
class Weighting:
    """How the baselines' maps are weighted.

    Attributes:
        n_steps: points on each path.
        random: whether these are drawn uniformly (the published code's), in place of a quadrature.
        pool: how many baselines there are to choose from, the first ones.
        fitness: what the weights follow from.
        power, keep: the exponent of 1/D, and how many baselines are kept (None: all).
        screening_steps: points of the maps by which the kept are chosen; None: the full maps.
        normalise_maps: whether the maps are divided by their L1 norms.
        shuffled: whether the weights change places at random.
    """

    n_steps: int
    pool: int
    fitness: Fitness
    random: bool = False
    power: float = 1.0
    keep: int | None = None
    screening_steps: int | None = None
    normalise_maps: bool = False
    shuffled: bool = False

    @property
    def fitted(self) -> bool:
        """Whether the weights follow from D_alpha."""
        return self.power > 0 or self.keep is not None

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """The maps; their D_alpha if the weights follow from it; and that of the maps by which the kept are chosen."""
        maps = BaselineMaps.of(self.n_steps, self.random, self.pool)
        if not self.fitted:
            return (maps,)
        found = (maps, Distances.of(maps, self.fitness))
        if self.screening_steps is None:
            return found
        return (*found, Distances.of(BaselineMaps.of(self.screening_steps, False, self.pool), self.fitness))

    def combine(self, x: Tensor, values: tuple[np.ndarray, ...], generator: np.random.Generator) -> np.ndarray:
        """The map (C, H, W), float32, of one image, from the values of `ingredients`."""
        maps, *distances = values
        maps = maps[: self.pool]
        weights = self.weights(*distances) if self.fitted else np.full(len(maps), 1 / len(maps))
        if self.shuffled:
            weights = generator.permutation(weights)
        if self.normalise_maps:
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

    def evaluations(self, n_features: int) -> tuple[int, int]:
        """The gradients, and the most forwards of the fitness, that `WeightedGradients` takes for one image."""
        pool, points = self.pool, self.n_steps
        kept = min(self.keep or pool, pool)
        screened = self.screening_steps is not None and kept < pool
        gradients = pool * (self.screening_steps or 0) + kept * points if screened else pool * points
        if pool == 1 or not self.fitted:
            return gradients, 0
        searches = len(self.fitness.neutrals) * len(WAYS[self.fitness.kind])
        # Of an insertion also f with every feature removed.
        more = len(self.fitness.neutrals) if self.fitness.kind != "deletion" else 0
        searched = [pool] if not screened else [pool, *([kept] if kept > 1 and self.power > 0 else [])]
        per_map = searches * math.ceil(math.log2(n_features + 1))
        return gradients, 1 + sum(count * per_map + more for count in searched)


def weighted_gradients(
    name: str,
    settings: MethodSettings,
    *,
    n_steps: int | None = None,
    n_random: int | None = None,
    pool: int | None = None,
    keep: int | float | None = None,
    screening_steps: int | None = None,
    weighting: str = "deletion",
    power: float = 1.0,
    alpha: float | None = None,
    neutral: str | tuple[str, ...] | None = None,
    ranking: str | None = None,
    normalise_maps: bool = False,
) -> Method:
    """A row that weights the baselines' maps, with the experiment's settings where nothing else is said.

    Args:
        n_steps, n_random: quadrature points, or random points (the published code's), of each path.
        pool: of the first so many baselines alone.
        keep: the fittest so many of these, or such a share, the others 0.
        screening_steps: the kept are chosen by maps of so many points.
        weighting: D by "deletion", "insertion", or the geometric mean of "both"; or "equal" weights.
        power: weights proportional to D**-power.
        alpha, neutral, ranking: of D; of several removals the geometric mean.
        normalise_maps: each map divided by its L1 norm before it is weighted.

    Raises:
        BenchmarkError: a value that is none of these; more baselines than there are.
    """

    def check(good: bool, argument: str, expected: str, value: Any) -> None:
        if not good:
            raise BenchmarkError(f"{name}: {argument} must be {expected}, got {value!r}")

    for argument, value in (("n_steps", n_steps), ("n_random", n_random), ("screening_steps", screening_steps)):
        check(value is None or _whole(value), argument, "a whole number of at least 1", value)
    check(n_steps is None or n_random is None, "n_random", "left out beside n_steps", n_random)
    check(weighting in (*WAYS, "equal"), "weighting", f"one of {', '.join((*WAYS, 'equal'))}", weighting)
    check(isinstance(power, int | float) and 0 <= power < math.inf, "power", "a number of at least 0", power)
    check(isinstance(normalise_maps, bool), "normalise_maps", "True or False", normalise_maps)
    alpha, ranking = settings.alpha if alpha is None else alpha, ranking or settings.ranking
    check(isinstance(alpha, int | float) and 0 < alpha < 1, "alpha", "a number between 0 and 1", alpha)
    check(ranking in RANKINGS, "ranking", f"one of {', '.join(RANKINGS)}", ranking)
    neutrals = settings.neutral if neutral is None else neutral
    neutrals = (neutrals,) if isinstance(neutrals, str) else neutrals
    check(set(neutrals) <= set(NEUTRALS) and len(neutrals) > 0, "neutral", f"of {', '.join(NEUTRALS)}", neutral)
    k = settings.n_baselines
    pool = k if pool is None else pool
    check(_whole(pool) and pool <= k, "pool", f"from 1 to {k}, the number of baselines", pool)
    if isinstance(keep, float):
        check(0 < keep <= 1, "keep", "a whole number, or a share in (0, 1]", keep)
        keep = max(1, round(keep * pool))
    check(keep is None or (_whole(keep) and keep <= pool), "keep", f"from 1 to {pool}, the number of baselines", keep)
    check(screening_steps is None or keep is not None, "keep", "given, of which screening_steps chooses", keep)
    equal = weighting == "equal"
    fitness = Fitness(alpha, tuple(neutrals), ranking, "deletion" if equal else weighting)
    return _row(
        name,
        Weighting(
            n_random or n_steps or settings.n_steps,
            pool,
            fitness,
            random=n_random is not None,
            power=0.0 if equal else float(power),
            keep=keep,
            screening_steps=screening_steps,
            normalise_maps=normalise_maps,
        ),
    )


def expected_gradients(
    name: str,
    settings: MethodSettings,
    *,
    n_steps: int | None = None,
    n_random: int | None = None,
    pool: int | None = None,
    normalise_maps: bool = False,
) -> Method:
    """Equal weights; see `weighted_gradients`."""
    points = dict(n_steps=n_steps, n_random=n_random, pool=pool)
    return weighted_gradients(name, settings, weighting="equal", normalise_maps=normalise_maps, **points)


@functools.wraps(weighted_gradients)
def best_single(name: str, settings: MethodSettings, **keywords: Any) -> Method:
    """The fittest baseline alone."""
    if "keep" in keywords:
        raise BenchmarkError(f"{name}: keep must be left out, BestSingle keeps one; got {keywords['keep']!r}")
    found = weighted_gradients(name, settings, keep=1, **keywords)
    return replace(found, group="control", notes=("BestSingle: the fittest baseline alone.",))


@functools.wraps(weighted_gradients)
def shuffled_weights(name: str, settings: MethodSettings, **keywords: Any) -> Method:
    """WeightedGradients' weights in a random order."""
    found = weighted_gradients(name, settings, **keywords).weighting
    shuffled = _row(name, replace(found, shuffled=True))
    note = "ShuffledWeights: WG's weights in a random order."
    return replace(shuffled, group="control", draws=NEW_DRAWS, notes=(note,))


def half(name: str, settings: MethodSettings) -> Method:
    """WeightedGradients(keep=0.5)."""
    found = weighted_gradients(name, settings, keep=0.5)
    return replace(found, notes=(f"{name} keeps half of the references (keep=0.5).",))


def _row(name: str, weighting: Weighting) -> Method:
    return Method(name, weighting.ingredients, combine=weighting.combine, weighting=weighting)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


ROWS = {
    EG: expected_gradients,
    WG: weighted_gradients,
    f"{WG}-half": half,
    "ShuffledWeights": shuffled_weights,
    "BestSingle": best_single,
}
