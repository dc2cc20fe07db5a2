"""Area under the insertion curve."""

from __future__ import annotations

from typing import Any

from quantus.helpers.enums import ScoreDirection

from quantus_ext.levels import RISE, steps
from quantus_ext.perturbation_auc import PerturbationAUC
from quantus_ext.removal import rise_blur


class InsertionAUC(PerturbationAUC):
    """Area under the insertion curve: how fast the model finds the class when the highest ranked features come back.

    With f the model's probability of the given class (`output` says which), P features, N levels and k_i = i / N:

        score = 1/N sum_{i=1..N} f(x(k_i)),
        x(k) = x with everything removed but its round(k P) highest ranked features

    Between 0 and 1; higher is better. rule="trapezoid" adds k = 0, the input of which nothing is left.

    Features, attributions, ties and forwards are those of `DeletionAUC`, as are the arguments and what is refused.

    Source: Duc et al., "Weighted Average Gradients", 2025, appendix A, which prefers deletion: an input of which little
    is left lies far from what the model was trained on.
    """

    name = "Insertion AUC"
    score_direction = ScoreDirection.HIGHER
    insert = True

    @classmethod
    def rise(cls, pixels: int = 224 * 224, step: int = 224, **kwargs: Any) -> InsertionAUC:
        """The insertion game of RISE, as `DeletionAUC.rise`: pixels come back into the blurred image (`rise_blur`)."""
        settings = {"levels": steps(pixels, step), "rule": "steps", "removal": rise_blur, "definition": RISE}
        return cls(**{**settings, **kwargs})
