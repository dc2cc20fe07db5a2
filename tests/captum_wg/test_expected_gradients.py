from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, IntegratedGradients
from torch import nn

from captum_wg import Automatic, ExpectedGradients
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.integrals.nodes import METHODS, nodes_and_weights
from captum_wg.integrals.random import Staggered

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def literal(f, x, baselines, nodes, weights, multiply=True):
    """The defining double sum, one example, one baseline and one node at a time; baselines (B, K, *feature)."""
    result = torch.zeros_like(x)
    for b in range(len(x)):
        for start in baselines[b]:
            for a, w in zip(nodes, weights, strict=True):
                point = (start + a * (x[b] - start)).requires_grad_()
                (gradient,) = torch.autograd.grad(f(point.unsqueeze(0), b), point)
                result[b] += w * gradient * (x[b] - start if multiply else 1) / len(baselines[b])
    return result


def gauss(n):
    nodes, weights = np.polynomial.legendre.leggauss(n)
    return [(v + 1) / 2 for v in nodes.tolist()], [w / 2 for w in weights.tolist()]


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("feature", [(4,), (2, 3), (3, 2, 2), (1, 2, 2, 2)])
def test_expected_gradients_are_the_double_sum(make_net, draw, feature, own, multiply):
    net = make_net(int(np.prod(feature)))
    x, target = draw(3, *feature), [0, 2, 1]
    references = draw(3, 4, *feature, seed=1) if own else draw(4, *feature, seed=1)
    found = ExpectedGradients(net, multiply).attribute(x, references, target, n_steps=5)
    each = references if own else references.expand(3, 4, *feature)
    expected = literal(lambda p, b: net(p)[0, target[b]], x, each, *gauss(5), multiply)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_inputs_without_features(draw):
    x, references = draw(3), draw(2, seed=1)
    found = ExpectedGradients(lambda x: x**3).attribute(x, references, n_steps=3)
    expected = (x.unsqueeze(1) ** 3 - references**3).mean(1)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("method", [m for m in METHODS if m != "riemann_shared_end"])
def test_one_baseline_is_captums_integrated_gradients(make_net, draw, method, multiply):
    net, x, start = make_net(4), draw(3, 4), draw(1, 4, seed=1)
    ours = ExpectedGradients(net, multiply).attribute(x, start, 1, n_steps=20, method=method)
    captums = IntegratedGradients(net, multiply).attribute(x, start, 1, n_steps=20, method=method)
    if method == "riemann_trapezoid":
        captums = captums * 20 / 19  # Captum's weights sum to 19/20
    torch.testing.assert_close(ours, captums, rtol=1e-5, atol=1e-7)  # Captum's nodes are float32


def test_paired_baselines_and_none_are_captums_integrated_gradients(make_net, draw):
    net, x, starts = make_net(4), draw(3, 4), draw(3, 4, seed=1)
    ours, captums = ExpectedGradients(net), IntegratedGradients(net)
    for found, expected in (
        (ours.attribute(x, starts, 1, pairing="paired"), captums.attribute(x, starts, 1)),
        (ours.attribute(x, starts.unsqueeze(1), 1), captums.attribute(x, starts, 1)),
        (ours.attribute(x, target=1), captums.attribute(x, target=1)),
        (ours.attribute(x, 0.5, target=1), captums.attribute(x, 0.5, target=1)),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_many_baselines_are_the_mean_of_integrated_gradients(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(5, 4, seed=1)
    alone = [ExpectedGradients(net).attribute(x, r[None], 1) for r in references]
    torch.testing.assert_close(ExpectedGradients(net).attribute(x, references, 1), torch.stack(alone).mean(0))


# --- laws


def test_completeness_of_a_polynomial_is_exact(draw):
    f = lambda x: (x.sum(1) ** 5 + (x**3).prod(1)) / 10  # noqa: E731  # degree 15 of 5 features: 8 Gauss nodes
    x, references = draw(4, 5), draw(3, 5, seed=1)
    attributions, delta = ExpectedGradients(f).attribute(x, references, n_steps=8, return_convergence_delta=True)
    gap = attributions.sum(1) - (f(x) - f(references).mean())
    assert delta.shape == (4,) and delta.dtype == torch.float64
    scale = f(x).abs().max() + f(references).abs().max() + 1
    assert gap.abs().max() < 1e-11 * scale and delta.abs().max() < 1e-11 * scale
    torch.testing.assert_close(delta, gap, rtol=0, atol=1e-11 * float(scale))


def test_completeness_of_a_smooth_network(make_net, draw):
    net, x, references = make_net(6), draw(3, 2, 3), draw(4, 2, 3, seed=1)
    _, delta = ExpectedGradients(net).attribute(x, references, [0, 1, 2], n_steps=60, return_convergence_delta=True)
    assert delta.abs().max() < 1e-12


def test_the_delta_says_what_too_few_steps_leave_out(make_net, draw):
    net, x, references = make_net(4), 3 * draw(3, 4), 3 * draw(4, 4, seed=1)
    attributions, delta = ExpectedGradients(net).attribute(x, references, 1, n_steps=2, return_convergence_delta=True)
    expected = attributions.sum(1) - (net(x)[:, 1] - net(references)[:, 1].mean())
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(delta, expected.detach())


def test_the_delta_without_the_product_is_that_of_the_sum_to_the_letter(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(4, 4, seed=1)
    found, delta = ExpectedGradients(net, False).attribute(x, references, 1, n_steps=2, return_convergence_delta=True)
    change = (net(x)[:, 1] - net(references)[:, 1].mean()).detach()
    torch.testing.assert_close(delta, found.sum(1) - change)


def test_linear_in_the_function(make_net, draw):
    f, g, x, references = make_net(4, 1), make_net(4, 1, seed=1), draw(3, 4), draw(2, 4, seed=1)
    whole = ExpectedGradients(lambda x: 2 * f(x) - 3 * g(x)).attribute(x, references)
    parts = [ExpectedGradients(net).attribute(x, references) for net in (f, g)]
    torch.testing.assert_close(whole, 2 * parts[0] - 3 * parts[1])


def test_of_a_linear_function_it_is_weight_times_difference(draw):
    w, x, references = draw(5), draw(3, 5, seed=1), draw(4, 5, seed=2)
    for kwargs in ({"n_steps": 1}, {"n_steps": 7}, {"n_samples": 8}):
        found = ExpectedGradients(lambda x: x @ w + 1).attribute(x, references, **kwargs)
        torch.testing.assert_close(found, w * (x - references.mean(0)), rtol=1e-13, atol=1e-14)


def test_two_implementations_of_one_function_agree(draw):
    x, references = draw(3, 4), draw(2, 4, seed=1)
    first = ExpectedGradients(lambda x: torch.log1p(x.square()).sum(1)).attribute(x, references)
    second = ExpectedGradients(lambda x: (2 * torch.atan2(x, torch.ones_like(x)).cos().log() * -1).sum(1)).attribute(
        x, references
    )
    torch.testing.assert_close(first, second)


def test_unused_features_get_zero(make_net, draw):
    net, x, references = make_net(2), draw(3, 4), draw(2, 4, seed=1)
    found = ExpectedGradients(lambda x: net(x[:, :2])).attribute(x, references, 1)
    assert (found[:, 2:] == 0).all() and (found[:, :2] != 0).all()


def test_the_order_of_baselines_and_examples_changes_nothing(make_net, draw):
    net, x, references, target = make_net(4), draw(3, 4), draw(5, 4, seed=1), torch.tensor([0, 2, 1])
    found = ExpectedGradients(net).attribute(x, references, target)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(ExpectedGradients(net).attribute(x, references[order], target), found)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(ExpectedGradients(net).attribute(x[order], references, target[order]), found[order])


@pytest.mark.parametrize("kwargs", [{}, {"n_samples": 11, "stdevs": 0.2, "generator": 3}], ids=["rule", "random"])
def test_an_example_alone_has_the_map_that_it_has_in_a_batch(make_net, draw, kwargs):
    net, x, references, target = make_net(4), draw(5, 4), draw(3, 4, seed=1), [0, 2, 1, 1, 0]
    method = ExpectedGradients(net)
    whole = method.attribute(x, references, target, **kwargs)
    for b in range(5):
        alone = method.attribute(x[b : b + 1], references, target[b], **kwargs)
        torch.testing.assert_close(alone, whole[b : b + 1], rtol=1e-12, atol=1e-13)


# --- random points


def test_random_points_have_the_expectation_of_the_quadrature(make_net, draw):
    net, x, references = make_net(4), draw(2, 4), draw(5, 4, seed=1)
    exact = ExpectedGradients(net).attribute(x, references, 1)
    seeds = [ExpectedGradients(net).attribute(x, references, 1, n_samples=500, generator=s) for s in range(12)]
    mean, deviation = torch.stack(seeds).mean(0), torch.stack(seeds).std(0)
    assert ((mean - exact).abs() < 5 * deviation / 12**0.5 + 1e-9).all()
    np.random.seed(0)
    captums = GradientShap(net).attribute(x, references, n_samples=4000, stdevs=0.0, target=1)
    torch.testing.assert_close(mean, captums, atol=0.03, rtol=0.1)


def test_the_error_of_random_points_falls_with_their_root(make_net, draw):
    net, x, references = make_net(4), draw(1, 4), draw(4, 4, seed=1)
    exact = ExpectedGradients(net).attribute(x, references, 1)
    counts, errors = (8, 32, 128, 512), []
    for n in counts:
        found = [ExpectedGradients(net).attribute(x, references, 1, n_samples=n, generator=s) for s in range(24)]
        errors.append(float((torch.stack(found) - exact).square().mean().sqrt()))
    slope = np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.35


def test_noise_enters_point_and_difference(draw):
    """Of F = sum x^2 the expectation is x^2 - x'^2 + stdev^2."""
    x, references = draw(1, 3), draw(2, 3, seed=1)
    found = ExpectedGradients(lambda x: x.square().sum(1)).attribute(
        x, references, n_samples=40000, stdevs=0.7, internal_batch_size=20000
    )
    expected = x.square() - references.square().mean(0) + 0.49
    assert (found - expected).abs().max() < 0.06


def test_random_points_do_not_heed_the_rule(make_net, draw):
    net, x, references = make_net(4), draw(2, 4), draw(3, 4, seed=1)
    first = ExpectedGradients(net).attribute(x, references, 1, n_samples=5)
    second = ExpectedGradients(net).attribute(x, references, 1, n_steps=9, method="riemann_left", n_samples=5)
    assert torch.equal(first, second)


def test_random_points_come_from_the_generator_alone(make_net, draw):
    net, x, references = make_net(4), draw(2, 4), draw(3, 4, seed=1)

    def attribute(seed, generator):
        torch.manual_seed(seed)
        np.random.seed(seed)
        return ExpectedGradients(net).attribute(x, references, 1, n_samples=5, stdevs=0.1, generator=generator)

    assert torch.equal(attribute(0, None), attribute(1, None))
    assert torch.equal(attribute(0, 7), attribute(1, torch.Generator().manual_seed(7)))
    assert not torch.equal(attribute(0, 7), attribute(0, 8))


def test_all_examples_share_the_draws(make_net, draw):
    net, references = make_net(4), draw(3, 4, seed=1)
    x = draw(1, 4).expand(3, 4)
    found = ExpectedGradients(net).attribute(x, references, 1, n_samples=7, stdevs=0.1, pairing="shared")
    torch.testing.assert_close(found, found[:1].expand(3, 4), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(("n_samples", "rows"), [(6, 12), (1, 2)])
@pytest.mark.usefixtures("unprobed")
def test_as_many_gradients_as_samples(record, draw, n_samples, rows):
    f = record(lambda x: x.square().sum(1))
    ExpectedGradients(f).attribute(draw(2, 3), draw(5, 3, seed=1), n_samples=n_samples)
    assert (sum(f.graded), sum(f.plain)) == (rows, 0)


# --- tuples, and the baselines of the constructor


def test_tuples_are_one_input_in_parts(make_net, draw):
    net, x, references = make_net(7), draw(3, 7), draw(4, 7, seed=1)
    whole, delta = ExpectedGradients(net).attribute(x, references, 1, return_convergence_delta=True)
    f = lambda a, b: net(torch.cat([a, b.flatten(1)], 1))  # noqa: E731
    split = lambda t: (t[:, :3], t[:, 3:].reshape(-1, 2, 2))  # noqa: E731
    (first, second), delta_of_parts = ExpectedGradients(f).attribute(
        split(x), split(references), 1, return_convergence_delta=True
    )
    torch.testing.assert_close(torch.cat([first, second.flatten(1)], 1), whole)
    torch.testing.assert_close(delta_of_parts, delta)


def test_random_rows_of_a_tuple_stay_together(draw):
    """x y - x' y' is shared out completely only if row k of both is taken at once."""
    f = lambda a, b: (a * b).sum(1)  # noqa: E731
    x, references = (draw(2, 3), draw(2, 3, seed=1)), (draw(5, 3, seed=2), draw(5, 3, seed=3))
    seeds = [
        sum(v.sum(1) for v in ExpectedGradients(f).attribute(x, references, n_samples=500, generator=s))
        for s in range(4)
    ]
    expected = f(*x) - f(*references).mean()
    assert (torch.stack(seeds).mean(0) - expected).abs().max() < 0.15


def test_the_constructors_baselines_serve_where_none_are_given(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(5, 4, seed=1)
    bound = ExpectedGradients(net, baselines=references)
    given = ExpectedGradients(net).attribute(x, references, 1)
    assert torch.equal(bound.attribute(x, target=1), given)
    assert torch.equal(bound.attribute(x, 0.0, target=1), ExpectedGradients(net).attribute(x, target=1))
    called = ExpectedGradients(net, baselines=lambda x: references.to(x))
    assert torch.equal(called.attribute(x, target=1), given)


# --- one gradient at the input for all baselines


@pytest.mark.parametrize("method", ["riemann_right", "riemann_trapezoid", "riemann_shared_end"])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.usefixtures("unprobed")
def test_a_shared_end_is_the_double_sum_for_one_gradient(make_net, draw, record, method, own):
    net = make_net(4)
    x, references = draw(3, 4), draw(3, 5, 4, seed=1) if own else draw(5, 4, seed=1)
    f = record(lambda p: net(p)[:, 1])
    found, delta = ExpectedGradients(f).attribute(
        x, references, n_steps=6, method=method, return_convergence_delta=True
    )
    assert sum(f.graded) == 3 * (5 * 5 + 1)
    assert sum(f.plain) == (15 if own else 5) + 3
    each = references if own else references.expand(3, 5, 4)
    expected = literal(lambda p, b: net(p)[0, 1], x, each, *nodes_and_weights(method, 6))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    change = net(x)[:, 1] - net(each.reshape(-1, 4))[:, 1].view(3, 5).mean(1)
    torch.testing.assert_close(delta, expected.sum(1) - change)


@pytest.mark.parametrize(
    "kwargs", [{"n_steps": 1, "method": "riemann_shared_end"}, {"n_samples": 4, "sampling": "staggered"}]
)
def test_a_shared_end_is_not_rounded_by_autocast(kwargs):
    x = torch.ones(1, 4)
    references = torch.tensor([0.9961, 0.9971, 0.9981]).unsqueeze(1).expand(3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = ExpectedGradients(lambda p: p.sum(1)).attribute(x, references, **kwargs)
    torch.testing.assert_close(found, x - references.mean(0), rtol=1e-4, atol=0)


@pytest.mark.usefixtures("unprobed")
def test_a_shared_end_is_the_input_to_the_last_bit(draw, record):
    seen = []
    x, references = draw(2, 4).float() * 1e-4, 1000 + draw(3, 4, seed=1).float()
    ExpectedGradients(lambda p: seen.append(p.detach()) or p.sum(1)).attribute(
        x, references, n_steps=1, method="riemann_shared_end"
    )
    assert torch.equal(torch.cat(seen), x)


def test_staggered_samples_are_the_weighted_sum_of_their_points(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(5, 4, seed=1)
    paths = Staggered(23, 7).paths((x,), format_baselines(references, (x,)))
    expected = torch.zeros_like(x)
    for which, a, w in zip(paths.which[:-1], paths.nodes[:-1], paths.weights[:-1], strict=True):
        point = (references[which] + a * (x - references[which])).requires_grad_()
        (gradient,) = torch.autograd.grad(net(point)[:, 1].sum(), point)
        expected += w * gradient * (x - references[which])
    point = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(point)[:, 1].sum(), point)
    expected += paths.weights[-1] * gradient * (x - references.mean(0))
    found = ExpectedGradients(net).attribute(x, references, 1, n_samples=23, sampling="staggered", generator=7)
    torch.testing.assert_close(found, expected)


def test_staggered_samples_come_nearer_than_random_ones(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(20, 4, seed=1)
    method = ExpectedGradients(net)
    exact = method.attribute(x, references, 1)

    def error(sampling):
        return sum(
            (method.attribute(x, references, 1, n_samples=41, sampling=sampling, generator=s) - exact).norm()
            for s in range(5)
        )

    assert error("staggered") < 0.6 * error("random")


@pytest.mark.parametrize("per_example", ["target", "argument", "nothing"])
@pytest.mark.usefixtures("unprobed")
def test_the_delta_takes_each_shared_baseline_once(draw, record, per_example):
    f = record(lambda x, *scale: torch.stack([x.sum(1), x.square().sum(1)], 1) * (scale[0] if scale else 1))
    x, references = draw(3, 4), draw(5, 4, seed=1)
    scale = draw(3, 1, seed=2)
    kwargs = {
        "target": dict(target=[0, 1, 1]),
        "argument": dict(target=1, additional_forward_args=scale),
        "nothing": dict(target=1),
    }[per_example]
    attributions, delta = ExpectedGradients(f).attribute(x, references, **kwargs, return_convergence_delta=True)
    assert sum(f.plain) == 3 + (15 if per_example == "argument" else 5)
    target = torch.tensor([0, 1, 1] if per_example == "target" else [1, 1, 1])
    factor = scale if per_example == "argument" else torch.ones(3, 1)
    values = torch.stack([x.sum(1), x.square().sum(1)], 1) * factor
    of = torch.stack([references.sum(1), references.square().sum(1)], 1)
    change = [values[b, target[b]] - (of[:, target[b]] * factor[b]).mean() for b in range(3)]
    torch.testing.assert_close(attributions.sum(1), torch.stack(change))
    torch.testing.assert_close(delta, torch.zeros(3).double(), atol=1e-12, rtol=0)


# --- bad input


@pytest.mark.parametrize(
    ("kwargs", "error", "match"),
    [
        ({"baselines": torch.ones(0, 4)}, ValueError, "baselines are empty"),
        ({"baselines": torch.ones(2, 5)}, ValueError, "baselines must have shape"),
        ({"baselines": torch.ones(2, 4).double()}, TypeError, "baselines are torch.float64"),
        ({"baselines": torch.full((2, 4), torch.nan)}, ValueError, "baselines hold NaN.*rows 0, 1;"),
        ({"baselines": torch.full((2, 4), torch.inf)}, ValueError, "baselines hold NaN or infinite"),
        ({"inputs": torch.tensor([[0.0] * 4, [torch.nan] * 4])}, ValueError, "inputs holds NaN.*examples 1;"),
        ({"inputs": torch.full((1, 4), torch.inf)}, ValueError, "inputs holds NaN or infinite"),
        ({"inputs": torch.ones(2, 4).long()}, TypeError, "embedding layer"),
        ({"target": 2}, ValueError, "target 2 is out of range"),
        ({"target": [0, 1, 5]}, ValueError, "target 5 is out of range"),
        ({"target": None}, ValueError, "target is missing"),
        ({"n_steps": 0}, ValueError, "n_steps must be a whole number of at least 1, got 0"),
        ({"n_samples": 0}, ValueError, "n_samples must be a whole number of at least 1, got 0"),
        ({"method": "simpson"}, ValueError, "method must be one of"),
        ({"method": "riemann_trapezoid", "n_steps": 1}, ValueError, "at least 2"),
        ({"internal_batch_size": 0}, ValueError, "internal_batch_size must be"),
        ({"pairing": "each"}, ValueError, "pairing must be"),
        ({"stdevs": 0.1}, ValueError, "stdevs adds noise to random samples; give n_samples with"),
        ({"stdevs": (0.1,)}, ValueError, "give n_samples with"),
        ({"n_samples": 9, "sampling": "staggered", "stdevs": 0.1}, ValueError, "sampling='random'"),
        ({"n_samples": 9, "sampling": "sobol"}, ValueError, r"sampling must be one of \('random', 'staggered'\)"),
        ({"sampling": "staggered"}, ValueError, "give n_samples too"),
        (
            {"baselines": torch.ones(3, 4), "n_samples": 2, "sampling": "staggered"},
            ValueError,
            "n_samples must be at least",
        ),
        ({"n_steps": "many"}, ValueError, "n_steps must be a whole number of at least 1, 'auto' or an Automatic"),
        ({"n_steps": "auto", "n_samples": 3}, ValueError, "exclude each other"),
        ({"n_steps": Automatic(), "n_samples": 3}, ValueError, "exclude each other"),
        ({"n_steps": "auto", "method": "riemann_middle"}, ValueError, "method='riemann_middle' can't be refined"),
        ({"n_steps": "auto", "method": "simpson"}, ValueError, "method must be one of"),
        ({"return_steps": True}, ValueError, "return_steps tells what n_steps='auto' took"),
        ({"n_samples": 3, "stdevs": -1.0}, ValueError, "stdevs must be"),
        ({"n_samples": 3, "generator": "seed"}, TypeError, "generator must be"),
    ],
)
def test_bad_arguments_are_named(kwargs, error, match):
    given = {"inputs": torch.ones(3, 4), "target": 0, **kwargs}
    with pytest.raises(error, match=match):
        ExpectedGradients(nn.Linear(4, 2)).attribute(**given)


def test_a_function_that_does_not_depend_on_the_input():
    with pytest.raises(ValueError, match="depends on none of the inputs"):
        ExpectedGradients(lambda x: torch.ones(len(x))).attribute(torch.ones(2, 3))
    with pytest.raises(ValueError, match="depends on none of the inputs"):
        ExpectedGradients(lambda x: nn.Parameter(torch.ones(len(x)))).attribute(torch.ones(2, 3))


def test_a_gradient_that_is_not_finite_names_its_example():
    x = torch.tensor([[1.0], [-1.0], [2.0]])
    with pytest.raises(ValueError, match="gradient is NaN or infinite for examples 1,"):
        ExpectedGradients(lambda x: x.sqrt().sum(1)).attribute(x, 0.5)
