"""The reports of the two tables, and how any report is written: as a set. The same results give the same files.

Beside what each says it writes, a report is a page, report.html, and report.json, of which `captum-wg report` makes it.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.experiment.results import Results
from benchmarks.experiment.scores import with_constants
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.faults import one_line
from benchmarks.run.store import atomic_file, leftovers, remove_abandoned, write_atomically
from benchmarks.tables import ablations, figures, markdown, means, notes, page, removal
from benchmarks.tables.comparison import compare
from captum_wg.report import NAME, PAGE, Report, html

# Images below which a comparison of methods is not shown.
FEW = 10


def attribution(
    folder: Path,
    results: Results,
    command: str,
    asked: int = 0,
    more: Mapping[str, Callable[[], Figure]] | None = None,
    lines: Sequence[str] = (),
) -> str:
    """The attribution table: writes table.md, table.csv, paired.csv, scores.csv and maps.png; returns the text.

    Weightings are compared with expected gradients by the judges that remove or restore pixels, of fewer than FEW
    images in paired.csv alone.

    Args:
        command: the command line that gives the same table.
        asked: for so many images the user asked; 0: for all.
        more: figures beside that of the maps, by name.
        lines: what stands above the table, such as how few images these are.
    """
    judges = {judge.name: judge.higher_is_better for judge in results.judges if judge.works_by}
    pairs = [(EG, row.name) for row in results.methods if row.weighting and row.name != EG]
    paired = compare(results.scores, pairs, judges, results.models[0].experiment.seed)
    table = means.table(results)
    drawn, undrawn = draw({"maps": lambda: _maps(results, [row.name for row in results.methods]), **(more or {})})
    against, explained, in_page = [], [means.MEANING], {}
    if len(paired) and paired["n"].max() < FEW:
        explained.append(f"paired.csv compares weightings with {EG} image by image; of so few images that says little.")
    elif len(paired):
        single = ["model"] * (len(results.models) == 1)
        words = markdown.compared(paired, judges, drop=single)
        in_page = {f"Against {EG}, paired by image": words}
        against = [f"## Against {EG}, paired by image", markdown.compared_text(words)]
        explained.append(notes.COMPARED)
    explained += [*notes.notes(results, asked), *undrawn]
    title = f"Attribution table: {results.data}"
    above = [f"# {title}", heading(results, command), *lines]
    text = markdown.document([*above, *means.text(results, table), *against, markdown.bullets(explained)])

    def shown() -> Report:
        said = " ".join([about(results), *lines])
        return page.of_results(results, title, said, command, explained[1:], in_page)

    tables = stamped(results, table=table, paired=paired, scores=results.scores)
    write(folder / "table.md", text, tables, drawn, shown)
    return text


def weighted_gradients(
    folder: Path,
    results: Results,
    command: str,
    asked: int = 0,
    *,
    keep: int,
    controls: Sequence[str],
    settings: Sequence[ablations.Row] = (),
) -> str:
    """The tables of Duc et al. (2025): writes tables.md, table1.csv, table2.csv, figure2.csv, scores.csv, figure1.png,
    figure2.png, and with `settings` table3.csv; returns the text.

    Args:
        command, asked: as in `attribution`.
        keep: how many baselines Table 2 keeps.
        controls: the methods of Table 1 beside WG.
        settings: the rows of Table 3.
    """
    experiment, scores, directions = results.models[0].experiment, results.scores, results.directions
    first = compare(scores, [(EG, WG), *((EG, name) for name in controls)], directions, experiment.seed)
    second = compare(scores, [(WG, removal.kept(keep))], directions, experiment.seed)
    removing = [judge.name for judge in results.judges if judge.removes]
    curves = removal.curves(scores, removing, experiment.n_baselines, experiment.seed)
    tables = {"table1": first, "table2": second, "figure2": curves, "scores": scores}
    title = f"Expected and weighted gradients: {results.data}"
    titles = [
        f"Table 1: {WG} and controls against {EG}",
        f"Table 2: the {keep} fittest of {experiment.n_baselines} baselines against all of them",
    ]
    blocks = [
        f"# {title}",
        heading(results, command),
        f"## {titles[0]}",
        markdown.comparison(first, directions),
        f"## {titles[1]}",
        markdown.comparison(second, directions),
        "## Figure 2: the least fit baselines removed",
        removal.text(curves),
    ]
    if settings:
        tables["table3"] = ablations.table(scores, settings, directions, experiment.seed)
        blocks += ["## Table 3: one setting at a time", ablations.MEANING, ablations.text(tables["table3"])]
    shown = (EG, WG, removal.kept(keep), *controls)
    drawn, undrawn = draw({"figure2": lambda: removal.draw(curves), "figure1": lambda: _maps(results, shown)})
    rows = [row for row in results.methods if row.name in (EG, WG, *controls)]
    explained = [notes.COMPARED, *notes.notes(results, asked, rows), *undrawn]
    text = markdown.document([*blocks, markdown.bullets(explained)])

    def page_of() -> Report:
        more = {name: markdown.compared(one, directions) for name, one in zip(titles, (first, second), strict=True)}
        if settings:
            more["Table 3: one setting at a time"] = ablations.wide(tables["table3"])
        charts = removal.charts(curves)
        return page.of_results(results, title, about(results), command, explained, more, charts, shown)

    write(folder / "tables.md", text, stamped(results, **tables), drawn, page_of)
    return text


def heading(results: Results, command: str, how: str = "") -> str:
    """What all is `about`, and the command."""
    return f"{about(results, how)}\n\n    {command}"


def about(results: Results, how: str = "") -> str:
    """The data, how many images for each model, and what all is made with, unless `how` says it."""
    one = results.models[0].experiment
    lines = [f"{model.model} on {model.data}: {model.selection.line}" for model in results.models]
    radii = [f"{model.radius:g}" for model in results.models if not math.isnan(model.radius)]
    chosen = ", a tenth of the median distance between an image and a baseline" * (one.radius is None)
    how = how or (
        f"{one.n_baselines} baselines ({one.baselines}) x {one.n_steps} steps, alpha {one.alpha:g}, neutral "
        f"{one.neutral}, {one.ranking} ranking, {one.levels} levels, seed {one.seed}."
        + (f" Local radius {', '.join(radii)}{chosen} (normalised units)." if radii else "")
    )
    return f"{'. '.join(lines)}. {how}"


def draw(makers: Mapping[str, Callable[[], Figure]]) -> tuple[dict[str, Figure], list[str]]:
    """The figures, and a note for each that could not be drawn: the tables matter more than their pictures."""
    drawn, lines = {}, []
    for name, make in makers.items():
        try:
            drawn[name] = make()
        except Exception as error:
            lines.append(f"{name}.png could not be drawn: {one_line(error)}")
    return drawn, lines


def write(
    path: Path,
    text: str,
    tables: Mapping[str, pd.DataFrame],
    drawn: Mapping[str, Figure] | None = None,
    page: Callable[[], Report] | None = None,
) -> None:
    """Write tables and figures beside a text (NAME.csv, NAME.png), the page, and last the text, which is there only if
    all the others are of the same run.

    Args:
        page: makes what report.json and report.html hold; where it fails, stderr has the reason.

    Raises:
        BenchmarkError: one of them can't be written, such as on a full disk.
    """
    drawn = drawn or {}
    for name in (path.name, NAME, PAGE, *(f"{name}.csv" for name in tables), *(f"{name}.png" for name in drawn)):
        remove_abandoned(path.parent, leftovers(name))
    with contextlib.suppress(OSError):  # writing says what is wrong
        for old in (path, *map(path.with_name, (NAME, PAGE))):
            old.unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_file(path.with_name(f"{name}.csv")) as file:
            table.to_csv(file, index=False)
    for name, figure in drawn.items():
        write_atomically(path.with_name(f"{name}.png"), figures.png(figure))
    if page:
        write_page(path.parent, page)
    write_atomically(path, text.encode())


def write_page(folder: Path, make: Callable[[], Report]) -> None:
    """Write report.json and report.html; the tables matter more, so what can't be made is said and left out.

    Raises:
        BenchmarkError: one of them can't be written.
    """
    made: dict[str, str] = {}
    try:
        report = make()
        made[NAME] = report.to_json()
        made[PAGE] = html(report)
    except Exception as error:
        print(f"{PAGE} was not written: {one_line(error)}", file=sys.stderr)
    for name, text in made.items():
        write_atomically(folder / name, text.encode())


def stamped(results: Results, **tables: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Tables with the data and the seed, which follow from none of their other columns."""
    seed = results.models[0].experiment.seed
    return {name: with_constants(table, data=results.data, seed=seed) for name, table in tables.items()}


def _maps(results: Results, methods: Sequence[str]) -> Figure:
    """The images of all models, and the maps of those of the methods that have one of each."""
    models = [model for model in results.models if model.drawn.images]
    shown = [name for name in methods if all(name in model.drawn.maps for model in models)]
    return figures.maps(
        [image for model in models for image in model.drawn.pixels],
        {name: [a for model in models for a in model.drawn.maps[name]] for name in shown},
        labels=[model.model for model in models for _ in model.drawn.images],
    )
