"""What `weighting` may be: a name, an object of ours, or the caller's own rule, whose weights are checked."""

from __future__ import annotations

import math
import re

import pytest
import torch

from captum_wg import Both, Deletion, Equal, Insertion, WeightedGradients, weighting
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting.binding import NAMED, bind
from captum_wg.weighting.maps import StoredMaps
from captum_wg.weighting.masking import Features


def named(value):
    """A name for a test, without addresses, which differ from run to run."""
    name = value.__name__ if isinstance(value, type) else re.sub(r" at 0x\w+", "", str(value))
    return name[:60]


pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def by_norm(problem, maps):
    norms = maps.norms()
    return norms / norms.sum(1, keepdim=True)


# --- names and objects


def test_the_names_are_those_of_the_objects():
    assert {"deletion": Deletion, "insertion": Insertion, "both": Both, "equal": Equal} == NAMED


@pytest.mark.parametrize("name", NAMED)
def test_a_name_is_the_object_with_its_defaults(rising, spread, name):
    kwargs = {"return_weights": True, "n_steps": 5}
    named = WeightedGradients(rising).attribute(*spread, weighting=name, **kwargs)
    made = WeightedGradients(rising).attribute(*spread, weighting=NAMED[name](), **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(named, made, strict=True))
    if name != "equal":
        distances = [WeightedGradients(rising).fitness(*spread, weighting=w) for w in (name, NAMED[name]())]
        assert torch.equal(*distances)


def test_deletion_is_the_default(rising, spread):
    plain = WeightedGradients(rising).attribute(*spread)
    assert torch.equal(WeightedGradients(rising).attribute(*spread, weighting="deletion"), plain)
    assert torch.equal(
        WeightedGradients(rising).fitness(*spread), WeightedGradients(rising).fitness(*spread, weighting=Deletion())
    )


@pytest.mark.parametrize("made", [kind() for kind in NAMED.values()], ids=named)
def test_an_object_of_ours_is_a_rule_that_can_be_called(rising, spread, maps_of, made):
    """So that a caller's own rule can be built on one of ours."""
    x, references = spread
    problem = Problem(rising, input_gradients, x)
    maps = StoredMaps((maps_of(rising, x, references),), Features((x,)))
    _, expected = WeightedGradients(rising).attribute(x, references, weighting=made, return_weights=True)
    torch.testing.assert_close(made(problem, maps), expected)
    _, wrapped = WeightedGradients(rising).attribute(
        x, references, weighting=lambda problem, maps: made(problem, maps), return_weights=True
    )
    torch.testing.assert_close(wrapped, expected)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (
            "fittest",
            ValueError,
            r"weighting must be one of \('deletion', 'insertion', 'both', 'equal'\).*got 'fittest'",
        ),
        (None, TypeError, r"weighting must be .* a callable \(problem, maps\) -> \(B, K\), got None"),
        (0.5, TypeError, "weighting must be .* got 0.5"),
        (torch.ones(3, 5), TypeError, "weighting must be one of"),
        (Deletion, TypeError, r"make an object of it: Deletion\(\)"),
        (Equal, TypeError, r"make an object of it: Equal\(\)"),
    ],
    ids=named,
)
@pytest.mark.usefixtures("unprobed")
def test_what_no_weighting_is(rising, spread, record, given, error, match):
    f = record(rising)
    with pytest.raises(error, match=match):
        WeightedGradients(f).attribute(*spread, weighting=given)
    assert f.sizes == []


@pytest.mark.parametrize("given", ["equal", Equal(), by_norm, None, "fittest", Deletion], ids=named)
def test_what_has_no_fitness(rising, spread, given):
    with pytest.raises(TypeError, match=r"'deletion', 'insertion', 'both' or an object such as Deletion\(alpha=0.5\)"):
        WeightedGradients(rising).fitness(*spread, weighting=given)


def test_the_package_names_what_a_caller_needs():
    assert set(weighting.__all__) == {
        "Both",
        "Deletion",
        "Equal",
        "FitnessWeighting",
        "Insertion",
        "Maps",
        "StoredMaps",
    }


# --- the caller's own rule


@pytest.mark.parametrize("n_steps", [5, "auto"])
@pytest.mark.parametrize("multiply", [True, False])
def test_an_own_rule_weighs_the_maps(rising, spread, maps_of, multiply, n_steps):
    x, references = spread
    found, delta, weights = WeightedGradients(rising, multiply).attribute(
        x, references, weighting=by_norm, n_steps=n_steps, return_weights=True, return_convergence_delta=True
    )
    if n_steps == 5:
        maps = maps_of(rising, x, references, n_steps, multiply)
        torch.testing.assert_close(weights, maps.abs().sum(2) / maps.abs().sum((1, 2)).unsqueeze(1))
        torch.testing.assert_close(found, (weights.unsqueeze(2) * maps).sum(1))
    torch.testing.assert_close(delta, found.sum(1) - (rising(x) - weights @ rising(references)))


def test_what_an_own_rule_is_given(make_net, draw):
    net, x, references = make_net(12), draw(3, 12), draw(4, 12, seed=1)
    seen = []

    def rule(problem, maps):
        seen.append(problem)
        assert maps.count == 4 and maps.features.count == 6
        assert problem.n_examples == 3 and torch.equal(problem.inputs[0], x)
        torch.testing.assert_close(problem.outputs_at_inputs(), net(x)[[0, 1, 2], [1, 0, 2]].detach())
        raw = problem.raw_outputs((x[[2, 0]],), torch.tensor([2, 0]))
        torch.testing.assert_close(raw, net(x[[2, 0]]).detach())
        (rows,) = maps.rows(torch.arange(12))
        torch.testing.assert_close(maps.norms(), rows.abs().sum(1).view(3, 4))
        assert not torch.is_grad_enabled() and not rows.requires_grad
        return torch.full((3, 4), 0.25)

    mask = torch.arange(12)[None] // 2
    WeightedGradients(net).attribute(x, references, [1, 0, 2], weighting=rule, feature_mask=mask)
    assert len(seen) == 1


def test_an_own_rule_asks_nothing_of_the_output(rising, spread):
    WeightedGradients(lambda x: -rising(x)).attribute(*spread, weighting=by_norm)


def test_one_baseline_has_no_need_of_a_rule(rising, spread):
    x, references = spread
    found, weights = WeightedGradients(rising).attribute(
        x, references[:1], weighting=lambda *_: 1 / 0, return_weights=True
    )
    assert torch.equal(weights, torch.ones(3, 1).double())
    assert torch.equal(found, WeightedGradients(rising).attribute(x, references[:1]))


def test_keep_takes_the_baselines_of_the_largest_weights(rising, spread):
    x, references = spread
    given = torch.tensor([[0.1, 0.3, 0.1, 0.3, 0.2], [0.0, 0.0, 0.0, 1.0, 0.0], [0.2] * 5], dtype=torch.float64)
    _, weights = WeightedGradients(rising).attribute(
        x, references, weighting=lambda *_: given, keep=3, return_weights=True
    )
    # Ties go by position, and what is kept is brought to a sum of 1.
    expected = [[0, 0.375, 0, 0.375, 0.25], [0, 0, 0, 1, 0], [1 / 3, 1 / 3, 1 / 3, 0, 0]]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64))


def test_screening_asks_the_rule_of_few_steps_and_of_those_kept(rising, spread, record, maps_of):
    x, references = spread
    counts = []

    def rule(problem, maps):
        counts.append(maps.count)
        return by_norm(problem, maps)

    f = record(rising)
    _, weights = WeightedGradients(f).attribute(
        x, references, weighting=rule, n_steps=9, keep=2, screening_steps=2, return_weights=True
    )
    assert counts == [5, 2] and sum(f.graded) == 3 * (5 * 2 + 2 * 9)
    coarse, full = (maps_of(rising, x, references, n).abs().sum(2) for n in (2, 9))
    kept = coarse.argsort(dim=1, descending=True, stable=True)[:, :2].sort(dim=1).values
    assert ((weights > 0).nonzero()[:, 1].view(3, 2) == kept).all()
    shares = full.gather(1, kept) / full.gather(1, kept).sum(1, keepdim=True)
    torch.testing.assert_close(weights.gather(1, kept), shares)


def test_rows_that_nearly_sum_to_one_are_brought_to_it(rising, spread):
    low = torch.full((3, 5), 0.2, dtype=torch.bfloat16)
    assert (low.double().sum(1) - 1).abs().max() > 1e-4
    _, weights = WeightedGradients(rising).attribute(*spread, weighting=lambda *_: low, return_weights=True)
    assert torch.equal(weights, torch.full((3, 5), 0.2, dtype=torch.float64))


def equal(value=None, at=(1, 2), shape=(3, 5)):
    made = torch.full(shape, 1 / shape[-1])
    if value is not None:
        made[at] = value
    return made


@pytest.mark.parametrize(
    ("returned", "error", "match"),
    [
        (None, TypeError, r"weighting must return a floating point Tensor \(B, K\) = \(3, 5\), got NoneType"),
        ([[0.2] * 5] * 3, TypeError, "floating point Tensor .* got list"),
        (equal().numpy(), TypeError, "floating point Tensor .* got ndarray"),
        (torch.ones(3, 5).long(), TypeError, "floating point Tensor .* got a Tensor of torch.int64"),
        (torch.ones(3, 5) > 0, TypeError, "got a Tensor of torch.bool"),
        (equal(shape=(5,)), ValueError, r"weights \(B, K\) = \(3, 5\), got shape \(5,\)"),
        (equal(shape=(5, 3)), ValueError, r"weights \(B, K\) = \(3, 5\), got shape \(5, 3\)"),
        (equal(shape=(3, 4)), ValueError, r"got shape \(3, 4\)"),
        (equal(math.nan), ValueError, "returns NaN or infinite weights for examples 1"),
        (equal(math.inf, at=2), ValueError, "returns NaN or infinite weights for examples 2"),
        (equal(-0.2), ValueError, "returns negative weights for examples 1; give shares from 0 to 1"),
        (equal(0.5), ValueError, r"rows of sum 1, got 1.3 \(examples 1\); divide by weights.sum\(1, keepdim=True\)"),
        (torch.zeros(3, 5), ValueError, r"rows of sum 1, got 0 \(examples 0, 1, 2\)"),
        (equal(0.202), ValueError, r"rows of sum 1, got 1.002 \(examples 1\)"),
    ],
    ids=lambda v: v if isinstance(v, str) else type(v).__name__,
)
@pytest.mark.parametrize("how", [{}, {"keep": 2}, {"keep": 2, "screening_steps": 2}], ids=named)
def test_what_an_own_rule_returns_is_checked(rising, spread, returned, error, match, how):
    with pytest.raises(error, match=match):
        WeightedGradients(rising).attribute(*spread, weighting=lambda *_: returned, n_steps=2, **how)


def test_an_error_of_the_rules_own_passes_through(rising, spread):
    with pytest.raises(ZeroDivisionError):
        WeightedGradients(rising).attribute(*spread, weighting=lambda *_: 1 / 0, n_steps=2)


def test_whether_a_rule_needs_maps(spread):
    x, _ = spread
    problem, features = Problem(lambda p: p.sum(1), input_gradients, x), Features((x,))

    def needs(given):
        bound = bind(given, problem, features)
        return [bound.needs_maps(k, fewer) for k, fewer in ((1, False), (5, False), (5, True))]

    assert needs("deletion") == [False, True, True]
    assert needs(Deletion(power=0)) == [False, False, True]
    assert needs(Deletion(power=0, normalise_maps=True)) == [False, True, True]
    assert needs("equal") == [False, False, False]
    assert needs(Equal(normalise_maps=True)) == [False, True, True]
    assert needs(by_norm) == [False, True, True]
