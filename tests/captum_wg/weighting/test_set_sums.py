import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import pearsonr, spearmanr

from captum_wg.weighting.set_sums import correlations, set_sums

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
