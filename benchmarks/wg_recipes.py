"""Recipes judged on images and references that had no part in finding them.

    python -m benchmarks.wg_recipes --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE --seed 2

Where `wg_search` chooses among many ways, this takes the few that are named (--methods) and compares each with the same
reference, and each weighting also with equal weights of the same baselines: what of a gain is the weights', and what
that of the baselines. Give a --seed that the search did not have: it draws other images and other references; --without
FILE leaves out the images of an earlier run. Prints and writes to --out recipes.md, recipes.csv, scores.csv
and report.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from benchmarks.experiment import plan
from benchmarks.experiment.results import ModelResults, Results
from benchmarks.experiment.settings import Experiment, command, experiments, has_masks, options
from benchmarks.judges import columns
from benchmarks.methods.method import Method
from benchmarks.methods.weightings import EG, WG, Weighting
from benchmarks.run.command_line import exit_code, positive
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.tables import markdown, notes, page, report
from benchmarks.tables.comparison import compare
from benchmarks.tables.recipes import JUDGING, check_drawn, price, relation
from captum_wg.report import Report

REFERENCE = f"{EG}(n_steps=50, pool=10)"
RECIPES = (
    f"{EG}(n_steps=50, pool=10, normalise_maps=True)",
    f"{WG}(n_steps=50, pool=10)",
    f"{WG}(n_steps=50, pool=10, power=0.5, normalise_maps=True)",
    f"{EG}(n_steps=5, pool=50)",
    f"{EG}(n_steps=10, pool=50)",
    f"{WG}(n_steps=5, pool=50)",
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    what = "Named ways to spend gradients, compared on images that had no part in finding them."
    parser = options("wg_recipes", what, out="results/wg_recipes", n_baselines=50)
    add, known = parser.add_argument, ", ".join(columns.JUDGES)
    add("--reference", default=REFERENCE, metavar="NAME", help="what all are compared with (%(default)s)")
    words = f"with their settings as in '{WG}(n_steps=5, pool=50)' ({'; '.join(RECIPES)})"
    add("--methods", nargs="+", default=list(RECIPES), metavar="NAME", help=words)
    add("--judges", nargs="+", default=list(JUDGING), metavar="NAME", help=f"of {known} ({', '.join(JUDGING)})")
    add("--forward-cost", type=positive, default=0.45, help="of a forward, in gradients, as measured (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the tables are written, 2 if the settings can't be used."""
    return exit_code(recipes, parse(arguments))


def pairs(reference: Method, methods: Sequence[Method]) -> list[tuple[str, str]]:
    """(reference, method) of the table: each against the reference, and each weighting against those of equal weights
    and the same baselines, with or without norms as it has, whatever the steps of their quadrature."""
    every = {method.name: method.weighting for method in (reference, *methods)}
    equal = [(name, one) for name, one in every.items() if one and not one.fitted]
    fitted = [(name, one) for name, one in every.items() if one and one.fitted]
    found = [(reference.name, name) for name in every if name != reference.name]
    found += [(other, name) for name, own in fitted for other, one in equal if _maps(one) == _maps(own)]
    return list(dict.fromkeys(found))


def _maps(weighting: Weighting) -> tuple[int, bool, bool]:
    """Of how many baselines, whether they are normalised, and whether their points are random."""
    return weighting.pool, weighting.normalise_maps, weighting.n_random is not None


def recipes(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and print it.

    Raises:
        BenchmarkError: a method or judge that there is not, nothing to compare the reference with; see also
            `check_drawn`.
    """
    check_drawn(settings.baselines)
    judges = columns.choose(settings.judges, has_masks(settings))
    experiment = experiments(settings)[0]
    reference, *methods = (experiment.method(name) for name in (settings.reference, *settings.methods))
    compared = pairs(reference, methods)
    if not compared:
        raise BenchmarkError(f"--methods names nothing but the reference {reference.name}; give another method")
    judged = [(name, judge.name) for judge in judges for name in dict.fromkeys(sum(compared, ()))]

    def work(experiment: Experiment, store: Store, runner: Runner) -> ModelResults:
        selection = plan.select(experiment, store, runner, settings.images or None)
        more = {"chunk": settings.chunk, "discard_maps": settings.discard_maps}
        return plan.evaluate(experiment, store, runner, selection, judged, **more)

    results = Results((reference, *methods), tuple(judges), tuple(plan.for_each_model(settings, work)))
    sizes = {one.model: one.shape[1] * one.shape[2] for one in results.models}
    found = compare(results.scores, compared, results.directions, settings.seed)
    prices = [price(experiment, row.method, sizes[row.model], settings.forward_cost) for row in found.itertuples()]
    found.insert(3, "gradients", prices)
    relations = [relation(experiment, row.judge, row.method, row.reference) for row in found.itertuples()]
    found.insert(4, "this judge", relations)
    of_reference = [f"{price(experiment, reference.name, size, settings.forward_cost):.0f}" for size in sizes.values()]
    shown, against = found.assign(gradients=found["gradients"].map("{:.0f}".format)), found["reference"]

    def words(rows: pd.Series, *extra: str) -> pd.DataFrame:
        return markdown.compared(shown[rows], results.directions, extra=[*extra, "gradients", "this judge"])

    is_reference = against == reference.name
    parts = {
        f"Against {reference.name}": words(is_reference),
        "Against equal weights of the same baselines": words(~is_reference, "reference"),
    }
    how = f"{settings.levels} levels, seed {settings.seed}."
    title, line = f"Recipes: {results.data}", command(settings, "wg_recipes")
    missing = notes.missing(results.models) or ["no image failed."]
    meaning = (
        f"Gradients: for one image, a forward counting as {settings.forward_cost:g} of one, and of a search's "
        f"forwards the most that there may be; the reference {reference.name} takes {', '.join(of_reference)}. "
        "This judge: the weights of the method or of its reference are fitted to it; it inserts what their fitness "
        "removes, or the reverse (same removal); or neither (unseen). Improvement: relative change of the mean, "
        "positive where better; paired by image; Holm's correction over both tables."
    )
    document = markdown.document(
        [
            f"# {title}",
            report.heading(results, line, how),
            meaning,
            *(block for title, part in parts.items() for block in (f"## {title}", markdown.compared_text(part))),
            markdown.bullets(missing),
        ]
    )

    def of_results() -> Report:
        return page.of_results(results, title, report.about(results, how), line, [meaning, *missing], parts)

    tables = report.stamped(results, recipes=found, scores=results.scores)
    report.write(settings.out / "recipes.md", document, tables, page=of_results)
    print(document)


if __name__ == "__main__":
    sys.exit(main())
