import math

import pandas as pd
import pytest

from benchmarks.cost import __main__ as cost
from benchmarks.cost.memory import Memory
from benchmarks.cost.workloads import BY_NAME, MEASURES, ROWS, Row


def test_the_whole_table(tmp_path, capsys):
    arguments = ["--model", "tiny", "--repeats", "2", "--no-memory", "--levels", "12", "--out", str(tmp_path)]
    assert cost.main(arguments) == 0
    full = pd.read_csv(tmp_path / "cost.csv", keep_default_na=False, na_values=[""])
    assert list(full["row"]) == [row.name for row in ROWS]
    shap_missing = full["note"].str.contains("shap is not installed", na=False)
    assert (full["repeats"][~shap_missing] == 2).all()
    assert (full["seconds"][~shap_missing] > 0).all()

    for _, line in full[full["peer"].notna() & ~shap_missing].iterrows():
        assert line["ratio_min"] <= line["ratio"] <= line["ratio_max"]
        own, theirs = (line["gradients"], line["forwards"]), (line["peer_gradients"], line["peer_forwards"])
        # But for what a row says of itself, only the forwards that ask the model differ: 15 of each map, or of four.
        assert BY_NAME[line["row"]].differs or (own[0] == theirs[0] and abs(own[1] - theirs[1]) <= 4 * 15)

    by_row = full.set_index("row")
    parts = by_row.loc[list(MEASURES)]
    assert by_row.loc["one-by-one", "gradients"] == parts["gradients"].sum()
    text = (tmp_path / "cost.md").read_text()
    assert "floor (6 + 0)" in text and "- eg: ExpectedGradients." in text
    assert "| one-pass" in capsys.readouterr().out


def test_a_failing_row_is_noted_and_the_others_go_on(task):
    def fail(task):
        raise RuntimeError("out of\nsomething")

    rows = [BY_NAME["floor"], Row("broken", "broken", fail, "floor"), BY_NAME["eg"]]
    results = cost.measure(rows, task, 2, with_memory=False)
    assert results["broken"].note == "RuntimeError: out of something"
    assert not results["broken"].seconds
    assert len(results["eg"].seconds) == 2
    full = cost.table(rows, results, task.settings)
    assert math.isnan(full["ratio"][1]) and full["ratio"][2] > 0
    assert "out of something" in cost.readable(full)["note"].str.cat()


def test_a_row_that_only_its_memory_fails_keeps_its_times(task, monkeypatch):
    def fail(*arguments):
        raise MemoryError("none left")

    monkeypatch.setattr(cost, "in_fresh_process", fail)
    results = cost.measure([BY_NAME["floor"]], task, 2, with_memory=True)
    assert len(results["floor"].seconds) == 2
    assert results["floor"].note == "memory: MemoryError: none left"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--levels", "100"], "--levels 100 does not cut"), (["--rows", "egg"], "unknown row 'egg'")],
)
def test_settings_that_cannot_be_used(tmp_path, capsys, arguments, message):
    assert cost.main(["--model", "tiny", "--out", str(tmp_path), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_tenfold_compares_the_peaks(settings, tmp_path, monkeypatch, capsys):
    asked = []

    def grows_with_the_baselines(work, of, name):
        if name == "stability":
            raise MemoryError("none left")
        asked.append((name, of.baselines * of.n_steps, of.n_samples))
        return Memory(peak=100 + of.baselines, before=90)

    monkeypatch.setattr(cost, "in_fresh_process", grows_with_the_baselines)
    full = cost.tenfold(settings)
    assert ("eg", 12, 12) in asked and ("eg", 120, 12) in asked and ("variance", 12, 120) in asked
    wide = full[full["tenfold"] == "baselines"]
    assert wide["ratio"].tolist() == [130 / 103] * 2
    assert full[full["tenfold"] == "n_steps"]["ratio"].tolist() == [1, 1]
    assert full["note"][full["row"] == "stability"].tolist() == ["MemoryError: none left"]
    assert cost.main(["--model", "tiny", "--tenfold", "--out", str(tmp_path)]) == 0
    assert "| stability" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {*("tenfold.csv", "tenfold.md", "report.html", "report.json")}
