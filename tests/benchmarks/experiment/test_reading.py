import dataclasses
import warnings

import numpy as np
import pytest

from benchmarks.methods import rows
from benchmarks.methods.method import explained
from benchmarks.methods.weightings import EG, WG, Distances

POSITIONS = (11, 5, 8)
ROWS = ("Saliency", WG, EG, "Stability-local", "Random")
COLUMNS = ("DeletionAUC", "MaxSensitivity", "Sparseness-1ch")


def test_scores_stand_in_the_order_asked_for_and_of_images(run, of):
    results = run()
    pairs = results.scores[["method", "judge"]].drop_duplicates().astype(str).values.tolist()
    assert pairs == [[method, judge] for method in ROWS for judge in COLUMNS]
    assert of(results, EG, "DeletionAUC").index.tolist() == ["11", "05", "08"]
    assert of(results, EG, "MaxSensitivity").index.tolist() == ["11", "05"]
    assert set(results.scores["problem"]) == {""} and results.chunks == 1 and results.shape == (3, 32, 32)
    assert set(results.scores["model"]) == {"tiny"} and results.data == "noise"


def test_costs_are_of_all_that_a_map_is_made_of(run):
    costs = run(methods=(EG, WG, "Random"), judges=COLUMNS[:1]).costs
    assert costs["gradients"].to_dict() == {EG: 4, WG: 4, "Random": 0}
    assert costs["forwards"][WG] > costs["forwards"][EG] and costs["seconds"][WG] > costs["seconds"][EG] > 0


def test_a_row_of_fewer_baselines_costs_its_share_of_a_shared_walk(run):
    alone, fewer = run(methods=(EG,), judges=COLUMNS[:1]).costs, f"{EG}(pool=1)"
    costs = run(methods=(fewer, EG), judges=COLUMNS[:1]).costs
    assert costs["gradients"].to_dict() == {fewer: 2, EG: alone["gradients"][EG]}
    assert costs["seconds"][fewer] == pytest.approx(costs["seconds"][EG] / 2)


def test_a_failing_row_has_its_reason_and_the_others_go_on(run, monkeypatch, of):
    def fail(batch):
        raise RuntimeError("this one fails")

    monkeypatch.setitem(rows.ROWS, "Broken", explained("Broken", fail))
    results = run(["Broken", "Random"], drawn={"11"})
    reasons = results.scores.groupby("method", observed=True)["problem"].unique()
    assert reasons["Broken"].tolist() == ["RuntimeError: this one fails"] and reasons["Random"].tolist() == [""]
    assert of(results, "Broken", "DeletionAUC").isna().all() and set(results.drawn.maps) == {"Random"}


def test_a_warning_is_one_however_many_chunks_gave_it(run, monkeypatch):
    def warn(batch):
        warnings.warn(f"the first pixel is {batch.inputs[0, 0, 0, 0]:.3f}", stacklevel=1)
        return batch.inputs

    monkeypatch.setitem(rows.ROWS, "Warning", explained("Warning", warn))
    results = run(["Warning", "Random"], ["DeletionAUC", "MaxSensitivity"], (*POSITIONS, 2), again=1)
    (warned,) = results.warnings
    assert warned.methods == ("Warning",) and warned.example.startswith("the first pixel is")
    assert (warned.images, warned.perturbed, warned.chunks) == (("11", "05"), False, 2)


def test_a_warning_given_of_perturbed_images_alone_says_so(run, monkeypatch):
    def warn(batch):
        if len(batch.inputs) == 1:
            warnings.warn("alone", stacklevel=1)
        return batch.inputs

    monkeypatch.setitem(rows.ROWS, "Warning", explained("Warning", warn))
    (warned,) = run(["Warning"], ["MaxSensitivity"], POSITIONS[:2], again=1).warnings
    assert warned.perturbed and warned.images == ("11",)


def test_images_and_maps_of_a_picture(ready, run):
    results = run(drawn={"05", "11"})
    assert [image.name for image in results.drawn.images] == ["11", "05"] and results.drawn.pixels.shape == (
        2,
        3,
        32,
        32,
    )
    pixels = ready.pictures.sources[11].transpose(2, 0, 1) / 255
    assert np.allclose(results.drawn.pixels[0], pixels, atol=1e-6)
    assert list(results.drawn.maps) == list(ROWS)
    assert all(maps.shape == (2, 3, 32, 32) for maps in results.drawn.maps.values())
    assert run().drawn.images == ()


def test_baselines_of_a_picture_the_heaviest_first(ready, run):
    shuffled, screened = "ShuffledWeights", f"{WG}(keep=1, screening_steps=1)"
    results = run([EG, shuffled, screened, WG], COLUMNS[:1], drawn={"05", "11"})
    assert set(results.drawn.weighted) == {"05", "11"}
    for i, image in enumerate(results.drawn.images):
        found = results.drawn.weighted[image.name]
        assert found.method == WG and found.of == 2
        assert found.weights.sum() == pytest.approx(1) and found.weights[0] >= found.weights[1]
        assert np.allclose(found.weights, (1 / found.distances) / (1 / found.distances).sum())
        assert np.allclose(np.tensordot(found.weights, found.maps, 1), results.drawn.maps[WG][i], atol=1e-6)
        references = ready.network.preparation.pixels(ready.baselines)[found.places].numpy()
        assert np.allclose(found.pixels, references, atol=1e-6)
    assert run([EG], COLUMNS[:1], drawn={"05"}, folder="b").drawn.weighted == {}


def test_the_mean_curves(ready, run, of):
    assert not len(run().curves)
    object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, curves=True, levels=4))
    results = run(["Random", EG], ["DeletionAUC", "Sparseness-1ch"], folder="b")
    curves = results.curves
    assert curves["fraction"].tolist() == [0.25, 0.5, 0.75, 1] * 2 and set(curves["judge"]) == {"DeletionAUC"}
    means = curves.groupby("method")["value"].mean()
    for method in ("Random", EG):
        assert means[method] == pytest.approx(of(results, method, "DeletionAUC").mean())


def test_the_radius_is_told_where_a_row_needs_it(run):
    assert run(["Stability-local"], ["Sparseness-1ch"]).radius == 1.5
    assert np.isnan(run(["Stability-inf"], ["Sparseness-1ch"]).radius)


def test_images_whose_baselines_can_not_be_told_apart_are_counted(run, monkeypatch):
    calls = []

    def sometimes(self, batch, *needed):
        calls.append(batch)
        return np.tile([7.0, 7.0] if len(calls) == 2 else [7.0, 8.0], (len(batch.inputs), 1))

    monkeypatch.setattr(Distances, "make", sometimes)
    results = run([WG], ["Sparseness-1ch"], (*POSITIONS, 2))
    assert results.equal_fitness == 2
    assert run([EG], ["Sparseness-1ch"], folder="b").equal_fitness == 0


def test_an_image_without_a_fitness_keeps_the_rows_that_need_none(run, monkeypatch):
    def fail(*given):
        raise ValueError("f(x) is 0")

    monkeypatch.setattr(Distances, "make", fail)
    problems = run([EG, WG], ["Sparseness-1ch"]).scores.groupby("method", observed=True)["problem"].first()
    assert problems.to_dict() == {EG: "", WG: "ValueError: f(x) is 0"}
