import numpy as np
import torch

from benchmarks.methods.controls import edges, randomized
from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.rows import method
from quantus_ext import explainer

SETTINGS = MethodSettings(n_baselines=2, n_steps=3)


def test_noise_is_of_every_channel():
    row = method("Random", SETTINGS)
    found = row.combine(torch.zeros(3, 32, 32), (), np.random.default_rng(0))
    assert found.shape == (3, 32, 32) and found.dtype == np.float32 and len(np.unique(found)) > 3000
    assert found.min() >= 0 and found.max() < 1 and not row.ingredients


def test_edges_of_a_step():
    step = torch.zeros(3, 8, 8)
    step[:, :, 4:] = 1
    found = edges(step)
    assert found.shape == step.shape
    assert torch.equal(found[0].nonzero()[:, 1].unique(), torch.tensor([3, 4]))
    assert torch.allclose(found[:, :, 3:5], torch.tensor(4.0))
    assert np.array_equal(method("EdgeDetector", SETTINGS).combine(step, (), None), found.numpy())


def test_the_random_model_is_another_one_and_leaves_the_given_one(tiny_model):
    before = [p.clone() for p in tiny_model.parameters()]
    other, again = (randomized(tiny_model, 0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(tiny_model.parameters(), before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(tiny_model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))


def test_the_untrained_row_explains_the_random_model(tiny_model, tiny_batch, references):
    x, y = map(torch.from_numpy, tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references, 7)
    (own,) = method("ExpectedGradients-random-weights", SETTINGS).ingredients
    explain = explainer("ExpectedGradients", baselines=references, n_steps=3, pairing="shared", reduce_axes=())
    expected = explain(randomized(tiny_model, 7), *tiny_batch)
    np.testing.assert_allclose(own.make(batch), expected, rtol=1e-5, atol=1e-8)
