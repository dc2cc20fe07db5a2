"""The judges of the weighted-gradients tables: the one the weights are fitted to, and others that they never saw.

MPRT and RandomLogit are Quantus' sanity checks: how alike a map stays (Spearman's correlation) when the network is
randomised, or when another class is explained. A map that stays the same does not explain the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import quantus
import torch
from quantus.functions.similarity_func import correlation_spearman
from torch import nn

from benchmarks.run.errors import BenchmarkError
from benchmarks.wg_methods import Fitness
from captum_wg.weighting.fitness import FITNESSES
from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC

FITTED = "DeletionAUC"
OVERLAP = "OverlapAUC"
ROAD_PERCENTAGES = range(10, 100, 10)


def noise(x: torch.Tensor) -> torch.Tensor:
    """What no weighting here is fitted to: Gaussian noise of the normalised inputs' spread."""
    return torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x).expand_as(x)


# What takes the place of removed pixels; the first is what D_alpha is taken with by default.
REMOVALS: dict[str, Any] = {"corners": "corners", "blur": "blur", "mean": "mean", "noise": noise, "zero": 0.0}


@dataclass(frozen=True)
class Judge:
    """A metric with its settings.

    Attributes:
        kind: the metric, of quantus_ext or of Quantus.
        arguments: what it is made with.
        call: what each call is given besides.
        higher_is_better: the direction.
        masks: whether it compares with the object's mask.
        slow: left out unless it is asked for, being slow or much like another.
        explains: whether it explains again: another network, or another class.
    """

    name: str
    kind: type
    arguments: dict[str, Any] = field(hash=False)
    higher_is_better: bool
    masks: bool = False
    slow: bool = False
    explains: bool = False

    @property
    def removes(self) -> bool:
        """Whether it is a deletion, whose score falls as the baselines get fitter."""
        return self.kind in (DeletionAUC, quantus.ROAD)

    def score(
        self,
        model: nn.Module,
        x: np.ndarray,
        y: int,
        a: np.ndarray,
        mask: np.ndarray | None,
        device: torch.device,
        explain: Callable[..., np.ndarray] | None = None,
    ) -> float:
        """The score of the map a (C, H, W) of the image x (C, H, W) for class y; a curve counts by its mean.

        Random draws come from the global generators.

        Args:
            mask: (H, W), for a judge of masks.
            explain: a function with the signature of `quantus.explain`, for a judge that explains again.

        Raises:
            ValueError: no mask for a judge of masks, no function for one that explains again, or what the metric
                itself finds.
        """
        if self.masks and mask is None:
            raise ValueError(f"{self.name} needs the object's mask; got none")
        if self.explains and explain is None:
            raise ValueError(f"{self.name} explains again and needs a function for it; got none")
        # Quantus' sanity checks seed themselves: with one seed for all images, all would get the same draws.
        own_seed = {"seed": int(np.random.randint(2**31))} if self.explains else {}
        metric = self.kind(**self.arguments, **own_seed)
        if self.kind is quantus.ROAD:
            a = _pixel_ranks(a, self.arguments["abs"])
        result = metric(
            model=model,
            x_batch=x[None],
            y_batch=np.array([y]),
            a_batch=a[None],
            s_batch=mask[None, None] if self.masks and mask is not None else None,
            explain_func=explain if self.explains else None,
            explain_func_kwargs={} if self.explains else None,
            device=str(device),
            channel_first=True,
        )
        values = list(result.values()) if isinstance(result, dict) else result
        return float(np.mean(np.asarray(values, dtype=float)))


def available(
    levels: int = 100, ranking: str = "signed", internal_batch_size: int | None = None, classes: int = 1000
) -> dict[str, Judge]:
    """Every judge by its name, the fitted one first.

    Args:
        levels: of the curves.
        ranking: "signed" or "absolute", of the pixels; the one that D_alpha is taken with.
        internal_batch_size: how many masked images share a forward.
        classes: of the model.
    """
    common = dict(ranking=ranking, levels=levels, disable_warnings=True)
    batched = dict(**common, internal_batch_size=internal_batch_size)
    # Of all elements of three channels, of which only the first ranks pixels: see _pixel_ranks.
    shares = [percentage / 3 for percentage in ROAD_PERCENTAGES]
    road = dict(percentages=shares, noise=0.01, abs=ranking == "absolute", normalise=False, disable_warnings=True)
    alike = dict(similarity_func=correlation_spearman, abs=False, normalise=False, disable_warnings=True)
    randomised = dict(**alike, layer_order="top_down", skip_layers=True, return_last_correlation=True)
    judges = [
        *(
            Judge(_of(FITTED, name), DeletionAUC, {**batched, "removal": removal}, False, slow=name == "zero")
            for name, removal in REMOVALS.items()
        ),
        Judge("ROAD", quantus.ROAD, road, False, slow=True),
        *(
            Judge(
                _of("InsertionAUC", name),
                InsertionAUC,
                {**batched, "removal": removal},
                True,
                slow=name in ("zero", "mean"),
            )
            for name, removal in REMOVALS.items()
        ),
        *(
            Judge(f"{FITTED}-{order}", DeletionAUC, {**batched, "ranking": order}, False, slow=True)
            for order in ("signed", "absolute")
        ),
        Judge(OVERLAP, OverlapAUC, common, True, masks=True),
        Judge("MPRT", quantus.MPRT, randomised, False, slow=True, explains=True),
        Judge("RandomLogit", quantus.RandomLogit, {**alike, "num_classes": classes}, False, slow=True, explains=True),
    ]
    return {judge.name: judge for judge in judges}


def _of(metric: str, removal: str) -> str:
    return metric if removal == "corners" else f"{metric}-{removal}"


def fitted(fitness: Fitness) -> list[str]:
    """The judges that work as a fitness does: those that a weighting by it is made to please."""
    of_kind = {"deletion": FITTED, "insertion": "InsertionAUC"}
    return [_of(of_kind[way], removal) for way in FITNESSES[fitness.kind] for removal in fitness.neutrals]


def relation(fitness: Fitness | None, judge: str) -> str:
    """What a judge is to a weighting by a fitness (None: equal weights): "fitted" to it; of the "same removal", where
    the fitness removes as the judge inserts or the reverse; or "unseen"."""
    if fitness is None:
        return "unseen"
    if judge in fitted(fitness):
        return "fitted"
    return "same removal" if judge in fitted(replace(fitness, kind="both")) else "unseen"


def choose(judges: dict[str, Judge], names: Sequence[str] | None, masks: bool) -> list[Judge]:
    """The judges of these names in the table's order; without names all but the slow ones, those of masks
    only where there are masks.

    Raises:
        BenchmarkError: unknown name, or a judge of masks without masks.
    """
    if not names:
        return [judge for judge in judges.values() if not judge.slow and (masks or not judge.masks)]
    if unknown := [name for name in names if name not in judges]:
        raise BenchmarkError(f"unknown judge {', '.join(map(repr, unknown))}; known are {', '.join(judges)}")
    chosen = [judge for judge in judges.values() if judge.name in names]
    if not masks and any(judge.masks for judge in chosen):
        raise BenchmarkError(f"{OVERLAP} needs masks: --data coco, or --masks FOLDER")
    return chosen


def _pixel_ranks(a: np.ndarray, absolute: bool) -> np.ndarray:
    """A map for Quantus' ROAD: the pixels' ranks (the highest is P) in the first channel, 0 in the others.

    ROAD ranks all elements of all channels, but takes their places for places of pixels, so that anything outside the
    first channel is an IndexError. With the others below it, its highest P elements are the pixels in their order.
    """
    scores = (np.abs(a) if absolute else a).sum(0).ravel()
    ranks = np.empty(len(scores))
    ranks[np.argsort(-scores, kind="stable")] = np.arange(len(scores), 0, -1)
    return np.stack([ranks.reshape(a.shape[1:]), *np.zeros((len(a) - 1, *a.shape[1:]))])
