import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from captum_wg import ExpectedGradients, GeneralizedAttribution, LocalIntegratedGradients, Stability
from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.checks import check_generator
from captum_wg.samplers import SAMPLERS, ball, check_radius, from_callable, make_points, rays, reference_order, segments

REFERENCE_SAMPLERS = ("segments", "staggered", "rays")


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


X = randn(3, 2, 4, seed=1)
R = randn(5, 2, 4, seed=2)


class Logger(nn.Module):
    """Sums its inputs, and remembers where it was asked to."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, *inputs):
        if torch.is_grad_enabled():  # and not where the engine only asks how rows belong together
            self.seen.append(tuple(x.detach().clone() for x in inputs))
        return sum(x.reshape(len(x), -1).sum(1) for x in inputs)

    def points(self, n_examples, filled=False):
        """(B, S, *feature) for each input: a micro-batch holds all points of one example before those of the next.

        filled: short micro-batches are filled up with their last row.
        """
        if filled:
            self.seen = [tuple(x[: _distinct(call[0])] for x in call) for call in self.seen]
        each = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        return tuple(p.view(n_examples, -1, *p.shape[1:]) for p in each)


def _distinct(rows):
    """How many rows there are before repeats of the last one."""
    count = len(rows)
    while count > 1 and torch.equal(rows[count - 1], rows[count - 2]):
        count -= 1
    return count


def visited(inputs, **kwargs):
    model = Logger()
    LocalIntegratedGradients(model).attribute(inputs, **kwargs)
    first = inputs[0] if isinstance(inputs, tuple) else inputs
    points = model.points(len(first), filled="internal_batch_size" in kwargs)
    return points if isinstance(inputs, tuple) else points[0]


def settings_of(sampler, references=R, radius=2.0):
    return dict(sampler=sampler, radius=radius, baselines=None if sampler == "ball" else references)


def assert_uniform(values):
    assert stats.kstest(np.asarray(values), "uniform").pvalue > 1e-3


def share_of(point, x, reference):
    """t with point = x + t (reference - x), and how far the point is from that line."""
    d, p = (reference - x).flatten(), (point - x).flatten()
    t = float(p @ d / (d @ d))
    return t, float((p - t * d).norm())


def norm(*values):
    return math.sqrt(sum(float(v.double().square().sum()) for v in values))


# Where points lie


@pytest.mark.parametrize("radius", [0.5, 2.0, math.inf])
@pytest.mark.parametrize("own", [False, True])
def test_segments_stay_on_their_segment_and_in_the_ball(radius, own):
    references = randn(3, 5, 2, 4, seed=3) if own else R
    points = visited(X, baselines=references, radius=radius, n_samples=23, internal_batch_size=4)
    for b in range(3):
        for s in range(23):
            lines = [share_of(points[b, s], X[b], r) for r in (references[b] if own else references)]
            t, off = min(lines, key=lambda line: line[1])
            assert off < 1e-12
            assert 0 <= t <= 1
            assert norm(points[b, s] - X[b]) <= radius * (1 + 1e-12)


@pytest.mark.parametrize(("n_references", "n_samples"), [(5, 5), (5, 20), (5, 13), (7, 3), (1, 4)])
def test_staggered_shares_are_even_on_a_segment_and_shifted_between_them(n_references, n_samples):
    references = randn(n_references, 6, seed=6)
    points = visited(X[:1, 0, :1].expand(1, 6) * 0, baselines=references, n_samples=n_samples, sampler="staggered")[0]
    shares: dict[int, list[float]] = {}
    for point in points:
        found = [share_of(point, torch.zeros(6), r) for r in references]
        k = min(range(n_references), key=lambda k: found[k][1])
        shares.setdefault(k, []).append(found[k][0])
    used = min(n_references, n_samples)
    assert len(shares) == used
    shifts = []
    for own in shares.values():
        assert np.diff(sorted(own)) == pytest.approx(np.full(len(own) - 1, 1 / len(own)))
        shifts.append(min(own) * len(own))
    assert sorted(shifts) == pytest.approx((np.arange(used) + 0.5) / used)


def test_staggered_segments_end_at_the_ball():
    points = visited(X, baselines=R, sampler="staggered", radius=0.5, n_samples=20)
    assert ((points - X.unsqueeze(1)).flatten(2).norm(dim=2) <= 0.5).all()
    far = 1000 * R
    lengths = (visited(X, baselines=far, sampler="staggered", radius=0.5, n_samples=20) - X.unsqueeze(1)).flatten(2)
    # Five references with four points each: twenty different distances, evenly spaced.
    assert sorted(lengths[0].norm(dim=1).tolist()) == pytest.approx((np.arange(20) + 0.5) / 40, rel=1e-3)


def test_staggered_points_come_nearer_than_random_ones():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    method = LocalIntegratedGradients(model)
    exact = method.attribute(X, R, sampler="staggered", n_samples=5000)
    random_, staggered = (
        sum((method.attribute(X, R, sampler=s, n_samples=25, generator=g) - exact).norm() for g in range(5))
        for s in ("segments", "staggered")
    )
    assert staggered < 0.5 * random_


@pytest.mark.parametrize("radius", [0.3, 1.9, 5.0, math.inf])
def test_segments_are_uniform_up_to_the_reference_or_the_ball(radius):
    x, reference = X[:1], R[:1]
    points = visited(x, baselines=reference, radius=radius, n_samples=3000)[0]
    t = torch.tensor([share_of(p, x[0], reference[0])[0] for p in points])
    assert_uniform(t / min(1.0, radius / norm(reference - x)))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_ball_radii_to_the_n_are_uniform(n):
    x = randn(1, n, seed=4)
    lengths = (visited(x, sampler="ball", radius=2.5, n_samples=3000)[0] - x).norm(dim=1)
    assert lengths.max() <= 2.5 * (1 + 1e-12)
    assert_uniform((lengths / 2.5) ** n)


def test_ball_directions_are_isotropic():
    offsets = visited(X[:1, 0, :2], sampler="ball", radius=1.0, n_samples=3000)[0] - X[0, 0, :2]
    assert_uniform(torch.atan2(offsets[:, 0], offsets[:, 1]) / (2 * math.pi) + 0.5)
    # In three dimensions each coordinate of a uniform direction is uniform (Archimedes).
    offsets = visited(X[:1, 0, :3], sampler="ball", radius=1.0, n_samples=3000)[0] - X[0, 0, :3]
    for coordinate in (offsets / offsets.norm(dim=1, keepdim=True)).T:
        assert_uniform((coordinate + 1) / 2)


def test_ball_has_the_covariance_of_the_n_ball():
    offsets = visited(X[:1], sampler="ball", radius=3.0, n_samples=20_000)[0].flatten(1) - X[:1].flatten(1)
    covariance = offsets.T @ offsets / len(offsets)
    assert (covariance - torch.eye(8) * 9 / 10).abs().max() < 0.04
    assert offsets.mean(0).abs().max() < 0.04


def test_ball_directions_do_not_depend_on_lengths():
    offsets = visited(X[:1, 0, :2], sampler="ball", radius=1.0, n_samples=3000)[0] - X[0, 0, :2]
    far = offsets[offsets.norm(dim=1) > 0.8]
    assert_uniform(torch.atan2(far[:, 0], far[:, 1]) / (2 * math.pi) + 0.5)


def test_rays_go_along_the_reference_itself():
    points = visited(X, sampler="rays", radius=3.0, baselines=R[:1], n_samples=3000)
    direction = R[0] / R[0].norm()
    for b in range(3):
        u = ((points[b] - X[b]) * direction).sum((1, 2))
        torch.testing.assert_close(points[b], X[b] + u.view(-1, 1, 1) * direction)
        assert_uniform(u / 3.0)


def test_rays_of_own_references():
    own = randn(3, 4, 2, 4, seed=5)
    points = visited(X, sampler="rays", radius=3.0, baselines=own, n_samples=4, internal_batch_size=3)
    for b in range(3):
        directions = own[b].flatten(1) / own[b].flatten(1).norm(dim=1, keepdim=True)
        offsets = (points[b] - X[b]).flatten(1)
        cosines = offsets @ directions.T / offsets.norm(dim=1, keepdim=True)
        # Each point lies on one ray, and each ray has one point.
        assert sorted(cosines.argmax(1).tolist()) == [0, 1, 2, 3]
        torch.testing.assert_close(cosines.amax(1), torch.ones(4, dtype=torch.float64))


def test_infinite_segments_are_expected_gradients():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    measures = GeneralizedAttribution(model).attribute(
        X, R, 1, n_samples=20_000, measures=["local_integrated_gradients", "gradient_variance"]
    )
    expected = ExpectedGradients(model, multiply_by_inputs=False).attribute(X, R, 1)
    error = (measures["local_integrated_gradients"] - expected).abs()
    assert (error <= 4.5 * (measures["gradient_variance"] / 20_000).sqrt()).all()
    assert error.max() < 0.01


# Which reference a point goes to


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 60), st.integers(0, 2**31))
def test_every_reference_before_any_twice(n_references, n_samples, seed):
    order = reference_order(n_references, n_samples, torch.Generator().manual_seed(seed)).tolist()
    assert len(order) == n_samples
    for start in range(0, n_samples, n_references):
        block = order[start : start + n_references]
        assert len(set(block)) == len(block)
        assert set(block) <= set(range(n_references))


@pytest.mark.parametrize("n_references, n_samples", [(100, 500), (5, 13), (7, 3), (1, 4)])
def test_points_use_references_evenly(n_references, n_samples):
    references, x = randn(n_references, 6, seed=6), randn(1, 6, seed=7)
    points = visited(x, baselines=references, n_samples=n_samples)[0]
    offsets, lines = points - x, references - x
    cosines = offsets @ lines.T / (offsets.norm(dim=1, keepdim=True) * lines.norm(dim=1))
    assert (cosines.amax(1) > 1 - 1e-12).all()
    used = cosines.argmax(1).tolist()
    counts = np.bincount(used, minlength=n_references)
    assert counts.max() - counts.min() <= 1
    assert len(set(used[:n_references])) == min(n_references, n_samples)


def test_few_samples_take_different_references_with_another_seed():
    orders = {tuple(reference_order(50, 5, torch.Generator().manual_seed(s)).tolist()) for s in range(20)}
    assert len(orders) == 20
    assert len({k for order in orders for k in order}) > 35


# Draws


def test_draws_are_shared_by_all_examples():
    same = visited(X[:1].expand(3, -1, -1), baselines=R, n_samples=9)
    assert torch.equal(same[0], same[1])
    assert torch.equal(same[0], same[2])
    points = visited(X, sampler="ball", radius=1.5, n_samples=9)
    torch.testing.assert_close(points[0] - X[0], points[2] - X[2])
    points = visited(X, sampler="rays", radius=1.5, baselines=R, n_samples=9)
    torch.testing.assert_close(points[0] - X[0], points[2] - X[2])
    points = visited(X, baselines=R[:1], n_samples=9)
    shares = [[share_of(p, X[b], R[0])[0] for p in points[b]] for b in range(3)]
    np.testing.assert_allclose(shares[0], shares[1])
    np.testing.assert_allclose(shares[0], shares[2])


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=15, deadline=None)
@given(first=st.integers(0, 2), count=st.integers(1, 3), internal_batch_size=st.none() | st.integers(1, 40))
def test_points_are_the_same_bits_however_the_work_is_cut(sampler, first, count, internal_batch_size):
    x = X.float()
    options = settings_of(sampler, R.float())
    whole = visited(x, n_samples=11, **options)
    chosen = slice(first, first + count)
    part = visited(x[chosen], n_samples=11, internal_batch_size=internal_batch_size, pairing="shared", **options)
    assert torch.equal(part, whole[chosen])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_only_the_points_asked_for_are_made(sampler):
    references = None if sampler == "ball" else format_baselines(R, (X,))
    points, count, _ = make_points(sampler, (X,), False, references, 1.0, 10_000, None)
    assert count == 10_000
    (some,) = points(slice(1, 3), slice(70, 75)).at
    assert some.shape == (2, 5, 2, 4)
    torch.testing.assert_close(some[:, 2:3], points(slice(1, 3), slice(72, 73)).at[0], rtol=0, atol=0)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_seeds(sampler):
    def points(generator):
        return visited(X, n_samples=7, generator=generator, **settings_of(sampler))

    assert torch.equal(points(3), points(3))
    assert torch.equal(points(None), points(0))
    assert torch.equal(points(3), points(torch.Generator().manual_seed(3)))
    assert not torch.equal(points(3), points(4))
    assert len(torch.unique(points(3))) == points(3).numel()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_generator_advances(sampler):
    generator = torch.Generator().manual_seed(5)
    before = generator.get_state()
    first, second = (visited(X, n_samples=7, generator=generator, **settings_of(sampler)) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(before, generator.get_state())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("generator", [None, 3, "own"])
def test_global_random_states_do_not_move(sampler, generator):
    generator = torch.Generator().manual_seed(1) if generator == "own" else generator
    before = torch.get_rng_state(), np.random.get_state(), random.getstate()
    visited(X, n_samples=7, generator=generator, **settings_of(sampler))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_equal(np.random.get_state(), before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("sampler", REFERENCE_SAMPLERS)
def test_wider_inputs_see_the_same_draws(sampler):
    narrow = visited(X.float(), n_samples=9, **settings_of(sampler, R.float()))
    wide = visited(X, n_samples=9, **settings_of(sampler))
    torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-6)


# Forms of inputs


def test_tuples_have_one_norm():
    x, references = (randn(2, 3, seed=8), randn(2, 2, 2, seed=9)), (randn(1, 3, seed=10), randn(1, 2, 2, seed=11))
    distances = [norm(*(r[0] - v[b] for r, v in zip(references, x, strict=True))) for b in range(2)]
    radius = 0.7 * min(distances)
    points = visited(x, baselines=references, radius=radius, n_samples=2000)
    for b in range(2):
        offsets = [norm(points[0][b, s] - x[0][b], points[1][b, s] - x[1][b]) for s in range(2000)]
        assert_uniform(np.array(offsets) / radius)
        # The same t in both.
        t = (points[0][b, :, 0] - x[0][b, 0]) / (references[0][0, 0] - x[0][b, 0])
        torch.testing.assert_close(points[1][b], x[1][b] + t.view(-1, 1, 1) * (references[1][0] - x[1][b]))

    points = visited(x, baselines=references, sampler="rays", radius=radius, n_samples=2000)
    offsets = [norm(points[0][1, s] - x[0][1], points[1][1, s] - x[1][1]) for s in range(2000)]
    assert_uniform(np.array(offsets) / radius)


def test_ball_of_a_tuple_is_one_ball():
    x = randn(1, 2, seed=8), randn(1, 1, 2, seed=9)
    points = visited(x, sampler="ball", radius=2.0, n_samples=3000)
    squares = [(p[0] - v[0]).flatten(1).square().sum(1) for p, v in zip(points, x, strict=True)]
    assert_uniform((sum(squares).sqrt() / 2.0) ** 4)
    # |first two coordinates|^2 / |all four|^2 of an isotropic direction is Beta(1, 1).
    assert_uniform(squares[0] / sum(squares))


@pytest.mark.parametrize("radius", [1.0, math.inf])
def test_a_reference_equal_to_the_input_gives_the_input(radius):
    x = X[:1]
    points = visited(x, baselines=x.clone(), radius=radius, n_samples=4)
    assert torch.equal(points[0], x.expand(4, -1, -1))
    stability = Stability(nn.Flatten()).attribute(x, torch.cat([x, R]), 0, radius=radius, n_samples=6)
    assert torch.isfinite(stability).all()


def test_a_zero_reference_of_a_tuple_is_a_direction_if_another_element_is_not_zero():
    x, references = (X[:1, 0], X[:1]), (torch.zeros(1, 4, dtype=torch.float64), R[:1])
    points = visited(x, baselines=references, sampler="rays", radius=1.0, n_samples=3)
    assert torch.equal(points[0][0], x[0].expand(3, -1))


def test_distances_too_large_for_their_dtype_do_not_make_nan():
    x = torch.zeros(1, 5)
    points = visited(x, baselines=torch.full((1, 5), 1e25), n_samples=4)
    assert torch.isfinite(points).all()
    assert (points > 0).all()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_points_have_the_inputs_dtype(sampler, dtype):
    points = visited(X.to(dtype), n_samples=50, **settings_of(sampler, R.to(dtype)))
    assert points.dtype == dtype
    offsets = (points.double() - X.to(dtype).double()[:, None]).flatten(2).norm(dim=2)
    assert offsets.max() <= 2.0 + 20 * torch.finfo(dtype).eps
    assert offsets.max() > 1.0


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("feature", [(), (4,), (3, 2, 2), (1, 2, 2, 2)])
def test_any_number_of_dimensions(sampler, feature):
    x, references = randn(2, *feature, seed=12), randn(3, *feature, seed=13)
    points = visited(x, n_samples=5, internal_batch_size=2, **settings_of(sampler, references))
    assert points.shape == (2, 5, *feature)
    assert (points - x[:, None]).reshape(2, 5, -1).norm(dim=-1).max() <= 2.0 * (1 + 1e-12)
    assert not torch.equal(points[:, 0], points[:, 1])


def test_number_as_reference():
    points = visited(X, baselines=0.0, n_samples=6)
    t = points / X[:, None]
    torch.testing.assert_close(t, t[:1, :, :1, :1].expand_as(t))
    assert ((t >= 0) & (t <= 1)).all()


def test_ball_ignores_references():
    options = dict(sampler="ball", radius=1.0, n_samples=4)
    assert torch.equal(visited(X, **options), visited(X, baselines=torch.full((2, 9), math.nan), **options))


# A caller's own sampler


def test_own_sampler_is_called_once_with_what_the_caller_gave():
    calls = []

    def sampler(inputs):
        calls.append(inputs)
        return inputs[:, None] + torch.arange(4, dtype=torch.float64).view(1, 4, 1, 1)

    x = X.clone().requires_grad_()
    points = visited(x, sampler=sampler, internal_batch_size=2)
    torch.testing.assert_close(points, X[:, None] + torch.arange(4.0).double().view(1, 4, 1, 1))
    assert len(calls) == 1
    assert isinstance(calls[0], torch.Tensor)
    assert not calls[0].requires_grad


def test_own_sampler_of_a_tuple():
    x = X[:, 0], X
    points = visited(x, sampler=lambda inputs: tuple(torch.stack([v, 2 * v, 3 * v], 1) for v in inputs))
    assert torch.equal(points[0][:, 2], 3 * x[0])
    assert torch.equal(points[1][:, 1], 2 * x[1])


def test_own_sampler_needs_neither_radius_nor_references_nor_n_samples():
    points = visited(X, sampler=lambda x: x[:, None], radius=-1.0, n_samples=0, generator="unused")
    assert torch.equal(points[:, 0], X)


def test_own_sampler_may_give_points_with_a_graph():
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    points, count, like = from_callable(lambda x: (scale * x)[:, None], (X,), False)
    assert count == 1
    assert like == (X,)
    assert not points(slice(0, 3), slice(0, 1)).at[0].requires_grad


# Guards


@pytest.mark.parametrize("radius", [0, -1.0, math.nan, None, "1", True, torch.tensor(1.0), -math.inf])
def test_radius_must_be_positive(radius):
    with pytest.raises(ValueError, match="radius must be a number greater than 0"):
        visited(X, baselines=R, radius=radius)


def test_radius_may_be_whole_or_infinite():
    assert check_radius(3) == 3.0
    assert check_radius(math.inf) == math.inf


@pytest.mark.parametrize("sampler", ["ball", "rays"])
def test_radius_must_be_finite_for(sampler):
    with pytest.raises(ValueError, match=f"radius must be finite for sampler='{sampler}', got inf"):
        visited(X, sampler=sampler, baselines=R)
    direct = {
        "ball": lambda: ball((X,), math.inf, 2, torch.Generator()),
        "rays": lambda: rays((X,), format_baselines(R, (X,)), math.inf, 2, torch.Generator()),
    }
    with pytest.raises(ValueError, match="radius must be finite"):
        direct[sampler]()


@pytest.mark.parametrize("sampler", REFERENCE_SAMPLERS)
def test_references_are_needed(sampler):
    with pytest.raises(ValueError, match=f"baselines are the reference points that sampler='{sampler}'.*got None"):
        visited(X, sampler=sampler, radius=1.0)


def test_zero_references_are_named():
    references = R.clone()
    references[[1, 4]] = 0
    with pytest.raises(ValueError, match="baselines number 1, 4 are zero"):
        visited(X, sampler="rays", radius=1.0, baselines=references)
    own = randn(3, 4, 2, 4)
    own[2, 3] = 0
    with pytest.raises(ValueError, match="baselines number 3 are zero"):
        visited(X, sampler="rays", radius=1.0, baselines=own)
    with pytest.raises(ValueError, match="baselines number 0 are zero"):
        visited(X, sampler="rays", radius=1.0, baselines=0)


@pytest.mark.parametrize("sampler", ["sphere", "", None, 3, ["segments"]])
def test_unknown_sampler(sampler):
    with pytest.raises(
        ValueError, match=r"sampler must be one of \('segments', 'staggered', 'ball', 'rays'\) or a callable"
    ):
        visited(X, sampler=sampler, baselines=R, radius=1.0)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("n_samples", [0, -5, 2.0, True, None, "10"])
def test_n_samples_must_be_a_whole_number(sampler, n_samples):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        visited(X, n_samples=n_samples, **settings_of(sampler))


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("generator", ["0", 1.5, True, np.random.default_rng(0)])
def test_generator_type(sampler, generator):
    with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, an int seed or None"):
        visited(X, generator=generator, **settings_of(sampler))


def test_generator_on_another_device():
    with pytest.raises(ValueError, match="generator is on cpu, the inputs are on meta"):
        check_generator(torch.Generator(), torch.device("meta"))
    with pytest.raises(ValueError, match="generator is on cpu, the inputs are on meta"):
        make_points("ball", (X.to("meta"),), False, None, 1.0, 3, torch.Generator())


@pytest.mark.parametrize(
    "sampler, error, match",
    [
        (lambda x: None, TypeError, "sampler must return a Tensor.*got NoneType"),
        (lambda x: x.numpy(), TypeError, "sampler must return a Tensor.*got ndarray"),
        (lambda x: [x[:, None]], TypeError, "sampler must return a Tensor.*got list"),
        (lambda x: (x[:, None], x[:, None]), ValueError, "sampler must return one Tensor for each of the 1 inputs"),
        (lambda x: x, ValueError, r"sampler must return points of shape \(B, S, \*feature\) = \(3, S, ...\)"),
        (lambda x: x[:2, None], ValueError, r"sampler must return points of shape .* got \(2, 1, 2, 4\)"),
        (lambda x: x[:1, None], ValueError, r"sampler must return points of shape .* got \(1, 1, 2, 4\)"),
        (lambda x: x[:, None, :, :3], ValueError, r"sampler must return points of shape .* got \(3, 1, 2, 3\)"),
        (lambda x: x[:, None][:, :0], ValueError, r"the same S >= 1 throughout, got \(3, 0, 2, 4\)"),
        (lambda x: x.sum(), ValueError, r"the same S >= 1 throughout, got \(\)"),
        (lambda x: x[:, None].float(), TypeError, r"sampler returns torch\.float32, the inputs are torch\.float64"),
        (lambda x: torch.where(x > 0, x, math.nan)[:, None], ValueError, "NaN or infinite points for examples"),
    ],
)
def test_own_sampler_must_fit(sampler, error, match):
    with pytest.raises(error, match=match):
        visited(X, sampler=sampler)


def test_own_sampler_with_a_bad_point_names_the_example():
    def sampler(x):
        points = torch.stack([x, x], 1)
        points[1, 1, 0, 0] = math.inf
        return points

    with pytest.raises(ValueError, match=r"NaN or infinite points for examples 1$"):
        visited(X, sampler=sampler)


def test_own_sampler_of_a_tuple_must_have_one_number_of_points():
    with pytest.raises(ValueError, match="the same S >= 1 throughout"):
        visited((X, X), sampler=lambda x: (x[0][:, None], torch.stack([x[1]] * 2, 1)))


@pytest.mark.parametrize(
    "points, error, match",
    [
        (randn(2, 5, 3), ValueError, r"sampler must return points of shape \(1, S, \*feature\).*got \(2, 5, 3\)"),
        (torch.zeros(1, 0, 3), ValueError, r"\(1, S, \*feature\), the same S >= 1"),
        (torch.zeros(1, 5, 3, dtype=torch.long), TypeError, r"floating point Tensors, got torch\.int64"),
        (torch.full((1, 5, 3), math.nan), ValueError, "NaN or infinite points"),
        (None, TypeError, "sampler must return a Tensor"),
    ],
)
def test_own_sampler_of_a_set_must_fit(points, error, match):
    with pytest.raises(error, match=match):
        LocalIntegratedGradients(Logger()).attribute(None, sampler=lambda nothing: points)


def test_segments_alone_gives_what_attribute_uses():
    points = segments((X,), format_baselines(R, (X,)), 1.0, 6, torch.Generator().manual_seed(0))
    assert torch.equal(points(slice(0, 3), slice(0, 6)).at[0], visited(X, baselines=R, radius=1.0, n_samples=6))
