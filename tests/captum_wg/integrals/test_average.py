"""The reducer: what any rule yields is averaged over all paths, or for each path by itself."""

from __future__ import annotations

import pytest
import torch

from captum_wg import Automatic
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.integrals.adaptive import Adaptive
from captum_wg.integrals.average import average, integrals, whole_paths
from captum_wg.integrals.fixed import Fixed
from captum_wg.integrals.nodes import METHODS, nodes_and_weights
from captum_wg.integrals.random import Random, Staggered
from captum_wg.integrals.rule import Part

# That a tolerance is not met is meant here.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore:for examples .* the convergence delta")


def f(a, b):
    return a.pow(3).sum(1) + (b.flatten(1).sum(1) * a[:, 0]).exp()


@pytest.fixture
def given(draw):
    """A tuple of inputs, the baselines of each element, and what makes a problem of them in micro-batches."""
    x, starts = (draw(3, 2), draw(3, 2, 2, seed=1) / 4), (draw(5, 2, seed=2), draw(5, 2, 2, seed=3) / 4)

    def make(rows=None, own=False):
        given = tuple(s.expand(3, *s.shape) for s in starts) if own else starts
        problem = Problem(f, input_gradients, x, internal_batch_size=rows)
        references = format_baselines(given, problem.inputs, is_tuple=True)
        return problem, references, Completeness(problem, references)

    return x, starts, make


def literal(x, starts, nodes, weights):
    """The integral of each path, one gradient at a time, (B, K, *feature) for each element."""
    result = tuple(torch.zeros(3, 5, *v.shape[1:], dtype=v.dtype) for v in x)
    for b in range(3):
        for k in range(5):
            for a, w in zip(nodes, weights, strict=True):
                at = [(s[k] + a * (v[b] - s[k])).unsqueeze(0).requires_grad_() for v, s in zip(x, starts, strict=True)]
                for total, gradient in zip(result, torch.autograd.grad(f(*at).sum(), at), strict=True):
                    total[b, k] += w * gradient[0]
    return result


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("rows", [1, 4, 7, None])
@pytest.mark.parametrize("method", METHODS)
def test_integrals_and_their_mean_of_a_fixed_rule(given, method, rows, own):
    x, starts, make = given
    expected = literal(x, starts, *nodes_and_weights(method, 4))
    problem, references, completeness = make(rows, own)
    sums, steps = integrals(problem, Fixed(method, 4).parts(problem, references, completeness, each=True), 5)
    torch.testing.assert_close(sums, expected)
    assert steps is None
    for multiply in (True, False):
        parts = Fixed(method, 4).parts(problem, references, completeness)
        totals, steps = average(problem, parts, multiply, 5)
        maps = [e * (v.unsqueeze(1) - s if multiply else 1) for e, v, s in zip(expected, x, starts, strict=True)]
        torch.testing.assert_close(totals, tuple(m.mean(1) for m in maps))
        assert steps is None


RULES = {
    "staggered": Staggered(16, 3),  # three points on each path, and x
    "adaptive": Adaptive(9),
    "automatic": Automatic(1e-9, 17),
}


@pytest.mark.parametrize("rows", [1, 4, 7, None])
@pytest.mark.parametrize("name", RULES)
def test_the_average_is_the_mean_of_the_integrals(given, name, rows):
    x, starts, make = given
    problem, references, completeness = make(rows)
    sums, of_each = integrals(problem, RULES[name].parts(problem, references, completeness, each=True), 5)
    totals, steps = average(problem, RULES[name].parts(problem, references, completeness, each=True), True, 5)
    for total, own, v, s in zip(totals, sums, x, starts, strict=True):
        torch.testing.assert_close(total, (own * (v.unsqueeze(1) - s)).mean(1))
    if name == "automatic":
        assert of_each.tolist() == steps.tolist() and of_each.shape == (3, 5) and of_each.dtype == torch.int64
    else:
        assert of_each is None and steps is None


def test_random_points_are_averaged_as_they_come(given):
    x, starts, make = given
    problem, references, completeness = make(4)
    rule = Random(11, generator=1)
    paths = rule.paths(problem.inputs, references)
    totals, _ = average(problem, rule.parts(problem, references, completeness), True, 5)
    expected = tuple(torch.zeros_like(v) for v in x)
    for which, a in zip(paths.which, paths.nodes, strict=True):
        at = [(s[which] + a * (v - s[which])).requires_grad_() for v, s in zip(x, starts, strict=True)]
        for total, gradient, v, s in zip(expected, torch.autograd.grad(f(*at).sum(), at), x, starts, strict=True):
            total += gradient * (v - s[which]) / 11
    torch.testing.assert_close(totals, expected)


def test_integrals_are_added_to_what_is_there(given):
    problem, references, completeness = given[-1]()
    rule = Fixed("riemann_right", 3)
    alone, _ = integrals(problem, rule.parts(problem, references, completeness), 5)
    before = tuple(torch.ones_like(s) for s in alone)
    both, _ = integrals(problem, rule.parts(problem, references, completeness), 5, into=before)
    assert all(b is s for b, s in zip(both, before, strict=True))
    torch.testing.assert_close(both, tuple(s + 1 for s in alone))


def test_whole_paths_count_their_weights(given, draw):
    x, starts, make = given
    problem, references, _ = make()
    sums = (draw(3, 5, 2, seed=4), draw(3, 5, 2, 2, seed=5))
    weights = draw(3, 5, seed=6).softmax(1)
    totals, _ = average(problem, whole_paths(problem, references, sums, weights), True, 5)
    for total, own, v, s in zip(totals, sums, x, starts, strict=True):
        maps = own * (v.unsqueeze(1) - s)
        shares = weights.view(3, 5, *(1,) * (maps.ndim - 2))
        torch.testing.assert_close(total, (shares * maps).sum(1))


def test_sums_are_kept_in_float32_where_gradients_are_narrower():
    x = torch.ones(1, 2, dtype=torch.bfloat16)
    problem = Problem(lambda p: p.sum(1), input_gradients, x)
    ones, zeros = torch.ones(1, 1, 2, dtype=torch.bfloat16), torch.zeros(1, 1, 2)
    # 1000 parts of 1 + 2^-9 would be lost beside a sum in bfloat16.
    part = Part(slice(0, 1), torch.tensor([0]), torch.full((1,), 1 + 2**-9), (ones,), (zeros + 1,))
    totals, _ = average(problem, [part] * 1000, True, 1)
    assert totals[0].dtype == torch.float32
    torch.testing.assert_close(totals[0], torch.full((1, 2), 1000 * (1 + 2**-9)))
