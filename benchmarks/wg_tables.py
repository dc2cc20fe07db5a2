"""The tables and figures of weighted gradients (Duc et al. 2025), with controls and judges that the weights never saw.

    python -m benchmarks.wg_tables --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE
    python -m benchmarks.wg_tables --data imagenet --root DIR --labels CSV --models efficientnet_lite0 densenet121
    python -m benchmarks.wg_tables --data coco --root DIR --models efficientnet_lite0 --images 200 --jobs 2

writes tables.md, table1.csv, table2.csv, figure2.csv, figure1.png, figure2.png and scores.csv to --out, and there keeps
every result, so that the same command goes on after an interruption and a later one with more images, methods or judges
does only what is new.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.experiment import plan
from benchmarks.experiment.results import ModelResults, Results, Selection
from benchmarks.experiment.settings import Experiment, command, experiments, options
from benchmarks.judges import columns
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.tables import ablations, removal, report

CONTROLS = ("ShuffledWeights", "BestSingle", "EdgeDetector", "Random")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = options(
        "wg_tables",
        "Expected against weighted gradients: tables 1 and 2 and figures 1 and 2 of Duc et al. (2025).",
        out="results/wg",
    )
    on_request = [name for name, judge in columns.JUDGES.items() if judge.slow]
    add = parser.add_argument
    add("--keep", type=integer_from(1), help="baselines that filtered WG keeps (half of them)")
    add(
        "--judges",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(columns.JUDGES)} (all but {', '.join(on_request)})",
    )
    add(
        "--controls",
        "--methods",
        nargs="*",
        metavar="NAME",
        default=list(CONTROLS),
        help="rows beside EG and WG: any row, a group of them, and any weighting with its settings, such as "
        f'"{WG}(power=2, keep=3)" (%(default)s)',
    )
    add("--maps", type=integer_from(1), default=1, help="images of figure 1 for each model (%(default)s)")
    add("--ablations", action="store_true", help="table 3: other powers, rankings, keeps, removals, alphas, steps, ...")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the tables are written, 2 if the settings can't be used."""
    return exit_code(tables, parse(arguments))


def tables(settings: argparse.Namespace) -> None:
    """Compute all that is missing, write the tables and figures, and print the tables."""
    masks = settings.data == "coco" or settings.masks is not None
    judges = columns.choose(settings.judges or columns.usual(masks), masks)
    first = experiments(settings)[0]
    # A wrong name is found before any work.
    keep = settings.keep or max(1, round(settings.n_baselines / 2))
    if keep > settings.n_baselines:
        raise BenchmarkError(f"--keep {keep} is more than the {settings.n_baselines} baselines")
    # EG and WG are rows anyway.
    controls = [row.name for row in first.methods(settings.controls) if row.name not in (EG, WG)]
    rows = ablations.rows(first) if settings.ablations else []
    judged = judged_methods(judges, first, keep, controls)
    judged += ablations.judged(rows, [judge.name for judge in judges]) if rows else []
    methods = tuple({row.name: row for row in (first.method(name) for name, _ in judged)}.values())
    selections: dict[str, Selection] = {}

    def select(experiment: Experiment, store: Store, runner: Runner) -> None:
        selections[experiment.model] = plan.select(experiment, store, runner, settings.images or None)

    def evaluate(experiment: Experiment, store: Store, runner: Runner) -> ModelResults:
        return plan.evaluate(
            experiment,
            store,
            runner,
            selections[experiment.model],
            judged,
            chunk=settings.chunk,
            drawn={image.name for chosen in plan.shown([*selections.values()], settings.maps) for image in chosen},
            discard_maps=settings.discard_maps,
        )

    # Which images all models have in common, for figure 1, is known when all have seen theirs.
    results = Results(methods, tuple(judges), tuple(plan.for_each_model(settings, select, evaluate)))
    print(
        report.weighted_gradients(
            settings.out,
            results,
            command(settings, "wg_tables"),
            settings.images,
            keep=keep,
            controls=controls,
            settings=rows,
        )
    )


def judged_methods(
    judges: Sequence[columns.Judge], experiment: Experiment, keep: int, controls: Sequence[str]
) -> list[tuple[str, str]]:
    """(method, judge) of all tables and figures, without repetition."""
    table = [EG, WG, *([removal.kept(keep)] if keep < experiment.n_baselines else []), *controls]
    pairs = [(method, judge.name) for judge in judges for method in table]
    curve = removal.methods(experiment.n_baselines).values()
    pairs += [(method, judge.name) for judge in judges if judge.removes for method in curve]
    return list(dict.fromkeys(pairs))


if __name__ == "__main__":
    sys.exit(main())
