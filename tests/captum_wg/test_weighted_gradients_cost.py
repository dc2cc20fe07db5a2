"""How many gradients and forwards WeightedGradients takes, and which of them are used again."""

from __future__ import annotations

import math

import pytest
import torch

from captum_wg import Automatic, Deletion, WeightedGradients
from captum_wg.weighting.weights import inverse_power, smallest

pytestmark = [pytest.mark.filterwarnings("error::UserWarning"), pytest.mark.usefixtures("unprobed")]

EXACT = Deletion(tolerance=0.0)


@pytest.fixture
def many(draw):
    """Six examples of 40 features and eight baselines of rising size."""
    size = torch.linspace(0.1, 6, 8).double().view(8, 1)
    return draw(6, 40).abs() + 0.1, draw(8, 40, seed=1) * size


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 7, 8, 12])
def test_forwards_are_at_most_those_of_the_gradients_the_bisection_and_the_inputs(rising, draw, record, n_features):
    x, references, f = draw(4, n_features).abs() + 0.1, draw(5, n_features, seed=1), record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=6, weighting=EXACT)
    assert sum(f.graded) == 4 * 5 * 6
    assert sum(f.plain) <= 4 * 5 * math.ceil(math.log2(n_features + 1)) + 4


def test_each_step_of_the_bisection_is_one_sweep_over_all_examples_and_baselines(rising, draw, record):
    x, references, f = draw(4, 12).abs() + 0.1, draw(5, 12, seed=1), record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=6, weighting=EXACT)
    assert f.plain[:2] == [4, 20]  # the inputs; all rows at once
    assert len(f.plain) <= 1 + math.ceil(math.log2(13))


def test_screening_spends_full_steps_on_those_kept_alone(rising, spread, record):
    for keep, gradients, maps in ((2, 5 * 4 + 2 * 30, 5 + 2), (1, 5 * 4 + 30, 5), (5, 5 * 30, 5)):
        f = record(rising)
        WeightedGradients(f).attribute(*spread, n_steps=30, keep=keep, screening_steps=4)
        assert sum(f.graded) == 3 * gradients
        assert sum(f.plain) <= 3 + 3 * maps * math.ceil(math.log2(13))


@pytest.mark.parametrize(
    ("method", "coarse", "fine"),
    [
        ("riemann_middle", 6, 30),
        ("riemann_left", 6, 30),
        ("riemann_trapezoid", 6, 31),
        ("riemann_shared_end", 6, 17),
        ("gausslegendre", 8, 8),
    ],
)
@pytest.mark.parametrize("power", [1, 0])
@pytest.mark.parametrize("keep", [2, 1])
def test_screening_uses_its_gradients_again(rising, spread, record, method, coarse, fine, power, keep):
    x, references = spread
    kwargs = dict(
        n_steps=fine,
        method=method,
        weighting=Deletion(power=power),
        return_weights=True,
        return_convergence_delta=True,
    )
    f = record(rising)
    found, delta, weights = WeightedGradients(f).attribute(x, references, keep=keep, screening_steps=coarse, **kwargs)
    shared = method in ("riemann_trapezoid", "riemann_shared_end")
    per_path = coarse - shared
    assert sum(f.graded) == 3 * (5 * per_path + shared + keep * (fine - coarse))
    # The same baselines chosen by hand, with nothing to use again.
    chosen = WeightedGradients(rising).attribute(
        x, references, n_steps=coarse, method=method, keep=keep, return_weights=True
    )[1]
    rows = torch.stack([references[w > 0] for w in chosen])
    expected, expected_delta, expected_weights = WeightedGradients(rising).attribute(x, rows, **kwargs)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(delta, expected_delta)
    torch.testing.assert_close(weights[weights > 0].view(3, keep), expected_weights)
    assert torch.equal(weights > 0, chosen > 0)


def test_keeping_some_takes_fewer_forwards_for_the_same_weights(rising, many, record):
    x, references = many
    kwargs = dict(n_steps=6, weighting=EXACT)
    full, some = record(rising), record(rising)
    WeightedGradients(full).attribute(x, references, **kwargs)
    _, weights = WeightedGradients(some).attribute(x, references, keep=3, return_weights=True, **kwargs)
    assert sum(some.graded) == sum(full.graded) and sum(some.plain) < 0.9 * sum(full.plain)
    distances = WeightedGradients(rising).fitness(x, references, **kwargs)
    kept = smallest(distances, 3)
    torch.testing.assert_close(weights.gather(1, kept), inverse_power(distances.gather(1, kept)))
    assert (weights > 0).sum() == 18


def test_who_is_kept_takes_fewer_forwards_than_how_they_weigh(rising, many, record):
    def forwards(power, **kwargs):
        f = record(rising)
        weighting = Deletion(power=power, tolerance=0.0)
        WeightedGradients(f).attribute(*many, n_steps=6, keep=4, weighting=weighting, **kwargs)
        return sum(f.plain)

    assert forwards(power=0) < 0.9 * forwards(power=1)
    # The same maps: screening asks who is kept, and equal weights need no more.
    assert forwards(power=0, screening_steps=6) == forwards(power=0)


def test_forwards_are_not_taken_twice(rising, draw, record):
    x, references = draw(6, 12).abs() + 0.1, draw(8, 12, seed=1)

    def forwards(**kwargs):
        f = record(rising)
        WeightedGradients(f).attribute(x, references, **kwargs)
        return sum(f.plain)

    # Eight shared baselines, and the inputs not again.
    assert forwards(n_steps=6, return_convergence_delta=True) == forwards(n_steps=6) + 8
    kept = dict(n_steps=6, keep=4, screening_steps=2)
    assert forwards(**kept, return_convergence_delta=True) == forwards(**kept) + 8
    automatic = dict(n_steps=Automatic(max_steps=3000))
    assert forwards(**automatic, return_convergence_delta=True) == forwards(**automatic)
    assert forwards(n_steps=6, keep=1) == forwards(n_steps=6, keep=1, weighting=Deletion(power=0))
