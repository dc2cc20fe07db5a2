from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import means


def cells(block):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines() if "--" not in line]


def test_the_table_holds_mean_and_deviation_of_the_scores(make, fail):
    results = fail(make(), "ValueError: no map", f"method == '{WG}' and image == '01.png' and judge == 'DeletionAUC'")
    table = means.table(results).set_index("method")
    scores = results.scores.astype({"method": str, "judge": str})
    for method, n in ((EG, 4), (WG, 3)):
        found = scores.query(f"method == '{method}' and judge == 'DeletionAUC'")["score"].dropna()
        assert table.loc[method, "DeletionAUC mean"] == pytest.approx(sum(found) / n)
        assert table.loc[method, "DeletionAUC std"] == pytest.approx(np.std(found, ddof=1))
        assert table.loc[method, "DeletionAUC n"] == n
    assert table["without scores"].tolist() == ["", "DeletionAUC: no score for 1 images (ValueError: no map).", ""]
    assert table["group"].tolist() == ["ours", "ours", "control"] and (table["channels"] == 1).all()
    (block,) = means.text(results, means.table(results))
    rows = cells(block)
    assert rows[0] == ["method", "DeletionAUC ↓", "InsertionAUC ↑"]
    mean, std = (table.loc[EG, f"InsertionAUC {what}"] for what in ("mean", "std"))
    assert rows[1][2] == f"{mean:.3f} ± {std:.3f}"


def test_a_row_without_scores_has_dashes_and_its_reason(make, fail):
    results = fail(make(), "RuntimeError: this one fails", "method == 'Random'")
    left_out = {(WG, "InsertionAUC"): "left out: too slow"}
    results = replace(results, models=(replace(results.models[0], left_out=left_out),))
    table = means.table(results)
    assert table["DeletionAUC n"].tolist() == [4, 4, 0]
    assert "InsertionAUC: left out: too slow." in table["without scores"][1]
    assert (
        table["without scores"][2] == "DeletionAUC, InsertionAUC: no score for 4 images (RuntimeError: this one fails)."
    )
    (block,) = means.text(results, table)
    assert cells(block)[3] == ["Random", "-", "-"]


def test_what_a_map_costs(make):
    costs = pd.DataFrame({"seconds": [0.5], "gradients": [30.0], "forwards": [np.nan]}, index=[EG])
    results = make([EG, "Random"], costs=costs)
    table = means.table(results)
    assert table["gradients"].tolist()[0] == 30 and table["gradients"].isna()[1]
    (block,) = means.text(results, table)
    # No column of what is known of no row.
    assert cells(block)[0][3:] == ["seconds", "gradients"]
    assert [row[3:] for row in cells(block)[1:]] == [["0.500", "30"], ["-", "-"]]


def test_many_columns_stand_in_blocks(make):
    names = [*(f"DeletionAUC{way}" for way in ("", "-blur", "-mean", "-noise", "-zero")), "ROAD", "InsertionAUC"]
    blocks = means.text(results := make(judges=names), means.table(results))
    assert [len(cells(block)[0]) for block in blocks] == [7, 2]
    assert all(cells(block)[0][0] == "method" for block in blocks)


def test_several_models_have_their_own_rows(make):
    one, two = make(), make(model="other", images=2)
    results = replace(one, models=(*one.models, *two.models))
    table = means.table(results)
    assert (
        table["model"].tolist() == ["net"] * 3 + ["other"] * 3 and table["DeletionAUC n"].tolist() == [4] * 3 + [2] * 3
    )
    assert cells(means.text(results, table)[0])[0][:2] == ["model", "method"]
