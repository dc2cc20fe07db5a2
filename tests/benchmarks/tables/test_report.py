import os
import time
from dataclasses import replace

import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.methods.weightings import EG, WG
from benchmarks.run.errors import BenchmarkError
from benchmarks.tables import ablations, removal, report
from captum_wg.report import from_json, html

TABLES = {"one": pd.DataFrame({"a": [1.5], "b": ["x, y"]}), "two": pd.DataFrame({"a": []})}


def write(folder, text="text ±\n"):
    return report.write(folder / "report.md", text, TABLES, {"figure": Figure(figsize=(1, 1))})


def test_a_report_is_its_text_its_tables_and_its_figures(tmp_path):
    write(tmp_path / "new")
    names = {path.name for path in (tmp_path / "new").iterdir()}
    assert names == {"report.md", "one.csv", "two.csv", "figure.png"}
    assert (tmp_path / "new" / "report.md").read_text(encoding="utf-8") == "text ±\n"
    assert (tmp_path / "new" / "one.csv").read_text() == 'a,b\n1.5,"x, y"\n'
    assert (tmp_path / "new" / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_same_results_give_the_same_bytes(tmp_path):
    for folder in ("first", "second"):
        write(tmp_path / folder)
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()


@pytest.mark.parametrize("writer", ["atomic_file", "write_atomically"])
def test_a_disk_that_fills_up_leaves_no_text_of_older_tables(writer, tmp_path, monkeypatch):
    write(tmp_path)

    def full(path, *content):
        raise BenchmarkError(f"{path} could not be written: the disk is full")

    monkeypatch.setattr(report, writer, full)
    with pytest.raises(BenchmarkError, match="the disk is full"):
        write(tmp_path)
    assert (tmp_path / "one.csv").is_file() and not (tmp_path / "report.md").exists()


def test_what_a_killed_report_left_goes_after_a_while(tmp_path):
    old, new, foreign = (tmp_path / name for name in ("report.md12345678.part", "figure.pngabcdefgh.part", "film.part"))
    for path in (old, new, foreign):
        path.write_bytes(b"half")
    for path in (old, foreign):
        os.utime(path, (time.time() - 1e5,) * 2)
    write(tmp_path)
    assert not old.exists() and new.exists() and foreign.exists()


def test_the_attribution_table(make, drawn_by, tmp_path):
    half = f"{WG}(keep=0.5)"
    judges = ["DeletionAUC", "InsertionAUC", "Sparseness-1ch"]
    results = make([EG, WG, half, "Random"], judges, 10, drawn=drawn_by([EG, WG]))
    text = report.attribution(tmp_path, results, "python -m x --seed 3", lines=["Only 10 images."])
    assert (tmp_path / "table.md").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {
        *("table.md", "table.csv", "paired.csv", "scores.csv", "maps.png", "report.html", "report.json")
    }
    assert text.startswith(
        "# Attribution table: noise\n\nnet on noise: n = 10 of 10 tried. 10 baselines (references) x 50"
    )
    assert "\n\n    python -m x --seed 3\n\nOnly 10 images.\n\n| method" in text and "seed 3." in text
    paired = pd.read_csv(tmp_path / "paired.csv")
    assert paired[["judge", "method", "reference", "n"]].values.tolist() == [
        [judge, method, EG, 10] for judge in ("DeletionAUC", "InsertionAUC") for method in (WG, half)
    ]
    means = results.scores.groupby(["judge", "method"], observed=True)["score"].mean()
    change = 1 - means["DeletionAUC", WG] / means["DeletionAUC", EG]
    assert paired["improvement"][0] == pytest.approx(change) and f"{change:+.1%}" in text
    assert "| net" not in text  # the only model needs no column
    scores = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert scores["score"].tolist() == pytest.approx(results.scores["score"].tolist())
    assert set(scores["data"]) == {"noise"} and set(scores["seed"]) == {3}


def test_few_images_are_compared_in_a_file_of_their_own(make, tmp_path):
    text = report.attribution(tmp_path, make(images=9), "")
    assert len(pd.read_csv(tmp_path / "paired.csv")) == 2 and "Improvement" not in text
    assert f"paired.csv compares weightings with {EG} image by image" in text and "## Against" not in text


def test_without_a_weighting_nothing_is_compared(make, tmp_path):
    text = report.attribution(tmp_path, make(["Saliency", "Random"]), "")
    assert "paired" not in text and not len(pd.read_csv(tmp_path / "paired.csv"))


def test_a_picture_that_cannot_be_drawn_is_a_note(make, tmp_path):
    def fail():
        raise ValueError("no\nroom")

    text = report.attribution(tmp_path, make(), "", more={"picture": fail, "other": lambda: Figure(figsize=(1, 1))})
    assert "- picture.png could not be drawn: ValueError: no room" in text
    assert not (tmp_path / "picture.png").exists() and (tmp_path / "other.png").exists()


@pytest.mark.parametrize(
    "radius, more", [(None, ", a tenth of the median distance between an image and a baseline"), (2.0, "")]
)
def test_the_heading_names_the_local_radius_where_rows_need_one(radius, more, make):
    results = make()
    (model,) = results.models
    model = replace(model, radius=1.5, experiment=replace(model.experiment, radius=radius))
    text = report.heading(replace(results, models=(model,)), "command")
    assert f" Local radius 1.5{more} (normalised units).\n\n    command" in text
    assert "radius" not in report.heading(results, "command")


def test_the_tables_of_weighted_gradients(make, drawn_by, tmp_path):
    names = [*removal.methods(10).values(), "Random", f"{WG}(power=2)"]
    drawn = drawn_by([EG, WG, "Random"])
    results = make(names, ["DeletionAUC", "InsertionAUC"], drawn=drawn)
    rows = [ablations.Row("WG itself", EG, WG), ablations.Row("power", EG, f"{WG}(power=2)")]
    text = report.weighted_gradients(tmp_path, results, "command", keep=5, controls=["Random"], settings=rows)
    assert (tmp_path / "tables.md").read_text() == text
    assert {path.name for path in tmp_path.iterdir()} == {
        *(
            "tables.md",
            "table1.csv",
            "table2.csv",
            "table3.csv",
            "figure2.csv",
            "scores.csv",
            "figure1.png",
            "figure2.png",
            "report.html",
            "report.json",
        )
    }
    tables = {name: pd.read_csv(tmp_path / f"{name}.csv") for name in ("table1", "table2", "table3", "figure2")}
    assert tables["table1"]["method"].tolist() == [WG, "Random"] * 2 and set(tables["table1"]["reference"]) == {EG}
    assert tables["table2"][["reference", "method"]].values.tolist() == [[WG, f"{WG}(keep=5)"]] * 2
    assert tables["table3"]["setting"].tolist() == ["WG itself", "power"] * 2
    assert tables["figure2"]["removed"].tolist() == [-1, 0, 1, 2, 3, 4, 5]
    assert all((table["data"] == "noise").all() and (table["seed"] == 3).all() for table in tables.values())
    assert "## Table 3" in text and "the 5 fittest of 10 baselines" in text
    # What is said of rows is of Table 1's.
    assert f"D_alpha of {WG}: deletion" in text and text.count("D_alpha of") == 1
    report.weighted_gradients(tmp_path / "less", results, "command", keep=5, controls=[])
    assert not (tmp_path / "less" / "table3.csv").exists()


def test_the_page_goes_with_its_run(make, drawn_by, tmp_path, monkeypatch, capsys):
    report.attribution(tmp_path, make([EG, WG], images=2, drawn=drawn_by([EG, WG])), "a command")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "a command" in page and "D_alpha of" in page and page.count('class="map"') == 2 * 2 * 4
    assert "".join(html(from_json((tmp_path / "report.json").read_text(encoding="utf-8")))) == page

    def fail(of):
        raise ImportError("needs the package jinja2")

    # Without it the tables are written, and no page of older ones is left.
    monkeypatch.setattr(report, "html", fail)
    report.attribution(tmp_path, make([EG, WG], images=3), "another")
    assert "report.html was not written: ImportError: needs the package jinja2" in capsys.readouterr().err
    assert not (tmp_path / "report.html").exists() and "another" in (tmp_path / "report.json").read_text()


def test_the_same_results_give_the_same_page(make, drawn_by, tmp_path):
    for folder in ("a", "b"):
        report.attribution(tmp_path / folder, make([EG, WG], drawn=drawn_by([EG, WG])), "")
    assert (tmp_path / "a" / "report.html").read_bytes() == (tmp_path / "b" / "report.html").read_bytes()


def test_the_page_of_weighted_gradients_has_its_tables_and_curves(make, tmp_path):
    names = [*removal.methods(10).values(), "Random", f"{WG}(power=2)"]
    results = make(names, ["DeletionAUC", "InsertionAUC"])
    rows = [ablations.Row("power", EG, f"{WG}(power=2)")]
    report.weighted_gradients(tmp_path, results, "command", keep=5, controls=["Random"], settings=rows)
    made = from_json((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [table.title[:7] for table in made.tables] == ["net: me", "Table 1", "Table 2", "Table 3"]
    assert [row[0].text for row in made.tables[0].rows] == [EG, WG, removal.kept(5), "Random"]
    (chart,) = made.charts
    own, equal = chart.lines
    assert own.x == (0, 1, 2, 3, 4, 5) and all(
        low < y < high for low, y, high in zip(own.low, own.y, own.high, strict=True)
    )
    assert equal.x == (0, 5) and equal.y[0] == equal.y[1]
