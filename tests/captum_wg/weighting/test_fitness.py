from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg import WeightedGradients
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting import fitness

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


# --- a literal second derivation


def search_one(curve, start, n_features, alpha=0.5, tolerance=0.01, max_iterations=100):
    """Algorithm 1 for one example and one baseline; curve(k) is the score with k features removed."""
    low, high, answer = 1, n_features, n_features
    for _ in range(max_iterations):
        if low > high:
            break
        middle = (low + high) // 2
        score = curve(middle)
        if tolerance > 0 and abs(score - alpha * start) <= tolerance * start:
            return middle
        if score <= alpha * start:
            answer, high = middle, middle - 1
        else:
            low = middle + 1
    return answer


def scan(curve, start, n_features, alpha=0.5):
    """The least number of features, tried one after another."""
    return next((k for k in range(1, n_features + 1) if curve(k) <= alpha * start), n_features)


def integrated_gradients(f, x, start, steps=24):
    """(x - x') times the mean gradient at the middles of equal steps; x and start without the batch."""
    total = torch.zeros_like(x)
    for s in range(steps):
        point = (start + (s + 0.5) / steps * (x - start)).requires_grad_()
        total += torch.autograd.grad(f(point.unsqueeze(0)).sum(), point)[0] / steps
    return (x - start) * total


def d_alpha_one(score, x, heat, alpha=0.5, tolerance=0.01, absolute=False, neutral=None, find=search_one):
    """D_alpha of one map, masks made by loops: pixels of an image, elements of anything else."""
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
    return find(curve, start, len(places), alpha) if find is scan else find(curve, start, len(places), alpha, tolerance)


def fitness_of(function, *args, **kwargs):
    """WeightedGradients.fitness, also of examples that no removal brings down."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "for examples .* removing every feature")
        return WeightedGradients(function).fitness(*args, **kwargs)


def sharp(net):
    """Logits far enough apart for a probability to fall to a share of itself."""
    return lambda x: 12 * net(x)


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("alpha", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(3, 5, 4), (10,), (4, 3)], ids=["image", "table", "sequence"])
def test_d_alpha_is_the_literal_searchs(make_net, draw, shape, alpha, tolerance):
    net = sharp(make_net(math.prod(shape)))
    x, references = draw(3, *shape), draw(4, *shape, seed=1)
    target = net(x).argmax(1).tolist()
    found = fitness_of(
        net,
        x,
        references,
        target,
        n_steps=24,
        method="riemann_middle",
        alpha=alpha,
        tolerance=tolerance,
        neutral="auto",
    )
    assert found.dtype == torch.int64 and found.shape == (3, 4)
    assert len(found.unique()) > 1
    for b in range(3):
        for k in range(4):
            heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
            expected = d_alpha_one(
                lambda p, t=target[b]: net(p).softmax(1)[:, t], x[b], heat, alpha=alpha, tolerance=tolerance
            )
            assert found[b, k] == expected


def test_d_alpha_by_absolute_values_and_another_neutral(make_net, draw):
    net, x, references = sharp(make_net(60)), draw(2, 3, 5, 4), draw(3, 3, 5, 4, seed=1)
    target = net(x).argmax(1).tolist()
    kwargs = {"target": target, "n_steps": 24, "method": "riemann_middle", "neutral": -0.5}
    found = {r: fitness_of(net, x, references, ranking=r, **kwargs) for r in ("absolute", "signed")}
    for ranking, distances in found.items():
        for b in range(2):
            for k in range(3):
                heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
                score = lambda p, t=target[b]: net(p).softmax(1)[:, t]  # noqa: E731
                expected = d_alpha_one(score, x[b], heat, absolute=ranking == "absolute", neutral=-0.5)
                assert distances[b, k] == expected
    assert not torch.equal(found["absolute"], found["signed"])


def insertion_one(score, x, heat, alpha=0.5, tolerance=0.01, neutral=0.0):
    """The least number of elements of x, the highest of heat first, that an input of neutral values needs back."""
    order = sorted(range(x.numel()), key=lambda i: (-heat[i].item(), i))
    with torch.no_grad():
        goal = alpha * score(x.unsqueeze(0)).item()
        low, high, answer = 1, x.numel(), x.numel()
        while low <= high:
            middle = (low + high) // 2
            built = torch.full_like(x, neutral)
            built[order[:middle]] = x[order[:middle]]
            reached = score(built.unsqueeze(0)).item()
            if tolerance > 0 and abs(reached - goal) <= tolerance * goal / alpha:
                return middle
            if reached >= goal:
                answer, high = middle, middle - 1
            else:
                low = middle + 1
    return answer


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_insertion_is_the_literal_search(make_net, draw, alpha, tolerance):
    own = make_net(10)
    # All classes are alike where every feature is removed.
    net = lambda x: 30 * (own(x) - own(torch.full_like(x, -0.2)))  # noqa: E731
    x, references = draw(4, 10), draw(3, 10, seed=1)
    target = net(x).argmax(1).tolist()
    kwargs = {"n_steps": 24, "method": "riemann_middle", "alpha": alpha, "tolerance": tolerance, "neutral": -0.2}
    found = fitness_of(net, x, references, target, fitness="insertion", **kwargs)
    assert found.dtype == torch.int64 and len(found.unique()) > 1
    for b in range(4):
        for k in range(3):
            heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
            score = lambda p, t=target[b]: net(p).softmax(1)[:, t]  # noqa: E731
            assert found[b, k] == insertion_one(score, x[b], heat, alpha, tolerance, -0.2)


def test_several_neutrals_and_both_ways_are_the_geometric_mean(make_net, draw):
    net, x, references = sharp(make_net(60)), draw(2, 3, 5, 4), draw(3, 3, 5, 4, seed=1)
    target = net(x).argmax(1).tolist()
    neutrals = ["corners", 0.3, "blur", torch.ones(3, 1, 1)]
    single = {
        (way, i): fitness_of(net, x, references, target, n_steps=8, neutral=neutral, fitness=way).double()
        for i, neutral in enumerate(neutrals)
        for way in ("deletion", "insertion")
    }
    assert len({tuple(d.flatten().tolist()) for d in single.values()}) > 4
    for way, ways in (("deletion", 1), ("insertion", 1), ("both", 2)):
        found = fitness_of(net, x, references, target, n_steps=8, neutral=neutrals, fitness=way)
        assert found.dtype == torch.float64
        product = torch.ones(2, 3, dtype=torch.float64)
        for (own, _), distances in single.items():
            if way in (own, "both"):
                product *= distances
        torch.testing.assert_close(found, product ** (1 / (4 * ways)), rtol=1e-12, atol=0)


def test_one_neutral_in_a_list_is_that_neutral(make_net, draw):
    net, x, references = sharp(make_net(12)), draw(2, 12), draw(3, 12, seed=1)
    alone, listed = (fitness_of(net, x, references, 0, n_steps=8, neutral=n) for n in ("mean", ["mean"]))
    assert torch.equal(alone, listed) and alone.dtype == listed.dtype


def test_the_warning_is_of_examples_that_no_search_can_tell_apart(draw):
    f = lambda x: (x**2).sum(1)  # noqa: E731
    x, references = draw(3, 6), draw(2, 6, seed=1)
    for how, text in (
        ({"neutral": [9.0, 8.0]}, "not even removing every feature brings the output down to alpha = 0.5 .* is P for"),
        (
            {"neutral": 9.0, "fitness": "insertion"},
            "removing every feature leaves the output above .* D_alpha is 1 for",
        ),
        (
            {"neutral": 9.0, "fitness": "both"},
            "for examples 0, 1, 2 removing .* D_alpha is P by deletion and 1 by insertion for",
        ),
    ):
        with pytest.warns(UserWarning, match=text):
            distances = WeightedGradients(f).fitness(x, references, n_steps=4, **how)
        assert (distances == distances[:, :1]).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for how in ({}, {"fitness": "insertion"}, {"fitness": "both"}):
            WeightedGradients(f).fitness(x, references, n_steps=4, neutral=[9.0, 0.0], **how)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 50176), min_size=2, max_size=6), st.randoms())
def test_geometric_means_do_not_depend_on_the_order(values, random):
    shuffled = random.sample(values, len(values))
    found = fitness.geometric_mean(torch.tensor([values, shuffled]).T)
    assert found[0] == found[1] == pytest.approx(math.prod(values) ** (1 / len(values)), rel=1e-11)


def test_equal_products_are_ties():
    found = fitness.geometric_mean(torch.tensor([[1, 2, 10, 4], [10, 5, 1, 3]]))
    assert found[0] == found[1] == found[2] and found[3] > found[0]
    assert fitness.kept_baselines(found[None], 2).tolist() == [[0, 1]]


def test_without_a_tolerance_the_search_is_a_linear_scan_where_the_curve_falls(draw):
    """F = sum of softplus(c x): with non-negative inputs every removal lowers it."""
    scale = draw(12).abs()
    f = lambda x: torch.log1p((scale * x).square()).sum(1)  # noqa: E731
    x, references = draw(4, 12, seed=1).abs(), draw(3, 12, seed=2).abs()
    for alpha in (0.1, 0.5, 0.8):
        found = WeightedGradients(f).fitness(
            x, references, n_steps=24, method="riemann_middle", alpha=alpha, tolerance=0
        )
        for b in range(4):
            for k in range(3):
                heat = integrated_gradients(f, x[b], references[k])
                assert found[b, k] == d_alpha_one(f, x[b], heat, alpha, find=scan)


# --- bisect


def curves(falling):
    """Rows of scores after 0, 1, ... P features are gone, in eighths so that ties are exact."""
    scores = st.integers(1, 20).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 16), min_size=n, max_size=n), min_size=1, max_size=6)
    )
    return scores.map(lambda rows: [sorted(r, reverse=True) for r in rows] if falling else rows)


def bisect_rows(rows, start=16.0, **kwargs):
    table = torch.tensor(rows, dtype=torch.float64)
    asked = []

    def score(which, removed):
        asked.append(which.tolist())
        assert ((removed >= 1) & (removed <= table.shape[1])).all()
        return table[which, removed - 1]

    reference = torch.full((len(rows),), start, dtype=torch.float64)
    answer, reached = fitness.bisect(score, reference, table.shape[1], **kwargs)
    return answer.tolist(), reached.tolist(), asked


@settings(deadline=None, max_examples=150)
@given(curves(falling=True), st.sampled_from([0.125, 0.25, 0.5, 0.75]))
def test_bisect_finds_the_exact_minimum_of_a_falling_curve(rows, alpha):
    answers, reached, _ = bisect_rows(rows, alpha=alpha, tolerance=0.0)
    for row, answer, did in zip(rows, answers, reached, strict=True):
        assert answer == scan(lambda k, row=row: row[k - 1], 16, len(row), alpha)
        assert did == (row[-1] <= alpha * 16)


@settings(deadline=None, max_examples=150)
@given(curves(falling=False), st.sampled_from([0.25, 0.5]), st.sampled_from([0.0, 0.0625, 0.25]), st.integers(1, 6))
def test_bisect_is_the_literal_search_on_any_curve(rows, alpha, tolerance, most):
    answers, _, asked = bisect_rows(rows, alpha=alpha, tolerance=tolerance, max_iterations=most)
    for row, answer in zip(rows, answers, strict=True):
        assert answer == search_one(lambda k, row=row: row[k - 1], 16, len(row), alpha, tolerance, most)
    assert len(asked) <= most


@settings(deadline=None, max_examples=80)
@given(curves(falling=False), st.sampled_from([0.0, 0.1]))
def test_bisect_takes_no_more_steps_than_the_logarithm_and_closes_rows(rows, tolerance):
    answers, reached, asked = bisect_rows(rows, tolerance=tolerance)
    n_features = len(rows[0])
    assert len(asked) <= math.ceil(math.log2(n_features + 1))
    assert all(later in (asked[i]) for i in range(len(asked) - 1) for later in asked[i + 1])
    assert all(1 <= a <= n_features for a in answers)
    for row, answer, did in zip(rows, answers, reached, strict=True):
        if did:
            assert row[answer - 1] <= 8 + 16 * tolerance
        else:
            assert answer == n_features


@settings(deadline=None, max_examples=300)
@given(st.data(), st.integers(1, 4), st.integers(1, 6), st.booleans(), st.booleans())
def test_a_search_for_the_best_finds_the_same_ones_in_no_more_steps(data, groups, rivals, which_only, falling):
    n_features = data.draw(st.integers(1, 30))
    row = st.lists(st.integers(0, 16), min_size=n_features, max_size=n_features)
    rows = [
        sorted(r, reverse=True) if falling else r
        for r in data.draw(st.lists(row, min_size=groups * rivals, max_size=groups * rivals))
    ]
    n_best = data.draw(st.integers(1, rivals))
    tolerance = data.draw(st.sampled_from([0.0, 0.1]))
    full, _, asked_in_full = bisect_rows(rows, tolerance=tolerance)
    answers, _, asked = bisect_rows(rows, tolerance=tolerance, n_rivals=rivals, n_best=n_best, which_only=which_only)
    assert sum(map(len, asked)) <= sum(map(len, asked_in_full))
    found = fitness.kept_baselines(torch.tensor(answers).view(groups, rivals), n_best)
    expected = fitness.kept_baselines(torch.tensor(full).view(groups, rivals), n_best)
    assert torch.equal(found, expected)
    assert all(a >= f for a, f in zip(answers, full, strict=True))
    if not which_only:
        kept = torch.tensor(full).view(groups, rivals).gather(1, expected)
        assert torch.equal(torch.tensor(answers).view(groups, rivals).gather(1, expected), kept)


def test_a_search_for_the_best_leaves_the_others_out():
    good, bad = [4.0] * 64, [16.0] * 63 + [4.0]
    answers, _, asked = bisect_rows([good, bad, bad, good], tolerance=0.0, n_rivals=4, n_best=2)
    assert asked[0] == [0, 1, 2, 3] and asked[1] == [0, 3] and asked[-1] == [0, 3]
    assert answers == [1, 64, 64, 1]
    _, _, asked = bisect_rows([good, bad, bad, good], tolerance=0.0, n_rivals=4, n_best=2, which_only=True)
    assert len(asked) == 1


def test_bisect_within_tolerance_stops_at_once():
    #                      k = 1  2   3    4    5  6  7
    answers, _, asked = bisect_rows([[15, 14, 13, 8.1, 8, 7, 0]], tolerance=0.01)
    assert (answers, len(asked)) == ([4], 1)
    answers, _, _ = bisect_rows([[15, 14, 13, 8.1, 8, 7, 0]], tolerance=0.0)
    assert answers == [5]


def test_a_plateau_at_the_target_is_left_by_its_first_step_only():
    assert bisect_rows([[8.0] * 9], tolerance=0.0)[0] == [1]
    assert bisect_rows([[16, 16, 8, 8, 8, 8, 8, 8, 8]], tolerance=0.0)[0] == [3]


def test_rows_may_have_their_own_number_of_features():
    visited = []

    def score(rows, removed):
        visited.extend(zip(rows.tolist(), removed.tolist(), strict=True))
        return torch.full((len(rows),), 9.0)

    answer, reached = fitness.bisect(score, torch.full((3,), 16.0), torch.tensor([1, 4, 9]))
    assert answer.tolist() == [1, 4, 9] and not reached.any()
    assert all(removed <= (1, 4, 9)[row] for row, removed in visited)


def test_a_masked_output_that_is_not_finite():
    with pytest.raises(ValueError, match="the output is NaN or infinite for a masked input"):
        bisect_rows([[1.0, math.nan, 1.0]])


# --- weights and choice


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 6).flatmap(lambda k: st.lists(st.lists(st.integers(1, 10**6), min_size=k, max_size=k), min_size=1)),
    st.floats(0, 5),
)
def test_weights_against_the_equation(rows, power):
    found = fitness.weights(torch.tensor(rows), power)
    assert found.dtype == torch.float64
    for row, weights in zip(rows, found.tolist(), strict=True):
        total = sum(d**-power for d in row)
        assert weights == pytest.approx([d**-power / total for d in row], rel=1e-9, abs=1e-300)
        assert sum(weights) == pytest.approx(1, abs=1e-12)


def test_equal_fitness_and_power_zero_give_equal_weights():
    assert fitness.weights(torch.tensor([[7, 7, 7, 7]]), 3.0).tolist() == [[0.25] * 4]
    assert fitness.weights(torch.tensor([[1, 50, 7, 2]]), 0.0).tolist() == [[0.25] * 4]


def test_a_large_power_takes_the_best_and_does_not_underflow():
    found = fitness.weights(torch.tensor([[10**6, 10**6 - 1, 10**5], [3, 2, 2]]), 1e6)
    assert found.tolist() == [[0, 0, 1], [0, 0.5, 0.5]]


def test_weights_fall_with_the_distance():
    (found,) = fitness.weights(torch.tensor([[1, 2, 4]])).tolist()
    assert found == pytest.approx([4 / 7, 2 / 7, 1 / 7])


def test_weights_of_normalised_maps():
    weights = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]], dtype=torch.float64)
    norms = torch.tensor([[2.0, 1.0, 4.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    found = fitness.of_normalised_maps(weights, norms)
    expected = [[4 / 9, 4 / 9, 1 / 9], [0, 0.6, 0.4], [0.2, 0.3, 0.5]]
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=8), st.data())
def test_kept_are_the_smallest_with_ties_by_position(row, data):
    n = data.draw(st.integers(1, len(row)))
    expected = sorted(sorted(range(len(row)), key=lambda k: (row[k], k))[:n])
    assert fitness.kept_baselines(torch.tensor([row]), n).tolist() == [expected]


@pytest.mark.parametrize(
    ("keep", "count"), [(None, None), (1, 1), (10, 10), (1.0, 10), (0.5, 5), (0.25, 2), (0.35, 4), (0.01, 1)]
)
def test_keep_counts_or_shares(keep, count):
    assert fitness.check_keep(keep, 10) == count


@pytest.mark.parametrize("keep", [0, -1, 11, 0.0, -0.5, 1.5, math.nan, True, "half"])
def test_keep_is_checked(keep):
    with pytest.raises(ValueError, match=r"keep must be a whole number from 1 to the number of baselines \(10\)"):
        fitness.check_keep(keep, 10)


GOOD = {
    "alpha": 0.5,
    "tolerance": 0.01,
    "max_iterations": 100,
    "power": 1.0,
    "ranking": "signed",
    "fitness": "deletion",
}


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        *[("alpha", v, r"alpha must be a number in \(0.0, 1.0\)") for v in (0, 1, 0.0, 1.0, -0.5, 2, math.nan, "0.5")],
        *[("tolerance", v, "tolerance must be a number") for v in (-0.1, math.nan, None)],
        *[("max_iterations", v, "max_iterations must be a whole number") for v in (0, -1, 1.5)],
        *[("power", v, "power must be a number") for v in (-1, math.nan, "2")],
        ("power", math.inf, "power must be finite, got inf; keep=1"),
        ("ranking", "abs", "ranking must be one of .'signed', 'absolute'., got 'abs'"),
        *[
            ("fitness", v, "fitness must be one of .'deletion', 'insertion', 'both'., got")
            for v in ("Deletion", None, ["both"])
        ],
    ],
)
def test_settings_are_checked(name, value, match):
    fitness.check_settings(**GOOD)
    with pytest.raises(ValueError, match=match):
        fitness.check_settings(**{**GOOD, name: value})


def test_fitness_output_is_checked():
    for good in ("auto", "softmax", "identity", torch.exp):
        fitness.check_fitness_output(good)
    for bad in ("logits", None, 3):
        with pytest.raises(ValueError, match="fitness_output must be one of"):
            fitness.check_fitness_output(bad)


# --- f(x)


def reference(function, x, fitness_output="auto", **kwargs):
    return fitness.reference_scores(Problem(function, input_gradients, x, **kwargs), fitness_output)


@pytest.mark.parametrize("rows", [1, 2, None])
def test_auto_is_softmax_of_logits(draw, rows):
    x = draw(3, 4)
    scores, transform = reference(lambda x: x, x, target=[0, 3, 1], internal_batch_size=rows)
    torch.testing.assert_close(scores, x.softmax(1)[range(3), [0, 3, 1]])
    torch.testing.assert_close(transform(x), x.softmax(1))


@pytest.mark.parametrize("rows", [1, None])
def test_auto_leaves_probabilities_and_one_column_alone(draw, rows):
    x = draw(3, 4).softmax(1)
    scores, transform = reference(lambda x: x, x, target=2, internal_batch_size=rows)
    assert torch.equal(scores, x[:, 2]) and transform(x) is x
    assert torch.equal(reference(lambda x: 5 * x[:, 0], x, internal_batch_size=rows)[0], 5 * x[:, 0])
    assert torch.equal(reference(lambda x: 5 * x[:, :1], x, internal_batch_size=rows)[0], 5 * x[:, 0])
    assert torch.equal(reference(lambda x: 5 * x[:, :1], x, target=0)[0], 5 * x[:, 0])


def test_auto_is_decided_on_the_whole_batch_and_not_on_a_part():
    """The first rows alone lie in [0, 1]."""
    x = torch.tensor([[0.2, 0.8], [0.5, 0.5], [2.0, 1.0]], dtype=torch.float64)
    scores, _ = reference(lambda x: x, x, target=0, internal_batch_size=1)
    torch.testing.assert_close(scores, x.softmax(1)[:, 0])


def test_fitness_outputs_by_name_and_by_callable(draw):
    x = draw(3, 4).abs()
    assert torch.equal(reference(lambda x: x, x, "identity", target=1)[0], x[:, 1])
    probabilities = x / x.sum(1, keepdim=True)
    torch.testing.assert_close(
        reference(lambda x: probabilities, x, "softmax", target=1)[0], probabilities.softmax(1)[:, 1]
    )
    torch.testing.assert_close(reference(lambda x: x, x, torch.exp, target=1)[0], x[:, 1].exp())
    torch.testing.assert_close(reference(lambda x: x, x, lambda o: o.sum(1), target=1)[0], x.sum(1))
    cube = draw(3, 4, 2).abs()
    torch.testing.assert_close(reference(lambda x: cube, x, "identity", target=(1, 0))[0], cube[:, 1, 0])
    torch.testing.assert_close(reference(lambda x: cube, x, "softmax", target=(1, 0))[0], cube.softmax(1)[:, 1, 0])


def test_half_precision_scores_are_float32():
    scores, _ = reference(lambda x: x, torch.full((2, 4), 3.0, dtype=torch.bfloat16), target=1)
    assert scores.dtype == torch.float32 and scores.tolist() == [0.25, 0.25]


def test_outputs_of_more_dimensions_need_a_word(draw):
    with pytest.raises(ValueError, match=r"can't be found automatically for outputs of shape \(2, 3, 4\)"):
        reference(lambda x: x, draw(2, 3, 4), target=(0, 0))


@pytest.mark.parametrize("columns", [(), (1,)])
def test_softmax_of_one_column_is_refused(draw, columns):
    with pytest.raises(ValueError, match="one column is always 1; use 'identity' or torch\.sigmoid"):
        reference(lambda x: x.reshape(2, *columns), draw(2), "softmax")


def test_an_output_that_is_not_positive_names_the_examples_and_the_ways_out():
    x = torch.tensor([[1.0], [-2.0], [0.0], [math.pi]])
    with pytest.raises(ValueError, match=r"examples 1, 2 \(-2, 0\).*fitness_output.*power=0 without keep"):
        reference(lambda x: x.sum(1), x)
    with pytest.raises(ValueError, match=r"examples 0 \(nan\)"):
        reference(lambda x: x.sum(1) * math.nan, x[:1])
    with pytest.raises(ValueError, match=r"examples 0 \(inf\)"):
        reference(lambda x: x.sum(1) * math.inf, x[:1])


def test_a_fitness_output_that_returns_no_tensor(draw):
    with pytest.raises(TypeError, match="must return a Tensor, got list"):
        reference(lambda x: x, draw(2, 3), lambda o: o.tolist(), target=0)


def test_a_search_cut_short_is_not_called_hopeless():
    never_enough = torch.full((1,), 10.0)
    _, possible = fitness.bisect(lambda rows, removed: never_enough[rows], never_enough, 64, max_iterations=2)
    assert possible.all()
    _, possible = fitness.bisect(lambda rows, removed: never_enough[rows], never_enough, 64)
    assert not possible.any()


def test_keep_takes_numpy_integers():
    assert fitness.check_keep(np.int64(3), 5) == 3
