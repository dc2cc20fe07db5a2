import json
from pathlib import Path

import pytest

from captum_wg.report import NAME, Report, from_json, read


def test_json_gives_back_the_same_report(report: Report) -> None:
    again = from_json(report.to_json())
    assert again == report and again.examples[0].baselines[1].distance == 9.0
    assert isinstance(again.tables[0].rows[0], tuple) and again.to_json() == report.to_json()


def test_a_folder_without_a_report_has_none(tmp_path: Path, report: Report) -> None:
    assert read(tmp_path) is None
    (tmp_path / NAME).write_text(report.to_json(), encoding="utf-8")
    assert read(tmp_path) == report


@pytest.mark.parametrize("text", ["{", "[]", '{"tables": []}', json.dumps({"title": "a", "unknown": 1})])
def test_what_no_run_wrote_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"report\.json is not what a run writes"):
        from_json(text)
