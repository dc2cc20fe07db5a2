"""One self-contained page of what a run found: tables, curves, maps, baselines.

Report, from_json   what a page shows, as plain values, which a benchmark run writes to report.json
explained           the report of a folder that `captum-wg explain` wrote
html                the page, which needs the extra "report"
"""

from captum_wg.report.contents import (
    BEST,
    HIGHER,
    LOWER,
    NAME,
    TIED,
    Baseline,
    Cell,
    Chart,
    Column,
    Example,
    Line,
    Picture,
    Report,
    Table,
    from_json,
    read,
)
from captum_wg.report.explained import explained
from captum_wg.report.page import PAGE, html
from captum_wg.report.pictures import Start, Subject, drawn

__all__ = [
    "BEST",
    "HIGHER",
    "LOWER",
    "NAME",
    "PAGE",
    "TIED",
    "Baseline",
    "Cell",
    "Chart",
    "Column",
    "Example",
    "Line",
    "Picture",
    "Report",
    "Start",
    "Subject",
    "Table",
    "drawn",
    "explained",
    "from_json",
    "html",
    "read",
]
