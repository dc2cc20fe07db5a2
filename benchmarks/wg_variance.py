"""The variance claim of weighted gradients (Duc et al. 2025, section 5.4): is a map by WG steadier than one by EG?

    python -m benchmarks.wg_variance --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE

redraws the set of baselines and explains each image with each set. It prints and writes to --out (variance.md,
variance.csv): how far the maps of an image lie apart over the sets, EG against WG; and for each baseline whether its
D_alpha goes with a small variance, which the claim rests on, in the two senses that the text allows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.experiment import plan
from benchmarks.experiment.results import ModelResults, Results
from benchmarks.experiment.settings import Experiment, command, options
from benchmarks.methods.deviations import ABSOLUTE, RELATIVE, SENSES, Deviations
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import Store
from benchmarks.tables import markdown, notes, report
from benchmarks.tables.comparison import corrected, mean, mean_interval, p_values
from benchmarks.wg_search import check_drawn

METHODS = (WG, f"{WG}(power=2)", "ShuffledWeights", f"{EG}(normalise_maps=True)", f"{WG}(normalise_maps=True)")
TESTS = {"p (t)": "t_p", "p (Wilcoxon)": "wilcoxon_p", "Holm (t)": "t_holm", "Holm (Wilcoxon)": "wilcoxon_holm"}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = options(
        "wg_variance",
        "The deviation of maps over redrawn sets of baselines, expected against weighted gradients.",
        out="results/wg_variance",
        without=("--levels", "--masks", "--discard-maps"),  # nothing is judged
    )
    parser.add_argument("--sets", type=integer_from(2), default=4, help="draws of --n-baselines each (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the table is written, 2 if the settings can't be used."""
    return exit_code(variance, parse(arguments))


def variance(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and print it."""
    check_drawn(settings.baselines, "no set of them can be drawn again")
    # One experiment with all sets' baselines: the first K are the first set, and so on.
    whole = argparse.Namespace(**{**vars(settings), "n_baselines": settings.n_baselines * settings.sets})

    def work(experiment: Experiment, store: Store, runner: Runner) -> tuple[ModelResults, pd.DataFrame]:
        selection = plan.select(experiment, store, runner, settings.images or None)
        wanted = deviations(experiment, settings.n_baselines)
        made = plan.evaluate(experiment, store, runner, selection, [], chunk=settings.chunk, ingredients=[wanted])
        return made, long(wanted, plan.values(store, wanted, made)).assign(model=made.model, data=made.data)

    found = plan.for_each_model(whole, work)
    models = tuple(made for made, _ in found)
    table = pd.concat([part for _, part in found], ignore_index=True).assign(seed=settings.seed)
    failed = table[table["problem"] != ""]
    if len(failed) == len(table):
        raise BenchmarkError(f"no image could be explained: {failed['problem'].iloc[0]}")
    text = markdown.document(
        [
            "# Do the weights make the map steadier?",
            f"{settings.sets} sets of {settings.n_baselines} baselines. "
            + report.heading(Results((), (), models), command(settings, "wg_variance")),
            "## The deviation of the map over redrawn sets of baselines",
            "Of an image's maps over the sets: the square root of the variance summed over all elements, relative to "
            "the norm of their mean, or absolute, which a method of smaller maps has smaller. The change against EG, "
            "image by image (negative: steadier): its mean, bootstrap interval, t-test and Wilcoxon's, each with "
            "Holm's correction over the table.",
            markdown.table(comparison(table, settings.seed), "{:.3g}"),
            "## Is D_alpha related to the variance of a baseline's map?",
            "Spearman's correlation over the baselines of an image, its mean over the images (positive: the fit ones "
            "vary less, as the claim assumes), and tests of its being 0. Relative: to the map's squared norm. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in SENSES.items())
            + f". Both are estimates, the noise of one from {settings.n_steps} points, and errors of an estimate bring "
            "its correlation nearer to 0.",
            markdown.table(correlations(table, settings.seed), "{:.3g}"),
            *(
                f"{model}: {len(rows)} images left out ({problem})."
                for (model, problem), rows in failed.groupby(["model", "problem"])
            ),
            *notes.missing(models),
        ]
    )
    report.write(settings.out / "variance.md", text, {"variance": table})
    print(text)


def deviations(experiment: Experiment, size: int) -> Deviations:
    """Those of EG and METHODS over the experiment's baselines, in sets of a size."""
    methods = tuple(experiment.method(name) for name in (EG, *METHODS))
    needs = experiment.method(WG).ingredients
    return Deviations(f"sets-of-{size}", None, needs, methods=methods, size=size, n_points=experiment.n_steps)


def long(wanted: Deviations, values: Sequence[tuple[str, np.ndarray | None, str]]) -> pd.DataFrame:
    """name (of the image), what, value and problem, from each image's values; of one that failed a single row."""
    rows = [
        (name, what, value, problem)
        for name, found, problem in values
        for what, value in ([("", np.nan)] if found is None else zip(wanted.values, found, strict=True))
    ]
    return pd.DataFrame(rows, columns=["name", "what", "value", "problem"])


def comparison(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each method's deviation against EG's, for each model: the change of each image, its mean, and tests of it."""
    rows = []
    for model, part in table[table["problem"] == ""].groupby("model", sort=False):
        wide = part.pivot(index="name", columns="what", values="value")
        for way, name in ((way, name) for way in ("", ABSOLUTE) for name in METHODS):
            both = wide[[f"{EG}{way}", f"{name}{way}"]].dropna().to_numpy()
            change = both[:, 1] / both[:, 0] - 1
            rows.append(
                {
                    "model": model,
                    "method": f"{name}{way}",
                    "n": len(both),
                    "EG": mean(both[:, 0]),
                    "method's": mean(both[:, 1]),
                    "mean change": markdown.percent(mean(change)),
                    "95 % interval": markdown.interval(*mean_interval(change, seed)),
                    **p_values(change),
                }
            )
    return _shown(rows)


def correlations(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The mean correlation of D_alpha with each sense of variance, for each model."""
    rows = []
    for model, part in table[table["problem"] == ""].groupby("model", sort=False):
        for sense in (f"{name}{way}" for name in SENSES for way in ("", RELATIVE)):
            values = part[part["what"] == sense]["value"].dropna().to_numpy()
            rows.append(
                {
                    "model": model,
                    "variance": sense,
                    "n": len(values),
                    "mean correlation": mean(values),
                    "95 % interval": markdown.interval(*mean_interval(values, seed), "{:+.2f}".format),
                    "images above 0": f"{(values > 0).mean():.0%}" if len(values) else "-",
                    **p_values(values),
                }
            )
    return _shown(rows)


def _shown(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table with corrected p-values, under their headings."""
    table = corrected(pd.DataFrame(rows))
    return table.rename(columns={name: title for title, name in TESTS.items()})[[*list(rows[0])[:-2], *TESTS]]


if __name__ == "__main__":
    sys.exit(main())
