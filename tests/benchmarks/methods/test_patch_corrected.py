import numpy as np
import pytest
import torch

from benchmarks.methods.method import NO_DRAWS, SAME_DRAWS, Batch, MethodSettings
from benchmarks.methods.rows import method
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients, PatchCorrected, SmoothGrad


def test_it_is_the_class_over_the_first_baselines(tiny_model, tiny_batch, references):
    x, y = (torch.from_numpy(np.asarray(one)) for one in tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references)
    settings = MethodSettings(n_baselines=len(references))
    row = method("PatchCorrected(n_steps=3, pool=2, patches=4)", settings)
    (made,) = row.ingredients
    assert row.draws == NO_DRAWS
    found = made.make(batch)
    wanted = PatchCorrected(ExpectedGradients(tiny_model), 4).attribute(x, references[:2], y, n_steps=3)
    assert np.allclose(found, wanted.detach().numpy(), atol=1e-6)
    plain = ExpectedGradients(tiny_model).attribute(x, references[:2], y, n_steps=3)
    assert not np.allclose(found, plain.detach().numpy(), atol=1e-3)


@pytest.mark.parametrize("n_subsets", [0, 12])
def test_it_corrects_smooth_grad_with_draws_of_the_experiments_seed(tiny_model, tiny_batch, references, n_subsets):
    x, y = (torch.from_numpy(np.asarray(one)) for one in tiny_batch)
    words = f"n_steps=6, pool=2, patches=4, n_subsets={n_subsets}, method=SmoothGrad"
    row = method(f"PatchCorrected({words})", MethodSettings(n_baselines=4))
    assert row.draws == SAME_DRAWS
    found, other = (row.ingredients[0].make(Batch(tiny_model, x, y, ("a", "b", "c"), references, s)) for s in (7, 8))
    corrected = PatchCorrected(SmoothGrad(tiny_model), 4, n_subsets=n_subsets, generator=7)
    wanted = corrected.attribute(x, references[:2], y, n_samples=6, generator=7)
    assert np.allclose(found, wanted.numpy(), atol=1e-6) and not np.allclose(found, other, atol=1e-6)


@pytest.mark.parametrize(
    "word", ["n_steps=0", "patches=0", "n_subsets=-1", "n_subsets=None", "pool=1000", "method=Saliency"]
)
def test_values_that_can_not_be(word):
    with pytest.raises(BenchmarkError, match=word.split("=")[0]):
        method(f"PatchCorrected({word})", MethodSettings(n_baselines=4))


def test_subsets_have_the_experiments_seed_under_any_method(tiny_model, tiny_batch, references):
    x, y = (torch.from_numpy(np.asarray(one)) for one in tiny_batch)
    row = method("PatchCorrected(n_steps=2, patches=4, n_subsets=12)", MethodSettings(n_baselines=4))
    assert row.draws == SAME_DRAWS
    found = row.ingredients[0].make(Batch(tiny_model, x, y, ("a", "b", "c"), references, 7))
    corrected = PatchCorrected(ExpectedGradients(tiny_model), 4, n_subsets=12, generator=7)
    assert np.allclose(found, corrected.attribute(x, references, y, n_steps=2), atol=1e-6)
