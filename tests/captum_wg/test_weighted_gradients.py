from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from torch import nn

from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.weighting import fitness

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def rising(x):
    """A positive function that every removal of a positive feature lowers, each example and baseline differently."""
    x = x.flatten(1)
    scale = torch.linspace(0.2, 2, x.shape[1], dtype=x.dtype)
    return torch.log1p((scale * x).square()).sum(1) + 0.3 * (x * x.roll(1, 1)).abs().sum(1)


def positive(draw, *shape, seed=0):
    return draw(*shape, seed=seed).abs() + 0.1


@pytest.fixture
def given(draw):
    """Three examples of 12 features and five baselines whose D_alpha differ."""
    return positive(draw, 3, 12), draw(5, 12, seed=1) * torch.tensor([[0.1], [1.0], [3.0], [0.5], [6.0]]).double()


def maps(f, x, references, n_steps=50, multiply=True):
    """Captum's way to integrated gradients of each baseline, in float64: (B, K, *feature)."""
    single = ExpectedGradients(f, multiply)
    return torch.stack([single.attribute(x, r.unsqueeze(0), n_steps=n_steps) for r in references], 1)


def literal_d_alpha(f, x, heat, alpha=0.5, tolerance=0.01, neutral=0.0):
    order = sorted(range(len(x)), key=lambda i: (-heat[i].item(), i))
    start, low, high, answer = f(x[None]).item(), 1, len(x), len(x)
    while low <= high:
        middle = (low + high) // 2
        masked = x.clone()
        for i in order[:middle]:
            masked[i] = neutral
        score = f(masked[None]).item()
        if tolerance > 0 and abs(score - alpha * start) <= tolerance * start:
            return middle
        if score <= alpha * start:
            answer, high = middle, middle - 1
        else:
            low = middle + 1
    return answer


def literal(f, x, references, power=1.0, keep=None, screening=None, n_steps=50, multiply=True, **kwargs):
    """Attributions and weights by the equations, one example at a time."""
    full, result, all_weights = maps(f, x, references, n_steps, multiply), [], []
    coarse = full if screening is None else maps(f, x, references, screening, multiply)
    for b in range(len(x)):
        distances = [literal_d_alpha(f, x[b], m, **kwargs) for m in full[b]]
        choosing = [literal_d_alpha(f, x[b], m, **kwargs) for m in coarse[b]]
        kept = sorted(range(len(references)), key=lambda k: (choosing[k], k))[: keep or len(references)]
        raw = [distances[k] ** -power if k in kept else 0.0 for k in range(len(references))]
        weights = [r / sum(raw) for r in raw]
        all_weights.append(weights)
        result.append(sum(w * m for w, m in zip(weights, full[b], strict=True)))
    return torch.stack(result), torch.tensor(all_weights, dtype=torch.float64)


# --- the definition


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"alpha": 0.8, "tolerance": 0.0},
        {"power": 2.0},
        {"keep": 3},
        {"keep": 3, "power": 0.0},
        {"keep": 1},
        {"keep": 2, "screening": 2},
        {"keep": 3, "screening": 1, "power": 2.0},
        {"keep": 2, "screening": 1, "power": 0.0},
        {"keep": 1, "screening": 2},
        {"neutral": 0.05},
    ],
    ids=str,
)
@pytest.mark.parametrize("own", [False, True])
def test_weighted_gradients_are_the_equations(given, settings, own):
    x, references = given
    expected, weights = literal(rising, x, references, **settings)
    names = {"screening": "screening_steps"}
    kwargs = {names.get(k, k): v for k, v in settings.items()}
    baselines = references.expand(3, 5, 12) if own else references
    found, found_weights = WeightedGradients(rising).attribute(x, baselines, return_weights=True, **kwargs)
    torch.testing.assert_close(found_weights, weights, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    if settings.get("power") != 0 and settings.get("keep") != 1:
        assert weights[weights > 0].unique().numel() > 1  # or nothing was tested


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize(
    "settings", [{}, {"power": 0.0}, {"power": 2.0}, {"keep": 3}, {"keep": 2, "power": 0.0}], ids=str
)
def test_normalised_maps_are_averaged_complete(given, settings, multiply):
    """Maps divided by their L1 norm, weighted, and brought back to a sum by one factor per example."""
    x, references = given
    single = maps(rising, x, references, multiply=multiply)
    norms = single.abs().sum(-1, keepdim=True)
    _, weights = literal(rising, x, references, multiply=multiply, **{"power": 1.0, **settings})
    shape = (weights.unsqueeze(-1) * single / norms).sum(1)
    factor = 1 / (weights.unsqueeze(-1) / norms).sum(1)
    found, delta, own = WeightedGradients(rising, multiply).attribute(
        x, references, normalise_maps=True, return_weights=True, return_convergence_delta=True, **settings
    )
    torch.testing.assert_close(found, factor * shape)
    torch.testing.assert_close(own.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(found, (own.unsqueeze(-1) * single).sum(1))
    expected = rising(x) - torch.stack([own[:, k] * rising(r[None]) for k, r in enumerate(references)]).sum(0)
    torch.testing.assert_close(delta, maps(rising, x, references).mul(own.unsqueeze(-1)).sum((1, 2)) - expected)
    assert not torch.allclose(own, weights)


@pytest.mark.parametrize("how", [{"n_steps": "auto"}, {"n_steps": 9, "method": "adaptive"}, {"n_steps": 9}], ids=str)
def test_normalised_maps_of_any_points(given, how):
    x, references = given
    _, weights = WeightedGradients(rising).attribute(x, references, return_weights=True, normalise_maps=True, **how)
    _, without = WeightedGradients(rising).attribute(x, references, return_weights=True, **how)
    norms = maps(rising, x, references).abs().sum(-1)
    expected = without / norms
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=0.05, atol=0.02)


def test_normalised_maps_with_a_baseline_that_is_the_input_itself(draw):
    x = positive(draw, 2, 8)
    references = torch.stack([x, positive(draw, 2, 8, seed=1), positive(draw, 2, 8, seed=2)], 1)
    found, weights = WeightedGradients(rising).attribute(
        x, references, return_weights=True, normalise_maps=True, power=0
    )
    assert (weights[:, 0] == 0).all() and torch.isfinite(found).all() and (weights[:, 1:] > 0).all()
    same, weights = WeightedGradients(rising).attribute(x, x.unsqueeze(1), return_weights=True, normalise_maps=True)
    assert (weights == 1).all() and (same == 0).all()


@pytest.mark.parametrize("fitness_name", ["insertion", "both"])
def test_weights_follow_the_fitness_that_is_asked_for(given, fitness_name):
    x, references = given
    how = {"fitness": fitness_name, "neutral": [0.0, 0.05]}
    method = WeightedGradients(rising)
    found, weights = method.attribute(x, references, return_weights=True, keep=3, **how)
    distances = method.fitness(x, references, **how)
    kept = torch.zeros(3, 5, dtype=torch.bool).scatter_(1, fitness.kept_baselines(distances, 3), True)
    expected = (1 / distances) * kept
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(found, (weights.unsqueeze(-1) * maps(rising, x, references)).sum(1))
    _, plain = method.attribute(x, references, return_weights=True, keep=3)
    assert not torch.allclose(weights, plain)


def test_a_list_of_numbers_is_not_taken_for_channels(draw):
    x, references = positive(draw, 2, 3, 4, 4) + 1, draw(3, 3, 4, 4, seed=1)
    with pytest.raises(ValueError, match=r"would be 3 searches .* Tensor of shape \(3, 1, 1\)"):
        WeightedGradients(rising).attribute(x, references, neutral=[0.1, 0.2, 0.3])
    WeightedGradients(rising).attribute(x, references, neutral=[0.1, 0.2], n_steps=2, alpha=0.9)


def test_normalise_maps_is_checked(given):
    with pytest.raises(TypeError, match="normalise_maps must be True or False, got 'no'"):
        WeightedGradients(rising).attribute(*given, normalise_maps="no")


@pytest.mark.parametrize("how", [{"n_steps": 10}, {"n_steps": "auto", "delta_tolerance": 0.01}], ids=str)
def test_screening_by_several_fitnesses_and_norms(given, how):
    x, references = given
    method, both = WeightedGradients(rising), {"neutral": [0.0, 0.05], "fitness": "both"}
    coarse = {"n_steps": 2, "method": "riemann_shared_end" if how["n_steps"] == "auto" else "gausslegendre"}
    found, delta, weights = method.attribute(
        x,
        references,
        keep=2,
        screening_steps=2,
        normalise_maps=True,
        return_weights=True,
        return_convergence_delta=True,
        **both,
        **how,
    )
    kept = fitness.kept_baselines(method.fitness(x, references, **coarse, **both), 2)
    assert ((weights > 0).nonzero()[:, 1].view(3, 2) == kept).all()
    norms = maps(rising, x, references).abs().sum(-1)
    full = 1 / method.fitness(x, references, **both) / norms
    expected = torch.zeros_like(full).scatter_(1, kept, full.gather(1, kept))
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=0.02, atol=0.005)
    assert delta.abs().max() < 1e-2 * rising(x).max()
    ends = rising(x) - (weights * torch.stack([rising(r[None]) for r in references], 1)).sum(1)
    torch.testing.assert_close(found.sum(1) - ends, delta, atol=1e-9, rtol=1e-6)


def test_an_empty_list_of_neutrals(given):
    with pytest.raises(ValueError, match="neutral is an empty list; give at least one"):
        WeightedGradients(rising).attribute(*given, neutral=[])


def test_without_the_product_maps_are_ranked_and_averaged_so(given):
    x, references = given
    expected, weights = literal(rising, x, references, multiply=False)
    found, found_weights = WeightedGradients(rising, multiply_by_inputs=False).attribute(
        x, references, return_weights=True
    )
    torch.testing.assert_close(found_weights, weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("keep", [1, 2, 5, 0.2, 0.5, 0.7, 1.0])
def test_keep_drops_the_least_fit_and_ties_go_by_position(given, keep):
    x, references = given
    references = references[[4, 4, 1, 0, 1]]  # twins
    method = WeightedGradients(rising)
    distances = method.fitness(x, references)
    _, weights = method.attribute(x, references, keep=keep, return_weights=True)
    count = keep if isinstance(keep, int) else max(1, round(keep * 5))
    for b in range(3):
        best = sorted(range(5), key=lambda k: (distances[b, k].item(), k))[:count]
        assert sorted(weights[b].nonzero().flatten().tolist()) == sorted(best)
        inverse = sum(1 / distances[b, k].item() for k in best)
        assert weights[b, best].tolist() == pytest.approx([1 / distances[b, k].item() / inverse for k in best])


def test_attribute_weights_by_its_own_fitness(given):
    x, references = given
    method = WeightedGradients(rising)
    _, weights = method.attribute(x, references, power=1.5, return_weights=True)
    torch.testing.assert_close(weights, fitness.weights(method.fitness(x, references), 1.5))


def test_absolute_ranking_orders_by_magnitude(draw):
    x, references = positive(draw, 2, 3, 4, 4), draw(3, 3, 4, 4, seed=1)
    f = lambda x: (x.flatten(1) ** 2).sum(1)  # noqa: E731
    kwargs = {"neutral": 0.0, "tolerance": 0.0}
    signed = WeightedGradients(f).fitness(x, references, **kwargs)
    absolute = WeightedGradients(f).fitness(x, references, ranking="absolute", **kwargs)
    for found, size in ((signed, lambda m: m.sum(0)), (absolute, lambda m: m.abs().sum(0))):
        for b in range(2):
            for k in range(3):
                order = size(x[b] ** 2 - references[k] ** 2).flatten().argsort(descending=True, stable=True)
                left = x[b].square().sum(0).flatten()[order].flip(0).cumsum(0).flip(0)
                expected = next(n for n in range(1, 17) if n == 16 or left[n] <= f(x)[b] / 2)
                assert found[b, k] == expected
    assert not torch.equal(signed, absolute)


# --- limits


def negative(x):
    return -rising(x)


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("form", ["tensor", "own", "none", "paired"])
def test_one_baseline_is_integrated_gradients_and_asks_nothing_of_the_output(draw, record, form, multiply):
    x, starts = positive(draw, 3, 12), draw(3, 12, seed=1)
    one, captums = {
        "tensor": (starts[:1], starts[:1]),
        "own": (starts.unsqueeze(1), starts),
        "none": (None, None),
        "paired": (starts, starts),
    }[form]
    f = record(negative)
    found, weights = WeightedGradients(f, multiply).attribute(
        x, one, pairing="paired", n_steps=20, return_weights=True, keep=1
    )
    assert (sum(f.graded), f.plain) == (3 * 20, [])
    torch.testing.assert_close(
        found, IntegratedGradients(negative, multiply).attribute(x, captums, n_steps=20), rtol=1e-5, atol=1e-7
    )
    assert torch.equal(weights, torch.ones(3, 1).double())


def test_power_zero_is_expected_gradients_and_runs_no_fitness(given, record):
    x, references = given
    f = record(negative)
    found, weights = WeightedGradients(f).attribute(x, references, power=0, n_steps=7, return_weights=True)
    assert (sum(f.graded), f.plain) == (3 * 5 * 7, [])
    torch.testing.assert_close(found, ExpectedGradients(negative).attribute(x, references, n_steps=7))
    assert torch.equal(weights, torch.full((3, 5), 0.2, dtype=torch.float64))
    kept = WeightedGradients(f).attribute(x, references, power=0, keep=1.0, n_steps=7)
    assert f.plain == [] and torch.equal(kept, found)


def test_power_zero_with_keep_needs_a_fitness(given, record):
    x, references = given
    with pytest.raises(ValueError, match="must be positive and finite"):
        WeightedGradients(negative).attribute(x, references, power=0, keep=2)


def test_equal_fitness_is_expected_gradients(given):
    x, references = given
    found, weights = WeightedGradients(rising).attribute(
        x, references, feature_mask=torch.zeros(1, 12, dtype=torch.long), return_weights=True
    )
    assert torch.equal(weights, torch.full((3, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(found, ExpectedGradients(rising).attribute(x, references))


def test_the_same_baseline_many_times_is_integrated_gradients(given):
    x, references = given
    found = WeightedGradients(rising).attribute(x, references[1].expand(4, 12))
    torch.testing.assert_close(found, ExpectedGradients(rising).attribute(x, references[1:2]))


def test_a_large_power_is_the_best_baseline_alone(given):
    x, references = given
    sharp = WeightedGradients(rising).attribute(x, references[[0, 2]], power=500.0)
    kept = WeightedGradients(rising).attribute(x, references[[0, 2]], keep=1)
    distances = WeightedGradients(rising).fitness(x, references[[0, 2]])
    assert (distances[:, 0] != distances[:, 1]).all()
    torch.testing.assert_close(sharp, kept)


# --- laws


@pytest.mark.parametrize("kwargs", [{}, {"power": 2.0}, {"keep": 3}, {"keep": 0.5, "screening_steps": 3}], ids=str)
def test_weights_sum_to_one_and_sums_are_complete_against_the_weighted_value(given, kwargs):
    x, references = given
    f = lambda x: (x**4).sum(1) + x.sum(1) ** 2 + 1  # noqa: E731  # exact with 2 Gauss nodes
    attributions, delta, weights = WeightedGradients(f).attribute(
        x, references, n_steps=2, return_convergence_delta=True, return_weights=True, **kwargs
    )
    torch.testing.assert_close(weights.sum(1), torch.ones(3).double(), rtol=1e-14, atol=0)
    gap = attributions.sum(1) - (f(x) - weights @ f(references))
    scale = float(f(references).max())
    assert delta.shape == (3,)
    assert gap.abs().max() < 1e-12 * scale and delta.abs().max() < 1e-12 * scale


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("kwargs", [{}, {"power": 0.0}, {"keep": 3}, {"keep": 3, "screening_steps": 1}], ids=str)
def test_the_delta_says_what_too_few_steps_leave_out(given, kwargs, multiply):
    x, references = given
    results = [
        WeightedGradients(rising, m).attribute(
            x, references, n_steps=1, return_convergence_delta=True, return_weights=True, **kwargs
        )
        for m in (multiply, True)
    ]
    weights = results[0][2]
    products = maps(rising, x, references, n_steps=1).sum(2)
    expected = (products * weights).sum(1) - (rising(x) - weights @ rising(references))
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(results[0][1], expected)


def test_orders_of_returned_values(given):
    x, references = given
    method = WeightedGradients(rising)
    plain = method.attribute(x, references)
    assert isinstance(plain, torch.Tensor)
    first, delta = method.attribute(x, references, return_convergence_delta=True)
    second, weights = method.attribute(x, references, return_weights=True)
    third = method.attribute(x, references, return_convergence_delta=True, return_weights=True)
    assert torch.equal(plain, first) and torch.equal(plain, second)
    assert delta.shape == (3,) and weights.shape == (3, 5)
    assert isinstance(third, tuple)
    assert all(torch.equal(a, b) for a, b in zip(third, (plain, delta, weights), strict=True))
    (pair, _, _) = method.attribute((x,), (references,), return_convergence_delta=True, return_weights=True)
    assert isinstance(pair, tuple) and torch.equal(pair[0], plain)


def test_the_order_of_baselines_orders_the_weights(given):
    x, references = given
    order = torch.tensor([3, 0, 4, 1, 2])
    found, weights = WeightedGradients(rising).attribute(x, references, return_weights=True)
    again, ordered = WeightedGradients(rising).attribute(x, references[order], return_weights=True)
    torch.testing.assert_close(ordered, weights[:, order], rtol=1e-14, atol=0)
    torch.testing.assert_close(again, found)


def test_the_order_of_examples_orders_the_results(given):
    x, references = given
    order = torch.tensor([2, 0, 1])
    found = WeightedGradients(rising).attribute(x, references, return_weights=True, return_convergence_delta=True)
    again = WeightedGradients(rising).attribute(
        x[order], references, return_weights=True, return_convergence_delta=True
    )
    torch.testing.assert_close(again, tuple(v[order] for v in found))


@pytest.mark.parametrize("kwargs", [{}, {"keep": 2, "screening_steps": 4}], ids=str)
def test_neither_the_batch_nor_its_cuts_change_a_map(given, kwargs):
    x, references = given
    method = WeightedGradients(rising)
    kwargs = {"return_weights": True, "return_convergence_delta": True, **kwargs}
    whole = method.attribute(x, references, **kwargs)
    for size in (1, 3, 7, 1000):
        found = method.attribute(x, references, internal_batch_size=size, **kwargs)
        torch.testing.assert_close(found, whole, rtol=1e-11, atol=1e-12)
    for b in range(3):
        alone = method.attribute(x[b : b + 1], references, **kwargs)
        torch.testing.assert_close(alone, tuple(v[b : b + 1] for v in whole), rtol=1e-11, atol=1e-12)


def test_a_multiple_of_the_function_has_the_same_weights(given):
    x, references = given
    one = WeightedGradients(rising).attribute(x, references, return_weights=True)
    many = WeightedGradients(lambda x: 1000 * rising(x)).attribute(x, references, return_weights=True)
    torch.testing.assert_close(many, (1000 * one[0], one[1]))


def test_two_implementations_of_one_function_agree(given):
    x, references = given
    other = lambda x: rising(x.flip(1).flip(1) * 2 / 2)  # noqa: E731
    torch.testing.assert_close(
        WeightedGradients(other).attribute(x, references, return_weights=True),
        WeightedGradients(rising).attribute(x, references, return_weights=True),
    )


def test_unused_features_get_zero(given):
    x, references = given
    found = WeightedGradients(lambda x: rising(x[:, :7])).attribute(x, references)
    assert (found[:, 7:] == 0).all() and (found[:, :7] != 0).all()


def test_probabilities_are_searched_and_logits_attributed(make_net, draw):
    net, x, references = make_net(4), 2 * draw(3, 4), 2 * draw(3, 4, seed=1).repeat(2, 1)
    logits = lambda x: 8 * net(x)  # noqa: E731
    target = logits(x).argmax(1).tolist()
    kwargs = {"target": target, "alpha": 0.95, "return_weights": True}
    found, weights = WeightedGradients(logits).attribute(x, references, **kwargs)
    single = [ExpectedGradients(logits).attribute(x, r[None], target) for r in references]
    torch.testing.assert_close(found, (torch.stack(single, 1) * weights.unsqueeze(2)).sum(1))
    for other in ("softmax", lambda o: o.softmax(1)):
        torch.testing.assert_close(
            WeightedGradients(logits).attribute(x, references, fitness_output=other, **kwargs), (found, weights)
        )


# --- what it costs


@pytest.mark.parametrize("n_features", [1, 2, 3, 4, 7, 8, 12])
def test_forwards_are_at_most_those_of_the_gradients_the_bisection_and_the_inputs(draw, record, n_features):
    x, references, f = positive(draw, 4, n_features), draw(5, n_features, seed=1), record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=6, tolerance=0.0)
    assert sum(f.graded) == 4 * 5 * 6
    assert sum(f.plain) <= 4 * 5 * math.ceil(math.log2(n_features + 1)) + 4


def test_each_step_of_the_bisection_is_one_sweep_over_all_examples_and_baselines(draw, record):
    x, references, f = positive(draw, 4, 12), draw(5, 12, seed=1), record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=6, tolerance=0.0, internal_batch_size=1000)
    assert f.plain[:2] == [4, 20]  # the inputs; all rows at once
    assert len(f.plain) <= 1 + math.ceil(math.log2(13))


def test_screening_spends_full_steps_on_those_kept_alone(given, record):
    x, references = given
    f = record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=30, keep=2, screening_steps=4)
    assert sum(f.graded) == 3 * (5 * 4 + 2 * 30)
    assert sum(f.plain) <= 3 + 3 * (5 + 2) * math.ceil(math.log2(13))
    f = record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=30, keep=1, screening_steps=4)
    assert sum(f.graded) == 3 * (5 * 4 + 30)
    assert sum(f.plain) <= 3 + 3 * 5 * math.ceil(math.log2(13))
    f = record(rising)
    WeightedGradients(f).attribute(x, references, n_steps=30, keep=5, screening_steps=4)
    assert sum(f.graded) == 3 * 5 * 30


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
def test_screening_uses_its_gradients_again(given, record, method, coarse, fine, power, keep):
    x, references = given
    kwargs = dict(
        n_steps=fine, method=method, keep=keep, power=power, return_weights=True, return_convergence_delta=True
    )
    f = record(rising)
    found, delta, weights = WeightedGradients(f).attribute(x, references, screening_steps=coarse, **kwargs)
    shared = method in ("riemann_trapezoid", "riemann_shared_end")
    per_path = coarse - shared
    assert sum(f.graded) == 3 * (5 * per_path + shared + keep * (fine - coarse))
    # The same baselines chosen by hand, with nothing to use again.
    chosen = WeightedGradients(rising).attribute(
        x, references, n_steps=coarse, method=method, keep=keep, return_weights=True
    )[1]
    rows = torch.stack([references[w > 0] for w in chosen])
    expected, expected_delta, expected_weights = WeightedGradients(rising).attribute(
        x, rows, **{**kwargs, "keep": None}
    )
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(delta, expected_delta)
    torch.testing.assert_close(weights[weights > 0].view(3, keep), expected_weights)
    assert torch.equal(weights > 0, chosen > 0)


def test_keeping_some_takes_fewer_forwards_for_the_same_weights(draw, record):
    x, references = positive(draw, 6, 40), draw(8, 40, seed=1) * torch.linspace(0.1, 6, 8).double().view(8, 1)
    kwargs = dict(n_steps=6, tolerance=0.0, return_weights=True)
    full, some = record(rising), record(rising)
    WeightedGradients(full).attribute(x, references, **kwargs)
    _, weights = WeightedGradients(some).attribute(x, references, keep=3, **kwargs)
    assert sum(some.graded) == sum(full.graded) and sum(some.plain) < 0.9 * sum(full.plain)
    distances = WeightedGradients(rising).fitness(x, references, n_steps=6, tolerance=0.0)
    kept = fitness.kept_baselines(distances, 3)
    torch.testing.assert_close(weights.gather(1, kept), fitness.weights(distances.gather(1, kept)))
    assert (weights > 0).sum() == 18


def test_who_is_kept_takes_fewer_forwards_than_how_they_weigh(draw, record):
    x, references = positive(draw, 6, 40), draw(8, 40, seed=1) * torch.linspace(0.1, 6, 8).double().view(8, 1)

    def forwards(**kwargs):
        f = record(rising)
        WeightedGradients(f).attribute(x, references, n_steps=6, tolerance=0.0, keep=4, **kwargs)
        return sum(f.plain)

    assert forwards(power=0) < 0.9 * forwards(power=1)
    # The same maps: screening asks who is kept, and equal weights need no more.
    assert forwards(power=0, screening_steps=6) == forwards(power=0)


def test_forwards_are_not_taken_twice(draw, record):
    x, references = positive(draw, 6, 12), draw(8, 12, seed=1)

    def forwards(**kwargs):
        f = record(rising)
        WeightedGradients(f).attribute(x, references, **kwargs)
        return sum(f.plain)

    # Eight shared baselines, and the inputs not again.
    assert forwards(n_steps=6, return_convergence_delta=True) == forwards(n_steps=6) + 8
    kept = dict(n_steps=6, keep=4, screening_steps=2)
    assert forwards(**kept, return_convergence_delta=True) == forwards(**kept) + 8
    automatic = dict(n_steps="auto", max_steps=3000)
    assert forwards(**automatic, return_convergence_delta=True) == forwards(**automatic)
    assert forwards(n_steps=6, keep=1) == forwards(n_steps=6, keep=1, power=0)


def test_what_cannot_be_fitted_is_said_before_gradients_are_spent(given, record):
    f = record(negative)
    with pytest.raises(ValueError, match="must be positive and finite"):
        WeightedGradients(f).attribute(*given)
    assert f.graded == []


# --- tuples and masks


def test_features_of_a_tuple_are_one_list(draw):
    x, references = positive(draw, 3, 12), draw(4, 12, seed=1)
    split = lambda t: (t[:, :5], t[:, 5:].reshape(-1, 7, 1))  # noqa: E731
    f = lambda a, b: rising(torch.cat([a, b.flatten(1)], 1))  # noqa: E731
    whole, weights = WeightedGradients(rising).attribute(x, references, return_weights=True)
    parts, same = WeightedGradients(f).attribute(split(x), split(references), return_weights=True)
    assert torch.equal(same, weights)
    torch.testing.assert_close(torch.cat([parts[0], parts[1].flatten(1)], 1), whole)


def test_a_mask_makes_groups_the_features(given):
    x, references = given
    groups = torch.tensor([[0, 0, 1, 1, 2, 2, 3, 3, 9, 9, 9, 9]])
    distances = WeightedGradients(rising).fitness(x, references, feature_mask=groups, tolerance=0.0)
    full = maps(rising, x, references)
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


def test_one_group_for_each_feature_is_no_mask(given):
    x, references = given
    plain = WeightedGradients(rising).fitness(x, references)
    assert torch.equal(WeightedGradients(rising).fitness(x, references, feature_mask=torch.arange(12)[None]), plain)
    assert torch.equal(
        WeightedGradients(rising).fitness(x, references, feature_mask=(torch.arange(12)[None] * 3 - 5,)), plain
    )


def test_masks_that_differ_between_examples_do_not_mix(given):
    x, references = given
    generator = torch.Generator().manual_seed(0)
    masks = torch.stack([torch.randint(n, (12,), generator=generator) + 7 * n for n in (3, 9, 5)])
    method = WeightedGradients(rising)
    for tolerance in (0.0, 0.3):
        together = method.fitness(x, references, feature_mask=masks, tolerance=tolerance)
        for b in range(3):
            alone = method.fitness(x[b : b + 1], references, feature_mask=masks[b : b + 1], tolerance=tolerance)
            assert torch.equal(together[b : b + 1], alone)
    with pytest.warns(UserWarning, match="for examples 0, 1, 2 not even removing"):
        hopeless = WeightedGradients(lambda x: 99 + rising(x)).fitness(x, references, feature_mask=masks)
    assert hopeless.tolist() == [[len(mask.unique())] * 5 for mask in masks]


def test_each_examples_own_neutral_value_goes_with_it(given):
    x, references = given
    neutral = torch.tensor([[0.0], [0.05], [0.02]]).double()
    method = WeightedGradients(rising)
    together = method.fitness(x, references, neutral=neutral)
    for b in range(3):
        alone = method.fitness(x[b : b + 1], references, neutral=float(neutral[b]))
        assert torch.equal(together[b : b + 1], alone)


def test_inputs_without_features_have_equal_weights(draw):
    x, references = positive(draw, 3), positive(draw, 2, seed=1)
    found, weights = WeightedGradients(lambda x: x**2).attribute(x, references, return_weights=True, n_steps=2)
    assert (weights == 0.5).all()
    torch.testing.assert_close(found, x**2 - (references**2).mean())


# --- words


def test_examples_that_no_removal_brings_down_are_named(draw):
    x, references = positive(draw, 3, 4), draw(2, 4, seed=1)
    scale = torch.tensor([1.0, 0.01, 1.0]).double()
    f = lambda x, s: 1 + s * x.sum(1) ** 2 * 100  # noqa: E731
    method = WeightedGradients(f)
    with pytest.warns(UserWarning, match=r"for examples 1 not even removing.*alpha = 0.01.*neutral, alpha or fitness_"):
        distances = method.fitness(x, references, additional_forward_args=scale, alpha=0.01, tolerance=0.0)
    assert distances[1].tolist() == [4, 4]
    with pytest.warns(UserWarning, match="for examples 1 not even removing"):
        found, weights = method.attribute(
            x, references, additional_forward_args=scale, alpha=0.01, tolerance=0.0, return_weights=True
        )
    assert weights[1].tolist() == [0.5, 0.5]
    expected = ExpectedGradients(f).attribute(x, references, additional_forward_args=scale)
    torch.testing.assert_close(found[1], expected[1])


def test_one_baseline_that_reaches_alpha_is_enough_for_silence():
    """Ranked by a negative map, only removing everything would do; the other baseline's map needs one feature."""
    x = torch.tensor([[1.0, 2.0]]).double()
    WeightedGradients(lambda x: x.sum(1)).attribute(x, torch.tensor([[0.0, 0.0], [9.0, 9.0]]).double())


def test_progress_is_shown_on_request(given, capsys):
    WeightedGradients(rising).attribute(*given, show_progress=True)
    shown = capsys.readouterr().err
    assert "WeightedGradients gradients" in shown and "WeightedGradients fitness" in shown
    WeightedGradients(rising).attribute(*given)
    assert capsys.readouterr().err == ""


def test_the_constructors_baselines_serve_where_none_are_given(given):
    x, references = given
    bound = WeightedGradients(rising, baselines=references)
    assert torch.equal(bound.attribute(x), WeightedGradients(rising).attribute(x, references))
    assert torch.equal(bound.fitness(x), WeightedGradients(rising).fitness(x, references))
    assert torch.equal(bound.attribute(x, 0.5), WeightedGradients(rising).attribute(x, 0.5))


def test_compute_convergence_delta_is_the_returned_one(given):
    x, references = given
    method = WeightedGradients(rising)
    attributions, delta, weights = method.attribute(
        x, references, n_steps=2, return_convergence_delta=True, return_weights=True, keep=3
    )
    torch.testing.assert_close(method.compute_convergence_delta(attributions, references, x, weights=weights), delta)
    one, delta = method.attribute(x, references[:1], n_steps=2, return_convergence_delta=True)
    torch.testing.assert_close(method.compute_convergence_delta(one, references[:1], x), delta)
    with pytest.raises(ValueError, match=r"weights are missing for 5 baselines.*return_weights=True"):
        method.compute_convergence_delta(attributions, references, x)
    with pytest.raises(ValueError, match=r"weights must have shape \(B, K\) = \(3, 5\), got \(3, 4\)"):
        method.compute_convergence_delta(attributions, references, x, weights=weights[:, :4])


# --- bad input

BAD = [
    ({"baselines": torch.ones(0, 4)}, ValueError, "baselines are empty"),
    ({"baselines": torch.ones(2, 5)}, ValueError, "baselines must have shape"),
    ({"baselines": torch.ones(2, 4).double()}, TypeError, "baselines are torch.float64"),
    ({"baselines": torch.full((2, 4), torch.nan)}, ValueError, "baselines hold NaN"),
    ({"inputs": torch.full((3, 4), torch.nan)}, ValueError, "inputs holds NaN or infinite values in examples 0, 1, 2;"),
    ({"inputs": torch.ones(3, 4).long()}, TypeError, "embedding layer"),
    ({"target": 2}, ValueError, "target 2 is out of range"),
    ({"target": None}, ValueError, "target is missing"),
    ({"n_steps": 0}, ValueError, "n_steps must be"),
    ({"n_steps": "many"}, ValueError, "n_steps must be a whole number of at least 1, or 'auto', got 'many'"),
    ({"n_steps": "auto", "method": "riemann_left"}, ValueError, "method='riemann_left' can't be refined"),
    ({"n_steps": "auto", "delta_tolerance": -1.0}, ValueError, "delta_tolerance must be a number in"),
    ({"n_steps": "auto", "max_steps": 3}, ValueError, "max_steps must be at least 6"),
    ({"method": "simpson"}, ValueError, "method must be one of"),
    ({"internal_batch_size": -1}, ValueError, "internal_batch_size must be"),
    ({"pairing": "each"}, ValueError, "pairing must be"),
    *[({"alpha": a}, ValueError, r"alpha must be a number in \(0.0, 1.0\)") for a in (0, 1, -1, 1.5, math.nan)],
    ({"tolerance": -1}, ValueError, "tolerance must be"),
    ({"max_iterations": 0}, ValueError, "max_iterations must be"),
    ({"ranking": "abs"}, ValueError, "ranking must be one of"),
    ({"neutral": "white"}, ValueError, "neutral must be one of"),
    ({"neutral": "corners"}, ValueError, "neutral='corners' needs images"),
    ({"neutral": math.nan}, ValueError, "neutral holds NaN"),
    ({"feature_mask": torch.zeros(1, 5).long()}, ValueError, "feature_mask has shape"),
    ({"feature_mask": torch.zeros(1, 4)}, TypeError, "feature_mask must hold integer"),
    ({"fitness_output": "logits"}, ValueError, "fitness_output must be one of"),
]
BAD_OF_ATTRIBUTE = [
    *[({"keep": k}, ValueError, "keep must be a whole number from 1") for k in (0, -1, 3, 0.0, 1.1, True)],
    ({"power": -1}, ValueError, "power must be"),
    ({"power": math.inf}, ValueError, "power must be finite"),
    ({"keep": 1, "screening_steps": 0}, ValueError, "screening_steps must be"),
    (
        {"keep": 1, "screening_steps": 1, "method": "riemann_trapezoid"},
        ValueError,
        "screening_steps must be at least 2 for method='riemann_trapezoid'",
    ),
    ({"max_steps": 300}, ValueError, "delta_tolerance and max_steps are those of n_steps='auto'"),
    ({"return_steps": True}, ValueError, "return_steps tells what n_steps='auto' took"),
    ({"screening_steps": 3}, ValueError, "screening_steps chooses which baselines to keep; give keep too"),
]


@pytest.mark.parametrize(("kwargs", "error", "match"), BAD + BAD_OF_ATTRIBUTE, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_named(kwargs, error, match):
    good = {"inputs": torch.ones(3, 4), "baselines": torch.zeros(2, 4), "target": 0}
    with pytest.raises(error, match=match):
        WeightedGradients(nn.Linear(4, 2)).attribute(**{**good, **kwargs})


@pytest.mark.parametrize(("kwargs", "error", "match"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_of_fitness_are_named(kwargs, error, match):
    good = {"inputs": torch.ones(3, 4), "baselines": torch.zeros(2, 4), "target": 0}
    with pytest.raises(error, match=match):
        WeightedGradients(nn.Linear(4, 2)).fitness(**{**good, **kwargs})


def test_an_output_that_is_not_positive_names_the_examples(given):
    x, references = given
    sign = torch.tensor([1.0, -1.0, 1.0]).double()
    f = lambda x, s: rising(x) * s  # noqa: E731
    for call in (WeightedGradients(f).attribute, WeightedGradients(f).fitness):
        with pytest.raises(ValueError, match=r"examples 1 .*fitness_output.*power=0 without keep"):
            call(x, references, additional_forward_args=sign)
    WeightedGradients(f).attribute(x, references, additional_forward_args=sign, power=0)
    WeightedGradients(f).attribute(x, references, additional_forward_args=sign, fitness_output=lambda o: o.abs())


def test_a_masked_output_that_is_not_finite_is_said(draw):
    x, references = positive(draw, 2, 4), positive(draw, 2, 4, seed=1)
    with pytest.raises(ValueError, match="NaN or infinite for a masked input; check the model, or set neutral"):
        WeightedGradients(lambda x: 9 + x.log().sum(1)).attribute(x, references, pairing="shared")


def test_a_function_that_does_not_depend_on_the_input():
    with pytest.raises(ValueError, match="depends on none of the inputs"):
        WeightedGradients(lambda x: torch.ones(len(x))).attribute(torch.ones(3, 3), torch.zeros(2, 3))


def test_a_gradient_that_is_not_finite_names_its_example():
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="gradient is NaN or infinite for examples 1;"):
        WeightedGradients(lambda x: x.sqrt().sum(1)).attribute(x, torch.tensor([[0.0, 0.1], [0.0, 0.2]]))


def test_tolerance_and_iterations_reach_the_search(given):
    x, references = given
    found = {
        (t, m): WeightedGradients(rising).fitness(x, references, tolerance=t, max_iterations=m)
        for t, m in ((0.0, 100), (0.3, 100))
    }
    assert not torch.equal(found[0.0, 100], found[0.3, 100])
    first = WeightedGradients(rising).fitness(x, references, alpha=0.01, tolerance=0.0, max_iterations=1)
    assert (first == 12).all()


def test_every_quadrature_method_reaches_the_maps(given):
    x, references = given
    for method in ("gausslegendre", "riemann_left", "riemann_trapezoid"):
        found, weights = WeightedGradients(rising).attribute(
            x, references, n_steps=3, method=method, return_weights=True
        )
        single = [ExpectedGradients(rising).attribute(x, r[None], n_steps=3, method=method) for r in references]
        torch.testing.assert_close(found, (torch.stack(single, 1) * weights.unsqueeze(2)).sum(1))
    np.testing.assert_allclose(weights.sum(1), 1)
