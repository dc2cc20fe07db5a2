"""Table 3: what each setting of weighted gradients does, one at a time, against expected gradients."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.experiment.settings import Experiment
from benchmarks.methods.rows import written
from benchmarks.methods.weightings import EG, RANKINGS, WG
from benchmarks.tables import markdown
from benchmarks.tables.comparison import compare

# The judges beside which the rows of "ranking" are shown.
RANKED: dict[str, bool | None] = {"DeletionAUC-signed": False, "DeletionAUC-absolute": False}
MEANING = (
    "Improvement on the row's reference, positive where better by that judge (paired t-test, Holm's correction over "
    "the whole table: * p < 0.05, ** p < 0.01)."
)


class Row(NamedTuple):
    """A method, what it is compared with, and the setting that it shows."""

    setting: str
    reference: str
    method: str


def rows(experiment: Experiment) -> list[Row]:
    """All rows for an experiment's own settings, which stand in the row of WG itself."""
    found = [Row("WG itself", EG, WG)]
    several: dict[str, Any] = {"weighting": "both", "neutral": ("corners", "blur")}

    def add(setting: str, *each: Mapping[str, Any]) -> None:
        found.extend(Row(setting, EG, written(WG, settings)) for settings in each)

    def add_each(setting: str, name: str, values: Iterable[Any], own: Any = None) -> None:
        add(setting, *({name: value} for value in values if value != own))

    add_each("power", "power", (2, 4))
    add_each("ranking", "ranking", RANKINGS, experiment.ranking)
    add_each("keep", "keep", (k for k in (1, 3, 5, 7, 10) if k < experiment.n_baselines))
    add_each("removal", "neutral", ("corners", "mean", "blur"), experiment.neutral)
    add_each("alpha", "alpha", (0.3, 0.5, 0.7), experiment.alpha)
    for points in ({"n_random": 1}, {"n_steps": 5}, {"n_steps": 20}, {"n_steps": 50}):
        if points != {"n_steps": experiment.n_steps}:
            equal = written(EG, points)
            found += [Row("points", equal, written(WG, points)), Row("points of EG", EG, equal)]
    # Beyond the paper: against overfitting one removal.
    found.append(Row("norm", EG, written(EG, {"normalise_maps": True})))
    add("norm", {"normalise_maps": True})
    add_each("fitness", "weighting", ("insertion", "both"))
    add("fitness", {"neutral": ("corners", "mean", "blur")}, several)
    add("all of it", {**several, "normalise_maps": True})
    if experiment.n_baselines > 5:
        add("all of it", {"keep": 5, **several, "normalise_maps": True})
    return found


def judged(rows: Sequence[Row], judges: Sequence[str]) -> list[tuple[str, str]]:
    """(method, judge) of the table, without repetition."""
    pairs = [(name, judge) for judge in judges for row in rows for name in row[1:]]
    ranked = [name for row in rows if row.setting == "ranking" for name in row[1:]]
    return list(dict.fromkeys(pairs + [(name, judge) for judge in RANKED for name in (*ranked, WG)]))


def table(scores: pd.DataFrame, rows: Sequence[Row], directions: Mapping[str, bool | None], seed: int) -> pd.DataFrame:
    """What `compare` finds of the rows, with the setting that each of them shows."""
    settings = {row[1:]: row.setting for row in rows}
    pairs = list(dict.fromkeys(row[1:] for row in rows))
    found = compare(scores, pairs, {**directions, **RANKED}, seed)
    found.insert(1, "setting", [settings[pair] for pair in zip(found["reference"], found["method"], strict=True)])
    return found


def text(table: pd.DataFrame) -> str:
    """`wide` as text."""
    return markdown.table(wide(table))


def wide(table: pd.DataFrame) -> pd.DataFrame:
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
    found = cells.pivot(index=["order", *keys], columns="judge", values="cell")[table["judge"].drop_duplicates()]
    return found.fillna("").reset_index().drop(columns="order")


def _stars(p: float) -> str:
    return "" if math.isnan(p) else "**" if p < 0.01 else "*" if p < 0.05 else ""
