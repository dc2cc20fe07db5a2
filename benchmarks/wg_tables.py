"""The tables and figures of weighted gradients (Duc et al. 2025), with controls and judges that the weights never saw.

    python -m benchmarks.wg_tables --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE
    python -m benchmarks.wg_tables --data imagenet --root DIR --labels CSV --models efficientnet_lite0 densenet121
    python -m benchmarks.wg_tables --data coco --root DIR --models efficientnet_lite0 --images 200 --jobs 2

writes tables.md, table1.csv, table2.csv, figure2.csv, figure1.png, figure2.png, scores.csv and report.html to --out,
and there keeps every result, so that the same command goes on after an interruption and a later one with more images,
methods or judges does only what is new.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.experiment.plan import tabulate
from benchmarks.experiment.results import Results
from benchmarks.experiment.settings import Experiment, command, experiments, has_masks, options
from benchmarks.judges import columns
from benchmarks.judges.judge import Judge
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
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
    masks = has_masks(settings)
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
    found = tabulate(settings, judged, drawn=settings.maps)
    line, more = command(settings, "wg_tables"), {"keep": keep, "controls": controls, "settings": rows}
    results = Results(methods, tuple(judges), found)
    print(report.weighted_gradients(settings.out, results, line, settings.images, **more))


def judged_methods(
    judges: Sequence[Judge], experiment: Experiment, keep: int, controls: Sequence[str]
) -> list[tuple[str, str]]:
    """(method, judge) of all tables and figures, without repetition."""
    table = [EG, WG, *([removal.kept(keep)] if keep < experiment.n_baselines else []), *controls]
    pairs = [(method, judge.name) for judge in judges for method in table]
    curve = removal.methods(experiment.n_baselines).values()
    pairs += [(method, judge.name) for judge in judges if judge.removes for method in curve]
    return list(dict.fromkeys(pairs))


if __name__ == "__main__":
    sys.exit(main())
