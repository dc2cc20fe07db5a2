"""The field in one table: quality by several judges together, what a map costs, and quality over price as a figure.

    D      deletion AUC of pixels, the mean over removals that no row was fitted to
    I      insertion AUC of pixels, the mean over the same
    I - D  and `blocks`, the same difference by the blocks of a grid
    corr   the mean of all judges of how well sums of the map predict drops of the output

Each is taken image by image. Every row is compared with the best of its column (paired t-test, Holm's correction over
the column), so that a cell says whether the row is worse than the best or tied with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.experiment.results import ModelResults, Results
from benchmarks.tables import markdown
from benchmarks.tables.comparison import SIGNIFICANT, against_best, mean_interval, wide
from captum_wg.report import Chart, Line

COSTS = ("seconds", "gradients", "forwards")
COLUMNS = ("model", "method", *COSTS, "column", "higher", "n", "mean", "low", "high", "best", "t_p", "t_holm")
REMOVED = ("blur", "noise")
DELETION = tuple(f"DeletionAUC-{removal}" for removal in REMOVED)
INSERTION = tuple(f"InsertionAUC-{removal}" for removal in REMOVED)
BLOCK_DELETION = tuple(f"DeletionAUC-grid8-{removal}" for removal in REMOVED)
BLOCK_INSERTION = tuple(f"InsertionAUC-grid8-{removal}" for removal in REMOVED)
CORRELATIONS = (
    *("PatchDeletionCorrelation-grid4", "PatchDeletionCorrelation-grid8"),
    *("SubsetCorrelation", "SubsetCorrelation-grid8"),
)
# The columns that are made of several judges: what is added and what is subtracted.
TOGETHER: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "D": (DELETION, ()),
    "I": (INSERTION, ()),
    "I - D": (INSERTION, DELETION),
    "blocks": (BLOCK_INSERTION, BLOCK_DELETION),
    "corr": (CORRELATIONS, ()),
}
JUDGES = (*DELETION, *INSERTION, *BLOCK_DELETION, *BLOCK_INSERTION, *CORRELATIONS)
# Those of the figure.
DRAWN = ("corr", "I - D")
MEANING = (
    "Each cell is the mean over the images; **bold** is the best of the column, = is tied with it (paired t-test, "
    f"Holm's correction over the column, p >= {SIGNIFICANT}), and all others are worse. D and I: deletion (lower is "
    "better) and insertion AUC of pixels over blur and noise; blocks: I - D by the blocks of an 8 x 8 grid; corr: the "
    "mean of how well sums of the map predict drops of the output, by single patches of a 4 x 4 and an 8 x 8 grid "
    "(rank correlation) and by random subsets of pixels and of blocks (Pearson), over blur and noise. Gradients, "
    "forwards and seconds (on one thread) are those of one image's map."
)


def table(results: Results, seed: int = 0) -> pd.DataFrame:
    """One row for each model, method and column (of several judges, then each judge): what it is, and whether the best.

    Columns: model, method, seconds, gradients, forwards, column, higher (is better), n, mean, low and high (its 95 %
    interval), best, and t_p and t_holm against the best.
    """
    found = []
    for model in results.models:
        for column, higher, scores in columns(results, model):
            own = scores[[row.name for row in results.methods if row.name in scores]]
            tested = against_best(own, bool(higher))
            if tested.empty:
                continue
            costs = model.costs.reindex(tested["method"], columns=list(COSTS)).to_numpy().T
            intervals = [mean_interval(own[name].dropna().to_numpy(), seed) for name in tested["method"]]
            low, high = np.transpose(intervals)
            of_column = {"model": model.model, "column": column, "higher": bool(higher), "low": low, "high": high}
            found.append(tested.assign(**of_column, **dict(zip(COSTS, costs, strict=True)))[list(COLUMNS)])
    return pd.concat(found, ignore_index=True)


def text(table: pd.DataFrame) -> list[str]:
    """The table of each model as text, a row for each method; judges that a column is made of are in the csv alone."""
    table = table[~table["column"].isin(parts(table["column"]))]
    blocks = []
    for model, of_model in table.groupby("model", sort=False):
        marked = of_model.assign(cell=[_cell(row) for row in of_model.itertuples()])
        heads = {
            name: f"{name} {'↑' if higher else '↓'}"
            for name, higher in marked[["column", "higher"]].drop_duplicates().itertuples(index=False)
        }
        cells = marked.pivot(index="method", columns="column", values="cell").rename(columns=heads)
        costs = marked.groupby("method", sort=False)[["gradients", "forwards", "seconds"]].first()
        price = pd.DataFrame(
            {
                "gradients": costs["gradients"].map("{:.0f}".format),
                "forwards": costs["forwards"].map("{:.0f}".format),
                "seconds": costs["seconds"].map("{:.2f}".format),
            }
        ).replace("nan", "-")
        shown = price.join(cells[list(heads.values())]).fillna("-").reset_index()
        blocks += [f"## {model}", markdown.table(shown)]
    return blocks


def parts(columns: Iterable[str]) -> set[str]:
    """The judges that columns are made of."""
    return {one for name in columns if name in TOGETHER for names in TOGETHER[name] for one in names}


def of_recipes(table: pd.DataFrame, rows: Mapping[tuple[int, str], str], kind: str, source: str) -> pd.DataFrame:
    """What recipes reached, in the form of `captum_wg.recipes`' own figures.

    Args:
        rows: of (price, recipe) the name of its row.
        kind: of images.
        source: the data and the seed.
    """
    reached = table.pivot(index=["model", "method"], columns="column", values="mean").reindex(
        columns=["corr", "D", "I"]
    )
    reached["n"] = table.groupby(["model", "method"])["n"].min()
    found = [
        {"price": price, "kind": kind, "name": name, **of_model, "source": f"benchmarks.field, {model}, {source}"}
        for (price, name), method in rows.items()
        for (model, own), of_model in reached[reached["n"] > 0].round(3).iterrows()
        if own == method
    ]
    columns = ["price", "kind", "name", *reached.columns, "source"]
    return pd.DataFrame(found, columns=columns).astype({"n": int})


def figure(table: pd.DataFrame, lines: Mapping[str, Sequence[str]]) -> Figure:
    """corr and I - D over the price of a map, every method a point.

    Args:
        table: of `table`; the first model's is drawn.
        lines: methods that are joined to a line, by its name.
    """
    first = table[table["model"] == table["model"].iloc[0]]
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2), DRAWN, strict=True):
        part = first[first["column"] == column].set_index("method")
        price = (part["gradients"] + part["forwards"]).clip(lower=1)
        joined = {name for names in lines.values() for name in names}
        others = [name for name in part.index if name not in joined]
        axes.scatter(price[others], part["mean"][others], color="0.45", s=18)
        for i, (label, names) in enumerate(lines.items()):
            own = sorted((name for name in names if name in part.index), key=lambda name: price[name])
            if own:
                axes.plot(price[own], part["mean"][own], "o-", color=f"C{i}", label=label)
        for name, place in _apart({name: (price[name], part["mean"][name]) for name in others}).items():
            axes.annotate(name, place, (3, 3), textcoords="offset points", fontsize=6)
        axes.set(xscale="log", xlabel="gradients + forwards for one map", ylabel=f"{column} (higher is better)")
        axes.set_title(f"{first['model'].iloc[0]}, n = {int(part['n'].max())}", fontsize=9)
        if axes.lines:
            axes.legend(fontsize=8)
    return figure


def _apart(points: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Where to write the names of points (price, mean): there, but above those that would be written over."""
    heights = [y for _, y in points.values() if np.isfinite(y)]
    line = 0.025 * (np.ptp(heights) if heights else 0) or 0.001
    places: dict[str, tuple[float, float]] = {}
    for name, (x, y) in sorted(points.items(), key=lambda point: point[1][1]):
        for other, level in places.values():
            if abs(np.log10(x / other)) < 0.8 and y - level < line:
                y = level + line
        places[name] = (x, y)
    return places


def charts(table: pd.DataFrame, lines: Mapping[str, Sequence[str]]) -> list[Chart]:
    """What `figure` draws, for a page."""
    first, found = table[table["model"] == table["model"].iloc[0]], []
    for column in DRAWN:
        part = first[first["column"] == column].set_index("method")
        price = (part["gradients"] + part["forwards"]).clip(lower=1)
        joined = {name for names in lines.values() for name in names}
        groups = {**lines, **{name: [name] for name in part.index if name not in joined}}
        drawn = []
        for label, names in groups.items():
            own = sorted((name for name in names if price.get(name, np.nan) > 0), key=lambda name: price[name])
            drawn.append(Line(label, tuple(map(float, price[own])), tuple(map(float, part["mean"][own]))))
        x, y = "gradients + forwards for one map", f"{column} (higher is better)"
        caption = "Every method at the price of its map, this project's at several prices."
        shown = tuple(line for line in drawn if line.x)
        found.append(Chart(f"{first['model'].iloc[0]}: {column} over price", x, y, shown, caption, logarithmic=True))
    return found


def columns(results: Results, model: ModelResults) -> list[tuple[str, bool | None, pd.DataFrame]]:
    """(name, whether higher is better, scores by image and method) of the columns that the judges allow."""
    asked = {judge.name: judge for judge in results.judges}
    scores = {name: wide(results.scores, model.model, name) for name in asked}
    found = []
    for name, (added, subtracted) in TOGETHER.items():
        if set(added) | set(subtracted) <= set(asked):
            sums = [sum(scores[one] for one in names) / len(names) for names in (added, subtracted) if names]
            found.append((name, name != "D", sums[0] - sums[1] if subtracted else sums[0]))
    return found + [(one, asked[one].higher_is_better, scores[one]) for one in asked]


def _cell(row: object) -> str:
    mean, best, holm = (getattr(row, name) for name in ("mean", "best", "t_holm"))
    if np.isnan(mean):
        return "-"
    return f"**{mean:.3f}**" if best else f"{mean:.3f} =" if np.isnan(holm) or holm >= SIGNIFICANT else f"{mean:.3f}"
