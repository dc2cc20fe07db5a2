import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, spearmanr

from quantus_ext import PatchDeletionCorrelation, SubsetCorrelation
from quantus_ext.removal_correlation import check_patch, correlations, patches_of, set_sums

values = arrays(np.float64, (2, 7), elements=st.integers(-4, 4).map(float))


@settings(max_examples=60, deadline=None)
@given(a=values, b=values)
def test_correlations_are_scipys_and_0_of_what_is_constant(a, b):
    for ranked, literal in ((True, spearmanr), (False, pearsonr)):
        found = correlations(a, b, ranked)
        for i in range(2):
            constant = np.ptp(a[i]) == 0 or np.ptp(b[i]) == 0
            assert found[i] == pytest.approx(0 if constant else literal(a[i], b[i]).statistic, abs=1e-9)


def test_equal_sums_are_equal_in_whatever_order_they_were_made():
    rng = np.random.default_rng(0)
    sets = torch.from_numpy(np.stack([rng.permutation(1000) < 301 for _ in range(50)]))
    constant = torch.full((2, 1000), 0.1, dtype=torch.float64)
    constant[1] *= -1e-30
    sums = set_sums(constant, sets)
    assert (sums[0] == 1).all() and (sums[1] == -1).all()
    assert (set_sums(torch.zeros(1, 1000, dtype=torch.float64), sets) == 0).all()


def test_patches_row_by_row_the_last_ones_smaller():
    x = torch.zeros(1, 2, 5, 7)
    features = patches_of(x, (2, 3), "it")
    assert features.count == 9
    value = torch.arange(35.0).reshape(1, 1, 5, 7)
    expected = [value[..., i : i + 2, j : j + 3].sum().item() for i in (0, 2, 4) for j in (0, 3, 6)]
    assert features.scores((value.expand(1, 1, 5, 7),))[0].tolist() == [2 * v for v in expected]


def test_a_map_of_one_channel_sums_as_the_sum_over_channels(net, images):
    x, y, a = images
    for metric in (PatchDeletionCorrelation(2), SubsetCorrelation(9), SubsetCorrelation(9, patch=2)):
        kwargs = {"batch_size": 3}
        assert metric(net, x, y, a.sum(1, keepdims=True), **kwargs) == pytest.approx(metric(net, x, y, a, **kwargs))


def test_patches_are_checked():
    assert check_patch(4) == (4, 4) and check_patch([2, 3]) == (2, 3)
    for bad in (0, 1.5, True, (2, 0)):
        with pytest.raises(ValueError, match="patch must be a whole number of at least 1"):
            check_patch(bad)
    with pytest.raises(ValueError, match=r"patch must be a whole number or a pair \(height, width\)"):
        check_patch((1, 2, 3))
