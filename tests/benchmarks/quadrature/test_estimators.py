import numpy as np
import pytest
import torch

from benchmarks.quadrature.convergence import fitted_slope
from benchmarks.quadrature.estimators import ESTIMATORS, MIDPOINT, MONTE_CARLO, SHARED_END, STAGGERED_END, TWO_STAGE
from benchmarks.quadrature.integrands import Exact, along_paths
from captum_wg import ExpectedGradients

K = 4
BY_NAME = {e.name: e for e in ESTIMATORS}
LINEAR = ("Gauss-Legendre", "midpoint", "trapezoid")


def analytic(function, reference_steps=2000):
    """Integrands P_k(a) = function(k, a) -> (n, features)."""

    def at(k, nodes):
        return torch.from_numpy(np.asarray(function(k, np.asarray(nodes)), dtype=float))

    return Exact(at, K, reference_steps)


def smooth(k, a):
    return np.stack([np.exp((1 + k) * a / 2), np.sin(3 * a + k), 1 / (1 + a + k)], axis=1)


SMOOTH = analytic(smooth)


def estimate(estimator, total, problem=SMOOTH, seed=0):
    return estimator.estimate(problem, total, np.random.default_rng(seed))


@pytest.mark.parametrize("total", [20, 50])
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.name)
def test_weights_sum_to_one_and_nodes_lie_on_the_paths(estimator, total):
    points = estimate(estimator, total)
    assert points.weights.sum() == pytest.approx(1)
    assert ((points.nodes >= 0) & (points.nodes <= 1)).all()
    assert set(points.which) <= set(range(K))
    assert points.gradients <= total + 1


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.name)
def test_a_constant_integrand_is_exact(estimator):
    constant = analytic(lambda k, a: np.tile([1.0, -3.0], (len(a), 1)), 20)
    assert constant.error(estimate(estimator, 20, constant)) < 1e-6


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_integrand_is_exact(name):
    linear = analytic(lambda k, a: np.stack([1 + k * a, 2 - a], axis=1))
    assert linear.error(estimate(BY_NAME[name], 20, linear)) < 1e-12


@pytest.mark.parametrize("name, order", [("midpoint", -2), ("trapezoid", -2), ("midpoint, end at x", -2)])
def test_order_of_a_rule(name, order):
    points = [estimate(BY_NAME[name], total) for total in (40, 80, 160, 320)]
    slope = fitted_slope(np.array([p.gradients for p in points]), np.array([SMOOTH.error(p) for p in points]))
    assert slope == pytest.approx(order, abs=0.15)


def test_gauss_legendre_is_exponential():
    found = [SMOOTH.error(estimate(BY_NAME["Gauss-Legendre"], K * n)) for n in (2, 4, 8)]
    assert found[1] < found[0] / 50
    assert found[2] < 1e-9


def test_rates_of_random_points():
    totals = (32, 128, 512)

    def slope(estimator):
        found = [np.mean([SMOOTH.error(estimate(estimator, t, seed=s)) for s in range(40)]) for t in totals]
        return fitted_slope(np.array(totals, dtype=float), np.array(found))

    assert slope(MONTE_CARLO) == pytest.approx(-0.5, abs=0.15)
    assert slope(STAGGERED_END) == pytest.approx(-1, abs=0.15)


def test_the_end_at_x_counts_once():
    assert estimate(SHARED_END, 20).gradients == 21
    assert estimate(TWO_STAGE, 40).gradients == 41
    for total in (19, 20, 21, 22):
        assert estimate(STAGGERED_END, total).gradients == total


def test_equal_counts_use_every_path_before_any_twice():
    points = estimate(BY_NAME["Monte-Carlo, equal counts"], 2 * K + 3)
    assert sorted(np.bincount(points.which)) == [2] + [3] * 3


def test_staggered_points_form_one_grid():
    points = estimate(STAGGERED_END, 3 * K + 1)
    inner = np.sort(points.nodes[points.nodes < 1])
    assert inner == pytest.approx((np.arange(3 * K) + 0.5) / K / 3.375)


def test_two_stage_goes_where_the_integrand_changes():
    bend = analytic(lambda k, a: np.stack([np.tanh(40 * (a - 0.31 - 0.07 * k)), np.ones(len(a))], axis=1))
    points = estimate(TWO_STAGE, 16 * K, bend)
    near = np.abs(points.nodes - 0.31 - 0.07 * points.which) < 0.1
    assert near.mean() > 0.4
    assert bend.error(points) < bend.error(estimate(MIDPOINT, 16 * K, bend))


def test_two_stage_of_few_points_is_one_stage():
    few = estimate(TWO_STAGE, 5 * K)
    one = estimate(SHARED_END, 5 * K)
    assert np.array_equal(few.nodes, one.nodes)
    assert np.array_equal(few.weights, one.weights)


@pytest.mark.parametrize(
    "estimator, options",
    [
        (BY_NAME["Gauss-Legendre"], {"method": "gausslegendre", "n_steps": 9}),
        (MIDPOINT, {"method": "riemann_middle", "n_steps": 9}),
        (SHARED_END, {"method": "riemann_shared_end", "n_steps": 10}),
        (TWO_STAGE, {"method": "adaptive", "n_steps": 10}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_rule_is_that_of_expected_gradients(tiny_model, tiny_batch, estimator, options):
    """What the table calls so is what users get."""
    x = torch.from_numpy(tiny_batch[0][:1]).double()
    references = torch.randn(K, *x.shape[1:], generator=torch.Generator().manual_seed(5)).double()
    model = tiny_model.double()
    exact = Exact(along_paths(lambda z: model(z)[:, 3], x[0], references), K, 20)
    ours = exact.estimate(estimate(estimator, 9 * K, exact)).view(x.shape)
    theirs = ExpectedGradients(model).attribute(x, references, target=3, pairing="shared", **options)
    torch.testing.assert_close(ours, theirs)
