import numpy as np
import pandas as pd
import pytest

from benchmarks.tables import ablations
from benchmarks.wg_methods import EG, WG


def test_the_experiments_own_settings_have_no_row_of_their_own():
    rows = ablations.rows(3, 5, alpha=0.3, neutral="mean", ranking="absolute")
    of = {setting: [row.method for row in rows if row.setting == setting] for setting in {row.setting for row in rows}}
    assert of["ranking"] == [f"{WG}-signed"] and of["keep"] == [f"{WG}-keep1"]
    assert of["removal"] == [f"{WG}-neutral=corners", f"{WG}-neutral=blur"]
    assert of["alpha"] == [f"{WG}-alpha0.5", f"{WG}-alpha0.7"]
    assert of["points"] == [f"{WG}-{points}" for points in ("random1", "steps20", "steps50")]
    assert of["points of EG"] == [f"{EG}-{points}" for points in ("random1", "steps20", "steps50")]
    assert len(of["all of it"]) == 1 and len(ablations.rows(6, 5)) > len(rows)


def test_rows_of_points_are_compared_with_expected_gradients_of_the_same_points():
    for row in ablations.rows(10, 50):
        points = row.method.partition("-")[2] if row.setting == "points" else ""
        assert row.reference == "-".join(filter(None, [EG, points]))


def test_the_judges_of_rankings_see_the_rows_of_rankings_alone():
    rows = ablations.rows(3, 5)
    pairs = ablations.judged(rows, ["InsertionAUC"])
    assert len(set(pairs)) == len(pairs)
    assert {name for name, judge in pairs if judge == "InsertionAUC"} == {name for row in rows for name in row[1:]}
    for judge in ablations.RANKED:
        assert {name for name, by in pairs if by == judge} == {EG, WG, f"{WG}-absolute"}


def test_a_line_for_each_row_in_their_order_and_a_column_for_each_judge():
    rows = [ablations.Row("WG itself", EG, WG), ablations.Row("keep", EG, f"{WG}-keep1")]
    generator = np.random.default_rng(0)
    factors = {EG: 1.0, WG: 0.8, f"{WG}-keep1": 1.0}
    scores = pd.DataFrame(
        [
            ("net", judge, method, f"{i}", factor * (1 + i) + generator.normal(0, 0.02))
            for judge in ("InsertionAUC", "DeletionAUC")
            for method, factor in factors.items()
            for i in range(8)
        ],
        columns=["model", "judge", "method", "image", "score"],
    )
    scores.loc[(scores["judge"] == "DeletionAUC") & (scores["method"] == WG) & (scores["image"] == "3"), "score"] = (
        np.nan
    )
    table = ablations.table(scores, rows, {"InsertionAUC": True, "DeletionAUC": False}, seed=0)
    assert table["setting"].tolist() == ["WG itself", "keep"] * 2
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ablations.text(table).splitlines()]
    assert cells[0] == ["model", "setting", "method", "reference", "n", "InsertionAUC", "DeletionAUC"]
    assert [row[1:5] for row in cells[2:]] == [["WG itself", WG, EG, "7"], ["keep", f"{WG}-keep1", EG, "8"]]
    first = table.iloc[0]
    assert first["improvement"] == pytest.approx(-0.2, abs=0.02) and first["t_holm"] < 0.05
    assert cells[2][5].startswith("-") and cells[2][5].endswith("*") and cells[2][6].startswith("+")
    assert not cells[3][5].endswith("*")
