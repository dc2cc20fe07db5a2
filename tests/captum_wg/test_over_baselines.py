import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from captum.attr import (
    DeepLift,
    DeepLiftShap,
    FeatureAblation,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerDeepLift,
    LayerGradientShap,
    LayerIntegratedGradients,
    NeuronDeepLift,
    NoiseTunnel,
    Occlusion,
    ShapleyValueSampling,
)
from torch import nn

from captum_wg import Deletion, Equal, ExpectedGradients, OverBaselines, WeightedGradients, smoothing

pytestmark = pytest.mark.filterwarnings("error::UserWarning:captum_wg")
CAPTUM_SPEAKS = pytest.mark.filterwarnings("ignore::UserWarning")


class Counted(nn.Module):
    """A small convolutional network, each ReLU a module of its own; notes the rows of its forwards."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.pool, self.linear = nn.Conv2d(2, 3, 3), nn.AvgPool2d(2), nn.Linear(12, 6)
        self.relu, self.relu2, self.last = nn.ReLU(), nn.ReLU(inplace=True), nn.Linear(6, 3)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 2)
        self.rows: list[int] = []
        self.double().eval()

    def forward(self, x, scale=None, *rest):
        self.rows.append(len(x))
        h = self.pool(self.relu(self.conv(x))).flatten(1)
        h = self.last(self.relu2(self.linear(h)))
        return h if scale is None else h * scale.reshape(-1, 1)


@pytest.fixture
def net():
    return Counted()


@pytest.fixture
def x(draw):
    return draw(4, 2, 6, 6)


@pytest.fixture
def references(draw):
    return draw(5, 2, 6, 6, seed=1)


TARGETS = [0, 2, 1, 2]


def literal(method, x, references, targets=None, own=False, **kwargs):
    """One pair at a time, (B, K, *feature)."""
    return torch.stack(
        [
            torch.stack(
                [
                    method.attribute(
                        row[None],
                        baselines=(references[i, k] if own else references[k])[None],
                        **({} if targets is None else {"target": targets[i]}),
                        **kwargs,
                    )[0]
                    for k in range(references.shape[own])
                ]
            )
            for i, row in enumerate(x)
        ]
    ).detach()


@CAPTUM_SPEAKS
@pytest.mark.parametrize("size", [None, 1, 3, 7, 100])
def test_over_deep_lift_it_is_deep_lift_shap(net, x, references, size):
    expected, deltas = DeepLiftShap(net).attribute(x, references, target=TARGETS, return_convergence_delta=True)
    made = OverBaselines(DeepLift(net)).attribute(
        x, references, TARGETS, return_convergence_delta=True, internal_batch_size=size
    )
    torch.testing.assert_close(made.attributions, expected.detach(), rtol=1e-10, atol=1e-12)
    assert made.delta.shape == (4,) and made.delta.abs().max() < 1e-10 and deltas.abs().max() < 1e-6


@CAPTUM_SPEAKS
def test_over_deep_lift_in_half_of_the_precision(net, x, references):
    net.float()
    expected = DeepLiftShap(net).attribute(x.float(), references.float(), target=TARGETS)
    made = OverBaselines(DeepLift(net)).attribute(x.float(), references.float(), TARGETS)
    assert made.dtype == torch.float32
    torch.testing.assert_close(made, expected.detach())


@CAPTUM_SPEAKS
def test_one_baseline_is_the_method_itself(net, x, references):
    for weighting in ("equal", "deletion"):
        wrapped = OverBaselines(DeepLift(net), weighting)
        expected = DeepLift(net).attribute(x, references[:1].expand(4, -1, -1, -1), target=TARGETS)
        assert torch.equal(wrapped.attribute(x, references[:1], TARGETS), expected.detach())
        assert torch.equal(wrapped.attribute(x, None, TARGETS), DeepLift(net).attribute(x, target=TARGETS).detach())
    occluded = Occlusion(net).attribute(x, (1, 2, 2), strides=(1, 2, 2), baselines=0.3, target=1)
    made = OverBaselines(Occlusion(net)).attribute(x, 0.3, 1, sliding_window_shapes=(1, 2, 2), strides=(1, 2, 2))
    torch.testing.assert_close(made, occluded)


def test_over_integrated_gradients_it_is_expected_gradients(unprobed, net, x, references):
    made = OverBaselines(IntegratedGradients(net)).attribute(x, references, TARGETS, n_steps=20, internal_batch_size=6)
    # The steps go to the model in micro-batches, too.
    assert max(net.rows) == 5  # of one example at a time
    expected = ExpectedGradients(net).attribute(x, references, TARGETS, n_steps=20, pairing="shared")
    torch.testing.assert_close(made, expected, rtol=1e-6, atol=1e-8)


def test_no_more_rows_at_once_than_were_asked_for(unprobed, net, x, references):
    OverBaselines(DeepLift(net)).attribute(x, references, TARGETS, internal_batch_size=3)
    assert max(net.rows) == 2 * 3
    net.rows.clear()
    OverBaselines(Occlusion(net)).attribute(
        x, references, TARGETS, internal_batch_size=3, sliding_window_shapes=(2, 3, 3)
    )
    assert max(net.rows) == 3


@CAPTUM_SPEAKS
def test_arguments_and_targets_go_with_their_rows(net, x, references):
    scale = torch.tensor([1.0, -2.0, 3.0, 0.5], dtype=torch.float64)
    expected = literal(DeepLift(net), x, references, TARGETS).mean(1) * scale.view(-1, 1, 1, 1)
    made = OverBaselines(DeepLift(net)).attribute(
        x, references, TARGETS, (scale, "a constant"), internal_batch_size=3, return_convergence_delta=True
    )
    torch.testing.assert_close(made.attributions, expected)
    assert made.delta.abs().max() < 1e-10


@CAPTUM_SPEAKS
def test_forms_of_baselines(net, x, draw):
    own = draw(4, 3, 2, 6, 6, seed=3)
    wrapped = OverBaselines(DeepLift(net))
    made = wrapped.attribute(x, own, TARGETS, internal_batch_size=5)
    torch.testing.assert_close(made, literal(DeepLift(net), x, own, TARGETS, own=True).mean(1))
    torch.testing.assert_close(wrapped.attribute(x, lambda inputs: own, TARGETS), made)
    paired = wrapped.attribute(x, own[:, 0], TARGETS, pairing="paired")
    torch.testing.assert_close(paired, wrapped.attribute(x, own[:, :1], TARGETS))
    bound = OverBaselines(DeepLift(net), baselines=own[0])
    torch.testing.assert_close(bound.attribute(x, target=TARGETS), wrapped.attribute(x, own[0], TARGETS))
    with pytest.raises(ValueError, match="baselines must have shape"):
        wrapped.attribute(x, own[:3], TARGETS)


def test_tuples(classifier, draw):
    model = classifier((3,), (2, 2))
    inputs, baselines = (draw(3, 3), draw(3, 2, 2, seed=1)), (draw(4, 3, seed=2), draw(4, 2, 2, seed=3))
    for size in (None, 2):
        made = OverBaselines(IntegratedGradients(model)).attribute(
            inputs, baselines, 1, internal_batch_size=size, return_convergence_delta=True
        )
        expected = ExpectedGradients(model).attribute(inputs, baselines, 1)
        for a, b in zip(made.attributions, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-8)
        assert made.delta.abs().max() < 1e-4


@CAPTUM_SPEAKS
def test_layers_and_neurons(net, x, references):
    layered = LayerDeepLift(net, net.pool)
    made = OverBaselines(layered).attribute(
        x, references, TARGETS, internal_batch_size=3, attribute_to_layer_input=True, return_convergence_delta=True
    )
    expected = literal(layered, x, references, TARGETS, attribute_to_layer_input=True).mean(1)
    assert made.attributions.shape == (4, 3, 4, 4)
    torch.testing.assert_close(made.attributions, expected)
    assert made.delta.abs().max() < 1e-10
    path = LayerIntegratedGradients(net, net.conv)
    made = OverBaselines(path).attribute(x, references, TARGETS, n_steps=5)
    torch.testing.assert_close(made, literal(path, x, references, TARGETS, n_steps=5).mean(1), rtol=1e-6, atol=1e-8)
    neuron = NeuronDeepLift(net, net.linear)
    made = OverBaselines(neuron).attribute(x, references, neuron_selector=2)
    torch.testing.assert_close(made, literal(neuron, x, references, neuron_selector=2).mean(1))
    with pytest.raises(TypeError, match=r"NeuronDeepLift\.attribute takes no target"):
        OverBaselines(neuron).attribute(x, references, 1, neuron_selector=2)
    with pytest.raises(ValueError, match=r"NeuronDeepLift explains no output .* no convergence delta"):
        OverBaselines(neuron).attribute(x, references, neuron_selector=2, return_convergence_delta=True)


def test_weights_are_those_of_weighted_gradients(rising, spread):
    x, references = spread
    made = OverBaselines(IntegratedGradients(rising), "deletion").attribute(
        x, references, n_steps=30, return_weights=True, return_convergence_delta=True
    )
    expected = WeightedGradients(rising).attribute(
        x, references, n_steps=30, return_weights=True, return_convergence_delta=True
    )
    torch.testing.assert_close(made.weights, expected.weights)
    assert made.weights.std() > 0.01
    torch.testing.assert_close(made.attributions, expected.attributions, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(made.delta, expected.delta, rtol=1e-5, atol=1e-6)
    assert OverBaselines(IntegratedGradients(rising), "deletion").attribute(
        x, references, keep=2, return_weights=True
    ).weights.gt(0).sum(1).tolist() == [2, 2, 2]


@CAPTUM_SPEAKS
def test_weights_of_other_rules(net, x, references):
    maps = literal(DeepLift(net), x, references, TARGETS)
    weights = torch.softmax(torch.arange(5.0, dtype=torch.float64), 0).expand(4, 5)

    def rule(problem, given):
        numbers = torch.arange(20)
        torch.testing.assert_close(given.rows(numbers)[0].view(4, 5, 2, 6, 6), maps)
        return weights

    made = OverBaselines(DeepLift(net), rule).attribute(x, references, TARGETS, return_weights=True)
    torch.testing.assert_close(made.attributions, torch.einsum("bk,bk...->b...", weights, maps))
    torch.testing.assert_close(made.weights, weights)
    norms = maps.flatten(2).abs().sum(2)
    made = OverBaselines(DeepLift(net), Equal(normalise_maps=True)).attribute(
        x, references, TARGETS, return_weights=True
    )
    torch.testing.assert_close(made.weights, (1 / norms) / (1 / norms).sum(1, keepdim=True))
    equal = OverBaselines(DeepLift(net)).attribute(x, references, TARGETS, return_weights=True)
    assert torch.equal(equal.weights, torch.full((4, 5), 0.2, dtype=torch.float64))
    # A fitness of groups of features.
    mask = torch.arange(9).view(3, 3).repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    made = OverBaselines(DeepLift(net), Deletion(output="softmax")).attribute(
        x, references, TARGETS, feature_mask=mask, return_weights=True
    )
    torch.testing.assert_close(made.weights.sum(1), torch.ones(4, dtype=torch.float64))
    with pytest.raises(ValueError, match="looks at maps of the inputs' shape, but LayerDeepLift"):
        OverBaselines(LayerDeepLift(net, net.conv), "deletion").attribute(x, references, TARGETS)


def test_feature_masks_go_with_their_rows(net, x, references):
    masks = torch.stack([torch.arange(72).view(2, 6, 6) // n for n in (9, 12, 18, 24)])
    wrapped = OverBaselines(FeatureAblation(net))
    made = wrapped.attribute(x, references, TARGETS, feature_mask=masks, internal_batch_size=3)
    for i in range(4):
        own = wrapped.attribute(x[i : i + 1], references, TARGETS[i], feature_mask=masks[i : i + 1])
        torch.testing.assert_close(made[i : i + 1], own)
    shared = wrapped.attribute(x, references, TARGETS, feature_mask=masks[:1])
    torch.testing.assert_close(shared[:1], made[:1])
    with pytest.raises(ValueError, match="feature_mask is used neither by DeepLift nor by the weighting"):
        OverBaselines(DeepLift(net)).attribute(x, references, TARGETS, feature_mask=masks)


def test_methods_that_draw_repeat_and_leave_the_generators_alone(net, x, references):
    wrapped = OverBaselines(KernelShap(net))
    torch.manual_seed(5)
    np.random.seed(5)
    before, of_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()
    kwargs = {"n_samples": 8, "feature_mask": torch.arange(2).view(1, 2, 1, 1).expand(1, 2, 6, 6)}
    one, two = (wrapped.attribute(x[:2], references[:3], 1, **kwargs) for _ in range(2))
    assert torch.equal(one, two)
    assert torch.equal(torch.get_rng_state(), before) and (np.random.get_state()[1] == of_numpy).all()
    other = wrapped.attribute(x[:2], references[:3], 1, generator=7, **kwargs)
    again = wrapped.attribute(x[:2], references[:3], 1, generator=7, **kwargs)
    assert torch.equal(other, again)
    draws, mask = OverBaselines(ShapleyValueSampling(net)), torch.arange(72).view(1, 2, 6, 6) // 12
    made = [
        draws.attribute(x[:1], references[:2], 1, n_samples=2, feature_mask=mask, generator=g)
        for g in (7, 7, 8, torch.Generator().manual_seed(3), torch.Generator().manual_seed(3))
    ]
    assert torch.equal(made[0], made[1]) and torch.equal(made[3], made[4])
    assert not torch.equal(made[0], made[2])
    with pytest.raises(TypeError, match="generator must be"):
        draws.attribute(x[:1], references[:2], 1, generator="seven")


def test_works_without_gradients_and_leaves_nothing_behind(net, x, references):
    for p in net.parameters():
        p.requires_grad_(False)
    wrapped = OverBaselines(DeepLift(net))
    expected = wrapped.attribute(x, references, TARGETS)
    kept = x.clone()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            made = wrapped.attribute(x, references, TARGETS)
        torch.testing.assert_close(made, expected)
        assert not made.requires_grad
    assert torch.equal(x, kept) and not x.requires_grad
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.attribute(x, references, TARGETS)


def test_in_noise_tunnel(net, x, references):
    wrapped = OverBaselines(DeepLift(net), baselines=references)
    torch.manual_seed(0)
    made = NoiseTunnel(wrapped).attribute(x, nt_samples=3, stdevs=1e-9, target=TARGETS)
    torch.testing.assert_close(made, wrapped.attribute(x, target=TARGETS), rtol=1e-4, atol=1e-6)


def test_deltas_of_given_attributions(net, x, references):
    wrapped = OverBaselines(DeepLift(net))
    assert wrapped.has_convergence_delta() and not OverBaselines(Occlusion(net)).has_convergence_delta()
    made = wrapped.attribute(x, references, TARGETS)
    assert wrapped.compute_convergence_delta(made, references, x, TARGETS).abs().max() < 1e-10
    weighted = OverBaselines(DeepLift(net), lambda problem, maps: torch.eye(5, dtype=torch.float64)[:4])
    made = weighted.attribute(x, references, TARGETS, return_weights=True, return_convergence_delta=True)
    assert made.delta.abs().max() < 1e-10
    given = weighted.compute_convergence_delta(made.attributions, references, x, TARGETS, weights=made)
    assert given.abs().max() < 1e-10
    with pytest.raises(ValueError, match="weights are missing for 5 baselines"):
        weighted.compute_convergence_delta(made.attributions, references, x, TARGETS)
    # Of a method that is not complete the delta says by how much.
    windows = {"sliding_window_shapes": (2, 3, 3), "return_convergence_delta": True}
    assert OverBaselines(Occlusion(net)).attribute(x, references, TARGETS, **windows).delta.abs().max() > 0.1


def test_smoothing(net, x, references):
    wrapped = OverBaselines(DeepLift(net))
    plain = wrapped.attribute(x, references, TARGETS)
    made = wrapped.attribute(x, references, TARGETS, smooth=0.2, return_convergence_delta=True)
    torch.testing.assert_close(made.attributions, smoothing.smoothed_mix(plain, 0.2))
    assert made.delta.abs().max() < 1e-10
    net.rows.clear()
    with pytest.raises(ValueError, match="smooth must be a number in"):
        wrapped.attribute(x, references, TARGETS, smooth=21)
    layered = OverBaselines(LayerDeepLift(net, net.pool)).attribute(x, references, TARGETS, smooth=0.2)
    assert layered.shape == (4, 3, 2, 2)


class Functional(Counted):
    def forward(self, x):
        h = self.pool(F.relu(self.conv(x))).flatten(1)
        return self.last(self.relu2(self.linear(h)))


class Twice(Counted):
    def forward(self, x):
        h = self.pool(self.relu(self.conv(x))).flatten(1)
        return self.last(self.relu(self.linear(h)))


def test_where_deep_lift_falls_back_the_modules_are_named(x, references):
    with pytest.warns(UserWarning, match=r"DeepLift is not complete .* the model \(Functional\) calls relu\. Use mod"):
        OverBaselines(DeepLift(Functional())).attribute(x, references, TARGETS)
    with pytest.warns(UserWarning, match=r"DeepLift is not complete .* the model \(Functional\) calls relu"):
        OverBaselines(DeepLift(Functional(), multiply_by_inputs=False)).attribute(x, references, TARGETS)
    with pytest.warns(UserWarning, match="LayerDeepLift is not complete"):
        model = Functional()
        OverBaselines(LayerDeepLift(model, model.conv)).attribute(x, references, TARGETS)
    model = Counted()
    model.relu = nn.Sequential(nn.GELU())
    with pytest.warns(UserWarning, match=r"relu\.0 \(GELU\) calls gelu"):
        OverBaselines(DeepLift(model)).attribute(x, references, TARGETS)
    model = Counted()
    model.pool = nn.MaxPool2d(2)
    with pytest.warns(UserWarning, match=r"in silence: pool \(MaxPool2d\) has no exact rule\. Use"):
        OverBaselines(DeepLift(model)).attribute(x, references, TARGETS)
    with pytest.raises(ValueError, match=r"a module of its own for each use, but relu \(ReLU\) is used 2 times; make"):
        OverBaselines(DeepLift(Twice())).attribute(x, references, TARGETS)


class OneBend(nn.Module):
    """A ReLU without a module, which does nothing where its inputs are positive."""

    def __init__(self, act=F.relu):
        super().__init__()
        self.first, self.last, self.act = nn.Linear(4, 4, bias=False), nn.Linear(4, 2), act
        with torch.no_grad():
            self.first.weight.copy_(torch.eye(4))
            self.last.weight.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]]))
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.last(self.act(self.first(x)))


@pytest.fixture
def bent():
    """Of four examples and two baselines only the last example's second pair goes around the bend."""
    x = torch.full((4, 4), 3.0)
    references = torch.stack([torch.full((4, 4), 1.0), torch.full((4, 4), 2.0)], dim=1)
    references[3, 1] = -2.0
    return x, references


@pytest.mark.parametrize("size", [1, 3, None])
def test_later_pairs_are_asked_for_their_sums(bent, size):
    with pytest.warns(UserWarning, match=r"DeepLift is not complete .* calls relu") as seen:
        OverBaselines(DeepLift(OneBend())).attribute(*bent, 1, internal_batch_size=size)
    assert sum("is not complete" in str(warning.message) for warning in seen) == 1
    model = OneBend()
    with pytest.warns(UserWarning, match="LayerDeepLift is not complete"):
        OverBaselines(LayerDeepLift(model, model.first)).attribute(*bent, 1, internal_batch_size=size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OverBaselines(DeepLift(OneBend())).attribute(bent[0], bent[1].abs(), 1, internal_batch_size=size)


def test_sums_are_asked_for_in_the_methods_own_forwards(unprobed, bent):
    x, references = bent[0], bent[1].abs()
    model = OneBend()
    OverBaselines(DeepLift(model)).attribute(x, references, 1, internal_batch_size=2)
    assert model.calls == 4
    assert not model._forward_hooks and not model._forward_pre_hooks


@pytest.mark.parametrize(
    "given", [{"neuron_selector": 1}, {"neuron_selector": (slice(0, 2),)}, {"neuron_selector": lambda n: n.sum(1)}]
)
def test_neurons_are_asked_for_their_sums(bent, given):
    model = OneBend()
    with pytest.warns(UserWarning, match=r"NeuronDeepLift is not complete for this neuron.* calls relu"):
        OverBaselines(NeuronDeepLift(model, model.last)).attribute(*bent, internal_batch_size=1, **given)
    with pytest.warns(UserWarning, match=r"NeuronDeepLift is not complete for this neuron"):
        OverBaselines(NeuronDeepLift(model, model.last)).attribute(*bent, attribute_to_neuron_input=True, **given)
    model = OneBend(nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        OverBaselines(NeuronDeepLift(model, model.last)).attribute(*bent, **given)
        # Before the bend nothing is missed.
        model = OneBend()
        OverBaselines(NeuronDeepLift(model, model.first)).attribute(*bent, **given)


def test_who_promises_no_sum_is_not_asked_for_it(x, references):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = Functional()
        OverBaselines(DeepLift(Counted(), multiply_by_inputs=False)).attribute(x, references, TARGETS)
        # There multipliers have no differences at hand.
        OverBaselines(LayerDeepLift(model, model.conv, multiply_by_inputs=False)).attribute(x, references, TARGETS)
        OverBaselines(DeepLift(model)).attribute(
            x, references, TARGETS, custom_attribution_func=lambda m, i, b: tuple(2 * v for v in m)
        )
        # After the layer all is hooked; before it nothing matters.
        OverBaselines(LayerDeepLift(model, model.pool)).attribute(x, references, TARGETS)
        # What the output changes by is but rounding.
        inputs = x.float().flatten(1)
        inputs = 1e3 * (inputs - inputs.mean(1, keepdim=True))
        total = nn.Linear(72, 1, bias=False)
        nn.init.ones_(total.weight)
        OverBaselines(DeepLift(total)).attribute(inputs, None, 0)


def test_what_is_no_method_over_one_baseline(net, x, references):
    with pytest.raises(TypeError, match=r"got <class .*; make an instance of it: DeepLift\(model\)"):
        OverBaselines(DeepLift)
    with pytest.raises(TypeError, match="method must be a Captum attribution"):
        OverBaselines(net)
    for method in (
        DeepLiftShap(net),
        GradientShap(net),
        LayerGradientShap(net, net.conv),
        ExpectedGradients(net),
        OverBaselines(DeepLift(net)),
    ):
        with pytest.raises(ValueError, match=f"{type(method).__name__} averages over baselines itself"):
            OverBaselines(method)
    with pytest.raises(ValueError, match=r"InputXGradient\.attribute has no argument of that name"):
        OverBaselines(InputXGradient(net))
    with pytest.raises(TypeError, match=r"DeepLift\.attribute has no argument 'n_steps', 'windows'"):
        OverBaselines(DeepLift(net)).attribute(x, references, TARGETS, windows=3, n_steps=2)
    with pytest.raises(ValueError, match="weighting must be one of"):
        OverBaselines(DeepLift(net), "best").attribute(x, references, TARGETS)
    with pytest.raises(ValueError, match="weighting='equal' has no fittest baselines"):
        OverBaselines(DeepLift(net)).attribute(x, references, TARGETS, keep=2)

    class Sums(DeepLift):
        def attribute(self, inputs, baselines=None, target=None):
            return super().attribute(inputs, baselines, target).sum(0)

    with pytest.raises(ValueError, match="Sums must return one map per example: 5 pairs went in"):
        OverBaselines(Sums(net)).attribute(x[:1], references, 1)


def test_input_times_gradient_from_baselines(net, x, references):
    points = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(points)[range(4), TARGETS].sum(), points)
    expected = gradient * (x - references.mean(0))
    made = ExpectedGradients(net).attribute(x, references, TARGETS, n_steps=1, method="riemann_right")
    torch.testing.assert_close(made, expected)


def test_groups(net, x, references):
    """The method's maps, summed over groups; the weights' mask is the same."""
    mask = torch.arange(2).view(1, 2, 1, 1)
    wrapped = OverBaselines(DeepLift(net))
    plain = wrapped.attribute(x, references, TARGETS, return_convergence_delta=True)
    arguments = {"feature_mask": mask, "return_convergence_delta": True}
    made = wrapped.attribute(x, references, TARGETS, group_attributions="sum", **arguments)
    torch.testing.assert_close(made.attributions, plain.attributions.sum((2, 3)))
    torch.testing.assert_close(made.delta, plain.delta)
    shared = wrapped.attribute(x, references, TARGETS, group_attributions="broadcast", **arguments)
    torch.testing.assert_close(shared.attributions, made.attributions[:, :, None, None].expand_as(x))
    torch.testing.assert_close(shared.delta, plain.delta)
    for method, words in ((LayerDeepLift(net, net.pool), "has maps of layers"), (FeatureAblation(net), "itself")):
        with pytest.raises(ValueError, match=words):
            OverBaselines(method).attribute(x, references, TARGETS, feature_mask=mask, group_attributions="sum")
