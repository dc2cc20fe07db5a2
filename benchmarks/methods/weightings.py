"""Rows that weight the maps of single baselines: expected and weighted gradients with all their settings.

They share the maps, which cost the gradients, and the D_alpha of these. With K baselines, the weights are

    ExpectedGradients              1/K each
    WeightedGradients              proportional to 1/D, or what another rule of `captum_wg.weighting` gives
    BestSingle                     1 for the fittest, that is WeightedGradients(keep=1)
    ShuffledWeights                those of WeightedGradients in a random order: as unequal, but blind to the fitness
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.method import NEW_DRAWS, NO_DRAWS, Batch, Ingredient, Method, MethodSettings
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import generator_of
from captum_wg import ExpectedGradients
from captum_wg.engine.checks import check_choice, check_positive_int
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting.binding import NAMED, bind
from captum_wg.weighting.fitness import FitnessWeighting
from captum_wg.weighting.maps import Maps, StoredMaps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import check_keep, of_normalised_maps, only, smallest

EG, WG = "ExpectedGradients", "WeightedGradients"
NEUTRALS = ("corners", "mean", "blur", "black", "zero")
RANKINGS = ("signed", "absolute")
# How D_alpha is taken.
RULES = {name: rule for name, rule in NAMED.items() if issubclass(rule, FitnessWeighting)}

Rule = Callable[[Problem, Maps], Tensor]


@dataclass(frozen=True)
class Fitness:
    """How D_alpha is taken.

    Attributes:
        neutrals: of NEUTRALS; D is the geometric mean over them.
        kind: of RULES.
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
        return [(way, removal) for way in RULES[self.kind].ways for removal in self.neutrals]

    def rule(self, **settings: Any) -> FitnessWeighting:
        """As `WeightedGradients` takes it, with the settings that D_alpha does not depend on."""
        neutral: list[Any] = [0.0 if name == "zero" else name for name in self.neutrals]
        return RULES[self.kind](alpha=self.alpha, neutral=neutral, ranking=self.ranking, **settings)

    def distances(self, problem: Problem, maps: Maps) -> Tensor:
        """The D_alpha (B, K) of the maps."""
        return self.rule().distances(problem, maps)


@dataclass(frozen=True)
class BaselineMaps(Ingredient):
    """The integrated gradients (N, K, C, H, W) from each baseline, one image at a time.

    Attributes:
        name: "stepsS" for a quadrature of S points, "randomS" for S points drawn uniformly on each path.
    """

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        return np.stack([self._of_image(batch, i) for i in range(len(batch.inputs))])

    def _of_image(self, batch: Batch, i: int) -> np.ndarray:
        x = batch.inputs[i : i + 1]
        own = batch.baselines_of(x)[: self.count]
        explain = ExpectedGradients(batch.model).attribute
        common: dict[str, Any] = dict(
            target=int(batch.targets[i]), internal_batch_size=batch.internal_batch_size, show_progress=False
        )
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
    """What the weights follow from: the D_alpha (N, K) of the baselines' maps, or another rule's weights themselves.

    Attributes:
        take: gives it of the maps of one image, (1, K).
    """

    take: Rule = field(kw_only=True)
    kind: ClassVar[str] = "fitness"

    @classmethod
    def of(cls, maps: BaselineMaps, by: Fitness) -> Distances:
        return cls(f"{maps.name}-{by.name}", maps.count, (maps,), take=by.distances)

    def make(self, batch: Batch, *needed: np.ndarray) -> np.ndarray:
        (maps,), count = needed, self.count or self.needs[0].count
        return np.stack([self._of_image(batch, i, own[:count]) for i, own in enumerate(maps)]).astype(float)

    def _of_image(self, batch: Batch, i: int, maps: np.ndarray) -> np.ndarray:
        if len(maps) == 1:
            return np.ones(1)
        x, label = batch.inputs[i : i + 1], int(batch.targets[i])
        problem = Problem(batch.model, input_gradients, x, label, None, batch.internal_batch_size, False, "fitness")
        stored = StoredMaps((torch.from_numpy(maps.copy()).to(x)[None],), Features(problem.inputs))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an image whose D_alpha are all P is counted in the notes
            return self.take(problem, stored)[0].cpu().numpy()


@dataclass(frozen=True, kw_only=True)
class Weighting:
    """How the baselines' maps are weighted, as a row's name may say it.

    Attributes:
        n_steps: points on each path.
        n_random: so many points drawn uniformly instead (the published code's), no quadrature.
        pool: how many baselines there are to choose from, the first ones.
        keep: how many of these are kept, the fittest; a float is a share; None: all.
        screening_steps: points of the maps by which the kept are chosen; None: the full maps.
        weighting: a name that `captum_wg` has for a rule, such as "deletion", "insertion", "both" or "equal"; or any
            rule itself, a callable (problem, maps) -> (B, K), in the registry of rows.
        power: weights are proportional to D**-power.
        alpha, neutral, ranking: of D_alpha; of several removals it is the geometric mean.
        normalise_maps: whether the maps are divided by their L1 norms.
        shuffled: whether the weights change places at random.

    Raises:
        TypeError, ValueError: a value that can't be.
    """

    n_steps: int
    n_random: int | None = None
    pool: int
    keep: float | None = None
    screening_steps: int | None = None
    weighting: str | Rule = "deletion"
    power: float = 1.0
    alpha: float
    neutral: str | tuple[str, ...]
    ranking: str
    normalise_maps: bool = False
    shuffled: bool = False

    def __post_init__(self) -> None:
        for name in ("n_steps", "n_random", "pool", "screening_steps"):
            if getattr(self, name) is not None:
                check_positive_int(getattr(self, name), name)
        if not callable(self.weighting):
            check_choice(self.weighting, "weighting", tuple(NAMED))
        neutrals = self.neutral if isinstance(self.neutral, tuple) else (self.neutral,)
        for name in neutrals or (None,):
            check_choice(name, "neutral", NEUTRALS)
        object.__setattr__(self, "neutral", neutrals)
        if self.weighting == "equal" and self.keep is not None:
            raise ValueError("equal weights have no fittest baselines to keep; leave keep out")
        self.fitness.rule(power=self.power, normalise_maps=self.normalise_maps)
        if self.keep is not None:
            object.__setattr__(self, "keep", check_keep(self.keep, self.pool))
        elif self.screening_steps is not None:
            raise ValueError("screening_steps chooses which baselines to keep; give keep as well")
        if self.own_rule and self.screening_steps is not None:
            raise ValueError("screening_steps chooses by D_alpha, which this weighting has not; leave it out")

    @property
    def own_rule(self) -> Rule | None:
        """A rule that is no D_alpha and not equal weights."""
        if isinstance(self.weighting, str):
            return None if self.weighting in (*RULES, "equal") else NAMED[self.weighting]()
        return self.weighting

    @property
    def fitness(self) -> Fitness:
        """What the weights follow from where they are `fitted`."""
        kind = self.weighting if self.weighting in RULES else "deletion"
        return Fitness(self.alpha, tuple(self.neutral), self.ranking, str(kind))

    @property
    def fitted(self) -> bool:
        """Whether the weights follow from D_alpha."""
        return self.weighting in RULES and (self.power > 0 or self.keep is not None)

    @property
    def ingredients(self) -> tuple[Ingredient, ...]:
        """The maps; what the weights follow from, D_alpha or a rule's own; and D_alpha of the maps by which the kept
        are chosen."""
        maps = BaselineMaps(f"random{self.n_random}" if self.n_random else f"steps{self.n_steps}", self.pool)
        if rule := self.own_rule:
            # Not those of the first ones among more: the weights of a baseline depend on the others.
            name = f"{maps.name}-first{self.pool}-{getattr(rule, '__name__', rule)}"
            return maps, Distances(name, None, (maps,), take=lambda *of: bind(rule, of[0], of[1].features)(of[1]))
        if not self.fitted:
            return (maps,)
        by = [maps] if self.screening_steps is None else [maps, BaselineMaps(f"steps{self.screening_steps}", self.pool)]
        return (maps, *(Distances.of(one, self.fitness) for one in by))

    def combine(self, x: Tensor, values: tuple[np.ndarray, ...], generator: np.random.Generator) -> np.ndarray:
        """The map (C, H, W), float32, of one image, from the values of `ingredients`."""
        maps, *found = values
        maps = maps[: self.pool]
        weights = self.weights(*found) if found else np.full(len(maps), 1 / len(maps))
        if self.shuffled:
            weights = generator.permutation(weights)
        if self.normalise_maps:
            norms = torch.from_numpy(np.abs(maps).sum((1, 2, 3), dtype=np.float64))
            weights = of_normalised_maps(torch.from_numpy(weights)[None], norms[None])[0].numpy()
        weighted = (weight * own for weight, own in zip(weights, maps, strict=True))
        return sum(weighted, np.zeros(maps.shape[1:])).astype(np.float32)

    def weights(self, found: np.ndarray, screening: np.ndarray | None = None) -> np.ndarray:
        """The weights of the pool, float64, before any shuffling and norms; they sum to 1.

        Args:
            found: D_alpha (K,), or the weights that a rule of its own gives to all.
            screening: D_alpha of the maps by which the kept are chosen.
        """
        d, by = (torch.tensor(one[: self.pool])[None] for one in (found, found if screening is None else screening))
        weights, by = (d, -by) if self.own_rule else (self.fitness.rule(power=self.power).weights(d), by)
        if self.keep is not None and self.keep < d.shape[1]:
            weights = only(weights, smallest(by, int(self.keep)))
        return weights[0].numpy()


@dataclass(frozen=True)
class Row:
    """A row of the registry: `row(name, settings, **keywords)` gives its `Method`.

    Attributes:
        fixed: settings of `Weighting` that are its own; all others are the experiment's where its name says nothing.
        says: what its name may say; None: all that is not fixed.
        note: "{}" stands for the row's name.
    """

    fixed: Mapping[str, Any] = field(default_factory=dict)
    says: tuple[str, ...] | None = None
    note: str = ""
    group: str = "ours"

    @property
    def __signature__(self) -> inspect.Signature:
        own = [one.name for one in fields(Weighting) if one.name not in self.fixed and one.name != "shuffled"]
        says = own if self.says is None else self.says
        return inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in says])

    def __call__(self, name: str, settings: MethodSettings, **keywords: Any) -> Method:
        """The method, called `name` in the table.

        Raises:
            BenchmarkError: a value that can't be.
        """
        values: dict[str, Any] = dict(n_steps=settings.n_steps, pool=settings.n_baselines)
        values |= dict(alpha=settings.alpha, neutral=settings.neutral, ranking=settings.ranking)
        try:
            if {"n_steps", "n_random"} <= set(keywords):
                raise ValueError("n_random is instead of n_steps; leave one of them out")
            own = Weighting(**{**values, **self.fixed, **keywords})
            settings.check_pool(own.pool)
        except (TypeError, ValueError) as error:
            raise BenchmarkError(f"{name}: {error}") from error
        return Method(
            name,
            own.ingredients,
            combine=own.combine,
            group=self.group,
            notes=(self.note.format(name),) if self.note else (),
            draws=NEW_DRAWS if own.shuffled else NO_DRAWS,
            weighting=own,
        )


ROWS = {
    EG: Row({"weighting": "equal"}, ("n_steps", "n_random", "pool", "normalise_maps")),
    WG: Row(),
    f"{WG}-half": Row({"keep": 0.5}, (), "{} keeps half of the baselines (keep=0.5)."),
    "ShuffledWeights": Row({"shuffled": True}, None, "{}: WG's weights in a random order.", "control"),
    "BestSingle": Row({"keep": 1}, None, "{}: the fittest baseline alone.", "control"),
}
