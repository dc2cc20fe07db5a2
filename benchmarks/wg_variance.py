"""The variance claim of weighted gradients (Duc et al. 2025, section 5.4): is a map by WG steadier than one by EG?

    python -m benchmarks.wg_variance --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE

redraws the set of baselines and explains each image with each set. It prints and writes to --out (variance.md,
variance.csv): how far the maps of an image lie apart over the sets, EG against WG; and for each baseline whether its
D_alpha goes with a small variance, which the claim rests on, in the two senses that the text allows.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks import wg_experiment, wg_run
from benchmarks.run.command_line import exit_code, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.faults import one_line, raise_if_of_the_run
from benchmarks.run.runner import Cell, Runner
from benchmarks.run.store import Store
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_methods import EG, WG
from benchmarks.wg_report import write_set
from benchmarks.wg_statistics import holm, mean_interval, wilcoxon

# Beside a method's name: of its deviation as it is.
ABSOLUTE = ", absolute"
METHODS = (WG, f"{WG}-power2", "ShuffledWeights", f"{EG}-normalised", f"{WG}-normalised")

# How a baseline's own variance can be meant, and what a positive correlation with D_alpha says.
SENSES = {
    "distance": "squared distance of the baseline's map to the mean of all baselines' maps",
    "noise": "variance of the map from one random point on the path (the published code's)",
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = wg_run.options(
        "python -m benchmarks.wg_variance",
        "The deviation of maps over redrawn sets of baselines, expected against weighted gradients.",
        out="results/wg_variance",
        without=("--levels", "--masks", "--discard-maps"),  # nothing is judged
        n_baselines=10,
    )
    parser.add_argument("--sets", type=integer_from(2), default=4, help="draws of --n-baselines each (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the table is written, 2 if the settings can't be used."""
    return exit_code(variance, parse(arguments))


def variance(settings: argparse.Namespace) -> None:
    """Compute what is missing, write the table and print it."""
    size = settings.n_baselines
    if settings.baselines in ("blur", "published"):
        raise BenchmarkError(
            f"--baselines {settings.baselines} are not drawn, so no set of them can be drawn again; use references, "
            "uniform or gaussian"
        )
    # One experiment with all sets' baselines: the first K are the first set, and so on.
    whole = argparse.Namespace(**{**vars(settings), "n_baselines": size * settings.sets})

    def work(experiment: Experiment, store: Store, runner: Runner) -> tuple[pd.DataFrame, str, wg_run.Part]:
        selection = wg_run.select(experiment, store, runner, settings.images or None)
        part = wg_run.evaluate(experiment, store, runner, selection, chunk=settings.chunk, judged=[], methods=(WG,))
        cells = [
            Cell(
                ("variance", f"sets-of-{size}", images),
                deviations,
                (experiment, store, part.needs.sources(experiment.method(WG), images), chosen, size),
            )
            for images, chosen in part.chunks
        ]
        runner.run(store, cells, f"{experiment.model}: variance")
        found = store.read_all([cell.key for cell in cells]).assign(model=experiment.model)
        data = wg_experiment.bench(experiment).pictures.name
        found["data"] = data
        for text in part.selection.unreadable:
            print(f"skipped, {text}", file=sys.stderr)
        return found, f"{experiment.model} on {data}: {part.selection.line}", part

    parts = wg_run.run(whole, work)
    made = [part for _, _, part in parts]
    scores = pd.concat([found for found, _, _ in parts], ignore_index=True)
    failed = scores[scores["problem"] != ""]
    if len(failed) == len(scores):
        raise BenchmarkError(f"no image could be explained: {failed['problem'].iloc[0]}")
    table, related = comparison(scores, settings.seed), correlations(scores, settings.seed)
    text = "\n\n".join(
        [
            "# Do the weights make the map steadier?",
            ". ".join(line for _, line, _ in parts)
            + f". {settings.sets} sets of {size} baselines x {settings.n_steps} "
            f"steps, seed {settings.seed}.\n\n    {wg_run.command(settings, 'wg_variance')}",
            "## The deviation of the map over redrawn sets of baselines",
            "Of an image's maps over the sets: the square root of the variance summed over all elements, relative to "
            "the norm of their mean, or absolute, which a method of smaller maps has smaller. The change against EG, "
            "image by image (negative: steadier): its mean, bootstrap interval, t-test and Wilcoxon's, each with "
            "Holm's correction over the table.",
            table.to_markdown(index=False, floatfmt=".3g"),
            "## Is D_alpha related to the variance of a baseline's map?",
            "Spearman's correlation over the baselines of an image, its mean over the images (positive: the fit ones "
            "vary less, as the claim assumes), and tests of its being 0. Relative: to the map's squared norm. "
            + "; ".join(f"{name}: {meaning}" for name, meaning in SENSES.items())
            + ". Both are estimates, the noise of one from "
            f"{settings.n_steps} points, and errors of an estimate bring its correlation nearer to 0.",
            related.to_markdown(index=False, floatfmt=".3g"),
            *(
                f"{model}: {len(rows)} images left out ({problem})."
                for (model, problem), rows in failed.groupby(["model", "problem"])
            ),
            *(
                f"{part.experiment.model}: {len(bad)} unreadable photographs were skipped when references were drawn."
                for part in made
                if (bad := wg_experiment.bench(part.experiment).unreadable_references)
            ),
        ]
    )
    stamped = scores.assign(seed=settings.seed)
    write_set(settings.out / "variance.md", text + "\n", {"variance": stamped})
    print(text)


def deviations(
    experiment: Experiment,
    store: Store,
    sources: wg_experiment.Sources,
    images: Sequence[wg_experiment.Chosen],
    size: int,
) -> pd.DataFrame:
    """For each image the deviation of each method over the sets, and both correlations: name, what, value, problem."""
    ready = wg_experiment.bench(experiment)
    rows: list[dict[str, Any]] = []
    for image, row in zip(images, wg_experiment.stored_rows(store, sources, images), strict=True):
        found, problem = {"": float("nan")}, row["problem"]
        if not problem:
            try:
                found = of_image(ready, image, row, size)
            except Exception as error:
                raise_if_of_the_run(error)
                problem = one_line(error)
        rows += [{"name": image.name, "what": what, "value": v, "problem": problem} for what, v in found.items()]
    return pd.DataFrame(rows).astype({"name": str, "what": str, "value": float, "problem": str})


def of_image(
    ready: wg_experiment.Bench, image: wg_experiment.Chosen, row: Mapping[str, Any], size: int
) -> dict[str, float]:
    """The deviations and correlations of one image, from its row of `stored_rows`."""
    x = ready.input(image)
    maps, distances = wg_experiment.stored_maps(row), np.asarray(row["distances"])
    found = {
        what: value
        for name in (EG, *METHODS)
        for what, value in zip(
            (name, f"{name}{ABSOLUTE}"),
            over_sets(ready.experiment, name, image.name, x[0].cpu(), maps, distances, size),
            strict=True,
        )
    }
    spreads = {
        "distance": np.square(maps - maps.mean(0), dtype=np.float64).sum((1, 2, 3)),
        "noise": wg_experiment.path_variance(ready, x, image.label, image.name),
    }
    # Relative to the map's own size, or large maps would be variable ones.
    norms = np.square(maps, dtype=np.float64).sum((1, 2, 3))
    for sense, spread in spreads.items():
        found[sense] = correlation(distances, spread)
        found[f"{sense}, relative"] = correlation(distances, spread / norms)
    return found


def over_sets(
    experiment: Experiment, name: str, image: str, x: Any, maps: np.ndarray, distances: np.ndarray, size: int
) -> tuple[float, float]:
    """sqrt(sum of the elements' variances over the sets), of a method by its name: divided by the norm of the mean map,
    and as it is."""
    method, generator = experiment.method(name), wg_experiment.generator_of(experiment, name, image)
    sets = [slice(i, i + size) for i in range(0, len(maps), size)]
    found = np.stack([method.map(x, maps[part], distances[part], generator) for part in sets]).astype(np.float64)
    deviation = float(np.sqrt(found.var(0, ddof=1).sum()))
    norm = float(np.linalg.norm(found.mean(0)))
    return deviation / norm if norm else float("nan"), deviation


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, NaN if one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(stats.spearmanr(a, b).statistic)


def comparison(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Each method's deviation against EG's, for each model: the change of each image, its mean, and tests of it."""
    rows = []
    for model, part in scores[scores["problem"] == ""].groupby("model", sort=False):
        wide = part.pivot(index="name", columns="what", values="value")
        for way, name in ((way, name) for way in ("", ABSOLUTE) for name in METHODS):
            both = wide[[f"{EG}{way}", f"{name}{way}"]].dropna().to_numpy()
            change = both[:, 1] / both[:, 0] - 1
            low, high = mean_interval(change, seed)
            rows.append(
                {
                    "model": model,
                    "method": f"{name}{way}",
                    "n": len(both),
                    "EG": both[:, 0].mean(),
                    "method's": both[:, 1].mean(),
                    "mean change": _percent(change.mean()),
                    "95 % interval": f"{_percent(low)} ... {_percent(high)}",
                    **_tests(change),
                }
            )
    return _corrected(rows)


def correlations(scores: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The mean correlation of D_alpha with each sense of variance, for each model."""
    rows = []
    for model, part in scores[scores["problem"] == ""].groupby("model", sort=False):
        for sense in (f"{name}{more}" for name in SENSES for more in ("", ", relative")):
            values = part[part["what"] == sense]["value"].dropna().to_numpy()
            low, high = mean_interval(values, seed)
            rows.append(
                {
                    "model": model,
                    "variance": sense,
                    "n": len(values),
                    "mean correlation": values.mean() if len(values) else float("nan"),
                    "95 % interval": f"{low:+.2f} ... {high:+.2f}",
                    "images above 0": f"{(values > 0).mean():.0%}" if len(values) else "-",
                    **_tests(values),
                }
            )
    return _corrected(rows)


def _tests(values: np.ndarray) -> dict[str, float]:
    varied = len(values) > 1 and np.ptp(values) > 0
    return {
        "p (t)": float(stats.ttest_1samp(values, 0).pvalue) if varied else float("nan"),
        "p (Wilcoxon)": wilcoxon(np.zeros(len(values)), values),
    }


def _corrected(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The table with Holm's correction of each test over its rows."""
    table = pd.DataFrame(rows)
    for test in ("t", "Wilcoxon"):
        table[f"Holm ({test})"] = holm(table[f"p ({test})"].to_numpy(dtype=float))
    return table


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.1%}"


if __name__ == "__main__":
    sys.exit(main())
