"""The best weighting for a given cost: searched on some of the images, judged on the others.

    python -m benchmarks.wg_search --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE

tries pools, steps, screening, keeps, powers, other fitnesses and norms (`candidates`) that cost at most --budget
gradients for an image, by default what expected gradients takes for 10 baselines x 50 steps, the reference. On the
first of the images (--choose-on, half of them) it chooses the best for each goal; on the others these are judged,
also by judges that had no part in the choice. Prints and writes to --out search.md, search.csv (all candidates on the
first images), recipes.csv (the chosen ones on the others), scores.csv (image by image) and search.png (quality over
cost).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks import score_tables, wg_experiment, wg_judges, wg_run
from benchmarks.run.command_line import exit_code, integer_from, positive
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_judges import FITTED
from benchmarks.wg_methods import EG, WG, kept
from benchmarks.wg_report import comparison_text, problem_notes, write_set
from benchmarks.wg_statistics import comparison_table

# Those that choose; the others only see what was chosen.
CHOOSING = (FITTED, "DeletionAUC-noise", "InsertionAUC-noise")
JUDGING = (
    FITTED,
    "DeletionAUC-noise",
    "InsertionAUC-noise",
    "DeletionAUC-blur",
    "DeletionAUC-mean",
    "InsertionAUC",
    "InsertionAUC-blur",
    "InsertionAUC-mean",
)
# Fitnesses that are less of one judge: of several removals, and of removal and insertion.
SEVERAL, BOTH = "neutral=corners+mean+blur", "both-neutral=corners+blur"
POOLS, KEEPS, STEPS = (5, 10, 25, 50), (1, 3, 5, 10), (5, 10, 20, 50)
SCREENED = (
    "Each weighting of each pool takes the most steps that the budget allows; a screened one at most so many that the "
    "maps of its whole pool would cost the budget."
)
EQUAL = "equal weights"
# Of the expected gradients that the others are compared with.
REFERENCE_POOL = 10


@dataclasses.dataclass(frozen=True)
class Found:
    """One model's search.

    Attributes:
        reference: expected gradients with 10 baselines and as many steps as the budget allows.
        candidates: each method's cost and its improvement by each choosing judge, on the first images.
        chosen: the method for each goal.
        judged: the chosen methods' comparison with the reference on the others.
        parts: the results on the first images, and on the others.
    """

    line: str
    reference: str
    candidates: pd.DataFrame
    chosen: dict[str, str]
    judged: pd.DataFrame
    parts: tuple[wg_run.Part, ...] = ()


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = wg_run.options(
        "python -m benchmarks.wg_search",
        "The best weighted gradients for the cost of expected gradients with 10 baselines x 50 steps.",
        out="results/wg_search",
        # --steps has the steps, no judge is of masks, and FITTED is what D_alpha by corners is fitted to.
        without=("--n-steps", "--masks", "--neutral"),
        n_baselines=50,
    )
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
    """The methods to try and their cost, within the budget; the reference first.

    Each weighting of each pool takes the most steps that the budget allows. Expected and plain weighted gradients are
    tried with fewer, too, for the curve of quality over cost. Screened ones take no more steps than would cost the
    budget if no baseline were left out (SCREENED says so to the reader): the runner does compute the maps of the whole
    pool, for all methods at once.
    """
    reference = reference_of(n_baselines, budget)
    found = {reference: price(reference)}
    for pool in sorted({*(pool for pool in POOLS if pool < n_baselines), n_baselines}):
        for weighting in weightings(pool, screening_steps):
            base, *words = weighting.split("-")
            ways = {n: "-".join([base, f"pool{pool}", f"steps{n}", *words]) for n in sorted(set(steps))}
            if screened := [int(word.removeprefix("screened")) for word in words if word.startswith("screened")]:
                ways = {n: way for n, way in ways.items() if n > screened[0] and n * pool <= budget}
            within = {way: cost for way in ways.values() if (cost := price(way)) <= budget}
            found |= within if words in ([], ["power1"]) else dict(list(within.items())[-1:])
    return {name: cost for name, cost in found.items() if cost <= budget}


def reference_of(n_baselines: int, budget: float) -> str:
    """Expected gradients as most take them, 10 baselines, with the steps that the budget pays for."""
    pool = min(REFERENCE_POOL, n_baselines)
    return f"{EG}-pool{pool}-steps{max(1, int(budget // pool))}"


def weightings(pool: int, screening_steps: Sequence[int]) -> list[str]:
    """Those of a pool, without the words of pool and steps."""
    found = [EG, *(f"{WG}-{words}" for words in ("power1", "power0.5", "power2", SEVERAL, f"{SEVERAL}-power2", BOTH))]
    for keep in (keep for keep in KEEPS if keep < pool):
        ways = [f"{way}{by}" for way in ("", *(f"-screened{n}" for n in screening_steps)) for by in ("", f"-{SEVERAL}")]
        found += [f"{kept(keep)}{way}" for way in ways]
    # The map of a single baseline is its own whatever its norm.
    return found + [f"{name}-normalised" for name in found if not name.startswith(kept(1) + "-") and name != kept(1)]


def search(settings: argparse.Namespace) -> None:
    """Compute what is missing, choose on the first images, judge on the others, write and print.

    Raises:
        BenchmarkError: see `check_pools` and `search_one`.
    """
    check_pools(settings.baselines)
    judges = wg_judges.available(settings.levels, settings.ranking, settings.batch)
    directions = {name: judges[name].higher_is_better for name in JUDGING}
    found = wg_run.run(settings, lambda *things: search_one(settings, directions, *things))
    text = "\n\n".join(
        [
            "# The best weighting for a given cost",
            ". ".join(one.line for one in found)
            + f". At most {settings.budget} gradients an image, a forward counting as {settings.forward_cost:g} of "
            "one and of a search's forwards the most that there may be. "
            f"{SCREENED} "
            f"{settings.levels} levels, seed {settings.seed}.\n\n"
            f"    {wg_run.command(settings, 'wg_search')}",
            *(block for one in found for block in _blocks(one, directions)),
        ]
    )
    tables = {
        "search": pd.concat([one.candidates for one in found]),
        "recipes": pd.concat([one.judged for one in found]),
        "scores": score_tables.with_constants(
            score_tables.joined(part.scores for one in found for part in one.parts), seed=settings.seed
        ),
    }
    write_set(settings.out / "search.md", text + "\n", tables, {"search": draw(found)})
    print(text)


def check_pools(baselines: str) -> None:
    """That the first few of these baselines are a smaller set of the same kind.

    Raises:
        BenchmarkError: they are not.
    """
    if baselines in ("blur", "published"):
        raise BenchmarkError(
            f"--baselines {baselines} are not drawn, so the first few of them are no smaller set of the same kind; use "
            "references, uniform or gaussian"
        )


def search_one(
    settings: argparse.Namespace, directions: dict[str, bool], experiment: Experiment, store: Store, runner: Runner
) -> Found:
    """The search for one model.

    Raises:
        BenchmarkError: fewer than two images, none left to judge, or no candidate but the reference within the budget.
    """
    selection = wg_run.select(experiment, store, runner, settings.images or None)
    if len(selection.images) < 2:
        raise BenchmarkError("to choose and to judge needs at least two images; raise --images")
    n_features = int(wg_experiment.bench(experiment).input(selection.images[0])[0, 0].numel())
    prices = candidates(
        settings.n_baselines,
        settings.steps,
        settings.screening_steps,
        settings.budget,
        lambda name: price(experiment, name, n_features, settings.forward_cost),
    )
    reference = reference_of(settings.n_baselines, settings.budget)
    if reference not in prices:
        raise BenchmarkError(
            f"--budget {settings.budget} does not pay for one step of each of "
            f"{min(REFERENCE_POOL, settings.n_baselines)} baselines, the reference; raise it"
        )
    if len(prices) < 2:
        raise BenchmarkError(
            f"--budget {settings.budget} pays for no candidate of {', '.join(map(str, settings.steps))} steps; raise "
            "it, or give fewer --steps"
        )
    within = list(prices)
    choosing = settings.choose_on or (len(selection.images) + 1) // 2
    if choosing >= len(selection.images):
        raise BenchmarkError(
            f"--choose-on {choosing} leaves none of the {len(selection.images)} images to judge; raise --images"
        )

    def evaluate(which: slice, methods: Sequence[str], by: Sequence[str]) -> wg_run.Part:
        judged = [(name, judge) for name in methods for judge in by]
        return wg_run.evaluate(
            experiment,
            store,
            runner,
            selection,
            chunk=settings.chunk,
            judged=judged,
            which=which,
            discard_maps=settings.discard_maps,
        )

    parts = [evaluate(slice(0, choosing), within, CHOOSING)]
    first = comparison_table(
        parts[0].scores,
        [(reference, name) for name in within if name != reference],
        {name: directions[name] for name in CHOOSING},
        settings.seed,
    )
    table = first.pivot(index="method", columns="judge", values="improvement")[list(CHOOSING)].reset_index()
    table.insert(1, "cost", table["method"].map(prices))
    table["n"] = table["method"].map(first.groupby("method")["n"].min())
    table = table.assign(model=experiment.model, seed=settings.seed)
    if not table["n"].any():
        raise BenchmarkError(
            f"no candidate has a score by each of {', '.join(CHOOSING)}; see the cells in {store.folder}"
        )
    chosen = choose(table)
    rows = list(dict.fromkeys(chosen.values()))
    equal = chosen.get(EQUAL)
    parts.append(evaluate(slice(choosing, None), [reference, *rows], JUDGING))
    second = comparison_table(
        parts[1].scores,
        [(reference, name) for name in rows] + [(equal, name) for name in rows if equal and name != equal],
        directions,
        settings.seed,
    )
    data = wg_experiment.bench(experiment).pictures.name
    line = (
        f"{experiment.model} on {data}: chosen on the first {choosing} images, judged on the other "
        f"{len(selection.images) - choosing}; {selection.line}"
    )
    for text in selection.unreadable:
        print(f"skipped, {text}", file=sys.stderr)
    relations = [part_of(experiment, m, j) for m, j in zip(second["method"], second["judge"], strict=True)]
    second.insert(3, "this judge", relations)
    return Found(line, reference, table, chosen, second.assign(data=data, seed=settings.seed), tuple(parts))


def price(experiment: Experiment, name: str, n_features: int, forward_cost: float) -> float:
    """What a method takes for one image, in gradients."""
    gradients, forwards = experiment.method(name).evaluations(experiment.n_baselines, n_features)
    return gradients + forward_cost * forwards


def part_of(experiment: Experiment, name: str, judge: str) -> str:
    """What a judge is to a method: as in `wg_judges.relation`, or it helped to choose ("chose")."""
    method = experiment.method(name)
    found = wg_judges.relation(method.fitness if method.needs_fitness else None, judge)
    return "chose" if found != "fitted" and judge in CHOOSING else found


def choose(table: pd.DataFrame) -> dict[str, str]:
    """The method for each goal, from the improvements (a column for each choosing judge) and n, how many images count.

    "fitted": the best by the fitted judge. "all-round": the best mean improvement over the choosing judges, of the
    methods that are better by all of them, if there are any. "equal weights": the best mean improvement of expected
    gradients: what of the others' gain is not the weights'. Those that failed on an image are not chosen, if others
    did not.
    """
    values = table[table["n"] == table["n"].max()].set_index("method")[list(CHOOSING)]
    better = values[(values > 0).all(axis=1)]
    all_round = better if len(better) else values
    found = {"fitted": str(values[FITTED].idxmax()), "all-round": str(all_round.mean(axis=1).idxmax())}
    equal = values[values.index.str.startswith(f"{EG}-")]
    return {**found, EQUAL: str(equal.mean(axis=1).idxmax())} if len(equal) else found


def draw(found: Sequence[Found]) -> Figure:
    """The candidates' improvement over their cost, a panel for each choosing judge, the chosen ones marked."""
    figure = Figure(figsize=(4 * len(CHOOSING), 3.2 * len(found)), layout="constrained")
    for axes, one in zip(figure.subplots(len(found), len(CHOOSING), squeeze=False), found, strict=True):
        table = one.candidates
        kinds = np.where(
            table["method"].str.startswith(EG),
            EG,
            np.where(
                table["method"].str.contains("screened"),
                "WG, screened",
                np.where(table["method"].str.contains("keep"), "WG, keep", WG),
            ),
        )
        for axis, judge in zip(axes, CHOOSING, strict=True):
            for kind in dict.fromkeys(kinds):
                part = table[kinds == kind]
                axis.scatter(part["cost"], 100 * part[judge], s=14, label=kind)
            for name in one.chosen.values():
                row = table[table["method"] == name].iloc[0]
                axis.scatter(row["cost"], 100 * row[judge], s=70, facecolors="none", edgecolors="black")
            axis.axhline(0, color="grey", linewidth=1)
            axis.set_title(judge, fontsize=9)
            axis.set_xlabel("gradients an image", fontsize=8)
            axis.set_ylabel(f"improvement on {one.reference.replace(EG, 'EG')}, %", fontsize=8)
        axes[0].legend(fontsize=7)
    return figure


def _blocks(one: Found, directions: dict[str, bool]) -> list[str]:
    best = one.candidates.sort_values(FITTED, ascending=False).head(8)
    failed = int((one.candidates["n"] < one.candidates["n"].max()).sum())
    mean = one.candidates.assign(mean=one.candidates[list(CHOOSING)].mean(axis=1))
    return [
        f"## {one.line}",
        f"Improvements on {one.reference}. Chosen of {len(one.candidates)}: "
        + "; ".join(f"{name} ({goal})" for goal, name in one.chosen.items())
        + "."
        + (f" {failed} candidates have no score for some images, and were not chosen." if failed else ""),
        "The best by the fitted judge, on the first images:",
        _percents(best).to_markdown(index=False, disable_numparse=True),
        "The best on the mean of the choosing judges, on the first images:",
        _percents(mean.sort_values("mean", ascending=False).head(8)).to_markdown(index=False, disable_numparse=True),
        "The chosen ones on the other images, against the reference and against the best with equal weights, by "
        "judges that their weights are fitted to (fitted), that chose them on the first (chose), that insert what the "
        "weights' fitness removes or the reverse (same removal), and that had no part in any of this (unseen). "
        "Improvement: relative change of the mean, positive where better; paired by image; Holm's correction over this "
        "table.",
        comparison_text(one.judged, directions, extra=["reference", "this judge"]),
        *(f"- {note}" for note in problem_notes(one.parts[1:], one.parts[1].scores)),
    ]


def _percents(table: pd.DataFrame) -> pd.DataFrame:
    shown = table[["method", "cost", *CHOOSING]].copy()
    shown["cost"] = shown["cost"].map("{:.0f}".format)
    for judge in CHOOSING:
        shown[judge] = shown[judge].map("{:+.1%}".format)
    return shown


if __name__ == "__main__":
    sys.exit(main())
