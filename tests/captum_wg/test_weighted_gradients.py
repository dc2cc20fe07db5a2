from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients

from captum_wg import Automatic, Both, Deletion, Equal, ExpectedGradients, Insertion, WeightedGradients
from captum_wg.weighting.weights import inverse_power, smallest

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def positive(draw, *shape, seed=0):
    return draw(*shape, seed=seed).abs() + 0.1


@pytest.fixture
def literal(maps_of, search_one):
    """Attributions and weights by the equations, one example at a time."""

    def d_alpha(f, x, heat, alpha=0.5, tolerance=0.01, neutral=0.0):
        order = sorted(range(len(x)), key=lambda i: (-heat[i].item(), i))

        def curve(count):
            masked = x.clone()
            masked[order[:count]] = neutral
            return f(masked[None]).item()

        return search_one(curve, f(x[None]).item(), len(x), alpha, tolerance)

    def attribute(f, x, references, power=1.0, keep=None, screening=None, n_steps=50, multiply=True, **kwargs):
        full, result, all_weights = maps_of(f, x, references, n_steps, multiply), [], []
        coarse = full if screening is None else maps_of(f, x, references, screening, multiply)
        for b in range(len(x)):
            distances = [d_alpha(f, x[b], m, **kwargs) for m in full[b]]
            choosing = [d_alpha(f, x[b], m, **kwargs) for m in coarse[b]]
            kept = sorted(range(len(references)), key=lambda k: (choosing[k], k))[: keep or len(references)]
            raw = [distances[k] ** -power if k in kept else 0.0 for k in range(len(references))]
            weights = [r / sum(raw) for r in raw]
            all_weights.append(weights)
            result.append(sum(w * m for w, m in zip(weights, full[b], strict=True)))
        return torch.stack(result), torch.tensor(all_weights, dtype=torch.float64)

    return attribute


# --- the definition


@pytest.mark.parametrize(
    ("settings", "kwargs"),
    [
        ({}, {}),
        ({"alpha": 0.8, "tolerance": 0.0}, {}),
        ({"power": 2.0}, {}),
        ({}, {"keep": 3}),
        ({"power": 0.0}, {"keep": 3}),
        ({}, {"keep": 1}),
        ({}, {"keep": 2, "screening_steps": 2}),
        ({"power": 2.0}, {"keep": 3, "screening_steps": 1}),
        ({"power": 0.0}, {"keep": 2, "screening_steps": 1}),
        ({}, {"keep": 1, "screening_steps": 2}),
        ({"neutral": 0.05}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize("own", [False, True])
def test_weighted_gradients_are_the_equations(rising, spread, literal, settings, kwargs, own):
    x, references = spread
    how = {"keep": kwargs.get("keep"), "screening": kwargs.get("screening_steps"), **settings}
    expected, weights = literal(rising, x, references, **how)
    baselines = references.expand(3, 5, 12) if own else references
    found, found_weights = WeightedGradients(rising).attribute(
        x, baselines, weighting=Deletion(**settings), return_weights=True, **kwargs
    )
    torch.testing.assert_close(found_weights, weights, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    if settings.get("power") != 0 and kwargs.get("keep") != 1:
        assert weights[weights > 0].unique().numel() > 1  # or nothing was tested


def test_without_the_product_maps_are_ranked_and_averaged_so(rising, spread, literal):
    x, references = spread
    expected, weights = literal(rising, x, references, multiply=False)
    found, found_weights = WeightedGradients(rising, multiply_by_inputs=False).attribute(
        x, references, return_weights=True
    )
    torch.testing.assert_close(found_weights, weights)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize(
    ("settings", "keep"), [({}, None), ({"power": 0.0}, None), ({"power": 2.0}, None), ({}, 3), ({"power": 0.0}, 2)]
)
def test_normalised_maps_are_averaged_complete(rising, spread, literal, maps_of, settings, keep, multiply):
    """Maps divided by their L1 norm, weighted, and brought back to a sum by one factor per example."""
    x, references = spread
    single = maps_of(rising, x, references, multiply=multiply)
    norms = single.abs().sum(-1, keepdim=True)
    _, weights = literal(rising, x, references, multiply=multiply, keep=keep, **settings)
    shape = (weights.unsqueeze(-1) * single / norms).sum(1)
    factor = 1 / (weights.unsqueeze(-1) / norms).sum(1)
    weighting = Deletion(normalise_maps=True, **settings)
    found, delta, own = WeightedGradients(rising, multiply).attribute(
        x, references, weighting=weighting, keep=keep, return_weights=True, return_convergence_delta=True
    )
    torch.testing.assert_close(found, factor * shape)
    torch.testing.assert_close(own.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(found, (own.unsqueeze(-1) * single).sum(1))
    torch.testing.assert_close(delta, found.sum(1) - (rising(x) - own @ rising(references)))
    assert not torch.allclose(own, weights)


@pytest.mark.parametrize("how", [{"n_steps": "auto"}, {"n_steps": 9, "method": "adaptive"}, {"n_steps": 9}], ids=str)
def test_normalised_maps_of_any_points(rising, spread, maps_of, how):
    x, references = spread
    weights, without = (
        WeightedGradients(rising)
        .attribute(x, references, return_weights=True, weighting=Deletion(normalise_maps=n), **how)
        .weights
        for n in (True, False)
    )
    expected = without / maps_of(rising, x, references).abs().sum(-1)
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=0.05, atol=0.02)


def test_normalised_maps_with_a_baseline_that_is_the_input_itself(rising, draw):
    x = positive(draw, 2, 8)
    references = torch.stack([x, positive(draw, 2, 8, seed=1), positive(draw, 2, 8, seed=2)], 1)
    how = {"return_weights": True, "weighting": Equal(normalise_maps=True)}
    found, weights = WeightedGradients(rising).attribute(x, references, **how)
    assert (weights[:, 0] == 0).all() and torch.isfinite(found).all() and (weights[:, 1:] > 0).all()
    same, weights = WeightedGradients(rising).attribute(x, x.unsqueeze(1), **how)
    assert (weights == 1).all() and (same == 0).all()


@pytest.mark.parametrize("kind", [Insertion, Both])
def test_weights_follow_the_fitness_that_is_asked_for(rising, spread, maps_of, kind):
    x, references = spread
    method, weighting = WeightedGradients(rising), kind(neutral=[0.0, 0.05])
    found, weights = method.attribute(x, references, return_weights=True, keep=3, weighting=weighting)
    distances = method.fitness(x, references, weighting=weighting)
    kept = torch.zeros(3, 5, dtype=torch.bool).scatter_(1, smallest(distances, 3), True)
    expected = (1 / distances) * kept
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True))
    torch.testing.assert_close(found, (weights.unsqueeze(-1) * maps_of(rising, x, references)).sum(1))
    _, plain = method.attribute(x, references, return_weights=True, keep=3)
    assert not torch.allclose(weights, plain)


def test_attribute_weighs_by_its_own_fitness(rising, spread):
    method = WeightedGradients(rising)
    _, weights = method.attribute(*spread, weighting=Deletion(power=1.5), return_weights=True)
    torch.testing.assert_close(weights, inverse_power(method.fitness(*spread), 1.5))


def test_every_quadrature_method_reaches_the_maps(rising, spread):
    x, references = spread
    for method in ("gausslegendre", "riemann_left", "riemann_trapezoid"):
        found, weights = WeightedGradients(rising).attribute(
            x, references, n_steps=3, method=method, return_weights=True
        )
        single = [ExpectedGradients(rising).attribute(x, r[None], n_steps=3, method=method) for r in references]
        torch.testing.assert_close(found, (torch.stack(single, 1) * weights.unsqueeze(2)).sum(1))
    np.testing.assert_allclose(weights.sum(1), 1)


def test_probabilities_are_searched_and_logits_attributed(make_net, draw):
    net, x, references = make_net(4), 2 * draw(3, 4), 2 * draw(3, 4, seed=1).repeat(2, 1)
    logits = lambda x: 8 * net(x)  # noqa: E731
    target = logits(x).argmax(1).tolist()
    kwargs = {"target": target, "return_weights": True}
    found, weights = WeightedGradients(logits).attribute(x, references, weighting=Deletion(alpha=0.95), **kwargs)
    single = [ExpectedGradients(logits).attribute(x, r[None], target) for r in references]
    torch.testing.assert_close(found, (torch.stack(single, 1) * weights.unsqueeze(2)).sum(1))
    for output in ("softmax", lambda o: o.softmax(1)):
        other = WeightedGradients(logits).attribute(
            x, references, weighting=Deletion(alpha=0.95, output=output), **kwargs
        )
        assert torch.equal(other[0], found) and torch.equal(other[1], weights)


# --- which baselines are kept


@pytest.mark.parametrize("keep", [1, 2, 5, 0.2, 0.5, 0.7, 1.0])
def test_keep_drops_the_least_fit_and_ties_go_by_position(rising, spread, keep):
    x, references = spread
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


@pytest.mark.parametrize("how", [{"n_steps": 10}, {"n_steps": Automatic(0.01)}], ids=str)
def test_screening_by_several_fitnesses_and_norms(rising, spread, maps_of, how):
    x, references = spread
    method, weighting = WeightedGradients(rising), Both(neutral=[0.0, 0.05], normalise_maps=True)
    coarse = {"n_steps": 2, "method": "riemann_shared_end" if how["n_steps"] == Automatic(0.01) else "gausslegendre"}
    found, delta, weights = method.attribute(
        x,
        references,
        keep=2,
        screening_steps=2,
        weighting=weighting,
        return_weights=True,
        return_convergence_delta=True,
        **how,
    )
    kept = smallest(method.fitness(x, references, weighting=weighting, **coarse), 2)
    assert ((weights > 0).nonzero()[:, 1].view(3, 2) == kept).all()
    norms = maps_of(rising, x, references).abs().sum(-1)
    full = 1 / method.fitness(x, references, weighting=weighting) / norms
    expected = torch.zeros_like(full).scatter_(1, kept, full.gather(1, kept))
    torch.testing.assert_close(weights, expected / expected.sum(1, keepdim=True), rtol=0.02, atol=0.005)
    assert delta.abs().max() < 1e-2 * rising(x).max()
    ends = rising(x) - (weights * torch.stack([rising(r[None]) for r in references], 1)).sum(1)
    torch.testing.assert_close(found.sum(1) - ends, delta, atol=1e-9, rtol=1e-6)


# --- limits


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("form", ["tensor", "own", "none", "paired"])
@pytest.mark.usefixtures("unprobed")
def test_one_baseline_is_integrated_gradients_and_asks_nothing_of_the_output(rising, draw, record, form, multiply):
    x, starts = positive(draw, 3, 12), draw(3, 12, seed=1)
    one, captums = {
        "tensor": (starts[:1], starts[:1]),
        "own": (starts.unsqueeze(1), starts),
        "none": (None, None),
        "paired": (starts, starts),
    }[form]
    negative = lambda x: -rising(x)  # noqa: E731
    f = record(negative)
    found, weights = WeightedGradients(f, multiply).attribute(
        x, one, pairing="paired", n_steps=20, return_weights=True, keep=1
    )
    assert (sum(f.graded), f.plain) == (3 * 20, [])
    torch.testing.assert_close(
        found, IntegratedGradients(negative, multiply).attribute(x, captums, n_steps=20), rtol=1e-5, atol=1e-7
    )
    assert torch.equal(weights, torch.ones(3, 1).double())


def test_equal_fitness_is_expected_gradients(rising, spread):
    x, references = spread
    found, weights = WeightedGradients(rising).attribute(
        x, references, feature_mask=torch.zeros(1, 12, dtype=torch.long), return_weights=True
    )
    assert torch.equal(weights, torch.full((3, 5), 0.2, dtype=torch.float64))
    torch.testing.assert_close(found, ExpectedGradients(rising).attribute(x, references))


def test_the_same_baseline_many_times_is_integrated_gradients(rising, spread):
    x, references = spread
    found = WeightedGradients(rising).attribute(x, references[1].expand(4, 12))
    torch.testing.assert_close(found, ExpectedGradients(rising).attribute(x, references[1:2]))


def test_a_large_power_is_the_best_baseline_alone(rising, spread):
    x, references = spread
    two = references[[0, 2]]
    sharp = WeightedGradients(rising).attribute(x, two, weighting=Deletion(power=500.0))
    distances = WeightedGradients(rising).fitness(x, two)
    assert (distances[:, 0] != distances[:, 1]).all()
    torch.testing.assert_close(sharp, WeightedGradients(rising).attribute(x, two, keep=1))


# --- laws


@pytest.mark.parametrize(
    "kwargs",
    [{}, {"weighting": Deletion(power=2.0)}, {"keep": 3}, {"keep": 0.5, "screening_steps": 3}],
    ids=str,
)
def test_weights_sum_to_one_and_sums_are_complete_against_the_weighted_value(spread, kwargs):
    x, references = spread
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
@pytest.mark.parametrize(
    "kwargs", [{}, {"weighting": "equal"}, {"keep": 3}, {"keep": 3, "screening_steps": 1}], ids=str
)
def test_the_delta_says_what_too_few_steps_leave_out(rising, spread, maps_of, kwargs, multiply):
    x, references = spread
    _, delta, weights = WeightedGradients(rising, multiply).attribute(
        x, references, n_steps=1, return_convergence_delta=True, return_weights=True, **kwargs
    )
    maps = maps_of(rising, x, references, n_steps=1, multiply=multiply)
    expected = (maps.sum(2) * weights).sum(1) - (rising(x) - weights @ rising(references))
    assert expected.abs().max() > 1e-2
    torch.testing.assert_close(delta, expected)


def test_the_order_of_baselines_orders_the_weights(rising, spread):
    x, references = spread
    order = torch.tensor([3, 0, 4, 1, 2])
    found, weights = WeightedGradients(rising).attribute(x, references, return_weights=True)
    again, ordered = WeightedGradients(rising).attribute(x, references[order], return_weights=True)
    torch.testing.assert_close(ordered, weights[:, order], rtol=1e-14, atol=0)
    torch.testing.assert_close(again, found)


def test_the_order_of_examples_orders_the_results(rising, spread):
    x, references = spread
    order = torch.tensor([2, 0, 1])
    kwargs = {"return_weights": True, "return_convergence_delta": True}
    found = WeightedGradients(rising).attribute(x, references, **kwargs)
    again = WeightedGradients(rising).attribute(x[order], references, **kwargs)
    torch.testing.assert_close(tuple(again), tuple(v[order] for v in found))


@pytest.mark.parametrize("kwargs", [{}, {"keep": 2, "screening_steps": 4}], ids=str)
def test_an_example_alone_has_the_map_that_it_has_in_a_batch(rising, spread, kwargs):
    x, references = spread
    method = WeightedGradients(rising)
    kwargs = {"return_weights": True, "return_convergence_delta": True, **kwargs}
    whole = method.attribute(x, references, **kwargs)
    for b in range(3):
        alone = method.attribute(x[b : b + 1], references, **kwargs)
        torch.testing.assert_close(tuple(alone), tuple(v[b : b + 1] for v in whole), rtol=1e-11, atol=1e-12)


def test_a_multiple_of_the_function_has_the_same_weights(rising, spread):
    one = WeightedGradients(rising).attribute(*spread, return_weights=True)
    many = WeightedGradients(lambda x: 1000 * rising(x)).attribute(*spread, return_weights=True)
    torch.testing.assert_close(tuple(many), (1000 * one[0], one[1]))


def test_two_implementations_of_one_function_agree(rising, spread):
    other = lambda x: rising(x.flip(1).flip(1) * 2 / 2)  # noqa: E731
    torch.testing.assert_close(
        tuple(WeightedGradients(other).attribute(*spread, return_weights=True)),
        tuple(WeightedGradients(rising).attribute(*spread, return_weights=True)),
    )


def test_unused_features_get_zero(rising, spread):
    found = WeightedGradients(lambda x: rising(x[:, :7])).attribute(*spread)
    assert (found[:, 7:] == 0).all() and (found[:, :7] != 0).all()


# --- tuples, results, the constructor's baselines


def test_features_of_a_tuple_are_one_list(rising, draw):
    x, references = positive(draw, 3, 12), draw(4, 12, seed=1)
    split = lambda t: (t[:, :5], t[:, 5:].reshape(-1, 7, 1))  # noqa: E731
    f = lambda a, b: rising(torch.cat([a, b.flatten(1)], 1))  # noqa: E731
    whole, weights = WeightedGradients(rising).attribute(x, references, return_weights=True)
    parts, same = WeightedGradients(f).attribute(split(x), split(references), return_weights=True)
    assert torch.equal(same, weights)
    torch.testing.assert_close(torch.cat([parts[0], parts[1].flatten(1)], 1), whole)


def test_inputs_without_features_have_equal_weights(draw):
    x, references = positive(draw, 3), positive(draw, 2, seed=1)
    found, weights = WeightedGradients(lambda x: x**2).attribute(x, references, return_weights=True, n_steps=2)
    assert (weights == 0.5).all()
    torch.testing.assert_close(found, x**2 - (references**2).mean())


def test_orders_of_returned_values(rising, spread):
    x, references = spread
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


def test_progress_is_shown_on_request(rising, spread, capsys):
    WeightedGradients(rising).attribute(*spread, show_progress=True, keep=2, screening_steps=2)
    shown = capsys.readouterr().err
    assert "WeightedGradients screening" in shown and "WeightedGradients fitness" in shown
    for quiet in (None, False):
        WeightedGradients(rising).attribute(*spread, show_progress=quiet)
        assert capsys.readouterr().err == ""


def test_the_constructors_baselines_serve_where_none_are_given(rising, spread):
    x, references = spread
    bound = WeightedGradients(rising, baselines=references)
    assert torch.equal(bound.attribute(x), WeightedGradients(rising).attribute(x, references))
    assert torch.equal(bound.fitness(x), WeightedGradients(rising).fitness(x, references))
    assert torch.equal(bound.attribute(x, 0.5), WeightedGradients(rising).attribute(x, 0.5))


# --- bad input


def two_logits(x):
    return torch.stack([x.sum(1), 2 - x.sum(1)], 1)


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
    ({"n_steps": "many"}, ValueError, "n_steps must be a whole number of at least 1, 'auto' or an Automatic"),
    ({"n_steps": "auto", "method": "riemann_left"}, ValueError, "method='riemann_left' can't be refined"),
    ({"method": "simpson"}, ValueError, "method must be one of"),
    ({"internal_batch_size": -1}, ValueError, "internal_batch_size must be"),
    ({"pairing": "each"}, ValueError, "pairing must be"),
    ({"weighting": Deletion(neutral="white")}, ValueError, "neutral must be one of"),
    ({"weighting": Insertion(neutral="corners")}, ValueError, "neutral='corners' needs images"),
    ({"weighting": Both(neutral=math.nan)}, ValueError, "neutral holds NaN"),
    ({"feature_mask": torch.zeros(1, 5).long()}, ValueError, "feature_mask has shape"),
    ({"feature_mask": torch.zeros(1, 4)}, TypeError, "feature_mask must hold integer"),
]
BAD_OF_ATTRIBUTE = [
    *[({"keep": k}, ValueError, "keep must be a whole number from 1") for k in (0, -1, 3, 0.0, 1.1, True)],
    ({"keep": 1, "screening_steps": 0}, ValueError, "screening_steps must be"),
    (
        {"keep": 1, "screening_steps": 1, "method": "riemann_trapezoid"},
        ValueError,
        "screening_steps must be at least 2 for method='riemann_trapezoid'",
    ),
    ({"return_steps": True}, ValueError, "return_steps tells what n_steps='auto' took"),
    ({"screening_steps": 3}, ValueError, "screening_steps chooses which baselines to keep; give keep too"),
]


@pytest.mark.parametrize(("kwargs", "error", "match"), BAD + BAD_OF_ATTRIBUTE, ids=lambda v: str(v)[:40])
def test_bad_arguments_are_named(kwargs, error, match):
    good = {"inputs": torch.ones(3, 4), "baselines": torch.zeros(2, 4), "target": 0}
    with pytest.raises(error, match=match):
        WeightedGradients(two_logits).attribute(**{**good, **kwargs})


@pytest.mark.parametrize(("kwargs", "error", "match"), BAD, ids=lambda v: str(v)[:40])
def test_bad_arguments_of_fitness_are_named(kwargs, error, match):
    good = {"inputs": torch.ones(3, 4), "baselines": torch.zeros(2, 4), "target": 0}
    with pytest.raises(error, match=match):
        WeightedGradients(two_logits).fitness(**{**good, **kwargs})


def test_an_output_that_is_not_positive_names_the_examples(rising, spread):
    x, references = spread
    args = {"additional_forward_args": torch.tensor([1.0, -1.0, 1.0]).double()}
    method = WeightedGradients(lambda x, s: rising(x) * s)
    for call in (method.attribute, method.fitness):
        with pytest.warns(UserWarning, match=r"examples 1 is not positive .*Deletion\(output='softmax'\)"):
            call(x, references, **args)
    for way_out in ("equal", Deletion(power=0), Deletion(output=lambda o: o.abs())):
        method.attribute(x, references, weighting=way_out, **args)


def test_an_example_without_a_fitness_has_equal_weights_and_the_others_have_their_own(rising, spread):
    x, references = spread
    sign = torch.tensor([1.0, -1.0, 1.0]).double()
    method = WeightedGradients(lambda x, s: rising(x) * s)
    with pytest.warns(UserWarning, match=r"examples 1 is not positive"):
        found, weights = method.attribute(x, references, additional_forward_args=sign, return_weights=True)
    expected = WeightedGradients(rising).attribute(x, references, return_weights=True)
    assert torch.equal(weights[1], torch.full((5,), 0.2, dtype=torch.float64))
    torch.testing.assert_close(weights[[0, 2]], expected.weights[[0, 2]])
    torch.testing.assert_close(found[[0, 2]], expected.attributions[[0, 2]])
    torch.testing.assert_close(found[1], -ExpectedGradients(rising).attribute(x, references)[1])


def test_what_cannot_be_fitted_is_said_before_gradients_are_spent(rising, spread, record):
    f = record(lambda x: rising(x) * torch.nan)
    with pytest.raises(ValueError, match=r"f\(x\) is NaN or infinite"):
        WeightedGradients(f).attribute(*spread)
    assert f.graded == []


def test_a_function_that_does_not_depend_on_the_input():
    with pytest.raises(ValueError, match="depends on none of the inputs"):
        WeightedGradients(lambda x: torch.ones(len(x))).attribute(
            torch.ones(3, 3), torch.zeros(2, 3), weighting="equal"
        )


def test_a_gradient_that_is_not_finite_names_its_example():
    x = torch.tensor([[1.0, 1.0], [0.0, 1.0], [2.0, 1.0]])
    with pytest.raises(ValueError, match="gradient is NaN or infinite for examples 1,"):
        WeightedGradients(lambda x: x.sqrt().sum(1)).attribute(x, torch.tensor([[0.0, 0.1], [0.0, 0.2]]))
