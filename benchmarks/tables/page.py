"""The results as a page that `captum_wg.report` shows: tables with the best cells marked, curves, maps, baselines."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.experiment.results import ModelResults, Results, Weighted
from benchmarks.judges.judge import Judge
from benchmarks.methods.method import Method
from benchmarks.tables import field, markdown
from benchmarks.tables.comparison import SIGNIFICANT, against_best, deviation, mean
from benchmarks.tables.means import COSTS
from benchmarks.tables.picture import class_name
from captum_wg.report import BEST, HIGHER, LOWER, TIED, Cell, Chart, Column, Line, Report, Start, Subject, Table, drawn

# Images whose maps are shown, and points of a curve at most.
SHOWN, POINTS = 8, 50
MEANING = (
    "Mean ± standard deviation over the images; n: how many, where a cell has fewer than the others. Best and tied: "
    "every row is compared with the best of its column on the same images (paired t-test, Holm's correction over the "
    f"column); tied is p >= {SIGNIFICANT}. Gradients, forwards and seconds (on one thread): those of one image's map."
)


def of_results(
    results: Results,
    title: str,
    about: str,
    command: str,
    notes: Sequence[str],
    tables: Mapping[str, pd.DataFrame] | None = None,
    charts: Iterable[Chart] = (),
    methods: Sequence[str] | None = None,
) -> Report:
    """The page of a run that judged methods.

    Args:
        about: the data, how many images, the settings.
        tables: more of them, in words, by title.
        charts: more of them, after the curves.
        methods: the rows of the first table and of the curves, if not all.
    """
    rows = [row for row in results.methods if methods is None or row.name in methods]
    more = (of_frame(name, frame) for name, frame in (tables or {}).items())
    examples, left_out = drawn([subject for model in results.models for subject in _subjects(results, model)])
    return Report(
        title,
        (about,),
        command,
        (*(_means(results, model, rows) for model in results.models), *more),
        (*(chart for model in results.models for chart in _curves(results, model, rows)), *charts),
        examples,
        (*notes, *filter(None, [left_out])),
    )


def of_frame(title: str, frame: pd.DataFrame, caption: str = "") -> Table:
    """A table as it is, its floats to three digits, "-" where there is nothing."""

    def text(value: Any) -> str:
        if isinstance(value, float):
            return "-" if math.isnan(value) else f"{value:.3g}"
        return str(value)

    rows = tuple(tuple(Cell(text(value)) for value in row) for row in frame.itertuples(index=False))
    return Table(title, tuple(Column(str(name)) for name in frame.columns), rows, caption)


def _means(results: Results, model: ModelResults, methods: Sequence[Method]) -> Table:
    """Methods by judges and what these make together, the best and what is tied with it marked, and the costs."""
    columns, cells = [Column("method")], [[Cell(row.name) for row in methods]]
    found = field.columns(results, model)
    inside = field.parts(name for name, _, _ in found)
    judges = {judge.name: judge for judge in results.judges}
    for name, higher, scores in found:
        if name in inside:
            continue
        made_of = [judges[one] for part in field.TOGETHER.get(name, ([name],)) for one in part]
        better = {True: HIGHER, False: LOWER, None: ""}[higher]
        columns.append(Column(name, better, tuple(_fitted(made_of, methods))))
        cells.append(_marked(scores, higher, [row.name for row in methods], len(model.images)))
    costs = model.costs.reindex([row.name for row in methods], columns=list(COSTS))
    for name, form in COSTS.items():
        if costs[name].notna().any():
            columns.append(Column(name, LOWER))
            cells.append([Cell(text) for text in costs[name].map(form.format).replace("nan", "-")])
    n = len(model.images)
    title = f"{model.model}: methods by judges, n = {n} image{'s' * (n != 1)}"
    return Table(title, tuple(columns), tuple(zip(*cells, strict=True)), MEANING)


def _fitted(judges: Sequence[Judge], methods: Sequence[Method]) -> list[str]:
    """The rows whose weights are fitted to one of the judges."""
    weighted = [row for row in methods if row.weighting and row.weighting.fitted and not row.weighting.shuffled]
    return [row.name for row in weighted if any(one.works_by in row.weighting.fitness.works_by for one in judges)]


def _marked(scores: pd.DataFrame, higher: bool | None, methods: Sequence[str], images: int) -> list[Cell]:
    """A column of scores (images, methods)."""
    own = scores[[name for name in methods if name in scores]]
    marks = {}
    if higher is not None:
        for row in against_best(own, higher).itertuples():
            tied = math.isnan(row.t_holm) or row.t_holm >= SIGNIFICANT
            marks[row.method] = "" if math.isnan(row.mean) else BEST if row.best else TIED if tied else ""
    cells = []
    for name in methods:
        values = own[name].dropna().to_numpy() if name in own else pd.Series(dtype=float).to_numpy()
        fewer = f" (n = {len(values)})" * (0 < len(values) < images)
        text = markdown.mean_and_deviation(mean(values), deviation(values), digits=3) + fewer
        cells.append(Cell(text, marks.get(name, "")))
    return cells


def _curves(results: Results, model: ModelResults, methods: Sequence[Method]) -> list[Chart]:
    charts: list[Chart] = []
    if model.curves.empty:
        return charts
    alone = "" if len(results.models) == 1 else f"{model.model}: "
    for judge, of_judge in model.curves.groupby("judge", sort=False):
        lines = []
        for row in methods:
            own = of_judge[of_judge["method"] == row.name]
            own = own.iloc[:: -(-len(own) // POINTS) or 1]
            if len(own):
                lines.append(Line(row.name, _rounded(100 * own["fraction"]), _rounded(own["value"])))
        better = {True: "A higher curve is better.", False: "A lower curve is better.", None: ""}
        done = "restored" if str(judge).startswith("Insertion") else "removed"
        x, y = f"pixels {done}, highest first (%)", "mean probability of the class"
        charts.append(Chart(f"{alone}{judge}", x, y, tuple(lines), better[results.directions.get(str(judge))]))
    return charts


def _rounded(values: Iterable[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)


def _subjects(results: Results, model: ModelResults) -> list[Subject]:
    """The images of a picture, as `drawn` takes them."""
    found = []
    for i, image in enumerate(model.drawn.images[:SHOWN]):
        alone = "" if len(results.models) == 1 else f", {model.model}"
        title = f"{class_name(model, image.label)}, probability {image.probability:.2f}{alone}"
        maps = {name: own[i] for name, own in model.drawn.maps.items()}
        weighted = model.drawn.weighted.get(image.name)
        starts = _starts(model, weighted) if weighted else ()
        caption = f"Of {weighted.method}, the {len(starts)} heaviest of {weighted.of} baselines." if weighted else ""
        found.append(Subject(image.name, title, model.drawn.pixels[i], maps, starts, caption))
    return found


def _starts(model: ModelResults, of: Weighted) -> tuple[Start, ...]:
    kind = model.experiment.baselines.removesuffix("s")
    rows = zip(of.places, of.pixels, of.maps, of.weights, of.distances, strict=True)
    return tuple(Start(f"{kind} {place + 1}", x, m, float(w), float(d)) for place, x, m, w, d in rows)
