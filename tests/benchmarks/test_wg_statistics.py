import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.wg_statistics import COLUMNS, comparison_table, holm, mean_interval

DIRECTIONS = {"DeletionAUC": False, "InsertionAUC": True}


def frame(n=30, seed=0):
    generator = np.random.default_rng(seed)
    rows = []
    for judge in DIRECTIONS:
        base = generator.uniform(0.2, 0.8, n)
        for method, factor in (("EG", 1.0), ("WG", 0.9), ("Random", 1.1)):
            values = base * factor + generator.normal(0, 0.01, n)
            rows += [("net", judge, method, f"image {i}", v) for i, v in enumerate(values)]
    return pd.DataFrame(rows, columns=["model", "judge", "method", "image", "score"])


def test_against_scipy():
    scores = frame()
    table = comparison_table(scores, [("EG", "WG"), ("EG", "Random")], DIRECTIONS)
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


def test_images_without_a_score_are_left_out_in_pairs():
    scores = frame(10)
    scores.loc[(scores["method"] == "WG") & (scores["image"] == "image 3"), "score"] = np.nan
    table = comparison_table(scores, [("EG", "WG"), ("EG", "Random")], DIRECTIONS)
    assert table["n"].tolist() == [9, 10, 9, 10]


def test_the_order_of_the_rows_changes_nothing():
    scores = frame(10)
    shuffled = scores.sample(frac=1, random_state=1)
    pairs = [("EG", "WG")]
    pd.testing.assert_frame_equal(
        comparison_table(scores, pairs, DIRECTIONS), comparison_table(shuffled, pairs, DIRECTIONS), check_exact=True
    )


def test_equal_scores_and_missing_methods():
    scores = frame(5)
    scores["score"] = 0.5
    table = comparison_table(scores, [("EG", "WG"), ("EG", "absent")], DIRECTIONS)
    assert len(table) == 2
    assert table[["t_p", "wilcoxon_p", "t_holm", "wilcoxon_holm"]].isna().all(axis=None)
    assert (table["improvement"] == 0).all()


def test_the_interval_of_a_mean_is_about_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(1, 0.2, 200)
    low, high = mean_interval(values)
    half = 1.96 * values.std(ddof=1) / np.sqrt(200)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert all(np.isnan(mean_interval(np.ones(5))))
