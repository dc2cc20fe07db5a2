"""What the attribution table prints and writes."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks import old_methods as methods
from benchmarks.attribution_experiment import BLOCK
from benchmarks.data.datasets import Selection
from benchmarks.old_judges import Judge
from benchmarks.old_methods import Method
from benchmarks.run.faults import one_line
from benchmarks.run.store import leftovers, remove_abandoned, write_atomically
from benchmarks.statistics import compare
from captum_wg import visualization

if TYPE_CHECKING:
    from benchmarks.attribution_table import Results

PAIRS = (("ExpectedGradients", "WeightedGradients"), ("ExpectedGradients", "WeightedGradients-half"))
PAIRED_JUDGES = ("DeletionAUC", "DeletionAUC-blur", "InsertionAUC")
SECONDS = "s/image"


@dataclass(frozen=True)
class Facts:
    """The settings that stand with the figures.

    Attributes:
        tried: test images looked at to find `images` correctly classified ones, unreadable ones too.
        radius_chosen: whether the local radius follows from the data rather than from the user.
        shape: (C, H, W).
        unreadable_test, unreadable_training: images that were looked at and could not be read.
    """

    data: str
    images: int
    tried: int
    robustness_images: int
    seed: int
    baselines: int
    n_steps: int
    radius: float
    radius_chosen: bool
    fresh_draws: bool
    device: str
    shape: tuple[int, ...]
    unreadable_test: int = 0
    unreadable_training: int = 0


@dataclass(frozen=True)
class Written:
    """The report as text, and the names of the files."""

    text: str
    files: list[str]


def heading(facts: Facts) -> str:
    """One paragraph: the data, how many images, the seed, and what this project's rows are computed with."""
    origin = f"{facts.radius:g}" + (
        ", a tenth of the median distance between test image and reference" * facts.radius_chosen
    )
    return (
        f"{facts.data}: n = {facts.images} correctly classified test images (of {facts.tried} tried), "
        f"robustness on {facts.robustness_images}, seed {facts.seed}. "
        f"{facts.baselines} references from the training images x {facts.n_steps} = "
        f"{facts.baselines * facts.n_steps} points a map. Local radius {origin} (normalised units)."
    )


def long_scores(scores: pd.DataFrame, selection: Selection, facts: Facts) -> pd.DataFrame:
    """One row per method, judge and image with a score: the form from which any statistic follows."""
    there = scores[scores["reason"] == ""]
    labels = dict(zip(selection.positions, selection.y.tolist(), strict=True))
    long = there.assign(data=facts.data, seed=facts.seed, label=there["image"].map(labels))
    columns = ["data", "seed", "method", "judge", "image", "label", "score"]
    return long[columns].reset_index(drop=True).astype({"score": float})  # also when there are none


def summary(scores: pd.DataFrame, rows: Sequence[Method], columns: Sequence[Judge], results: Results) -> pd.DataFrame:
    """Methods by columns: for each judge the mean, the standard deviation and the number of images; and the seconds."""
    records = []
    for method in rows:
        record: dict[str, object] = {"method": method.name, "group": method.group, "channels": method.channels}
        for judge in columns:
            of_cell = scores[(scores["method"] == method.name) & (scores["judge"] == judge.name)]["score"]
            finite = of_cell[np.isfinite(of_cell)]
            record[f"{judge.name} mean"] = finite.mean()
            record[f"{judge.name} std"] = finite.std()
            record[f"{judge.name} n"] = len(finite)
        record[SECONDS] = results.seconds.get(method.name, math.nan)
        records.append(record)
    return pd.DataFrame(records)


def readable(table: pd.DataFrame, columns: Sequence[Judge], marks: dict[tuple[str, str], str]) -> pd.DataFrame:
    """The summary as text: mean ± deviation with an arrow for the better direction, or the mark of a note."""
    text = pd.DataFrame({"method": table["method"]})
    for judge in columns:
        arrow = {True: " ↑", False: " ↓", None: ""}[judge.higher_is_better]
        text[f"{judge.name}{arrow}"] = [
            marks.get((method, judge.name)) or _mean_and_deviation(mean, deviation)
            for method, mean, deviation in zip(
                table["method"], table[f"{judge.name} mean"], table[f"{judge.name} std"], strict=True
            )
        ]
    text[SECONDS] = ["-" if math.isnan(s) else f"{s:.3f}" for s in table[SECONDS]]
    return text


def _mean_and_deviation(mean: float, deviation: float) -> str:
    if math.isnan(mean):
        return "-"
    return f"{mean:.3f}" if math.isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def missing(results: Results) -> tuple[dict[tuple[str, str], str], dict[tuple[str, str], list[str]]]:
    """Why a (method, judge) has no finite score at all, and of others why some images have none and how many."""
    without, partly = dict(results.left_out), {}
    for key, of_cell in results.scores.groupby(["method", "judge"], sort=False):
        finite = np.isfinite(of_cell["score"])
        reasons = of_cell["reason"][~finite].replace("", "the metric gave no finite number").value_counts(sort=False)
        if not finite.any():
            without[key] = "; ".join(reasons.index)
        elif len(reasons):
            partly[key] = [f"{count} images without a score are left out: {why}" for why, count in reasons.items()]
    return without, partly


def failures(
    without: dict[tuple[str, str], str], rows: Sequence[Method], columns: Sequence[Judge]
) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The mark of each cell of the table without scores, and the notes they point to."""
    marks: dict[tuple[str, str], str] = {}
    lines: list[str] = []
    reasons: dict[str, dict[str, list[str]]] = {}
    for method in rows:
        for judge in columns:
            if reason := without.get((method.name, judge.name)):
                reasons.setdefault(reason, {}).setdefault(method.name, []).append(judge.name)
    for number, (reason, where) in enumerate(reasons.items(), start=1):
        marks.update({(method, judge): f"[{number}]" for method, judges in where.items() for judge in judges})
        places = "; ".join(f"{method} ({', '.join(judges)})" for method, judges in where.items())
        lines.append(f"[{number}] {places}: {reason}")
    return marks, lines


def notes(
    facts: Facts,
    rows: Sequence[Method],
    columns: Sequence[Judge],
    partly: dict[tuple[str, str], list[str]],
    results: Results,
) -> list[str]:
    """What must be known to read the figures; only of what the table holds."""
    groups = {method.group for method in rows}
    judged = {judge.metric for judge in columns}
    channels, height, width = facts.shape
    lines = [
        "Each cell is the mean ± standard deviation over the images (↑ higher is better, ↓ lower is better), from "
        f"calls of `quantus.evaluate` on blocks of {BLOCK} images (the last holds what is left, {BLOCK + 1} at most); "
        f"{SECONDS} is the time of explaining a block on one thread, divided by its images."
    ]
    if facts.unreadable_test or facts.unreadable_training:
        lines.append(
            f"Skipped, because they could not be read: {facts.unreadable_test} of the test images looked at, and "
            f"{facts.unreadable_training} of the training images drawn as references."
        )
    if "captum" in groups:
        lines.append("IntegratedGradients ... Deconvolution: `quantus.explain` with its defaults.")
    if any(method.name == "FeaturePermutation" for method in rows):
        lines.append("FeaturePermutation exchanges values between the images of a block.")
    if any(method.group == "ours" and method.part != (0, 1) for method in rows):
        lines.append('Rows ending in -local and -inf: sampler "segments" within the local radius and without a limit.')
    if any(method.name == "WeightedGradients-half" for method in rows):
        lines.append("WeightedGradients-half keeps half of the references (keep=0.5).")
    if any(method.part != (0, 1) for method in rows):
        lines.append(
            "The four local measures of a sampler and radius come from one pass over the same gradients; each shows "
            "the time of that pass."
        )
    if "published" in groups:
        lines.append(
            'Rows with -rays-: the published form, sampler "rays" with the local radius and with radius '
            f"{methods.PUBLISHED_RADIUS:g}, of the sum of all logits, judged by maps of {channels} channels."
        )
    if "control" in groups:
        lines.append(
            "Controls: Random is uniform noise; ExpectedGradients-random-weights explains the network with "
            "weights as before training. A method worth its name differs from both."
        )
    lines.append(
        f"Columns -1ch judge maps summed over the channels ({height * width} values), columns -{channels}ch the full "
        f"maps ({channels * height * width} values); the two are not comparable. The other columns take each row's own "
        "form: 1 channel, of the -rays- rows 3, so FaithfulnessCorrelation and the sensitivities of the -rays- rows "
        "are not comparable with those of the others. DeletionAUC and InsertionAUC sum over the channels themselves."
    )
    if "Complexity" in judged:
        lines.append(
            f"Complexity is at most ln {height * width} = {math.log(height * width):.2f} for -1ch and "
            f"ln {channels * height * width} = {math.log(channels * height * width):.2f} for -{channels}ch."
        )
    settings: dict[str, str] = {}
    for judge in columns:
        settings[judge.metric] = judge.settings
    lines.append("Settings: " + "; ".join(f"{name}({text})" for name, text in settings.items()) + ".")
    if "PixelFlipping" in judged:
        lines.append(
            "PixelFlipping is the mean of the class probability over the flipping steps. Quantus' value for a "
            "uniform replacement is one number in [0, 1) per image and step, in normalised units."
        )
    if judged & {"DeletionAUC", "DeletionAUC-blur", "InsertionAUC"} and "ours" in groups:
        lines.append(
            "WeightedGradients weights references by a deletion with the corner colour, so DeletionAUC is partly its "
            "own yardstick; DeletionAUC-blur and InsertionAUC are judges it was not fitted to."
        )
    if any(judge.robustness for judge in columns):
        lines.extend(_notes_on_robustness(facts, rows))
    lines.append(
        f"All random draws follow from seed {facts.seed}: images, references, samplers, and for each column the "
        "metric's own, which are the same for every row."
    )
    shown = {method.name for method in rows if method.group in ("ours", "published")}
    for warned in results.warnings:
        if warners := [name for name in warned.methods if name in shown]:
            where = ""
            if results.blocks > 1:
                images = f"image{'s' * (len(warned.images) > 1)} {', '.join(map(str, warned.images))}"
                where = f" in {warned.blocks} of {results.blocks} blocks, for example of {images} (as in scores.csv)"
            again = " when images were perturbed" if warned.perturbed else ""
            lines.append(f"{', '.join(warners)} warned{again}{where}: {warned.example}")
    lines.extend(f"{method}, {judge}: {text}." for (method, judge), texts in partly.items() for text in texts)
    return lines


def _notes_on_robustness(facts: Facts, rows: Sequence[Method]) -> list[str]:
    lines = [
        f"MaxSensitivity and AvgSensitivity ({facts.robustness_images} of the images): maximum and mean over the "
        "same ten perturbed inputs."
    ]
    by_draws = {
        draws: ", ".join(row.name for row in rows if row.draws == draws)
        for draws in (methods.NO_DRAWS, methods.SAME_DRAWS, methods.NEW_DRAWS)
    }
    if by_draws[methods.SAME_DRAWS]:
        lines.append(
            "Flattered in these two columns, because they repeat their seeded points when the perturbed input is "
            f"explained (--fresh-draws draws anew): {by_draws[methods.SAME_DRAWS]}."
        )
    if by_draws[methods.NEW_DRAWS]:
        lines.append(
            "Drawing new random numbers for each explanation, so that the two columns hold their sampling error too: "
            f"{by_draws[methods.NEW_DRAWS]}."
        )
    if by_draws[methods.NO_DRAWS]:
        lines.append(
            f"Without random draws (the references of the path methods stay the same): {by_draws[methods.NO_DRAWS]}."
        )
    return lines


def comparison_text(comparison: pd.DataFrame) -> str:
    """The paired comparison as a table, one line per judge and method."""
    text = pd.DataFrame(
        {
            "judge": comparison["judge"],
            "method": comparison["method"],
            "against": comparison["reference"],
            "n": comparison["n"],
            "mean": comparison["mean"].map("{:.4f}".format),
            "against mean": comparison["reference_mean"].map("{:.4f}".format),
            "change": [f"{c:+.1%}" for c in comparison["relative_change"]],
            "95 % interval": [
                "-" if math.isnan(low) else f"{low:+.1%} ... {high:+.1%}"
                for low, high in zip(comparison["low"], comparison["high"], strict=True)
            ],
            "p": ["-" if math.isnan(p) else f"{p:.2g}" for p in comparison["p"]],
        }
    )
    return text.to_markdown(index=False, disable_numparse=True)


def write(
    folder: Path,
    facts: Facts,
    rows: Sequence[Method],
    columns: Sequence[Judge],
    results: Results,
    scores: pd.DataFrame,
    pictures: Tensor,
) -> Written:
    """Write all files into the folder; the text is that of table.md after its heading, in blocks of a few columns."""
    table = summary(scores, rows, columns, results)
    comparison = compare(scores, PAIRS, PAIRED_JUDGES, facts.seed)
    without, partly = missing(results)
    marks, reasons = failures(without, rows, columns)
    text = readable(table, columns, marks)
    lines = notes(facts, rows, columns, partly, results)
    picture = None
    try:
        picture = draw(results.maps, pictures)
    except Exception as error:  # the figures matter more than their picture
        lines.append(f"maps.png could not be drawn: {one_line(error)}")

    full = pd.concat([table.assign(**_columns_of(facts)), _reasons(without, rows, columns)], axis=1)
    parts = _parts(comparison, [*reasons, *lines])
    document = [f"# Attribution table: {facts.data}", heading(facts), text.to_markdown(index=False), *parts]
    files = {
        "table.md": ("\n\n".join(document) + "\n").encode(),
        "table.csv": full.to_csv(index=False).encode(),
        "paired.csv": comparison.to_csv(index=False).encode(),
        "scores.csv": scores.to_csv(index=False).encode(),
    }
    if picture is not None:
        files["maps.png"] = picture
    for name, content in files.items():
        remove_abandoned(folder, leftovers(name))
        write_atomically(folder / name, content)
    screen = [block.to_markdown(index=False) for block in _blocks(text)]
    return Written("\n\n".join(["", *screen, *parts]), list(files))


def draw(maps: dict[str, np.ndarray], pictures: Tensor) -> bytes | None:
    """A PNG of the images of the first block by all methods, the maps with all their channels; None without maps."""
    if not maps:
        return None
    shown = {name.replace("-", "\n", 1): values for name, values in maps.items()}
    figure, _ = visualization.grid(pictures[: len(next(iter(maps.values())))], shown)
    buffer = io.BytesIO()
    # Without the version of matplotlib the file depends on the figure alone.
    figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _parts(comparison: pd.DataFrame, lines: Sequence[str]) -> list[str]:
    parts = []
    if len(comparison):
        parts.append(
            "Paired by image (change of the mean, two-sided paired t-test, bootstrap interval of the change; negative "
            "is better under DeletionAUC, positive under InsertionAUC):"
        )
        parts.append(comparison_text(comparison))
    parts.append("Notes:\n\n" + "\n".join(f"- {line}" for line in lines))
    return parts


def _blocks(text: pd.DataFrame, width: int = 6) -> list[pd.DataFrame]:
    names = list(text.columns[1:])
    return [text[["method", *names[i : i + width]]] for i in range(0, len(names), width)]


def _columns_of(facts: Facts) -> dict[str, object]:
    return {key: value for key, value in asdict(facts).items() if key != "shape"}


def _reasons(without: dict[tuple[str, str], str], rows: Sequence[Method], columns: Sequence[Judge]) -> pd.DataFrame:
    texts = [
        " ".join(f"{judge.name}: {reason}." for judge in columns if (reason := without.get((method.name, judge.name))))
        for method in rows
    ]
    return pd.DataFrame({"without scores": texts})
