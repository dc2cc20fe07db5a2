"""What series, volumes and video are taken for, case by case, as the table in captum_wg.weighting.masking says."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from captum_wg import Consistency, Deletion, WeightedGradients
from captum_wg.smoothing import smoothed_mix
from captum_wg.weighting.masking import Features, neutral_values

T, F, C, D, H, W = 5, 3, 2, 2, 3, 2


def elements(*sides):
    return [[place] for place in product(*map(range, sides))]


def voxels():
    return [[(c, d, h, w) for c in range(C)] for d in range(D) for h in range(H) for w in range(W)]


# The shape (*feature), and the places of each feature's elements.
KINDS = {
    "series (B, T, F)": ((T, F), elements(T, F)),
    "series (B, C, T)": ((C, T), elements(C, T)),
    "video (B, C, D, H, W)": ((C, D, H, W), voxels()),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def literal_distance(weight, x, start, features):
    """How many features go, largest sum of the map of a linear f first, before f is halved."""
    map = weight * (x - start)
    order = sorted(range(len(features)), key=lambda i: -sum(map[place].item() for place in features[i]))
    z = x.clone()
    for removed, i in enumerate(order, 1):
        for place in features[i]:
            z[place] = 0.0
        if (weight * z).sum() <= 0.5 * (weight * x).sum():
            return removed
    raise AssertionError("all are removed")


def test_d_alpha_removes(kind, draw):
    shape, features = kind
    weight, x = draw(*shape, seed=1).abs(), draw(2, *shape, seed=2).abs()
    baselines = 0.8 * draw(3, *shape, seed=3).abs()
    distances = WeightedGradients(lambda z: (weight * z).flatten(1).sum(1)).fitness(
        x, baselines, n_steps=1, weighting=Deletion(tolerance=0.0)
    )
    expected = [[literal_distance(weight, x[b], baselines[k], features) for k in range(3)] for b in range(2)]
    assert distances.tolist() == expected
    assert len({d for row in expected for d in row}) > 1
    assert Features((x,)).count == len(features)


def test_a_removed_feature_is_zero(kind, draw):
    assert neutral_values((draw(2, *kind[0]),))[0].flatten().tolist() == [0.0]


@pytest.mark.parametrize("shape", [shape for shape, _ in KINDS.values()])
def test_the_mean_is_that_of_dimension_1(shape, draw):
    x = draw(2, *shape)
    (value,) = neutral_values((x,), "mean")
    for b, i in product(range(2), range(shape[0])):
        assert value[b, i].flatten().tolist() == [pytest.approx(x[b, i].mean().item())]


def test_steps_of_a_series_and_means_of_its_variables_as_the_docs_write_them(draw):
    x = draw(2, T, F).abs()
    features = Features((x,), (torch.arange(T).view(1, T, 1),))
    assert features.count == T
    torch.testing.assert_close(features.scores((x,)), x.sum(2))
    (value,) = neutral_values((x,), lambda x: x.mean(1, keepdim=True))
    (removed,) = features.remove((x,), (value,), torch.arange(T).expand(2, T) < 2)
    torch.testing.assert_close(removed[:, 1], x.mean(1))
    assert torch.equal(removed[:, 2:], x[:, 2:])


def cosine(u, v):
    return float(u @ v / (u.norm() * v.norm()))


def angles_at(model, x, points):
    """The cosines' vectors: the gradient at the input and at the points."""
    with torch.enable_grad():
        return [torch.autograd.functional.jacobian(lambda z: model(z[None]).sum(), z) for z in (x, *points)]


def test_angles_of_series_are_of_the_whole_and_of_volumes_at_each_voxel(kind, draw):
    shape, features = kind
    weight, x, points = draw(*shape, seed=1), draw(1, *shape, seed=2), draw(1, 2, *shape, seed=3)

    def model(z):
        return (weight * z**2 + z**3).flatten(1).sum(1)

    found = Consistency(model).attribute(x, sampler=lambda _: points)[0]
    at_input, *others = angles_at(model, x[0], points[0])
    if len(shape) == 2:
        features = [[place for feature in features for place in feature]]
    for feature in features:
        u, *rest = (torch.stack([g[place] for place in feature]) for g in (at_input, *others))
        expected = sum(cosine(u, v) for v in rest) / 2
        assert [found[place].item() for place in feature] == pytest.approx([expected] * len(feature))


def test_angles_of_each_step_of_a_series_with_its_channels_first(draw):
    weight, x, points = draw(C, T, seed=1), draw(1, C, T, seed=2), draw(1, 2, C, T, seed=3)

    def model(z):
        return (weight * z**2 + z**3).flatten(1).sum(1)

    found = Consistency(model).attribute(x, sampler=lambda _: points, angle="pixel")[0]
    at_input, *others = angles_at(model, x[0], points[0])
    for t in range(T):
        expected = sum(cosine(at_input[:, t], g[:, t]) for g in others) / 2
        assert found[:, t].tolist() == pytest.approx([expected] * C)


def test_maps_are_smoothed_along_all_dimensions_but_the_first(kind, draw):
    shape, _ = kind
    m = draw(1, *shape).numpy()
    blurred = m.copy()
    for axis in range(2, m.ndim):
        blurred = gaussian_filter1d(blurred, 0.4 * m.shape[axis], axis=axis, mode="reflect")
    t = np.abs(m).sum() / (np.abs(m).sum() + np.abs(blurred).sum())
    torch.testing.assert_close(smoothed_mix(torch.from_numpy(m), 0.4), torch.from_numpy((1 - t) * m + t * blurred))
