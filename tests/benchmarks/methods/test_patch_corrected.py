import numpy as np
import pytest
import torch

from benchmarks.methods.method import SAME_DRAWS, Batch, MethodSettings
from benchmarks.methods.rows import method
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients, PatchCorrected, SmoothGrad


def test_it_is_the_class_over_the_first_baselines(tiny_model, tiny_batch, references):
    x, y = (torch.from_numpy(np.asarray(one)) for one in tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references)
    settings = MethodSettings(n_baselines=len(references))
    row = method("PatchCorrected(n_steps=3, pool=2, patches=4)", settings)
    (made,) = row.ingredients
    found = made.make(batch)
    wanted = PatchCorrected(ExpectedGradients(tiny_model), 4).attribute(x, references[:2], y, n_steps=3)
    assert np.allclose(found, wanted.detach().numpy(), atol=1e-6)
    plain = ExpectedGradients(tiny_model).attribute(x, references[:2], y, n_steps=3)
    assert not np.allclose(found, plain.detach().numpy(), atol=1e-3)


def test_it_corrects_smooth_grad_with_draws_of_the_experiments_seed(tiny_model, tiny_batch, references):
    x, y = (torch.from_numpy(np.asarray(one)) for one in tiny_batch)
    row = method("PatchCorrected(n_steps=6, pool=2, patches=4, method=SmoothGrad)", MethodSettings(n_baselines=4))
    assert row.draws == SAME_DRAWS
    found, other = (row.ingredients[0].make(Batch(tiny_model, x, y, ("a", "b", "c"), references, s)) for s in (7, 8))
    corrected = PatchCorrected(SmoothGrad(tiny_model), 4)
    wanted = corrected.attribute(x, references[:2], y, n_samples=6, generator=7)
    assert np.allclose(found, wanted.numpy(), atol=1e-6) and not np.allclose(found, other, atol=1e-6)


@pytest.mark.parametrize("word", ["n_steps=0", "patches=0", "pool=1000", "method=Saliency"])
def test_values_that_can_not_be(word):
    with pytest.raises(BenchmarkError, match=word.split("=")[0]):
        method(f"PatchCorrected({word})", MethodSettings(n_baselines=4))
