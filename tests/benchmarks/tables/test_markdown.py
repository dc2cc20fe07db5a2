import math

import pandas as pd
import pytest

from benchmarks.tables import markdown
from benchmarks.tables.comparison import COLUMNS

NAN = math.nan


def test_text_of_a_table_is_left_as_it_is():
    frame = pd.DataFrame({"name": ["1.50", "b"], "n": [3, 10], "x": [0.12345, NAN]})
    lines = markdown.table(frame, "{:.2g}").splitlines()
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in (lines[0], *lines[2:])] == [
        ["name", "n", "x"],
        ["1.50", "3", "0.12"],
        ["b", "10", "nan"],
    ]


def test_documents_have_a_line_between_blocks_and_no_empty_ones():
    assert markdown.document(["# A", "", markdown.bullets(["one", "two"])]) == "# A\n\nNotes:\n\n- one\n- two\n"


@pytest.mark.parametrize(
    "text, expected",
    [
        (markdown.percent(0.1234), "+12.3%"),
        (markdown.percent(-0.0), "+0.0%"),
        (markdown.percent(NAN), "-"),
        (markdown.p_value(0.000123), "0.00012"),
        (markdown.p_value(NAN), "-"),
        (markdown.interval(-0.1, 0.25), "-10.0% ... +25.0%"),
        (markdown.interval(-0.1, 0.25, "{:+.2f}".format), "-0.10 ... +0.25"),
        (markdown.interval(NAN, NAN), "-"),
        (markdown.mean_and_deviation(0.5, 0.25), "0.5000 ± 0.2500"),
        (markdown.mean_and_deviation(0.5, NAN, digits=2), "0.50"),
        (markdown.mean_and_deviation(NAN, NAN), "-"),
    ],
)
def test_numbers(text, expected):
    assert text == expected


def test_a_comparison_says_which_direction_is_better():
    numbers = (7, 0.5, 0.1, 0.4, 0.2, 0.2, 0.1, 0.3, 0.01, 0.02, 0.015625, 0.03125)
    found = pd.DataFrame(
        [("net", "DeletionAUC", "WG", "EG", *numbers), ("net", "InsertionAUC", "WG", "EG", *numbers[:6], *[NAN] * 6)],
        columns=list(COLUMNS),
    )
    text = markdown.comparison(found, {"DeletionAUC": False, "InsertionAUC": True}, ["reference"], drop=["model"])
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert rows[0] == [
        *("judge", "reference", "method", "n", "against", "method's", "improvement", "95 % interval"),
        *("p (t)", "Holm (t)", "p (Wilcoxon)", "Holm (Wilcoxon)"),
    ]
    both = ["7", "0.5000 ± 0.1000", "0.4000 ± 0.2000", "+20.0%"]
    assert rows[2] == ["DeletionAUC ↓", "EG", "WG", *both, "+10.0% ... +30.0%", "0.01", "0.02", "0.016", "0.031"]
    assert rows[3] == ["InsertionAUC ↑", "EG", "WG", *both, *"-----"]
    assert markdown.comparison(found[:0], {}) == "Nothing to compare."
