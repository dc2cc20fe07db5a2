import numpy as np
import pytest
import torch

from benchmarks.experiment import deviations
from benchmarks.experiment.settings import Experiment
from benchmarks.methods.method import Batch
from benchmarks.methods.weightings import EG, WG

EXPERIMENT = Experiment(model="m", data="cifar10", n_baselines=4, n_steps=1)


def batch_of(name="a", model=None, baselines=None, x=None):
    x = torch.zeros(1, 3, 4, 4) if x is None else x
    return Batch(model or torch.nn.Identity(), x, torch.tensor([0]), (name,), baselines)


def over_sets(name, batch, maps, distances, size):
    return deviations.over_sets(EXPERIMENT.method(name), batch, maps, np.array(distances), size)


def test_a_map_that_does_not_depend_on_the_set_has_no_deviation():
    maps = np.tile(np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32), (2, 1, 1, 1))
    same, other = [3.0, 8.0, 3.0, 8.0], [3.0, 8.0, 8.0, 3.0]
    assert over_sets(WG, batch_of(), maps, same, 2) == pytest.approx((0, 0), abs=1e-7)
    assert over_sets(WG, batch_of(), maps, other, 2)[0] > 0.1
    assert over_sets(EG, batch_of(), maps, other, 2) == pytest.approx((0, 0), abs=1e-7)


def test_the_deviation_of_equal_weights_by_the_definition():
    maps = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(np.float32)
    means = [maps[i : i + 2].astype(float).mean(0) for i in (0, 2, 4)]
    mean = sum(means) / 3
    absolute = sum(((one - mean) ** 2).sum() for one in means) ** 0.5 / 2**0.5
    expected = absolute / np.linalg.norm(mean), absolute
    assert over_sets(EG, batch_of(), maps, np.ones(6), 2) == pytest.approx(expected, rel=1e-6)


def test_shuffled_weights_are_drawn_for_each_image():
    maps = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(np.float32)
    distances = [3.0, 8.0, 30.0, 3.0, 8.0, 30.0]
    found = {over_sets("ShuffledWeights", batch_of(image), maps, distances, 3) for image in "abcdef"}
    assert len(found) > 2
    assert over_sets("ShuffledWeights", batch_of("a"), maps, distances, 3) in found


def test_correlations():
    assert deviations.correlation(np.array([1, 2, 3]), np.array([10, 40, 90])) == 1
    assert deviations.correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == -1
    assert np.isnan(deviations.correlation(np.array([1, 1, 1]), np.array([3, 2, 1])))


@pytest.mark.parametrize("shape", ["shared", "own"])
def test_the_noise_of_one_point_is_the_variance_of_maps_of_one_point(shape, tiny_model, tiny_batch, references):
    """Against maps of single random points, many of them."""
    x = torch.from_numpy(tiny_batch[0][:1])
    baselines = references if shape == "shared" else lambda inputs: references[None].expand(len(inputs), -1, -1, -1, -1)
    found = deviations.path_variance(batch_of(model=tiny_model, baselines=baselines, x=x), 600)
    generator = torch.Generator().manual_seed(5)
    for k, reference in enumerate(references):
        alphas = torch.rand(600, 1, 1, 1, generator=generator)
        points = (reference + alphas * (x - reference)).requires_grad_()
        gradients = torch.autograd.grad(tiny_model(points)[:, 0].sum(), points)[0]
        expected = ((x - reference) * gradients).double().var(0).sum()
        assert found[k] == pytest.approx(float(expected), rel=0.2)


def test_what_is_found_of_an_image(tiny_model, tiny_batch, references):
    batch = batch_of(model=tiny_model, baselines=references, x=torch.from_numpy(tiny_batch[0][:1]))
    maps = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    methods = [EXPERIMENT.method(name) for name in (EG, WG)]
    found = deviations.of_image(batch, methods, maps, np.array([3.0, 8.0]), 1, 4)
    assert list(found) == [
        *(EG, f"{EG}, absolute", WG, f"{WG}, absolute"),
        *("distance", "distance, relative", "noise", "noise, relative"),
    ]
    # Of sets of a single baseline all weights are 1.
    assert found[EG] == found[WG] > 0 and np.isfinite(list(found.values())[:4]).all()
    # Two baselines lie as far from their mean.
    assert abs(found["distance"]) == pytest.approx(1)
