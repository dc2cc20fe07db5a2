"""Area under the deletion curve."""

from __future__ import annotations

from typing import Any

from quantus.helpers.enums import ScoreDirection

from quantus_ext.levels import RISE, steps
from quantus_ext.perturbation_auc import PerturbationAUC


class DeletionAUC(PerturbationAUC):
    """Area under the deletion curve: how fast the model loses the class when the highest ranked features go.

    With f the model's probability of the given class (`output` says which), P features, N levels and k_i = i / N:

        score = 1/N sum_{i=1..N} f(x(k_i)),    x(k) = x without its round(k P) highest ranked features

    Between 0 and 1; lower is better.

    A feature is a pixel of an image (B, C, H, W), all its channels together; it is one element of a tabular input
    (B, F), of a time series (B, C, T) and of any other input. Attributions have the input's shape, or one channel:
    (B, 1, H, W) or (B, H, W); the single channel of a time series' attribution counts for all of its channels. round
    is Python's (halves to even). Equal scores are ranked by position, so results repeat.

    All levels of several examples share each forward. Over a call these hold at most B * N rows, B more for k = 0,
    fewer where levels round to the same number of features, and B for the examples themselves where output="auto" or
    relative asks for them.

    Source: Duc et al., "Weighted Average Gradients", 2025, "AUC of Deletion Score", with N = 100. The paper leaves open
    what replaces a removed feature, by what a signed map is ranked and how ties are; here the arguments `removal` and
    `ranking`, and position, decide.

    Attributions that are negative throughout are accepted, as they rank the features like any others.
    (`quantus.evaluate` itself refuses them from a function, before a metric sees them; hand them to it as an array, or
    call the metric alone.) Attributions that are constant within every example rank nothing and are an error.

    After a call, `curves` holds the curves (B, number of levels) of its examples and `fractions` their levels; `plot()`
    draws the mean curve in a band of one standard deviation.
    """

    name = "Deletion AUC"
    score_direction = ScoreDirection.LOWER
    insert = False

    @classmethod
    def rise(cls, pixels: int = 224 * 224, step: int = 224, **kwargs: Any) -> DeletionAUC:
        """The deletion game of RISE: `step` pixels at a time are set to 0 (the mean of normalised images).

        Its area counts all steps alike, also a short last one. y_batch are the predicted classes there, f is their
        softmax, equal scores go by position (there by numpy's unstable sort, backwards).

        Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and
        its code.

        Args:
            pixels: of the images; the code has 224 * 224.
            step: pixels per step.
            **kwargs: further arguments of the class, or others in the place of these.
        """
        settings = {"levels": steps(pixels, step), "rule": "steps", "removal": 0.0, "definition": RISE}
        return cls(**{**settings, **kwargs})
