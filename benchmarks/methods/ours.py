"""The local measures of captum_wg: four rows of each sampler and radius, from one pass over the gradients."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor, nn

from benchmarks.methods.method import NEW_DRAWS, SAME_DRAWS, Batch, Method, MethodSettings, explained
from captum_wg import GeneralizedAttribution

MEASURES = {
    "LocalIntegratedGradients": "local_integrated_gradients",
    "GradientVariance": "gradient_variance",
    "Stability": "stability",
    "Consistency": "consistency",
}
PUBLISHED_RADIUS = 1e3

_ONE_PASS = (
    "The four local measures of a sampler and radius come from one pass over the same gradients; each shows the time "
    "of that pass."
)
_SEGMENTS = 'Rows ending in -{label}: sampler "segments" {within}.'
_RAYS = (
    'Rows ending in -{label}: the published form, sampler "rays" {within}, of the sum of all logits, judged by maps of '
    "all channels."
)


class SumOfLogits(nn.Module):
    """A model each of whose columns is the sum of all the given model's columns, so that every target selects it."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        logits = self.model(x)
        return logits.sum(1, keepdim=True).expand_as(logits)


def four_measures(batch: Batch, settings: MethodSettings, sampler: str, radius: float | None) -> Tensor:
    """The maps of all four, along the channels (N, 4 * C, H, W); radius: None for the experiment's."""
    attribution = GeneralizedAttribution(SumOfLogits(batch.model) if sampler == "rays" else batch.model)
    return batch.in_parts(
        lambda *of, **more: torch.cat(list(attribution.attribute(*of, **more).values()), dim=1),
        measures=list(MEASURES.values()),
        n_samples=settings.n_steps * settings.n_baselines,
        sampler=sampler,
        radius=batch.local_radius() if radius is None else radius,
        generator=int(torch.randint(2**31, ())) if settings.fresh_draws else batch.seed,
    )


def local_measure(
    name: str, settings: MethodSettings, *, i: int, label: str, sampler: str, radius: float | None
) -> Method:
    """The row of the i-th measure."""
    published = sampler == "rays"
    limits = {None: "within the local radius", math.inf: "without a limit"}
    within = limits.get(radius, f"within radius {radius}")
    note = (_RAYS if published else _SEGMENTS).format(label=label, within=within)
    return explained(
        name,
        functools.partial(four_measures, settings=settings, sampler=sampler, radius=radius),
        part=(i, len(MEASURES)),
        source=f"LocalMeasures-{label}",
        group="published" if published else "ours",
        notes=(note, _ONE_PASS),
        channels=3 if published else 1,
        draws=NEW_DRAWS if settings.fresh_draws else SAME_DRAWS,
        local=radius is None,
    )


# Label, sampler and radius; None is the experiment's.
KINDS = (
    ("local", "segments", None),
    ("inf", "segments", math.inf),
    ("rays-local", "rays", None),
    (f"rays-{PUBLISHED_RADIUS:.0f}", "rays", PUBLISHED_RADIUS),
)

ROWS = {
    f"{measure}-{label}": functools.partial(local_measure, i=i, label=label, sampler=sampler, radius=radius)
    for label, sampler, radius in KINDS
    for i, measure in enumerate(MEASURES)
}
