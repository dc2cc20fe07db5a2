"""Layers seen, replaced and selected from, beside the model's own modules called one after another."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_wg.engine.activations import Activations, FromActivations, Layers, Neuron


class Model(nn.Module):
    """One module after another, the second returning two Tensors of different kinds."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.first, self.second, self.last = nn.Linear(3, 4), Halves(), nn.ReLU(inplace=True)
        self.double()

    def forward(self, x, shift=0.0):
        a, b = self.second(self.first(x))
        return (self.last(a) * b.double()).sum((1, 2)) + shift


class Halves(nn.Module):
    def forward(self, x):
        return x.view(-1, 2, 2), x[:, :1, None].float()


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def x(draw):
    return draw(5, 3)


def test_activations_are_one_row_each_and_can_be_taken_apart(model, x):
    taken = Activations(Layers(model, [model.first, model.second]))
    flat = taken(x)
    assert flat.shape == (5, 4 + 4 + 1) and taken.counts == [1, 2]
    a, b, c = taken.split(flat)
    assert torch.equal(a, model.first(x)) and torch.equal(b, a.view(5, 2, 2)) and torch.equal(c, a[:, :1, None].float())
    assert c.dtype == torch.float32
    (_, again, _) = taken.split(flat.view(1, 5, 9))
    assert torch.equal(again[0], b)


def test_what_a_module_after_it_writes_in_place_is_not_seen(model, x):
    of_output = Activations(Layers(model, [model.second]))(x)
    of_input = Activations(Layers(model, [model.last], at_input=True))(x)
    assert (of_input < 0).any() and torch.equal(of_output[:, :4], of_input)


def test_the_model_goes_on_from_other_activations(model, x, draw):
    layers = Layers(model, [model.second])
    goes_on = FromActivations(layers, [2])
    a, b = draw(5, 2, 2, seed=1), draw(5, 1, 1, seed=2).float()
    kept = a.clone()
    assert torch.equal(goes_on(a, b, x, 1.0), (a.relu() * b.double()).sum((1, 2)) + 1)
    assert torch.equal(a, kept)
    own = model.second(model.first(x))
    assert torch.equal(goes_on(*own, x), model(x))


def test_gradients_reach_the_activations_and_no_farther(model, x, draw):
    a = draw(5, 4, seed=1).requires_grad_()
    x.requires_grad_()
    output = FromActivations(Layers(model, [model.first]), [1])(a, x).sum()
    of_a, of_x = torch.autograd.grad(output, (a, x), allow_unused=True)
    assert of_a.any() and of_x is None


@pytest.mark.parametrize("at_input", [False, True])
def test_a_neuron_is_one_number_a_row(model, x, at_input):
    layers = Layers(model, [model.last], at_input)
    a = model.first(x).view(5, 2, 2)
    a = a if at_input else a.relu()
    assert torch.equal(Neuron(layers, (1, 0))(x), a[:, 1, 0])
    assert torch.equal(Neuron(layers, (slice(None), 1))(x), a[:, :, 1].sum(1))
    torch.testing.assert_close(Neuron(layers, lambda a: a.mean())(x), a.mean((1, 2)))
    one = x[:1]
    torch.testing.assert_close(Neuron(layers, lambda a: a.mean())(one), a[:1].mean((1, 2)))


def test_a_callable_is_given_all_of_a_layers_tensors(model, x):
    a, b = model.second(model.first(x))
    layers = Layers(model, [model.second])
    assert torch.equal(Neuron(layers, lambda pair: pair[0][:, 0, 0] * pair[1][:, 0, 0])(x), a[:, 0, 0] * b[:, 0, 0])
    of_all = Neuron(layers, lambda pair: pair[0].sum() + pair[1].sum())(x)
    torch.testing.assert_close(of_all, a.sum((1, 2)) + b.sum((1, 2)))


def test_a_layer_may_come_before_another_in_the_list_in_any_order(model, x):
    forwards, backwards = (
        Activations(Layers(model, order)) for order in ([model.first, model.last], [model.last, model.first])
    )
    flat, turned = forwards(x), backwards(x)
    assert torch.equal(flat[:, :4], turned[:, 4:]) and torch.equal(flat[:, 4:], turned[:, :4])


def test_a_row_of_one_number_is_an_activation(x):
    class Sums(nn.Module):
        def forward(self, x):
            return x.sum(1)

    model = nn.Sequential(Sums(), nn.Tanh())
    taken = Activations(Layers(model, [model[0]]))
    (activation,) = taken.split(taken(x))
    assert torch.equal(activation, x.sum(1))
    assert torch.equal(FromActivations(Layers(model, [model[0]]), [1])(activation, x), model(x))
