"""The best weighting for a given cost: searched on some of the images, judged on the others.

    python -m benchmarks.wg_search --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE

tries pools, steps, screening, keeps, powers, other fitnesses and norms (`candidates`) that cost at most --budget
gradients for an image, by default what expected gradients takes for 10 baselines x 50 steps, the reference. On the
first of the images (--choose-on, half of them) it chooses the best for each goal; on the others these are judged,
also by judges that had no part in the choice. Prints and writes to --out search.md, search.csv (all candidates on the
first images), recipes.csv (the chosen ones on the others), scores.csv (image by image), search.png (quality over
cost) and report.html.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.experiment import plan
from benchmarks.experiment.bench import bench
from benchmarks.experiment.results import ModelResults
from benchmarks.experiment.scores import joined, with_constants
from benchmarks.experiment.settings import Experiment, command, options
from benchmarks.judges.columns import JUDGES
from benchmarks.judges.removals import FITTED
from benchmarks.methods.rows import written
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code, integer_from, positive
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.tables import markdown, notes, page, report
from benchmarks.tables.comparison import compare
from benchmarks.tables.recipes import CHOOSING, JUDGING, check_drawn, price, relation
from captum_wg.report import Report

DIRECTIONS = {name: JUDGES[name].higher_is_better for name in JUDGING}
# Fitnesses that are less of one judge: of several removals, and of removal and insertion.
SEVERAL: dict[str, Any] = {"neutral": ("corners", "mean", "blur")}
BOTH: dict[str, Any] = {"weighting": "both", "neutral": ("corners", "blur")}
POOLS, KEEPS, STEPS = (5, 10, 25, 50), (1, 3, 5, 10), (5, 10, 20, 50)
EQUAL = "equal weights"
JUDGED = (
    "The chosen ones on the other images, against the reference and the best with equal weights, by judges that "
    "their weights are fitted to (fitted), that chose them on the first (chose), that insert what the weights' fitness "
    "removes or the reverse (same removal), and that had no part in any of this (unseen). Improvement: relative change "
    "of the mean, positive where better; paired by image; Holm's correction over this table."
)
# Of the expected gradients that the others are compared with.
REFERENCE_POOL = 10


class Search(NamedTuple):
    """One model's search: the candidates' cost and improvement on the first images, the method chosen for each goal,
    and the comparison of these on the others."""

    reference: str
    candidates: pd.DataFrame
    chosen: dict[str, str]
    judged: pd.DataFrame
    first: ModelResults
    others: ModelResults

    @property
    def line(self) -> str:
        """What was chosen and judged on."""
        return (
            f"{self.first.model} on {self.first.data}: chosen on the first {len(self.first.images)} images, judged on "
            f"the other {len(self.others.images)}; {self.first.selection.line}"
        )


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    what = "The best weighted gradients for the cost of expected gradients with 10 baselines x 50 steps."
    # --steps has the steps, no judge is of masks, and FITTED is what D_alpha by corners is fitted to.
    no_use = ("--n-steps", "--masks", "--neutral")
    parser = options("wg_search", what, out="results/wg_search", without=no_use, n_baselines=50)
    add = parser.add_argument
    add("--budget", type=integer_from(1), default=500, help="gradients for an image (%(default)s)")
    add("--choose-on", type=integer_from(1), help="of --images, the first ones; the others judge (half of them)")
    add("--forward-cost", type=positive, default=0.45, help="of a forward, in gradients, as measured (%(default)s)")
    add("--steps", type=integer_from(1), nargs="+", default=list(STEPS), help=f"to try ({' '.join(map(str, STEPS))})")
    add("--screening-steps", type=integer_from(1), nargs="*", default=[3], help="to try (3)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the tables are written, 2 if the settings can't be used."""
    return exit_code(search, parse(arguments))


def candidates(
    n_baselines: int, steps: Sequence[int], screening_steps: Sequence[int], budget: float, price: Callable[[str], float]
) -> dict[str, float]:
    """The methods to try within the budget, and their cost; first the reference, whatever it costs.

    Each weighting of each pool takes the most steps that the budget allows. Expected and plain weighted gradients are
    tried with fewer, too, for the curve of quality over cost. Screened ones take no more steps than would cost the
    budget if no baseline were left out: the maps of the whole pool are computed, for all methods at once.
    """
    reference = reference_of(n_baselines, budget)
    found = {reference: price(reference)}
    for pool in sorted({*(pool for pool in POOLS if pool < n_baselines), n_baselines}):
        for base, settings in weightings(pool, screening_steps):
            screening = settings.get("screening_steps", 0)
            tried = [n for n in sorted(set(steps)) if not screening or screening < n <= budget / pool]
            names = [written(base, {"n_steps": n, "pool": pool, **settings}) for n in tried]
            within = {name: cost for name in names if (cost := price(name)) <= budget}
            found |= dict(list(within.items())[-1:]) if settings else within
    return found


def reference_of(n_baselines: int, budget: float) -> str:
    """Expected gradients as most take them, 10 baselines, with the steps that the budget pays for."""
    pool = min(REFERENCE_POOL, n_baselines)
    return written(EG, {"n_steps": max(1, int(budget // pool)), "pool": pool})


def weightings(pool: int, screening_steps: Sequence[int]) -> list[tuple[str, dict[str, Any]]]:
    """Those of a pool: expected or weighted gradients, and the settings beside pool and steps."""
    of_all = ({}, {"power": 0.5}, {"power": 2}, SEVERAL, {"power": 2, **SEVERAL}, BOTH)
    screenings = ({}, *({"screening_steps": n} for n in screening_steps))
    kept = [{"keep": keep, **screening} for keep in KEEPS if keep < pool for screening in screenings]
    of_kept = [one | by for one in kept for by in ({}, SEVERAL)]
    found = [(EG, {}), *((WG, settings) for settings in (*of_all, *of_kept))]
    # The map of a single baseline is its own whatever its norm.
    return found + [(base, {**own, "normalise_maps": True}) for base, own in found if own.get("keep") != 1]


def search(settings: argparse.Namespace) -> None:
    """Compute what is missing, choose on the first images, judge on the others, write and print."""
    check_drawn(settings.baselines)
    found = plan.for_each_model(settings, partial(search_one, settings))
    title, line = "The best weighting for a given cost", command(settings, "wg_search")
    about = (
        f"{'. '.join(one.line for one in found)}. At most {settings.budget} gradients an image, a forward counting "
        f"as {settings.forward_cost:g} of one and of a search's forwards the most that there may be. Each "
        "weighting of each pool takes the most steps that the budget allows; a screened one at most so many that "
        f"the maps of its whole pool would cost the budget. {settings.levels} levels, seed {settings.seed}."
    )
    blocks = [f"# {title}", about, f"    {line}", *(block for one in found for block in _blocks(one))]
    text = markdown.document(blocks)
    scores = joined(part.scores for one in found for part in (one.first, one.others))
    tables = {
        "search": pd.concat([one.candidates for one in found]),
        "recipes": pd.concat([one.judged for one in found]),
        "scores": with_constants(scores, seed=settings.seed),
    }
    shown = [(one.first.model, name, frame) for one in found for name, frame in _shown(one).items()]

    def of_search() -> Report:
        made = tuple(page.of_frame(f"{model}: {name}", frame) for model, name, frame in shown)
        missing = tuple(note for one in found for note in notes.missing([one.others]))
        return Report(title, (about,), line, made, notes=(JUDGED, *missing))

    report.write(settings.out / "search.md", text, tables, {"search": draw(found)}, of_search)
    print(text)


def search_one(settings: argparse.Namespace, experiment: Experiment, store: Store, runner: Runner) -> Search:
    """The search for one model.

    Raises:
        BenchmarkError: fewer than two images, none left to judge, or no candidate but the reference within the budget.
    """
    selection = plan.select(experiment, store, runner, settings.images or None)
    count, budget, seed = len(selection.images), settings.budget, settings.seed
    if count < 2:
        raise BenchmarkError("to choose and to judge needs at least two images; raise --images")
    choosing = settings.choose_on or (count + 1) // 2
    if choosing >= count:
        raise BenchmarkError(f"--choose-on {choosing} leaves none of the {count} images to judge; raise --images")
    n_pixels = bench(experiment).input(selection.images[0])[0].numel()
    cost = partial(price, experiment, n_pixels=n_pixels, forward_cost=settings.forward_cost)
    prices = candidates(settings.n_baselines, settings.steps, settings.screening_steps, budget, cost)
    reference, *tried = prices
    if prices[reference] > budget:
        raise BenchmarkError(
            f"--budget {budget} does not pay for one step of each of {min(REFERENCE_POOL, settings.n_baselines)} "
            "baselines, the reference; raise it"
        )
    if not tried:
        steps = ", ".join(map(str, settings.steps))
        raise BenchmarkError(
            f"--budget {budget} pays for no candidate of {steps} steps; raise it, or give fewer --steps"
        )

    def evaluate(which: slice, methods: Sequence[str], by: Sequence[str]) -> ModelResults:
        judged = [(name, judge) for name in methods for judge in by]
        more = {"chunk": settings.chunk, "which": which, "discard_maps": settings.discard_maps}
        return plan.evaluate(experiment, store, runner, selection, judged, **more)

    first = evaluate(slice(0, choosing), list(prices), CHOOSING)
    compared = compare(first.scores, [(reference, name) for name in tried], DIRECTIONS, seed)
    table = compared.pivot(index="method", columns="judge", values="improvement")[list(CHOOSING)].reset_index()
    table.insert(1, "cost", table["method"].map(prices))
    table["n"] = table["method"].map(compared.groupby("method")["n"].min())
    table = table.assign(model=experiment.model, seed=seed)
    if not table["n"].any():
        raise BenchmarkError(
            f"no candidate has a score by each of {', '.join(CHOOSING)}; see the cells in {store.folder}"
        )
    chosen = choose(table)
    rows, equal = list(dict.fromkeys(chosen.values())), chosen.get(EQUAL)
    others = evaluate(slice(choosing, None), [reference, *rows], JUDGING)
    pairs = [(reference, name) for name in rows] + [(equal, name) for name in rows if equal and name != equal]
    judged = compare(others.scores, pairs, DIRECTIONS, seed).assign(data=first.data, seed=seed)
    judged.insert(3, "this judge", [part_of(experiment, row.method, row.judge) for row in judged.itertuples()])
    return Search(reference, table, chosen, judged, first, others)


def part_of(experiment: Experiment, name: str, judge: str) -> str:
    """What a judge is to a method: as in `relation`, or it helped to choose ("chose")."""
    found = relation(experiment, judge, name)
    return "chose" if found != "fitted" and judge in CHOOSING else found


def choose(table: pd.DataFrame) -> dict[str, str]:
    """The method for each goal, from the improvements (a column for each choosing judge) and n, how many images count.

    "fitted": the best by the fitted judge. "all-round": the best mean improvement over the choosing judges, of the
    methods that are better by all of them, if there are any. "equal weights": the best mean improvement of expected
    gradients: what of the others' gain is not the weights'. Those that failed on an image are not chosen, if others
    did not.
    """
    values = table[table["n"] == table["n"].max()].set_index("method")[list(CHOOSING)]
    better, equal = values[(values > 0).all(axis=1)], values[values.index.str.startswith(EG)]
    all_round = better if len(better) else values
    means = {"all-round": all_round.mean(axis=1), EQUAL: equal.mean(axis=1)}
    return {goal: str(by.idxmax()) for goal, by in {"fitted": values[FITTED], **means}.items() if len(by)}


def draw(found: Sequence[Search]) -> Figure:
    """The candidates' improvement over their cost, a panel for each choosing judge, the chosen ones marked."""
    figure = Figure(figsize=(4 * len(CHOOSING), 3.2 * len(found)), layout="constrained")
    for axes, one in zip(figure.subplots(len(found), len(CHOOSING), squeeze=False), found, strict=True):
        names = one.candidates["method"].str
        is_kind = [names.startswith(EG), names.contains("screening_steps="), names.contains("keep=")]
        kinds = np.select(is_kind, [EG, "WG, screened", "WG, keep"], WG)
        chosen = one.candidates[one.candidates["method"].isin(one.chosen.values())]
        for axis, judge in zip(axes, CHOOSING, strict=True):
            for kind in dict.fromkeys(kinds):
                part = one.candidates[kinds == kind]
                axis.scatter(part["cost"], 100 * part[judge], s=14, label=kind)
            axis.scatter(chosen["cost"], 100 * chosen[judge], s=70, facecolors="none", edgecolors="black")
            axis.axhline(0, color="grey", linewidth=1)
            axis.set_title(judge, fontsize=9)
            axis.set_xlabel("gradients an image", fontsize=8)
            axis.set_ylabel(f"improvement on {one.reference.replace(EG, 'EG')}, %", fontsize=8)
        axes[0].legend(fontsize=7)
    return figure


def _blocks(one: Search) -> list[str]:
    table = one.candidates
    failed = int((table["n"] < table["n"].max()).sum())
    *best, (_, judged) = _shown(one).items()
    chosen = "; ".join(f"{name} ({goal})" for goal, name in one.chosen.items())
    return [
        f"## {one.line}",
        f"Improvements on {one.reference}. Chosen of {len(table)}: {chosen}."
        + (f" {failed} candidates have no score for some images, and were not chosen." if failed else ""),
        *(block for name, frame in best for block in (f"{name}:", markdown.table(frame))),
        JUDGED,
        markdown.compared_text(judged),
        *(f"- {note}" for note in notes.missing([one.others])),
    ]


def _shown(one: Search) -> dict[str, pd.DataFrame]:
    """The tables in words, by what they hold: the best candidates by two measures, and last the chosen ones."""
    table = one.candidates
    return {
        "The best by the fitted judge, on the first images": _best(table, table[FITTED]),
        "The best on the mean of the choosing judges, on the first images": _best(
            table, table[list(CHOOSING)].mean(axis=1)
        ),
        "The chosen ones on the other images": markdown.compared(
            one.judged, DIRECTIONS, extra=["reference", "this judge"]
        ),
    }


def _best(table: pd.DataFrame, by: pd.Series, count: int = 8) -> pd.DataFrame:
    best = table.loc[by.sort_values(ascending=False).index[:count], ["method", "cost", *CHOOSING]]
    forms = {"cost": "{:.0f}".format, **dict.fromkeys(CHOOSING, markdown.percent)}
    return best.assign(**{name: best[name].map(form) for name, form in forms.items()})


if __name__ == "__main__":
    sys.exit(main())
