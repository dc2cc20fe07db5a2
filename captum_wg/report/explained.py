"""The report of a folder that `captum-wg explain` wrote: for each image NAME.json and NAME.npz."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from captum_wg.report.contents import Cell, Column, Report, Table
from captum_wg.report.pictures import Start, Subject, check_drawable, drawn

# What both files must hold to be of an explained image.
_IN_RECORD, _IN_VALUES = ("image", "class", "probability", "method", "baselines"), ("attribution", "pixels")
_COLUMNS = ("image", "class", "probability", "method", "seconds")
_SHOWN = ("model", "steps", "seed", "layer", "patches", "price")


def explained(folder: Path) -> Report | None:
    """The report of the images in a folder and the folders below it; None if there are none.

    An image whose files are broken is left out, and a note says so.

    Raises:
        ValueError: all are broken.
    """
    rows: dict[str, tuple[Cell, ...]] = {}
    subjects, settings, notes = [], [], []
    for path in sorted(folder.rglob("*.json")):
        values_path = path.with_suffix(".npz") if path.suffix == ".json" else path
        if not values_path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        try:
            record, values = _read(path, values_path)
            if not (set(_IN_RECORD) <= set(record) and set(_IN_VALUES) <= set(values)):
                continue
            subject, row, setting = _subject(name, record, values), _row(name, record), _settings(record)
            check_drawable(subject)
        except Exception as error:  # a file may be broken in any way, and the others are still to be shown
            words = " ".join(str(error).split()) or "no message"
            notes.append(f"{name} is left out, as its files can't be used: {type(error).__name__}: {words[:300]}")
            continue
        rows[name] = row
        subjects.append(subject)
        settings.append(setting)
    if not rows:
        if notes:
            raise ValueError("; ".join(notes))
        return None
    examples, left_out = drawn(subjects)
    return Report(
        f"Explanations: {_counted(len(rows), 'image')}",
        tuple(dict.fromkeys(settings)),
        tables=(
            Table("Images", tuple(map(Column, _COLUMNS)), tuple(rows.values()), "What was explained of each image."),
        ),
        examples=examples,
        notes=(*filter(None, [left_out]), *notes),
    )


def _read(path: Path, values: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    record = json.loads(path.read_text(encoding="utf-8"))
    with np.load(values, allow_pickle=False) as arrays:
        return record if isinstance(record, dict) else {}, dict(arrays)


def _class(record: dict[str, Any]) -> str:
    return str(record.get("class_name") or record["class"])


def _probability(record: dict[str, Any]) -> str:
    return f"{record['probability']:.3f}"


def _subject(name: str, record: dict[str, Any], values: dict[str, np.ndarray]) -> Subject:
    rows = record["baselines"]
    starts: tuple[Start, ...] = ()
    if "baseline_maps" in values and all("weight" in row for row in rows):
        pictured = zip(rows, values["baseline_pixels"], values["baseline_maps"], strict=True)
        starts = tuple(Start(row["name"], pixels, m, row["weight"], row.get("D_alpha")) for row, pixels, m in pictured)
    title = f"{_class(record)}, probability {_probability(record)}"
    return Subject(name, title, values["pixels"], {record["method"]: values["attribution"]}, starts)


def _settings(record: dict[str, Any]) -> str:
    arguments = record.get("arguments", {})
    given = {name: arguments.get(name) for name in _SHOWN} | {"baselines": record.get("baselines_named")}
    if given["price"] is not None:  # whose recipe says its own
        given["steps"] = None
    words = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    return f"{record['method']}{f': {words}' if words else ''}."


def _row(name: str, record: dict[str, Any]) -> tuple[Cell, ...]:
    cells = (name, _class(record), _probability(record), record["method"], str(record.get("seconds", "-")))
    return tuple(map(Cell, cells))


def _counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"
