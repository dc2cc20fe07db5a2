"""Table 3: what each setting of weighted gradients does, one at a time, against expected gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from benchmarks.tables import markdown
from benchmarks.tables.comparison import compare
from benchmarks.wg_methods import EG, RANKINGS, WG

# The judges beside which the rows of "ranking" are shown.
RANKED = {"DeletionAUC-signed": False, "DeletionAUC-absolute": False}
MEANING = (
    "Improvement on the row's reference, positive where better by that judge (paired t-test, Holm's correction over "
    "the whole table: * p < 0.05, ** p < 0.01)."
)


class Row(NamedTuple):
    """A method, what it is compared with, and the setting that it shows."""

    setting: str
    reference: str
    method: str


def rows(
    n_baselines: int, n_steps: int, alpha: float = 0.5, neutral: str = "corners", ranking: str = "signed"
) -> list[Row]:
    """All rows for an experiment's own settings, which stand in the row of WG itself."""
    found = [Row("WG itself", EG, WG)]

    def add(setting: str, *words: str) -> None:
        found.extend(Row(setting, EG, f"{WG}-{word}") for word in words)

    add("power", "power2", "power4")
    add("ranking", *(name for name in RANKINGS if name != ranking))
    add("keep", *(f"keep{k}" for k in (1, 3, 5, 7, 10) if k < n_baselines))
    add("removal", *(f"neutral={name}" for name in ("corners", "mean", "blur") if name != neutral))
    add("alpha", *(f"alpha{value:g}" for value in (0.3, 0.5, 0.7) if value != alpha))
    for points in ("random1", "steps5", "steps20", "steps50"):
        if points != f"steps{n_steps}":
            found.append(Row("points", f"{EG}-{points}", f"{WG}-{points}"))
            found.append(Row("points of EG", EG, f"{EG}-{points}"))
    # Beyond the paper: against overfitting one removal.
    found.append(Row("norm", EG, f"{EG}-normalised"))
    add("norm", "normalised")
    add("fitness", "insertion", "both", "neutral=corners+mean+blur", "both-neutral=corners+blur")
    add("all of it", "both-neutral=corners+blur-normalised", "both-neutral=corners+blur-normalised-keep5")
    return [row for row in found if not ("keep5" in row.method and n_baselines <= 5)]


def judged(rows: Sequence[Row], judges: Sequence[str]) -> list[tuple[str, str]]:
    """(method, judge) of the table, without repetition."""
    pairs = [(name, judge) for judge in judges for row in rows for name in row[1:]]
    ranked = [name for row in rows if row.setting == "ranking" for name in row[1:]]
    return list(dict.fromkeys(pairs + [(name, judge) for judge in RANKED for name in (*ranked, WG)]))


def table(scores: pd.DataFrame, rows: Sequence[Row], higher_is_better: Mapping[str, bool], seed: int) -> pd.DataFrame:
    """What `compare` finds of the rows, with the setting that each of them shows."""
    settings = {row[1:]: row.setting for row in rows}
    pairs = list(dict.fromkeys(row[1:] for row in rows))
    found = compare(scores, pairs, {**higher_is_better, **RANKED}, seed)
    found.insert(1, "setting", [settings[pair] for pair in zip(found["reference"], found["method"], strict=True)])
    return found


def text(table: pd.DataFrame) -> str:
    """A line for each model and row, a column for each judge: the improvement and its corrected p."""
    keys = ["model", "setting", "method", "reference", "n"]
    cells = table.assign(
        cell=[
            markdown.percent(change) + _stars(p)
            for change, p in zip(table["improvement"], table["t_holm"], strict=True)
        ],
        n=table.groupby(keys[:-1])["n"].transform("min"),  # of the judge that has the fewest
    )
    # A pivot sorts by its index, so the order is kept in it.
    cells["order"] = cells.groupby(keys, sort=False).ngroup()
    wide = cells.pivot(index=["order", *keys], columns="judge", values="cell")[table["judge"].drop_duplicates()]
    return markdown.table(wide.fillna("").reset_index().drop(columns="order"))


def _stars(p: float) -> str:
    return "" if math.isnan(p) else "**" if p < 0.01 else "*" if p < 0.05 else ""
