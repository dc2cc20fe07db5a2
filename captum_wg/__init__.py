"""Expected, weighted and generalized integrated gradients for Captum."""

from captum_wg import baselines, samplers, visualization
from captum_wg.expected_gradients import ExpectedGradients
from captum_wg.local_measures import (
    Consistency,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
)
from captum_wg.weighted_gradients import WeightedGradients
from captum_wg.weighting import fitness

__all__ = [
    "Consistency",
    "ExpectedGradients",
    "GeneralizedAttribution",
    "GradientVariance",
    "LocalIntegratedGradients",
    "Stability",
    "WeightedGradients",
    "baselines",
    "fitness",
    "samplers",
    "visualization",
]
