import pytest
import torch

from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.rows import method
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients

SETTINGS = MethodSettings(n_baselines=6)


@pytest.mark.parametrize("sampling", ["random", "staggered"])
def test_it_is_expected_gradients_of_so_many_points(tiny_model, tiny_batch, sampling):
    x, y = map(torch.from_numpy, tiny_batch)
    baselines = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    row = method(f"SampledGradients(n_samples=9, sampling={sampling}, pool=4)", SETTINGS)
    (own,) = row.ingredients
    found = own.make(Batch(tiny_model, x, y, ("a", "b", "c"), baselines, seed=3))
    more = dict(n_samples=9, sampling=sampling, generator=3, pairing="shared")
    wanted = ExpectedGradients(tiny_model).attribute(x, baselines[:4], y, **more)
    assert row.group == "ours" and found == pytest.approx(wanted.numpy(), abs=1e-7)


@pytest.mark.parametrize(
    "words, message",
    [
        ("n_samples=0", "n_samples must be a whole number of at least 1, got 0"),
        ("sampling=even", "sampling must be one of .*'staggered'.*got 'even'"),
        ("pool=7", "pool must be at most 6, the number of baselines, got 7"),
        ("pool=0", "pool must be a whole number"),
    ],
)
def test_settings_that_can_not_be(words, message):
    with pytest.raises(BenchmarkError, match=message):
        method(f"SampledGradients({words})", SETTINGS)
