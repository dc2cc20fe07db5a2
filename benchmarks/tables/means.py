"""The attribution table itself: methods by judges, the mean over the images with its standard deviation."""

from __future__ import annotations

import pandas as pd

from benchmarks.experiment.results import Results
from benchmarks.tables import markdown
from benchmarks.tables.comparison import deviation, mean
from benchmarks.tables.notes import of_problems

MEANING = (
    "Each cell is the mean ± standard deviation over the images (↑ higher is better, ↓ lower is better), from calls of "
    "`quantus.evaluate`; seconds (on one thread), gradients and forwards are those of one image's map."
)
COSTS = {"seconds": "{:.3f}", "gradients": "{:.0f}", "forwards": "{:.0f}"}
# Columns of text side by side; more stand below.
WIDTH = 6


def table(results: Results) -> pd.DataFrame:
    """A row for each model and method: of each judge the mean, the standard deviation and the number of images, then
    the costs of a map, and why scores are missing."""
    values = dict(
        iter(results.scores.dropna(subset="score").groupby(["model", "method", "judge"], observed=True)["score"])
    )
    problems = of_problems(results.models).groupby(level=[0, 1]).agg(" ".join)
    rows = []
    for model in results.models:
        for method in results.methods:
            row = {"model": model.model, "method": method.name, "group": method.group, "channels": method.channels}
            for judge in results.judges:
                found = values.get((model.model, method.name, judge.name), pd.Series(dtype=float)).to_numpy()
                cell = {"mean": mean(found), "std": deviation(found), "n": len(found)}
                row |= {f"{judge.name} {what}": value for what, value in cell.items()}
            row |= model.costs.reindex([method.name], columns=list(COSTS)).iloc[0]
            rows.append({**row, "without scores": problems.get((model.model, method.name), "")})
    return pd.DataFrame(rows)


def text(results: Results, table: pd.DataFrame) -> list[str]:
    """The table as text, in blocks of WIDTH columns."""
    columns = {
        f"{judge.name} {judge.arrow}".rstrip(): [
            markdown.mean_and_deviation(*cell, digits=3)
            for cell in zip(table[f"{judge.name} mean"], table[f"{judge.name} std"], strict=True)
        ]
        for judge in results.judges
    }
    for name, form in COSTS.items():
        if table[name].notna().any():
            columns[name] = table[name].map(form.format).replace("nan", "-")
    keys = table[["model", "method"] if len(results.models) > 1 else ["method"]]
    names = list(columns)
    blocks = [{name: columns[name] for name in names[i : i + WIDTH]} for i in range(0, len(names), WIDTH)]
    return [markdown.table(keys.assign(**block)) for block in blocks]
