"""What a removal is followed by: the explained output, or its distance from the baselines'."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from captum.attr import IntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_wg import Both, Deletion, Insertion, LayerWeightedGradients, OverBaselines, WeightedGradients
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.weighting.score import Score


def reference(function, x, output="auto", **kwargs):
    score = Score(Problem(function, input_gradients, x, **kwargs), output)
    return score.at_inputs, score


@pytest.mark.parametrize("rows", [1, 2, None])
def test_f_is_the_explained_one_of_the_models_scores(draw, rows):
    x, target = draw(3, 4), [0, 3, 1]
    scores, score = reference(lambda x: x, x, target=target, internal_batch_size=rows)
    torch.testing.assert_close(scores, x.softmax(1)[range(3), target])
    torch.testing.assert_close(score(2 * x, torch.arange(3)), (2 * x).softmax(1)[range(3), target])


@pytest.mark.parametrize("rows", [1, None])
def test_f_of_probabilities_and_of_one_column_is_the_output(draw, rows):
    x = draw(3, 4).softmax(1)
    assert torch.equal(reference(lambda x: x, x, target=2, internal_batch_size=rows)[0], x[:, 2])
    for f in (lambda x: 5 * x[:, 0], lambda x: 5 * x[:, :1]):
        assert torch.equal(reference(f, x, internal_batch_size=rows)[0], 5 * x[:, 0])
    assert torch.equal(reference(lambda x: 5 * x[:, :1], x, target=0)[0], 5 * x[:, 0])


def test_no_examples_f_depends_on_its_company():
    x = torch.tensor([[0.2, 0.8], [2.0, 1.0], [0.5, 0.5]], dtype=torch.float64)
    whole, _ = reference(lambda x: x, x, target=0)
    torch.testing.assert_close(whole, torch.stack([x[0, 0], x[1].softmax(0)[0], x[2, 0]]))
    for b in range(3):
        assert torch.equal(reference(lambda x: x, x[b : b + 1], target=0)[0], whole[b : b + 1])


def test_f_by_name_and_by_callable(draw):
    x = draw(3, 4).abs()
    assert torch.equal(reference(lambda x: x, x, "identity", target=1)[0], x[:, 1])
    torch.testing.assert_close(reference(lambda x: x, x, torch.exp, target=1)[0], x[:, 1].exp())
    # A callable may choose by itself.
    torch.testing.assert_close(reference(lambda x: x, x, lambda o: o.sum(1), target=1)[0], x.sum(1))
    cube = draw(3, 4, 2).abs()
    found = [reference(lambda x: x, cube, output, target=(1, 0))[0] for output in ("identity", "softmax")]
    torch.testing.assert_close(found, [cube[:, 1, 0], cube.softmax(1)[:, 1, 0]])


def test_half_precision_scores_are_float32():
    scores, _ = reference(lambda x: x, torch.full((2, 4), 3.0, dtype=torch.bfloat16), target=1)
    assert scores.dtype == torch.float32 and scores.tolist() == [0.25, 0.25]


def test_an_output_that_is_not_positive_names_the_examples_and_the_ways_out():
    x = torch.tensor([[1.0], [-2.0], [0.0], [math.pi]])
    with pytest.warns(
        UserWarning, match=r"examples 1, 2 is not positive \(-2, 0;.*Deletion\(output='softmax'\).*\(score='distance'\)"
    ):
        scores, _ = reference(lambda x: x.sum(1), x)
    # Of these nothing is searched.
    torch.testing.assert_close(scores, torch.tensor([1.0, 0, 0, math.pi]))
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match=r"f\(x\) is NaN or infinite for examples 0; check the model"):
            reference(lambda x, bad=bad: x.sum(1) * bad, x[:1])


def test_an_output_callable_that_returns_no_tensor(draw):
    with pytest.raises(TypeError, match="must return a Tensor, got list"):
        reference(lambda x: x, draw(2, 3), lambda o: o.tolist(), target=0)


# --- the distance from the baselines' outputs


def distance(function, x, references, **kwargs):
    problem = Problem(function, input_gradients, x)
    problem.baselines = format_baselines(references, problem.inputs, pairing="shared")
    return Score(problem, score="distance", **kwargs)


@pytest.mark.parametrize("own", [False, True])
def test_the_distance_is_from_the_mean_output_at_the_examples_baselines(draw, own):
    x, references = draw(3, 4), draw(3, 5, 4, seed=1) if own else draw(5, 4, seed=1)
    f = lambda z: z.sum(1).exp() - 3  # noqa: E731
    score = distance(f, x, references)
    centre = torch.stack([f(references[b] if own else references).mean() for b in range(3)])
    torch.testing.assert_close(score.at_inputs, (f(x) - centre).abs())
    torch.testing.assert_close(score.sign, (f(x) - centre).sign())
    # Beyond the mean it goes on falling.
    rows, examples = draw(6, 4, seed=2).abs(), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = (f(rows) - centre[examples]) * (f(x) - centre).sign()[examples]
    torch.testing.assert_close(score(f(rows), examples), expected)
    assert (expected < 0).any()


def test_the_distance_is_of_f_not_of_the_models_output(draw):
    x, references = draw(3, 4), draw(5, 4, seed=1)
    problem = Problem(lambda z: z, input_gradients, x, target=2)
    problem.baselines = format_baselines(references, problem.inputs)
    found = Score(problem, "softmax", "distance").at_inputs
    torch.testing.assert_close(found, (x.softmax(1)[:, 2] - references.softmax(1)[:, 2].mean()).abs())


def test_what_has_no_distance():
    x = torch.tensor([[1.0], [2.0]])
    with pytest.warns(UserWarning, match=r"f\(x\) of examples 1 is the mean of f at their baselines"):
        assert distance(lambda z: z.sum(1), x, torch.tensor([[1.0], [3.0]])).at_inputs[1] == 0
    with pytest.raises(ValueError, match="score='distance' is from the outputs at the call's baselines"):
        Score(Problem(lambda z: z.sum(1), input_gradients, x), score="distance")
    with pytest.raises(ValueError, match=r"E f\(x'_k\) is NaN or infinite for examples 0, 1"):
        distance(lambda z: (z.sum(1) - 1.5).log(), x + 1, torch.tensor([[0.0]]))
    with pytest.raises(ValueError, match="score must be one of"):
        Deletion(score="closeness")


# --- weights by it, of linear functions, whose answer is known


def least(gains, total, alpha):
    """How many of the largest gains it takes to lose all but alpha of the total; all, if they never do."""
    lost = 0.0
    for count, gain in enumerate(gains, start=1):
        lost += gain
        if total - lost <= alpha * total + 1e-12:
            return count
    return len(gains)


@given(st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_of_a_linear_function_d_alpha_is_known(seed):
    """The map is w (x - x'), what a removal takes is w x of it: count down the sorted list."""
    generator = torch.Generator().manual_seed(seed)
    w, x, references = (torch.randn(*s, generator=generator, dtype=torch.float64) for s in [(6,), (3, 6), (4, 6)])
    offset = 10 * float(torch.randn((), generator=generator))
    f = lambda z: z @ w + offset  # noqa: E731
    rule = Deletion(score="distance", tolerance=0.0, neutral=0.3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = WeightedGradients(f).fitness(x, references, n_steps=1, weighting=rule)
    exact = torch.zeros(3, 4, dtype=torch.int64)
    monotone = torch.ones(3, 4, dtype=torch.bool)
    for b in range(3):
        away = float(f(x[b : b + 1]) - f(references).mean())
        sign = math.copysign(1.0, away)
        for k in range(4):
            order = (-sign * w * (x[b] - references[k])).argsort(stable=True)
            gains = (sign * w * (x[b] - 0.3))[order].tolist()
            exact[b, k] = least(gains, abs(away), 0.5)
            below = [abs(away) - sum(gains[:n]) <= 0.5 * abs(away) for n in range(1, 7)]
            monotone[b, k] = below == sorted(below)  # else a bisection may find another crossing
    assert torch.equal(found[monotone], exact[monotone])


@pytest.mark.parametrize("kind", [Deletion, Insertion, Both])
@pytest.mark.parametrize(("factor", "offset"), [(1.0, -50.0), (-1.0, 0.0), (-2.0, 7.0)])
def test_the_distance_knows_no_zero_and_no_direction(kind, factor, offset, make_net, draw):
    """f and a f + b have the same fitness, where "output" would have none."""
    net, x, references = make_net(6), draw(3, 6), draw(5, 6, seed=1)
    f = lambda z: 8 * net(z)[:, 1]  # noqa: E731
    rule = kind(score="distance")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for examples .* distance from the baselines' outputs")
        plain = WeightedGradients(f).fitness(x, references, weighting=rule)
        moved = WeightedGradients(lambda z: factor * f(z) + offset).fitness(x, references, weighting=rule)
    torch.testing.assert_close(moved, plain)
    assert len(plain.unique()) > 2


def test_kept_baselines_are_judged_from_the_mean_of_all(draw, record):
    """Screening changes which are left, not what the distance is from."""
    w, x, references = draw(6, seed=3), draw(2, 6), draw(5, 6, seed=1)
    method = WeightedGradients(lambda z: z @ w - 20)
    rule = Deletion(score="distance", alpha=0.8)
    arguments = {"n_steps": 2, "keep": 2, "weighting": rule, "return_weights": True}
    whole = method.attribute(x, references, **arguments)
    screened = method.attribute(x, references, screening_steps=1, **arguments)
    torch.testing.assert_close(screened.weights, whole.weights)
    torch.testing.assert_close(screened.attributions, whole.attributions)


@pytest.mark.filterwarnings("ignore:for examples .* distance from the baselines' outputs")
def test_at_a_layer_baselines_are_their_activations(draw):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x, references = draw(2, 4), draw(3, 4, seed=1)
    rule = Deletion(score="distance", neutral=0.0)
    found = LayerWeightedGradients(net, net[1]).fitness(x, references, weighting=rule)
    expected = WeightedGradients(net[2]).fitness(net[:2](x).detach(), net[:2](references).detach(), weighting=rule)
    assert torch.equal(found, expected)


def test_over_another_method(draw):
    w, x, references = draw(6, seed=3), draw(2, 6), draw(5, 6, seed=1)
    f, rule = lambda z: z @ w - 20, Deletion(score="distance", alpha=0.8)
    found = OverBaselines(IntegratedGradients(f), rule).attribute(x, references, return_weights=True)
    expected = WeightedGradients(f).attribute(x, references, weighting=rule, return_weights=True)
    torch.testing.assert_close(found.weights, expected.weights)
    assert len(found.weights.unique()) > 1
