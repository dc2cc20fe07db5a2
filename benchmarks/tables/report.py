"""A report: its text, its tables and its figures, written as a set. The same results give the same files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.run.store import atomic_file, leftovers, remove_abandoned, write_atomically
from benchmarks.tables import figures as pictures


def write(
    path: Path, text: str, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure] | None = None
) -> list[str]:
    """Write the tables and figures beside the text (NAME.csv, NAME.png), and last the text, which is there only if all
    the others are of the same run. Returns the names of the files.

    Raises:
        BenchmarkError: one of them can't be written, such as on a full disk.
    """
    figures = figures or {}
    names = [path.name, *(f"{name}.csv" for name in tables), *(f"{name}.png" for name in figures)]
    for name in names:
        remove_abandoned(path.parent, leftovers(name))
    with contextlib.suppress(OSError):  # writing says what is wrong
        path.unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_file(path.with_name(f"{name}.csv")) as file:
            table.to_csv(file, index=False)
    for name, figure in figures.items():
        write_atomically(path.with_name(f"{name}.png"), pictures.png(figure))
    write_atomically(path, text.encode())
    return names
