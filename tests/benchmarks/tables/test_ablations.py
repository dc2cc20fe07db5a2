import numpy as np
import pandas as pd
import pytest

from benchmarks.experiment.settings import Experiment
from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import ablations


def rows_of(**settings):
    return ablations.rows(Experiment(model="", data="cifar10", **settings))


def of(rows, setting):
    return [row.method for row in rows if row.setting == setting]


def test_the_experiments_own_settings_have_no_row_of_their_own():
    rows = rows_of(n_baselines=3, n_steps=5, alpha=0.3, neutral="mean", ranking="absolute")
    assert of(rows, "ranking") == [f"{WG}(ranking=signed)"] and of(rows, "keep") == [f"{WG}(keep=1)"]
    assert of(rows, "removal") == [f"{WG}(neutral=corners)", f"{WG}(neutral=blur)"]
    assert of(rows, "alpha") == [f"{WG}(alpha=0.5)", f"{WG}(alpha=0.7)"]
    points = ("n_random=1", "n_steps=20", "n_steps=50")
    assert of(rows, "points") == [f"{WG}({words})" for words in points]
    assert of(rows, "points of EG") == [f"{EG}({words})" for words in points]
    assert len(of(rows, "all of it")) == 1 and len(rows_of(n_baselines=6)) > len(rows)


@pytest.mark.parametrize("settings", [{}, {"n_baselines": 3, "n_steps": 5, "ranking": "absolute"}])
def test_rows_are_named_as_the_registry_names_them(settings):
    experiment = Experiment(model="", data="cifar10", **settings)
    for row in ablations.rows(experiment):
        for name in row[1:]:
            assert experiment.method(name).name == name


def test_rows_of_points_are_compared_with_expected_gradients_of_the_same_points():
    for row in rows_of(n_baselines=10, n_steps=50):
        points = row.method.removeprefix(WG) if row.setting == "points" else ""
        assert row.reference == EG + points


def test_the_judges_of_rankings_see_the_rows_of_rankings_alone():
    rows = rows_of(n_baselines=3, n_steps=5)
    pairs = ablations.judged(rows, ["InsertionAUC"])
    assert len(set(pairs)) == len(pairs)
    assert {name for name, judge in pairs if judge == "InsertionAUC"} == {name for row in rows for name in row[1:]}
    for judge in ablations.RANKED:
        assert {name for name, by in pairs if by == judge} == {EG, WG, f"{WG}(ranking=absolute)"}


def test_a_line_for_each_row_in_their_order_and_a_column_for_each_judge():
    rows = [ablations.Row("norm", EG, WG), ablations.Row("keep", EG, f"{WG}(keep=1)")]
    generator = np.random.default_rng(0)
    factors = {EG: 1.0, WG: 0.8, f"{WG}(keep=1)": 1.0}
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
    assert table["setting"].tolist() == ["norm", "keep"] * 2
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ablations.text(table).splitlines()]
    assert cells[0] == ["model", "setting", "method", "reference", "n", "InsertionAUC", "DeletionAUC"]
    assert [row[1:5] for row in cells[2:]] == [["norm", WG, EG, "7"], ["keep", f"{WG}(keep=1)", EG, "8"]]
    first = table.iloc[0]
    assert first["improvement"] == pytest.approx(-0.2, abs=0.02) and first["t_holm"] < 0.05
    assert cells[2][5].startswith("-") and cells[2][5].endswith("*") and cells[2][6].startswith("+")
    assert not cells[3][5].endswith("*")
