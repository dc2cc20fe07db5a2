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

from benchmarks import wg_ablations, wg_judges, wg_methods, wg_report, wg_run
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_judges import Judge

# Figure 2 of the paper removes up to this many baselines.
REMOVED = 5


def judged_methods(
    judges: Sequence[Judge], n_baselines: int, keep: int, controls: Sequence[str]
) -> list[tuple[str, str]]:
    """(method, judge) of all tables and figures, without repetition."""
    table = [wg_methods.EG, wg_methods.WG, *([wg_methods.kept(keep)] if keep < n_baselines else []), *controls]
    curve = [wg_methods.kept(n_baselines - removed) for removed in range(1, min(REMOVED, n_baselines - 1) + 1)]
    pairs = [(method, judge.name) for judge in judges for method in table]
    pairs += [(method, judge.name) for judge in judges if judge.removes for method in curve]
    return list(dict.fromkeys(pairs))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = wg_run.options(
        "python -m benchmarks.wg_tables",
        "Expected against weighted gradients: tables 1 and 2 and figures 1 and 2 of Duc et al. (2025).",
        out="results/wg",
    )
    on_request = [judge.name for judge in wg_judges.available().values() if judge.slow]
    add = parser.add_argument
    add("--keep", type=integer_from(1), help="baselines that filtered WG keeps (half of them)")
    add(
        "--judges",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(wg_judges.available())} (all but {', '.join(on_request)})",
    )
    add(
        "--controls",
        nargs="*",
        metavar="NAME",
        default=list(wg_methods.CONTROLS),
        help="rows beside EG and WG: controls, and any weighting with its settings as words, such as "
        f"{wg_methods.WG}-power2-keep3; the words are {wg_methods.WORDS}",
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
    judges = wg_judges.choose(
        wg_judges.available(settings.levels, settings.ranking, settings.batch), settings.judges, masks
    )
    keep = settings.keep or max(1, round(settings.n_baselines / 2))
    if keep > settings.n_baselines:
        raise BenchmarkError(f"--keep {keep} is more than the {settings.n_baselines} baselines")
    rows = (
        wg_ablations.rows(settings.n_baselines, settings.n_steps, settings.alpha, settings.neutral, settings.ranking)
        if settings.ablations
        else []
    )
    # EG and WG are rows anyway.
    settings.controls = [
        name for name in dict.fromkeys(settings.controls) if name not in (wg_methods.EG, wg_methods.WG)
    ]
    judged = judged_methods(judges, settings.n_baselines, keep, settings.controls)
    judged += [pair for pair in wg_ablations.judged(rows, judges) if pair not in judged] if rows else []
    for name, _ in judged:
        # A wrong name is found before any work.
        wg_methods.method(name, settings.n_baselines, settings.n_steps)
    images = settings.images or None
    selections: dict[str, wg_run.Selection] = {}

    def select(experiment: Experiment, store: Store, runner: Runner) -> None:
        selections[experiment.model] = wg_run.select(experiment, store, runner, images)

    def evaluate(experiment: Experiment, store: Store, runner: Runner) -> wg_run.Part:
        return wg_run.evaluate(
            experiment,
            store,
            runner,
            selections[experiment.model],
            chunk=settings.chunk,
            judged=judged,
            drawn={image.name for chosen in wg_report.shown([*selections.values()], settings.maps) for image in chosen},
            discard_maps=settings.discard_maps,
        )

    # Which images all models have in common, for figure 1, is known when all have seen theirs.
    parts = wg_run.run(settings, select, evaluate)
    for part in parts:
        for text in part.selection.unreadable:
            print(f"skipped, {text}", file=sys.stderr)
    print(wg_report.write(settings, parts, judges, keep, rows))


if __name__ == "__main__":
    sys.exit(main())
