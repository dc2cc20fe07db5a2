from dataclasses import replace

import numpy as np
import pytest
import quantus
import torch

from benchmarks import old_methods as methods
from benchmarks.evaluation import Explanations
from benchmarks.run.errors import BenchmarkError
from quantus_ext import explainer


@pytest.fixture
def settings(references):
    return methods.MethodSettings(references, n_steps=3, radius=2.0, seed=4)


def maps(row, model, batch):
    return Explanations(row, model).maps(row, *batch)


def test_the_rows_of_the_table(settings):
    rows = methods.available(settings)
    by_group = {group: [row.name for row in rows.values() if row.group == group] for group in methods.GROUPS}
    assert by_group["captum"] == list(methods.CAPTUM)
    assert by_group["ours"][:3] == ["ExpectedGradients", "WeightedGradients", "WeightedGradients-half"]
    assert {len(by_group["ours"][3:]), len(by_group["published"])} == {8}
    assert by_group["control"] == ["Random", "ExpectedGradients-random-weights"]
    assert {row.name for row in rows.values() if row.ablation} == {"FeatureAblation", "FeaturePermutation"}


def test_every_row_explains_in_the_form_of_the_input(settings, tiny_model, tiny_batch):
    for row in methods.available(settings).values():
        if not row.ablation:
            explained = maps(row, tiny_model, tiny_batch)
            assert explained.shape == (3, 3, 32, 32), row.name
            assert np.isfinite(explained).all(), row.name


@pytest.mark.parametrize("name", ["IntegratedGradients", "Saliency", "Deconvolution"])
def test_captum_rows_are_the_defaults_of_quantus(settings, tiny_model, tiny_batch, name):
    row = methods.available(settings)[name]
    summed = Explanations(row, tiny_model).function(row, 1)(tiny_model, *tiny_batch)
    np.testing.assert_allclose(summed, quantus.explain(tiny_model, *tiny_batch, method=name), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("measure", list(methods.MEASURES))
@pytest.mark.parametrize(
    ("label", "options"),
    [
        ("local", {"sampler": "segments", "radius": 2.0}),
        ("inf", {"sampler": "segments"}),
        ("rays-local", {"sampler": "rays", "radius": 2.0}),
        ("rays-1000", {"sampler": "rays", "radius": 1e3}),
    ],
)
def test_shared_passes_are_the_classes_of_their_names(
    settings, references, tiny_model, tiny_batch, measure, label, options
):
    row = methods.available(settings)[f"{measure}-{label}"]
    explain = explainer(measure, baselines=references, n_samples=6, generator=4, reduce_axes=(), **options)
    model = methods.SumOfLogits(tiny_model) if row.group == "published" else tiny_model
    np.testing.assert_allclose(maps(row, tiny_model, tiny_batch), explain(model, *tiny_batch), rtol=1e-5, atol=1e-7)
    assert row.channels == (3 if row.group == "published" else 1)


def test_rows_of_one_source_share_a_computation(settings, tiny_model, tiny_batch):
    rows = methods.available(settings)
    first = rows["LocalIntegratedGradients-inf"]
    calls = []

    def explain(*args, **kwargs):
        calls.append(args)
        return first.explain(*args, **kwargs)

    explanations = Explanations(replace(first, explain=explain), tiny_model)
    for measure in methods.MEASURES:
        row = rows[f"{measure}-inf"]
        assert row.source == first.source
        assert np.array_equal(explanations.maps(row, *tiny_batch), maps(row, tiny_model, tiny_batch))
    assert len(calls) == 1


def test_the_sum_of_logits_is_selected_by_every_target(tiny_model, tiny_batch):
    x = torch.from_numpy(tiny_batch[0])
    expected = tiny_model(x).sum(1)
    for column in methods.SumOfLogits(tiny_model)(x).T:
        torch.testing.assert_close(column, expected)


def test_fresh_draws_differ_between_inputs_and_repeat(references, tiny_model, tiny_batch):
    x, y = tiny_batch
    seeded, fresh = (
        methods.available(methods.MethodSettings(references, 3, 2.0, fresh_draws=fresh))["GradientVariance-inf"]
        for fresh in (False, True)
    )
    assert (seeded.draws, fresh.draws) == (methods.SAME_DRAWS, methods.NEW_DRAWS)
    assert not np.allclose(maps(fresh, tiny_model, (x, y)), maps(seeded, tiny_model, (x, y)))
    assert np.array_equal(maps(fresh, tiny_model, (x, y)), maps(fresh, tiny_model, (x, y)))
    # A change of the input too small to matter changes the draws.
    nudged = x + np.float32(1e-7) * (np.arange(x.size).reshape(x.shape) == 0)
    nearly = {row.draws: maps(row, tiny_model, (nudged.astype(np.float32), y)) for row in (seeded, fresh)}
    np.testing.assert_allclose(nearly[methods.SAME_DRAWS], maps(seeded, tiny_model, (x, y)), rtol=1e-3, atol=1e-6)
    assert not np.allclose(nearly[methods.NEW_DRAWS], maps(fresh, tiny_model, (x, y)), rtol=1e-3, atol=1e-6)


def test_the_random_model_is_another_one_and_leaves_the_given_one(tiny_model):
    before = [p.clone() for p in tiny_model.parameters()]
    other, again = (methods.randomized(tiny_model, 0) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(tiny_model.parameters(), before, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(tiny_model.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), other.parameters(), strict=True))


def test_rows_are_chosen_by_name_and_group_in_the_order_of_the_table(settings):
    rows = methods.available(settings)
    chosen = [row.name for row in methods.choose(rows, ["control", "Saliency"])]
    assert chosen == ["Saliency", "Random", "ExpectedGradients-random-weights"]
    assert methods.choose(rows, None) == list(rows.values())


def test_unknown_rows_are_named_with_the_known_ones(settings):
    with pytest.raises(BenchmarkError, match=r"unknown method 'Salience'; known are IntegratedGradients, .*control"):
        methods.choose(methods.available(settings), ["Saliency", "Salience"])
