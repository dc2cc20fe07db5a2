from __future__ import annotations

import math

import numpy as np
import pytest
from captum.attr._utils.approximation_methods import approximation_parameters
from scipy.special import roots_legendre

from captum_wg.integrals.nodes import METHODS, continuation, nodes_and_weights

COUNTS = (2, 3, 5, 10, 50)


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("method", METHODS)
def test_weights_sum_to_one_and_nodes_ascend_within_the_interval(method, n):
    nodes, weights = nodes_and_weights(method, n)
    assert nodes.shape == weights.shape == (n,)
    assert nodes.dtype == weights.dtype == np.float64
    assert weights.sum() == pytest.approx(1, abs=1e-14)
    assert (weights > 0).all() and (np.diff(nodes) > 0).all()
    assert nodes[0] >= 0 and nodes[-1] <= 1


@pytest.mark.parametrize("n", COUNTS)
@pytest.mark.parametrize("method", [m for m in METHODS if m not in ("riemann_trapezoid", "riemann_shared_end")])
def test_the_rules_are_captums(method, n):
    sizes, alphas = approximation_parameters(method)
    nodes, weights = nodes_and_weights(method, n)
    np.testing.assert_allclose(nodes, alphas(n), atol=2e-7)  # Captum's own nodes are float32
    np.testing.assert_allclose(weights, sizes(n), atol=2e-7)


@pytest.mark.parametrize("n", COUNTS)
def test_captums_trapezoid_falls_short_by_one_part_in_n(n):
    sizes, alphas = approximation_parameters("riemann_trapezoid")
    nodes, weights = nodes_and_weights("riemann_trapezoid", n)
    np.testing.assert_allclose(nodes, alphas(n), atol=2e-7)
    np.testing.assert_allclose(weights * (n - 1) / n, sizes(n), atol=1e-15)
    squares = nodes**2
    assert weights @ squares == pytest.approx(((squares[1:] + squares[:-1]) / 2 * np.diff(nodes)).sum())


@pytest.mark.parametrize("n", [1, *COUNTS])
def test_gauss_legendre_is_scipys_and_exact_to_degree_2n_minus_1(n):
    nodes, weights = nodes_and_weights("gausslegendre", n)
    x, w = roots_legendre(n)
    np.testing.assert_allclose(nodes, (x + 1) / 2, atol=1e-14)
    np.testing.assert_allclose(weights, w / 2, atol=1e-14)
    for degree in range(2 * n):
        assert weights @ nodes**degree == pytest.approx(1 / (degree + 1), rel=1e-12)
    if n < 6:
        assert abs(weights @ nodes ** (2 * n) - 1 / (2 * n + 1)) > 1e-7


@pytest.mark.parametrize(
    ("method", "order"),
    [
        ("riemann_left", 1),
        ("riemann_right", 1),
        ("riemann_middle", 2),
        ("riemann_trapezoid", 2),
        ("riemann_shared_end", 2),
    ],
)
def test_the_error_falls_at_the_rules_order(method, order):
    steps = np.array([8, 16, 32, 64, 128])
    errors = []
    for n in steps:
        nodes, weights = nodes_and_weights(method, int(n))
        errors.append(abs(weights @ np.exp(nodes) - (math.e - 1)))
    # The trapezoid rule has n - 1 intervals.
    intervals = steps - (method == "riemann_trapezoid")
    slope = np.polyfit(np.log(intervals), np.log(errors), 1)[0]
    assert slope == pytest.approx(-order, abs=0.05)


def test_left_is_below_and_right_above_for_a_rising_integrand():
    left, middle, right = (nodes_and_weights(m, 4)[0] for m in ("riemann_left", "riemann_middle", "riemann_right"))
    assert left.tolist() == [0, 0.25, 0.5, 0.75]
    assert middle.tolist() == [0.125, 0.375, 0.625, 0.875]
    assert right.tolist() == [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize("method", [m for m in METHODS if m != "riemann_trapezoid"])
def test_one_step_is_allowed(method):
    nodes, weights = nodes_and_weights(method, 1)
    assert nodes == {"riemann_left": 0, "riemann_right": 1, "riemann_shared_end": 1}.get(method, 0.5)
    assert weights == 1


def test_shared_end_is_midpoints_of_equal_cells_of_which_the_last_is_half():
    nodes, weights = nodes_and_weights("riemann_shared_end", 3)
    np.testing.assert_allclose(nodes, [0.2, 0.6, 1], atol=1e-15)
    np.testing.assert_allclose(weights, [0.4, 0.4, 0.2], atol=1e-15)
    for n in COUNTS:
        nodes, weights = nodes_and_weights("riemann_shared_end", n)
        edges = np.append(0, np.cumsum(weights))
        np.testing.assert_allclose(nodes[:-1], (edges[:-2] + edges[1:-1]) / 2, atol=1e-14)
        np.testing.assert_allclose(weights[:-1], 2 * weights[-1])


CONTINUED = [
    ("riemann_middle", 4, 12),
    ("riemann_middle", 2, 50),
    ("riemann_left", 5, 50),
    ("riemann_right", 4, 8),
    ("riemann_trapezoid", 8, 50),
    ("riemann_shared_end", 6, 17),
    ("riemann_shared_end", 17, 50),
    ("riemann_shared_end", 1, 2),
    ("gausslegendre", 1, 5),
    *[(m, 7, 7) for m in METHODS],
]


@pytest.mark.parametrize(("method", "coarse", "fine"), CONTINUED)
def test_a_rule_is_continued_without_its_old_points(method, coarse, fine):
    first, second = nodes_and_weights(method, coarse), nodes_and_weights(method, fine)
    (nodes, weights), factor = continuation(first, second)
    assert len(nodes) == fine - coarse
    for f in (np.exp, np.cos, np.ones_like, lambda a: np.abs(a - 0.3)):
        expected = second[1] @ f(second[0])
        assert factor * (first[1] @ f(first[0])) + weights @ f(nodes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("method", "coarse", "fine"),
    [
        ("riemann_middle", 4, 8),
        ("riemann_middle", 12, 4),
        ("riemann_left", 4, 10),
        ("riemann_middle", 100, 101),
        ("riemann_trapezoid", 5, 10),
        ("riemann_shared_end", 6, 18),
        ("gausslegendre", 5, 50),
    ],
)
def test_a_rule_whose_points_or_proportions_differ_is_not_continued(method, coarse, fine):
    assert continuation(nodes_and_weights(method, coarse), nodes_and_weights(method, fine)) is None


def test_the_same_points_in_other_proportions_are_no_continuation():
    nodes, weights = nodes_and_weights("gausslegendre", 4)
    assert continuation((nodes, np.full(4, 0.25)), (nodes, weights)) is None


@pytest.mark.parametrize("n", [0, -3, 1.0, True, None])
def test_no_steps(n):
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1"):
        nodes_and_weights("gausslegendre", n)


def test_one_step_of_the_trapezoid():
    with pytest.raises(ValueError, match="at least 2 for method='riemann_trapezoid'"):
        nodes_and_weights("riemann_trapezoid", 1)


def test_unknown_method():
    with pytest.raises(ValueError, match=r"method must be one of \('gausslegendre'.*got 'simpson'"):
        nodes_and_weights("simpson", 4)
