from __future__ import annotations

import dataclasses
import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg import Both, Deletion, Insertion, WeightedGradients
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting import FitnessWeighting
from captum_wg.weighting.fitness import geometric_mean
from captum_wg.weighting.maps import StoredMaps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import inverse_power, of_normalised_maps, only, smallest

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

KINDS = (Deletion, Insertion, Both)


# --- settings


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        *[("alpha", v, r"alpha must be a number in \(0.0, 1.0\)") for v in (0, 1, 0.0, 1.0, -0.5, 2, math.nan, "0.5")],
        *[("tolerance", v, "tolerance must be a number") for v in (-0.1, math.nan, None)],
        *[("max_iterations", v, "max_iterations must be a whole number") for v in (0, -1, 1.5)],
        *[("power", v, "power must be a number") for v in (-1, math.nan, "2")],
        ("power", math.inf, "power must be finite, got inf; keep=1"),
        ("ranking", "abs", "ranking must be one of .'signed', 'absolute'., got 'abs'"),
        *[("output", v, "output must be one of") for v in ("logits", None, 3)],
        ("neutral", [], "neutral is an empty list; give at least one"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_checked(kind, name, value, match):
    with pytest.raises(ValueError, match=match):
        kind(**{name: value})


@pytest.mark.parametrize("value", ["no", 1, None])
def test_normalise_maps_is_checked(value):
    with pytest.raises(TypeError, match=f"normalise_maps must be True or False, got {value!r}"):
        Deletion(normalise_maps=value)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_those_of_the_paper_and_do_not_change(kind):
    made = kind()
    assert dataclasses.asdict(made) == {
        "alpha": 0.5,
        "tolerance": 0.01,
        "max_iterations": 100,
        "neutral": "auto",
        "ranking": "signed",
        "output": "auto",
        "power": 1.0,
        "normalise_maps": False,
        "score": "output",
    }
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.alpha = 0.3
    assert pickle.loads(pickle.dumps(kind(alpha=0.25))) == kind(alpha=0.25) != made


# --- maps that are there already


@pytest.fixture
def stored(rising, spread, maps_of):
    x, references = spread
    problem = Problem(rising, input_gradients, x)
    maps = maps_of(rising, x, references)
    return problem, StoredMaps((maps,), Features((x,))), maps


@pytest.mark.parametrize("kind", KINDS)
def test_stored_maps_have_the_fitness_and_weights_of_the_call(rising, spread, stored, kind):
    problem, maps, values = stored
    rule = kind(neutral=[0.0, 0.05], power=1.5, normalise_maps=True)
    distances = rule.distances(problem, maps)
    assert torch.equal(distances, WeightedGradients(rising).fitness(*spread, weighting=rule))
    norms = values.abs().sum(2)
    expected = of_normalised_maps(inverse_power(distances, 1.5), norms)
    torch.testing.assert_close(rule.weights(distances, norms), expected)
    torch.testing.assert_close(rule(problem, maps), expected)
    _, weights = WeightedGradients(rising).attribute(*spread, weighting=rule, return_weights=True)
    torch.testing.assert_close(weights, expected)


def test_weights_of_the_kept_alone(stored):
    problem, maps, values = stored
    rule = Deletion(normalise_maps=True)
    distances, norms = rule.distances(problem, maps), values.abs().sum(2)
    some = only(inverse_power(distances), smallest(distances, 2))
    assert torch.equal(rule.weights(distances, n_kept=2), some)
    assert torch.equal(rule.weights(distances, norms, n_kept=2), of_normalised_maps(some, norms))
    assert torch.equal(Deletion().weights(distances, norms), inverse_power(distances))


# --- the mean of several searches


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 50176), min_size=2, max_size=6), st.randoms())
def test_geometric_means_do_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    found = geometric_mean(torch.tensor([values, shuffled]).T)
    assert found[0] == found[1] == pytest.approx(math.prod(values) ** (1 / len(values)), rel=1e-11)


def test_equal_products_are_ties():
    found = geometric_mean(torch.tensor([[1, 2, 10, 4], [10, 5, 1, 3]]))
    assert found[0] == found[1] == found[2] and found[3] > found[0]
    assert smallest(found[None], 2).tolist() == [[0, 1]]


def test_the_common_part_of_the_rules_is_none():
    with pytest.raises(TypeError, match="Deletion, Insertion and Both"):
        FitnessWeighting()
