import os
import time

import pandas as pd
import pytest
from matplotlib.figure import Figure

from benchmarks.run.errors import BenchmarkError
from benchmarks.tables import report

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
