"""Recipes judged on images and references that had no part in finding them.

    python -m benchmarks.wg_recipes --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE --seed 2

Where `wg_search` chooses among many ways, this takes the few that are named (--methods) and compares each with the same
reference, and each weighting also with equal weights of the same baselines: what of a gain is the weights', and what
that of the baselines. Give a --seed that the search did not have: it draws other images and other references; --without
FILE leaves out the images of an earlier run. Prints and writes to --out recipes.md, recipes.csv and scores.csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import pandas as pd

from benchmarks import score_tables, wg_experiment, wg_judges, wg_run
from benchmarks.run.command_line import exit_code, positive
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_methods import EG, WG, WORDS, Method
from benchmarks.wg_report import comparison_text, problem_notes, write_set
from benchmarks.wg_search import JUDGING, check_pools, price
from benchmarks.wg_statistics import comparison_table

REFERENCE = f"{EG}-pool10-steps50"
RECIPES = (
    f"{EG}-pool10-steps50-normalised",
    f"{WG}-pool10-steps50",
    f"{WG}-pool10-steps50-power0.5-normalised",
    f"{EG}-pool50-steps5",
    f"{EG}-pool50-steps10",
    f"{WG}-pool50-steps5",
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = wg_run.options(
        "python -m benchmarks.wg_recipes",
        "Named ways to spend gradients, compared on images that had no part in finding them.",
        out="results/wg_recipes",
        n_baselines=50,
    )
    known = wg_judges.available()
    add = parser.add_argument
    add("--reference", default=REFERENCE, metavar="NAME", help="what all are compared with (%(default)s)")
    add(
        "--methods",
        nargs="+",
        default=list(RECIPES),
        metavar="NAME",
        help=f"with their settings as words, such as {WG}-pool50-steps5; the words are {WORDS} ({', '.join(RECIPES)})",
    )
    add(
        "--judges",
        nargs="+",
        default=list(JUDGING),
        metavar="NAME",
        help=f"of {', '.join(known)} ({', '.join(JUDGING)})",
    )
    add("--forward-cost", type=positive, default=0.45, help="of a forward, in gradients, as measured (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the tables are written, 2 if the settings can't be used."""
    return exit_code(compare, parse(arguments))


def pairs(experiment: Experiment, reference: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    """(reference, method) of the table: each against the reference, and each weighting against those of equal weights
    and the same baselines, with or without norms as it has, whatever the steps of their quadrature."""
    parsed = {name: experiment.method(name) for name in dict.fromkeys((reference, *methods))}
    found = [(reference, name) for name in parsed if name != reference]
    found += [
        (other, name)
        for name, method in parsed.items()
        for other, equal in parsed.items()
        if method.needs_fitness
        and not (equal.needs_fitness or equal.control)
        and _baselines(experiment, equal) == _baselines(experiment, method)
    ]
    return list(dict.fromkeys(found))


def _baselines(experiment: Experiment, method: Method) -> tuple[int, bool, str]:
    """How many a method has, whether their maps are normalised, and of which kind of points these are."""
    return method.pool or experiment.n_baselines, method.normalised, method.points.rstrip("0123456789")


def compare(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and print it.

    Raises:
        BenchmarkError: a method or judge that there is not, nothing to compare the reference with; see also
            `check_pools`.
    """
    check_pools(settings.baselines)
    masks = settings.data == "coco" or settings.masks is not None
    judges = wg_judges.choose(
        wg_judges.available(settings.levels, settings.ranking, settings.batch), settings.judges, masks
    )
    directions = {judge.name: judge.higher_is_better for judge in judges}
    experiment = wg_run.experiments(settings)[0]
    compared = pairs(experiment, settings.reference, settings.methods)
    if not compared:
        raise BenchmarkError(f"--methods names nothing but the reference {settings.reference}; give another method")
    names = list(dict.fromkeys(name for pair in compared for name in pair))

    def work(experiment: Experiment, store: Store, runner: Runner) -> wg_run.Part:
        return wg_run.evaluate(
            experiment,
            store,
            runner,
            wg_run.select(experiment, store, runner, settings.images or None),
            chunk=settings.chunk,
            judged=[(name, judge.name) for judge in judges for name in names],
            discard_maps=settings.discard_maps,
        )

    parts = wg_run.run(settings, work)
    for part in parts:
        for text in part.selection.unreadable:
            print(f"skipped, {text}", file=sys.stderr)
    scores = score_tables.joined(part.scores for part in parts)
    table = comparison_table(scores, compared, directions, settings.seed)
    # How many pixels there are is the same for all images of a model.
    pixels = {part.experiment.model: _pixels(part) for part in parts}
    costs = {
        (part.experiment.model, name): price(
            part.experiment, name, pixels[part.experiment.model], settings.forward_cost
        )
        for part in parts
        for name in names
    }
    table.insert(3, "gradients", [costs[key] for key in zip(table["model"], table["method"], strict=True)])
    table.insert(
        4,
        "this judge",
        [
            _relation(experiment, method, reference, judge)
            for method, reference, judge in zip(table["method"], table["reference"], table["judge"], strict=True)
        ],
    )
    data = wg_experiment.bench(parts[0].experiment).pictures.name
    text = "\n\n".join(
        [
            f"# Recipes: {data}",
            ". ".join(f"{part.experiment.model}: {part.selection.line}" for part in parts)
            + f". {settings.levels} levels, seed {settings.seed}.\n\n    {wg_run.command(settings, 'wg_recipes')}",
            f"Gradients: for one image, a forward counting as {settings.forward_cost:g} of one, and of a search's "
            f"forwards the most that there may be; the reference {settings.reference} takes "
            + ", ".join(f"{costs[part.experiment.model, settings.reference]:.0f}" for part in parts)
            + ". This judge: the weights of the method or of its reference are fitted to it; it inserts what their "
            "fitness removes, or the reverse (same removal); or neither (unseen). Improvement: relative change of the "
            "mean, positive where better; paired by image; Holm's correction over both tables.",
            f"## Against {settings.reference}",
            _text(table[table["reference"] == settings.reference], directions),
            "## Against equal weights of the same baselines",
            _text(table[table["reference"] != settings.reference], directions, ["reference"]),
            "Notes:\n\n" + "\n".join(f"- {note}" for note in problem_notes(parts, scores) or ["no image failed."]),
        ]
    )
    tables = {"recipes": table, "scores": scores}
    stamped = {
        name: score_tables.with_constants(found, data=data, seed=settings.seed) for name, found in tables.items()
    }
    write_set(settings.out / "recipes.md", text + "\n", stamped)
    print(text)


def _text(table: pd.DataFrame, directions: dict[str, bool], extra: Sequence[str] = ()) -> str:
    shown = table.assign(gradients=table["gradients"].map("{:.0f}".format))
    return comparison_text(shown, directions, extra=[*extra, "gradients", "this judge"])


def _pixels(part: wg_run.Part) -> int:
    return int(wg_experiment.bench(part.experiment).input(part.selection.images[0])[0, 0].numel())


def _relation(experiment: Experiment, method: str, reference: str, judge: str) -> str:
    methods = map(experiment.method, (method, reference))
    # Weights in a random order please nobody.
    by = [one.fitness if one.needs_fitness and not one.shuffled else None for one in methods]
    found = {wg_judges.relation(fitness, judge) for fitness in by}
    return next(name for name in ("fitted", "same removal", "unseen") if name in found)


if __name__ == "__main__":
    sys.exit(main())
