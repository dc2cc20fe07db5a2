import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.cosines import cosines
from captum_wg.measures import (
    Collected,
    ConsistencyCosine,
    Mean,
    Measure,
    StabilityCosine,
    Variance,
)

COSINES = [StabilityCosine, ConsistencyCosine]
BUILT_IN = [Mean, Variance, *COSINES]


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def equal_weights(n_points, dtype=torch.float64):
    return torch.full((1, n_points), 1 / n_points, dtype=dtype)


def normalised(weights):
    return weights / weights.sum(1, keepdim=True)


def run(measure, gradients, weights=None, points=None, inputs=None, input_gradients=None, sizes=None):
    """A measure of gradients (B, S, ...), given in tiles of these sizes."""
    first = gradients[0] if isinstance(gradients, tuple) else gradients
    n_points = first.shape[1]
    weights = equal_weights(n_points, torch.promote_types(first.dtype, torch.float32)) if weights is None else weights
    measure.init(inputs)
    start = 0
    for size in sizes or [n_points]:
        tile = slice(start, start + size)
        start += size

        def part(values, tile=tile):
            if values is None:
                return None
            return tuple(v[:, tile] for v in values) if isinstance(values, tuple) else values[:, tile]

        measure.update(part(gradients), part(points), inputs, input_gradients, weights[:, tile])
    assert start == n_points
    return measure.finish()


def tilings(n_points):
    return st.lists(st.integers(1, n_points), min_size=1, max_size=n_points).map(
        lambda cuts: [
            b - a for a, b in zip([0, *sorted(set(cuts))], [*sorted(set(cuts)), n_points], strict=True) if b > a
        ]
    )


# Literal replicas, element by element in Python's floats


def replica_mean(gradients, weights):
    result = torch.zeros_like(gradients[:, 0])
    for b in range(gradients.shape[0]):
        row = weights[b if len(weights) > 1 else 0].tolist()
        for place in torch.ones(gradients.shape[2:]).nonzero().tolist():
            at = tuple(place)
            result[(b, *at)] = math.fsum(w * float(gradients[(b, s, *at)]) for s, w in enumerate(row))
    return result


def replica_variance(gradients, weights):
    """Eq. 6 as it is printed, E[g^2] - E[g]^2, in exact rational arithmetic."""
    result = torch.zeros(gradients[:, 0].shape, dtype=torch.float64)
    for b in range(gradients.shape[0]):
        row = [Fraction(w) for w in weights[b if len(weights) > 1 else 0].tolist()]
        row = [w / sum(row) for w in row]
        for place in torch.ones(gradients.shape[2:]).nonzero().tolist():
            g = [Fraction(float(gradients[(b, s, *place)])) for s in range(len(row))]
            square = sum(w * v * v for w, v in zip(row, g, strict=True))
            mean = sum(w * v for w, v in zip(row, g, strict=True))
            result[(b, *place)] = float(square - mean * mean)
    return result


@pytest.mark.parametrize("weights", [equal_weights(5), normalised(randn(1, 5).abs()), normalised(randn(2, 5).abs())])
@pytest.mark.parametrize("sizes", [[5], [2, 3], [1] * 5])
def test_mean_and_variance_replicas(weights, sizes):
    gradients = randn(2, 5, 3, 2, seed=1)
    torch.testing.assert_close(run(Mean(), gradients, weights, sizes=sizes), replica_mean(gradients, weights))
    torch.testing.assert_close(run(Variance(), gradients, weights, sizes=sizes), replica_variance(gradients, weights))


@pytest.mark.parametrize("angle", ["channel_pairs", "pixel", "global"])
@pytest.mark.parametrize("sizes", [[4], [3, 1]])
def test_stability_and_consistency_replicas(angle, sizes):
    gradients, points = randn(2, 4, 3, 2, 2, seed=4), randn(2, 4, 3, 2, 2, seed=5)
    x, at_x = randn(2, 3, 2, 2, seed=6), randn(2, 3, 2, 2, seed=7)
    weights = normalised(randn(2, 4, seed=8).abs())
    stability, consistency = torch.zeros_like(x), torch.zeros_like(x)
    for b in range(2):
        for s in range(4):
            gradient = gradients[b : b + 1, s : s + 1]
            for total, other in ((stability, points[b, s] - x[b]), (consistency, at_x[b])):
                (own,) = cosines((other[None, None],), (gradient,), angle)
                total[b] += weights[b, s] * own[0, 0]
    options = dict(weights=weights, points=points, inputs=x, input_gradients=at_x, sizes=sizes)
    torch.testing.assert_close(run(StabilityCosine(angle), gradients, **options), stability)
    torch.testing.assert_close(run(ConsistencyCosine(angle), gradients, **options), consistency)


# Mean and variance


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), tilings(7), st.integers(0, 1000))
def test_variance_of_a_constant_is_exactly_zero(values, sizes, seed):
    gradients = torch.tensor(values).expand(2, 7, 3)
    weights = normalised(randn(2, 7, seed=seed).abs() + 0.01).float()
    assert (run(Variance(), gradients, weights, sizes=sizes) == 0).all()
    assert (run(Variance(), gradients, sizes=sizes) == 0).all()


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**50), 2.0**50, width=32), min_size=7, max_size=7), tilings(7))
def test_variance_is_never_negative(values, sizes):
    assert (run(Variance(), torch.tensor(values).view(1, 7, 1), sizes=sizes) >= 0).all()


@pytest.mark.parametrize("sizes", [[400], [100] * 4, [1] * 400, [399, 1]])
@pytest.mark.parametrize("offset", [0.0, 1e4, -1e6])
def test_variance_does_not_cancel(offset, sizes):
    gradients = (offset + (2.0 if abs(offset) > 1e5 else 0.1) * randn(2, 400, 3, seed=9)).float()
    expected = gradients.double().var(1, correction=0)
    torch.testing.assert_close(run(Variance(), gradients, sizes=sizes).double(), expected, rtol=2e-5, atol=0)
    naive = gradients.square().mean(1) - gradients.mean(1).square()
    assert offset == 0 or ((naive - expected).abs() > 0.5 * expected).any()


@pytest.mark.parametrize("measure", [Mean, Variance])
def test_weighted_points_are_repeated_points(measure):
    gradients, times = randn(2, 4, 3, seed=10), torch.tensor([3, 1, 5, 2])
    repeated = gradients.repeat_interleave(times, 1)
    weighted = run(measure(), gradients, times[None].double() / 11, sizes=[1, 3])
    torch.testing.assert_close(weighted, run(measure(), repeated, sizes=[4, 7]))


@pytest.mark.parametrize("measure", [Mean, Variance])
@pytest.mark.parametrize("sizes", [[6], [1] * 6, [2, 4], [3, 3]])
def test_points_without_weight_do_not_count(measure, sizes):
    gradients = randn(2, 6, 3, seed=11)
    first = torch.tensor([[0.0, 0, 0, 1, 1, 0]], dtype=torch.float64) / 2
    torch.testing.assert_close(run(measure(), gradients, first, sizes=sizes), run(measure(), gradients[:, 3:5]))
    each = torch.cat([first, first.flip(1)])
    result = run(measure(), gradients, each, sizes=sizes)
    torch.testing.assert_close(result[1], run(measure(), gradients[:, 1:3])[1])
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("measure", [Mean, Variance])
@settings(deadline=None)
@given(sizes=tilings(9), seed=st.integers(0, 1000))
def test_tiles_are_one_tile(measure, sizes, seed):
    gradients, weights = randn(2, 9, 3, seed=seed), normalised(randn(2, 9, seed=seed + 1).abs() + 0.01)
    torch.testing.assert_close(run(measure(), gradients, weights, sizes=sizes), run(measure(), gradients, weights))


@pytest.mark.parametrize("make", BUILT_IN)
@settings(deadline=None)
@given(order=st.permutations(range(6)))
def test_order_of_points_changes_nothing(make, order):
    gradients, points = randn(2, 6, 3, seed=12), randn(2, 6, 3, seed=13)
    weights = normalised(randn(1, 6, seed=14).abs())
    others = dict(inputs=randn(2, 3, seed=15), input_gradients=randn(2, 3, seed=16))
    plain = run(make(), gradients, weights, points, **others)
    moved = run(make(), gradients[:, order], weights[:, order], points[:, order], **others, sizes=[2, 4])
    torch.testing.assert_close(moved, plain)


def test_variance_is_of_the_population():
    gradients = torch.tensor([[1.0, 3.0]]).view(1, 2, 1)
    assert run(Variance(), gradients).item() == 1.0
    assert run(Variance(), gradients[:, :1]).item() == 0.0


def test_variance_moves_with_scale_squared_and_not_with_shift():
    gradients = randn(2, 8, 3, seed=17)
    torch.testing.assert_close(run(Variance(), 3 * gradients + 5), 9 * run(Variance(), gradients))
    torch.testing.assert_close(run(Mean(), 3 * gradients + 5), 3 * run(Mean(), gradients) + 5)


@pytest.mark.parametrize("make", BUILT_IN)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(make, dtype):
    gradients, points = randn(2, 600, 3, dtype=dtype, seed=18), randn(2, 600, 3, dtype=dtype, seed=19)
    others = dict(inputs=randn(2, 3, dtype=dtype, seed=20), input_gradients=randn(2, 3, dtype=dtype, seed=21))
    half = run(make(), gradients, None, points, **others, sizes=[1] * 600)
    wide = {name: value.double() for name, value in others.items()}
    assert half.dtype == torch.float32
    torch.testing.assert_close(
        half.double(), run(make(), gradients.double(), None, points.double(), **wide), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("make", [Mean, Variance])
def test_tuples_are_measured_element_by_element(make):
    gradients = randn(2, 5, 3, seed=22), randn(2, 5, 2, 2, seed=23)
    result = run(make(), gradients, sizes=[2, 3])
    assert isinstance(result, tuple)
    for value, gradient in zip(result, gradients, strict=True):
        torch.testing.assert_close(value, run(make(), gradient))


@pytest.mark.parametrize("make", BUILT_IN)
def test_init_forgets_everything(make):
    others = dict(points=randn(2, 5, 3, seed=24), inputs=randn(2, 3, seed=25), input_gradients=randn(2, 3, seed=26))
    measure = make()
    run(measure, 1e6 * randn(2, 5, 3, seed=27), **others)
    assert torch.equal(run(measure, randn(2, 5, 3, seed=28), **others), run(make(), randn(2, 5, 3, seed=28), **others))


# Cosines


@pytest.mark.parametrize("make", COSINES)
@pytest.mark.parametrize("seed", range(6))
def test_means_of_cosines_stay_in_range(make, seed):
    # In float32 the mean of ones may come out as 1 + 1.2e-7.
    gradients, x = torch.ones(1, 1001, 4), torch.ones(1, 4)
    weights = normalised(torch.rand(1, 1001, generator=torch.Generator().manual_seed(seed)))
    for sign in (1, -1):
        result = sign * run(make(), sign * gradients, weights, 2 * gradients, x, torch.ones(1, 4))
        assert result.max() <= 1
        assert result.min() > 1 - 1e-5


def test_sign_of_stability_is_that_of_points_less_inputs():
    x, points = torch.zeros(1, 2), torch.tensor([[[1.0, 0.0]]])
    assert (run(StabilityCosine(), points, None, points, x) == 1).all()
    assert (run(StabilityCosine(), -points, None, points, x) == -1).all()


# A plain function


@pytest.mark.parametrize("is_tuple", [False, True])
def test_collected_gets_all_points_at_once(is_tuple):
    gradients, points = randn(2, 7, 3, seed=1), randn(2, 7, 3, seed=2)
    x, at_x = randn(2, 3, seed=3), randn(2, 3, seed=4)
    given = (gradients, points, x, at_x)
    if is_tuple:
        given = tuple((v, 2 * v) for v in given)
    weights = normalised(randn(2, 7, seed=5).abs())
    seen = []
    measure = Collected(lambda *values: seen.append(values) or x)
    assert run(measure, given[0], weights, given[1], given[2], given[3], sizes=[3, 1, 3]) is x
    (values,) = seen
    assert torch.equal(values[4], weights)
    for value, expected in zip(values[:4], given, strict=True):
        if is_tuple:
            assert len(value) == 2
            assert all(torch.equal(v, e) for v, e in zip(value, expected, strict=True))
        else:
            assert torch.equal(value, expected)
    # It keeps no gradients once it is done.
    assert measure._tiles == []


# The protocol and the guards


@pytest.mark.parametrize("make", [*BUILT_IN, lambda: Collected(print)])
def test_built_in_measures_are_measures(make):
    assert isinstance(make(), Measure)


def test_only_consistency_asks_for_gradients_at_inputs():
    assert [m.needs_input_gradients for m in BUILT_IN] == [False, False, False, True]
    assert Collected(print).needs_input_gradients


@pytest.mark.parametrize("make", COSINES)
@pytest.mark.parametrize("angle", ["rgb", "", None, 3])
def test_unknown_angle(make, angle):
    with pytest.raises(ValueError, match=r"angle must be one of \('auto', 'channel_pairs', 'pixel', 'global'\), got"):
        make(angle)


@pytest.mark.parametrize("make, name", [(StabilityCosine, "stability"), (ConsistencyCosine, "consistency")])
def test_cosines_need_an_input(make, name):
    with pytest.raises(ValueError, match=f"{name} compares with an input, but inputs is None"):
        make().init(None)


@pytest.mark.parametrize("make", BUILT_IN)
def test_nothing_to_finish(make):
    measure = make()
    measure.init(torch.zeros(1, 2))
    with pytest.raises(RuntimeError, match="finished before it was given any point"):
        measure.finish()
