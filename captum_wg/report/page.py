"""A report as one HTML page that needs nothing else: no other file, and no network."""

from __future__ import annotations

import bisect
import re
from typing import Any

from captum_wg.report.charts import library, spec
from captum_wg.report.contents import BEST, TIED, Chart, Report, Table
from captum_wg.report.pictures import STYLES, TOP

PAGE = "report.html"
MARKS = {BEST: ("★", "best"), TIED: ("=", "tied with the best")}
_STYLES = {
    "overlay": "over the photograph",
    "heat": "colours alone",
    "topk": f"the strongest {TOP:.0%} of the pixels",
    "contour": "contours",
}
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?")
_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of a line's points, in a chart's table


def html(report: Report) -> str:
    """The page.

    Raises:
        ImportError: a package of the extra "report" is missing.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup, escape

        charts = [(chart, spec(chart), points(chart)) for chart in report.charts]
        script = library() if charts else ""
    except ImportError as error:
        raise ImportError(
            f"{PAGE} needs the package {error.name}, which the extra \"report\" brings: pip install 'captum-wg[report]'"
        ) from error

    def worded(text: str) -> Markup:
        """Markdown's `code` and **strong**."""
        marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text)))
        return Markup(re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", marked))

    def breakable(name: str) -> Markup:
        """A name that may be broken within CamelCase and after signs."""
        return Markup("<wbr>").join(re.split(r"(?<=[a-z])(?=[A-Z])|(?<=[=(_,/-])", name))

    environment = Environment(
        loader=PackageLoader("captum_wg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": breakable, "numeric": numeric, "worded": worded}
    return environment.get_template("page.html").render(
        report=report,
        charts=charts,
        # A closing tag in a text of the library's would end the element.
        library=Markup(re.sub("</(?=script)", r"<\\/", script, flags=re.IGNORECASE)),
        marks=MARKS,
        styles={style: _STYLES[style] for style in STYLES},
    )


def numeric(table: Table) -> list[bool]:
    """Of which columns every text begins with a number, but for those that are empty or "-"."""
    of_columns: list[list[str]] = [[row[i].text for row in table.rows] for i in range(len(table.columns))]
    texts = [[text for text in column if text not in ("", "-")] for column in of_columns]
    return [bool(column) and all(_NUMBER.match(text) for text in column) for column in texts]


def points(chart: Chart) -> dict[str, Any]:
    """A chart in numbers: x of some points, and y of each line there, "" where it has none."""
    every = sorted({x for line in chart.lines for x in line.x})
    if len(every) > 8:
        every = sorted({every[round(share * (len(every) - 1))] for share in _SHARES})
    rows = {}
    for line in chart.lines:
        rows[line.name] = [_at(line.x, line.y, x) for x in every]
    return {"x": [f"{x:.3g}" for x in every], "rows": rows}


def _at(x: tuple[float, ...], y: tuple[float, ...], at: float) -> str:
    place = bisect.bisect_left(x, at)
    return f"{y[place]:.3g}" if place < len(x) and x[place] == at else ""
