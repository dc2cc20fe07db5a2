from __future__ import annotations

import math

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.integrals.random import Random, Staggered, gaussian_noise

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

EVERYONE = slice(0, 3)


# --- random points


@pytest.mark.parametrize("n", [1, 5, 6, 14, 15, 23])
def test_every_baseline_is_used_before_any_is_used_again(draw, n):
    x, r = draw(3, 4), draw(5, 4, seed=1)
    which = Random(n, generator=3).paths((x,), format_baselines(r, (x,))).which
    uses = which.bincount(minlength=5)
    assert uses.max() - uses.min() <= 1
    for start in range(0, n - 4, 5):
        assert sorted(which[start : start + 5].tolist()) == [0, 1, 2, 3, 4]


def test_random_points_repeat_with_their_seed_alone(draw):
    x, r = draw(3, 4), draw(5, 4, seed=1)
    references = format_baselines(r, (x,))

    def points(**kwargs):
        return Random(6, **kwargs).paths((x,), references).at(EVERYONE, slice(0, 6)).at[0]

    assert torch.equal(points(generator=1), points(generator=torch.Generator().manual_seed(1)))
    assert torch.equal(points(), points(generator=0))
    assert not torch.equal(points(generator=1), points(generator=2))
    noisy = points(generator=1, stdevs=0.5)
    assert torch.equal(noisy, points(generator=1, stdevs=0.5))
    assert not torch.equal(noisy, points(generator=1))


def test_a_generator_goes_on(draw):
    x = draw(3, 4)
    references, rule = format_baselines(draw(5, 4), (x,)), Random(6, generator=torch.Generator().manual_seed(1))
    first = rule.paths((x,), references).nodes
    assert not torch.equal(first, rule.paths((x,), references).nodes)


def test_random_nodes_are_uniform_and_weights_equal(draw):
    x = draw(3, 1)
    paths = Random(4000).paths((x,), format_baselines(None, (x,)))
    assert paths.nodes.min() >= 0 and paths.nodes.max() < 1
    assert paths.nodes.mean() == pytest.approx(0.5, abs=4 / math.sqrt(12 * 4000))
    assert paths.nodes.var() == pytest.approx(1 / 12, rel=0.1)
    assert (paths.weights == 1 / 4000).all()


def test_noise_is_gaussian_of_its_element_and_shared_by_the_examples(draw):
    x, y = draw(3, 200), draw(3, 50, seed=1)
    references = format_baselines(None, (x, y), is_tuple=True)
    paths = Random(40, (0.5, 0.0), 1).paths((x, y), references)
    dx, dy = paths.at(EVERYONE, slice(0, 40)).differences
    noise = dx - x.unsqueeze(1)
    torch.testing.assert_close(noise, noise[:1].expand_as(noise))
    assert noise[0].std() == pytest.approx(0.5, rel=0.05)
    assert noise[0].mean() == pytest.approx(0, abs=0.03)
    assert noise[0, 0].ne(noise[0, 1]).all()
    assert torch.equal(dy, y.unsqueeze(1).expand_as(dy))
    part = paths.at(slice(1, 2), slice(7, 9)).differences[0]
    assert torch.equal(part, dx[1:2, 7:9])


@pytest.mark.parametrize("n", [1, 6, 7])
def test_pairs_of_noise_are_the_same_in_any_parts(draw, n):
    x = (draw(3, 20), draw(3, 2, 5, seed=1))
    noise = gaussian_noise(x, n, (1.0, 2.0), torch.Generator().manual_seed(3), antithetic=True)
    whole = noise(slice(0, n))
    assert [w.shape for w in whole] == [(1, n, 20), (1, n, 2, 5)]
    for start in range(n):
        for stop in range(start + 1, n + 1):
            for part, full in zip(noise(slice(start, stop)), whole, strict=True):
                assert torch.equal(part, full[:, start:stop])
    assert torch.equal(whole[0][:, 1::2], -whole[0][:, 0 : n - 1 : 2])
    assert len(whole[0][0, ::2].unique(dim=0)) == (n + 1) // 2


def test_the_noise_moves_the_point_as_far_as_its_node_says(draw):
    x = draw(3, 4)
    paths = Random(5, 0.3).paths((x,), format_baselines(1.0, (x,)))
    (points,), (differences,) = paths.at(EVERYONE, slice(0, 5))
    torch.testing.assert_close(points, 1 + paths.nodes.view(1, 5, 1) * differences)


@pytest.mark.parametrize("stdevs", [-0.1, math.nan, math.inf, "1", None, (0.1, 0.1), ()])
def test_stdevs_are_checked(draw, stdevs):
    x = draw(3, 4)
    with pytest.raises(ValueError, match="stdevs must be a number of at least 0, or one for each of the 1 inputs"):
        Random(5, stdevs).paths((x,), format_baselines(None, (x,)))


@pytest.mark.parametrize("rule", [Random, Staggered])
@pytest.mark.parametrize("n", [0, -2, 1.5])
def test_n_samples_is_checked(rule, n):
    with pytest.raises(ValueError, match="n_samples must be a whole number of at least 1"):
        rule(n)


# --- staggered points


@pytest.mark.parametrize(("count", "total"), [(1, 2), (4, 5), (4, 6), (4, 9), (5, 23), (10, 64)])
def test_staggered_points_fill_the_paths_evenly(draw, count, total):
    x = draw(3, 4)
    paths = Staggered(total, 3).paths((x,), format_baselines(draw(count, 4, seed=1), (x,)))
    assert paths.count == total
    assert float(paths.weights.sum()) == pytest.approx(1, rel=1e-12)
    nodes, which, weights = paths.nodes[:-1].numpy(), paths.which[:-1].numpy(), paths.weights[:-1].numpy()
    assert (nodes > 0).all() and (nodes < 1).all()
    uses = torch.bincount(paths.which[:-1], minlength=count)
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

    def nodes(generator):
        return Staggered(13, generator).paths((x,), references).nodes

    assert torch.equal(nodes(1), nodes(torch.Generator().manual_seed(1)))
    assert not torch.equal(nodes(1), nodes(2))


def test_staggered_points_need_one_for_every_baseline(draw):
    x = draw(3, 4)
    with pytest.raises(ValueError, match=r"n_samples must be at least the number of baselines \(5\).*got 4"):
        Staggered(4).paths((x,), format_baselines(draw(5, 4, seed=1), (x,)))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_staggered_points_may_be_one_for_every_baseline(draw, count):
    x = draw(3, 4)
    paths = Staggered(count, 3).paths((x,), format_baselines(draw(count, 4, seed=1), (x,)))
    assert paths.count == count and not paths.shared_end
    assert paths.which.tolist() == list(range(count))
    assert sorted(paths.nodes.tolist()) == pytest.approx([(i + 0.5) / count for i in range(count)])
    assert paths.weights.tolist() == pytest.approx([1 / count] * count)
