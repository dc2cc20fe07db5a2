from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from captum_wg import Deletion, ExpectedGradients, WeightedGradients
from captum_wg.integrals import adaptive
from captum_wg.integrals.adaptive import greedy, smooth_weights
from captum_wg.integrals.nodes import nodes_and_weights

# References are taken with many thousand points.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore:.* gradients an example:UserWarning")


def kinked(x):
    """Zero at zero and rising from there, with kinks differently far along each path."""
    x = x.flatten(1)
    scale = torch.linspace(0.5, 2, x.shape[1], dtype=x.dtype)
    far = (x.sum(1, keepdim=True) - torch.linspace(1, 3, 5, dtype=x.dtype)).relu().sum(1)
    return (scale * x).relu().sum(1) + 3 * (x - 0.7).relu().sum(1) + 4 * far


@pytest.fixture
def given(draw):
    return draw(3, 6).abs() + 0.5, draw(4, 6, seed=1)


def gradient_at(f, point):
    point = point.unsqueeze(0).requires_grad_()
    return torch.autograd.grad(f(point).sum(), point)[0][0]


def literal(f, x, references, n_steps):
    """Mean gradients (K, *feature) of one example by the definition, one by one, and how many gradients it takes."""
    inner = n_steps - 1
    first = min(inner, max(6, round(0.6 * inner)))
    start = [(j + 0.5) / (first + 0.5) for j in range(first)] + [1.0]
    grads = [[gradient_at(f, r + a * (x - r)) for a in start] for r in references]
    nodes = [list(start) for _ in references]
    if first < inner:
        squares = [
            [float((((b - a) * (x - r)) ** 2).sum()) for a, b in pairwise(g)]
            for g, r in zip(grads, references, strict=True)
        ]
        mean = sum(map(sum, squares)) / (len(references) * first)
        pieces = []  # what is left with c more nodes in it
        for k, own in enumerate(squares):
            own = [0.8 * s + 0.2 * mean for s in own]
            h = start[1] - start[0]
            pieces.append((k, None, lambda c, s=own[0], h=h: s / h * start[0] ** 3 / 3 / (2 * c + 1) ** 2))
            for j, s in enumerate(own):
                width = start[j + 1] - start[j]
                pieces.append((k, j, lambda c, s=s, w=width: s * w**2 / 12 / (c + 1) ** 2))
        counts = [0] * len(pieces)
        for _ in range(len(references) * (inner - first)):
            gains = [left(c) - left(c + 1) for (_, _, left), c in zip(pieces, counts, strict=True)]
            counts[gains.index(max(gains))] += 1
        for (k, j, _), c in zip(pieces, counts, strict=True):
            if j is None:
                nodes[k] += [start[0] * (2 * t + 1) / (2 * c + 1) for t in range(c)]
            else:
                nodes[k] += [start[j] + (t + 1) / (c + 1) * (start[j + 1] - start[j]) for t in range(c)]
    result = []
    for r, own in zip(references, nodes, strict=True):
        own = sorted(own)
        weights = nodes_and_weights("riemann_shared_end", n_steps)[1] if first == inner else smooth_weights(own)
        result.append(sum(w * gradient_at(f, r + a * (x - r)) for a, w in zip(own, weights, strict=True)))
    return torch.stack(result), sum(map(len, nodes)) - len(references) + 1


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("n_steps", [1, 2, 7, 8, 15, 30])
def test_expected_gradients_are_the_definition(given, record, n_steps, multiply):
    x, references = given
    f = record(kinked)
    found, delta = ExpectedGradients(f, multiply).attribute(
        x, references, n_steps=n_steps, method="adaptive", return_convergence_delta=True
    )
    means, counts = zip(*(literal(kinked, one, references, n_steps) for one in x), strict=True)
    assert sum(f.graded) == sum(counts) == 3 * (4 * (n_steps - 1) + 1)
    maps = torch.stack(means) * (x.unsqueeze(1) - references if multiply else 1)
    torch.testing.assert_close(found, maps.mean(1))
    change = kinked(x) - kinked(references).mean()
    torch.testing.assert_close(delta, maps.mean(1).sum(1) - change)


def test_points_go_where_the_gradient_changes(draw):
    x, references = torch.ones(1, 1).double(), torch.zeros(3, 1).double()
    seen = []

    def bend(p):
        seen.extend(p[:, 0].tolist())
        return (40 * (p[:, 0] - 0.31)).tanh()

    ExpectedGradients(bend).attribute(x, references, n_steps=20, method="adaptive")
    assert sum(abs(a - 0.31) < 0.1 for a in seen) > 0.4 * len(seen)


def test_less_error_than_equal_steps_on_kinks(draw):
    method = ExpectedGradients(kinked)
    errors = dict.fromkeys(("adaptive", "riemann_shared_end", "riemann_middle", "gausslegendre"), 0.0)
    for seed in range(6):
        x, references = draw(3, 6, seed=seed).abs() + 0.5, draw(4, 6, seed=10 + seed)
        exact = method.attribute(x, references, n_steps=3000, method="riemann_middle")
        for rule in errors:
            found = method.attribute(x, references, n_steps=40, method=rule)
            errors[rule] += float((found - exact).norm())
    assert errors["adaptive"] < 0.9 * min(e for rule, e in errors.items() if rule != "adaptive"), errors


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"keep": 2}, {"keep": 2, "screening_steps": 3}, {"weighting": "equal"}, {"weighting": Deletion(power=0)}],
)
def test_weighted_gradients_weigh_these_maps(given, kwargs):
    x, references = given
    method = WeightedGradients(kinked)
    found, delta, weights = method.attribute(
        x, references, n_steps=15, method="adaptive", return_convergence_delta=True, return_weights=True, **kwargs
    )
    kept = [references[w > 0] for w in weights]
    expected = torch.zeros_like(x)
    for b in range(3):
        # The pool of candidates is that of the baselines whose maps are taken.
        among = kept[b] if "screening_steps" in kwargs else references
        maps = literal(kinked, x[b], among, 15)[0] * (x[b] - among)
        own = weights[b][weights[b] > 0] if "screening_steps" in kwargs else weights[b]
        expected[b] = (own.unsqueeze(1) * maps).sum(0)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(delta, expected.sum(1) - kinked(x) + (weights * kinked(references)).sum(1))
    if not kwargs:
        distances = method.fitness(x, references, n_steps=15, method="adaptive").double()
        torch.testing.assert_close(weights, (1 / distances) / (1 / distances).sum(1, keepdim=True))


def test_an_example_alone_has_the_map_that_it_has_in_a_batch(given):
    x, references = given
    method, kwargs = ExpectedGradients(kinked), dict(n_steps=20, method="adaptive")
    whole = method.attribute(x, references, **kwargs)
    torch.testing.assert_close(torch.cat([method.attribute(v[None], references, **kwargs) for v in x]), whole)


def test_baselines_beyond_what_may_be_held_are_a_group_of_their_own(given, monkeypatch):
    x, references = given
    method, kwargs = ExpectedGradients(kinked), dict(n_steps=20, method="adaptive")
    monkeypatch.setattr(adaptive, "HELD_BYTES", 2 * 11 * 6 * 8)  # the first rounds of two baselines
    found = method.attribute(x, references, **kwargs)
    halves = [method.attribute(x, r, **kwargs) for r in (references[:2], references[2:])]
    torch.testing.assert_close(found, torch.stack(halves).mean(0))
    monkeypatch.setattr(adaptive, "HELD_BYTES", 1)
    alone = [method.attribute(x, r[None], **kwargs) for r in references]
    torch.testing.assert_close(method.attribute(x, references, **kwargs), torch.stack(alone).mean(0))


def test_tuples_own_baselines_and_arguments(draw):
    def f(a, b, scale):
        return (a.relu().sum(1) + b.square().sum((1, 2))) * scale

    a, b, scale = draw(3, 4), draw(3, 2, 2, seed=1), draw(3, seed=2).abs()
    own = (draw(3, 2, 4, seed=3), draw(3, 2, 2, 2, seed=4))
    kwargs = dict(additional_forward_args=scale)
    found = ExpectedGradients(f).attribute((a, b), own, n_steps=60, method="adaptive", **kwargs)
    fine = ExpectedGradients(f).attribute((a, b), own, n_steps=3000, method="riemann_middle", **kwargs)
    for ours, exact in zip(found, fine, strict=True):
        torch.testing.assert_close(ours, exact, rtol=0, atol=2e-2)


def test_a_linear_function_is_exact(draw):
    x, references = draw(3, 6), draw(4, 6, seed=1)
    found = ExpectedGradients(lambda x: x.sum(1)).attribute(x, references, n_steps=20, method="adaptive")
    torch.testing.assert_close(found, x - references.mean(0))


def test_a_gradient_that_is_not_finite_names_its_example(draw):
    x = draw(3, 4).abs()
    x[1, 0] = 0.0
    with pytest.raises(ValueError, match="the gradient is NaN or infinite for examples 1,"):
        ExpectedGradients(lambda p: p[:, 0].sqrt() + p.sum(1)).attribute(x, 1.0, n_steps=9, method="adaptive")


@pytest.mark.parametrize("n_steps", [0, -2, 1.5, True])
def test_the_number_of_steps_is_checked(given, n_steps):
    x, references = given
    for method in (ExpectedGradients(kinked), WeightedGradients(kinked)):
        with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1"):
            method.attribute(x, references, n_steps=n_steps, method="adaptive")
    with pytest.raises(ValueError, match="n_steps must be a whole number of at least 1"):
        WeightedGradients(kinked).fitness(x, references, n_steps=n_steps, method="adaptive")


# --- where points go, and what they weigh


def test_smooth_weights_solve_their_equations():
    nodes, length, noise = np.array([0.05, 0.3, 0.45, 1.0]), 0.2, 0.01

    def c(r):
        s = np.sqrt(3) * abs(r) / length
        return (1 + s) * np.exp(-s)

    weights = smooth_weights(nodes, length, noise)
    left = [sum(w * c(a - b) for w, b in zip(weights, nodes, strict=True)) for a in nodes] + noise * weights
    right = [quad(lambda u, a=a: c(a - u), 0, 1, points=[a])[0] for a in nodes]
    assert weights.sum() == pytest.approx(1)
    assert np.ptp(left - np.array(right)) < 1e-8  # the same multiplier mu everywhere


def test_smooth_weights_of_equal_cells_are_nearly_equal():
    assert smooth_weights((np.arange(10) + 0.5) / 10) == pytest.approx(np.full(10, 0.1), rel=0.06)


def test_added_nodes_take_away_the_most():
    variances = np.array([[0.0, 9.0, 1.0], [4.0, 0.0, 2.0]])

    def left(added):
        factor = np.array([2, 1, 1])
        return (variances / (factor * added + 1.0) ** 2).sum()

    added = greedy(variances, 4)
    every = [np.reshape(c, (2, 3)) for c in np.ndindex(*(5,) * 6) if sum(c) == 4]
    assert added.sum() == 4
    assert left(added) == pytest.approx(min(left(c) for c in every))
