import copy
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import precision, speed
from benchmarks.cost import peers, workloads
from benchmarks.cost.counting import Counted
from benchmarks.cost.memory import Memory, in_fresh_process, peak, resident
from benchmarks.cost.workloads import BY_NAME, ROWS, Row, Settings
from benchmarks.run.errors import BenchmarkError
from captum_wg import ExpectedGradients

SETTINGS = Settings(
    "tiny",
    images=2,
    baselines=3,
    n_steps=4,
    n_samples=5,
    metric_images=2,
    levels=12,
    gradient_rows=4,
    forward_rows=8,
)
PIXELS = 16 * 16


@pytest.fixture
def task():
    return workloads.make_task(SETTINGS)


def evaluations(name, task):
    return workloads.run_once(BY_NAME[name], task)[1]


def test_the_counter_tells_forwards_from_gradients(tiny_model):
    model = Counted(tiny_model)
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), tiny_model(x))
    assert model.counter.evaluations() == (0, 5)

    points = x[:3].clone().requires_grad_()
    output = model(points)[:, 0].sum()
    assert model.counter.evaluations() == (0, 8)  # no backward yet
    (gradient,) = torch.autograd.grad(output, points, retain_graph=True)
    assert gradient.shape == points.shape
    assert model.counter.evaluations() == (3, 5)
    torch.autograd.grad(output, points)
    assert model.counter.evaluations() == (6, 5)  # the second backward costs again, the forward does not

    copy.deepcopy(model)(x)
    assert model.counter.evaluations() == (6, 10)
    assert model.counter.largest == 5
    model.counter.reset()
    assert model.counter.evaluations() == (0, 0)


def test_counts_of_the_bare_loops(task):
    assert evaluations("floor", task) == (2 * 3 * 4, 0)
    assert evaluations("forwards", task) == (0, 2 * 12)
    assert task.model.counter.largest == 8


@pytest.mark.parametrize("name", ["eg", "captum-ig", "captum-ig-batch", "gradient-shap"])
def test_counts_of_the_averages_over_baselines(task, name):
    assert evaluations(name, task) == (2 * 3 * 4, 0)


@pytest.mark.parametrize("name", ["wg", "wg-keep", "wg-1"])
def test_counts_of_the_weighted_gradients(task, name):
    gradients, forwards = evaluations(name, task)
    assert gradients == 2 * 3 * (1 if name == "wg-1" else 4)
    assert 2 < forwards <= 2 * (3 * math.ceil(math.log2(PIXELS + 1)) + 1)


def test_screening_spends_the_steps_on_the_kept_baselines(task):
    gradients, _ = evaluations("wg-screened", task)
    # Two of three baselines; x counts once for all of them.
    assert SETTINGS.screening_steps == 2
    assert gradients == 2 * ((3 * 1 + 1) + (2 * 3 + 1))
    longer = replace(task, settings=replace(SETTINGS, n_steps=8))
    gradients, _ = evaluations("wg-screened", longer)
    assert gradients == 2 * ((3 * 1 + 1) + 2 * (8 - 2))
    assert replace(SETTINGS, n_steps=50).screening_steps == 5


def test_counts_of_the_measures(task):
    samples = 2 * 5
    assert evaluations("variance", task) == (samples, 0)
    assert evaluations("consistency", task) == (samples + 2, 0)
    assert evaluations("one-pass", task) == (samples + 2, 0)
    assert evaluations("gia-published", task) == (4 * samples + 2, 0)


def test_counts_of_the_deletion_metrics(task):
    assert evaluations("deletion", task) == evaluations("pixel-flipping", task) == (0, 2 * 12)


def test_captums_averages_are_expected_gradients(task):
    ours = ExpectedGradients(task.model).attribute(task.x, task.baselines, task.y, n_steps=4)
    for theirs in (peers.captum_looped, peers.captum_one_batch):
        torch.testing.assert_close(theirs(task.model, task.x, task.y, task.baselines, 4).float(), ours)


def test_the_published_algorithms_give_maps(task):
    weighted = peers.published_weighted_gradients(task.model, task.x, task.y, task.baselines[:1], 64)
    exact = ExpectedGradients(task.model).attribute(task.x, task.baselines[:1], task.y, n_steps=64)
    assert torch.corrcoef(torch.stack([weighted.flatten(), exact.flatten()]))[0, 1] > 0.98
    measures = peers.published_measures(task.model, task.x, task.y, task.baselines, 5, 4)
    assert all(m.shape == task.x.shape and torch.isfinite(m).all() for m in measures.values())
    assert measures["variance"].min() > -1e-6
    assert max(measures[name].abs().max() for name in ("stability", "consistency")) <= 1 + 1e-6


def test_the_whole_table(tmp_path, capsys):
    arguments = ["--model", "tiny", "--repeats", "2", "--no-memory", "--levels", "12", "--out", str(tmp_path)]
    assert speed.main(arguments) == 0
    full = pd.read_csv(tmp_path / "speed.csv", keep_default_na=False, na_values=[""])
    assert list(full["row"]) == [row.name for row in ROWS]
    shap_missing = full["note"].str.contains("shap is not installed", na=False)
    assert (full["repeats"][~shap_missing] == 2).all()
    assert (full["seconds"][~shap_missing] > 0).all()

    for _, line in full[full["peer"].notna() & ~shap_missing].iterrows():
        assert line["ratio_min"] <= line["ratio"] <= line["ratio_max"]
        own, theirs = (line["gradients"], line["forwards"]), (line["peer_gradients"], line["peer_forwards"])
        assert own == theirs or BY_NAME[line["row"]].differs

    by_row = full.set_index("row")
    parts = by_row.loc[list(BY_NAME["one-by-one"].parts)]
    assert by_row.loc["one-by-one", "gradients"] == parts["gradients"].sum()
    text = (tmp_path / "speed.md").read_text()
    assert "<= 1.05" in text and "floor (6 + 0)" in text
    assert "| one-pass" in capsys.readouterr().out


def test_a_failing_row_is_noted_and_the_others_go_on(task):
    def fail(task):
        raise RuntimeError("out of\nsomething")

    rows = [BY_NAME["floor"], Row("broken", "broken", fail, "floor"), BY_NAME["eg"]]
    results = speed.measure(rows, task, 2, with_memory=False, progress=False)
    assert results["broken"].note == "RuntimeError: out of something"
    assert not results["broken"].seconds
    assert len(results["eg"].seconds) == 2
    full = speed.table(rows, results, SETTINGS)
    assert math.isnan(full["ratio"][1]) and full["ratio"][2] > 0
    assert "out of something" in speed.readable(full).to_markdown()


def test_rows_come_with_what_they_are_compared_with():
    assert [row.name for row in workloads.choose(["pixel-flipping"])] == ["forwards", "deletion", "pixel-flipping"]
    assert [row.name for row in workloads.choose(["wg"])] == ["floor", "eg", "wg"]
    assert {"local-ig", "consistency"} <= {row.name for row in workloads.choose(["gia-published"])}
    assert workloads.choose(None) == list(ROWS)
    assert all(row.peer in BY_NAME for row in ROWS if row.peer)
    with pytest.raises(BenchmarkError, match="unknown row 'egg'"):
        workloads.choose(["egg"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--levels", "100"], "--levels 100 does not cut"), (["--rows", "egg"], "unknown row 'egg'")],
)
def test_settings_that_cannot_be_used(tmp_path, capsys, arguments, message):
    assert speed.main(["--model", "tiny", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_memory_is_that_of_a_process_of_its_own():
    assert 0 < resident("cpu") <= peak("cpu")
    ballast = np.ones(2**27)  # 1 GiB, which is not to be seen in the probe
    memory = in_fresh_process(workloads.probe, SETTINGS, "eg")
    assert 0 < memory.before <= memory.peak < ballast.nbytes
    with pytest.raises(KeyError, match="egg"):
        in_fresh_process(workloads.probe, SETTINGS, "egg")


def test_tenfold_compares_the_peaks(tmp_path, monkeypatch):
    asked = []

    def grows_with_the_baselines(work, settings, name):
        if name == "stability":
            raise MemoryError("none left")
        asked.append((name, settings.baselines * settings.n_steps, settings.n_samples))
        return Memory(peak=100 + settings.baselines, before=90)

    monkeypatch.setattr(speed, "in_fresh_process", grows_with_the_baselines)
    full = speed.tenfold([SETTINGS], tmp_path, progress=False)
    assert ("eg", 12, 12) in asked and ("eg", 120, 12) in asked and ("variance", 12, 120) in asked
    wide = full[full["tenfold"] == "baselines"]
    assert wide["ratio"].tolist() == [130 / 103] * 2
    assert full[full["tenfold"] == "n_steps"]["ratio"].tolist() == [1, 1]
    assert full["note"][full["row"] == "stability"].tolist() == ["MemoryError: none left"]
    assert (tmp_path / "tenfold.csv").is_file() and (tmp_path / "tenfold.md").is_file()


def test_precisions_are_compared_with_the_float32_map(task):
    def fail(model):
        raise RuntimeError("no compiler")

    forms = [form for form in precision.FORMS if form.name != "torch.compile"]
    forms.append(precision.Form("broken", fail))
    full = precision.compare(task.model.model, task.x, task.y, task.baselines, 4, 2, forms, progress=False).set_index(
        "form"
    )
    assert full.loc["floor (bare float32 loop)", "ratio"] == 1
    assert full.loc["float32", "rank correlation"] == pytest.approx(1)
    assert full.loc["BatchNorm folded", "rank correlation"] > 0.999
    assert full.loc["BatchNorm folded", "change"] == pytest.approx(0, abs=1e-3)
    assert 0.5 < full.loc["bfloat16 autocast", "rank correlation"] < 1
    assert full.loc["broken", "note"] == "RuntimeError: no compiler"
    assert math.isnan(full.loc["broken", "ratio"])


def test_the_heading_says_whether_bfloat16_is_emulated():
    assert precision.bfloat16("cuda") == ""
    assert precision.bfloat16("cpu") == "" or "bfloat16 instructions" in precision.bfloat16("cpu")
