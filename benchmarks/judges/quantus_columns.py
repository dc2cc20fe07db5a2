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
_ALIKE: dict[str, Any] = dict(
    similarity_func=similarity_func.correlation_spearman, abs=False, normalise=False, disable_warnings=True
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


def _pixel_flipping(settings: JudgeSettings) -> quantus.PixelFlipping:
    return quantus.PixelFlipping(features_in_step=32, perturb_baseline="uniform", disable_warnings=True)


def _faithfulness_correlation(settings: JudgeSettings) -> quantus.FaithfulnessCorrelation:
    return quantus.FaithfulnessCorrelation(
        nr_runs=100,
        subset_size=32,
        perturb_func=perturb_func.batch_baseline_replacement_by_indices,
        perturb_baseline="uniform",
        abs=True,
        return_aggregate=False,
        disable_warnings=True,
    )


def _overlap(settings: JudgeSettings) -> OverlapAUC:
    return OverlapAUC(ranking=settings.ranking, levels=settings.levels, disable_warnings=True)


# Quantus' sanity checks seed themselves: with one seed for all images, all would get the same draws.
def _own_seed() -> int:
    return int(np.random.randint(2**31))


def _mprt(settings: JudgeSettings) -> quantus.MPRT:
    return quantus.MPRT(
        **_ALIKE, layer_order="top_down", skip_layers=True, return_last_correlation=True, seed=_own_seed()
    )


def _random_logit(settings: JudgeSettings) -> quantus.RandomLogit:
    return quantus.RandomLogit(**_ALIKE, num_classes=settings.classes, seed=_own_seed())


def _forms(metric: str, make: Any, higher: bool, settings: str, *notes: dict[int, str]) -> list[Judge]:
    return [
        Judge(
            f"{metric}-{form}ch",
            make,
            higher,
            form,
            settings,
            (note, *(of_form[form] for of_form in notes)),
            metric=metric,
            slow=True,
        )
        for form, note in _FORMS.items()
    ]


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


FAITHFULNESS = (
    *_forms(
        "PixelFlipping",
        _pixel_flipping,
        False,
        'features_in_step=32, perturb_baseline="uniform"',
        dict.fromkeys(_FORMS, _FLIPPING),
    ),
    Judge(
        "FaithfulnessCorrelation",
        _faithfulness_correlation,
        True,
        settings='nr_runs=100, subset_size=32, perturb_baseline="uniform", abs=True',
        notes=(_OWN_FORM,),
        slow=True,
    ),
)
OTHERS = (
    Judge("OverlapAUC", _overlap, True, form=3, masks=True),
    Judge("MPRT", _mprt, False, form=3, slow=True, explains=True, alone=True),
    Judge("RandomLogit", _random_logit, False, form=3, slow=True, explains=True, alone=True),
    _sensitivity(quantus.MaxSensitivity),
    _sensitivity(quantus.AvgSensitivity),
    *_forms("Sparseness", lambda settings: quantus.Sparseness(disable_warnings=True), True, "defaults"),
    *_forms("Complexity", lambda settings: quantus.Complexity(disable_warnings=True), False, "defaults", _COMPLEXITY),
)
