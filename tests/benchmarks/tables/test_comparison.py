import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.tables import comparison
from benchmarks.tables.comparison import (
    COLUMNS,
    against_best,
    bootstrap,
    compare,
    holm,
    mean_interval,
    p_values,
    paired,
    wide,
)

DIRECTIONS = {"DeletionAUC": False, "InsertionAUC": True}


def sample(n=40, change=0.9):
    generator = np.random.default_rng(0)
    reference = generator.uniform(0.2, 0.8, n)
    return reference, reference * change + generator.normal(0, 0.02, n)


def frame(n=30, seed=0):
    generator = np.random.default_rng(seed)
    rows = []
    for judge in DIRECTIONS:
        base = generator.uniform(0.2, 0.8, n)
        for method, factor in (("EG", 1.0), ("WG", 0.9), ("Random", 1.1)):
            values = base * factor + generator.normal(0, 0.01, n)
            rows += [("net", judge, method, f"image {i}", v) for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["model", "judge", "method", "image", "score"])


class TestPaired:
    def test_against_the_definitions(self):
        a, b = sample()
        result = paired(a, b)
        difference = b - a
        t = difference.mean() / (difference.std(ddof=1) / math.sqrt(len(a)))
        assert result["n"] == 40
        assert result["improvement"] == pytest.approx(sum(b) / sum(a) - 1)
        assert (result["reference_mean"], result["mean"]) == pytest.approx((a.mean(), b.mean()))
        assert result["t_p"] == pytest.approx(2 * stats.t.sf(abs(t), len(a) - 1))

    def test_the_interval_is_the_spread_of_resampled_pairs(self):
        a, b = sample(200)
        result = paired(a, b)
        generator = np.random.default_rng(1)
        rows = generator.integers(0, len(a), (20000, len(a)))
        interval = np.quantile(b[rows].mean(1) / a[rows].mean(1) - 1, [0.025, 0.975])
        assert (result["low"], result["high"]) == pytest.approx(interval, abs=5e-4)
        assert result["low"] < result["improvement"] < result["high"]

    def test_lower_scores_are_the_better_ones_of_a_deletion(self):
        a, b = sample()
        up, down = paired(a, b, True), paired(a, b, False)
        assert down["improvement"] > 0
        assert [down[name] for name in ("improvement", "low", "high")] == [
            -up[name] for name in ("improvement", "high", "low")
        ]
        assert (down["t_p"], down["wilcoxon_p"]) == (up["t_p"], up["wilcoxon_p"])

    def test_pairing_finds_what_the_spread_between_images_hides(self):
        a, b = sample(30, change=0.95)
        assert paired(a, b)["t_p"] < 1e-3 < stats.ttest_ind(a, b).pvalue

    def test_the_order_of_the_images_does_not_matter_for_test_and_change(self):
        a, b = sample()
        first, reverse = paired(a, b), paired(a[::-1], b[::-1])
        assert (first["t_p"], first["improvement"]) == pytest.approx((reverse["t_p"], reverse["improvement"]))

    def test_pairs_with_a_missing_score_are_left_out(self):
        a, b = sample(10)
        assert paired([*a, math.nan, 1.0], [*b, 1.0, math.nan]) == paired(a, b)

    @pytest.mark.parametrize(("scores", "n"), [([], 0), ([0.5], 1)])
    def test_too_few_images_for_a_test(self, scores, n):
        result = paired(scores, scores)
        assert result["n"] == n
        assert math.isnan(result["t_p"]) and math.isnan(result["low"]) and math.isnan(result["std"])

    def test_equal_scores_have_no_change_and_no_test(self):
        result = paired([0.1, 0.2, 0.3], [0.1, 0.2, 0.3])
        assert result["improvement"] == 0
        assert math.isnan(result["t_p"]) and math.isnan(result["wilcoxon_p"])

    def test_equal_differences_have_no_test(self):
        """Also where rounding makes them differ: of three images nothing is significant at 1e-30."""
        for reference, scores in (([1, 2, 4], [2, 3, 5]), ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])):
            assert math.isnan(paired(reference, scores)["t_p"])
        assert np.ptp(np.subtract([0.4, 0.5, 0.6], [0.1, 0.2, 0.3])) > 0
        assert 0 < paired([0.1, 0.2, 0.3], [0.4, 0.5, 0.6 + 1e-9])["t_p"] < 1e-6

    def test_scores_of_different_images_cannot_be_paired(self):
        with pytest.raises(ValueError, match=r"of one length, got shapes \(2,\) and \(3,\)"):
            paired([1, 2], [1, 2, 3])

    def test_of_scores_that_can_be_negative_no_relative_change_is_taken(self):
        """Relative to a mean below 0 a rise would even have the sign of a fall."""
        result = paired([-0.02, 0.01, -0.03], [1.0, 0.9, 1.0])
        assert all(math.isnan(result[name]) for name in ("improvement", "low", "high"))
        assert result["t_p"] < 0.01 and result["mean"] > 0.9 and result["reference_mean"] < 0
        assert paired([0.0, 0.2], [0.1, 0.2])["improvement"] == pytest.approx(0.5)


class TestCompare:
    def test_against_scipy(self):
        scores = frame()
        table = compare(scores, [("EG", "WG"), ("EG", "Random")], DIRECTIONS)
        assert list(table.columns) == list(COLUMNS)
        assert list(zip(table["judge"], table["method"], strict=True)) == [
            (judge, method) for judge in DIRECTIONS for method in ("WG", "Random")
        ]
        for row in table.itertuples():
            part = scores[scores["judge"] == row.judge]
            a, b = (part[part["method"] == name]["score"].to_numpy() for name in ("EG", row.method))
            assert row.n == 30
            assert row.t_p == pytest.approx(stats.ttest_rel(a, b).pvalue)
            assert row.wilcoxon_p == pytest.approx(stats.wilcoxon(a, b).pvalue)
            assert (row.mean, row.std, row.reference_std) == pytest.approx((b.mean(), b.std(ddof=1), a.std(ddof=1)))
            change = b.mean() / a.mean() - 1
            assert row.improvement == pytest.approx(change if DIRECTIONS[row.judge] else -change)
            assert row.low < row.improvement < row.high

    def test_the_correction_is_over_all_rows(self):
        table = compare(frame(), [("EG", "WG"), ("EG", "Random")], DIRECTIONS)
        for test in ("t", "wilcoxon"):
            assert table[f"{test}_holm"].tolist() == holm(table[f"{test}_p"].to_numpy()).tolist()
            assert (table[f"{test}_holm"] > table[f"{test}_p"]).any()

    def test_images_without_a_score_are_left_out_in_pairs(self):
        scores = frame(10)
        scores.loc[(scores["method"] == "WG") & (scores["image"] == "image 3"), "score"] = np.nan
        table = compare(scores, [("EG", "WG"), ("EG", "Random")], DIRECTIONS)
        assert table["n"].tolist() == [9, 10, 9, 10]

    def test_the_order_of_the_rows_changes_nothing(self):
        scores = frame(10)
        shuffled = scores.sample(frac=1, random_state=1)
        pd.testing.assert_frame_equal(
            *(compare(each, [("EG", "WG")], DIRECTIONS) for each in (scores, shuffled)), check_exact=True
        )

    def test_equal_scores_and_missing_methods(self):
        table = compare(frame(5).assign(score=0.5), [("EG", "WG"), ("EG", "absent")], {**DIRECTIONS, "absent": True})
        assert len(table) == 2
        assert table[["t_p", "wilcoxon_p", "t_holm", "wilcoxon_holm"]].isna().all(axis=None)
        assert (table["improvement"] == 0).all()

    def test_nothing_to_compare_has_the_columns_all_the_same(self):
        assert compare(frame(2), [], DIRECTIONS).columns.tolist() == list(COLUMNS)


def test_wide_is_sorted_by_name_and_has_nothing_of_others():
    rows = [
        ("net", "DeletionAUC", "EG", "b", 2.0),
        ("net", "DeletionAUC", "EG", "a", 1.0),
        ("net", "DeletionAUC", "WG", "a", 3.0),
        ("net", "DeletionAUC", "WG", "b", 4.0),
        ("other", "DeletionAUC", "EG", "c", 5.0),
        ("net", "InsertionAUC", "Random", "d", 6.0),
    ]
    scores = pd.DataFrame(rows, columns=["model", "judge", "method", "image", "score"])
    for given in (scores, scores.astype({"model": "category", "method": "category", "image": "category"})):
        found = wide(given, "net", "DeletionAUC")
        assert found.index.tolist() == ["a", "b"] and sorted(found.columns) == ["EG", "WG"]
        assert found[["EG", "WG"]].values.tolist() == [[1.0, 3.0], [2.0, 4.0]]
        assert not len(wide(given, "net", "InsertionAUC-blur"))


def test_differences_of_which_some_or_all_are_zero():
    values = np.random.default_rng(0).normal(0.3, 1, 12)
    assert p_values(values)["t_p"] == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert p_values(values)["wilcoxon_p"] == pytest.approx(stats.wilcoxon(values).pvalue)
    assert all(map(math.isnan, p_values(np.zeros(5)).values())) and all(map(math.isnan, p_values(np.empty(0)).values()))
    assert math.isnan(p_values(values, rounding=10)["t_p"])


def test_holm_by_the_definition():
    generator = np.random.default_rng(0)
    for count in (1, 2, 7):
        p = generator.uniform(0, 0.2, count)
        order = np.argsort(p)
        adjusted = holm(p)
        for level in np.linspace(0.001, 1, 97):
            rejected = np.zeros(count, bool)
            for step, i in enumerate(order):
                if p[i] > level / (count - step):
                    break
                rejected[i] = True
            assert np.array_equal(adjusted <= level, rejected)
    assert holm(np.array([0.01, 0.04, 0.03])).tolist() == pytest.approx([0.03, 0.06, 0.06])


def test_holm_leaves_out_what_was_not_tested():
    assert holm(np.array([0.02, np.nan, 0.9]))[[0, 2]].tolist() == pytest.approx([0.04, 0.9])
    assert np.isnan(holm(np.array([0.02, np.nan]))[1])
    assert holm(np.empty(0)).tolist() == []


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(1, 0.2, 200)
    low, high = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert all(np.isnan(mean_interval(np.ones(5))))


def test_the_interval_of_many_images_is_one_of_percentiles(monkeypatch):
    """Drawn in parts of 7 resamples, so that no array is of all of them."""
    monkeypatch.setattr(comparison, "LARGE", 20)
    monkeypatch.setattr(comparison, "NUMBERS", 7 * 30)
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
    monkeypatch.setattr(comparison, "LARGE", 30)
    assert bootstrap((a, b), ratio, seed=5) == pytest.approx((low, high), rel=0.02)
    assert max(largest) > 7 * 30


@pytest.mark.parametrize("higher", [True, False])
def test_every_method_against_the_best(higher):
    scores = wide(frame(), "net", "DeletionAUC")[["WG", "Random", "EG"]].assign(Equal=lambda own: own["EG"])
    scores.loc["image 3", "WG"] = np.nan
    found = against_best(scores, higher).set_index("method")
    assert found.index.tolist() == list(scores) and found["n"].tolist() == [29, 30, 30, 30]
    best = "Random" if higher else "WG"
    assert found["best"].to_dict() == {name: name == best for name in scores}
    others = [name for name in scores if name != best]
    p = [stats.ttest_rel(*scores[[name, best]].dropna().to_numpy().T).pvalue for name in others]
    assert found.loc[others, "t_p"].tolist() == pytest.approx(p)
    assert found.loc[others, "t_holm"].tolist() == pytest.approx(holm(np.array(p)))
    assert math.isnan(found.loc[best, "t_p"])
    assert found["mean"].tolist() == pytest.approx(scores.mean().tolist())
    assert found["std"].tolist() == pytest.approx(scores.std().tolist())


def test_without_methods_there_is_no_best():
    assert against_best(pd.DataFrame(), True).empty
