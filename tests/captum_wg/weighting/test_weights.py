from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.weighting.weights import check_keep, equal_weights, inverse_power, of_normalised_maps, only, smallest

# --- powers


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 6).flatmap(lambda k: st.lists(st.lists(st.integers(1, 10**6), min_size=k, max_size=k), min_size=1)),
    st.floats(0, 5),
)
def test_powers_against_the_equation(rows, power):
    found = inverse_power(torch.tensor(rows), power)
    assert found.dtype == torch.float64
    for row, weights in zip(rows, found.tolist(), strict=True):
        total = sum(d**-power for d in row)
        assert weights == pytest.approx([d**-power / total for d in row], rel=1e-9, abs=1e-300)
        assert sum(weights) == pytest.approx(1, abs=1e-12)


def test_equal_fitness_and_power_zero_give_equal_weights():
    assert inverse_power(torch.tensor([[7, 7, 7, 7]]), 3.0).tolist() == [[0.25] * 4]
    assert inverse_power(torch.tensor([[1, 50, 7, 2]]), 0.0).tolist() == [[0.25] * 4]
    equal = equal_weights(2, 4)
    assert equal.dtype == torch.float64 and equal.tolist() == [[0.25] * 4] * 2


def test_a_large_power_takes_the_best_and_does_not_underflow():
    found = inverse_power(torch.tensor([[10**6, 10**6 - 1, 10**5], [3, 2, 2]]), 1e6)
    assert found.tolist() == [[0, 0, 1], [0, 0.5, 0.5]]


def test_weights_fall_with_the_distance():
    (found,) = inverse_power(torch.tensor([[1, 2, 4]])).tolist()
    assert found == pytest.approx([4 / 7, 2 / 7, 1 / 7])


# --- equal norms


def test_weights_of_normalised_maps():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)
    norms = torch.tensor([[2.0, 1.0, 4.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    found = of_normalised_maps(weights, norms)
    expected = [[4 / 9, 4 / 9, 1 / 9], [0, 0.6, 0.4], [0.2, 0.3, 0.5]]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


# --- choice


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_kept_are_the_smallest_with_ties_by_position(row, data):
    n = data.draw(st.integers(1, len(row)))
    expected = sorted(sorted(range(len(row)), key=lambda k: (row[k], k))[:n])
    assert smallest(torch.tensor([row]), n).tolist() == [expected]


def test_weights_of_the_chosen_alone_keep_their_proportions():
    weights = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.4, 0.3, 0.2, 0.1]], dtype=torch.float64)
    found = only(weights, torch.tensor([[0, 2], [1, 3]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0, 0.75, 0], [0, 0.75, 0, 0.25]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("keep", "count"), [(None, 10), (1, 1), (10, 10), (1.0, 10), (0.5, 5), (0.25, 2), (0.35, 4), (0.01, 1)]
)
def test_keep_counts_or_shares(keep, count):
    assert check_keep(keep, 10) == count


def test_keep_takes_numpy_integers():
    assert check_keep(np.int64(3), 5) == 3


@pytest.mark.parametrize("keep", [0, -1, 11, 0.0, -0.5, 1.5, math.nan, True, "half"])
def test_keep_is_checked(keep):
    with pytest.raises(ValueError, match=r"keep must be a whole number from 1 to the number of baselines \(10\)"):
        check_keep(keep, 10)
