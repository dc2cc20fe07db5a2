"""The attribution table: methods by metrics, each score through an unchanged `quantus.evaluate`.

    python -m benchmarks.attribution_table
    python -m benchmarks.attribution_table --full --data digits
    python -m benchmarks.attribution_table --data cifar10 --root DIR --weights FILE --images 64 --full

The first is a look at a few rows and columns on the photographs that scikit-image and scikit-learn bring along; it
needs neither a download nor a training. Each prints the table and writes table.md, table.csv, paired.csv, scores.csv
(one row per method, metric and image), maps.png, picture.png and report.html, all of it on one page, to --out, and
there keeps every result, so that the same command goes on after an interruption and a later one with more images,
methods or metrics does only what is new. A run that ends early, by Ctrl-C or an error, writes none of these files: what
it has finished is in --out/cells.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import joblib

from benchmarks.data.datasets import DATA_SETS, load
from benchmarks.experiment.plan import tabulate
from benchmarks.experiment.results import Results
from benchmarks.experiment.settings import command, experiments, has_masks, options
from benchmarks.judges import columns
from benchmarks.methods import captums, controls, ours, rows
from benchmarks.methods.weightings import EG, WG
from benchmarks.models import checkpoints, training
from benchmarks.models.networks import CIFAR10_RESNET18, DIGITS_RESNET18
from benchmarks.run.command_line import check_writable, exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.gpus import EACH, own_device
from benchmarks.tables import picture, report

# Images that are explained and judged together where they are small.
BLOCK = 8
# What a newcomer sees first, and its settings, with which two cores take a minute or two.
LOOK = "photographs"
ROWS = ("IntegratedGradients", EG, WG, f"{WG}(power=0.5, normalise_maps=True)", "Random")
COLUMNS = ("DeletionAUC", "DeletionAUC-blur", "InsertionAUC-blur")
DEFAULTS = dict(images=2, n_steps=10, levels=100, chunk=8)
DEFAULTS_OF_LOOK = dict(images=6, n_steps=10, levels=25, chunk=1)
A_LOOK = (
    "So few photographs are a look, no result. The whole table, of as many images as you like: python -m "
    "benchmarks.attribution_table --full --data digits --images 64, or --data cifar10 --root DIR --weights FILE."
)
# The table of Payne et al. (2024), with this project's methods and judges of pixels.
ALL_ROWS = (*captums.NAMES, EG, WG, f"{WG}-half", *ours.ROWS, "Random", controls.UNTRAINED)
ALL_COLUMNS = (
    "PixelFlipping",
    "FaithfulnessCorrelation",
    *("DeletionAUC", "DeletionAUC-blur", "InsertionAUC"),
    *("MaxSensitivity", "AvgSensitivity", "Sparseness", "Complexity"),
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = options(
        "attribution_table",
        "Judge attribution methods of Captum and of this project by Quantus' metrics, side by side.",
        out="results",
        without=("--models", "--baselines", "--n-baselines"),
        data=LOOK,
        batch=None,
    )
    at_least, add = integer_from, parser.add_argument
    add("--full", action="store_true", help="all rows and columns of the table of Payne et al., not a few")
    networks = ", ".join(f"{data}: {own.network}" for data, own in DATA_SETS.items() if own.network)
    add("--model", metavar="NAME", help=f"as in wg_tables ({networks})")
    add(
        "--methods",
        nargs="+",
        metavar="NAME",
        help=f'rows: by name, such as "{WG}(power=2, keep=3)", or group: {", ".join(rows.GROUPS)} (a few of: '
        f"{', '.join(rows.ROWS)})",
    )
    add("--metrics", "--judges", nargs="+", metavar="NAME", help=f"columns (a few of: {', '.join(columns.JUDGES)})")
    add("--baselines", "--n-baselines", dest="n_baselines", type=at_least(1), default=10, help="K (%(default)s)")
    add("--robustness-images", type=at_least(0), default=1, help="for the judges that explain again (%(default)s)")
    add("--ablation-robustness", action="store_true", help="also these judges' scores of slow rows")
    add("--cache", type=Path, help=f"folder of the trained digits network ({training.default_cache()})")
    # The other defaults follow from the data.
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--data", default=LOOK)
    data = first.parse_known_args(arguments)[0].data
    parser.set_defaults(**(DEFAULTS_OF_LOOK if data == LOOK else DEFAULTS))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be computed, 1 if nothing, 2 if the settings can't be used."""
    return exit_code(table, parse(arguments))


def table(settings: argparse.Namespace) -> int:
    """Compute what is missing of the table, print it and write its files."""
    started = time.perf_counter()
    if settings.device != EACH:  # of which this process must take none from the workers
        own_device(settings.device)
    names = settings.metrics or (ALL_COLUMNS if settings.full else COLUMNS)
    judges = columns.choose(names, has_masks(settings), "--metrics")
    if (model := settings.model or DATA_SETS[settings.data].network) is None:
        raise BenchmarkError(f"--data {settings.data} needs --model: the name of a network")
    # Names are checked before the minute that a training may take.
    whole = argparse.Namespace(**{**vars(settings), "models": [model]})
    methods = experiments(whole)[0].methods(settings.methods or (ALL_ROWS if settings.full else ROWS))
    check_writable(settings.out, settings.out)
    if model == DIGITS_RESNET18:
        whole.weights = [str(_digits(settings))]
    judged = [(row.name, judge.name) for judge in judges for row in methods]
    text = command(settings, "attribution_table")

    found = tabulate(
        whole,
        judged,
        drawn=BLOCK,
        options={"again": settings.robustness_images, "slow_again": settings.ablation_robustness},
        jobs=joblib.cpu_count() if settings.device == "cpu" else 1,
        # Of larger images the explanations of several at once would take too much memory.
        together=BLOCK if model in (DIGITS_RESNET18, CIFAR10_RESNET18) else 1,
        curves=True,
    )
    results = Results(tuple(methods), tuple(judges), found)
    figures = {"picture": lambda: picture.of_results(results)}
    lines = [A_LOOK] if settings.data == LOOK else []
    print(report.attribution(settings.out, results, text, settings.images, figures, lines))
    print(f"\n{time.perf_counter() - started:.0f} s of computing; look at {settings.out / 'picture.png'}")
    return 0 if results.scores["score"].notna().any() else 1


def _digits(settings: argparse.Namespace) -> Path:
    """The file that workers read the digits' network from; a training happens here, once."""
    weights = settings.weights[0].partition("=")[2] or settings.weights[0] if settings.weights else None
    model = training.trained("digits", weights=weights, cache=settings.cache)
    if weights is not None:
        return Path(weights)
    _, test = load("digits")
    print(f"digits network: accuracy {training.accuracy(model.eval(), test):.1%} on {len(test)} test images")
    file, kept = training.digits_file(settings.cache), False
    with contextlib.suppress(BenchmarkError):
        kept = checkpoints.checksum(checkpoints.load_checkpoint(file)) == checkpoints.checksum(model)
    if not kept:
        raise BenchmarkError(
            f"--cache {file.parent} can't be written to, but the workers read the trained network there; give another"
        )
    return file


if __name__ == "__main__":
    sys.exit(main())
