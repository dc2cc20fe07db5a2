import re

import pytest

from benchmarks.judges.columns import JUDGES, choose, usual
from benchmarks.run.errors import BenchmarkError


def names(*asked, **options):
    return [judge.name for judge in choose(asked, **options)]


def test_the_usual_columns_are_those_that_are_not_slow():
    assert usual(masks=False) == [
        "DeletionAUC",
        "DeletionAUC-blur",
        "DeletionAUC-mean",
        "DeletionAUC-noise",
        "InsertionAUC",
        "InsertionAUC-blur",
        "InsertionAUC-noise",
    ]
    assert usual(masks=True) == [*usual(masks=False), "OverlapAUC"]


def test_columns_are_chosen_with_and_without_the_form_of_the_maps_in_the_tables_order():
    assert names("Complexity-3ch", "PixelFlipping") == ["PixelFlipping-1ch", "PixelFlipping-3ch", "Complexity-3ch"]
    assert names("ROAD", "DeletionAUC") == ["DeletionAUC", "ROAD"]
    assert names("OverlapAUC", masks=True) == ["OverlapAUC"]


def test_columns_that_there_are_not():
    with pytest.raises(BenchmarkError, match=r"unknown metric 'AUC'; known are PixelFlipping, .*Complexity-3ch"):
        names("AUC", option="--metrics")
    with pytest.raises(BenchmarkError, match="unknown judge 'Road'; known are"):
        names("Road")
    with pytest.raises(BenchmarkError, match="OverlapAUC needs masks: --data coco, or --masks"):
        names("OverlapAUC")


def test_notes_say_the_size_of_the_maps():
    assert "Complexity-1ch is at most ln 1024 = 6.93." in JUDGES["Complexity-1ch"].notes_for((3, 32, 32))
    assert "Complexity-3ch is at most ln 3072 = 8.03." in JUDGES["Complexity-3ch"].notes_for((3, 32, 32))
    assert JUDGES["DeletionAUC"].arrow == "↓" and JUDGES["InsertionAUC"].arrow == "↑"
    for judge in JUDGES.values():
        notes = judge.notes_for((3, 8, 8))
        assert all("{" not in note for note in notes)
        # Of itself alone: a note on a column that is not in the table says nothing.
        others = {other.name for other in JUDGES.values()} - {judge.name, judge.metric}
        assert not any(re.search(rf"\b{re.escape(other)}\b(?!-)", note) for other in others for note in notes)
