"""What all methods take from their base: the deltas, the result, another gradient_func, another space."""

from __future__ import annotations

import copy
import pickle
import re

import pytest
import torch
from captum._utils.gradient import construct_neuron_grad_fn
from captum.attr import IntegratedGradients, LayerIntegratedGradients, NeuronIntegratedGradients
from torch import nn

from captum_wg import (
    AttributionResult,
    Automatic,
    Consistency,
    Deletion,
    Equal,
    ExpectedGradients,
    GeneralizedAttribution,
    GradientVariance,
    Insertion,
    LocalIntegratedGradients,
    Stability,
    WeightedGradients,
)
from captum_wg.attribution_base import BaselineAttribution
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.problem import Problem


def named(value):
    """A name for a test, without addresses, which differ from run to run."""
    name = value.__name__ if isinstance(value, type) else re.sub(r" at 0x\w+", "", str(value))
    return name[:60]


# Whether a removal reaches alpha f(x) is another file's matter.
pytestmark = pytest.mark.filterwarnings("error::UserWarning", "ignore:for examples .* not even removing:UserWarning")


# --- the delta of given attributions


def test_compute_convergence_delta_is_captums_for_one_baseline(make_net, draw):
    net, x = make_net(4), draw(3, 4)
    one = ExpectedGradients(net).attribute(x, n_steps=3, target=1)
    captums = IntegratedGradients(net).compute_convergence_delta(one, torch.zeros_like(x), x, target=1)
    for method in (ExpectedGradients(net), WeightedGradients(net)):
        torch.testing.assert_close(method.compute_convergence_delta(one, None, x, 1), captums.detach())


def test_compute_convergence_delta_against_weighted_baselines(make_net, draw):
    net, x, references = make_net(4), draw(3, 4), draw(2, 4, seed=1)
    weights = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    f = lambda x: net(x)[:, 1].detach()  # noqa: E731
    expected = x.sum(1) - (f(x) - weights.double() @ f(references))
    for method in (ExpectedGradients(net), WeightedGradients(net)):
        delta = method.compute_convergence_delta(x, references, x, 1, weights=weights)
        torch.testing.assert_close(delta, expected)


def test_compute_convergence_delta_of_pairs_tuples_and_arguments(draw):
    f = lambda a, b, w, power: ((a * b).sum(1) * w) ** power  # noqa: E731
    x, starts, w = (draw(3, 2), draw(3, 2, seed=1)), (draw(3, 2, seed=2), draw(3, 2, seed=3)), draw(3, seed=4)
    method = ExpectedGradients(f)
    kwargs = {"additional_forward_args": (w, 2), "pairing": "paired"}
    attributions, delta = method.attribute(x, starts, n_steps=2, return_convergence_delta=True, **kwargs)
    assert torch.equal(method.compute_convergence_delta(attributions, starts, x, **kwargs), delta)
    expected = sum(a.sum(1) for a in attributions) - (f(*x, w, 2) - f(*starts, w, 2))
    torch.testing.assert_close(delta, expected)


def test_the_result_of_a_call_tells_its_weights(rising, spread):
    x, references = spread
    method = WeightedGradients(rising)
    result = method.attribute(x, references, n_steps=2, return_convergence_delta=True, return_weights=True, keep=3)
    given = method.compute_convergence_delta(result.attributions, references, x, weights=result)
    assert torch.equal(given, result.delta)
    assert torch.equal(
        method.compute_convergence_delta(result.attributions, references, x, weights=result.weights), result.delta
    )


def test_weights_that_are_missing_are_asked_for(rising, spread):
    x, references = spread
    method = WeightedGradients(rising)
    attributions, _ = result = method.attribute(x, references, n_steps=2, return_convergence_delta=True)
    for without in (None, result):
        with pytest.raises(ValueError, match=r"weights are missing for 5 baselines.*return_weights=True"):
            method.compute_convergence_delta(attributions, references, x, weights=without)
    # A method whose baselines count alike has none to tell.
    expected = ExpectedGradients(rising).attribute(x, references, n_steps=2, return_convergence_delta=True)
    found = ExpectedGradients(rising).compute_convergence_delta(expected.attributions, references, x, weights=expected)
    assert torch.equal(found, expected.delta)


def test_compute_convergence_delta_checks_its_arguments(make_net, draw):
    x, references = draw(3, 4), draw(2, 4)
    for method in (ExpectedGradients(make_net(4)), WeightedGradients(make_net(4))):
        for weights in (torch.ones(2), torch.ones(3, 3), torch.ones(2, 3)):
            with pytest.raises(ValueError, match=r"weights must have shape \(B, K\) = \(3, 2\), got \("):
                method.compute_convergence_delta(x, references, x, 1, weights=weights)
        with pytest.raises(ValueError, match=r"attributions must have the inputs' shapes, got \[\(3, 3\)\]"):
            method.compute_convergence_delta(x[:, :3], None, x, 1)


EXPECTED_GRADIENTS = [
    {},
    {"n_steps": 3, "method": "riemann_shared_end"},
    {"n_steps": 3, "method": "riemann_trapezoid"},
    {"n_steps": 9, "method": "adaptive"},
    {"n_steps": Automatic(0.05)},
    {"n_samples": 17, "stdevs": 0.1},
    {"n_samples": 17, "sampling": "staggered"},
]
WEIGHTED_GRADIENTS = [
    {},
    {"keep": 5},
    {"keep": 5, "screening_steps": 2},
    {"keep": 1, "screening_steps": 2},
    {"weighting": "equal"},
    {"weighting": Equal(normalise_maps=True), "n_steps": 4},
    {"weighting": Insertion(power=0.5), "method": "riemann_right"},
    {"weighting": lambda _, maps: maps.norms() / maps.norms().sum(1, keepdim=True)},
    {"n_steps": Automatic(0.05), "keep": 7, "screening_steps": 6},
    {"n_steps": 9, "method": "adaptive", "keep": 7, "screening_steps": 6},
]
CALLS = [(ExpectedGradients, k) for k in EXPECTED_GRADIENTS] + [(WeightedGradients, k) for k in WEIGHTED_GRADIENTS]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize(("cls", "kwargs"), CALLS, ids=named)
def test_the_returned_delta_is_that_of_what_is_returned_to_the_last_bit(
    rising, draw, cls, kwargs, multiply, own, dtype
):
    x = (draw(3, 12).abs() + 0.1).to(dtype)
    references = (draw(9, 12, seed=1) * torch.linspace(0.1, 4, 9).double().unsqueeze(1)).to(dtype)
    baselines = (references + x.unsqueeze(1) / 8 if own else references).detach()
    method = cls(rising, multiply)
    asked = {"return_weights": True} if cls is WeightedGradients else {}
    result = method.attribute(x, baselines, return_convergence_delta=True, **asked, **kwargs)
    again = method.compute_convergence_delta(result.attributions, baselines, x, weights=result if asked else None)
    assert torch.equal(again, result.delta)
    at = rising(baselines.reshape(-1, 12)).view(3, 9).double() if own else rising(baselines).expand(3, 9).double()
    weights = result.weights.double() if asked else torch.full((3, 9), 1 / 9, dtype=torch.float64)
    literal = result.attributions.double().sum(1) - (rising(x).double() - (weights * at).sum(1))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-1}[dtype] * at.abs().max()
    torch.testing.assert_close(result.delta.double(), literal, rtol=0, atol=float(tolerance))


# --- baselines bound in the constructor


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients])
def test_bound_baselines_serve_the_delta_too(rising, spread, cls):
    x, references = spread
    method = cls(rising, baselines=references)
    result = method.attribute(
        x, n_steps=1, return_convergence_delta=True, **({"return_weights": True} if cls is WeightedGradients else {})
    )
    assert torch.equal(method.compute_convergence_delta(result[0], None, x, weights=result), result.delta)
    assert result.delta.abs().min() > 0.01
    from_zero = method.compute_convergence_delta(result[0], 0.0, x)
    torch.testing.assert_close(from_zero, result[0].sum(1) - rising(x))


def test_the_delta_asks_for_the_weights_of_bound_baselines(rising, spread):
    x, references = spread
    with pytest.raises(ValueError, match="weights are missing for 5 baselines"):
        WeightedGradients(rising, baselines=references).compute_convergence_delta(x, None, x)


def test_a_bound_set_is_shared_without_asking(draw):
    # As many rows as a wrapper happens to expand the examples to.
    x, references, net = draw(4, 3), draw(4, 3, seed=1), nn.Linear(3, 1).double()
    bound = ExpectedGradients(net, baselines=references).attribute(x)
    assert torch.equal(bound, ExpectedGradients(net).attribute(x, references, pairing="shared"))


# --- what attribute returns


ATTRIBUTIONS, DELTA, WEIGHTS, STEPS = torch.ones(2, 3), torch.zeros(2), torch.ones(2, 4) / 4, torch.ones(2, 4).long()


def same(a, b):
    return a is b or (torch.equal(a, b) if isinstance(a, torch.Tensor) else all(map(torch.equal, a, b)))


@pytest.mark.parametrize("attributions", [ATTRIBUTIONS, (ATTRIBUTIONS, torch.ones(2))], ids=["tensor", "tuple"])
@pytest.mark.parametrize(
    "asked",
    [(), ("delta",), ("weights",), ("steps",), ("delta", "weights", "steps")],
    ids=named,
)
def test_a_result_is_a_tuple_with_names(attributions, asked):
    values = {"delta": DELTA, "weights": WEIGHTS, "steps": STEPS}
    result = AttributionResult(attributions, **{name: values[name] for name in asked})
    first, *rest = result
    assert isinstance(result, tuple) and len(result) == 1 + len(asked)
    assert first is result[0] is result.attributions is attributions
    assert all(value is values[name] for value, name in zip(rest, asked, strict=True))
    for name, value in values.items():
        assert getattr(result, name) is (value if name in asked else None)


def copies(result):
    yield copy.copy(result)
    yield copy.deepcopy(result)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield pickle.loads(pickle.dumps(result, protocol))


@pytest.mark.parametrize("attributions", [ATTRIBUTIONS, (ATTRIBUTIONS, torch.ones(2))], ids=["tensor", "tuple"])
def test_a_result_is_copied_and_pickled_whole(attributions):
    for result in (
        AttributionResult(attributions, weights=WEIGHTS),
        AttributionResult(attributions, DELTA, steps=STEPS),
    ):
        for twin in copies(result):
            assert type(twin) is AttributionResult and len(twin) == len(result)
            assert all(same(a, b) for a, b in zip(twin, result, strict=True))
            for name in ("attributions", "delta", "weights", "steps"):
                a, b = getattr(twin, name), getattr(result, name)
                assert (a is None and b is None) or same(a, b)


def test_a_deep_copy_is_its_own(rising, spread):
    result = WeightedGradients(rising).attribute(*spread, n_steps=2, return_weights=True)
    twin = copy.deepcopy(result)
    twin.attributions.zero_()
    assert twin[0] is twin.attributions and result.attributions.any()


def test_what_was_asked_for_comes_by_name(rising, spread):
    method, kwargs = WeightedGradients(rising), {"n_steps": Automatic(0.05)}
    assert isinstance(method.attribute(*spread, **kwargs), torch.Tensor)
    result = method.attribute(*spread, return_convergence_delta=True, return_weights=True, return_steps=True, **kwargs)
    attributions, delta, weights, steps = result
    assert (result.attributions, result.delta, result.weights, result.steps) == (attributions, delta, weights, steps)
    assert delta.shape == (3,) and weights.shape == steps.shape == (3, 5) and steps.dtype == torch.int64
    alone = ExpectedGradients(rising).attribute(*spread, return_steps=True, **kwargs)
    assert alone.delta is None and alone.weights is None and alone[1] is alone.steps


# --- another gradient_func, as Captum's neuron wrappers set it


class Model(nn.Module):
    """A network with a named layer, of one or two inputs, that does not return that layer's neurons."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.act, self.last = nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 3)
        self.double()

    def hidden(self, *inputs):
        return self.act(8 * self.first(torch.cat(inputs, 1)))

    def forward(self, *inputs):
        return self.last(self.hidden(*inputs)) + 7


@pytest.fixture
def model():
    return Model().eval()


NEURONS = {
    "number": (2, lambda h: h[:, 2]),
    "tuple": ((4,), lambda h: h[:, 4]),
    "slice": ((slice(1, 4),), lambda h: h[:, 1:4].sum(1)),
    "function": (lambda h: h[:, 0] * h[:, 3], lambda h: h[:, 0] * h[:, 3]),
}
NEURON_CALLS = [
    (ExpectedGradients, {"n_steps": 3}),
    (ExpectedGradients, {"n_steps": 3, "method": "riemann_shared_end"}),
    (ExpectedGradients, {"n_steps": 10, "method": "adaptive"}),
    (ExpectedGradients, {"n_steps": Automatic(0.001, 500)}),
    (ExpectedGradients, {"n_samples": 9}),
    (WeightedGradients, {"n_steps": 3}),
    (WeightedGradients, {"n_steps": 3, "keep": 3, "screening_steps": 2}),
    (WeightedGradients, {"n_steps": Automatic(0.001, 500)}),
    (WeightedGradients, {"n_steps": 3, "weighting": "equal"}),
]


def over_neuron(method, model, selector, **kwargs):
    """What captum.attr.NeuronIntegratedGradients does to its IntegratedGradients."""
    method.gradient_func = construct_neuron_grad_fn(model.act, selector, **kwargs)
    return method


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize(("cls", "kwargs"), NEURON_CALLS, ids=named)
def test_a_neuron_is_explained_as_a_function_that_returns_it(model, draw, cls, kwargs, neuron):
    selector, of = NEURONS[neuron]
    x, references = draw(3, 6), draw(5, 6, seed=1)
    asked = {"return_convergence_delta": True}
    if cls is WeightedGradients:
        asked["return_weights"] = True
    if isinstance(kwargs.get("n_steps"), Automatic):
        asked["return_steps"] = True
    swapped = over_neuron(cls(model), model, selector)
    direct = cls(lambda x: of(model.hidden(x)))
    found, expected = (m.attribute(x, references, **asked, **kwargs) for m in (swapped, direct))
    for name in ("attributions", "delta", "weights"):
        if getattr(expected, name) is not None:
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-11)
    if "return_steps" in asked:
        assert torch.equal(found.steps, expected.steps) and found.steps.max() > 6
    elif kwargs.get("method") != "adaptive":
        assert found.delta.abs().max() > 1e-6  # or little was compared
    again = swapped.compute_convergence_delta(found.attributions, references, x, weights=found)
    assert torch.equal(again, found.delta)


def test_the_fitness_of_a_neuron_is_that_of_its_value(model, draw):
    x, references = draw(3, 6), draw(5, 6, seed=1)
    swapped = over_neuron(WeightedGradients(model), model, 2)
    direct = WeightedGradients(lambda x: model.hidden(x)[:, 2])
    found, expected = (m.fitness(x, references, weighting=Deletion(alpha=0.9)) for m in (swapped, direct))
    assert torch.equal(found, expected) and found.unique().numel() > 1


def test_one_baseline_of_a_neuron_is_captums_neuron_integrated_gradients(model, draw):
    x, start = draw(3, 6), draw(1, 6, seed=1)
    captums = NeuronIntegratedGradients(model, model.act).attribute(x, 2, start, n_steps=30)
    for cls in (ExpectedGradients, WeightedGradients):
        found = over_neuron(cls(model), model, 2).attribute(x, start, n_steps=30)
        torch.testing.assert_close(found, captums, rtol=1e-5, atol=1e-7)


def test_a_neurons_input_and_a_tuple_of_inputs(model, draw):
    x, references = (draw(3, 2), draw(3, 4, seed=1)), (draw(5, 2, seed=2), draw(5, 4, seed=3))
    kwargs = {"n_steps": Automatic(0.01), "return_convergence_delta": True}
    swapped = over_neuron(ExpectedGradients(model), model, 1, attribute_to_neuron_input=True)
    found = swapped.attribute(x, references, **kwargs)
    expected = ExpectedGradients(lambda *x: 8 * model.first(torch.cat(x, 1))[:, 1]).attribute(x, references, **kwargs)
    torch.testing.assert_close(found.attributions, expected.attributions)
    torch.testing.assert_close(found.delta, expected.delta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 2, 7])
def test_a_neuron_in_any_micro_batches(model, draw, rows):
    x, references = draw(3, 6), draw(5, 6, seed=1)
    method = over_neuron(WeightedGradients(model), model, 2)
    kwargs = {"weighting": "equal", "n_steps": 3, "return_convergence_delta": True}
    whole = method.attribute(x, references, **kwargs)
    found = method.attribute(x, references, internal_batch_size=rows, **kwargs)
    torch.testing.assert_close(tuple(found), tuple(whole), rtol=1e-12, atol=1e-13)


def constant(forward_fn, inputs, target_ind=None, additional_forward_args=None):
    """Gradients that nothing was differentiated for."""
    return tuple(torch.full_like(x, 2.0) for x in inputs)


def several(forward_fn, inputs, target_ind=None, additional_forward_args=None):
    """The gradients of the sum of all outputs of a row, each differentiated by itself."""
    return torch.autograd.grad(tuple(forward_fn(*inputs).unbind(1)[:2]), inputs, [torch.ones(len(inputs[0]))] * 2)


@pytest.mark.parametrize(("gradient_func", "counts"), [(constant, (0, 0)), (several, (6, 10))])
def test_a_gradient_func_whose_output_cannot_be_told_says_so_where_it_is_needed(draw, gradient_func, counts):
    x, references = draw(3, 4).float(), draw(5, 4, seed=1).float()
    for cls, kwargs in (
        (ExpectedGradients, {"return_convergence_delta": True}),
        (ExpectedGradients, {"n_steps": "auto"}),
        (WeightedGradients, {}),
    ):
        method = cls(lambda x: torch.stack([x.sum(1), x.square().sum(1), x[:, 0]], 1))
        method.gradient_func = gradient_func
        with pytest.raises(
            ValueError,
            match=rf"gradient_func differentiates ({counts[0]} numbers for 3|{counts[1]} numbers for 5) rows",
        ):
            method.attribute(x, references, **kwargs)
    method = ExpectedGradients(lambda x: torch.stack([x.sum(1), x.square().sum(1), x[:, 0]], 1))
    method.gradient_func = gradient_func
    assert torch.isfinite(method.attribute(x, references)).all()


# --- another space under all of them: a layer's, by one method


class OverLayer(BaselineAttribution):
    """The same methods on f(activation, *inputs): the model with its layer's output replaced by the activation."""

    def _problem(
        self,
        inputs,
        baselines,
        target,
        additional_forward_args,
        pairing=None,
        internal_batch_size=None,
        show_progress=False,
    ):
        model = self.forward_func

        def replaced(activation, *inputs):
            handle = model.act.register_forward_hook(lambda *_: activation.clone())
            try:
                return model(*inputs)
            finally:
                handle.remove()

        with torch.no_grad():
            activation = model.hidden(inputs)
            if isinstance(baselines, torch.Tensor):
                baselines = model.hidden(baselines)
        problem = Problem(
            replaced,
            self.gradient_func,
            activation,
            target,
            (inputs,),
            internal_batch_size,
            show_progress,
            type(self).__name__,
        )
        return problem, format_baselines(baselines, problem.inputs, problem.is_tuple, pairing)


def over_layer(cls):
    return type(f"Layer{cls.__name__}", (OverLayer, cls), {})


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (ExpectedGradients, {"n_steps": 3}),
        (ExpectedGradients, {"n_steps": Automatic(0.001)}),
        (ExpectedGradients, {"n_samples": 9}),
        (WeightedGradients, {"n_steps": 3}),
        (
            WeightedGradients,
            {"n_steps": 3, "keep": 2, "screening_steps": 1, "feature_mask": torch.arange(5)[None] // 2},
        ),
    ],
    ids=named,
)
def test_overriding_the_problem_alone_puts_a_layer_under_the_maps_and_their_deltas(model, draw, cls, kwargs):
    x, references = draw(3, 6), draw(4, 6, seed=1)
    asked = {"return_convergence_delta": True, **({"return_weights": True} if cls is WeightedGradients else {})}
    method = over_layer(cls)(model)
    found = method.attribute(x, references, [0, 2, 1], **asked, **kwargs)
    rest, h, starts = cls(lambda h: model.last(h) + 7), model.hidden(x).detach(), model.hidden(references).detach()
    expected = rest.attribute(h, starts, [0, 2, 1], **asked, **kwargs)
    assert found.attributions.shape == (3, 5)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    again = method.compute_convergence_delta(found.attributions, references, x, [0, 2, 1], weights=found)
    assert torch.equal(again, found.delta)
    if cls is WeightedGradients:
        kwargs = {k: v for k, v in kwargs.items() if k in ("n_steps", "feature_mask")}
        assert torch.equal(
            method.fitness(x, references, [0, 2, 1], **kwargs), rest.fitness(h, starts, [0, 2, 1], **kwargs)
        )


def test_a_layer_under_expected_gradients_is_the_mean_of_captums_layer_integrated_gradients(model, draw):
    x, references = draw(3, 6), draw(4, 6, seed=1)
    found = over_layer(ExpectedGradients)(model).attribute(x, references, 1, n_steps=30)
    captums = LayerIntegratedGradients(model, model.act)
    each = [captums.attribute(x, r[None].expand(3, 6), 1, n_steps=30) for r in references]
    torch.testing.assert_close(found, torch.stack(each).mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [{"sampler": "segments"}, {"sampler": "ball", "radius": 0.5}, {"sampler": "rays", "radius": 1.0}],
    ids=named,
)
@pytest.mark.parametrize("cls", [LocalIntegratedGradients, GradientVariance, Stability, Consistency])
def test_overriding_the_problem_alone_puts_a_layer_under_the_measures(model, draw, cls, options):
    x, references = draw(3, 6), draw(4, 6, seed=1)
    found = over_layer(cls)(model).attribute(x, references, 1, n_samples=8, **options)
    h, starts = model.hidden(x).detach(), model.hidden(references).detach()
    expected = cls(lambda h: (model.last(h) + 7) ** 1).attribute(h, starts, 1, n_samples=8, **options)
    torch.testing.assert_close(found, expected)
    both = over_layer(GeneralizedAttribution)(model).attribute(x, references, 1, n_samples=8, **options)
    assert any(torch.equal(value, found) for value in both.values())


# --- what Captum asks of them


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients, Stability, GeneralizedAttribution])
def test_what_captum_asks_of_an_attribution(cls, draw):
    method = cls(lambda x: x.sum(1))
    assert isinstance(method, BaselineAttribution)
    assert method.has_convergence_delta() == (cls in (ExpectedGradients, WeightedGradients))
    assert hasattr(cls.attribute, "__wrapped__")  # NoiseTunnel calls it
    with pytest.raises(NotImplementedError, match="attribute_future is not implemented"):
        method.attribute_future(draw(2, 4))


@pytest.mark.parametrize("weights", [[[1.0]], (torch.ones(1, 1),), torch.ones(1, 1, dtype=torch.complex64), "equal"])
def test_weights_of_a_delta_that_are_no_tensor(weights):
    x = torch.ones(1, 2)
    with pytest.raises(TypeError, match=r"weights must be a Tensor \(B, K\) of real numbers"):
        WeightedGradients(lambda z: z.sum(1)).compute_convergence_delta(x, None, x, weights=weights)
