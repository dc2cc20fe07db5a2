"""Several searches: D_alpha is their geometric mean."""

from __future__ import annotations

import warnings

import pytest
import torch

from captum_wg import Both, Deletion, Insertion, WeightedGradients

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def test_several_neutrals_and_both_ways_are_the_geometric_mean(sharp, draw, fitness_of):
    net, x, references = sharp(60), draw(2, 3, 5, 4), draw(3, 3, 5, 4, seed=1)
    target = net(x).argmax(1).tolist()
    neutrals = ["corners", 0.3, "blur", torch.ones(3, 1, 1)]
    single = {
        (way, i): fitness_of(net, x, references, target, n_steps=8, weighting=way(neutral=neutral)).double()
        for i, neutral in enumerate(neutrals)
        for way in (Deletion, Insertion)
    }
    assert len({tuple(d.flatten().tolist()) for d in single.values()}) > 4
    for way, ways in ((Deletion, 1), (Insertion, 1), (Both, 2)):
        found = fitness_of(net, x, references, target, n_steps=8, weighting=way(neutral=neutrals))
        assert found.dtype == torch.float64
        product = torch.ones(2, 3, dtype=torch.float64)
        for (own, _), distances in single.items():
            if way in (own, Both):
                product *= distances
        torch.testing.assert_close(found, product ** (1 / (4 * ways)), rtol=1e-12, atol=0)


def test_one_neutral_in_a_list_is_that_neutral(sharp, draw, fitness_of):
    net, x, references = sharp(12), draw(2, 12), draw(3, 12, seed=1)
    alone, listed = (
        fitness_of(net, x, references, 0, n_steps=8, weighting=Deletion(neutral=n)) for n in ("mean", ["mean"])
    )
    assert torch.equal(alone, listed) and alone.dtype == listed.dtype


@pytest.mark.parametrize(
    ("hopeless", "match"),
    [
        (Deletion(neutral=[9.0, 8.0]), "not even removing every feature brings the output down to alpha = 0.5 .* is P"),
        (Insertion(neutral=9.0), "removing every feature leaves the output above .* D_alpha is 1 for"),
        (Both(neutral=9.0), "for examples 0, 1, 2 removing .* D_alpha is P by deletion and 1 by insertion for"),
    ],
    ids=str,
)
def test_the_warning_is_of_examples_that_no_search_can_tell_apart(draw, hopeless, match):
    f = lambda x: (x**2).sum(1)  # noqa: E731
    x, references = draw(3, 6), draw(2, 6, seed=1)
    with pytest.warns(UserWarning, match=match):
        distances = WeightedGradients(f).fitness(x, references, n_steps=4, weighting=hopeless)
    assert (distances == distances[:, :1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_that_can = type(hopeless)(neutral=[9.0, 0.0])
        WeightedGradients(f).fitness(x, references, n_steps=4, weighting=one_that_can)


def test_the_mean_of_several_searches_is_in_the_inputs_precision(draw):
    f = lambda x: (x**2).sum(1)  # noqa: E731
    for dtype in (torch.float32, torch.float64):
        x, references = draw(3, 6).to(dtype), draw(2, 6, seed=1).to(dtype)
        assert WeightedGradients(f).fitness(x, references, n_steps=4, weighting=Both()).dtype == dtype
