from __future__ import annotations

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.nodes import METHODS, nodes_and_weights

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def problem(x):
    return Problem(lambda p: p.square().flatten(1).sum(1), input_gradients, x)


@pytest.mark.parametrize("method", METHODS)
def test_every_path_has_the_nodes_and_a_kth_of_the_weights(draw, method):
    x, references = draw(3, 4), draw(2, 4, seed=1)
    nodes, weights = nodes_and_weights(method, 5)
    paths = Fixed(method, 5).paths((x,), format_baselines(references, (x,)))
    shared = nodes[-1] == 1
    inner = 5 - shared
    assert paths.count == 2 * inner + shared and paths.shared_end == shared
    assert paths.which[: 2 * inner].tolist() == [0] * inner + [1] * inner
    assert paths.nodes[: 2 * inner].tolist() == pytest.approx(nodes[:inner].tolist() * 2)
    assert paths.weights[: 2 * inner].tolist() == pytest.approx((weights[:inner] / 2).tolist() * 2)
    if shared:
        # One point for both paths.
        assert paths.nodes[-1] == 1 and float(paths.weights[-1]) == pytest.approx(weights[-1])
    assert float(paths.weights.sum()) == pytest.approx(1)


def test_what_is_missing_is_all_that_is_taken(draw):
    x, references = draw(3, 4), draw(2, 4, seed=1)
    coarse, fine = nodes_and_weights("riemann_middle", 2), nodes_and_weights("riemann_middle", 6)
    sums = (draw(3, 2, 4, seed=2),)
    rule, left = Fixed("riemann_middle", 6).going_on(2, sums)
    paths = rule.paths((x,), format_baselines(references, (x,)))
    missing = [a for a in fine[0] if abs(a - coarse[0]).min() > 1e-9]
    assert paths.nodes.tolist() == pytest.approx(missing * 2)
    assert paths.weights.tolist() == pytest.approx([1 / 12] * 8)
    torch.testing.assert_close(left[0], sums[0] / 3)


def test_a_rule_with_other_points_starts_anew(draw):
    rule = Fixed("gausslegendre", 6)
    assert rule.going_on(2, (draw(3, 2, 4),)) == (rule, None)
    assert rule.coarse(3).quadrature[0].tolist() == nodes_and_weights("gausslegendre", 3)[0].tolist()


def test_nothing_is_missing_where_both_rules_are_the_same(draw):
    x, sums = draw(3, 4), (draw(3, 2, 4, seed=2),)
    rule, left = Fixed("gausslegendre", 6).going_on(6, sums)
    assert list(rule.parts(problem(x), format_baselines(draw(2, 4), (x,)), None)) == []
    torch.testing.assert_close(left[0], sums[0])


def test_steps_are_called_what_the_caller_calls_them():
    with pytest.raises(ValueError, match="screening_steps must be a whole number of at least 1, got 0"):
        Fixed("gausslegendre", 6).coarse(0)
    with pytest.raises(ValueError, match="screening_steps must be at least 2 for method='riemann_trapezoid'"):
        Fixed("riemann_trapezoid", 6).coarse(1)
