from __future__ import annotations

import math

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.integrals.nodes import nodes_and_weights
from captum_wg.integrals.walk import along, quadrature_paths, random_paths, staggered_paths

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

EVERYONE = slice(0, 3)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("feature", [(), (4,), (2, 3, 3)])
def test_points_and_differences_against_a_loop(draw, feature, own):
    x, references = draw(3, *feature), draw(3, 2, *feature, seed=1) if own else draw(2, *feature, seed=1)
    paths = quadrature_paths((x,), format_baselines(references, (x,)), nodes_and_weights("gausslegendre", 4))
    nodes, weights = nodes_and_weights("gausslegendre", 4)
    assert paths.count == 8
    (points,), (differences,) = paths(EVERYONE, slice(0, 8)), paths.differences(EVERYONE, slice(0, 8))
    for b in range(3):
        for k in range(2):
            start = references[b, k] if own else references[k]
            for s in range(4):
                torch.testing.assert_close(points[b, 4 * k + s], start + nodes[s] * (x[b] - start))
                torch.testing.assert_close(differences[b, 4 * k + s], x[b] - start)
                assert float(paths.weights[4 * k + s]) == pytest.approx(weights[s] / 2, rel=1e-14)
    (part,) = paths(slice(1, 3), slice(3, 6))
    assert torch.equal(part, points[1:3, 3:6])


def test_half_precision_points_are_made_in_float32(draw):
    x, r = draw(3, 4).bfloat16(), draw(2, 4, seed=1).bfloat16()
    paths = quadrature_paths((x,), format_baselines(r, (x,)), nodes_and_weights("riemann_middle", 3))
    (points,) = paths(EVERYONE, slice(0, 6))
    rule = nodes_and_weights("riemann_middle", 3)
    wide = quadrature_paths((x.float(),), format_baselines(r.float(), (x.float(),)), rule)
    assert points.dtype == torch.bfloat16
    assert torch.equal(points, wide(EVERYONE, slice(0, 6))[0].bfloat16())
    assert paths.differences(EVERYONE, slice(0, 6))[0].dtype == torch.float32


@pytest.mark.parametrize("n", [1, 5, 6, 14, 15, 23])
def test_every_baseline_is_used_before_any_is_used_again(draw, n):
    x, r = draw(3, 4), draw(5, 4, seed=1)
    which = random_paths((x,), format_baselines(r, (x,)), n, generator=3).which
    uses = which.bincount(minlength=5)
    assert uses.max() - uses.min() <= 1
    for start in range(0, n - 4, 5):
        assert sorted(which[start : start + 5].tolist()) == [0, 1, 2, 3, 4]


def test_random_points_repeat_with_their_seed_alone(draw):
    x, r = draw(3, 4), draw(5, 4, seed=1)
    references = format_baselines(r, (x,))

    def points(**kwargs):
        return random_paths((x,), references, 6, **kwargs)(EVERYONE, slice(0, 6))[0]

    assert torch.equal(points(generator=1), points(generator=torch.Generator().manual_seed(1)))
    assert torch.equal(points(), points(generator=0))
    assert not torch.equal(points(generator=1), points(generator=2))
    noisy = points(generator=1, stdevs=0.5)
    assert torch.equal(noisy, points(generator=1, stdevs=0.5))
    assert not torch.equal(noisy, points(generator=1))


def test_a_generator_goes_on(draw):
    x = draw(3, 4)
    references, generator = format_baselines(draw(5, 4), (x,)), torch.Generator().manual_seed(1)
    first = random_paths((x,), references, 6, generator=generator).nodes
    assert not torch.equal(first, random_paths((x,), references, 6, generator=generator).nodes)


def test_random_nodes_are_uniform_and_weights_equal(draw):
    x = draw(3, 1)
    paths = random_paths((x,), format_baselines(None, (x,)), 4000)
    assert paths.nodes.min() >= 0 and paths.nodes.max() < 1
    assert paths.nodes.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert paths.nodes.var() == pytest.approx(1 / 12, rel=0.1)
    assert (paths.weights == 1 / 4000).all()


def test_noise_is_gaussian_of_its_element_and_shared_by_the_examples(draw):
    x, y = draw(3, 200), draw(3, 50, seed=1)
    references = format_baselines(None, (x, y), is_tuple=True)
    paths = random_paths((x, y), references, 40, (0.5, 0.0), 1)
    dx, dy = paths.differences(EVERYONE, slice(0, 40))
    noise = dx - x.unsqueeze(1)
    torch.testing.assert_close(noise, noise[:1].expand_as(noise))
    assert noise[0].std() == pytest.approx(0.5, rel=0.05)
    assert noise[0].mean() == pytest.approx(0, abs=0.03)
    assert noise[0, 0].ne(noise[0, 1]).all()
    assert torch.equal(dy, y.unsqueeze(1).expand_as(dy))
    part = paths.differences(slice(1, 2), slice(7, 9))[0]
    assert torch.equal(part, dx[1:2, 7:9])


def test_the_noise_moves_the_point_as_far_as_its_node_says(draw):
    x = draw(3, 4)
    paths = random_paths((x,), format_baselines(1.0, (x,)), 5, 0.3)
    (points,), (differences,) = paths(EVERYONE, slice(0, 5)), paths.differences(EVERYONE, slice(0, 5))
    torch.testing.assert_close(points, 1 + paths.nodes.view(1, 5, 1) * differences)


@pytest.mark.parametrize("stdevs", [-0.1, math.nan, math.inf, "1", None, (0.1, 0.1), ()])
def test_stdevs_are_checked(draw, stdevs):
    x = draw(3, 4)
    with pytest.raises(ValueError, match="stdevs must be a number of at least 0, or one for each of the 1 inputs"):
        random_paths((x,), format_baselines(None, (x,)), 5, stdevs)


@pytest.mark.parametrize("n", [0, -2, 1.5])
def test_n_samples_is_checked(draw, n):
    x = draw(3, 4)
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        random_paths((x,), format_baselines(None, (x,)), n)


def test_values_of_points_multiply_them():
    assert along(torch.arange(3.0), torch.zeros(2, 3)).shape == (1, 3)
    assert along(torch.arange(3.0), torch.zeros(2, 3, 4, 5)).shape == (1, 3, 1, 1)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("method", ["riemann_right", "riemann_trapezoid", "riemann_shared_end"])
def test_the_input_itself_is_one_point_for_all_paths(draw, method, own):
    x, references = draw(3, 2, 2), draw(3, 4, 2, 2, seed=1) if own else draw(4, 2, 2, seed=1)
    nodes, weights = nodes_and_weights(method, 5)
    paths = quadrature_paths((x,), format_baselines(references, (x,)), (nodes, weights))
    assert paths.count == 4 * 4 + 1
    everything = slice(0, paths.count)
    (points,), (differences,) = paths(EVERYONE, everything), paths.differences(EVERYONE, everything)
    torch.testing.assert_close(points[:, -1], x, rtol=0, atol=1e-15)
    each = references if own else references.expand(3, 4, 2, 2)
    # One point in place of K: of a function linear in the difference both have the same sum.
    literal = torch.zeros(3, 2, 2, dtype=torch.float64)
    for k in range(4):
        for a, w in zip(nodes, weights, strict=True):
            literal += w / 4 * torch.sin(a * x) * (x - each[:, k])
    at = torch.cat([paths.nodes[:-1], torch.ones(1)]).view(1, -1, 1, 1)
    found = (paths.weights.view(1, -1, 1, 1) * torch.sin(at * x.unsqueeze(1)) * differences).sum(1)
    torch.testing.assert_close(found, literal)
    for cut in (slice(15, 17), slice(16, 17), slice(3, 16)):
        assert torch.equal(paths(slice(1, 3), cut)[0], points[1:3, cut])
        assert torch.equal(paths.differences(slice(1, 3), cut)[0], differences[1:3, cut])


@pytest.mark.parametrize(("count", "total"), [(1, 2), (4, 5), (4, 6), (4, 9), (5, 23), (10, 64)])
def test_staggered_points_fill_the_paths_evenly(draw, count, total):
    x = draw(3, 4)
    paths = staggered_paths((x,), format_baselines(draw(count, 4, seed=1), (x,)), total, 3)
    assert paths.count == total
    assert float(paths.weights.sum()) == pytest.approx(1, rel=1e-12)
    nodes, which, weights = paths.nodes[:-1].numpy(), paths.which.numpy(), paths.weights[:-1].numpy()
    assert (nodes > 0).all() and (nodes < 1).all()
    uses = torch.bincount(paths.which, minlength=count)
    assert uses.max() - uses.min() <= 1
    ends = set()
    for k in range(count):
        own, w = nodes[which == k], weights[which == k] * count
        # Equal cells, one node in each, at the same place of it.
        cells = w.cumsum() - w
        assert ((own - cells) / w == pytest.approx((own - cells)[0] / w[0], abs=1e-9)) and (w == w[0]).all()
        ends.add(round(1 - w.sum(), 12))
    assert ends == {round(0.375 / (int(uses.max()) + 0.375), 12)}
    shifts = sorted(
        round(nodes[which == k][0] / (weights[which == k][0] * count) * count - 0.5, 6) for k in range(count)
    )
    assert shifts == pytest.approx(range(count), abs=1e-6)


def test_staggered_points_repeat_with_their_seed_alone(draw):
    x = draw(3, 4)
    references = format_baselines(draw(5, 4, seed=1), (x,))
    first = staggered_paths((x,), references, 13, 1)
    assert torch.equal(first.nodes, staggered_paths((x,), references, 13, torch.Generator().manual_seed(1)).nodes)
    assert not torch.equal(first.nodes, staggered_paths((x,), references, 13, 2).nodes)


def test_staggered_points_need_one_for_every_baseline(draw):
    x = draw(3, 4)
    with pytest.raises(ValueError, match=r"n_samples must be larger than the number of baselines \(5\).*got 5"):
        staggered_paths((x,), format_baselines(draw(5, 4, seed=1), (x,)), 5)
