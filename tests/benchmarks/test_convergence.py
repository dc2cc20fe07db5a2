from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from tqdm import tqdm

from benchmarks import convergence
from benchmarks.quadrature import estimators
from benchmarks.quadrature.estimators import ESTIMATORS, MIDPOINT, MONTE_CARLO, STAGGERED_END, TWO_STAGE
from benchmarks.quadrature.integrands import Exact, Tabulated, along_paths, map_error
from benchmarks.quadrature.problems import Problem

K = 4
BY_NAME = {e.name: e for e in ESTIMATORS}
PLAIN = [e for e in ESTIMATORS if e.group != "bound" and not e.name.startswith("complete")]
LINEAR = (
    "Gauss-Legendre",
    "midpoint",
    "trapezoid",
    "trapezoid, end at x",
    "trisection",
    "allocation",
    "spline weights",
)


def analytic(function, primitive=None, reference_steps=2000):
    """Integrands P_k(a) = function(k, a) -> (n, features), with F along path k where it is given."""

    def at(k, nodes):
        return torch.from_numpy(np.asarray(function(k, np.asarray(nodes)), dtype=float))

    def outputs(k, nodes):
        return torch.from_numpy(np.asarray(primitive(k, np.asarray(nodes)), dtype=float))

    return Exact(at, outputs, K, reference_steps)


def smooth(k, a):
    return np.stack([np.exp((1 + k) * a / 2), np.sin(3 * a + k), 1 / (1 + a + k)], axis=1)


def smooth_primitive(k, a):
    return 2 / (1 + k) * np.exp((1 + k) * a / 2) - np.cos(3 * a + k) / 3 + np.log(1 + a + k)


SMOOTH = analytic(smooth, smooth_primitive)


def estimate(estimator, total, problem=SMOOTH, seed=0):
    return estimator.estimate(problem, total, np.random.default_rng(seed))


@pytest.mark.parametrize("total", [20, 50])
@pytest.mark.parametrize("estimator", PLAIN, ids=lambda e: e.name)
def test_weights_sum_to_one_and_nodes_lie_on_the_paths(estimator, total):
    points = estimate(estimator, total)
    assert points.weights.sum() == pytest.approx(1)
    assert ((points.nodes >= 0) & (points.nodes <= 1)).all()
    assert set(points.which) <= set(range(K))
    assert points.gradients <= total + 1


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: e.name)
def test_a_constant_integrand_is_exact(estimator):
    constant = analytic(lambda k, a: np.tile([1.0, -3.0], (len(a), 1)), lambda k, a: -2 * a, 20)
    assert constant.error(estimate(estimator, 20, constant)) < 1e-6


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_integrand_is_exact(name):
    linear = analytic(lambda k, a: np.stack([1 + k * a, 2 - a], axis=1))
    assert linear.error(estimate(BY_NAME[name], 20, linear)) < 1e-12


@pytest.mark.parametrize("name, order", [("midpoint", -2), ("trapezoid, end at x", -2), ("midpoint, end at x", -2)])
def test_order_of_a_rule(name, order):
    points = [estimate(BY_NAME[name], total) for total in (40, 80, 160, 320)]
    slope = convergence.fitted_slope(
        np.array([p.gradients for p in points]), np.array([SMOOTH.error(p) for p in points])
    )
    assert slope == pytest.approx(order, abs=0.15)


def test_gauss_legendre_is_exponential():
    found = [SMOOTH.error(estimate(BY_NAME["Gauss-Legendre"], K * n)) for n in (2, 4, 8)]
    assert found[1] < found[0] / 50
    assert found[2] < 1e-9


def test_rates_of_random_points():
    totals = (32, 128, 512)

    def slope(estimator):
        found = [np.mean([SMOOTH.error(estimate(estimator, t, seed=s)) for s in range(40)]) for t in totals]
        return convergence.fitted_slope(np.array(totals, dtype=float), np.array(found))

    assert slope(MONTE_CARLO) == pytest.approx(-0.5, abs=0.15)
    assert slope(BY_NAME["stratified"]) == pytest.approx(-1.5, abs=0.2)


def test_slope_leaves_out_rounding_errors():
    assert convergence.fitted_slope(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.25, 1e-16])) == pytest.approx(-2)
    assert np.isnan(convergence.fitted_slope(np.array([1.0]), np.array([1.0])))


def test_voronoi_weights_in_any_order():
    assert estimators.voronoi_weights(np.array([0.8, 0.2, 0.4])) == pytest.approx([0.4, 0.3, 0.3])


def test_the_end_at_x_counts_once():
    assert estimate(BY_NAME["midpoint, end at x"], 20).gradients == 21
    assert estimate(TWO_STAGE, 40).gradients == 41
    for total in (19, 20, 21, 22):
        assert estimate(STAGGERED_END, total).gradients == total


def test_forwards_are_charged():
    points = estimate(BY_NAME["complete cells"], 29)
    assert points.forwards == len(points.nodes) + 1
    assert points.gradients == pytest.approx(len(points.nodes) + estimators.FORWARD * points.forwards)
    assert points.gradients <= 29


def test_two_stage_goes_where_the_integrand_changes():
    bend = analytic(lambda k, a: np.stack([np.tanh(40 * (a - 0.31 - 0.07 * k)), np.ones(len(a))], axis=1))
    points = estimate(TWO_STAGE, 16 * K, bend)
    near = np.abs(points.nodes - 0.31 - 0.07 * points.which) < 0.1
    assert near.mean() > 0.4
    assert bend.error(points) < bend.error(estimate(MIDPOINT, 16 * K, bend))


def test_two_stage_of_few_points_is_one_stage():
    few = estimate(TWO_STAGE, 5 * K)
    one = estimate(BY_NAME["midpoint, end at x"], 5 * K)
    assert np.array_equal(few.nodes, one.nodes)
    assert np.array_equal(few.weights, one.weights)


def test_staggered_points_form_one_grid():
    nodes = np.sort(estimate(BY_NAME["staggered"], 3 * K).nodes)
    assert nodes == pytest.approx((np.arange(3 * K) + 0.5) / (3 * K))


def tabulated(steps):
    return Tabulated.of(lambda k, a: torch.from_numpy(smooth(k, a)), K, steps)


def test_tabulated_equals_exact_on_the_grid():
    steps = 60
    table, exact = tabulated(steps), analytic(smooth)
    exact.reference = table.reference
    for total in (5 * K, 7 * K):
        points = estimate(MIDPOINT, total)
        snapped = (table.cells(points.nodes) + 0.5) / steps
        on_grid = estimators.Points(points.which, snapped, points.weights)
        assert table.error(points) == pytest.approx(exact.error(on_grid), rel=1e-6)
        assert table.distances(1, snapped[:4]) == pytest.approx(exact.distances(1, snapped[:4]))
        assert table.slopes(1, snapped[:4]) == pytest.approx(exact.slopes(1, snapped[:4]))


def test_tabulated_increments_approach_those_of_the_output():
    edges = np.array([0.0, 0.25, 0.9, 1.0])
    assert tabulated(400).increments(2, edges) == pytest.approx(np.diff(smooth_primitive(2, edges)), rel=1e-4)


def test_snapping_moves_a_node_by_half_a_cell_at_most():
    table = tabulated(50)
    nodes = np.random.default_rng(0).random(200)
    assert np.abs((table.cells(nodes) + 0.5) / 50 - nodes).max() <= 0.01 + 1e-12
    assert table.cells(np.array([0.0, 1.0])).tolist() == [0, 49]


def test_all_midpoints_of_the_grid_have_no_error():
    assert tabulated(30).error(estimate(MIDPOINT, 30 * K)) < 1e-7


@pytest.mark.parametrize("problem", [SMOOTH, tabulated(150)], ids=["exact", "tabulated"])
def test_best_weights_bound_their_points(problem):
    bound = problem.error(estimate(BY_NAME["best weights, midpoints"], 12, problem))
    for name in ("midpoint", "spline weights", "smooth weights", "complete maps", "complete cells"):
        assert bound <= problem.error(estimate(BY_NAME[name], 12, problem)) + 1e-9


def test_along_paths_gives_products_that_sum_to_the_output(tiny_model, tiny_batch, references):
    x = torch.from_numpy(tiny_batch[0][0]).double()
    model = tiny_model.double()
    products, outputs = along_paths(lambda z: model(z)[:, 3], x, references.double(), rows=7)
    nodes = estimators.midpoints(500)
    change = outputs(1, np.array([0.0, 1.0])).diff().item()
    assert products(1, nodes).shape == (500, x.numel())
    assert products(1, nodes).mean(0).sum().item() == pytest.approx(change, abs=1e-4)


@pytest.fixture
def problem(tiny_model, tiny_batch, references):
    x, y = tiny_batch
    return Problem("tiny", tiny_model, torch.from_numpy(x[:2]), torch.from_numpy(y[:2]), references, steps=20)


def measured(problem, peers=False, totals=(8, 16)):
    with tqdm(disable=True) as bar:
        return convergence.measure(problem, ESTIMATORS, totals, 0, 2, peers, bar)


def test_measure_gives_a_row_per_image_estimator_and_budget(problem):
    rows = measured(problem)
    assert len(rows[rows["estimator"] == "midpoint"]) == 4
    assert (rows["error"] >= 0).all()
    pd.testing.assert_frame_equal(rows, measured(problem))


def test_peers_come_closer_with_more_samples(problem):
    pytest.importorskip("shap")
    rows = measured(problem, peers=True, totals=(8, 500))
    for name in ("Captum GradientShap", "shap GradientExplainer"):
        of = rows[rows["estimator"] == name].groupby("budget")["error"].median()
        assert of[500] < 0.2
        assert of[500] < of[8]


def test_summary_compares_with_the_midpoint_rule(problem):
    table = convergence.summary(measured(problem)).set_index(["estimator", "budget"])
    assert table.loc[("midpoint", 8), "to_midpoint"] == 1
    assert table.loc[("trapezoid", 8), "to_midpoint"] == pytest.approx(
        table.loc[("trapezoid", 8), "error"] / table.loc[("midpoint", 8), "error"]
    )
    assert table.loc[("Monte-Carlo", 16), "to_monte_carlo"] == 1


def test_command_writes_its_files(tmp_path, capsys):
    arguments = ["--model", "smooth", "--images", "1", "--baselines", "2", "--reference-steps", "40", "--repeats", "1"]
    assert convergence.main([*arguments, "--gradients", "8", "16", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "two-stage, end at x" in printed
    assert "the smallest error is that of" in printed
    assert {p.name for p in tmp_path.iterdir()} == {
        "convergence.csv",
        "convergence.md",
        "convergence.png",
        "errors.csv",
    }
    assert {"estimator", "gradients", "error", "slope"} <= set(pd.read_csv(tmp_path / "convergence.csv").columns)


def test_command_says_what_is_missing(tmp_path, capsys):
    assert convergence.main(["--model", "resnet18", "--data", "cifar10", "--out", str(tmp_path)]) == 2
    assert "--root" in capsys.readouterr().err


def test_map_error_is_relative():
    assert map_error(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx(1)


def test_partials_of_the_two_stage_rule_keep_their_points():
    other = partial(estimators.two_stage, weigh=estimators.voronoi_weights)
    a, b = other(SMOOTH, 40, np.random.default_rng(0)), estimate(TWO_STAGE, 40)
    assert np.array_equal(a.nodes, b.nodes)
    assert not np.array_equal(a.weights, b.weights)
