"""The columns: Quantus metrics with the published settings, and this project's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import quantus
from quantus.functions import norm_func, perturb_func, similarity_func

from benchmarks.run.errors import BenchmarkError
from quantus_ext import DeletionAUC, InsertionAUC

SENSITIVITY = dict(
    nr_samples=10,
    lower_bound=0.2,
    norm_numerator=norm_func.fro_norm,
    norm_denominator=norm_func.fro_norm,
    perturb_func=perturb_func.batch_uniform_noise,
    similarity_func=similarity_func.difference,
)


@dataclass(frozen=True)
class Judge:
    """A column.

    Attributes:
        metric: its name without the channel form.
        channels: the form of the maps it is given: 1 or 3, or None for each method's own.
        higher_is_better: None where neither is.
        make: a new instance of the metric with the published settings.
        robustness: whether it explains perturbed inputs again.
        settings: what the metric is made with, for the notes.
    """

    metric: str
    channels: int | None
    higher_is_better: bool | None
    make: Callable[[], Callable[..., Any]] = field(repr=False)
    settings: str
    robustness: bool = False

    @property
    def name(self) -> str:
        return self.metric if self.channels is None else f"{self.metric}-{self.channels}ch"

    @property
    def stream(self) -> str:
        """What its random draws are seeded by: the robustness columns are statistics of the same perturbed inputs."""
        return "robustness" if self.robustness else self.metric


def available() -> dict[str, Judge]:
    """Every column by its name, in the table's order."""
    columns = [
        *(
            Judge("PixelFlipping", channels, False, _pixel_flipping, 'features_in_step=32, perturb_baseline="uniform"')
            for channels in (1, 3)
        ),
        Judge(
            "FaithfulnessCorrelation",
            None,
            True,
            _faithfulness_correlation,
            'nr_runs=100, subset_size=32, perturb_baseline="uniform", abs=True',
        ),
        Judge("DeletionAUC", None, False, lambda: DeletionAUC(levels=100, removal="corners"), 'removal="corners"'),
        Judge("DeletionAUC-blur", None, False, lambda: DeletionAUC(levels=100, removal="blur"), 'removal="blur"'),
        Judge("InsertionAUC", None, True, lambda: InsertionAUC(levels=100, removal="corners"), 'removal="corners"'),
        *(
            Judge(
                metric.__name__,
                None,
                False,
                lambda metric=metric: metric(**SENSITIVITY, disable_warnings=True),
                "nr_samples=10, lower_bound=0.2, uniform noise, Frobenius norms, difference",
                robustness=True,
            )
            for metric in (quantus.MaxSensitivity, quantus.AvgSensitivity)
        ),
        *(Judge("Sparseness", channels, True, _sparseness, "defaults") for channels in (1, 3)),
        *(Judge("Complexity", channels, False, _complexity, "defaults") for channels in (1, 3)),
    ]
    return {judge.name: judge for judge in columns}


def choose(columns: dict[str, Judge], names: Sequence[str] | None) -> list[Judge]:
    """The columns of these names, with or without the channel form, in the table's order; all if there are no names."""
    if not names:
        return list(columns.values())
    metrics = {judge.metric for judge in columns.values()}
    if unknown := [name for name in names if name not in columns and name not in metrics]:
        both = dict.fromkeys([*(judge.metric for judge in columns.values()), *columns])
        raise BenchmarkError(f"unknown metric {', '.join(map(repr, unknown))}; known are {', '.join(both)}")
    return [judge for judge in columns.values() if judge.name in names or judge.metric in names]


def per_image(scores: Any, count: int) -> np.ndarray:
    """One number for each of `count` images; of a curve (PixelFlipping's) its mean over the steps."""
    values = np.asarray(scores, dtype=float)
    if values.shape[:1] != (count,) or values.ndim > 2:
        raise ValueError(f"the metric returned scores of shape {values.shape} for {count} images")
    return values if values.ndim == 1 else values.mean(1)


def _pixel_flipping() -> quantus.PixelFlipping:
    return quantus.PixelFlipping(features_in_step=32, perturb_baseline="uniform", disable_warnings=True)


def _faithfulness_correlation() -> quantus.FaithfulnessCorrelation:
    return quantus.FaithfulnessCorrelation(
        nr_runs=100,
        subset_size=32,
        perturb_func=perturb_func.batch_baseline_replacement_by_indices,
        perturb_baseline="uniform",
        abs=True,
        return_aggregate=False,
        disable_warnings=True,
    )


def _sparseness() -> quantus.Sparseness:
    return quantus.Sparseness(disable_warnings=True)


def _complexity() -> quantus.Complexity:
    return quantus.Complexity(disable_warnings=True)
