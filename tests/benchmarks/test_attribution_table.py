import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.attribution_experiment import Bench, Experiment
from benchmarks.old_methods import Method
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import transforms

from benchmarks import attribution_experiment, attribution_table, report
from benchmarks import old_judges as judges
from benchmarks import old_methods as methods
from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store, open_store

ROOT = Path(__file__).parents[2]
QUICK = ["--images", "2", "--baselines", "2", "--n-steps", "2", "--jobs", "1"]
POSITIONS = (11, 5, 8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pt"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        torch.save(models.resnet18_32().state_dict(), path)
    return str(path)


def failing(model, inputs, targets, device=None):
    raise RuntimeError("this one fails")


def warning(model, inputs, targets, device=None):
    warnings.warn(f"the first pixel is {inputs[0, 0, 0, 0]:.3f}", stacklevel=1)
    return inputs


def make_facts(**changes):
    values = dict(
        data="noise",
        images=3,
        tried=4,
        robustness_images=2,
        seed=0,
        baselines=2,
        n_steps=2,
        radius=1.5,
        radius_chosen=True,
        fresh_draws=False,
        device="cpu",
        shape=(3, 32, 32),
    )
    return report.Facts(**{**values, **changes})


def make_bench(model, batch, references):
    """A few rows of the tiny model, of which one fails and one warns."""
    available = methods.available(methods.MethodSettings(references, n_steps=2, radius=1.5))
    names = ["Saliency", "FeatureAblation", "ExpectedGradients", "WeightedGradients", "Stability-local", "Random"]
    rows = {name: available[name] for name in names}
    # 3072 forwards a map are too many here.
    rows["FeatureAblation"] = replace(rows["FeatureAblation"], explain=available["Saliency"].explain)
    rows["Broken"] = Method("Broken", "control", failing)
    rows["Warning"] = Method("Warning", "ours", warning)
    x, y = torch.zeros(12, 3, 32, 32), torch.zeros(12, dtype=torch.long)
    x[list(POSITIONS)], y[list(POSITIONS)] = torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
    x[2] = 1
    return Bench(Experiment("noise", None, "", 1.5), model, TensorDataset(x, y), rows, "cpu")


def use(monkeypatch, ready):
    """Let cells work on this bench, in blocks of two images."""
    monkeypatch.setattr(attribution_experiment, "bench", lambda experiment: ready)
    monkeypatch.setattr(attribution_table, "BLOCK", 2)
    monkeypatch.setattr(report, "BLOCK", 2)


@pytest.fixture
def bench(monkeypatch, tiny_model, tiny_batch, references):
    ready = make_bench(tiny_model, tiny_batch, references)
    use(monkeypatch, ready)
    return ready


def selection_of(ready, positions=POSITIONS):
    return data.Selection(*data.stack(ready.test, positions), tuple(positions), 4)


def compute(ready, folder, rows=None, columns=None, positions=POSITIONS, **options):
    columns = columns or ["Sparseness", "DeletionAUC", "MaxSensitivity", "Complexity"]
    with Runner(progress=False) as runner:
        return attribution_table.compute(
            ready.experiment,
            open_store(folder, {}),
            runner,
            [row for row in ready.rows.values() if rows is None or row.name in rows],
            judges.choose(judges.available(), columns),
            selection_of(ready, positions),
            **{"robustness_images": 2, **options},
        )


def scores_of(results, method, judge):
    of_method = results.scores[(results.scores["method"] == method) & (results.scores["judge"] == judge)]
    return of_method.set_index("image")["score"]


def write(folder, ready, results, columns=("Sparseness", "DeletionAUC", "MaxSensitivity", "Complexity")):
    scores = report.long_scores(results.scores, selection_of(ready), make_facts())
    columns = judges.choose(judges.available(), columns)
    pictures = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return report.write(folder, make_facts(), list(ready.rows.values()), columns, results, scores, pictures)


def cells(folder):
    return {p.relative_to(folder).as_posix(): p.stat().st_mtime_ns for p in folder.rglob("*.parquet")}


def ranks(names):
    """Results without what their blocks are made of."""
    return {re.sub(r"(\d{6}-\d{6})-[0-9a-f]{16}", r"\1", name) for name in names}


@pytest.fixture(scope="module")
def written(tmp_path_factory, tiny_network, tiny_batch, references):
    """The table of all rows of the bench."""
    ready, folder = make_bench(tiny_network, tiny_batch, references), tmp_path_factory.mktemp("table")
    with pytest.MonkeyPatch.context() as monkeypatch:
        use(monkeypatch, ready)
        results = compute(ready, folder / "cells")
        return folder, results, write(folder, ready, results)


def test_all_files_are_written(written):
    folder, _, text = written
    assert sorted(text.files) == sorted(path.name for path in folder.iterdir() if path.is_file())
    assert set(text.files) == {"table.md", "table.csv", "paired.csv", "scores.csv", "maps.png"}
    assert (folder / "maps.png").read_bytes().startswith(b"\x89PNG")


def test_the_table_holds_mean_and_deviation_of_the_scores(written):
    folder, results, _ = written
    table = pd.read_csv(folder / "table.csv").set_index("method")
    scores = pd.read_csv(folder / "scores.csv")
    of_cell = scores_of(results, "Saliency", "DeletionAUC")
    assert table.loc["Saliency", "DeletionAUC mean"] == pytest.approx(sum(of_cell) / 3)
    assert table.loc["Saliency", "DeletionAUC std"] == pytest.approx(np.std(of_cell, ddof=1))
    assert table.loc["Saliency", "DeletionAUC n"] == 3
    assert table.loc["Saliency", "MaxSensitivity n"] == 2
    assert table.loc["Saliency", "data"] == "noise"
    assert table.loc["Saliency", "images"] == 3
    in_file = scores[(scores["method"] == "Saliency") & (scores["judge"] == "DeletionAUC")]
    assert in_file["image"].tolist() == [11, 5, 8]
    assert in_file["score"].tolist() == pytest.approx(of_cell.tolist())
    markdown = (folder / "table.md").read_text(encoding="utf-8")
    assert f"{np.mean(of_cell):.3f} ± {np.std(of_cell, ddof=1):.3f}" in markdown


def test_scores_stand_in_the_order_of_rows_columns_and_images(written):
    scores = pd.read_csv(written[0] / "scores.csv")
    assert list(dict.fromkeys(scores["method"])) == [
        "Saliency",
        "FeatureAblation",
        "ExpectedGradients",
        "WeightedGradients",
        "Stability-local",
        "Random",
        "Warning",
    ]
    assert list(dict.fromkeys(scores["judge"])) == [
        "DeletionAUC",
        "MaxSensitivity",
        "Sparseness-1ch",
        "Sparseness-3ch",
        "Complexity-1ch",
        "Complexity-3ch",
    ]


def test_a_failing_row_shows_its_reason_and_the_run_goes_on(written):
    folder, results, text = written
    of_broken = results.scores[results.scores["method"] == "Broken"]
    assert set(of_broken["reason"]) == {"RuntimeError: this one fails"} and of_broken["score"].isna().all()
    assert "Broken (DeletionAUC, MaxSensitivity, Sparseness-1ch" in text.text
    assert text.text.count("RuntimeError: this one fails") == 1
    table = pd.read_csv(folder / "table.csv").set_index("method")
    assert table.loc["Broken", "Sparseness-1ch n"] == 0
    assert "DeletionAUC: RuntimeError: this one fails." in table.loc["Broken", "without scores"]
    assert "Broken" not in pd.read_csv(folder / "scores.csv")["method"].tolist()


def test_ablation_rows_are_marked_as_left_out_of_the_robustness_columns(written):
    _, results, text = written
    assert list(results.left_out) == [("FeatureAblation", "MaxSensitivity")]
    assert results.left_out["FeatureAblation", "MaxSensitivity"].startswith("left out: one forward per input element")
    assert "FeatureAblation (MaxSensitivity): left out" in text.text


def test_ablation_rows_are_explained_again_on_request(tmp_path, bench):
    results = compute(bench, tmp_path, ["FeatureAblation"], ["MaxSensitivity"], ablation_robustness=True)
    assert len(scores_of(results, "FeatureAblation", "MaxSensitivity")) == 2 and not results.left_out


def test_the_notes_say_what_must_be_known(written):
    notes = written[2].text
    assert "n = 3 correctly classified test images (of 4 tried), robustness on 2, seed 0" in report.heading(
        make_facts()
    )
    assert "Local radius 1.5, a tenth of the median distance" in report.heading(make_facts())
    assert "Local radius 1.5 (normalised" in report.heading(make_facts(radius_chosen=False))
    assert "ln 1024 = 6.93 for -1ch and ln 3072 = 8.03 for -3ch" in notes
    assert "Flattered in these two columns" in notes
    assert "the two are not comparable" in notes
    assert "partly its own yardstick" in notes
    assert "on blocks of 2 images" in notes and "on one thread" in notes


def test_weighted_is_compared_with_expected_gradients_by_image(written):
    folder, results, text = written
    paired = pd.read_csv(folder / "paired.csv")
    assert paired[["judge", "method", "reference", "n"]].values.tolist() == [
        ["DeletionAUC", "WeightedGradients", "ExpectedGradients", 3]
    ]
    expected, weighted = (
        scores_of(results, name, "DeletionAUC").mean() for name in ("ExpectedGradients", "WeightedGradients")
    )
    assert paired["relative_change"][0] == pytest.approx(weighted / expected - 1)
    assert f"{weighted / expected - 1:+.1%}" in text.text


def test_robustness_columns_can_be_left_out(tmp_path, bench):
    results = compute(bench, tmp_path, ["Saliency"], ["AvgSensitivity"], robustness_images=0)
    assert results.left_out == {("Saliency", "AvgSensitivity"): "left out: --robustness-images 0"}
    assert not len(results.scores)


def test_a_second_run_reads_all_it_needs_from_the_store(tmp_path, bench, monkeypatch):
    del bench.rows["WeightedGradients"], bench.rows["ExpectedGradients"]
    first = compute(bench, tmp_path)
    before = cells(tmp_path)
    for name in ("explain", "evaluate"):
        monkeypatch.setattr(attribution_experiment, name, failing)
    again = compute(bench, tmp_path)
    assert cells(tmp_path) == before
    # Scores, reasons of what failed, seconds, maps and warnings.
    pd.testing.assert_frame_equal(again.scores, first.scores, check_exact=True)
    np.testing.assert_equal(again.seconds, first.seconds)
    np.testing.assert_equal(again.maps, first.maps)
    assert again.warnings == first.warnings
    assert [w.methods for w in again.warnings if w.example.startswith("the first pixel is")] == [("Warning",)]
    assert (again.scores["reason"] == "RuntimeError: this one fails").any()


def test_what_is_missing_is_made_as_before(tmp_path, bench):
    del bench.rows["WeightedGradients"], bench.rows["ExpectedGradients"]
    first = compute(bench, tmp_path)
    before = cells(tmp_path)
    lost = {*sorted(before)[::2], *(name for name in before if name.startswith("maps/Saliency/000000"))}
    for name in lost:
        (tmp_path / name).unlink(missing_ok=True)
    again = compute(bench, tmp_path)
    after = cells(tmp_path)
    assert {name for name in after if after[name] != before[name]} == lost
    pd.testing.assert_frame_equal(again.scores, first.scores, check_exact=True)
    np.testing.assert_equal(again.maps, first.maps)


def test_more_rows_columns_and_images_do_only_what_is_new(tmp_path, bench):
    compute(bench, tmp_path / "a", ["Saliency"], ["Sparseness"], (*POSITIONS, 2))
    before = cells(tmp_path / "a")
    assert ranks(before) == {
        f"{kind}/{block}.parquet"
        for kind in ("maps/Saliency", "scores/Saliency/Sparseness-1ch", "scores/Saliency/Sparseness-3ch")
        for block in ("000000-000002", "000002-000004")
    }
    more = dict(rows=["Saliency", "Random"], columns=["Sparseness", "MaxSensitivity"], positions=(*POSITIONS, 2, 0))
    grown = compute(bench, tmp_path / "a", **more)
    after = cells(tmp_path / "a")
    assert {name: after[name] for name in before} == before
    # The block at the end takes a single image more, and is another one now.
    assert sum("000002-000005" in name for name in after) == 6
    at_once = compute(bench, tmp_path / "b", **more)
    pd.testing.assert_frame_equal(grown.scores, at_once.scores, check_exact=True)


def test_a_block_that_grows_is_judged_anew(tmp_path, bench):
    """Random draws by the block, and so do the maps that its sensitivity starts from."""
    options = dict(rows=["Random"], columns=["Sparseness", "MaxSensitivity"], robustness_images=1)
    compute(bench, tmp_path / "a", positions=POSITIONS[:1], **options)
    grown = compute(bench, tmp_path / "a", positions=POSITIONS[:2], **options)
    at_once = compute(bench, tmp_path / "b", positions=POSITIONS[:2], **options)
    pd.testing.assert_frame_equal(grown.scores, at_once.scores, check_exact=True)


def test_rows_of_one_source_are_explained_once(tmp_path, bench, monkeypatch, references):
    available = methods.available(methods.MethodSettings(references, n_steps=2, radius=1.5))
    calls = []

    def explain(*args, **kwargs):
        calls.append(len(args[1]))
        return available["Stability-local"].explain(*args, **kwargs)

    for measure in methods.MEASURES:
        bench.rows[f"{measure}-local"] = replace(available[f"{measure}-local"], explain=explain)
    names = [f"{measure}-local" for measure in methods.MEASURES]
    columns = ["Sparseness", "MaxSensitivity", "AvgSensitivity"]
    compute(bench, tmp_path, names, columns, robustness_images=1)
    # A block of 3 images, and ten times the first image perturbed.
    assert calls == [3, *[1] * 10]
    # One column of one row explained all that the others need.
    compute(bench, tmp_path / "one", names[:1], ["MaxSensitivity"], robustness_images=1)
    before = cells(tmp_path / "one")
    results = compute(bench, tmp_path / "one", names, columns[1:], robustness_images=1)
    assert cells(tmp_path / "one") == before
    assert len(results.scores) == 4 * 2 and results.scores["score"].notna().all()


def test_slow_rows_are_explained_first(tmp_path, bench, monkeypatch):
    order = []
    monkeypatch.setattr(
        Runner, "run", lambda self, store, cells, label: order.extend(cell.key for cell in cells) or 1 / 0
    )
    with pytest.raises(ZeroDivisionError):
        compute(bench, tmp_path)
    assert [source for _, source, _ in order][:2] == ["FeatureAblation", "Saliency"]


def notes_of(text, method="Warning"):
    return [line for line in text.splitlines() if re.match(rf"- {method} warned", line)]


def test_a_warning_is_one_note_however_many_blocks_gave_it(tmp_path, bench):
    positions = (*POSITIONS, 2)
    columns = ["DeletionAUC", "MaxSensitivity"]
    results = compute(bench, tmp_path, ["Warning"], columns, positions, robustness_images=1)
    value = f"the first pixel is {bench.test[POSITIONS[0]][0][0, 0, 0]:.3f}"
    (note,) = notes_of(write(tmp_path, bench, results, columns).text)
    assert note == f"- Warning warned in 2 of 2 blocks, for example of images 11, 5 (as in scores.csv): {value}"
    # Where there is a single block its images need no naming.
    results = compute(bench, tmp_path, ["Warning"], columns, robustness_images=1)
    assert notes_of(write(tmp_path, bench, results, columns).text) == [f"- Warning warned: {value}"]


def test_a_warning_given_of_perturbed_images_alone_is_noted(tmp_path, bench):
    def explain(model, inputs, targets, device=None):
        return inputs if len(inputs) > 1 else warning(model, inputs, targets)

    bench.rows["Warning"] = Method("Warning", "ours", explain)
    results = compute(bench, tmp_path, ["Warning"], ["MaxSensitivity"], robustness_images=1)
    (note,) = notes_of(write(tmp_path, bench, results, ["MaxSensitivity"]).text)
    assert note.startswith("- Warning warned when images were perturbed: the first pixel is")


@pytest.mark.parametrize(
    ("count", "bounds"),
    [
        (1, [(0, 1)]),
        (2, [(0, 2)]),
        (8, [(0, 8)]),
        (9, [(0, 9)]),
        (10, [(0, 8), (8, 10)]),
        (17, [(0, 8), (8, 17)]),
        (24, [(0, 8), (8, 16), (16, 24)]),
    ],
)
def test_no_block_but_the_only_one_is_of_one_image(count, bounds):
    assert attribution_table._bounds(count) == bounds


def test_changed_images_are_explained_anew(tmp_path, bench):
    """Their names, sizes and places are what they were, so the settings of the folder are too."""
    before = compute(bench, tmp_path, ["Saliency"], ["Sparseness"], (*POSITIONS, 2))
    kept = cells(tmp_path)
    bench.test.tensors[0][8] += 1
    after = compute(bench, tmp_path, ["Saliency"], ["Sparseness"], (*POSITIONS, 2))
    new = set(cells(tmp_path)) - set(kept)
    assert new and all("/000002-000004-" in name for name in new)
    first, second = (scores_of(results, "Saliency", "Sparseness-1ch") for results in (before, after))
    assert (first[[11, 5]] == second[[11, 5]]).all() and first[8] != second[8]


def test_only_the_maps_that_are_drawn_are_read_for_the_report(tmp_path, bench, monkeypatch):
    rows = {"Saliency": bench.rows["Saliency"]}
    compute(bench, tmp_path, list(rows), ["Sparseness"], (*POSITIONS, 2))
    read, asked = Store.read, []

    def watch(store, key, *columns):
        asked.append((key, *columns))
        return read(store, key, *columns)

    monkeypatch.setattr(Store, "read", watch)
    compute(bench, tmp_path, list(rows), ["Sparseness"], (*POSITIONS, 2))
    whole = [key for key, *columns in asked if key[0] == "maps" and not columns]
    assert len(whole) == 1 and whole[0][2].startswith("000000-000002")


def test_a_full_disk_at_the_picture_is_an_error(tmp_path, bench, monkeypatch):
    results = compute(bench, tmp_path, ["Saliency"], ["Sparseness"])

    def full(path, content):
        if path.name == "maps.png":
            raise BenchmarkError("the disk is full")

    monkeypatch.setattr(report, "write_atomically", full)
    with pytest.raises(BenchmarkError, match="the disk is full"):
        write(tmp_path, bench, results, ["Sparseness"])


def test_a_picture_that_cannot_be_drawn_is_a_note(tmp_path, bench, monkeypatch):
    results = compute(bench, tmp_path, ["Saliency"], ["Sparseness"])
    monkeypatch.setattr(report.visualization, "grid", failing)
    written = write(tmp_path, bench, results, ["Sparseness"])
    assert "maps.png" not in written.files
    assert re.search(r"maps\.png could not be drawn: \w+", (tmp_path / "table.md").read_text())


def test_what_a_killed_report_left_goes_after_a_while(tmp_path, bench):
    results = compute(bench, tmp_path, ["Saliency"], ["Sparseness"])
    old, new, foreign = (tmp_path / name for name in ("table.md12345678.part", "maps.pngabcdefgh.part", "film.part"))
    for path in (old, new, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (time.time() - 1e5,) * 2)
    write(tmp_path, bench, results, ["Sparseness"])
    assert not old.exists() and new.exists() and foreign.exists()


def test_images_without_a_score_are_counted(tmp_path, bench):
    def second_block_fails(model, inputs, targets, device=None):
        return warning(model, inputs, targets) if len(inputs) == 2 else failing(model, inputs, targets)

    bench.rows["Warning"] = Method("Warning", "ours", second_block_fails)
    columns = ["DeletionAUC", "MaxSensitivity"]
    results = compute(bench, tmp_path, ["Warning"], columns, (*POSITIONS, 2, 0))
    assert scores_of(results, "Warning", "DeletionAUC").notna().tolist() == [True, True, False, False, False]
    text = write(tmp_path, bench, results, columns).text
    assert "Warning, DeletionAUC: 3 images without a score are left out: RuntimeError: this one fails." in text
    table = pd.read_csv(tmp_path / "table.csv").set_index("method")
    assert table.loc["Warning", "DeletionAUC n"] == 2 and table.loc["Warning", "MaxSensitivity n"] == 2


def test_the_command_end_to_end(tmp_path, weights, capsys):
    command = [*QUICK, "--weights", weights, "--out", str(tmp_path / "new" / "folder")]
    command += ["--methods", "Saliency", "ExpectedGradients", "--metrics", "MaxSensitivity"]
    assert attribution_table.main([*command, "Sparseness"]) == 0
    printed = capsys.readouterr().out
    assert "digits (scikit-learn): n = 2 correctly classified test images" in printed
    assert "| ExpectedGradients" in printed
    first = pd.read_csv(tmp_path / "new" / "folder" / "scores.csv")
    assert attribution_table.main([*command, "--out", str(tmp_path / "fewer")]) == 0
    again = pd.read_csv(tmp_path / "fewer" / "scores.csv")
    pd.testing.assert_frame_equal(first[first["judge"] == "MaxSensitivity"].reset_index(drop=True), again)


def files(out):
    """All that is written, without the seconds."""
    table = pd.read_csv(out / "table.csv").drop(columns="s/image").to_csv()
    return table, *((out / name).read_bytes() for name in ("scores.csv", "paired.csv", "maps.png"))


SMALL = ["--methods", "Saliency", "GradientShap", "Stability-inf", "--metrics", "MaxSensitivity", "Sparseness"]


@pytest.fixture(scope="module")
def serial(weights, tmp_path_factory):
    """The files of an undisturbed run with one worker, and its command but for --out."""
    out = tmp_path_factory.mktemp("serial")
    command = [*QUICK, "--weights", weights, *SMALL]
    assert attribution_table.main([*command, "--out", str(out)]) == 0
    return out, command


def test_two_workers_give_the_same_files(serial, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    out, command = serial
    assert attribution_table.main([*command, "--jobs", "2", "--out", str(tmp_path)]) == 0
    assert files(tmp_path) == files(out)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals of POSIX")
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_files(serial, tmp_path):
    undisturbed, command = serial
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.attribution_table", *command, "--out", str(out)],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    while not list(out.glob("cells/robustness/*/*/*.parquet")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = cells(out)
    assert not (out / "table.md").exists()
    assert attribution_table.main([*command, "--out", str(out)]) == 0
    assert files(out) == files(undisturbed)
    after = cells(out)
    assert {name: after[name] for name in before} == before
    table = (out / "table.md").read_bytes()
    assert attribution_table.main([*command, "--out", str(out)]) == 0
    # The seconds too are those that were measured.
    assert (out / "table.md").read_bytes() == table


def test_other_settings_and_weights_are_refused_by_name(serial, tmp_path, capsys):
    out, command = serial
    assert attribution_table.main([*command, "--out", str(out), "--n-steps", "3", "--fresh-draws"]) == 2
    told = "fresh_draws: false there, true here; n_steps: 2 there, 3 here; give another --out"
    assert told in capsys.readouterr().err
    assert attribution_table.main([*command, "--out", str(out), "--radius", "1"]) == 2
    assert re.search(r"settings: radius: [\d.]+ there, 1.0 here;", capsys.readouterr().err)
    state = torch.load(command[command.index("--weights") + 1])
    state["fc.bias"] += 1
    torch.save(state, tmp_path / "other.pt")
    assert attribution_table.main([*command, "--out", str(out), "--weights", str(tmp_path / "other.pt")]) == 2
    assert re.search(r'settings: weights: "\w+" there, "\w+" here;', capsys.readouterr().err)


def test_more_images_are_the_same_experiment(serial, tmp_path):
    out, command = serial
    command = [*command, "--metrics", "Sparseness", "--methods", "Saliency"]
    assert attribution_table.main([*command, "--out", str(out), "--images", "1"]) == 0
    assert attribution_table.main([*command, "--out", str(out)]) == 0


def test_a_trained_network_that_workers_could_not_read(tmp_path, monkeypatch, tiny_model, capsys):
    monkeypatch.setattr(models, "trained", lambda *args: tiny_model)
    assert attribution_table.main(["--out", str(tmp_path), "--cache", str(tmp_path / "gone")]) == 2
    assert f"error: --cache {tmp_path / 'gone'} can't be written to, but the workers" in capsys.readouterr().err


def test_a_cached_network_that_neither_workers_nor_this_command_can_use(tmp_path, monkeypatch, capsys, tiny_model):
    """It was trained anew, but the damaged file could not be replaced."""
    models.digits_file(tmp_path).write_bytes(b"half a file")
    monkeypatch.setattr(models, "trained", lambda *args: tiny_model)
    assert attribution_table.main(["--out", str(tmp_path / "out"), "--cache", str(tmp_path)]) == 2
    assert f"error: --cache {tmp_path} can't be written to, but the workers" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch, capsys):
    def refuse(dir):
        raise PermissionError(13, "Permission denied")

    # A mode would not stop root.
    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    assert attribution_table.main(["--out", str(tmp_path), "--cache", str(tmp_path)]) == 2
    assert f"error: --out {tmp_path} can't be written to: [Errno 13]" in capsys.readouterr().err


def test_an_infinite_radius_is_one():
    assert attribution_table.parse(["--radius", "inf"]).radius == float("inf")


def test_nothing_computed_is_an_error(tmp_path, weights):
    command = [*QUICK, "--weights", weights, "--out", str(tmp_path), "--methods", "Saliency"]
    assert attribution_table.main([*command, "--metrics", "MaxSensitivity", "--robustness-images", "0"]) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "Salience"], "unknown method 'Salience'; known are"),
        (["--metrics", "AUC"], "unknown metric 'AUC'; known are"),
        (["--weights", "/no/such.pt"], "--weights /no/such.pt does not exist"),
        (["--data", "cifar10"], "--data cifar10 needs --root"),
        (["--data", "cifar10", "--root", "/no/such"], "--root /no/such is not a folder"),
        (["--device", "nonsense"], "--device nonsense can't be used here"),
        (["--address", "tcp://host:1"], "--address tcp://host:1 needs --backend dask or ray"),
        (
            ["--address", "tcp://host:1", "--backend", "dask", "--jobs", "2"],
            "--jobs can't be given with --backend dask --address: all workers of that cluster serve; leave it out",
        ),
        (["--out", "/dev/null/out"], "--out /dev/null/out can't be written to"),
        (["--baselines", "5000"], "--baselines must lie between 1 and 1198"),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, capsys, arguments, message):
    command = ["--out", str(tmp_path), "--cache", str(tmp_path), *arguments]
    assert attribution_table.main(command) == 2
    assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "0"], "must be at least 1, got 0"),
        (["--robustness-images", "-1"], "must be at least 0, got -1"),
        (["--radius", "0"], "must be a number above 0, or inf, got 0.0"),
        (["--radius", "nan"], "must be a number above 0, or inf, got nan"),
        (["--n-steps", "many"], "invalid integer value: 'many'"),
    ],
)
def test_numbers_that_cannot_be_meant(capsys, arguments, message):
    with pytest.raises(SystemExit):
        attribution_table.parse(arguments)
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def photographs(tmp_path_factory, weights):
    """A CIFAR-10 of noise, with the classes that the network gives it, a truncated image in each part."""
    root = tmp_path_factory.mktemp("cifar10")
    generator = np.random.default_rng(0)
    model = models.load_checkpoint(weights)
    for part, count in (("train", 4), ("test", 5)):
        for label in range(10):
            (root / part / f"class{label}").mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(root / part / f"class{label}" / "black.png")
        for i in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            x = transforms.functional.normalize(
                transforms.functional.to_tensor(pixels), data.CIFAR10_MEAN, data.CIFAR10_STD
            )
            with torch.no_grad():
                label = int(model(x[None]).argmax())
            Image.fromarray(pixels).save(root / part / f"class{label}" / f"{i}.png")
        path = root / part / "class3" / "black.png"
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    Image.new("RGB", (16, 32)).save(root / "test" / "class4" / "black.png")
    return root


def test_photographs_end_to_end(photographs, weights, tmp_path, capsys):
    command = [*QUICK, "--data", "cifar10", "--root", str(photographs), "--weights", weights, "--out", str(tmp_path)]
    command += ["--baselines", "13", "--methods", "Saliency", "--metrics", "Sparseness"]
    assert attribution_table.main(command) == 0
    told = capsys.readouterr()
    assert "skipped, unreadable: train/class3/black.png: " in told.err
    assert "skipped, unreadable: test/class3/black.png: " in told.err
    assert "skipped, unreadable: test/class4/black.png: 16 x 32 pixels instead of 32 x 32" in told.err
    assert told.out.startswith("CIFAR-10 (PNG): n = 2 correctly classified")
    text = (tmp_path / "table.md").read_text()
    assert "could not be read: 2 of the test images looked at, and 1 of the training images drawn" in text
    scores = pd.read_csv(tmp_path / "scores.csv")
    assert scores["score"].between(0, 1).all() and len(scores) == 4
    before = cells(tmp_path)
    assert attribution_table.main(command) == 0
    assert cells(tmp_path) == before
    capsys.readouterr()
    # All training images but the damaged one are taken.
    assert attribution_table.main([*command, "--baselines", "14", "--out", str(tmp_path / "more")]) == 2
    assert "--baselines 14: only 13 of the 14 training images can be read" in capsys.readouterr().err
