"""What anyone may rely on who uses the local measures as attribution methods of Captum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max

from captum_wg import Consistency, GeneralizedAttribution, GradientVariance, LocalIntegratedGradients, Stability

pytestmark = pytest.mark.filterwarnings("error")

CLASSES = [LocalIntegratedGradients, GradientVariance, Stability, Consistency]
BALL = dict(sampler="ball", radius=1.0)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def given_points(points):
    """A sampler of these very points."""
    return lambda inputs: points


# --- calling


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    "targets, columns",
    [
        ([1, torch.tensor(1), torch.tensor([1]), torch.tensor([1, 1, 1]), [1, 1, 1]], (3,)),
        ([(0, 2), [(0, 2)] * 3], (2, 3)),
    ],
)
def test_target_forms(classifier, make, targets, columns):
    inner = classifier((4,), columns=math.prod(columns))
    results = [
        make(lambda x: inner(x).view(-1, *columns)).attribute(randn(3, 4), target=target, n_samples=5, **BALL)
        for target in targets
    ]
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("size", [None, 1, 4])
def test_each_example_has_its_own_target_and_arguments(classifier, make, size):
    model = classifier((4,))
    x, scale, targets = randn(3, 4), randn(3, 1, seed=5), [2, 0, 1]
    table = randn(7, seed=6)

    def forward(x, scale, table, power):
        return model(x * scale) ** power * table[0]

    options = dict(n_samples=5, internal_batch_size=size, **BALL)
    result = make(forward).attribute(x, target=targets, additional_forward_args=(scale, table, 2), **options)
    for b in range(3):
        alone = make(forward).attribute(
            x[b : b + 1], target=targets[b], additional_forward_args=(scale[b : b + 1], table, 2), **options
        )
        torch.testing.assert_close(result[b : b + 1], alone)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_results_have_the_inputs_shape_and_dtype(classifier, make, dtype):
    model = classifier((3, 2, 2), dtype=dtype)
    x, references = randn(2, 3, 2, 2, seed=1, dtype=dtype), randn(4, 3, 2, 2, seed=2, dtype=dtype)
    result = make(model).attribute(x, references, 1, n_samples=20)
    assert result.dtype == dtype
    assert result.shape == x.shape
    wide = make(model.double()).attribute(x.double(), references.double(), 1, n_samples=20)
    # One angle of nearly zero vectors may turn over in bfloat16.
    assert (result.double() - wide).abs().mean() < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("make", CLASSES)
def test_numbers_as_examples(make):
    x, points = randn(3, seed=1), randn(3, 5, seed=2)
    result = make(lambda x: x**3).attribute(x, sampler=given_points(points))
    expected = {
        LocalIntegratedGradients: (3 * points**2).mean(1),
        GradientVariance: (3 * points**2).var(1, correction=0),
        Stability: torch.sign(points - x[:, None]).mean(1),
        Consistency: torch.ones(3).double(),
    }[make]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("feature", [(4,), (3, 2, 2)])
def test_noise_tunnel_without_noise_changes_nothing(classifier, make, feature):
    method, x = make(classifier(feature)), randn(3, *feature)
    tunnel = NoiseTunnel(method)
    options = dict(target=1, n_samples=6, **BALL)
    result = tunnel.attribute(x, nt_samples=4, stdevs=0.0, **options)
    torch.testing.assert_close(result, method.attribute(x, **options))
    noisy = tunnel.attribute(x, nt_samples=4, nt_samples_batch_size=2, stdevs=0.1, nt_type="smoothgrad_sq", **options)
    assert (noisy >= 0).all()
    assert noisy.shape == x.shape


@pytest.mark.parametrize("make", CLASSES)
def test_noise_tunnel_with_references(classifier, make):
    method, x, references = make(classifier((4,))), randn(3, 4), randn(7, 4)
    options = dict(target=[0, 1, 2], n_samples=6)
    one = NoiseTunnel(method).attribute(x, baselines=references[:1], nt_samples=4, stdevs=0.0, **options)
    torch.testing.assert_close(one, method.attribute(x, references[:1], **options))
    drawn = NoiseTunnel(method).attribute(
        x, baselines=references, draw_baseline_from_distrib=True, nt_samples=4, pairing="shared", **options
    )
    assert drawn.shape == x.shape
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("make", CLASSES)
def test_sensitivity_max(classifier, make):
    method, x, references = make(classifier((4,))), randn(3, 4), randn(7, 4)
    for options in (BALL, dict(baselines=references)):
        still = sensitivity_max(method.attribute, x, lambda x: x, target=1, n_samples=6, **options)
        # The sample is the same every time.
        assert still.max() < 1e-12
        moved = sensitivity_max(method.attribute, x, target=1, n_samples=6, **options)
        assert moved.shape == (3,)
        assert (moved > 0).all()


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_mode(classifier, make, mode):
    model = classifier((4,)).requires_grad_(False)
    plain = make(model).attribute(randn(2, 4), target=0, **BALL)
    with mode():
        assert torch.equal(make(model).attribute(randn(2, 4), target=0, **BALL), plain)


@pytest.mark.parametrize("make", CLASSES)
def test_nothing_is_left_behind(classifier, make):
    model = classifier((4,))
    x, weights = randn(2, 4).requires_grad_(), torch.ones(5).requires_grad_()
    result = make(model).attribute(x, target=0, n_samples=5, weights=weights, **BALL)
    assert not result.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())
    assert not model._forward_hooks and not model._backward_hooks


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_host_methods(classifier, make):
    method = make(classifier((4,)))
    assert not method.has_convergence_delta()
    with pytest.raises(NotImplementedError, match="attribute_future is not implemented"):
        method.attribute_future(randn(2, 4))
    assert method.attribute.__wrapped__


@pytest.mark.parametrize("make", CLASSES)
def test_gradients_go_through_gradient_func(classifier, make):
    method = make(classifier((4,)))
    calls = []

    def gradient_func(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        calls.append(len(inputs[0]))
        return tuple(torch.ones_like(x) for x in inputs)

    method.gradient_func = gradient_func
    result = method.attribute(randn(2, 4), target=0, n_samples=5, **BALL)
    assert sum(calls) == 10 + 2 * (make is Consistency)
    if make is LocalIntegratedGradients:
        torch.testing.assert_close(result, torch.ones_like(result))


@pytest.mark.parametrize("make", CLASSES)
def test_an_unused_element_has_zeros(make):
    x = randn(2, 4, seed=1), randn(2, 3, seed=2)
    used, unused = make(lambda a, b: a.square().sum(1)).attribute(x, **BALL)
    assert (used != 0).any()
    if make in (LocalIntegratedGradients, GradientVariance):
        assert (unused == 0).all()


@pytest.mark.parametrize("make", CLASSES)
def test_paired_and_own_references(classifier, make):
    model, x = classifier((4,)), randn(3, 4, seed=1)
    own = randn(3, 5, 4, seed=2)
    result = make(model).attribute(x, own, 0, n_samples=10)
    for b in range(3):
        torch.testing.assert_close(result[b : b + 1], make(model).attribute(x[b : b + 1], own[b], 0, n_samples=10))
    paired = make(model).attribute(x, own[:, 0], 0, n_samples=10, pairing="paired")
    assert torch.equal(paired, make(model).attribute(x, own[:, :1], 0, n_samples=10))
    shared = make(model).attribute(x, own[0, :3], 0, n_samples=10, pairing="shared")
    with pytest.warns(UserWarning, match="pairing='shared' or pairing='paired'"):
        assert torch.equal(make(model).attribute(x, own[0, :3], 0, n_samples=10), shared)


@pytest.mark.parametrize("make", CLASSES)
def test_references_from_a_callable(classifier, make):
    model, x, references = classifier((4,)), randn(2, 4, seed=1), randn(3, 4, seed=2)
    called = make(model).attribute(x, lambda inputs: references, 0)
    assert torch.equal(called, make(model).attribute(x, references, 0))


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_references_bound_in_the_constructor_serve_where_none_are_given(classifier, make):
    net, x, references = classifier((4,)), randn(3, 4), randn(7, 4)
    options = dict(target=1, n_samples=6)
    bound = make(net, baselines=references)
    given = make(net).attribute(x, references, **options)
    if make is GeneralizedAttribution:
        for name, value in bound.attribute(x, **options).items():
            assert torch.equal(value, given[name])
        return
    assert torch.equal(bound.attribute(x, **options), given)
    assert not torch.equal(bound.attribute(x, references[:2], **options), given)
    torch.testing.assert_close(NoiseTunnel(bound).attribute(x, nt_samples=2, stdevs=0.0, **options), given)


def test_progress_is_shown_on_request(classifier, capsys):
    model = classifier((4,))
    LocalIntegratedGradients(model).attribute(randn(1, 4), target=0, **BALL)
    assert capsys.readouterr().err == ""
    Consistency(model).attribute(randn(1, 4), target=0, show_progress=True, **BALL)
    assert "Consistency at the inputs" in capsys.readouterr().err


# --- bad input


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
@pytest.mark.parametrize(
    "inputs, kwargs, error, match",
    [
        (None, {}, ValueError, r"inputs is None and sampler='segments': .* needs a callable sampler"),
        (None, BALL, ValueError, r"inputs is None and sampler='ball'"),
        (randn(2, 4), {}, ValueError, r"baselines are the reference points .* got None"),
        (randn(2, 4), dict(baselines=randn(0, 4)), ValueError, "baselines are empty"),
        (randn(2, 4), dict(baselines=randn(3, 5)), ValueError, "baselines must have shape"),
        (randn(2, 4), dict(baselines=randn(3, 4).float()), TypeError, r"baselines are torch\.float32"),
        (randn(2, 4), dict(baselines=torch.tensor([[1.0, 1, math.nan, 1]]).double()), ValueError, "rows 0"),
        (randn(2, 4), dict(baselines=np.zeros((1, 4))), TypeError, "baselines must be None, a number, a Tensor"),
        (randn(2, 4), dict(baselines=0, pairing="both"), ValueError, "pairing must be 'shared', 'paired' or None"),
        (torch.full((2, 4), math.inf), BALL, ValueError, "inputs holds NaN or infinite values in examples 0, 1"),
        (torch.ones(2, 4, dtype=torch.long), BALL, TypeError, "inputs must be floating point"),
        (randn(2, 4), {**BALL, "target": 3}, ValueError, "target 3 is out of range"),
        (randn(2, 4), {**BALL, "target": None}, ValueError, "target is missing"),
        (randn(2, 4), {**BALL, "target": [0]}, ValueError, "target has 1 entries for 2 examples"),
        (randn(2, 4), {**BALL, "radius": 0}, ValueError, "radius must be a number greater than 0"),
        (randn(2, 4), {**BALL, "radius": math.nan}, ValueError, "radius must be a number greater than 0"),
        (randn(2, 4), {**BALL, "radius": math.inf}, ValueError, "radius must be finite for sampler='ball'"),
        (randn(2, 4), {**BALL, "n_samples": 0}, ValueError, "n_samples must be a whole number of at least 1"),
        (randn(2, 4), {**BALL, "generator": "0"}, TypeError, "generator must be"),
        (randn(2, 4), {**BALL, "sampler": "cube"}, ValueError, "sampler must be one of"),
        (randn(2, 4), {**BALL, "internal_batch_size": 0}, ValueError, "internal_batch_size must be a whole number"),
        (randn(2, 4), dict(baselines=0, sampler="rays", radius=1.0), ValueError, "baselines number 0 are zero"),
        (randn(2, 4), {**BALL, "weights": [1.0] * 100}, TypeError, "weights must be a Tensor, got list"),
        (
            randn(2, 4),
            {**BALL, "weights": torch.ones(99)},
            ValueError,
            r"weights must have shape \(S,\) = \(100,\) or \(B, S\) = \(2, 100\), got \(99,\)",
        ),
        (randn(2, 4), {**BALL, "weights": torch.ones(1, 100)}, ValueError, r"weights must have shape .* \(1, 100\)"),
        (randn(2, 4), {**BALL, "weights": torch.zeros(100)}, ValueError, "with a positive sum for each example"),
        (
            randn(2, 4),
            {**BALL, "weights": torch.tensor([[1.0] * 100, [0.0] * 100])},
            ValueError,
            "with a positive sum for each example",
        ),
        (randn(2, 4), {**BALL, "weights": -torch.ones(100)}, ValueError, "weights must be finite and not negative"),
        (randn(2, 4), {**BALL, "weights": torch.arange(100) - 1}, ValueError, "finite and not negative"),
        (randn(2, 4), {**BALL, "weights": torch.full((100,), math.nan)}, ValueError, "weights must be finite"),
        (randn(2, 4), {**BALL, "weights": torch.full((100,), math.inf)}, ValueError, "weights must be finite"),
    ],
)
def test_bad_arguments(classifier, make, inputs, kwargs, error, match):
    with pytest.raises(error, match=match):
        make(classifier((4,))).attribute(inputs, **{"target": 0, **kwargs})


@pytest.mark.parametrize("make", [Stability, Consistency])
def test_bad_angles(classifier, make):
    method = make(classifier((4,)))
    with pytest.raises(ValueError, match="angle must be one of"):
        method.attribute(randn(2, 4), target=0, angle="rgb", **BALL)
    with pytest.raises(ValueError, match="angle='channel_pairs' needs inputs with 3 channels"):
        method.attribute(randn(2, 4), target=0, angle="channel_pairs", **BALL)
    with pytest.raises(ValueError, match="angle='pixel' needs inputs with channels"):
        method.attribute(randn(2, 4), target=0, angle="pixel", **BALL)
    with pytest.raises(ValueError, match=r"angle='channel_pairs' needs inputs with 3 channels.*\(B, 4, 1, 1\)"):
        method.attribute(randn(2, 4, 1, 1), target=0, angle="channel_pairs", **BALL)


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
@pytest.mark.parametrize(
    "forward, match",
    [
        (lambda x: torch.ones(len(x), dtype=x.dtype), "no gradient at any point of any example"),
        (lambda x: x.detach().sum(1), "no gradient at any point of any example.*the graph is cut"),
        (lambda x: torch.ones(len(x), requires_grad=True), "depends on none of the inputs"),
        (lambda x: (x - x).sqrt().sum(1), "the gradient is NaN or infinite for examples 0"),
    ],
)
def test_bad_functions(make, forward, match):
    with pytest.raises(ValueError, match=match):
        make(forward).attribute(randn(2, 4), **BALL)


def test_bad_gradients_name_their_examples():
    x = torch.tensor([[-9.0], [9.0], [-9.0], [9.0]])
    for size, named in ((1, "1,"), (None, "1, 3,")):
        with pytest.raises(ValueError, match=f"the gradient is NaN or infinite for examples {named}"):
            LocalIntegratedGradients(lambda x: (x.abs() - x).sqrt()).attribute(x, internal_batch_size=size, **BALL)


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_bad_forward_func(make):
    with pytest.raises(TypeError, match="forward_func must be a module or a callable"):
        make(3).attribute(randn(2, 4), **BALL)
