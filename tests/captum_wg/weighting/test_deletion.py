"""D_alpha by deletion, against a literal search with masks made by loops."""

from __future__ import annotations

import math

import pytest
import torch

from captum_wg import Deletion, Insertion, WeightedGradients

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def positive(draw, *shape, seed=0):
    return draw(*shape, seed=seed).abs() + 0.1


@pytest.fixture
def d_alpha_one(search_one):
    """D_alpha of one map, masks made by loops: pixels of an image, elements of anything else."""

    def literal(score, x, heat, alpha=0.5, tolerance=0.01, absolute=False, neutral=None, find=search_one):
        image = x.ndim == 3
        places = [(h, w) for h in range(x.shape[1]) for w in range(x.shape[2])] if image else list(range(x.numel()))

        def value_of(place):
            values = [heat[c][place].item() for c in range(x.shape[0])] if image else [heat.flatten()[place].item()]
            return sum(map(abs, values)) if absolute else sum(values)

        order = sorted(range(len(places)), key=lambda i: (-value_of(places[i]), i))

        def fill(channel=None):
            if neutral is not None:
                return neutral
            if not image:
                return 0.0
            h, w = max(1, int(0.1 * x.shape[1])), max(1, int(0.1 * x.shape[2]))
            means = [
                x[channel, a, b].mean() for a in (slice(0, h), slice(-h, None)) for b in (slice(0, w), slice(-w, None))
            ]
            return (means[0] + means[1] + means[2] + means[3]) / 4

        def curve(count):
            masked = x.clone()
            for i in order[:count]:
                if image:
                    for channel in range(x.shape[0]):
                        masked[channel][places[i]] = fill(channel)
                else:
                    masked.view(-1)[places[i]] = fill()
            with torch.no_grad():
                return score(masked.unsqueeze(0)).item()

        with torch.no_grad():
            start = score(x.unsqueeze(0)).item()
        return find(curve, start, len(places), alpha, tolerance)

    return literal


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(3, 5, 4), (10,), (4, 3)], ids=["image", "table", "sequence"])
def test_d_alpha_is_the_literal_searchs(
    sharp, draw, d_alpha_one, integrated_gradients, fitness_of, shape, alpha, tolerance
):
    net = sharp(math.prod(shape))
    x, references = draw(3, *shape), draw(4, *shape, seed=1)
    target = net(x).argmax(1).tolist()
    weighting = Deletion(alpha=alpha, tolerance=tolerance, neutral="auto")
    found = fitness_of(net, x, references, target, n_steps=24, method="riemann_middle", weighting=weighting)
    assert found.dtype == torch.int64 and found.shape == (3, 4)
    assert len(found.unique()) > 1
    for b in range(3):
        for k in range(4):
            heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
            score = lambda p, t=target[b]: net(p).softmax(1)[:, t]  # noqa: E731
            assert found[b, k] == d_alpha_one(score, x[b], heat, alpha=alpha, tolerance=tolerance)


def test_d_alpha_by_absolute_values_and_another_neutral(sharp, draw, d_alpha_one, integrated_gradients, fitness_of):
    net, x, references = sharp(60), draw(2, 3, 5, 4), draw(3, 3, 5, 4, seed=1)
    target = net(x).argmax(1).tolist()
    how = {"target": target, "n_steps": 24, "method": "riemann_middle"}
    found = {
        r: fitness_of(net, x, references, weighting=Deletion(ranking=r, neutral=-0.5), **how)
        for r in ("absolute", "signed")
    }
    for ranking, distances in found.items():
        for b in range(2):
            for k in range(3):
                heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
                score = lambda p, t=target[b]: net(p).softmax(1)[:, t]  # noqa: E731
                expected = d_alpha_one(score, x[b], heat, absolute=ranking == "absolute", neutral=-0.5)
                assert distances[b, k] == expected
    assert not torch.equal(found["absolute"], found["signed"])


def test_without_a_tolerance_the_search_is_a_linear_scan_where_the_curve_falls(
    draw, d_alpha_one, integrated_gradients, scan
):
    """F = sum of log(1 + (c x)^2): with non-negative inputs every removal lowers it."""
    scale = draw(12).abs()
    f = lambda x: torch.log1p((scale * x).square()).sum(1)  # noqa: E731
    x, references = draw(4, 12, seed=1).abs(), draw(3, 12, seed=2).abs()
    for alpha in (0.1, 0.5, 0.8):
        weighting = Deletion(alpha=alpha, tolerance=0)
        found = WeightedGradients(f).fitness(x, references, n_steps=24, method="riemann_middle", weighting=weighting)
        for b in range(4):
            for k in range(3):
                heat = integrated_gradients(f, x[b], references[k])
                assert found[b, k] == d_alpha_one(f, x[b], heat, alpha, find=scan)


def test_absolute_ranking_orders_by_magnitude(draw):
    x, references = positive(draw, 2, 3, 4, 4), draw(3, 3, 4, 4, seed=1)
    f = lambda x: (x.flatten(1) ** 2).sum(1)  # noqa: E731
    exact = {"neutral": 0.0, "tolerance": 0.0}
    signed = WeightedGradients(f).fitness(x, references, weighting=Deletion(**exact))
    absolute = WeightedGradients(f).fitness(x, references, weighting=Deletion(ranking="absolute", **exact))
    for found, size in ((signed, lambda m: m.sum(0)), (absolute, lambda m: m.abs().sum(0))):
        for b in range(2):
            for k in range(3):
                order = size(x[b] ** 2 - references[k] ** 2).flatten().argsort(descending=True, stable=True)
                left = x[b].square().sum(0).flatten()[order].flip(0).cumsum(0).flip(0)
                expected = next(n for n in range(1, 17) if n == 16 or left[n] <= f(x)[b] / 2)
                assert found[b, k] == expected
    assert not torch.equal(signed, absolute)


def test_tolerance_and_iterations_reach_the_search(rising, spread):
    x, references = spread
    method = WeightedGradients(rising)
    exact, rough = (method.fitness(x, references, weighting=Deletion(tolerance=t)) for t in (0.0, 0.3))
    assert not torch.equal(exact, rough)
    first = method.fitness(x, references, weighting=Deletion(alpha=0.01, tolerance=0.0, max_iterations=1))
    assert (first == 12).all()


# --- groups of features, and what takes their place


def test_a_mask_makes_groups_the_features(rising, spread, maps_of):
    x, references = spread
    groups = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 9, 9, 9, 9]])
    distances = WeightedGradients(rising).fitness(x, references, feature_mask=groups, weighting=Deletion(tolerance=0.0))
    full = maps_of(rising, x, references)
    for b in range(3):
        for k in range(5):
            size = {g: full[b, k][groups[0] == g].sum().item() for g in (0, 1, 2, 3, 9)}
            order = sorted(size, key=lambda g: (-size[g], g))
            masked, found = x[b].clone(), 5
            for n, group in enumerate(order, 1):
                masked[groups[0] == group] = 0
                if rising(masked[None]) <= rising(x[b][None]) / 2:
                    found = n
                    break
            assert distances[b, k] == found


def test_one_group_for_each_feature_is_no_mask(rising, spread):
    method, (x, references) = WeightedGradients(rising), spread
    plain = method.fitness(x, references)
    for mask in (torch.arange(12)[None], (torch.arange(12)[None] * 3 - 5,)):
        assert torch.equal(method.fitness(x, references, feature_mask=mask), plain)


def test_masks_that_differ_between_examples_do_not_mix(rising, spread):
    x, references = spread
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([torch.randint(n, (12,), generator=generator) + 7 * n for n in (3, 9, 5)])
    method = WeightedGradients(rising)
    for tolerance in (0.0, 0.3):
        how = {"weighting": Deletion(tolerance=tolerance)}
        together = method.fitness(x, references, feature_mask=masks, **how)
        for b in range(3):
            alone = method.fitness(x[b : b + 1], references, feature_mask=masks[b : b + 1], **how)
            assert torch.equal(together[b : b + 1], alone)
    with pytest.warns(UserWarning, match="for examples 0, 1, 2 not even removing"):
        hopeless = WeightedGradients(lambda x: 99 + rising(x)).fitness(x, references, feature_mask=masks)
    assert hopeless.tolist() == [[len(mask.unique())] * 5 for mask in masks]


def test_each_examples_own_neutral_value_goes_with_it(rising, spread):
    x, references = spread
    neutral = torch.tensor([[0.0], [0.05], [0.02]]).double()
    method = WeightedGradients(rising)
    together = method.fitness(x, references, weighting=Deletion(neutral=neutral))
    for b in range(3):
        alone = method.fitness(x[b : b + 1], references, weighting=Deletion(neutral=float(neutral[b])))
        assert torch.equal(together[b : b + 1], alone)


# --- words


def test_examples_that_no_removal_brings_down_are_named(draw):
    x, references = positive(draw, 3, 4), draw(2, 4, seed=1)
    scale = torch.tensor([1.0, 0.01, 1.0]).double()
    f = lambda x, s: 1 + s * x.sum(1) ** 2 * 100  # noqa: E731
    method = WeightedGradients(f)
    how = {"additional_forward_args": scale, "weighting": Deletion(alpha=0.01, tolerance=0.0)}
    with pytest.warns(UserWarning, match=r"for examples 1 not even removing.*alpha = 0.01.*neutral, alpha or output"):
        distances = method.fitness(x, references, **how)
    assert distances[1].tolist() == [4, 4]
    with pytest.warns(UserWarning, match="for examples 1 not even removing"):
        found, weights = method.attribute(x, references, return_weights=True, **how)
    assert weights[1].tolist() == [0.5, 0.5]
    expected = method.attribute(x, references, additional_forward_args=scale, weighting="equal")
    torch.testing.assert_close(found[1], expected[1])


def test_one_baseline_that_reaches_alpha_is_enough_for_silence():
    """Ranked by a negative map, only removing everything would do; the other baseline's map needs one feature."""
    x = torch.tensor([[1.0, 2.0]]).double()
    WeightedGradients(lambda x: x.sum(1)).attribute(x, torch.tensor([[0.0, 0.0], [9.0, 9.0]]).double())


def test_a_masked_output_that_is_not_finite_is_said(draw):
    x, references = positive(draw, 2, 4), positive(draw, 2, 4, seed=1)
    with pytest.raises(ValueError, match="NaN or infinite for a masked input; check the model, or set neutral"):
        WeightedGradients(lambda x: 9 + x.log().sum(1)).attribute(x, references, pairing="shared")


@pytest.mark.parametrize("kind", [Deletion, Insertion])
def test_a_list_of_numbers_is_not_taken_for_channels(rising, draw, kind):
    x, references = positive(draw, 2, 3, 4, 4) + 1, draw(3, 3, 4, 4, seed=1)
    with pytest.raises(ValueError, match=r"would be 3 searches .* Tensor of shape \(3, 1, 1\)"):
        WeightedGradients(rising).attribute(x, references, weighting=kind(neutral=[0.1, 0.2, 0.3]))
    WeightedGradients(rising).attribute(x, references, n_steps=2, weighting=kind(neutral=[0.1, 0.2], alpha=0.9))
