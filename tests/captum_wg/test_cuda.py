"""What holds on a GPU: the same maps, with deterministic kernels the same bits again, and no wait in every step."""

from __future__ import annotations

import warnings

import pytest
import torch
from captum.attr import DeepLift, FeatureAblation
from torch import nn

from captum_wg import (
    Both,
    Deletion,
    ExpectedGradients,
    GeneralizedAttribution,
    LayerExpectedGradients,
    OverBaselines,
    PatchCorrected,
    SmoothGrad,
    WeightedGradients,
)

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"),
]


@pytest.fixture
def problem():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4), nn.Softmax(1)).double()
    generator = torch.Generator().manual_seed(1)
    x, references = (torch.randn(n, 3, 8, 8, generator=generator, dtype=torch.float64) for n in (3, 5))
    return model.eval(), x, references, torch.tensor([0, 1, 3])


METHODS = {
    "expected gradients": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(
        x, r, y, return_convergence_delta=True, **k
    ),
    "automatic steps": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(
        x, r, y, n_steps="auto", return_convergence_delta=True, **k
    ),
    "adaptive steps": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(
        x, r, y, n_steps=20, method="adaptive", return_convergence_delta=True, **k
    ),
    "staggered samples": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(
        x, r, y, n_samples=30, sampling="staggered", **k
    ),
    "an own rule": lambda f, x, r, y, **k: WeightedGradients(f).attribute(
        x, r, y, weighting=lambda _, maps: maps.norms() / maps.norms().sum(1, keepdim=True), return_weights=True, **k
    ),
    "random samples": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(
        x, r, y, n_samples=30, stdevs=0.1, generator=3, **k
    ),
    "weighted gradients": lambda f, x, r, y, **k: WeightedGradients(f).attribute(
        x, r, y, weighting=Deletion(alpha=0.95), keep=3, return_weights=True, return_convergence_delta=True, **k
    ),
    "several fitnesses": lambda f, x, r, y, **k: WeightedGradients(f).attribute(
        x,
        r,
        y,
        weighting=Both(alpha=0.95, neutral=["corners", 0.0], normalise_maps=True),
        keep=3,
        screening_steps=3,
        return_weights=True,
        **k,
    ),
    "measures": lambda f, x, r, y, **k: tuple(
        GeneralizedAttribution(f).attribute(x, r, y, n_samples=30, generator=3, **k).values()
    ),
    "ball": lambda f, x, r, y, **k: tuple(
        GeneralizedAttribution(f).attribute(x, None, y, sampler="ball", radius=1.0, n_samples=30, **k).values()
    ),
    "smoothed": lambda f, x, r, y, **k: ExpectedGradients(f).attribute(x, r, y, smooth=1 / 4, **k),
    "a layer": lambda f, x, r, y, **k: LayerExpectedGradients(f, f[0]).attribute(x, r, y, **k),
    "SmoothGrad": lambda f, x, r, y, **k: SmoothGrad(f).attribute(x, r, y, n_samples=10, generator=3, **k),
    "DeepLift over baselines": lambda f, x, r, y, **k: OverBaselines(DeepLift(f[:-1])).attribute(
        x, r, target=y, return_convergence_delta=True, **k
    ),
    "ablations over baselines": lambda f, x, r, y, **k: OverBaselines(FeatureAblation(f)).attribute(
        x, r, target=y, feature_mask=torch.arange(64, device=x.device).view(1, 1, 8, 8) // 8, **k
    ),
    "patches": lambda f, x, r, y, **k: PatchCorrected(SmoothGrad(f), 3, "corners").attribute(
        x, r, y, n_samples=10, **k
    ),
}


def tensors(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.fixture
def deterministic():
    """The usual gradients of convolutions, and sums over groups, differ in their last bits from time to time."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before, warn_only=warns)


@pytest.mark.parametrize("name", METHODS)
def test_the_maps_are_those_of_the_cpu_and_repeat(problem, name, deterministic):
    model, x, references, y = problem
    expected = tensors(METHODS[name](model, x, references, y))
    on_device = (model.cuda(), x.cuda(), references.cuda(), y.cuda())
    found, again = (tensors(METHODS[name](*on_device)) for _ in range(2))
    for f, a, e in zip(found, again, expected, strict=True):
        assert f.device.type == "cuda"
        torch.testing.assert_close(f.cpu(), e, rtol=1e-6, atol=1e-8)
        assert torch.equal(f, a)


@pytest.mark.parametrize("name", ["expected gradients", "weighted gradients", "measures"])
def test_a_model_that_moves_its_rows_to_the_device(problem, name):
    model, x, references, y = problem
    expected = tensors(METHODS[name](model, x, references, y))
    model.cuda()
    found = tensors(METHODS[name](lambda rows: model(rows.cuda()), x, references, y))
    for f, e in zip(found, expected, strict=True):
        assert f.device.type == "cpu"
        torch.testing.assert_close(f, e, rtol=1e-6, atol=1e-8)


def test_data_parallel(problem):
    model, x, references, y = problem
    expected = ExpectedGradients(model).attribute(x, references, y)
    parallel = nn.DataParallel(model.cuda())
    found = ExpectedGradients(parallel).attribute(x.cuda(), references.cuda(), y.cuda())
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    "run, points", [(ExpectedGradients, "n_steps"), (GeneralizedAttribution, "n_samples"), (SmoothGrad, "n_samples")]
)
def test_waits_for_the_device_do_not_grow_with_the_points(problem, run, points):
    model, x, references, y = problem
    arguments = (model.cuda(), x.cuda(), references.cuda(), y.cuda())

    def waits(count):
        key = {points: count}
        run(arguments[0]).attribute(*arguments[1:], internal_batch_size=10, **key)  # kernels are loaded
        torch.cuda.set_sync_debug_mode("warn")
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                run(arguments[0]).attribute(*arguments[1:], internal_batch_size=10, **key)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return sum("synchroniz" in str(w.message) for w in said)

    assert waits(80) <= waits(20) + 2
