from __future__ import annotations

import pytest
import torch

from captum_wg import Deletion, Equal, ExpectedGradients, WeightedGradients

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture
def negative(rising):
    """A function that has no D_alpha."""
    return lambda x: -rising(x)


@pytest.mark.parametrize("weighting", ["equal", Equal(), Deletion(power=0)], ids=str)
@pytest.mark.usefixtures("unprobed")
def test_equal_weights_are_expected_gradients_and_run_no_fitness(negative, spread, record, weighting):
    x, references = spread
    f = record(negative)
    found, weights = WeightedGradients(f).attribute(x, references, weighting=weighting, n_steps=7, return_weights=True)
    assert (sum(f.graded), f.plain) == (3 * 5 * 7, [])
    assert torch.equal(found, ExpectedGradients(negative).attribute(x, references, n_steps=7))
    assert torch.equal(weights, torch.full((3, 5), 0.2, dtype=torch.float64))
    kept = WeightedGradients(f).attribute(x, references, weighting=weighting, keep=1.0, n_steps=7)
    assert f.plain == [] and torch.equal(kept, found)


@pytest.mark.usefixtures("unprobed")
def test_equal_norms_need_no_fitness_either(negative, spread, record, maps_of):
    x, references = spread
    f = record(negative)
    found, weights = WeightedGradients(f).attribute(
        x, references, weighting=Equal(normalise_maps=True), return_weights=True
    )
    assert f.plain == []
    maps = maps_of(negative, x, references)
    expected = 1 / maps.abs().sum(2)
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(found, (weights.unsqueeze(2) * maps).sum(1))
    power_zero = Deletion(power=0, normalise_maps=True)
    same, alike = WeightedGradients(f).attribute(x, references, weighting=power_zero, return_weights=True)
    assert torch.equal(same, found) and torch.equal(alike, weights)


@pytest.mark.parametrize("how", [{}, {"screening_steps": 3}], ids=str)
@pytest.mark.parametrize("weighting", ["equal", Equal(normalise_maps=True)], ids=str)
@pytest.mark.usefixtures("unprobed")
def test_equal_weights_have_no_fittest_and_say_so_before_gradients_are_spent(rising, spread, record, weighting, how):
    f = record(rising)
    with pytest.raises(ValueError, match=r"no fittest baselines to keep; use Deletion\(power=0\)"):
        WeightedGradients(f).attribute(*spread, weighting=weighting, keep=2, **how)
    assert f.sizes == []


def test_power_zero_keeps_the_fittest_and_weighs_them_equally(rising, negative, spread):
    x, references = spread
    method = WeightedGradients(rising)
    _, weights = method.attribute(x, references, weighting=Deletion(power=0), keep=2, return_weights=True)
    _, plain = method.attribute(x, references, keep=2, return_weights=True)
    assert torch.equal(weights, (plain > 0) / 2)
    with pytest.warns(UserWarning, match=r"f\(x\) of examples 0, 1, 2 is not positive"):
        WeightedGradients(negative).attribute(x, references, weighting=Deletion(power=0), keep=2)


@pytest.mark.parametrize("value", ["no", 1, None])
def test_normalise_maps_is_checked(value):
    with pytest.raises(TypeError, match=f"normalise_maps must be True or False, got {value!r}"):
        Equal(normalise_maps=value)
