"""Literal second derivations for D_alpha: another search, and the maps it ranks by."""

from __future__ import annotations

import warnings

import pytest
import torch

from captum_wg import WeightedGradients


@pytest.fixture(scope="session")
def scan():
    """The least number of features, tried one after another."""

    def least(curve, start, n_features, alpha=0.5, tolerance=0.0):
        return next((k for k in range(1, n_features + 1) if curve(k) <= alpha * start), n_features)

    return least


@pytest.fixture
def integrated_gradients():
    """(x - x') times the mean gradient at the middles of equal steps; x and start without the batch."""

    def maps(f, x, start, steps=24):
        total = torch.zeros_like(x)
        for s in range(steps):
            point = (start + (s + 0.5) / steps * (x - start)).requires_grad_()
            total += torch.autograd.grad(f(point.unsqueeze(0)).sum(), point)[0] / steps
        return (x - start) * total

    return maps


@pytest.fixture
def fitness_of():
    """WeightedGradients.fitness, also of examples that no removal brings down."""

    def fitness(function, *args, **kwargs):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for examples .* removing every feature")
            return WeightedGradients(function).fitness(*args, **kwargs)

    return fitness


@pytest.fixture
def sharp(make_net):
    """sharp(features): logits far enough apart for a probability to fall to a share of itself."""

    def make(features):
        net = make_net(features)
        return lambda x: 12 * net(x)

    return make
