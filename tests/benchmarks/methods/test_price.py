import pytest
import torch

from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.price import price
from benchmarks.methods.rows import method

SETTINGS = MethodSettings(n_baselines=6, n_steps=3)


@pytest.fixture
def batch(tiny_model, tiny_batch):
    x, y = map(torch.from_numpy, tiny_batch)
    baselines = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    return Batch(tiny_model, x, y, ("a", "b", "c"), baselines)


@pytest.mark.parametrize(
    "name, gradients, forwards",
    [
        ("Random", 0, 0),
        ("Saliency(smooth=1/8)", 1, 0),
        ("IDGI(n_steps=4)", 5, 0),
        ("IntegratedGradients-zero(n_steps=7)", 7, 0),
        ("SmoothGrad(n_samples=20)", 20, 0),
        ("RISE(n_masks=20)", 0, 20),
        ("DeepLiftShap(pool=4)", 8, 8),
        ("BEE(n_draws=3, n_steps=2, levels=4)", 6, 15),
    ],
)
def test_what_one_map_takes(batch, name, gradients, forwards):
    assert price(method(name, SETTINGS), batch) == (gradients, forwards)


def test_of_ours_gradients_are_baselines_times_steps_and_only_the_rows_own(batch):
    for name, gradients in (
        ("ExpectedGradients", 18),
        ("ExpectedGradients(n_steps=1, pool=5)", 5),
        ("WeightedGradients(pool=4)", 12),
        ("SampledGradients(n_samples=8)", 8),
    ):
        assert price(method(name, SETTINGS), batch)[0] == gradients
    equal, weighted = (price(method(name, SETTINGS), batch)[1] for name in ("ExpectedGradients", "WeightedGradients"))
    assert weighted > equal + 6  # one forward at least for each baseline's D_alpha
