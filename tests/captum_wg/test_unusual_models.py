"""Models that are no plain function of their rows: gates, cuts, in-place layers, fixed batches, derivatives inside."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from captum_wg import (
    Automatic,
    Consistency,
    ExpectedGradients,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
    WeightedGradients,
)
from captum_wg.integrals.nodes import nodes_and_weights

MEASURES = [LocalIntegratedGradients, GradientVariance, Stability, Consistency, GeneralizedAttribution]
CLASSES = [ExpectedGradients, WeightedGradients, *MEASURES]
W = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def gate(z):
    """A detector that returns a constant where it finds nothing."""
    return torch.stack([r.square().mean() if r.mean() > 0.4 else r.new_zeros(()) for r in z])


def literal_gate(x, n_steps=50):
    total = torch.zeros_like(x)
    for node, weight in zip(*nodes_and_weights("gausslegendre", n_steps), strict=True):
        for i, row in enumerate(x):
            if node * row.mean() > 0.4:
                total[i] += weight * 2 * node * row / row.numel() * row
    return total


@pytest.mark.parametrize("size", [None, 1, 8, 50])
def test_points_without_a_gradient_count_as_zero(size):
    x = torch.rand(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = ExpectedGradients(gate).attribute(x, internal_batch_size=size)
    torch.testing.assert_close(found, literal_gate(x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("method", CLASSES)
def test_no_gradient_at_any_point_is_an_error(method):
    x, baselines = torch.rand(2, 4), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"no gradient at any point of any example.*\.long\(\).*embedding"):
        method(lambda z: z.long().float().sum(1) + 1).attribute(x, baselines, pairing="shared")


@pytest.mark.parametrize(
    "cut", [lambda y: y.long(), lambda y: y.round(), lambda y: y.detach()], ids=["long", "round", "detach"]
)
def test_a_cut_element_of_a_tuple_is_warned_of_and_an_unused_one_is_not(cut):
    x, y = torch.rand(3, 4), 3 * torch.rand(3, 4)
    method = ExpectedGradients(lambda a, b: (a * cut(b)).sum(1))
    with pytest.warns(UserWarning, match=r"element 1 of inputs gets zeros.*although.*embedding"):
        found = method.attribute((x, y), (0.0, y[:1]))
    assert not found[1].any()


@pytest.mark.filterwarnings("error::UserWarning")
def test_an_unused_element_gets_zeros():
    x, y = torch.rand(3, 4), torch.rand(3, 2)
    found = ExpectedGradients(lambda a, b: a.square().sum(1)).attribute((x, y))
    assert not found[1].any()
    assert found[1].shape == y.shape


def digest(tensors):
    return [hashlib.sha256(t.numpy().tobytes()).hexdigest() for t in tensors]


def in_place(z):
    z *= 2
    z.relu_()
    return z @ W


@pytest.mark.parametrize("method", CLASSES)
@pytest.mark.parametrize("n_steps", [5, "auto"])
def test_a_model_that_writes_into_its_input_changes_nothing_of_the_caller(method, n_steps):
    generator = torch.Generator().manual_seed(3)
    x, baselines, own = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (5, 4), (3, 2, 4))
    )
    before = digest([x, baselines, own])
    takes_steps = method in (ExpectedGradients, WeightedGradients)
    settings = {"n_steps": n_steps, "return_convergence_delta": True} if takes_steps else {}
    for given in (baselines, own, x):
        found = method(in_place).attribute(x, given, target=1, pairing="shared", **settings)
        right = method(lambda z: (2 * z).relu() @ W).attribute(x, given, target=1, pairing="shared", **settings)
        torch.testing.assert_close(found, right, rtol=1e-12, atol=1e-12)
    assert digest([x, baselines, own]) == before


def test_points_of_the_caller_are_left_alone_by_a_model_that_writes_without_gradients():
    def writing(z):
        with torch.no_grad():
            z.mul_(0.5)
        return (z**2).sum(1)

    x, points = torch.randn(3, 4), torch.randn(3, 5, 4)
    before = digest([x, points])
    LocalIntegratedGradients(writing).attribute(x, sampler=lambda _: points)
    assert digest([x, points]) == before


@pytest.mark.parametrize("method", CLASSES)
def test_nothing_of_the_caller_changes_by_a_call_that_fails(method):
    x, baselines = torch.randn(3, 4), torch.randn(5, 4)
    before = digest([x, baselines])
    calls = []

    def failing(z):
        z.relu_()
        calls.append(len(z))
        if len(calls) > 4:  # after the probe
            raise RuntimeError("in the middle")
        return z.sum(1)

    with pytest.raises(RuntimeError, match="in the middle"):
        method(failing).attribute(x, baselines)
    assert digest([x, baselines]) == before


@pytest.mark.parametrize("fixed", [1, 4, 7])
def test_a_model_of_a_fixed_batch_gets_no_other(fixed):
    sizes = set()

    def model(z):
        sizes.add(len(z))
        if len(z) != fixed:
            raise RuntimeError(f"compiled for {fixed} rows")
        return torch.tanh(z.view(fixed, 4) @ W)

    x, baselines = torch.randn(3, 4, dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    found, delta, weights = WeightedGradients(model).attribute(
        x, baselines, target=1, n_steps=5, internal_batch_size=fixed, return_convergence_delta=True, return_weights=True
    )
    plain = WeightedGradients(lambda z: torch.tanh(z @ W)).attribute(
        x, baselines, target=1, n_steps=5, return_convergence_delta=True, return_weights=True
    )
    torch.testing.assert_close((found, delta, weights), tuple(plain), rtol=1e-10, atol=1e-12)
    measure = Consistency(model).attribute(x, baselines, target=1, n_samples=9, internal_batch_size=fixed)
    torch.testing.assert_close(
        measure, Consistency(lambda z: torch.tanh(z @ W)).attribute(x, baselines, target=1, n_samples=9)
    )


def test_a_fixed_batch_larger_than_the_automatic_one():
    def model(z):
        if len(z) != 2000:
            raise RuntimeError("compiled for 2000 rows")
        return torch.tanh(z @ W)

    x = torch.randn(3, 4, dtype=torch.float64)
    found = ExpectedGradients(model).attribute(x, target=1, n_steps=5, internal_batch_size=2000)
    torch.testing.assert_close(found, ExpectedGradients(lambda z: torch.tanh(z @ W)).attribute(x, target=1, n_steps=5))


def test_micro_batches_have_the_size_that_was_asked_for(record):
    recorded = record(lambda z: torch.tanh(z @ W))
    ExpectedGradients(recorded).attribute(
        torch.randn(5, 4, dtype=torch.float64), torch.zeros(3, 4, dtype=torch.float64), target=1, internal_batch_size=4
    )
    assert set(recorded.graded) == {4}


def energy(z):
    """A force: the derivative of an energy, taken inside the forward."""
    with torch.enable_grad():
        z = z if z.requires_grad else z.requires_grad_()
        potential = (z**3).sum()
        return torch.autograd.grad(potential, z, create_graph=True)[0].sum(1)


@pytest.mark.parametrize("method", [ExpectedGradients, WeightedGradients])
@pytest.mark.parametrize(
    "function",
    [energy, lambda z: torch.autograd.grad((z**3).sum(), z, create_graph=True)[0].sum(1)],
    ids=["careful", "careless"],
)
def test_a_forward_that_takes_derivatives(method, function):
    x, baselines = torch.rand(3, 4, dtype=torch.float64), torch.zeros(2, 4, dtype=torch.float64)
    found, delta = method(function).attribute(x, baselines, n_steps=5, return_convergence_delta=True)
    torch.testing.assert_close(found, 3 * x**2, rtol=1e-10, atol=1e-12)
    assert delta.abs().max() < 1e-12


@pytest.mark.parametrize("n_steps", [5, "auto"])
def test_a_squeezed_regression_of_one_row(n_steps):
    net = nn.Linear(4, 1).double()

    def squeezed(z):
        return net(z).tanh().squeeze()

    x = torch.randn(1, 4, dtype=torch.float64)
    found, delta = ExpectedGradients(squeezed).attribute(x, n_steps=n_steps, return_convergence_delta=True)
    right = ExpectedGradients(lambda z: net(z).tanh()).attribute(x, n_steps=n_steps)
    torch.testing.assert_close(found, right)
    assert delta.shape == (1,)
    torch.testing.assert_close(
        Consistency(squeezed).attribute(x, x + 1), Consistency(lambda z: net(z).tanh()).attribute(x, x + 1)
    )


@pytest.mark.parametrize(
    "settings, inputs, baselines, function",
    [
        ({}, [-3e38, 1.0], [3e38, 0.0], lambda z: z.sum(1)),
        ({}, [1e30, 1.0], [0.0, 0.0], lambda z: 1e30 * z.sum(1)),
        ({"n_steps": Automatic()}, [1e30, 1.0], [0.0, 0.0], lambda z: 1e30 * z.sum(1)),
    ],
)
def test_what_overflows_is_an_error_that_names_the_examples(settings, inputs, baselines, function):
    x = torch.tensor([[0.5, 0.5], inputs])
    with pytest.raises(ValueError, match=r"examples 1.* NaN or infinite|NaN or infinite for examples 1"):
        ExpectedGradients(function).attribute(x, torch.tensor([baselines]), **settings)


def test_the_delta_of_attributions_that_are_not_finite_is_an_error():
    x = torch.rand(2, 3)
    with pytest.raises(ValueError, match="convergence deltas of examples 0, 1 are NaN"):
        ExpectedGradients(lambda z: z.sum(1)).compute_convergence_delta(x * float("nan"), None, x)


def test_huge_weights_of_points_are_the_same_as_small_ones():
    x, weights = torch.rand(2, 3), torch.arange(1.0, 11).double()
    method = GradientVariance(lambda z: (z**3).sum(1))
    small = method.attribute(x, torch.zeros(2, 3), n_samples=10, weights=weights, pairing="shared")
    huge = method.attribute(x, torch.zeros(2, 3), n_samples=10, weights=weights * 1e307, pairing="shared")
    torch.testing.assert_close(small, huge)


@pytest.mark.parametrize("sampler, radius", [("ball", 1e300), ("rays", 1e39)])
def test_points_beyond_the_dtype_are_an_error(sampler, radius):
    with pytest.raises(ValueError, match=r"NaN or infinite for examples 0, 1, or a point|radius"):
        LocalIntegratedGradients(lambda z: z.sigmoid().sum(1)).attribute(
            torch.rand(2, 3), torch.ones(1, 3), sampler=sampler, radius=radius
        )


@pytest.mark.parametrize("method", [ExpectedGradients, WeightedGradients])
def test_a_walk_of_hours_is_announced(method):
    class Stop(Exception):
        pass

    seen = []

    def model(z):
        seen.append(len(z))
        if len(seen) > 5:
            raise Stop
        return z.sum(1)

    with (
        pytest.warns(UserWarning, match=r"6192 baselines with 50 points.*309600 gradients.*n_samples"),
        pytest.raises(Stop),
    ):
        method(model).attribute(torch.rand(2, 3), torch.rand(6192, 3))


@pytest.mark.parametrize(
    "function, target, match",
    [
        (lambda z: -z.sum(1), None, r"f\(x\) of examples 0, 1, 2 is not positive"),
        (lambda z: z.sum(1) * 0 + z[:, 0] * 0, None, "never trained"),
        (lambda z: z[:, None, :] * torch.ones(2, 1), (0, 1), r"shape \(3, 2, 4\)"),
    ],
    ids=["negative regression", "zero head", "three dimensions"],
)
def test_weights_that_can_not_be_told_are_equal(function, target, match):
    x, baselines = torch.rand(3, 4), torch.zeros(2, 4)
    with pytest.warns(UserWarning, match=match):
        found, weights = WeightedGradients(function).attribute(x, baselines, target=target, return_weights=True)
    assert torch.equal(weights, torch.full((3, 2), 0.5))
    torch.testing.assert_close(found, ExpectedGradients(function).attribute(x, baselines, target=target))


def test_weights_of_the_other_examples_are_searched_all_the_same():
    x = torch.tensor([[-1.0, -1.0, -1.0], [1.0, 2.0, 3.0]])
    baselines = torch.tensor([[0.5, 0.0, 0.0], [0.0, 0.0, 0.5]])

    def model(z):
        return (z**3).sum(1)

    with pytest.warns(UserWarning, match="examples 0 is not positive"):
        _, weights = WeightedGradients(model).attribute(x, baselines, return_weights=True, pairing="shared")
    _, alone = WeightedGradients(model).attribute(x[1:], baselines, return_weights=True)
    assert torch.equal(weights[1:], alone)
    assert torch.equal(weights[0], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("name", ["show_progress", "return_convergence_delta", "return_weights", "return_steps"])
@pytest.mark.parametrize("value", ["no", 1, torch.tensor(True)])
def test_switches_are_booleans(name, value):
    with pytest.raises(TypeError, match=f"{name} must be True or False"):
        WeightedGradients(lambda z: z.sum(1)).attribute(torch.rand(1, 2), **{name: value})
    if name != "return_weights":
        with pytest.raises(TypeError, match=f"{name} must be True or False"):
            ExpectedGradients(lambda z: z.sum(1)).attribute(torch.rand(1, 2), **{name: value})


def test_multiply_by_inputs_is_a_boolean():
    with pytest.raises(TypeError, match="multiply_by_inputs must be True or False"):
        ExpectedGradients(lambda z: z.sum(1), multiply_by_inputs="no")
