import numpy as np
import pytest
import torch

from benchmarks.methods import captums, ours, rows
from benchmarks.methods.method import Batch, Method, MethodSettings, explained, file_name
from benchmarks.methods.rows import choose, method, parse
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import Store

SETTINGS = MethodSettings(n_baselines=4, n_steps=5)


def test_the_rows_of_each_group():
    by_group = {group: [row.name for row in choose([group], SETTINGS)] for group in ("captum", "published", "control")}
    assert by_group["captum"] == list(captums.NAMES)
    assert [row.name for row in choose(["ours"], SETTINGS)][:3] == [
        "ExpectedGradients",
        "WeightedGradients",
        "WeightedGradients-half",
    ]
    assert len(by_group["published"]) == 8
    assert by_group["control"] == [
        "ShuffledWeights",
        "BestSingle",
        "EdgeDetector",
        "Random",
        "CentredBlob",
        "ExpectedGradients-random-weights",
    ]
    slow = {row.name for row in choose(["captum"], SETTINGS) if row.slow}
    assert slow == {"FeatureAblation", "FeaturePermutation"}


def test_rows_are_chosen_in_the_order_asked_for_and_once():
    chosen = choose(["control", "Saliency", "Random", "WeightedGradients( keep = 2 )"], SETTINGS)
    assert [row.name for row in chosen][-3:] == [
        "ExpectedGradients-random-weights",
        "Saliency",
        "WeightedGradients(keep=2)",
    ]
    assert len(chosen) == 8


@pytest.mark.parametrize("name", [name for name, row in rows.ROWS.items() if getattr(row, "group", "") != "others"])
def test_names_are_those_of_the_rows(name):
    assert method(name, SETTINGS).name == name


@pytest.mark.parametrize(
    "text, name",
    [
        ("WeightedGradients(keep=3,power=2)", "WeightedGradients(keep=3, power=2)"),
        ("WeightedGradients(power=2, keep=3)", "WeightedGradients(keep=3, power=2)"),
        (
            "WeightedGradients(neutral=('corners', 'blur'), weighting='both')",
            "WeightedGradients(weighting=both, neutral=[corners, blur])",
        ),
        ("WeightedGradients()", "WeightedGradients"),
        ("WeightedGradients(normalise_maps=True)", "WeightedGradients(normalise_maps=True)"),
    ],
)
def test_a_row_has_one_name_however_its_settings_are_written(text, name):
    assert method(text, SETTINGS).name == name
    assert method(name, SETTINGS).name == name
    assert parse(name)[0] == "WeightedGradients"


def test_names_of_rows_make_names_of_files(tmp_path):
    name = method("WeightedGradients(neutral=[corners, blur], power=0.5)", SETTINGS).name
    assert file_name(name) == "WeightedGradients,power=0.5,neutral=corners,blur"
    assert not Store(tmp_path, "{}").has(("scores", file_name(name)))
    name = method("Random(smooth=3/32, blob=1/4)", SETTINGS).name
    assert file_name(name) == "Random,smooth=3-32,blob=1-4"
    assert not Store(tmp_path, "{}").has(("scores", file_name(name)))


@pytest.mark.parametrize(
    "name, message",
    [
        ("Salience", "unknown method 'Salience'; known are IntegratedGradients, .*groups captum, .*control"),
        ("WG", "unknown method 'WG'"),
        ("WeightedGradients-keep2", "unknown method .*written as in WeightedGradients.power=2, keep=3."),
        ("WeightedGradients(", "unknown method"),
        ("WeightedGradients(2)", "unknown method"),
        ("WeightedGradients(keep=2)(keep=2)", "unknown method"),
        ("WeightedGradients(keep=open('x'))", "unknown method"),
        ("WeightedGradients(**{})", "no setting 'None'"),
        ("WeightedGradients(pow=2)", "has no setting 'pow'; known are n_steps"),
        ("Random(keep=2)", "Random has no setting 'keep'; known are smooth, blob"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(BenchmarkError, match=message):
        method(name, SETTINGS)


def test_every_row_explains_in_the_form_of_the_input(tiny_model, tiny_batch, references):
    x, y = map(torch.from_numpy, tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references, local_radius=lambda: 2.0)
    settings = MethodSettings(n_baselines=2, n_steps=3)
    for row in choose(["captum", "ours", "published", "control"], settings):
        if row.slow:
            continue
        made = {}
        for own in [*(need for one in row.ingredients for need in one.needs), *row.ingredients]:
            made[own.key] = own.make(batch, *(made[need.key] for need in own.needs))
        for i in range(3):
            values = tuple(made[own.key][i] for own in row.ingredients)
            found = row.combine(x[i], values, np.random.default_rng(i))
            assert found.shape == (3, 32, 32) and found.dtype == np.float32 and np.isfinite(found).all(), row.name


def test_a_row_of_parts_takes_its_own():
    row = explained("second", lambda batch: None, part=(1, 2), source="both")
    assert isinstance(row, Method) and row.source == "both"
    whole = np.arange(12.0).reshape(6, 1, 2)
    assert np.array_equal(row.combine(None, (whole,), None), whole[3:])
    assert [one.name for one in rows.of_source("LocalMeasures-inf", SETTINGS)] == [f"{m}-inf" for m in ours.MEASURES]


def test_maps_of_another_shape_are_refused(tiny_model, tiny_batch, references):
    x, y = map(torch.from_numpy, tiny_batch)
    batch = Batch(tiny_model, x, y, ("a", "b", "c"), references)
    (own,) = explained("wrong", lambda batch: batch.inputs[:1]).ingredients
    with pytest.raises(ValueError, match=r"the maps have shape \(1, 3, 32, 32\), the inputs \(3, 3, 32, 32\)"):
        own.make(batch)
