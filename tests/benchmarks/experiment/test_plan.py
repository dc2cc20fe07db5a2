import dataclasses

import numpy as np
import pandas as pd
import pytest

from benchmarks.experiment import cells, plan
from benchmarks.experiment.plan import select, shown
from benchmarks.experiment.results import Chosen, Selection
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import open_store

POSITIONS = (11, 5, 8)


def selected(count=3, **statuses):
    return Selection(tuple(Chosen(i, str(i), i, 0) for i in range(count)), {"used": count, **statuses})


def test_a_second_run_computes_nothing(run, tmp_path, monkeypatch, files):
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


def test_what_is_missing_is_made_as_before(run, tmp_path, files):
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


def test_more_rows_columns_and_images_do_only_what_is_new(run, tmp_path, files):
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


def test_images_by_themselves_need_no_company(ready, run, tmp_path, files):
    object.__setattr__(ready, "experiment", dataclasses.replace(ready.experiment, together=1))
    alone = run(["Saliency"], ["Sparseness-1ch"])
    assert {name.rpartition("/")[2] for name in files(tmp_path)} == {"000000-000002.parquet", "000002-000003.parquet"}
    assert alone.chunks == 2
    two = run(["Saliency"], ["Sparseness-1ch"], chunk=1, folder="b")
    pd.testing.assert_frame_equal(two.scores, alone.scores, check_exact=True)


def test_a_part_of_the_images(run, of):
    results = run(["Saliency"], ["Sparseness-1ch"], (*POSITIONS, 2, 0), which=slice(2, None))
    assert of(results, "Saliency", "Sparseness-1ch").index.tolist() == ["08", "02", "00"]
    assert [image.name for image in results.images] == ["08", "02", "00"] and len(results.selection.images) == 5


def test_a_chunk_that_grows_is_judged_anew(run):
    """Its draws are by the images together, and so are the maps that its sensitivity starts from."""
    options = dict(methods=["GradientShap"], judges=["Sparseness-1ch", "MaxSensitivity"], again=1)
    run(positions=POSITIONS[:1], **options)
    grown = run(positions=POSITIONS[:2], **options)
    at_once = run(positions=POSITIONS[:2], folder="b", **options)
    pd.testing.assert_frame_equal(grown.scores, at_once.scores, check_exact=True)


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
