"""Attributions in a loss: what they estimate, where their graph leads, and the penalties."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_wg import ExpectedGradients, GeneralizedAttribution, shared
from captum_wg.measures import StabilityCosine, Variance
from captum_wg.priors import (
    SampledExpectedGradients,
    SampledMeasure,
    agreement,
    evaluation_mode,
    smoothness,
    sparsity,
)

MEASURES = ("local_integrated_gradients", "gradient_variance", "stability", "consistency")
TARGETS = torch.tensor([0, 2, 1])


@pytest.fixture
def net(make_net):
    return make_net(12)


@pytest.fixture
def x(draw):
    return draw(3, 3, 2, 2)


@pytest.fixture
def references(draw):
    return draw(4, 3, 2, 2, seed=1)


# What is estimated


def test_expected_gradients_one_point_after_another(net, x, references):
    """The same draws, and one gradient at a time."""
    found = SampledExpectedGradients(net, references, n_samples=5, generator=7)(x, TARGETS)
    draws = torch.Generator().manual_seed(7)
    which = torch.randint(4, (3, 5), generator=draws)
    shares = torch.rand(3, 5, generator=draws, dtype=torch.float64)
    for b in range(3):
        total = torch.zeros(3, 2, 2, dtype=torch.float64)
        for s in range(5):
            reference = references[which[b, s]]
            point = (x[b] + shares[b, s] * (reference - x[b])).requires_grad_()
            (gradient,) = torch.autograd.grad(net(point[None])[0, TARGETS[b]], point)
            total += (x[b] - reference) * gradient / 5
        torch.testing.assert_close(found[b], total)


@pytest.mark.parametrize("kind", ["local_integrated_gradients", "gradient_variance", "stability", "consistency"])
def test_no_graph_is_kept_from_call_to_call(net, x, references, kind):
    estimator = SampledMeasure(net, references, kind)
    estimator(x, TARGETS)
    # Tensors with a graph can't be copied.
    again = copy.deepcopy(estimator)
    torch.testing.assert_close(again(x, TARGETS), estimator(x, TARGETS), rtol=0, atol=0)


def mean_and_error(estimator, x, calls):
    """Over calls of an estimator, or examples of one call: their mean, and its standard error."""
    with torch.no_grad():
        maps = estimator(x.repeat(calls, 1, 1, 1), TARGETS.repeat(calls)).view(calls, *x.shape)
    return maps.mean(0), maps.std(0) / math.sqrt(calls)


def test_one_point_estimates_expected_gradients_without_bias(net, x, references):
    mean, error = mean_and_error(SampledExpectedGradients(net, references), x, 3000)
    exact = ExpectedGradients(net).attribute(x, references, target=TARGETS)
    assert ((mean - exact).abs() < 4.5 * error).all()
    assert (error < 0.05 * exact.abs().max()).all()


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("sampler", ["segments", "ball"])
def test_measures_are_estimated_without_bias(net, x, references, measure, sampler):
    """From few points, also the variance; against many points of the attribution's own sampler."""
    estimator = SampledMeasure(net, references, measure, radius=1.5, sampler=sampler)
    mean, error = mean_and_error(estimator, x, 2000)
    settings = {"target": TARGETS, "radius": 1.5, "sampler": sampler, "n_samples": 2000}
    many = GeneralizedAttribution(net).attribute(x, references, measures=[measure], **settings)[measure]
    assert ((mean - many).abs() < 4.5 * math.sqrt(2) * error + 1e-12).all()


@pytest.mark.parametrize("measure", [*MEASURES, StabilityCosine("global")])
def test_measures_of_given_points_are_the_attributions_own(net, x, draw, measure):
    points = draw(3, 6, 3, 2, 2, seed=5)
    found = SampledMeasure(net, measure=measure, sampler=lambda _: points)(x, TARGETS)
    own = StabilityCosine("global") if isinstance(measure, StabilityCosine) else measure
    expected = GeneralizedAttribution(net).attribute(x, target=TARGETS, sampler=lambda _: points, measures={"m": own})[
        "m"
    ]
    torch.testing.assert_close(found, expected * (6 / 5 if measure == "gradient_variance" else 1))


def test_variance_one_point_after_another(net, x, draw):
    points = draw(3, 4, 3, 2, 2, seed=5)
    found = SampledMeasure(net, measure=Variance(), sampler=lambda _: points)(x, TARGETS)
    for b in range(3):
        gradients = []
        for point in points[b]:
            leaf = point.clone().requires_grad_()
            gradients += torch.autograd.grad(net(leaf[None])[0, TARGETS[b]], leaf)
        torch.testing.assert_close(found[b], torch.stack(gradients).var(0, unbiased=True))


def test_a_measure_of_ones_own(net, x, references):
    class Count:
        needs_input_gradients = False

        def init(self, inputs):
            self.count = torch.zeros(len(inputs))

        def update(self, gradients, points, inputs, input_gradients, weights):
            assert input_gradients is None
            self.count += gradients.shape[1]

        def finish(self):
            return self.count

    assert SampledMeasure(net, references, Count(), n_samples=4)(x, TARGETS).tolist() == [4, 4, 4]


def test_points_are_each_examples_own_and_new_in_each_call(references):
    seen = []

    def function(z):
        seen.append(z.detach())
        return z.flatten(1).square().sum(1)

    estimator = SampledExpectedGradients(function, references)
    same = torch.ones(6, 3, 2, 2, dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad():
            estimator(same)
    assert len(torch.cat(seen).unique(dim=0)) == 12


@pytest.mark.parametrize("radius", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("sampler", ["segments", "ball"])
def test_points_lie_within_the_radius_and_no_farther_than_the_references(x, references, radius, sampler):
    seen = []

    def function(z):
        seen.append(z.detach())
        return z.flatten(1).square().sum(1)

    with torch.no_grad():
        SampledMeasure(function, references, radius=radius, sampler=sampler, n_samples=200)(x)
    distances = (seen[0].view(3, 200, 12) - x.view(3, 1, 12)).norm(dim=2)
    if sampler == "segments":
        reach = (references.view(1, 4, 12) - x.view(3, 1, 12)).norm(dim=2).clamp(max=radius).amax(1)
    else:
        reach = torch.full((3,), radius, dtype=torch.float64)
    assert (distances.amax(1) > 0.95 * reach).all() and (distances.amax(1) <= reach * (1 + 1e-12)).all()


def test_of_a_linear_function_one_point_is_exact(x, draw):
    weight = draw(3, 2, 2, seed=3).requires_grad_()
    reference = draw(1, 3, 2, 2, seed=4)
    maps = SampledExpectedGradients(lambda z: (z * weight).flatten(1).sum(1), reference)(x)
    torch.testing.assert_close(maps, weight * (x - reference))
    local = SampledExpectedGradients(lambda z: (z * weight).flatten(1).sum(1), reference, multiply_by_inputs=False)(x)
    torch.testing.assert_close(local, weight.expand_as(x))


# Where the graph leads


def penalty_of(x, references, kind, function):
    """A penalty as a function of one Tensor of numbers, from the same draws every time."""
    if kind == "expected_gradients":
        estimator = SampledExpectedGradients(function, references, n_samples=3, generator=3)
    else:
        estimator = SampledMeasure(function, references, kind, radius=1.0, n_samples=3, generator=3)
    return estimator(x).square().sum()


@pytest.mark.parametrize("kind", ["expected_gradients", *MEASURES])
def test_derivatives_are_those_of_finite_differences(x, references, draw, kind):
    weights = draw(12, 5, seed=8) / 3

    def of_weights(w):
        return penalty_of(x, references, kind, lambda z: torch.tanh(z.flatten(1) @ w).square().sum(1))

    def of_inputs(z):
        return penalty_of(z, references, kind, lambda z: torch.tanh(z.flatten(1) @ weights).square().sum(1))

    assert torch.autograd.gradcheck(of_weights, weights.clone().requires_grad_())
    assert torch.autograd.gradcheck(of_inputs, x.clone().requires_grad_())


@pytest.mark.parametrize("measure", ["stability", "consistency"])
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_derivatives_are_finite_where_a_gradient_is_zero(measure, channels, draw):
    """All of them in a saturated ReLU, and the offset of a point at x itself."""
    weight = nn.Parameter(draw(channels * 4, 2))

    def function(z):
        return torch.relu(z.flatten(1) @ weight - torch.tensor([100.0, 0.0])).sum(1)

    x = draw(2, channels, 2, 2, seed=1)
    SampledMeasure(function, measure=measure, sampler=lambda z: z.unsqueeze(1))(x).sum().backward()
    assert weight.grad.isfinite().all()


def test_training_with_a_prior_moves_attribution_into_the_mask(make_net, draw):
    x, mask = draw(40, 6), torch.tensor([1, 1, 1, 0, 0, 0])
    y = (x[:, 0] + x[:, 3] > 0).long()

    def outside(strength):
        net = make_net(6, 2)
        attribution = SampledExpectedGradients(net, x)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            loss = nn.functional.cross_entropy(net(x), y) + strength * agreement(attribution(x, y), mask)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        maps = ExpectedGradients(net).attribute(x, x[:20], target=y).abs().mean(0)
        return float(maps[3:].sum() / maps.sum())

    assert outside(3.0) < 0.1 < 0.4 < outside(0.0)


def test_without_gradients_there_is_no_graph(net, x, references):
    with torch.no_grad():
        assert not SampledExpectedGradients(net, references)(x, TARGETS).requires_grad
    with torch.inference_mode():
        assert not SampledExpectedGradients(net, references)(x, TARGETS).requires_grad
    assert SampledExpectedGradients(net, references)(x, TARGETS).requires_grad


# What is left alone


def test_batch_statistics_dropout_and_modes_are_left_alone(draw):
    frozen = nn.BatchNorm1d(6).eval()
    norm = nn.BatchNorm1d(6)
    net = nn.Sequential(norm, frozen, nn.Dropout(0.5), nn.Linear(6, 2)).double()
    modes = [m.training for m in net.modules()]
    before = norm.running_mean.clone()
    attribution = SampledExpectedGradients(lambda z: net(z), draw(5, 6, seed=1), multiply_by_inputs=False)
    first, second = (attribution(draw(4, 6), 0) for _ in range(2))
    assert torch.equal(norm.running_mean, before)
    assert torch.equal(first, second)  # no dropout: the gradient of what is linear then
    assert [m.training for m in net.modules()] == modes and net.training and not frozen.training


def test_modes_come_back_after_an_error(net):
    net.train()
    with pytest.raises(KeyError), evaluation_mode(net):
        assert not any(m.training for m in net.modules())
        raise KeyError
    assert all(m.training for m in net.modules())


def test_randomness_is_the_generators_and_goes_on(net, x, references):
    state = torch.get_rng_state()
    attribution = SampledExpectedGradients(net, references, generator=5)
    first, second = attribution(x, TARGETS), attribution(x, TARGETS)
    assert not torch.equal(first, second)
    assert torch.equal(first, SampledExpectedGradients(net, references, generator=5)(x, TARGETS))
    own = torch.Generator().manual_seed(5)
    assert torch.equal(first, SampledExpectedGradients(net, references, generator=own)(x, TARGETS))
    between = own.get_state()
    resumed = SampledExpectedGradients(net, references)
    resumed.generator.set_state(between)
    assert torch.equal(second, resumed(x, TARGETS))
    assert torch.equal(torch.get_rng_state(), state)


def test_no_grad_field_is_filled_before_backward(net, x, references):
    x.requires_grad_()
    SampledExpectedGradients(net, references)(x, TARGETS)
    assert x.grad is None and all(p.grad is None for p in net.parameters())


def test_a_first_layer_that_works_in_place_leaves_the_inputs_alone(draw):
    weight = nn.Parameter(draw(4, seed=2))
    x = draw(3, 4).requires_grad_()
    before = x.detach().clone()

    def maps(*first):
        net = nn.Sequential(*first)
        return SampledExpectedGradients(lambda z: (net(z) * weight).square().sum(1), draw(2, 4, seed=1))(x)

    in_place, other = maps(nn.ReLU(inplace=True)), maps(nn.ReLU())
    assert torch.equal(x, before) and torch.equal(in_place, other)


# Forms of the arguments


def test_tuples_arguments_and_unused_inputs(draw):
    weight = nn.Parameter(draw(4, seed=2))
    a, b, scale, table = draw(3, 4), draw(3, 2, seed=1), draw(3, seed=3), draw(3, 4, seed=4)

    def function(a, b, scale, table):
        return ((a * weight).square() @ table.T).sum(1) * scale

    starts = (draw(5, 4, seed=5), draw(5, 2, seed=6))
    attribution = SampledExpectedGradients(function, starts, n_samples=2)
    maps = attribution((a, b), additional_forward_args=(scale, shared(table)))
    assert [m.shape for m in maps] == [a.shape, b.shape]
    assert maps[0].all() and not maps[1].any()
    measures = SampledMeasure(function, starts, "stability", n_samples=2)((a, b), None, (scale, shared(table)))
    assert [m.shape for m in measures] == [a.shape, b.shape]


def test_row_k_of_all_elements_is_one_baseline(draw):
    """Of a function of the difference of two equal elements nothing is left if their baselines go together."""
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    a, r = draw(3, 4), draw(6, 4, seed=1)
    maps = SampledExpectedGradients(lambda a, b: weight * (a - b).square().sum(1), (r, r), n_samples=5)((a, a.clone()))
    assert all(torch.equal(m, torch.zeros_like(m)) for m in maps)


def test_dtype_and_baselines_of_the_inputs(net, x, references):
    half = net.bfloat16()
    maps = SampledExpectedGradients(half, references.bfloat16())(x.bfloat16(), TARGETS)
    assert maps.dtype == torch.bfloat16 and maps.requires_grad


def test_callable_baselines_are_called_for_each_batch(net, x, draw):
    calls = []

    def own(inputs):
        calls.append(len(inputs))
        return inputs.unsqueeze(1) + draw(1, 2, 3, 2, 2, seed=len(calls))

    attribution = SampledExpectedGradients(net, own)
    attribution(x, TARGETS)
    attribution(x[:2], TARGETS[:2])
    assert calls == [3, 2]


def test_batches_of_any_size_share_the_baselines(net, x, references):
    attribution = SampledExpectedGradients(net, references)
    sizes = [attribution(x[:n], 0).shape[0] for n in (3, 1, 2)]
    assert sizes == [3, 1, 2]
    with pytest.raises(TypeError, match="baselines are torch"):
        attribution(x.float(), 0)


# Guards


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be a whole number of at least 1"),
        ({"generator": 0.5}, TypeError, "generator must be a torch.Generator, an int seed or None"),
        ({"forward_func": 3}, TypeError, "forward_func must be a module or a callable, got int"),
        ({"multiply_by_inputs": 1}, TypeError, "multiply_by_inputs must be True or False"),
    ],
)
def test_expected_gradients_guards(net, references, arguments, error, words):
    with pytest.raises(error, match=words):
        SampledExpectedGradients(**{"forward_func": net, "baselines": references, **arguments})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"measure": "mean"}, "measure must be one of"),
        ({"measure": "gradient_variance", "n_samples": 1}, "n_samples must be at least 2 for the variance"),
        ({"radius": 0}, "radius must be a number greater than 0"),
        ({"sampler": "rays"}, "sampler must be one of"),
        ({"sampler": "ball"}, "radius must be finite for sampler='ball'"),
        ({"baselines": None}, "baselines are the reference points that sampler='segments' goes towards"),
    ],
)
def test_measure_guards(net, references, arguments, words):
    with pytest.raises(ValueError, match=words):
        SampledMeasure(**{"forward_func": net, "baselines": references, **arguments})


def test_guards_of_a_call(net, x, references, draw):
    with pytest.raises(TypeError, match="inputs must be floating point"):
        SampledExpectedGradients(net, references)(x.long(), 0)
    with pytest.raises(ValueError, match=r"baselines of shape \(B, K, \*feature\) belong to the examples of one batch"):
        SampledExpectedGradients(net, draw(3, 5, 3, 2, 2))(x, 0)
    with pytest.raises(ValueError, match="target 3 is out of range"):
        SampledExpectedGradients(net, references)(x, 3)
    with pytest.raises(ValueError, match="output of forward_func has no gradient"):
        SampledExpectedGradients(lambda z: net(z.detach()), references)(x, 0)
    with pytest.raises(ValueError, match="are the same whatever its parameters are"):
        SampledExpectedGradients(lambda z: 3 * z.flatten(1).sum(1), references)(x)
    with pytest.raises(ValueError, match="attributions of examples 0, 1, 2 are NaN or infinite"):
        SampledExpectedGradients(lambda z: net(z) / 0, references)(x, 0)


class Attention(nn.Module):
    def forward(self, x):
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_a_model_without_double_backward_is_refused_by_its_modules_name(x, references):
    net = nn.Sequential(nn.Flatten(2), nn.Linear(4, 4), Attention(), nn.Flatten(), nn.Linear(12, 2)).double()
    attribution = SampledExpectedGradients(net, references)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"can't be differentiated twice, in 2 \(Attention\)"):
            attribution(x, 0)
    with torch.no_grad():
        attribution(x, 0)  # which needs none


# The penalties


def test_smoothness_pair_after_pair(draw):
    maps = draw(2, 3, 4, 5)
    total = 0.0
    for b in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    total += abs(maps[b, c, i, j] - maps[b, c, i + 1, j]) if i < 3 else 0
                    total += abs(maps[b, c, i, j] - maps[b, c, i, j + 1]) if j < 4 else 0
    torch.testing.assert_close(smoothness(maps), total / 2)
    torch.testing.assert_close(smoothness(maps), smoothness(maps, (2,)) + smoothness(maps, (-1,)))


@pytest.mark.parametrize("per_example", [False, True])
def test_sparsity_pair_after_pair(draw, per_example):
    maps = draw(3, 2, 4)

    def gini(a):
        return sum(abs(p - q) for p in a for q in a) / (2 * len(a) * sum(a))

    sizes = maps.abs().flatten(1)
    expected = torch.stack([gini(a) for a in (sizes if per_example else [sizes.mean(0)])]).mean()
    torch.testing.assert_close(sparsity(maps, per_example), 1 - expected)


def test_sparsity_of_one_feature_and_of_all_alike():
    one = torch.zeros(2, 5)
    one[:, 3] = torch.tensor([4.0, -2.0])
    assert float(sparsity(one)) == pytest.approx(1 / 5)
    assert float(sparsity(torch.full((2, 5), -0.3))) == pytest.approx(1)
    assert float(sparsity(torch.zeros(2, 5))) == 1


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (2, 1, 4, 5), (2, 3, 4, 5)])
def test_agreement_element_after_element(draw, shape):
    maps, mask = draw(2, 3, 4, 5), draw(*shape, seed=1).sigmoid()
    everywhere = mask.expand(2, 3, 4, 5)
    terms = zip(maps.flatten().tolist(), everywhere.flatten().tolist(), strict=True)
    total = math.fsum(((1 - m) * p) ** 2 for p, m in terms)
    assert float(agreement(maps, mask)) == pytest.approx(total / 2)
    whole = torch.ones(shape, dtype=torch.bool)
    assert float(agreement(maps, whole)) == 0
    torch.testing.assert_close(agreement(maps, ~whole), maps.square().sum() / 2)


@pytest.mark.parametrize("penalty", [smoothness, sparsity, lambda a: agreement(a, torch.zeros(64, 64))])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_penalties_of_half_precision_are_those_of_single(draw, penalty, dtype):
    for scale in (30, 1e-4):
        maps = (scale * draw(2, 1, 64, 64)).to(dtype)
        torch.testing.assert_close(penalty(maps), penalty(maps.float()))


numbers = st.lists(st.floats(-10, 10).map(lambda v: round(v, 3)), min_size=8, max_size=8)


@settings(max_examples=50, deadline=None)
@given(numbers, st.floats(0.1, 10), st.permutations(range(4)))
def test_laws_of_the_penalties(values, scale, order):
    maps = torch.tensor(values, dtype=torch.float64).view(2, 4)
    assert -1e-12 <= 1 - float(sparsity(maps)) <= 1 - 1 / 4 + 1e-12
    if maps.any():
        torch.testing.assert_close(sparsity(scale * maps), sparsity(maps))
    torch.testing.assert_close(sparsity(maps[:, list(order)]), sparsity(maps))
    torch.testing.assert_close(smoothness(maps + scale, (1,)), smoothness(maps, (1,)))
    torch.testing.assert_close(smoothness(scale * maps, (1,)), scale * smoothness(maps, (1,)))
    half, full = torch.tensor([1, 1, 0, 0]), torch.tensor([1, 1, 1, 0])
    assert agreement(maps, full) <= agreement(maps, half)
    torch.testing.assert_close(agreement(scale * maps, half), scale**2 * agreement(maps, half))


@pytest.mark.parametrize("penalty", [smoothness, sparsity, lambda a: sparsity(a, True), lambda a: agreement(a, a > 9)])
@pytest.mark.parametrize("values", ["zeros", "equal", "normal"])
def test_derivatives_of_penalties_are_finite(draw, penalty, values):
    maps = {"zeros": torch.zeros, "equal": torch.ones, "normal": draw}[values](2, 3, 4, 5).requires_grad_()
    penalty(maps).backward()
    assert maps.grad.isfinite().all()


def test_guards_of_the_penalties(draw):
    maps = draw(2, 3, 4, 5)
    for penalty in (smoothness, sparsity, lambda a: agreement(a, maps > 0)):
        with pytest.raises(TypeError, match=r"attributions must be a Tensor \(B, \*feature\), got tuple"):
            penalty((maps, maps))
        with pytest.raises(ValueError, match=r"attributions must have shape \(B, \*feature\), got \(2,\)"):
            penalty(maps[:, 0, 0, 0])
    with pytest.raises(ValueError, match="dims must say along which dimensions"):
        smoothness(maps[..., 0])
    for dims in ((0,), (4,), (-4,), (), 2, (2, 2), (3, -1)):
        with pytest.raises(
            ValueError, match="dims must be a tuple of different dimensions of attributions but the first"
        ):
            smoothness(maps, dims)
    with pytest.raises(TypeError, match="per_example must be True or False"):
        sparsity(maps, 1)
    with pytest.raises(TypeError, match="mask must be a Tensor, got int"):
        agreement(maps, 1)
    for shape in ((3, 5), (1, 2, 3, 4, 5), (3, 3, 4, 5)):
        with pytest.raises(ValueError, match="mask must have a shape that broadcasts"):
            agreement(maps, torch.ones(shape))
    for value in (1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="mask must be bool, or numbers from 0"):
            agreement(maps, torch.full((4, 5), value))
    for penalty in (smoothness, sparsity, lambda a: agreement(a, torch.ones(4, 5))):
        with pytest.raises(TypeError, match=r"attributions must be floating point, got torch\.int64"):
            penalty(maps.long())
