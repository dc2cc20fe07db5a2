"""Quantus' metrics with the published settings, and the overlap with masks.

MPRT and RandomLogit are sanity checks: how alike a map stays (Spearman's correlation) when the network is randomised,
or when another class is explained. A map that stays the same does not explain the network.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import quantus
from quantus.functions import norm_func, perturb_func, similarity_func

from benchmarks.judges.judge import Judge, JudgeSettings
from benchmarks.judges.removals import pixel_ranks
from quantus_ext import OverlapAUC

SENSITIVITY = dict(
    nr_samples=10,
    lower_bound=0.2,
    norm_numerator=norm_func.fro_norm,
    norm_denominator=norm_func.fro_norm,
    perturb_func=perturb_func.batch_uniform_noise,
    similarity_func=similarity_func.difference,
    disable_warnings=True,
)
_FORMS = {
    1: "{name} judges maps summed over the channels ({pixels} values).",
    3: "{name} judges maps of all channels ({values} values).",
}
_OWN_FORM = (
    "{name} takes each row in its own form, summed over the channels or not; rows of other forms can't be compared."
)
_FLIPPING = (
    "PixelFlipping is the mean of the class probability over the flipping steps. Quantus' value for a uniform "
    "replacement is one number in [0, 1) per image and step, in normalised units."
)
_COMPLEXITY = {
    1: "{name} is at most ln {pixels} = {log_pixels:.2f}.",
    3: "{name} is at most ln {values} = {log_values:.2f}.",
}


def _settings(told: dict[str, Any]) -> str:
    return ", ".join(
        f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in told.items()
    )


def _forms(kind: type, higher: bool, notes: dict[int, str] | None = None, **told: Any) -> list[Judge]:
    """A column for maps summed over the channels, and one for maps of all."""
    metric = kind.__name__

    def make(settings: JudgeSettings) -> Any:
        return kind(disable_warnings=True, **told)

    return [
        Judge(f"{metric}-{form}ch", make, higher, form, _settings(told) or "defaults", own, metric=metric, slow=True)
        for form, own in ((form, (note, notes[form]) if notes else (note,)) for form, note in _FORMS.items())
    ]


def _correlation(settings: JudgeSettings) -> quantus.FaithfulnessCorrelation:
    perturbed = dict(perturb_func=perturb_func.batch_baseline_replacement_by_indices)
    return quantus.FaithfulnessCorrelation(**_CORRELATION, **perturbed, return_aggregate=False, disable_warnings=True)


def _overlap(settings: JudgeSettings) -> OverlapAUC:
    return OverlapAUC(ranking=settings.ranking, levels=settings.levels, disable_warnings=True)


def _pointing(settings: JudgeSettings) -> quantus.PointingGame:
    return quantus.PointingGame(normalise=False, disable_warnings=True)


def _ranks_alone(maps: np.ndarray, settings: JudgeSettings) -> np.ndarray:
    """The pixels' ranks (N, 1, H, W): one of them is highest, in maps of any sign."""
    return pixel_ranks(maps, settings)[:, :1]


def _mprt(settings: JudgeSettings) -> quantus.MPRT:
    return quantus.MPRT(layer_order="top_down", skip_layers=True, return_last_correlation=True, **_alike())


def _random_logit(settings: JudgeSettings) -> quantus.RandomLogit:
    return quantus.RandomLogit(num_classes=settings.classes, **_alike())


def _alike() -> dict[str, Any]:
    # Quantus' sanity checks seed themselves: with one seed for all images, all would get the same draws.
    seed = int(np.random.randint(2**31))
    similarity = similarity_func.correlation_spearman
    return dict(similarity_func=similarity, abs=False, normalise=False, disable_warnings=True, seed=seed)


def _sensitivity(kind: type) -> Judge:
    return Judge(
        kind.__name__,
        lambda settings: kind(**SENSITIVITY),
        False,
        settings="nr_samples=10, lower_bound=0.2, uniform noise, Frobenius norms, difference",
        notes=(_OWN_FORM,),
        slow=True,
        explains=True,
        stream="robustness",  # statistics of the same perturbed inputs
    )


_CORRELATION: dict[str, Any] = dict(nr_runs=100, subset_size=32, perturb_baseline="uniform", abs=True)
FAITHFULNESS = (
    *_forms(
        quantus.PixelFlipping, False, dict.fromkeys(_FORMS, _FLIPPING), features_in_step=32, perturb_baseline="uniform"
    ),
    Judge("FaithfulnessCorrelation", _correlation, True, None, _settings(_CORRELATION), (_OWN_FORM,), slow=True),
)
OTHERS = (
    Judge("OverlapAUC", _overlap, True, form=3, masks=True),
    Judge("PointingGame", _pointing, True, form=_ranks_alone, masks=True, slow=True),
    Judge("MPRT", _mprt, False, form=3, slow=True, explains=True, alone=True),
    Judge("RandomLogit", _random_logit, False, form=3, slow=True, explains=True, alone=True),
    _sensitivity(quantus.MaxSensitivity),
    _sensitivity(quantus.AvgSensitivity),
    *_forms(quantus.Sparseness, True),
    *_forms(quantus.Complexity, False, _COMPLEXITY),
)
