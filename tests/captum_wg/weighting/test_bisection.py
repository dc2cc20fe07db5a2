from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.weighting.bisection import bisect
from captum_wg.weighting.weights import smallest


def curves(falling):
    """Rows of scores after 0, 1, ... P features are gone, in eighths so that ties are exact."""
    scores = st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 16), min_size=n, max_size=n), min_size=1, max_size=6)
    )
    return scores.map(lambda rows: [sorted(r, reverse=True) for r in rows] if falling else rows)


def bisect_rows(rows, start=16.0, **kwargs):
    table = torch.tensor(rows, dtype=torch.float64)
    asked = []

    def score(which, removed):
        asked.append(which.tolist())
        assert ((removed >= 1) & (removed <= table.shape[1])).all()
        return table[which, removed - 1]

    reference = torch.full((len(rows),), start, dtype=torch.float64)
    answer, reached = bisect(score, reference, table.shape[1], **kwargs)
    return answer.tolist(), reached.tolist(), asked


@settings(deadline=None, max_examples=150)
@given(curves(falling=True), st.sampled_from([0.125, 0.25, 0.5, 0.75]))
def test_the_exact_minimum_of_a_falling_curve(scan, rows, alpha):
    answers, reached, _ = bisect_rows(rows, alpha=alpha, tolerance=0.0)
    for row, answer, did in zip(rows, answers, reached, strict=True):
        assert answer == scan(lambda k, row=row: row[k - 1], 16, len(row), alpha)
        assert did == (row[-1] <= alpha * 16)


@settings(deadline=None, max_examples=150)
@given(curves(falling=False), st.sampled_from([0.25, 0.5]), st.sampled_from([0.0, 0.0625, 0.25]), st.integers(1, 6))
def test_the_literal_search_on_any_curve(search_one, rows, alpha, tolerance, most):
    answers, _, asked = bisect_rows(rows, alpha=alpha, tolerance=tolerance, max_iterations=most)
    for row, answer in zip(rows, answers, strict=True):
        assert answer == search_one(lambda k, row=row: row[k - 1], 16, len(row), alpha, tolerance, most)
    assert len(asked) <= most


@settings(deadline=None, max_examples=80)
@given(curves(falling=False), st.sampled_from([0.0, 0.1]))
def test_no_more_steps_than_the_logarithm_and_rows_are_closed(rows, tolerance):
    answers, reached, asked = bisect_rows(rows, tolerance=tolerance)
    n_features = len(rows[0])
    assert len(asked) <= math.ceil(math.log2(n_features + 1))
    assert all(later in (asked[i]) for i in range(len(asked) - 1) for later in asked[i + 1])
    assert all(1 <= a <= n_features for a in answers)
    for row, answer, did in zip(rows, answers, reached, strict=True):
        if did:
            assert row[answer - 1] <= 8 + 16 * tolerance
        else:
            assert answer == n_features


@settings(deadline=None, max_examples=300)
@given(st.data(), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_search_for_the_best_finds_the_same_ones_in_no_more_steps(data, groups, rivals, which_only, falling):
    n_features = data.draw(st.integers(1, 30))
    row = st.lists(st.integers(0, 16), min_size=n_features, max_size=n_features)
    rows = [
        sorted(r, reverse=True) if falling else r
        for r in data.draw(st.lists(row, min_size=groups * rivals, max_size=groups * rivals))
    ]
    n_best = data.draw(st.integers(1, rivals))
    tolerance = data.draw(st.sampled_from([0.0, 0.1]))
    full, _, asked_in_full = bisect_rows(rows, tolerance=tolerance)
    answers, _, asked = bisect_rows(rows, tolerance=tolerance, n_rivals=rivals, n_best=n_best, which_only=which_only)
    assert sum(map(len, asked)) <= sum(map(len, asked_in_full))
    found = smallest(torch.tensor(answers).view(groups, rivals), n_best)
    expected = smallest(torch.tensor(full).view(groups, rivals), n_best)
    assert torch.equal(found, expected)
    assert all(a >= f for a, f in zip(answers, full, strict=True))
    if not which_only:
        kept = torch.tensor(full).view(groups, rivals).gather(1, expected)
        assert torch.equal(torch.tensor(answers).view(groups, rivals).gather(1, expected), kept)


def test_a_search_for_the_best_leaves_the_others_out():
    good, bad = [4.0] * 64, [16.0] * 63 + [4.0]
    answers, _, asked = bisect_rows([good, bad, bad, good], tolerance=0.0, n_rivals=4, n_best=2)
    assert asked[0] == [0, 1, 2, 3] and asked[1] == [0, 3] and asked[-1] == [0, 3]
    assert answers == [1, 64, 64, 1]
    _, _, asked = bisect_rows([good, bad, bad, good], tolerance=0.0, n_rivals=4, n_best=2, which_only=True)
    assert len(asked) == 1


def test_within_the_tolerance_it_stops_at_once():
    #                      k = 1  2   3    4    5  6  7
    answers, _, asked = bisect_rows([[15, 14, 13, 8.1, 8, 7, 0]], tolerance=0.01)
    assert (answers, len(asked)) == ([4], 1)
    answers, _, _ = bisect_rows([[15, 14, 13, 8.1, 8, 7, 0]], tolerance=0.0)
    assert answers == [5]


def test_a_plateau_at_the_target_is_left_by_its_first_step_only():
    assert bisect_rows([[8.0] * 9], tolerance=0.0)[0] == [1]
    assert bisect_rows([[16, 16, 8, 8, 8, 8, 8, 8, 8]], tolerance=0.0)[0] == [3]


def test_rows_may_have_their_own_number_of_features():
    visited = []

    def score(rows, removed):
        visited.extend(zip(rows.tolist(), removed.tolist(), strict=True))
        return torch.full((len(rows),), 9.0)

    answer, reached = bisect(score, torch.full((3,), 16.0), torch.tensor([1, 4, 9]))
    assert answer.tolist() == [1, 4, 9] and not reached.any()
    assert all(removed <= (1, 4, 9)[row] for row, removed in visited)


def test_a_masked_output_that_is_not_finite():
    with pytest.raises(ValueError, match="the output is NaN or infinite for a masked input"):
        bisect_rows([[1.0, math.nan, 1.0]])


def test_a_search_cut_short_is_not_called_hopeless():
    never_enough = torch.full((1,), 10.0)
    _, possible = bisect(lambda rows, removed: never_enough[rows], never_enough, 64, max_iterations=2)
    assert possible.all()
    _, possible = bisect(lambda rows, removed: never_enough[rows], never_enough, 64)
    assert not possible.any()
