"""The variance claim of weighted gradients (Duc et al. 2025, section 5.4): is a map by WG steadier than one by EG?

    python -m benchmarks.wg_variance --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE

redraws the set of baselines and explains each image with each set. It prints and writes to --out (variance.md,
variance.csv, report.html): how far the maps of an image lie apart over the sets, EG against WG; and for each baseline
whether its D_alpha goes with a small variance, which the claim rests on, in the two senses that the text allows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.experiment.deviations import ABSOLUTE, RELATIVE, deviations
from benchmarks.experiment.plan import Plan, evaluate, for_each_model, select
from benchmarks.experiment.results import ModelResults, Results
from benchmarks.experiment.settings import CODE, Experiment, command, options
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell, Runner
from benchmarks.run.store import Store
from benchmarks.tables import markdown, notes, page, report
from benchmarks.tables.comparison import corrected, mean, mean_interval, p_values
from captum_wg.report import Report

METHODS = (WG, f"{WG}(power=2)", "ShuffledWeights", f"{EG}(normalise_maps=True)", f"{WG}(normalise_maps=True)")
# How a baseline's own variance can be meant.
SENSES = {
    "distance": "squared distance of the baseline's map to the mean of all baselines' maps",
    "noise": "variance of the map from one random point on the path (the published code's)",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    what = "The deviation of maps over redrawn sets of baselines, expected against weighted gradients."
    no_use = ("--levels", "--masks", "--discard-maps")  # nothing is judged
    parser = options("wg_variance", what, out="results/wg_variance", without=no_use)
    parser.add_argument("--sets", type=integer_from(2), default=4, help="draws of --n-baselines each (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the table is written, 2 if the settings can't be used."""
    return exit_code(variance, parse(arguments))


def variance(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and print it."""
    if settings.baselines in ("blur", "published"):
        raise BenchmarkError(
            f"--baselines {settings.baselines} are not drawn, so no set of them can be drawn again; use references, "
            "uniform or gaussian"
        )
    # One experiment with all sets' baselines: the first K are the first set, and so on.
    whole = argparse.Namespace(**{**vars(settings), "n_baselines": settings.n_baselines * settings.sets})

    def work(experiment: Experiment, store: Store, runner: Runner) -> tuple[ModelResults, pd.DataFrame]:
        selection = select(experiment, store, runner, settings.images or None)
        made = evaluate(experiment, store, runner, selection, [], methods=[WG], chunk=settings.chunk)
        plan = Plan(experiment, store, selection, [], [WG], chunk=settings.chunk)
        more = plan.sources(experiment.method(WG)), (EG, *METHODS), settings.n_baselines
        cells = [
            Cell(("variance", f"sets-of-{more[-1]}", one.name), deviations, (experiment, store, *more, one))
            for one in plan.chunks
        ]
        runner.run(store, cells, f"{experiment.model}: variance")
        found = store.read_all([cell.key for cell in cells])
        return made, found.assign(model=experiment.model, data=made.data)

    found = for_each_model(whole, work, code=(*CODE, "benchmarks.experiment.deviations"))
    models = tuple(made for made, _ in found)
    table = pd.concat([part for _, part in found], ignore_index=True).assign(seed=settings.seed)
    failed = table[table["problem"] != ""]
    if len(failed) == len(table):
        raise BenchmarkError(f"no image could be explained: {failed['problem'].iloc[0]}")
    how = (
        f"{settings.sets} sets of {settings.n_baselines} baselines ({settings.baselines}) x {settings.n_steps} steps, "
        f"seed {settings.seed}."
    )
    results, line = Results((), (), models), command(settings, "wg_variance")
    title = "Do the weights make the map steadier?"
    # What is asked, how it is answered, and the answer.
    parts = (
        (
            "The deviation of the map over redrawn sets of baselines",
            "Of an image's maps over the sets: the square root of the variance summed over all elements, relative to "
            "the norm of their mean, or absolute, which a method of smaller maps has smaller. The change against EG, "
            "image by image (negative: steadier): its mean, bootstrap interval, t-test and Wilcoxon's, each with "
            "Holm's correction over the table.",
            changes(table, settings.seed),
        ),
        (
            "Is D_alpha related to the variance of a baseline's map?",
            "Spearman's correlation over the baselines of an image, its mean over the images (positive: the fit ones "
            "vary less, as the claim assumes), and tests of its being 0. Relative: to the map's squared norm. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in SENSES.items())
            + f". Both are estimates, the noise of one from {settings.n_steps} points, and errors of an estimate bring "
            "its correlation nearer to 0.",
            correlations(table, settings.seed),
        ),
    )
    left_out = failed[["model", "problem"]].value_counts().items()
    missing = [f"{model}: {n} images left out ({why})." for (model, why), n in left_out] + notes.missing(models)
    blocks = [f"# {title}", report.heading(results, line, how)]
    for heading, words, frame in parts:
        blocks += [f"## {heading}", words, markdown.table(frame, "{:.3g}")]
    text = markdown.document([*blocks, *missing])

    def shown() -> Report:
        made = tuple(page.of_frame(heading, frame, words) for heading, words, frame in parts)
        return Report(title, (report.about(results, how),), line, made, notes=tuple(missing))

    report.write(settings.out / "variance.md", text, {"variance": table}, page=shown)
    print(text)


def changes(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each method's deviation against EG's, for each model: the change of each image, its mean, and tests of it."""
    rows = []
    for model, part in table[table["problem"] == ""].groupby("model", sort=False):
        wide = part.pivot(index="name", columns="what", values="value")
        for way, name in ((way, name) for way in ("", ABSOLUTE) for name in METHODS):
            equal, own = wide[[f"{EG}{way}", f"{name}{way}"]].dropna().to_numpy().T
            change = own / equal - 1
            cells = {"model": model, "method": f"{name}{way}", "n": len(own), "EG": mean(equal), "method's": mean(own)}
            cells["mean change"] = markdown.percent(mean(change))
            rows.append(cells | _tests(change, seed, markdown.percent))
    return corrected(pd.DataFrame(rows)).rename(columns=markdown.P_VALUES)


def correlations(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The mean correlation of D_alpha with each sense of variance, for each model."""
    rows = []
    for model, part in table[table["problem"] == ""].groupby("model", sort=False):
        for sense in (f"{name}{way}" for name in SENSES for way in ("", RELATIVE)):
            values = part[part["what"] == sense]["value"].dropna().to_numpy()
            above = f"{(values > 0).mean():.0%}" if len(values) else "-"
            cells = {"model": model, "variance": sense, "n": len(values), "images above 0": above}
            rows.append(cells | {"mean correlation": mean(values)} | _tests(values, seed, "{:+.2f}".format))
    return corrected(pd.DataFrame(rows)).rename(columns=markdown.P_VALUES)


def _tests(values: np.ndarray, seed: int, form: Callable[[float], str]) -> dict[str, Any]:
    """The interval of the mean of values, and tests of its being 0."""
    return {"95 % interval": markdown.interval(*mean_interval(values, seed), form), **p_values(values)}


if __name__ == "__main__":
    sys.exit(main())
