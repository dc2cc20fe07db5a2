import numpy as np
import pytest
import torch

from benchmarks.quadrature.estimators import MIDPOINT, Points
from benchmarks.quadrature.integrands import Exact, Tabulated, along_paths, map_error

K = 4


def smooth(k, a):
    return np.stack([np.exp((1 + k) * a / 2), np.sin(3 * a + k), 1 / (1 + a + k)], axis=1)


def at(k, nodes):
    return torch.from_numpy(smooth(k, nodes))


def midpoints(total, problem):
    return MIDPOINT.estimate(problem, total, np.random.default_rng(0))


def test_tabulated_equals_exact_on_the_grid():
    steps = 60
    table, exact = Tabulated(at, K, steps), Exact(at, K, 2000)
    exact.reference = table.reference
    for total in (5 * K, 7 * K):
        points = midpoints(total, exact)
        snapped = (table.cells(points.nodes) + 0.5) / steps
        on_grid = Points(points.which, snapped, points.weights)
        assert table.error(points) == pytest.approx(exact.error(on_grid), rel=1e-6)
        assert table.distances(1, snapped[:4]) == pytest.approx(exact.distances(1, snapped[:4]))


def test_snapping_moves_a_node_by_half_a_cell_at_most():
    table = Tabulated(at, K, 50)
    nodes = np.random.default_rng(0).random(200)
    assert np.abs((table.cells(nodes) + 0.5) / 50 - nodes).max() <= 0.01 + 1e-12
    assert table.cells(np.array([0.0, 1.0])).tolist() == [0, 49]


def test_all_midpoints_of_the_grid_have_no_error():
    table = Tabulated(at, K, 30)
    assert table.error(midpoints(30 * K, table)) < 1e-7


def test_along_paths_gives_products_that_sum_to_the_output(tiny_model, tiny_batch, references):
    x = torch.from_numpy(tiny_batch[0][0]).double()
    model = tiny_model.double()
    products = along_paths(lambda z: model(z)[:, 3], x, references.double(), rows=7)
    found = products(1, (np.arange(500) + 0.5) / 500)
    change = (model(x[None]) - model(references[1:].double()))[0, 3].item()
    assert found.shape == (500, x.numel())
    assert found.mean(0).sum().item() == pytest.approx(change, abs=1e-4)


def test_map_error_is_relative():
    assert map_error(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 0.0])) == pytest.approx(1)
