import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiment import cells, plan
from benchmarks.experiment.plan import Plan, evaluate, select, shown
from benchmarks.experiment.results import Chosen, Selection
from benchmarks.experiment.settings import Experiment
from benchmarks.methods import rows
from benchmarks.methods.method import explained
from benchmarks.methods.weightings import EG, WG, Distances
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import open_store

POSITIONS = (11, 5, 8)
ROWS = ("Saliency", WG, EG, "Stability-local", "Random")
COLUMNS = ("DeletionAUC", "MaxSensitivity", "Sparseness-1ch")


@pytest.fixture
def run(ready, chosen, tmp_path):
    """Evaluates some rows and columns for images at some positions, in chunks of two."""

    def evaluated(methods=ROWS, judges=COLUMNS, positions=POSITIONS, folder="a", **options):
        images = chosen(*positions)
        selection = Selection(images, {"used": len(images)})
        with Runner(progress=False) as runner:
            judged = [(method, judge) for method in methods for judge in judges]
            store = open_store(tmp_path / folder, {})
            options = {"chunk": 2, "again": 2, **options}
            return evaluate(ready.experiment, store, runner, selection, judged, **options)

    return evaluated


def files(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


def of(results, method, judge):
    table = results.scores
    return table[(table["method"] == method) & (table["judge"] == judge)].set_index("image")["score"]


def selected(count=3, **statuses):
    return Selection(tuple(Chosen(i, str(i), i, 0) for i in range(count)), {"used": count, **statuses})


def test_scores_stand_in_the_order_asked_for_and_of_images(run):
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


def test_a_second_run_computes_nothing(run, tmp_path, monkeypatch):
    first = run(drawn={"11"})
    before = files(tmp_path)
    for name in ("ingredient", "scores"):
        monkeypatch.setattr(cells, name, None)
    again = run(drawn={"11"})
    assert files(tmp_path) == before
    pd.testing.assert_frame_equal(again.scores, first.scores, check_exact=True)
    pd.testing.assert_frame_equal(again.costs, first.costs, check_exact=True)
    for name, maps in first.drawn.maps.items():
        assert np.array_equal(again.drawn.maps[name], maps)


def test_what_is_missing_is_made_as_before(run, tmp_path):
    first = run()
    before = files(tmp_path)
    scores = sorted(name for name in before if name.startswith(("a/scores", "a/again")))
    lost = {*scores[::2], *(name for name in before if name.startswith("a/maps/Saliency"))}
    for name in lost:
        (tmp_path / name).unlink()
    again = run()
    after = files(tmp_path)
    assert {name for name in after if after[name] != before[name]} == lost
    pd.testing.assert_frame_equal(again.scores, first.scores, check_exact=True)


def test_more_rows_columns_and_images_do_only_what_is_new(run, tmp_path):
    run(["Saliency"], ["Sparseness-1ch"], (*POSITIONS, 2))
    before = files(tmp_path / "a")
    assert set(before) == {
        f"{kind}/{chunk}.parquet"
        for kind in ("maps/Saliency", "scores/Saliency/Sparseness-1ch")
        for chunk in ("000000-000002", "000002-000004")
    }
    more = dict(methods=["Saliency", "Random"], judges=["Sparseness-1ch", "MaxSensitivity"])
    grown = run(**more, positions=(*POSITIONS, 2, 0))
    after = files(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    # The chunk at the end takes a single image more, and is another one now.
    assert sum("000002-000005" in name for name in after) == 3
    at_once = run(**more, positions=(*POSITIONS, 2, 0), folder="b")
    pd.testing.assert_frame_equal(grown.scores, at_once.scores, check_exact=True)


def test_images_by_themselves_need_no_company(ready, run, tmp_path):
    object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, together=1))
    alone = run(["Saliency"], ["Sparseness-1ch"])
    assert {name.rpartition("/")[2] for name in files(tmp_path)} == {"000000-000002.parquet", "000002-000003.parquet"}
    assert alone.chunks == 2
    two = run(["Saliency"], ["Sparseness-1ch"], chunk=1, folder="b")
    pd.testing.assert_frame_equal(two.scores, alone.scores, check_exact=True)


def test_chunks_hold_whole_groups(run):
    with pytest.raises(BenchmarkError, match=r"--chunk 3: 2 images are explained together, .* a multiple of 2"):
        run(chunk=3)


def test_a_part_of_the_images(run):
    results = run(["Saliency"], ["Sparseness-1ch"], (*POSITIONS, 2, 0), which=slice(2, None))
    assert of(results, "Saliency", "Sparseness-1ch").index.tolist() == ["08", "02", "00"]
    assert [image.name for image in results.images] == ["08", "02", "00"] and len(results.selection.images) == 5


def test_what_is_left_out_says_why(run):
    none = run(["Saliency", "Random"], ["MaxSensitivity", "Sparseness-1ch"], again=0)
    assert none.left_out == {
        ("Saliency", "MaxSensitivity"): "left out: --robustness-images 0",
        ("Random", "MaxSensitivity"): "left out: --robustness-images 0",
    }
    assert len(none.scores) == 2 * 3


def test_slow_rows_are_explained_again_on_request_only(run, monkeypatch):
    monkeypatch.setitem(rows.ROWS, "slow", explained("slow", lambda batch: batch.inputs, slow=True))
    left = run(["slow"], ["MaxSensitivity", "Sparseness-1ch"], slow_again=False).left_out
    assert list(left) == [("slow", "MaxSensitivity")]
    assert left["slow", "MaxSensitivity"].startswith("left out: one forward per input element")
    asked = run(["slow"], ["MaxSensitivity"])
    assert len(of(asked, "slow", "MaxSensitivity")) == 2 and not asked.left_out


def test_slow_rows_are_explained_first(ready, chosen, tmp_path):
    selection = Selection(chosen(0, 1), {"used": 2})
    judged = [(name, "Sparseness-1ch") for name in ("Saliency", "FeatureAblation", EG)]
    made = Plan(ready.experiment, open_store(tmp_path, {}), selection, judged, chunk=2)
    kind, work = next(made.missing(made.chunks))
    assert kind == "maps" and [cell.key[1] for cell in work] == ["FeatureAblation", "Saliency", "steps2-first2"]


def test_all_rows_of_a_source_are_explained_again_in_one_cell(run, tmp_path):
    run(["Stability-local"], ["MaxSensitivity"])
    before = files(tmp_path)
    names = [f"{measure}-local" for measure in ("LocalIntegratedGradients", "Stability", "Consistency")]
    results = run(names, ["MaxSensitivity", "AvgSensitivity"])
    assert files(tmp_path) == before and results.scores["score"].notna().all() and len(results.scores) == 3 * 2 * 2


def test_a_chunk_that_grows_is_judged_anew(run):
    """Its draws are by the images together, and so are the maps that its sensitivity starts from."""
    options = dict(methods=["GradientShap"], judges=["Sparseness-1ch", "MaxSensitivity"], again=1)
    run(positions=POSITIONS[:1], **options)
    grown = run(positions=POSITIONS[:2], **options)
    at_once = run(positions=POSITIONS[:2], folder="b", **options)
    pd.testing.assert_frame_equal(grown.scores, at_once.scores, check_exact=True)


def test_a_failing_row_has_its_reason_and_the_others_go_on(run, monkeypatch):
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


def test_the_mean_curves(ready, run):
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


def test_ingredients_are_those_of_the_largest_pool(tmp_path):
    experiment = Experiment(model="resnet18_cifar10", data="cifar10", root="", n_baselines=5, n_steps=4)
    names = [
        f"{WG}(pool=2)",
        f"{WG}(pool=3, keep=1, screening_steps=2)",
        f"{EG}(pool=4)",
        f"{EG}(n_steps=7)",
        f"{WG}(weighting=both)",
    ]
    found = Plan(experiment, open_store(tmp_path, {}), selected(), [], names)
    single, screened, equal, more, both = map(experiment.method, names)
    assert {own.key for own, _ in found.ingredients.values() if own.kind == "maps"} == {
        ("maps", "steps4-first5"),
        ("maps", "steps2-first3"),
        ("maps", "steps7-first5"),
    }
    own, two = single.weighting.fitness.name, both.weighting.fitness.name
    assert found.sources(screened) == [
        ("maps", "steps4-first5"),
        ("fitness", f"steps4-{own}-first3"),
        ("fitness", f"steps2-{own}-first3"),
    ]
    assert found.sources(equal) == [("maps", "steps4-first5")] and found.sources(more) == [("maps", "steps7-first5")]
    assert found.sources(both)[1] == ("fitness", f"steps4-{two}-first5")
    assert Plan(experiment, open_store(tmp_path, {}), selected(), [], ["Random"]).ingredients == {}


def test_a_pool_has_the_scores_that_it_has_alone(run):
    alone = run([f"{WG}(pool=1)"], ["Sparseness-1ch"])
    among = run([f"{WG}(pool=1)", WG], ["Sparseness-1ch"], folder="b")
    name = f"{WG}(pool=1)"
    assert np.array_equal(of(alone, name, "Sparseness-1ch"), of(among, name, "Sparseness-1ch"))


def test_the_images_of_a_picture_are_those_that_all_models_have():
    first, second = selected(3), selected(0)
    last = dataclasses.replace(first, images=first.images[-1:])
    assert shown([first, last], 1) == [last.images, last.images]
    assert shown([first, second], 2) == [first.images[:2], ()]


def test_selection_takes_the_first_in_the_order_of_the_seed(ready, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "PREDICTIONS", 4)
    store = open_store(tmp_path, {})
    with Runner(progress=False) as runner:
        found = select(ready.experiment, store, runner, 3)
        every = select(ready.experiment, store, runner, None)
    assert [image.position for image in every.images] == ready.order() and len(every.images) == 12
    assert found.images == every.images[:3] and found.line == "n = 3 of 3 tried"
    assert len(store.keys("predictions")) == 3


def test_no_image_that_counts_is_an_error(ready, tmp_path):
    object.__setattr__(ready.pictures, "labels", (99,) * 12)
    message = r"no image of 12 counts for tiny \(12 misclassified\)"
    with Runner(progress=False) as runner, pytest.raises(BenchmarkError, match=message):
        select(ready.experiment, open_store(tmp_path, {}), runner, 2)


def test_many_skipped_photographs_are_named_in_part(capsys):
    plan.tell([f"skipped, {i}" for i in range(12)])
    told = capsys.readouterr().err.splitlines()
    assert told == [*(f"skipped, {i}" for i in range(10)), "skipped: 12 photographs in all"]
