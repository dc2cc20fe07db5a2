import numpy as np
import pandas as pd
import pytest

from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import removal
from benchmarks.tables.comparison import mean_interval
from benchmarks.tables.removal import kept


@pytest.fixture
def scores():
    generator = np.random.default_rng(0)
    rows = [
        (model, "DeletionAUC", method, f"{i}", generator.random())
        for model in ("one", "two")
        for method in (EG, WG, kept(1), kept(2), "Random")
        for i in range(6)
    ]
    found = pd.DataFrame(rows, columns=["model", "judge", "method", "image", "score"])
    found.loc[(found["model"] == "two") & (found["method"] == kept(1)), "score"] = [0.5, *[np.nan] * 5]
    return found


def test_curves_are_means_with_their_intervals(scores):
    curves = removal.curves(scores, ["DeletionAUC", "ROAD"], 3, seed=1)
    assert curves[["model", "removed"]].values.tolist() == [[m, r] for m in ("one", "two") for r in (-1, 0, 1, 2)]
    for row in curves[curves["model"] == "one"].itertuples():
        method = {-1: EG, 0: WG, 1: kept(2), 2: kept(1)}[row.removed]
        values = scores[(scores["model"] == "one") & (scores["method"] == method)]["score"].to_numpy()
        assert (row.n, row.mean, row.std) == (6, pytest.approx(values.mean()), pytest.approx(values.std(ddof=1)))
        assert (row.low, row.high) == mean_interval(values, 1)
    last = curves.iloc[-1]
    assert (last["n"], last["mean"]) == (1, 0.5) and np.isnan(last["std"])


def test_at_most_five_baselines_are_removed():
    assert removal.methods(3) == {-1: EG, 0: WG, 1: kept(2), 2: kept(1)}
    assert list(removal.methods(10).values()) == [EG, WG, *(kept(n) for n in (9, 8, 7, 6, 5))]
    assert removal.methods(1) == {-1: EG, 0: WG}


def test_the_text_has_a_column_for_each_number_and_the_fewest_images(scores):
    lines = removal.text(removal.curves(scores, ["DeletionAUC"], 3, seed=0)).splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert cells[0] == ["model", "judge", "n", EG, WG, "-1", "-2"]
    assert [row[:3] for row in cells[2:]] == [["one", "DeletionAUC", "6"], ["two", "DeletionAUC", "1"]]
    assert cells[3][-1] == "0.5000"
    assert removal.text(removal.curves(scores, [], 3, seed=0)) == "No deletion judge was asked for."


def test_a_panel_for_each_judge_and_a_line_for_each_model(scores):
    curves = removal.curves(scores, ["DeletionAUC"], 3, seed=0)
    both = pd.concat([curves, curves.assign(judge="ROAD")])
    panels = removal.draw(both).axes
    assert [axes.get_title() for axes in panels] == ["DeletionAUC (lower is better)", "ROAD (lower is better)"]
    line = panels[0].containers[0].lines[0]
    assert line.get_xdata().tolist() == [0, 1, 2]
    assert line.get_ydata().tolist() == curves[(curves["model"] == "one") & (curves["removed"] >= 0)]["mean"].tolist()
    assert len(panels[0].containers) == 2 and panels[0].get_xticks().tolist() == [0, 1, 2]
    assert len(removal.draw(curves[:0]).axes) == 1
