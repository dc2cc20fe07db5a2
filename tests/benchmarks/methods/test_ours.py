import numpy as np
import pytest
import torch

from benchmarks.methods.method import NEW_DRAWS, SAME_DRAWS, Batch, MethodSettings
from benchmarks.methods.ours import MEASURES, SumOfLogits
from benchmarks.methods.rows import method
from benchmarks.run.randomness import seeded
from quantus_ext import explainer

SETTINGS = MethodSettings(n_baselines=2, n_steps=3)


def maps(row, model, x, y, references):
    """As a cell makes them."""
    x, y = torch.as_tensor(x), torch.as_tensor(y)
    batch = Batch(model, x, y, ("a",) * len(x), references, 4, lambda: 2.0)
    (own,) = row.ingredients
    with seeded(0, own.name, x.numpy().tobytes()):
        whole = own.make(batch)
    return np.stack([row.combine(x[i], (whole[i],), None) for i in range(len(x))])


@pytest.mark.parametrize("measure", list(MEASURES))
@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("local", {"sampler": "segments", "radius": 2.0}),
        ("inf", {"sampler": "segments"}),
        ("rays-local", {"sampler": "rays", "radius": 2.0}),
        ("rays-1000", {"sampler": "rays", "radius": 1e3}),
    ],
)
def test_shared_passes_are_the_classes_of_their_names(references, tiny_model, tiny_batch, measure, label, options):
    row = method(f"{measure}-{label}", SETTINGS)
    explain = explainer(measure, baselines=references, n_samples=6, generator=4, reduce_axes=(), **options)
    model = SumOfLogits(tiny_model) if row.group == "published" else tiny_model
    found = maps(row, tiny_model, *tiny_batch, references)
    np.testing.assert_allclose(found, explain(model, *tiny_batch), rtol=1e-5, atol=1e-7)
    assert row.channels == (3 if row.group == "published" else 1)
    assert row.local == label.endswith("local")


def test_the_sum_of_logits_is_selected_by_every_target(tiny_model, tiny_batch):
    x = torch.from_numpy(tiny_batch[0])
    expected = tiny_model(x).sum(1)
    for column in SumOfLogits(tiny_model)(x).T:
        torch.testing.assert_close(column, expected)


def test_fresh_draws_differ_between_inputs_and_repeat(references, tiny_model, tiny_batch):
    x, y = tiny_batch
    same, fresh = (
        method("GradientVariance-inf", MethodSettings(n_baselines=2, n_steps=3, fresh_draws=new))
        for new in (False, True)
    )
    assert (same.draws, fresh.draws) == (SAME_DRAWS, NEW_DRAWS)
    of_same, of_fresh = (maps(row, tiny_model, x, y, references) for row in (same, fresh))
    assert not np.allclose(of_fresh, of_same)
    assert np.array_equal(of_fresh, maps(fresh, tiny_model, x, y, references))
    # A change of the input too small to matter changes the draws.
    nudged = (x + np.float32(1e-7) * (np.arange(x.size).reshape(x.shape) == 0)).astype(np.float32)
    np.testing.assert_allclose(maps(same, tiny_model, nudged, y, references), of_same, rtol=1e-3, atol=1e-6)
    assert not np.allclose(maps(fresh, tiny_model, nudged, y, references), of_fresh, rtol=1e-3, atol=1e-6)
