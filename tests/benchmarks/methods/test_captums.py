import numpy as np
import pytest
import quantus
import torch

from benchmarks.methods.captums import ROWS
from benchmarks.methods.method import Batch


@pytest.mark.parametrize("name", ["IntegratedGradients", "Saliency", "Deconvolution"])
def test_captum_rows_are_the_defaults_of_quantus(tiny_model, tiny_batch, name, references):
    x, y = map(torch.from_numpy, tiny_batch)
    (own,) = ROWS[name].ingredients
    summed = own.make(Batch(tiny_model, x, y, ("a", "b", "c"), references)).sum(1, keepdims=True)
    expected = quantus.explain(tiny_model, *tiny_batch, method=name)
    np.testing.assert_allclose(summed, expected, rtol=1e-5, atol=1e-7)
