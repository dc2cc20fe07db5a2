"""Expected, weighted and generalized integrated gradients for Captum."""

from captum_wg import baselines, samplers, visualization, weighting
from captum_wg.attribution_base import AttributionResult
from captum_wg.datasets import AttributionDataset, attribute_dataset
from captum_wg.engine.forward_args import shared
from captum_wg.expected_gradients import ExpectedGradients
from captum_wg.integrals.automatic import Automatic
from captum_wg.local_measures import (
    Consistency,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
)
from captum_wg.weighted_gradients import WeightedGradients
from captum_wg.weighting import Both, Deletion, Equal, Insertion

__all__ = [
    "AttributionDataset",
    "AttributionResult",
    "Automatic",
    "Both",
    "Consistency",
    "Deletion",
    "Equal",
    "ExpectedGradients",
    "GeneralizedAttribution",
    "GradientVariance",
    "Insertion",
    "LocalIntegratedGradients",
    "Stability",
    "WeightedGradients",
    "attribute_dataset",
    "baselines",
    "samplers",
    "shared",
    "visualization",
    "weighting",
]
