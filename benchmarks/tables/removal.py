"""Figure 2 of Duc et al. (2025): the least fit baselines removed, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import markdown
from benchmarks.tables.comparison import deviation, mean, mean_interval
from captum_wg.report import Chart, Line

# So many at most.
REMOVED = 5
COLUMNS = ("model", "judge", "removed", "n", "mean", "std", "low", "high")


def kept(count: int) -> str:
    """The row that keeps so many of the fittest baselines."""
    return f"{WG}(keep={count})"


def methods(n_baselines: int) -> dict[int, str]:
    """The points of a curve by how many baselines are removed, -1 for EG's own."""
    removed = range(1, min(REMOVED, n_baselines - 1) + 1)
    return {-1: EG, 0: WG, **{count: kept(n_baselines - count) for count in removed}}


def curves(scores: pd.DataFrame, judges: Sequence[str], n_baselines: int, seed: int) -> pd.DataFrame:
    """The mean score of each of `methods`, by model and judge, with its 95 % bootstrap interval: a row of `COLUMNS`."""
    places = product(scores["model"].drop_duplicates(), judges, methods(n_baselines).items())
    rows = []
    for model, judge, (removed, method) in places:
        own = (scores["model"] == model) & (scores["judge"] == judge) & (scores["method"] == method)
        values = scores.loc[own, "score"].dropna().to_numpy()
        if len(values):
            spread = deviation(values), *mean_interval(values, seed)
            rows.append((model, judge, removed, len(values), mean(values), *spread))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def text(curves: pd.DataFrame) -> str:
    """The curves as a table: a row for each model and judge, a column for each number of removed baselines."""
    if not len(curves):
        return "No deletion judge was asked for."
    cells = curves.assign(
        value=list(map(markdown.mean_and_deviation, curves["mean"], curves["std"])),
        n=curves.groupby(["model", "judge"])["n"].transform("min"),  # of the point that has the fewest
    )
    found = cells.pivot(index=["model", "judge", "n"], columns="removed", values="value").fillna("")
    return markdown.table(found.rename(columns=lambda n: EG if n < 0 else f"-{n}" if n else WG).reset_index())


def charts(curves: pd.DataFrame) -> list[Chart]:
    """What `draw` draws, for a page."""
    found = []
    for judge, part in curves.groupby("judge", sort=False, observed=True):
        lines = []
        for model, of_model in part.groupby("model", sort=False, observed=True):
            own, equal = of_model[of_model["removed"] >= 0], of_model[of_model["removed"] < 0]
            intervals = own[["low", "high"]].fillna({"low": own["mean"], "high": own["mean"]})
            lines.append(
                Line(f"{model}, {WG}", *map(tuple, (own["removed"], own["mean"], intervals["low"], intervals["high"])))
            )
            ends = (0.0, float(own["removed"].max())) if len(own) else ()
            lines += [Line(f"{model}, {EG}", ends, (float(mean),) * len(ends)) for mean in equal["mean"]]
        title = f"Least fit baselines removed: {judge}"
        caption = "Lower is better; the bands are 95 % bootstrap intervals of the mean."
        found.append(Chart(title, "baselines removed", str(judge), tuple(lines), caption))
    return found


def draw(curves: pd.DataFrame) -> Figure:
    """A panel for each judge, a line for each model, EG dashed."""
    judges = list(curves["judge"].drop_duplicates())
    figure = Figure(figsize=(4.0 * max(1, len(judges)), 3.2), layout="constrained")
    panels = figure.subplots(1, max(1, len(judges)), squeeze=False)[0]
    for axes, judge in zip(panels, judges, strict=False):
        part = curves[curves["judge"] == judge]
        for number, (model, of_model) in enumerate(part.groupby("model", sort=False, observed=True)):
            line, own = of_model[of_model["removed"] >= 0], of_model[of_model["removed"] < 0]
            errors = np.nan_to_num(np.abs(line[["low", "high"]].to_numpy().T - line["mean"].to_numpy()))
            axes.errorbar(line["removed"], line["mean"], errors, color=f"C{number % 10}", capsize=2, label=model)
            for value in own["mean"]:
                axes.axhline(value, color=f"C{number % 10}", linestyle="--", linewidth=1)
        axes.set_title(f"{judge} (lower is better)", fontsize=9)
        axes.set_xticks(sorted(set(part["removed"]) - {-1}))
        axes.set_xlabel("least fit baselines removed from WG (dashed: EG)", fontsize=8)
        axes.legend(fontsize=7)
    return figure
