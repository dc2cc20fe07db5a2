"""Deletion, insertion and overlap AUC as Quantus metrics, and explanation functions for Quantus."""

import importlib.util

if importlib.util.find_spec("quantus") is None:
    raise ImportError('quantus_ext needs Quantus, which is not installed: pip install "captum-wg[quantus]"')

from quantus_ext.explain import explain, explainer
from quantus_ext.masked_confidence import AverageDrop, IncreaseInConfidence
from quantus_ext.overlap_auc import OverlapAUC
from quantus_ext.patch_deletion_correlation import PatchDeletionCorrelation
from quantus_ext.perturbation_auc import DeletionAUC, InsertionAUC, SymmetricRelevanceGain
from quantus_ext.removal import NoisyLinearImputation
from quantus_ext.subset_correlation import SubsetCorrelation

__all__ = [
    "AverageDrop",
    "DeletionAUC",
    "IncreaseInConfidence",
    "InsertionAUC",
    "NoisyLinearImputation",
    "OverlapAUC",
    "PatchDeletionCorrelation",
    "SubsetCorrelation",
    "SymmetricRelevanceGain",
    "explain",
    "explainer",
]
