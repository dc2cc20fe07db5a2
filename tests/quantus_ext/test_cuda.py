"""Metrics and explanation functions on a GPU, against the CPU."""

import numpy as np
import pytest
import torch

from quantus_ext import (
    AverageDrop,
    DeletionAUC,
    IncreaseInConfidence,
    InsertionAUC,
    NoisyLinearImputation,
    PatchDeletionCorrelation,
    SubsetCorrelation,
    SymmetricRelevanceGain,
    explain,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

GROUPS = torch.arange(42).reshape(1, 1, 6, 7) // 4


@pytest.mark.parametrize(
    "metric",
    [
        DeletionAUC(levels=7),
        DeletionAUC(levels=7, removal="blur"),
        DeletionAUC(levels=7, feature_mask=GROUPS),
        InsertionAUC(levels=7, feature_mask=torch.cat([GROUPS, GROUPS, GROUPS // 2, GROUPS + 1])),
        InsertionAUC(levels=7, removal=NoisyLinearImputation(noise=0.0)),
        SymmetricRelevanceGain(levels=7),
        PatchDeletionCorrelation(patch=2, removal=("blur", 0.0)),
        PatchDeletionCorrelation(patch=2, removal=NoisyLinearImputation(noise=0.0)),
        SubsetCorrelation(20, 0.3),
        SubsetCorrelation(20, 0.3, patch=(2, 3)),
        AverageDrop(),
        IncreaseInConfidence(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_scores_are_those_of_the_cpu(net, images, metric):
    x, y, a = images
    expected = metric(net, x, y, a)
    assert metric(net.cuda(), x, y, a, device="cuda") == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", ["ExpectedGradients", "WeightedGradients", "SmoothGrad", "IntegratedGradients"])
def test_maps_are_those_of_the_cpu(net, images, method):
    x, y, _ = images
    expected = explain(net, x, y, method=method, baselines=0.5)
    found = explain(net.cuda(), x, y, device="cuda", method=method, baselines=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
