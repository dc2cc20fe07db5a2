"""Baselines bound in the constructor serve wherever none are given."""

import warnings

import pytest
import torch

from captum_wg import ExpectedGradients, WeightedGradients

# No removal halves these functions, so the weights are equal; that is not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore:for examples")


def cubes(x):
    return (x**3).sum(1) + 4


X = torch.tensor([[1.0, 2.0], [0.5, 1.5]]).double()
REFERENCES = torch.tensor([[0.0, 0.0], [1.0, -1.0], [0.5, 0.0]]).double()


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients])
def test_compute_convergence_delta_takes_them(cls):
    method = cls(cubes, baselines=REFERENCES)
    attributions, delta = method.attribute(X, n_steps=1, return_convergence_delta=True)
    weights = None
    if cls is WeightedGradients:
        _, weights = method.attribute(X, n_steps=1, return_weights=True)
    torch.testing.assert_close(method.compute_convergence_delta(attributions, None, X, weights=weights), delta)
    assert delta.abs().min() > 0.1
    from_zero = method.compute_convergence_delta(attributions, 0.0, X)
    torch.testing.assert_close(from_zero, attributions.sum(1) - (cubes(X) - 4))


def test_compute_convergence_delta_asks_for_their_weights():
    method = WeightedGradients(cubes, baselines=REFERENCES)
    with pytest.raises(ValueError, match="weights are missing for 3 baselines"):
        method.compute_convergence_delta(X, None, X)


def test_a_bound_set_is_shared_without_asking():
    # As many rows as a wrapper happens to expand the examples to.
    x, references = torch.randn(4, 3), torch.randn(4, 3)
    net = torch.nn.Linear(3, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bound = ExpectedGradients(net, baselines=references).attribute(x)
    assert torch.equal(bound, ExpectedGradients(net).attribute(x, references, pairing="shared"))
