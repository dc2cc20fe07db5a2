"""Expected, weighted and generalized integrated gradients for Captum."""

from captum_wg import (
    baselines,
    feature_groups,
    filters,
    priors,
    recipes,
    samplers,
    smoothing,
    text,
    visualization,
    weighting,
)
from captum_wg.attribution_base import AttributionResult
from captum_wg.datasets import AttributionDataset, attribute_dataset
from captum_wg.engine.forward_args import shared
from captum_wg.expected_gradients import ExpectedGradients
from captum_wg.integrals.automatic import Automatic
from captum_wg.layers import (
    LayerConsistency,
    LayerExpectedGradients,
    LayerGeneralizedAttribution,
    LayerGradientVariance,
    LayerLocalIntegratedGradients,
    LayerSmoothGrad,
    LayerStability,
    LayerWeightedGradients,
    NeuronConsistency,
    NeuronExpectedGradients,
    NeuronGeneralizedAttribution,
    NeuronGradientVariance,
    NeuronLocalIntegratedGradients,
    NeuronSmoothGrad,
    NeuronStability,
    NeuronWeightedGradients,
)
from captum_wg.local_measures import (
    Consistency,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
)
from captum_wg.over_baselines import OverBaselines
from captum_wg.patch_correction import PatchCorrected
from captum_wg.shap_explanation import to_shap
from captum_wg.smooth_grad import SmoothGrad
from captum_wg.weighted_gradients import WeightedGradients
from captum_wg.weighting import Both, Deletion, Equal, Insertion

__version__ = "0.1.0"

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
    "LayerConsistency",
    "LayerExpectedGradients",
    "LayerGeneralizedAttribution",
    "LayerGradientVariance",
    "LayerLocalIntegratedGradients",
    "LayerSmoothGrad",
    "LayerStability",
    "LayerWeightedGradients",
    "LocalIntegratedGradients",
    "NeuronConsistency",
    "NeuronExpectedGradients",
    "NeuronGeneralizedAttribution",
    "NeuronGradientVariance",
    "NeuronLocalIntegratedGradients",
    "NeuronSmoothGrad",
    "NeuronStability",
    "NeuronWeightedGradients",
    "OverBaselines",
    "PatchCorrected",
    "SmoothGrad",
    "Stability",
    "WeightedGradients",
    "attribute_dataset",
    "baselines",
    "feature_groups",
    "filters",
    "priors",
    "recipes",
    "samplers",
    "shared",
    "smoothing",
    "text",
    "to_shap",
    "visualization",
    "weighting",
]
