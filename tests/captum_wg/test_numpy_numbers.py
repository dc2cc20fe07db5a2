"""Numbers as numpy gives them (the mean of an array, an entry of it) serve as settings."""

import numpy as np
import torch

from captum_wg import Automatic, Deletion, ExpectedGradients, NeuronExpectedGradients, Stability, WeightedGradients

X = torch.tensor([[1.0, 2.0], [0.5, 1.5]])
REFERENCES = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.5, 0.0]])


def product(x):
    return x.prod(1)


def test_settings_of_weighted_gradients():
    method = WeightedGradients(product)
    plain = method.attribute(X, REFERENCES, weighting=Deletion(alpha=0.5, tolerance=0.25, power=2.0))
    numbers = Deletion(alpha=np.float32(0.5), tolerance=np.float32(0.25), power=np.int64(2))
    assert torch.equal(method.attribute(X, REFERENCES, weighting=numbers), plain)


def test_settings_of_automatic_steps():
    method = ExpectedGradients(product)
    plain = method.attribute(X, REFERENCES, n_steps=Automatic(0.25, 50))
    assert torch.equal(method.attribute(X, REFERENCES, n_steps=Automatic(np.float32(0.25), np.int64(50))), plain)


def test_neurons():
    model = torch.nn.Linear(2, 3)
    method = NeuronExpectedGradients(model, model)
    plain = method.attribute(X, 1, REFERENCES)
    for selector in (np.int64(1), (np.int64(1),)):
        assert torch.equal(method.attribute(X, selector, REFERENCES), plain)


def test_radius():
    method = Stability(product)
    plain = method.attribute(X, REFERENCES, radius=0.5)
    assert torch.equal(method.attribute(X, REFERENCES, radius=np.float32(0.5)), plain)
