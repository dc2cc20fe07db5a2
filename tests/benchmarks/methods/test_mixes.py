import math

import numpy as np
import pytest
import torch

from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.mixes import centred_blob, with_blob
from benchmarks.methods.rows import ROWS, choose, method
from benchmarks.run.errors import BenchmarkError
from captum_wg.smoothing import smoothed_mix

SETTINGS = MethodSettings(n_baselines=2, n_steps=2)


def of(name, x, seed=0):
    return method(name, SETTINGS).combine(x, (), np.random.default_rng(seed))


@pytest.mark.parametrize("name", ["WeightedGradients-half", "Saliency", "GradientVariance-rays-local", "IDGI"])
def test_any_row_may_be_smoothed_and_shares_its_ingredients(name):
    plain, smooth = method(name, SETTINGS), method(f"{name}(smooth=3/32)", SETTINGS)
    assert smooth.name == smooth.source == f"{name}(smooth=3/32)"
    assert [own.key for own in smooth.every] == [own.key for own in plain.every]
    assert (smooth.group, smooth.draws, smooth.weighting) == (plain.group, plain.draws, plain.weighting)
    assert any("half its blur" in note for note in smooth.notes)


def test_a_share_has_one_name_however_it_is_written():
    for text in ("0.09375", "3/32", "6/64", " 3 / 32 "):
        assert method(f"Random(smooth={text})", SETTINGS).name == "Random(smooth=3/32)"
    found = method("WeightedGradients(smooth=1/10, power=1/2, blob=0.25)", SETTINGS)
    assert found.name == "WeightedGradients(power=0.5, smooth=1/10, blob=1/4)"
    assert choose([found.name], SETTINGS)[0].name == found.name


def test_a_smoothed_map_is_the_mix_of_the_rows_own():
    x = torch.randn(3, 12, 10, generator=torch.Generator().manual_seed(0))
    found = of("EdgeDetector(smooth=1/8)", x)
    wanted = smoothed_mix(torch.from_numpy(of("EdgeDetector", x))[None].double(), 1 / 8)[0]
    assert found.dtype == np.float32 and np.array_equal(found, wanted.float().numpy())
    assert found.sum() == pytest.approx(of("EdgeDetector", x).sum(), rel=1e-5)


def test_a_row_with_a_blob_is_half_a_gaussian_of_the_maps_norm():
    x = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0))
    own, found = x.numpy(), with_blob(x.double(), 0.25).numpy()
    norm = np.abs(own).sum(dtype=float)
    bumps = np.array(
        [
            [math.exp(-((i - 2.5) ** 2) / (2 * 1.5**2) - (j - 4) ** 2 / (2 * 2.25**2)) for j in range(9)]
            for i in range(6)
        ]
    )
    blob = norm * bumps / (2 * bumps.sum())
    assert found == pytest.approx(own / 2 + blob[None] / 2, abs=1e-6) and np.abs(own.sum()) < norm / 2


def test_what_is_mixed_is_smoothed_first():
    x = torch.zeros(2, 6, 9)
    assert method("Random(blob=1/4)", SETTINGS).group == "control"
    both = smoothed_mix(torch.from_numpy(of("Random", x))[None].double(), 1 / 8)[0]
    wanted = both / 2 + both.abs().sum() * centred_blob((2, 6, 9), 0.25) / 2
    assert of("Random(blob=1/4, smooth=1/8)", x) == pytest.approx(wanted.numpy(), rel=1e-5)


def test_the_blob_is_highest_in_the_middle():
    found = of("CentredBlob", torch.zeros(3, 7, 7))
    assert found.shape == (3, 7, 7) and found.sum() == pytest.approx(1)
    assert np.unravel_index(found[0].argmax(), (7, 7)) == (3, 3)
    assert np.allclose(found, found[:, ::-1, ::-1]) and np.array_equal(found[0], found[2])


@pytest.mark.parametrize("value", ["0", "-1/8", "3/2", "wide", "True", "[1/8]"])
def test_shares_that_can_not_be(value):
    with pytest.raises(BenchmarkError, match=r"smooth must be a share of the image's side .* such as 3/32, got"):
        method(f"Saliency(smooth={value})", SETTINGS)


@pytest.mark.parametrize("value", ["1/0", "a/b", "'a'/2"])
def test_shares_that_are_no_numbers(value):
    with pytest.raises(BenchmarkError, match="unknown method"):
        method(f"Saliency(smooth={value})", SETTINGS)


def test_mixed_rows_explain(tiny_model, tiny_batch, references):
    x, y = map(torch.from_numpy, tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references)
    plain, smooth = (method(f"ExpectedGradients{more}", SETTINGS) for more in ("", "(smooth=1/8)"))
    (own,) = plain.ingredients
    (maps,) = (own.make(batch)[0],)
    (wanted,) = smoothed_mix(torch.from_numpy(plain.combine(x[0], (maps,), None))[None], 1 / 8)
    assert smooth.combine(x[0], (maps,), None) == pytest.approx(wanted.numpy(), abs=1e-7)
    assert "ExpectedGradients" in ROWS
