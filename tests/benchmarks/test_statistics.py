import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks import statistics
from benchmarks.statistics import bootstrap, compare, paired_comparison


def sample(n=40, change=0.9):
    generator = np.random.default_rng(0)
    reference = generator.uniform(0.2, 0.8, n)
    return reference, reference * change + generator.normal(0, 0.02, n)


def test_against_the_definitions():
    a, b = sample()
    result = paired_comparison(a, b)
    difference = b - a
    t = difference.mean() / (difference.std(ddof=1) / math.sqrt(len(a)))
    assert result.n == 40
    assert result.relative_change == pytest.approx(sum(b) / sum(a) - 1)
    assert (result.reference_mean, result.mean) == pytest.approx((a.mean(), b.mean()))
    assert result.p == pytest.approx(2 * stats.t.sf(abs(t), len(a) - 1))


def test_the_interval_is_the_spread_of_resampled_pairs():
    a, b = sample(200)
    result = paired_comparison(a, b)
    generator = np.random.default_rng(1)
    rows = generator.integers(0, len(a), (20000, len(a)))
    low, high = np.quantile(b[rows].mean(1) / a[rows].mean(1) - 1, [0.025, 0.975])
    assert (result.low, result.high) == pytest.approx((low, high), abs=5e-4)
    assert result.low < result.relative_change < result.high


def test_pairing_finds_what_the_spread_between_images_hides():
    a, b = sample(30, change=0.95)
    assert paired_comparison(a, b).p < 1e-3 < stats.ttest_ind(a, b).pvalue


def test_the_order_of_the_images_does_not_matter_for_test_and_change():
    a, b = sample()
    first, reversed_ = paired_comparison(a, b), paired_comparison(a[::-1], b[::-1])
    assert (first.p, first.relative_change) == pytest.approx((reversed_.p, reversed_.relative_change))


def test_pairs_with_a_missing_score_are_left_out():
    a, b = sample(10)
    with_gaps = paired_comparison([*a, math.nan, 1.0], [*b, 1.0, math.nan])
    assert with_gaps == paired_comparison(a, b)


@pytest.mark.parametrize(("scores", "n"), [([], 0), ([0.5], 1)])
def test_too_few_images_for_a_test(scores, n):
    result = paired_comparison(scores, scores)
    assert result.n == n
    assert math.isnan(result.p)
    assert math.isnan(result.low)


def test_equal_scores_have_no_change_and_no_test():
    result = paired_comparison([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
    assert result.relative_change == 0
    assert math.isnan(result.p)


def test_equal_differences_have_no_test():
    """Also where rounding makes them differ: of three images nothing is significant at 1e-30."""
    for reference, scores in (([1, 2, 4], [2, 3, 5]), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])):
        assert math.isnan(paired_comparison(reference, scores).p)
    assert np.ptp(np.subtract([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])) > 0
    assert 0 < paired_comparison([0.1, 0.2, 0.3], [0.4, 0.5, 0.6 + 1e-9]).p < 1e-6


def test_scores_of_different_images_cannot_be_paired():
    with pytest.raises(ValueError, match=r"two lists of one length, got shapes \(2,\) and \(3,\)"):
        paired_comparison([1, 2], [1, 2, 3])


def test_comparison_joins_by_image():
    a, b = sample(12)
    rows = [("EG", "AUC", i, s) for i, s in enumerate(a)] + [("WG", "AUC", i, s) for i, s in enumerate(b)][::-1]
    scores = pd.DataFrame(rows, columns=["method", "judge", "image", "score"])
    table = compare(scores, [("EG", "WG"), ("EG", "absent")], ["AUC", "absent"])
    assert table[["judge", "method", "reference", "n"]].values.tolist() == [["AUC", "WG", "EG", 12]]
    assert table["p"][0] == paired_comparison(a, b).p
    assert compare(scores, [], []).columns.tolist() == table.columns.tolist()


def test_the_interval_of_many_images_is_one_of_percentiles(monkeypatch):
    """Drawn in parts of 7 resamples, so that no array is of all of them."""
    monkeypatch.setattr(statistics, "LARGE", 20)
    monkeypatch.setattr(statistics, "NUMBERS", 7 * 30)
    generator = np.random.default_rng(0)
    a = generator.random(30) + 1
    b = a + 0.3 * generator.random(30)
    largest = []

    def ratio(a, b, axis=-1):
        largest.append(a.size)
        return b.mean(axis) / a.mean(axis)

    low, high = bootstrap((a, b), ratio, seed=5, resamples=700)
    assert max(largest) == 7 * 30
    draws = np.random.default_rng(5)
    literal = [float(b[places].mean() / a[places].mean()) for places in (draws.integers(0, 30, 30) for _ in range(700))]
    assert (low, high) == pytest.approx(np.percentile(literal, [2.5, 97.5]), rel=1e-12)
    # As good as the other one, which samples of up to LARGE images get.
    monkeypatch.setattr(statistics, "LARGE", 30)
    assert bootstrap((a, b), ratio, seed=5) == pytest.approx((low, high), rel=0.02)
    assert max(largest) > 7 * 30


def test_of_scores_that_can_be_negative_no_relative_change_is_taken():
    """Relative to a mean below 0 a rise would even have the sign of a fall."""
    reference = [-0.02, 0.01, -0.03]
    result = paired_comparison(reference, [1.0, 0.9, 1.0])
    assert math.isnan(result.relative_change) and math.isnan(result.low) and math.isnan(result.high)
    assert result.p < 0.01 and result.mean > 0.9 and result.reference_mean < 0
    assert paired_comparison([0.0, 0.2], [0.1, 0.2]).relative_change == pytest.approx(0.5)
