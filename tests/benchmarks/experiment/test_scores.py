import numpy as np
import pandas as pd
import pytest

from benchmarks.experiment.scores import COLUMNS, TEXT, joined, with_constants


def table(images, scores, problems=None, **same):
    found = pd.DataFrame({"image": images, "score": scores, "problem": problems or [""] * len(images)})
    return with_constants(found, **{"model": "net", "judge": "DeletionAUC", "method": "EG", **same})


def plain(scores):
    return scores.astype({name: object for name in TEXT})


def test_joined_tables_hold_what_the_single_ones_did():
    tables = [
        table(["b", "a"], [0.5, np.nan], ["", "no mask"]),
        table(["b", "a"], [0.25, 1.0], method="WG"),
        table(["c"], [0.125], ["another"], model="other", judge="InsertionAUC"),
    ]
    expected = pd.concat([plain(one)[list(COLUMNS)] for one in tables], ignore_index=True)
    # Joined in one go or in parts, as categories or as text.
    for found in (joined(tables), joined([joined(tables[:2]), joined(tables[2:])]), joined(map(plain, tables))):
        pd.testing.assert_frame_equal(plain(found), expected, check_exact=True)
        assert all(isinstance(found[name].dtype, pd.CategoricalDtype) for name in TEXT)


def test_a_missing_text_stays_missing():
    found = joined([table(["a", "b", "c"], [1.0, 2.0, 3.0], ["", None, "x"]), table(["d"], [4.0], ["y"])])
    assert found["problem"].isna().tolist() == [False, True, False, False]
    assert found["problem"].dropna().tolist() == ["", "x", "y"]


@pytest.mark.parametrize("tables", [[], [table([], [])]])
def test_nothing_joined_has_the_columns_all_the_same(tables):
    found = joined(tables)
    assert list(found.columns) == list(COLUMNS) and len(found) == 0
    assert not (found["problem"] != "").any()


def test_a_row_takes_a_few_bytes():
    images = [f"image {i}" for i in range(1000)]
    found = joined(table(images, np.zeros(1000), method=f"method {i}") for i in range(50))
    names = sum(found[name].cat.categories.memory_usage(deep=True) for name in TEXT)
    # A score of 8 bytes, and the codes: 2 of a thousand images, 1 of anything else.
    assert found.memory_usage(deep=True, index=False).sum() - names <= 14 * 50_000 + 10_000


def test_constants_are_written_as_they_are():
    text = with_constants(pd.DataFrame({"a": [1, 2]}), data="x, y", seed=3).to_csv(index=False)
    assert text == 'a,data,seed\n1,"x, y",3\n2,"x, y",3\n'
