"""The area between the insertion and the deletion curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from quantus.helpers.enums import ScoreDirection
from torch import Tensor

from captum_wg.weighting.masking import Features
from quantus_ext.perturbation_auc import PerturbationAUC


class SymmetricRelevanceGain(PerturbationAUC):
    """Insertion AUC minus deletion AUC by one ranking: how far the lowest ranked features can go before the highest.

        score = 1/N sum_{i=1..N} f(x with everything removed but its top k_i) - f(x without its top k_i)

    Between -1 and 1 for a probability f; higher is better, and random rankings have about 0. Also known as the area
    between perturbation curves (AbPC, LeRF minus MoRF). The arguments are those of `DeletionAUC`; with rule="trapezoid"
    the two areas are those of removal in both orders. Twice the forwards.

    Source: Bluecher et al., "Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks", TMLR
    2024.
    """

    name = "Symmetric relevance gain"
    score_direction = ScoreDirection.HIGHER
    definition = "Bluecher et al. 2024 (SRG)"
    insert = True

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The difference of the two curves."""
        insertion, deletion = (self._curves(x, features, places, first, data, insert) for insert in (True, False))
        difference: np.ndarray = insertion - deletion
        return difference

    def interpret_scores(self) -> None:
        """Print what the score says."""
        print("The score is the insertion AUC minus the deletion AUC of one ranking: higher is better.")

    @property
    def axis_labels(self) -> tuple[str, str]:
        """What the plot says of the levels, and of the curves."""
        return "Fraction of features inserted or removed", "Difference of the output for the class"
