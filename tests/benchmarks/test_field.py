import pandas as pd
import pytest

from benchmarks import field
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES
from benchmarks.methods.of_recipes import row_of
from benchmarks.tables.field import CORRELATIONS, DELETION, INSERTION
from benchmarks.tables.field import JUDGES as COLUMNS
from captum_wg.recipes import RECIPES
from captum_wg.recipes.known import FIGURES


def test_all_rows_and_columns_are_known():
    experiment = Experiment(model="m", data="cifar10", n_baselines=100)
    names = [*field.OURS, *field.OTHERS, *field.SMOOTHED, *field.CONTROLS, *field.DEAR]
    assert [row.name for row in experiment.methods(names)] == names
    assert {name for line in field.LINES.values() for name in line} <= {*names}
    assert set(COLUMNS) <= set(JUDGES)
    # Nothing among the columns is what weights are fitted to by default.
    assert not any(JUDGES[name].works_by == ("deletion", "corners") for name in COLUMNS)


def test_the_field_end_to_end(tmp_path, folder, capsys):
    out = tmp_path / "out"
    rows = ["ExpectedGradients(n_steps=1, pool=3)", "PatchCorrected(n_steps=1, pool=2, patches=4)", "Random"]
    arguments = [*folder, "--n-baselines", "3", "--levels", "4", "--chunk", "2", "--images", "3", "--methods", *rows]
    assert field.main([*arguments, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "# The field" in printed and printed.count("PatchCorrected(n_steps=1, pool=2, patches=4)") >= 2
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == [
        *("field.csv", "field.md", "price.png", "report.html", "report.json", "scores.csv")
    ]
    table = pd.read_csv(out / "field.csv")
    assert set(table["method"]) == set(rows) and {"D", "I", "I - D", "blocks", "corr"} <= set(table["column"])
    costs = table.groupby("method")[["gradients", "forwards"]].first()
    assert costs.loc[rows[0], "gradients"] == 3 and costs.loc[rows[1], "gradients"] == 2
    assert costs.loc[rows[1], "forwards"] >= 17  # 16 patches and the image itself
    # What recipes reached, in the form of the package's own figures.
    few = [
        "--baselines",
        "uniform",
        "--n-baselines",
        "20",
        "--recipes",
        "20",
        "--only",
        "--judges",
        *CORRELATIONS,
        *DELETION,
        *INSERTION,
    ]
    assert field.main([*arguments, *few, "--out", str(tmp_path / "recipes")]) == 0
    found = pd.read_csv(tmp_path / "recipes" / "recipes.csv")
    assert list(found.columns) == list(pd.read_csv(FIGURES).columns)
    # This network has operations that DeepLift has no rule for.
    assert found["name"].tolist() == [one.name for one in RECIPES[20] if one.method != "DeepLift"]
    assert (found["n"] == 3).all()
    scores = pd.read_csv(tmp_path / "recipes" / "scores.csv")
    first = scores[(scores["method"] == row_of(RECIPES[20][0])) & scores["judge"].isin(DELETION)]
    assert found["D"][0] == pytest.approx(first["score"].mean(), abs=6e-4)
    # The columns of --judges alone, without a figure of what is not there.
    more = ["--only", "--judges", "Sparseness-1ch"]
    assert field.main([*arguments, *more, "--out", str(tmp_path / "only")]) == 0
    assert set(pd.read_csv(tmp_path / "only" / "field.csv")["column"]) == {"Sparseness-1ch"}
    assert not (tmp_path / "only" / "price.png").exists()
