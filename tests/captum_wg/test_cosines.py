from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.cosines import ANGLES, cosines


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# Literal replicas, element by element in Python's floats


def replica_cosine(u, v):
    dot = math.fsum(a * b for a, b in zip(u, v, strict=True))
    lengths = math.sqrt(math.fsum(a * a for a in u)) * math.sqrt(math.fsum(b * b for b in v))
    return dot / lengths if lengths else 0.0


def replica_channel_pairs(u, v):
    """Of two images (3, H, W): theta_rg goes to blue, theta_gb to red, theta_br to green."""
    red, green, blue = 0, 1, 2
    result = torch.zeros_like(u)
    for i in range(u.shape[1]):
        for j in range(u.shape[2]):
            p, q = u[:, i, j].tolist(), v[:, i, j].tolist()
            result[blue, i, j] = replica_cosine([p[red], p[green]], [q[red], q[green]])
            result[red, i, j] = replica_cosine([p[green], p[blue]], [q[green], q[blue]])
            result[green, i, j] = replica_cosine([p[blue], p[red]], [q[blue], q[red]])
    return result


def replica_pixel(u, v):
    result = torch.zeros_like(u)
    for i in range(u.shape[1]):
        for j in range(u.shape[2]):
            result[:, i, j] = replica_cosine(u[:, i, j].tolist(), v[:, i, j].tolist())
    return result


def replica_global(u, v):
    return torch.full_like(u, replica_cosine(u.flatten().tolist(), v.flatten().tolist()))


REPLICAS = {"channel_pairs": replica_channel_pairs, "pixel": replica_pixel, "global": replica_global}


@pytest.mark.parametrize("angle", REPLICAS)
def test_cosine_replicas(angle):
    u, v = randn(2, 4, 3, 2, 3, seed=2), randn(2, 4, 3, 2, 3, seed=3)
    (result,) = cosines((u,), (v,), angle)
    expected = torch.stack([torch.stack([REPLICAS[angle](u[b, s], v[b, s]) for s in range(4)]) for b in range(2)])
    torch.testing.assert_close(result, expected, rtol=1e-12, atol=1e-14)


def test_published_mapping_of_angles_to_channels():
    # Only red and green differ between the two: the angle of green and blue is 0, that of red and blue too.
    u = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 3, 1, 1)
    v = torch.tensor([0.0, 1.0, 0.0]).view(1, 1, 3, 1, 1)
    w = torch.tensor([1.0, 1.0, 0.0]).view(1, 1, 3, 1, 1)
    half = math.sqrt(0.5)
    for other, rg, gb, br in [(u, 1, 0, 1), (v, 0, 0, 0), (w, half, 0, 1)]:
        (shown,) = cosines((u,), (other,), "channel_pairs")
        red, green, blue = shown.flatten().tolist()
        assert (red, green, blue) == pytest.approx((gb, br, rg))


@pytest.mark.parametrize("angle", ANGLES)
@given(scale=st.sampled_from([1e-30, 1e-20, 1e-8, 1.0, 1e12, 1e25]), seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_cosines_are_in_range_and_know_no_scale(angle, scale, seed):
    u, v = randn(1, 4, 3, 2, 2, seed=seed), randn(1, 4, 3, 2, 2, seed=seed + 1)
    (expected,) = cosines((u,), (v,), angle)
    (result,) = cosines((scale * u.float(),), (v.float(),), angle)
    assert result.abs().max() <= 1
    torch.testing.assert_close(result.double(), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(cosines((v.float(),), (scale * u.float(),), angle)[0], result, atol=1e-6, rtol=0)


@pytest.mark.parametrize("angle", ANGLES)
@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_cosine_with_itself_is_one_and_never_more(angle, seed):
    u = randn(1, 4, 3, 2, 2, seed=seed, dtype=torch.float32)
    (same,), (opposite,) = cosines((u,), (u,), angle), cosines((u,), (-2 * u,), angle)
    assert same.max() <= 1 and same.min() > 1 - 1e-6
    assert opposite.min() >= -1 and opposite.max() < -1 + 1e-6


@pytest.mark.parametrize("angle", ANGLES)
def test_a_zero_vector_has_cosine_zero(angle):
    u, zero = randn(1, 2, 3, 2, 2), torch.zeros(1, 2, 3, 2, 2, dtype=torch.float64)
    for pair in [(u, zero), (zero, u), (zero, zero)]:
        assert (cosines(*[(p,) for p in pair], angle)[0] == 0).all()
    # Zero at one pixel only.
    partly = u.clone()
    partly[..., 0, 0] = 0
    (result,) = cosines((partly,), (u,), angle)
    if angle != "global":
        assert (result[..., 0, 0] == 0).all()
        assert (result[..., 1, 1] > 0.99).all()


@pytest.mark.parametrize(
    "feature, expected",
    [
        ((), "global"),
        ((4,), "global"),
        ((3,), "global"),
        ((5, 3), "global"),
        ((3, 5), "global"),
        ((1, 2, 2), "global"),
        ((2, 2, 3), "pixel"),
        ((3, 2, 2), "channel_pairs"),
        ((4, 2, 2), "pixel"),
        ((1, 2, 2, 2), "global"),
        ((3, 2, 2, 2), "channel_pairs"),
        ((2, 3, 2, 2), "pixel"),
    ],
)
def test_auto_chooses_by_channels(feature, expected):
    u, v = randn(2, 3, *feature, seed=1), randn(2, 3, *feature, seed=2)
    (automatic,), (named,) = cosines((u,), (v,)), cosines((u,), (v,), expected)
    assert torch.equal(automatic, named)
    assert automatic.shape == u.shape
    others = [a for a in REPLICAS if a != expected and not (a == "channel_pairs" and feature[:1] != (3,))]
    for other in others:
        if len(feature) > 2 and feature[0] != 1:
            assert not torch.allclose(cosines((u,), (v,), other)[0], automatic)


def test_global_angle_of_a_tuple_is_one_angle():
    u, v = (
        (randn(1, 2, 3, seed=1), randn(1, 2, 4, 2, 2, seed=2)),
        (randn(1, 2, 3, seed=3), randn(1, 2, 4, 2, 2, seed=4)),
    )
    joined = [torch.cat([x.flatten(2) for x in w], 2) for w in (u, v)]
    for s in range(2):
        expected = replica_cosine(joined[0][0, s].tolist(), joined[1][0, s].tolist())
        for part in cosines(u, v, "global"):
            torch.testing.assert_close(part[0, s], torch.full_like(part[0, s], expected))
    row, image = cosines(u, v, "auto")
    torch.testing.assert_close(row, cosines(u, v, "global")[0])
    torch.testing.assert_close(image, cosines((u[1],), (v[1],), "pixel")[0])


def test_global_angle_of_a_tuple_with_one_tiny_element():
    # Elements are scaled by their common largest, not each by its own.
    u = torch.ones(1, 1, 1), torch.full((1, 1, 1), 1e-30)
    v = torch.full((1, 1, 1), 1e-30), torch.ones(1, 1, 1)
    assert cosines(u, v, "global")[0].item() < 1e-20


def test_pixel_of_one_channel_is_the_sign():
    u, v = randn(1, 2, 1, 3, 3, seed=1), randn(1, 2, 1, 3, 3, seed=2)
    torch.testing.assert_close(cosines((u,), (v,), "pixel")[0], torch.sign(u * v))


def test_pixel_of_two_channels_is_one_plane_angle():
    u, v = randn(1, 1, 2, 1, 1, seed=1), randn(1, 1, 2, 1, 1, seed=2)
    a, b = (math.atan2(*w.flatten().tolist()) for w in (u, v))
    assert cosines((u,), (v,), "auto")[0].flatten().tolist() == pytest.approx([math.cos(a - b)] * 2)


@pytest.mark.parametrize("feature", [(), (3,), (1, 2, 2), (4, 2, 2), (2, 3, 3)])
def test_channel_pairs_need_three_channels(feature):
    u = randn(1, 2, *feature)
    with pytest.raises(ValueError, match=r"angle='channel_pairs' needs inputs with 3 channels, \(B, 3, ...\), got"):
        cosines((u,), (u,), "channel_pairs")


@pytest.mark.parametrize("feature", [(), (3,)])
def test_pixels_need_channels(feature):
    u = randn(1, 2, *feature)
    with pytest.raises(ValueError, match=r"angle='pixel' needs inputs with channels, \(B, C, ...\), got"):
        cosines((u,), (u,), "pixel")


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1.0, 3e38])
def test_angles_of_channel_pairs_do_not_depend_on_the_size_of_a_vector(scale):
    u = (torch.tensor([1.0, 1.0, 0.5]) * scale).view(1, 1, 3, 1, 1)
    v = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 3, 1, 1)
    found = cosines((u,), (v,), "channel_pairs")[0].flatten()
    # (r, g) on b, (g, b) on r and (b, r) on g.
    expected = torch.tensor([0.0, 1 / math.hypot(1, 0.5), math.sqrt(0.5)])
    torch.testing.assert_close(found, expected, rtol=0.1 if scale < 1e-40 else 1e-5, atol=0)


@pytest.mark.parametrize(("angle", "channels"), [("channel_pairs", 3), ("pixel", 2), ("global", 1)])
def test_derivatives_are_those_of_finite_differences_and_finite_at_zero_vectors(angle, channels):
    u, v = randn(2, 2, channels, 2, 2, seed=2), randn(2, 2, channels, 2, 2, seed=3)
    assert torch.autograd.gradcheck(lambda a, b: cosines((a,), (b,), angle), (u.requires_grad_(), v.requires_grad_()))
    zero = torch.zeros_like(u).requires_grad_()
    for a, b in ((zero, v), (v, zero), (zero, zero)):
        (value,) = cosines((a,), (b,), angle)
        assert not value.any()
        value.sum().backward()
        assert zero.grad.isfinite().all()
