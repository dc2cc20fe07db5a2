"""Filters of a layer: what their scores are, and that removing the first ones hurts."""

from __future__ import annotations

import math

import pytest
import torch
from captum.attr import LayerIntegratedGradients
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from captum_wg import (
    LayerConsistency,
    LayerExpectedGradients,
    LayerGeneralizedAttribution,
    LayerGradientVariance,
)
from captum_wg.filters import OfFilters, Ranking, measures, per_filter, rank, removed
from captum_wg.measures import ConsistencyCosine, StabilityCosine

NAMES = ("local_integrated_gradients", "gradient_variance", "stability", "consistency")


@pytest.fixture
def net():
    """Two convolutions, float64; the output reads filters 2 and 4 of the first alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Softplus(), nn.Conv2d(6, 3, 3), nn.Softplus(), nn.Flatten(), nn.Linear(12, 3)
        ).double()
    with torch.no_grad():
        net[2].weight[:, [0, 1, 3, 5]] = 0
    return net.eval()


@pytest.fixture
def x(draw):
    return draw(4, 1, 6, 6)


@pytest.fixture
def references(draw):
    return draw(3, 1, 6, 6, seed=1)


TARGETS = torch.tensor([0, 1, 2, 0])


def test_scores_element_after_element(draw):
    maps = draw(3, 4, 2, 5)
    scores = per_filter(maps)
    ranking = Ranking.of(scores)
    for c in range(4):
        own = []
        for b in range(3):
            values = [abs(v) for v in maps[b, c].flatten().tolist()]
            own.append(math.fsum(values) / 10)
        mean = math.fsum(own) / 3
        assert scores[:, c].tolist() == pytest.approx(own)
        assert float(ranking.mean[c]) == pytest.approx(mean)
        assert float(ranking.deviation[c]) == pytest.approx(math.sqrt(math.fsum((v - mean) ** 2 for v in own) / 2))
    assert ranking.order.tolist() == sorted(range(4), key=lambda c: -float(ranking.mean[c]))


def test_neurons_and_single_examples():
    ranking = Ranking.of(per_filter(torch.tensor([[1.0, -3.0, 0.0, 3.0]], dtype=torch.bfloat16)))
    assert ranking.order.tolist() == [1, 3, 0, 2]
    assert ranking.mean.dtype == torch.float32 and not ranking.deviation.any()
    assert Ranking.of(torch.ones(3, 1)).order.tolist() == [0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=24, max_size=24), st.permutations(range(4)), st.integers(1, 9))
def test_laws_of_the_ranking(values, order, scale):
    maps = torch.tensor(values, dtype=torch.float64).view(2, 4, 3)
    maps[0, 0] += 51.0 * 7  # so that there is an order
    maps[:, 1] -= 0.25
    scores = per_filter(maps)
    ranking = Ranking.of(scores)
    assert sorted(ranking.order.tolist()) == [0, 1, 2, 3]
    assert (ranking.mean[ranking.order].diff() <= 0).all()
    torch.testing.assert_close(Ranking.of(per_filter(-scale * maps)).mean, scale * ranking.mean)
    torch.testing.assert_close(Ranking.of(per_filter(maps[:, list(order)])).mean, ranking.mean[list(order)])
    torch.testing.assert_close(torch.cat([per_filter(m[None]) for m in maps]), scores)


@pytest.mark.parametrize("method", [LayerExpectedGradients, LayerGradientVariance])
def test_rank_summarises_what_the_method_gives(net, x, references, method):
    form = method(net, net[1])
    found = rank(form, x, references, target=TARGETS)
    maps = form.attribute(x, references, target=TARGETS)
    assert torch.equal(found.mean, maps.abs().flatten(2).mean(2).mean(0))
    assert set(found.order[:2].tolist()) == {2, 4}


def test_rank_takes_captums_classes_lists_of_layers_and_results_with_a_delta(net, x, references):
    captums = LayerIntegratedGradients(net, net[1])
    assert set(rank(captums, x, target=TARGETS).order[:2].tolist()) == {2, 4}
    single, several = LayerExpectedGradients(net, net[1]), LayerExpectedGradients(net, [net[1]])
    alone = rank(single, x, references, target=TARGETS, return_convergence_delta=True)
    (listed,) = rank(several, x, references, target=TARGETS)
    assert torch.equal(alone.mean, listed.mean)


def test_every_measure_finds_the_filters_that_the_output_reads(net, x, references):
    form = LayerGeneralizedAttribution(net, net[1])
    found = rank(form, x, references, target=TARGETS, measures=measures())
    assert tuple(found) == NAMES
    for ranking in found.values():
        assert set(ranking.order[:2].tolist()) == {2, 4}
        assert not ranking.mean[[0, 1, 3, 5]].any()


def cosine(u, v):
    return float(u.flatten() @ v.flatten() / (u.norm() * v.norm()))


@pytest.mark.parametrize(("measure", "kind"), [(StabilityCosine, "offset"), (ConsistencyCosine, "gradient")])
def test_angles_are_each_filters_own(draw, measure, kind):
    gradients, points, x, at_x = (
        draw(2, 5, 3, 2, 2),
        draw(2, 5, 3, 2, 2, seed=1),
        draw(2, 3, 2, 2, seed=2),
        draw(2, 3, 2, 2),
    )
    own = OfFilters(measure("pixel"))
    assert own.needs_input_gradients == (kind == "gradient")
    own.init(x)
    for tile in (slice(0, 2), slice(2, 5)):
        shares = torch.full((1, tile.stop - tile.start), 0.2, dtype=torch.float64)
        own.update(gradients[:, tile], points[:, tile], x, at_x if kind == "gradient" else None, shares)
    found = own.finish()
    assert found.shape == x.shape
    for b in range(2):
        for c in range(3):
            others = [points[b, s, c] - x[b, c] if kind == "offset" else at_x[b, c] for s in range(5)]
            expected = sum(cosine(gradients[b, s, c], others[s]) for s in range(5)) / 5
            assert found[b, c].flatten().tolist() == pytest.approx([expected] * 4)


def test_angles_at_dense_layers_and_of_one_filter(draw):
    for shape in ((3, 5), (3, 1, 2, 2), (3, 4, 6), (3, 2, 2, 2, 2)):
        own = OfFilters(StabilityCosine("pixel"))
        x = draw(*shape)
        own.init(x)
        own.update(draw(3, 1, *shape[1:], seed=1), draw(3, 1, *shape[1:], seed=2), x, None, torch.ones(1, 1))
        assert own.finish().shape == x.shape


# Ablation


def test_removed_filters_say_nothing_and_come_back(net, x):
    whole = net(x)
    with removed(net[1], [0, 1, 3, 5]):
        torch.testing.assert_close(net(x), whole)
    with removed(net[1], torch.tensor([2])):
        without = net(x)
    activations = net[:2](x).clone()
    activations[:, 2] = 0
    assert torch.equal(without, net[2:](activations)) and not torch.equal(without, whole)
    means = net[:2](x).mean((0, 2, 3))
    activations = net[:2](x).clone()
    activations[:, 2], activations[:, 4] = means[2], means[4]
    with removed(net[1], [2, 4], means):
        torch.testing.assert_close(net(x), net[2:](activations))
    with removed(net[1], []):
        assert torch.equal(net(x), whole)
    assert torch.equal(net(x), whole) and not net[1]._forward_hooks


def test_removing_the_first_filters_hurts_more_than_removing_random_ones():
    """On a network that has learned the digits, against the mean of 20 random choices."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24 * 16, 10)
        )
        optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
        for _ in range(6):
            for batch in torch.randperm(1200).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
                optimizer.step()
        random = [torch.randperm(24)[:10] for _ in range(20)]

    def accuracy(filters):
        with torch.no_grad(), removed(net[1], filters):
            return float((net(x[1200:]).argmax(1) == y[1200:]).float().mean())

    settings = {"target": y[:100], "n_samples": 10}
    found = {
        "expected_gradients": rank(LayerExpectedGradients(net, net[1]), x[:100], x[100:120], **settings),
        "gradient_variance": rank(LayerGradientVariance(net, net[1]), x[:100], x[100:120], **settings),
    }
    by_chance = sum(map(accuracy, random)) / 20
    assert accuracy([]) > 0.9
    without = {name: accuracy(ranking.order[:10]) for name, ranking in found.items()}
    assert without["expected_gradients"] < by_chance - 0.1
    assert without["gradient_variance"] < by_chance - 0.05


# Guards


def test_guards_of_scores():
    with pytest.raises(TypeError, match=r"attributions must be a Tensor \(B, C, \*positions\), got tuple"):
        per_filter((torch.ones(2, 3),))
    with pytest.raises(ValueError, match=r"attributions must have shape \(B, C, \*positions\), got \(2,\)"):
        per_filter(torch.ones(2))
    with pytest.raises(TypeError, match=r"scores must be a Tensor \(B, C\), got list"):
        Ranking.of([1.0])
    for shape in ((2,), (2, 3, 1), (0, 3), (2, 0)):
        with pytest.raises(ValueError, match=r"scores must have shape \(B, C\)"):
            Ranking.of(torch.ones(shape))
    with pytest.raises(ValueError, match="scores are NaN or infinite for examples 1"):
        Ranking.of(torch.tensor([[1.0, 2.0], [math.nan, 1.0]]))
    with pytest.raises(ValueError, match="all 3 filters have the same scores"):
        Ranking.of(torch.zeros(2, 3))


def test_guards_of_rank(net, x, references):
    with pytest.raises(TypeError, match=r"method must be a layer method with its layer.*got Sequential"):
        rank(net, x)
    with pytest.raises(ValueError, match=r"all 6 filters have the same scores.*give measures=filters.measures\(\)"):
        rank(LayerConsistency(net, net[1]), x, references, target=TARGETS)
    with pytest.raises(ValueError, match="filters are those of one layer's activation"):
        rank(LayerGeneralizedAttribution(net, [net[1], net[3]]), x, references, target=TARGETS, measures=measures())


def test_guards_of_removal(net, x):
    for filters in ([6], [-1]):
        with pytest.raises(ValueError, match="filters must be numbers from 0 to 5"), removed(net[1], filters):
            net(x)
    words = "value must be a number, or one for each of 6 filters"
    with pytest.raises(ValueError, match=words), removed(net[1], [0], torch.zeros(3)):
        net(x)
    pair = nn.LSTM(2, 2)
    words = r"layer must return a Tensor \(B, C, \*positions\), got tuple"
    with pytest.raises(TypeError, match=words), removed(pair, [0]):
        pair(torch.ones(1, 2))
    assert not net[1]._forward_hooks and not pair._forward_hooks
    for filters in (torch.tensor([True, False, True, False, False, False]), [0.7], torch.tensor([1.0]), "ab", None):
        with pytest.raises(TypeError, match="filters must be whole numbers"), removed(net[1], filters):
            net(x)
    with pytest.raises(TypeError, match=r"of a mask give mask\.nonzero\(\)"), removed(net[1], torch.ones(6) > 0):
        net(x)
    with pytest.raises(TypeError, match=r"layer must be a module of the model, .*, got str"), removed("1", [0]):
        net(x)
    elsewhere = nn.Conv2d(1, 6, 3)
    with pytest.raises(ValueError, match=r"layer \(Conv2d\) was never called"), removed(elsewhere, [0]):
        net(x)
    with pytest.raises(KeyError, match="own"), removed(elsewhere, [0]):
        raise KeyError("own")
    assert not net[1]._forward_hooks and not elsewhere._forward_hooks


class Tokens(nn.Module):
    """Ids (B, T) -> embedded (B, T, E) -> mixed along T -> classes."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.embedding, self.dense = nn.Embedding(9, 4), nn.Linear(4, 5)
            self.block, self.last = nn.Sequential(nn.Tanh()), nn.Linear(5, 2)
        self.eval()

    def forward(self, ids):
        return self.last(self.block(self.dense(self.embedding(ids))).mean(1))


@pytest.mark.parametrize("layer", ["embedding", "dense", "block"])
def test_tokens_are_no_filters(layer):
    model, ids = Tokens(), torch.tensor([[1, 2, 3], [4, 5, 6]])
    method = LayerExpectedGradients(model, getattr(model, layer))
    references = torch.zeros_like(ids[:1])
    for call in (((ids, references), {}), ((), {"inputs": ids, "baselines": references})):
        with pytest.raises(ValueError, match=r"tokens or steps in dimension 1 .*\.transpose\(1, -1\)"):
            rank(method, *call[0], target=0, **call[1])
    attributions = method.attribute(ids, references, target=0)
    ranking = Ranking.of(per_filter(attributions.transpose(1, -1)))
    expected = attributions.abs().mean((0, 1))
    torch.testing.assert_close(ranking.mean, expected)
    with pytest.raises(ValueError, match="tokens or steps in dimension 1"):
        rank(LayerExpectedGradients(model, [model.block, model.dense]), ids, references, target=0)


def test_tokens_are_not_removed_for_filters():
    model = Tokens()
    refused = pytest.raises(ValueError, match=r"layer \(Embedding\) has shape \(1, 3, 4\), with tokens")
    with refused, removed(model.embedding, [0]):
        model(torch.tensor([[1, 2, 3]]))
    with removed(model.last, [0]):  # (B, C): neurons
        assert model(torch.tensor([[1, 2, 3]]))[0, 0] == 0
