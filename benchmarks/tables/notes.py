"""What must be known to read a report: of the rows, columns and images that it holds, and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from benchmarks.data.datasets import DATA_SETS
from benchmarks.experiment.results import ModelResults, Results
from benchmarks.methods.method import NEW_DRAWS, NO_DRAWS, SAME_DRAWS, Method

COMPARED = (
    "Improvement is the relative change of the mean, positive where the method is better (↓ lower, ↑ higher is "
    "better); all comparisons are paired by image. Intervals: bootstrap, images resampled in pairs. p: two-sided "
    "paired t-test and Wilcoxon's signed ranks, each with Holm's correction over all rows of its table."
)


def notes(results: Results, asked: int = 0, rows: Sequence[Method] | None = None) -> list[str]:
    """All notes of a report.

    Args:
        asked: for so many images the user asked; 0: for all.
        rows: the methods that are described, if not all.
    """
    rows = results.methods if rows is None else rows
    experiment = results.models[0].experiment
    size = experiment.together
    blocks = f"Images are explained and judged in blocks of {size} (the last holds what is left, {size + 1} at most)."
    settings = {judge.metric: judge.settings for judge in results.judges if judge.settings}
    return [
        DATA_SETS[experiment.data].explained,
        *([blocks] if size > 1 else []),
        *dict.fromkeys(note for row in rows for note in row.notes),
        *of_weights(results, rows),
        *dict.fromkeys(note for judge in results.judges for note in judge.notes_for(results.models[0].shape)),
        *of_draws(results, rows),
        *(["Settings: " + "; ".join(f"{name}({text})" for name, text in settings.items()) + "."] if settings else []),
        f"All random draws follow from seed {experiment.seed}: images, baselines, samplers, and for each column the "
        "metric's own, which are the same for every row.",
        *(line for model in results.models for line in of_warnings(model, rows)),
        *missing(results.models, asked),
    ]


def missing(models: Sequence[ModelResults], asked: int = 0) -> list[str]:
    """What was skipped, what failed, and where weights say nothing."""
    problems = of_problems(models).items()
    of_rows = [f"{model}, {method}, {text}" for (model, method), text in problems]
    return [line for model in models for line in of_images(model, asked)] + of_rows


def of_weights(results: Results, rows: Sequence[Method]) -> list[str]:
    """What the weights of rows are fitted to, and which judges are therefore their own yardstick."""
    lines = []
    weighted = [row for row in rows if row.weighting and row.weighting.fitted and not row.weighting.shuffled]
    for fitness in dict.fromkeys(row.weighting.fitness for row in weighted):
        names = ", ".join(row.name for row in weighted if row.weighting.fitness == fitness)
        own = [judge.name for judge in results.judges if judge.works_by in fitness.works_by]
        same = f"Judges here that work in the same way, and so are partly its own yardstick: {', '.join(own)}."
        lines.append(
            f"D_alpha of {names}: {fitness.kind}, {' and '.join(fitness.neutrals)}, {fitness.ranking} ranking, alpha "
            f"{fitness.alpha:g}. {same if own else 'No judge here works in the same way.'}"
        )
    return lines


def of_draws(results: Results, rows: Sequence[Method]) -> list[str]:
    """What random numbers mean for the judges that explain again."""
    again = [judge.name for judge in results.judges if judge.explains]
    meaning = {
        SAME_DRAWS: "Flattered there, because they repeat their seeded points (--fresh-draws draws anew)",
        NEW_DRAWS: "Drawing new random numbers for each explanation, so that the scores hold their sampling error too",
        NO_DRAWS: "Without random draws (the baselines of the path methods stay the same)",
    }
    names = {draws: ", ".join(row.name for row in rows if row.draws == draws) for draws in meaning}
    found = [f"{text}: {names[draws]}." for draws, text in meaning.items() if names[draws]]
    return [f"Judges that explain again: {', '.join(again)}. {' '.join(found)}"] if again else []


def of_images(model: ModelResults, asked: int = 0) -> list[str]:
    """Which images are missing, and where weights say nothing."""
    used = len(model.selection.images)
    unreadable, references = len(model.selection.unreadable), len(model.unreadable_references)
    lines = {
        f"{asked} images were asked for, but only {used} count.": used < asked,
        f"{unreadable} unreadable photographs were skipped.": unreadable,
        f"{references} unreadable photographs were skipped when references were drawn.": references,
        f"for {model.equal_fitness} images all baselines have the same D_alpha (as where no removal brings the output "
        "down to alpha f(x)); WG is EG there.": model.equal_fitness,
    }
    return [f"{model.model}: {line}" for line, holds in lines.items() if holds]


def of_warnings(model: ModelResults, rows: Sequence[Method]) -> list[str]:
    """What rows warned of while they explained."""
    shown, lines = {row.name for row in rows}, []
    for warned in model.warnings:
        if names := [name for name in warned.methods if name in shown]:
            images = f"image{'s' * (len(warned.images) > 1)} {', '.join(warned.images)}"
            again = " when images were perturbed" * warned.perturbed
            where = f" in {warned.chunks} of {model.chunks} chunks, for example of {images}" * (model.chunks > 1)
            lines.append(f"{model.model}: {', '.join(names)} warned{again}{where}: {warned.example}")
    return lines


def of_problems(models: Sequence[ModelResults]) -> pd.Series:
    """Where scores are missing, and why: a text for each method and reason, indexed by model and method."""
    keys = ["model", "method", "problem", "n"]
    left_out = [(one.model, *cell, reason, 0) for one in models for cell, reason in one.left_out.items()]
    found = [pd.DataFrame(left_out, columns=["model", "method", "judge", "problem", "n"])]
    for one in models:
        failed = one.scores[one.scores["problem"] != ""].astype({name: str for name in ("method", "judge", "problem")})
        found.append(failed.groupby(["method", "judge", "problem"], sort=False).size().rename("n").reset_index())
        found[-1]["model"] = one.model
    judges = pd.concat(found, ignore_index=True).groupby(keys, sort=False)["judge"].agg(", ".join).reset_index()
    judges["text"] = [
        f"{row.judge}: {f'no score for {row.n} images ({row.problem})' if row.n else row.problem}."
        for row in judges.itertuples()
    ]
    return judges.set_index(["model", "method"])["text"]
