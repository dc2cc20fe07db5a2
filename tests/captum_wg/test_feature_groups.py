"""Attributions of groups: sums over their elements, returned for each group or shared back."""

from __future__ import annotations

import pytest
import torch
from captum.attr import FeatureAblation, KernelShap
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_wg import (
    Deletion,
    ExpectedGradients,
    LayerExpectedGradients,
    LayerWeightedGradients,
    NeuronExpectedGradients,
    WeightedGradients,
)
from captum_wg.feature_groups import grouped

pytestmark = pytest.mark.filterwarnings("ignore:for examples .* not even removing:UserWarning")
MASK = torch.tensor([[0, 2, 1, 0, 1]])


def literally(maps, masks, n_groups):
    """The sum of each group of each example, one element after another."""
    sums = torch.zeros(len(maps[0]), n_groups, dtype=maps[0].dtype)
    for values, mask in zip(maps, masks, strict=True):
        numbers = mask.expand(values.shape)
        for place in torch.cartesian_prod(*(torch.arange(n) for n in values.shape)):
            place = tuple(place.tolist())
            sums[place[0], numbers[place]] += values[place]
    return sums


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_sums_and_shares_literally(data):
    shapes = data.draw(st.lists(st.sampled_from([(3,), (2, 3), (2, 2, 2)]), min_size=1, max_size=2))
    n_groups, n_examples = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    own = data.draw(st.booleans())
    maps = tuple(torch.randn(n_examples, *shape, generator=generator, dtype=torch.float64) for shape in shapes)
    lead = n_examples if own else 1
    masks = tuple(torch.randint(n_groups, (lead, *shape), generator=generator) for shape in shapes)
    masks[0].view(-1)[:n_groups] = torch.arange(n_groups)
    expected = literally(maps, masks, n_groups)
    torch.testing.assert_close(grouped(maps, masks, "sum"), expected)
    shared = grouped(maps, masks)
    for found, mask, values in zip(shared, masks, maps, strict=True):
        flat = mask.expand(values.shape).reshape(n_examples, -1)
        torch.testing.assert_close(found, expected.gather(1, flat).view(values.shape))


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients])
def test_of_an_additive_function_groups_are_captums(cls, draw):
    """Where features don't interact, a group's attribution is what its ablation takes away, and its Shapley value."""
    x, references = draw(3, 5), draw(1, 5, seed=1)
    f = lambda z: (z**3).sum(1) + 5  # noqa: E731
    shared = cls(f).attribute(x, references, feature_mask=MASK, group_attributions="broadcast")
    torch.testing.assert_close(shared, FeatureAblation(f).attribute(x, references, feature_mask=MASK))
    sums = cls(f).attribute(x[:1], references, feature_mask=MASK, group_attributions="sum")
    shapley = KernelShap(f).attribute(
        x[:1].float(), references.float(), feature_mask=MASK, n_samples=200, return_input_shape=False
    )
    torch.testing.assert_close(sums.float(), shapley.view(1, -1), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients])
@pytest.mark.parametrize("form", ["sum", "broadcast"])
def test_groups_over_a_tuple_are_complete(cls, form, make_net, draw):
    net = make_net(7)
    f = lambda a, b: (9 * net(torch.cat([a, b.flatten(1)], 1))[:, 1]).exp()  # noqa: E731
    x = draw(3, 3), draw(3, 2, 2, seed=1)
    references = draw(4, 3, seed=2), draw(4, 2, 2, seed=3)
    masks = torch.tensor([[0, 1, 1]]), torch.tensor([[[2, 0], [2, 1]]])
    arguments = {"baselines": references, "return_convergence_delta": True}
    plain = cls(f).attribute(x, **arguments)
    if cls is WeightedGradients:
        plain = cls(f).attribute(x, **arguments, feature_mask=masks)
    made = cls(f).attribute(x, **arguments, feature_mask=masks, group_attributions=form)
    expected = literally(plain.attributions, masks, 3)
    torch.testing.assert_close(made.delta, plain.delta)
    if form == "sum":
        torch.testing.assert_close(made.attributions, expected)
    else:
        assert [a.shape for a in made.attributions] == [v.shape for v in x]
        torch.testing.assert_close(made.attributions[0], expected[:, masks[0][0]])
        torch.testing.assert_close(made.attributions[1].flatten(1), expected[:, masks[1].flatten()])


def test_weighted_gradients_alone_take_the_mask_for_d_alpha_only(make_net, draw):
    """Without group_attributions elements keep their own; the weights are the same either way."""
    net, x, references = make_net(5), draw(3, 5), draw(4, 5, seed=1)
    method = WeightedGradients(lambda z: (9 * net(z)[:, 1]).exp())
    arguments = {"feature_mask": MASK, "return_weights": True, "weighting": Deletion(alpha=0.9)}
    own = method.attribute(x, references, **arguments)
    assert own.weights.std(1).max() > 0.01
    made = method.attribute(x, references, **arguments, group_attributions="sum")
    assert torch.equal(own.weights, made.weights)
    assert own.attributions.shape == x.shape
    torch.testing.assert_close(made.attributions, literally((own.attributions,), (MASK,), 3))


def test_a_mask_of_each_examples_own(draw):
    """An example without a group has 0 there."""
    x = draw(2, 4)
    mask = torch.tensor([[0, 0, 1, 1], [0, 2, 2, 0]])
    made = ExpectedGradients(lambda z: z.sum(1)).attribute(x, feature_mask=mask, group_attributions="sum")
    expected = [[x[0, :2].sum(), x[0, 2:].sum(), 0], [x[1, 0] + x[1, 3], 0, x[1, 1] + x[1, 2]]]
    torch.testing.assert_close(made, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
def test_dtypes(wide, draw):
    """Sums are taken wide, and come back in the inputs' dtypes, the widest of them where groups span a tuple."""
    x = torch.full((1, 400), 0.7, dtype=torch.bfloat16), draw(1, 2).to(wide)
    masks = torch.zeros(1, 400, dtype=torch.int32), torch.tensor([[0, 1]], dtype=torch.uint8)
    arguments = {"feature_mask": masks, "n_steps": 1, "method": "riemann_middle"}
    method = ExpectedGradients(lambda a, b: a.float().sum(1) + b.sum(1))
    sums = method.attribute(x, **arguments, group_attributions="sum")
    assert sums.dtype == wide
    torch.testing.assert_close(sums[0, 0], x[0].float().sum() + x[1][0, 0])
    shared = method.attribute(x, **arguments, group_attributions="broadcast")
    assert [s.dtype for s in shared] == [torch.bfloat16, wide]
    weighted = WeightedGradients(lambda a, b: a.float().sum(1) + b.sum(1)).attribute(
        x, (torch.zeros(2, 400).bfloat16(), torch.zeros(2, 2, dtype=wide)), **arguments, group_attributions="sum"
    )
    torch.testing.assert_close(weighted, sums)


def test_at_a_layer_and_of_a_neuron(draw):
    """Tokens are groups by themselves; a mask may join those of several layers."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        words, places, head = nn.Embedding(9, 3), nn.Embedding(4, 3), nn.Linear(12, 2)
    net = nn.Module()
    net.words, net.places, net.head = words, places, head
    net.forward = lambda ids: head((words(ids) * (1 + places(torch.arange(4).expand(len(ids), 4)))).flatten(1)).exp()
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    for cls in (LayerExpectedGradients, LayerWeightedGradients):
        own = cls(net, words).attribute(ids, 0, 1)
        tokens = cls(net, words).attribute(ids, 0, 1, group_attributions="sum", return_convergence_delta=True)
        torch.testing.assert_close(tokens.attributions, own.sum(2))
        assert tokens.delta.abs().max() < 1e-5
    method = LayerExpectedGradients(net, [words, places])
    each = method.attribute(ids, 0, 1)
    masks = [torch.arange(4).view(1, 4, 1), torch.arange(4).view(1, 4, 1)]
    joined = method.attribute(ids, 0, 1, feature_mask=masks, group_attributions="sum")
    torch.testing.assert_close(joined, (each[0] + each[1]).sum(2))
    single = LayerExpectedGradients(net, [words]).attribute(ids, 0, 1, group_attributions="sum")
    torch.testing.assert_close(single, LayerExpectedGradients(net, words).attribute(ids, 0, 1).sum(2))
    with pytest.raises(ValueError, match="smooth has no meaning for the vectors of tokens"):
        LayerExpectedGradients(net, words).attribute(ids, 0, 1, smooth=0.1)
    x, linear = draw(2, 5), nn.Linear(5, 2).double()
    neuron = NeuronExpectedGradients(nn.Sequential(linear, nn.Tanh()), linear)
    sums = neuron.attribute(x, 1, feature_mask=MASK, group_attributions="sum")
    torch.testing.assert_close(sums, literally((x * linear.weight[1].detach(),), (MASK,), 3))


@pytest.mark.parametrize(
    ("form", "mask", "error", "words"),
    [
        ("sum", None, ValueError, "group_attributions='sum' needs feature_mask"),
        ("mean", MASK, ValueError, "group_attributions must be one of"),
        ("sum", MASK * 2, ValueError, r"number the groups from 0 without gaps .* got 0, 2, 4; .*inverse"),
        ("broadcast", MASK + 1, ValueError, "number the groups from 0 without gaps"),
        ("sum", MASK - 1, ValueError, "number the groups from 0 without gaps .* got -1, 0, 1;"),
        ("sum", MASK[:, :4], ValueError, r"feature_mask has shape \(1, 4\), which does not broadcast"),
        ("sum", MASK.float(), TypeError, "feature_mask must hold integer Tensors"),
        ("sum", (MASK, MASK), ValueError, "feature_mask is a tuple of 2, but there are 1 inputs"),
    ],
)
@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients])
def test_groups_that_can_not_be_are_refused_before_gradients(cls, form, mask, error, words, draw, record):
    function = record(lambda z: z.sum(1) + 9)
    with pytest.raises(error, match=words):
        cls(function).attribute(draw(2, 5), feature_mask=mask, group_attributions=form)
    assert not function.graded


def test_a_mask_without_a_use_is_refused(draw):
    with pytest.raises(ValueError, match="feature_mask alone changes nothing here"):
        ExpectedGradients(lambda z: z.sum(1)).attribute(draw(2, 5), feature_mask=MASK)
