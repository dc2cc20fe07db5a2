"""The page as text: what it holds, and that it asks for nothing. What a browser makes of it: test_browser.py."""

from __future__ import annotations

import builtins
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from captum_wg.report import Cell, Chart, Column, Line, Report, Table, html
from captum_wg.report.charts import library
from captum_wg.report.page import numeric, points
from captum_wg.report.pictures import LIMIT

VOID = {"meta", "link", "img", "input", "br", "wbr"}


class Page(HTMLParser):
    """Elements and their attributes in their order; fails where they are not closed in turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert not self._open, self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.texts.append(" ".join(data.split()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


@pytest.fixture(scope="module")
def text(report: Report) -> str:
    return html(report)


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_is_asked_for(page: Page) -> None:
    for _, attributes in page.found:
        for name in ("src", "href", "srcset", "action", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    (policy,) = [one["content"] for one in page.of("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy is not None and policy.startswith("default-src 'none'; img-src data:;") and "http" not in policy
    assert not any("url(" in style for style in re.findall(r"<style>(.*?)</style>", page.rawdata, re.DOTALL))


def test_the_same_report_gives_the_same_page(report: Report, text: str) -> None:
    assert html(report) == text


def test_what_a_screen_reader_needs(page: Page) -> None:
    assert page.of("html")[0]["lang"] == "en" and len(page.of("main")) == len(page.of("h1")) == len(page.of("nav")) == 1
    assert all(one.get("alt") for one in page.of("img"))
    assert len(page.of("caption")) == len(page.of("table")) > 3
    assert all(one.get("scope") in ("row", "col") for one in page.of("th"))
    ids = [one["id"] for _, one in page.found if "id" in one]
    assert len(ids) == len(set(ids))
    for _, one in page.found:
        for name in ("aria-labelledby", "for"):
            assert one.get(name) is None or one[name] in ids
        if (one.get("href") or "").startswith("#"):
            assert (one["href"] or "")[1:] in ids
        if "scroll" in (one.get("class") or "").split():
            assert (
                one["role"] == "region" and one["tabindex"] == "0" and ("aria-labelledby" in one or "aria-label" in one)
            )
    said = " ".join(page.texts)
    assert "(best)" in said and "(tied with the best)" in said and "(lower is better)" in said


def test_numbers_names_and_notes_stand_in_it(page: Page, text: str) -> None:
    said = " ".join(page.texts)
    for words in (
        "A run",
        "0.20 ± 0.1",
        "net: n = 2 images",
        "python -m x",
        "Note <two>.",
        "</script><b>c",
        "A caption.",
    ):
        assert words in said
    assert "<strong>Note</strong> one." in text and "<code>it</code>" in text and "<b>c" not in text
    assert "† The weights' own judge: Deletion judges WG by what their weights are fitted to." in said
    assert "baseline 2" in said and "0.250" in said


def test_pictures_library_and_tables_stay_under_five_megabytes() -> None:
    assert LIMIT + len(library()) + 500_000 < 5_000_000


def test_what_is_not_there_is_said() -> None:
    text = html(Report("Nothing"))
    page = Page(text)
    said = " ".join(page.texts)
    for words in ("wrote no table", "kept no curves", "kept no maps", "No maps of single baselines", "There are none."):
        assert words in said
    assert len(text) < 20_000  # no chart library, of which nothing is drawn
    assert not page.of("table") and not page.of("fieldset")


def test_an_empty_table_is_a_sentence() -> None:
    said = " ".join(Page(html(Report("a", tables=(Table("Pairs", (Column("b"),), ()),)))).texts)
    assert "Pairs: there is nothing to compare." in said


def test_which_columns_are_numbers() -> None:
    texts = [["+3.5%", "-"], ["0.1 ± 0.2", "1e-5"], ["a", "1"], ["", "-"], ["v1", "v2"], [".5", "2"]]
    rows = tuple(tuple(map(Cell, row)) for row in zip(*texts, strict=True))
    assert numeric(Table("t", (Column("c"),) * 6, rows)) == [True, True, False, False, False, True]


def test_a_chart_in_numbers() -> None:
    many = tuple(float(i) for i in range(101))
    chart = Chart("c", "x", "y", (Line("a", many, many), Line("b", (0.0, 100.0), (7.0, 1 / 3))))
    found = points(chart)
    assert found["x"] == ["0", "10", "25", "50", "75", "100"]
    assert found["rows"] == {"a": found["x"], "b": ["7", "", "", "", "", "0.333"]}


def test_an_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("jinja2"):
            raise ModuleNotFoundError("No module named 'jinja2'", name="jinja2")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"needs the package jinja2.*pip install 'captum-wg\[report\]'"):
        html(Report("a"))


def test_importing_loads_no_template_engine_and_no_chart_library() -> None:
    code = "import sys, captum_wg.report, captum_wg.command_line; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "captum_wg.report" in found and not {"altair", "vl_convert"} & {*found}  # torch itself may load jinja2
