"""What a report shows, as plain values: written to report.json by whoever makes the numbers, and shown by `page`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

NAME = "report.json"
BEST, TIED = "best", "tied"
HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Cell:
    """What stands in a table; mark: `BEST` of its column, `TIED` (not significantly worse than it), or "" (neither)."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Column:
    """better: `HIGHER`, `LOWER`, or "" where neither is; own: the rows whose weights are fitted to this judge."""

    name: str
    better: str = ""
    own: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Rows of as many cells as there are columns, the first of which names the row."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Line:
    """Points of a chart, in their order; low, high: their intervals, or empty."""

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True)
class Chart:
    """Lines over a common axis.

    Attributes:
        x, y: what the axes are.
        logarithmic: whether x is.
    """

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    caption: str = ""
    logarithmic: bool = False


@dataclass(frozen=True)
class Picture:
    """A map in several styles: a data: URL for each."""

    title: str
    styles: Mapping[str, str]


@dataclass(frozen=True)
class Baseline:
    """What one baseline says of an image; distance: its D_alpha, in features; None where there is none."""

    name: str
    photograph: str
    map: Picture
    weight: float
    distance: float | None = None


@dataclass(frozen=True)
class Example:
    """An image: its photograph as a data: URL, its map by each method, and what each baseline says of it."""

    name: str
    title: str
    photograph: str
    maps: tuple[Picture, ...]
    baselines: tuple[Baseline, ...] = ()
    caption: str = ""


@dataclass(frozen=True)
class Report:
    """All that a page shows; of an empty part it says that it is not there.

    Attributes:
        lead: paragraphs above all else: the data, how many images, the settings.
        command: that gives the same numbers.
        notes: what a reader must know.
    """

    title: str
    lead: tuple[str, ...] = ()
    command: str = ""
    tables: tuple[Table, ...] = ()
    charts: tuple[Chart, ...] = ()
    examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")) + "\n"


def from_json(text: str) -> Report:
    """What `Report.to_json` gave.

    Raises:
        ValueError: it is something else.
    """
    try:
        report: Report = _made(Report, json.loads(text))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{NAME} is not what a run writes: {error}") from error
    return report


def read(folder: Path) -> Report | None:
    """The report of a folder's run; None if it has none.

    Raises:
        OSError, ValueError: it can't be read.
    """
    path = folder / NAME
    return from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def _made(kind: Any, value: Any) -> Any:
    """A dataclass, or a tuple of such, from what JSON holds of it."""
    inner = get_args(kind)
    if inner and inner[-1] is ...:
        return tuple(_made(inner[0], one) for one in value)
    if hasattr(kind, "__dataclass_fields__"):
        kinds = get_type_hints(kind)
        if unknown := set(value) - {one.name for one in fields(kind)}:
            raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
        return kind(**{name: _made(kinds[name], one) for name, one in value.items()})
    return value
