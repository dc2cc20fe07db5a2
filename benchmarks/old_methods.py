"""The rows: attribution methods, each a function with `quantus.explain`'s signature."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import quantus
import torch
from torch import Tensor, nn

from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import seeded
from captum_wg import GeneralizedAttribution
from quantus_ext import explainer

Explain = Callable[..., np.ndarray]

GROUPS = ("captum", "ours", "published", "control")
CAPTUM = (
    "IntegratedGradients",
    "Saliency",
    "GradientShap",
    "FeatureAblation",
    "FeaturePermutation",
    "Deconvolution",
)
ABLATIONS = ("FeatureAblation", "FeaturePermutation")
MEASURES = {
    "LocalIntegratedGradients": "local_integrated_gradients",
    "GradientVariance": "gradient_variance",
    "Stability": "stability",
    "Consistency": "consistency",
}
PUBLISHED_RADIUS = 1e3

# What random numbers a method uses when it explains the same or a perturbed input again.
NO_DRAWS, SAME_DRAWS, NEW_DRAWS = "no draws", "same draws", "new draws"


@dataclass(frozen=True)
class MethodSettings:
    """What the rows of this project are computed with.

    Attributes:
        references: (K, C, H, W) images that paths start from and local measures look towards.
        n_steps: points per reference, so that a map rests on K * n_steps gradients.
        radius: the local radius of the local measures, in units of the normalised input.
        seed: of the samplers and of the random controls.
        fresh_draws: whether a sampler draws anew for each explanation instead of repeating its points.
        images_at_once: how many images are explained together; bounds memory, changes no map.
    """

    references: Tensor
    n_steps: int = 10
    radius: float = 1.0
    seed: int = 0
    fresh_draws: bool = False
    images_at_once: int = 16


@dataclass(frozen=True)
class Method:
    """A row: `explain(model, inputs, targets, device=...)` gives maps (N, C, H, W) with all channels kept.

    Attributes:
        channels: the form its maps are usually judged in: 1 (summed over the channels) or 3.
        ablation: one forward per input element and map, too slow to explain again and again.
        draws: NO_DRAWS, SAME_DRAWS or NEW_DRAWS.
        source: the name of what is computed, if rows share it: `explain` is the same for all rows of a source.
        part: (i, n) if `explain` gives the maps of n rows (N, n * C, H, W), of which this one is the i-th.
    """

    name: str
    group: str
    explain: Explain
    channels: int = 1
    ablation: bool = False
    draws: str = NO_DRAWS
    source: str = ""
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if not self.source:
            object.__setattr__(self, "source", self.name)


def available(settings: MethodSettings) -> dict[str, Method]:
    """Every row by its name, in the table's order."""
    rows = [*_captum(), *_ours(settings), *_published(settings), *_controls(settings)]
    return {row.name: row for row in rows}


def choose(rows: dict[str, Method], names: Sequence[str] | None) -> list[Method]:
    """The rows of these names or groups, in the table's order; all of them if there are no names."""
    if not names:
        return list(rows.values())
    known = {*rows, *GROUPS}
    if unknown := [name for name in names if name not in known]:
        raise BenchmarkError(
            f"unknown method {', '.join(map(repr, unknown))}; known are {', '.join(rows)}, "
            f"and the groups {', '.join(GROUPS)}"
        )
    return [row for row in rows.values() if row.name in names or row.group in names]


def _captum() -> list[Method]:
    random = {"GradientShap", "FeaturePermutation"}
    return [
        Method(
            name,
            "captum",
            _quantus_explain(name),
            ablation=name in ABLATIONS,
            draws=NEW_DRAWS if name in random else NO_DRAWS,
        )
        for name in CAPTUM
    ]


def _quantus_explain(name: str) -> Explain:
    def explain(model, inputs, targets, device=None, **_):
        # The defaults of quantus.explain, except that the channels are kept; it sums them otherwise.
        return quantus.explain(model, inputs, targets, method=name, reduce_axes=(), device=device)

    return explain


def _ours(settings: MethodSettings) -> list[Method]:
    return [
        Method("ExpectedGradients", "ours", _path_explainer("ExpectedGradients", settings)),
        Method("WeightedGradients", "ours", _path_explainer("WeightedGradients", settings)),
        Method("WeightedGradients-half", "ours", _path_explainer("WeightedGradients", settings, keep=0.5)),
        *_local_measures("local", "ours", settings, "segments", settings.radius),
        *_local_measures("inf", "ours", settings, "segments", float("inf")),
    ]


def _published(settings: MethodSettings) -> list[Method]:
    rows = [
        *_local_measures("rays-local", "published", settings, "rays", settings.radius),
        *_local_measures(f"rays-{PUBLISHED_RADIUS:.0f}", "published", settings, "rays", PUBLISHED_RADIUS),
    ]
    return [replace(row, explain=_of_the_sum_of_logits(row.explain), channels=3) for row in rows]


def _controls(settings: MethodSettings) -> list[Method]:
    return [
        Method("Random", "control", _random, draws=NEW_DRAWS),
        Method(
            "ExpectedGradients-random-weights",
            "control",
            _of_random_weights(_path_explainer("ExpectedGradients", settings), settings.seed),
        ),
    ]


def _path_explainer(method: str, settings: MethodSettings, **options) -> Explain:
    return explainer(
        method,
        baselines=settings.references,
        n_steps=settings.n_steps,
        pairing="shared",
        reduce_axes=(),
        batch_size=settings.images_at_once,
        **options,
    )


def _local_measures(label: str, group: str, settings: MethodSettings, sampler: str, radius: float) -> list[Method]:
    """The rows of the four local measures, which share one pass over the gradients."""
    explain = explainer(
        _FourMeasures,
        baselines=settings.references,
        n_samples=settings.n_steps * len(settings.references),
        sampler=sampler,
        radius=radius,
        pairing="shared",
        generator=settings.seed,
        reduce_axes=(),
        batch_size=settings.images_at_once,
    )
    if settings.fresh_draws:
        explain = _seeded_by_the_global_generator(explain)
    return [
        Method(
            f"{measure}-{label}",
            group,
            explain,
            draws=NEW_DRAWS if settings.fresh_draws else SAME_DRAWS,
            source=f"LocalMeasures-{label}",
            part=(i, len(MEASURES)),
        )
        for i, measure in enumerate(MEASURES)
    ]


class _FourMeasures(GeneralizedAttribution):
    """The local measures, one after another along the channels: (N, 4 * C, H, W)."""

    # `explainer` passes on a seed only where the signature names it.
    def attribute(
        self, inputs: Tensor, baselines=None, target=None, *, generator=None, pairing=None, **kwargs
    ) -> Tensor:
        found = super().attribute(
            inputs,
            baselines,
            target,
            generator=generator,
            pairing=pairing,
            measures=list(MEASURES.values()),
            **kwargs,
        )
        return torch.cat(list(found.values()), dim=1)


def _seeded_by_the_global_generator(explain: Explain) -> Explain:
    def explain_anew(model, inputs, targets, **kwargs):
        seed = int(torch.randint(2**31, ()))
        return explain(model, inputs, targets, generator=seed, **kwargs)

    return explain_anew


class SumOfLogits(nn.Module):
    """A model each of whose columns is the sum of all the given model's columns, so that every target selects it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits.sum(1, keepdim=True).expand_as(logits)


def _of_the_sum_of_logits(explain: Explain) -> Explain:
    return lambda model, inputs, targets, **kwargs: explain(SumOfLogits(model), inputs, targets, **kwargs)


def _of_random_weights(explain: Explain, seed: int) -> Explain:
    def explain_randomized(model, inputs, targets, **kwargs):
        return explain(randomized(model, seed), inputs, targets, **kwargs)

    return explain_randomized


def randomized(model: nn.Module, seed: int) -> nn.Module:
    """A copy of the model with weights as at the start of a training."""
    model = copy.deepcopy(model)
    with seeded(seed, "random weights"):
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
    return model.eval()


def _random(model, inputs, targets, **_):
    """Numbers uniform in [0, 1), as Quantus' own control has them, for each channel apart."""
    return torch.rand(inputs.shape).numpy()
