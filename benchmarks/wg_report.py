"""What the weighted-gradients tables print and write. The same results give the same files, byte for byte."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.experiment import scores as score_tables
from benchmarks import wg_ablations, wg_experiment, wg_judges, wg_methods, wg_run
from benchmarks.run.store import atomic_file, leftovers, remove_abandoned, write_atomically
from benchmarks.wg_experiment import Chosen
from benchmarks.wg_judges import Judge
from benchmarks.wg_methods import EG, WG, kept
from benchmarks.wg_statistics import comparison_table, mean_interval
from captum_wg import visualization

if TYPE_CHECKING:
    from benchmarks.wg_run import Part


def write(
    settings: argparse.Namespace,
    parts: Sequence[Part],
    judges: Sequence[Judge],
    keep: int,
    ablations: Sequence[wg_ablations.Row] = (),
) -> str:
    """Write all files into --out; returns the tables as text.

    Raises:
        BenchmarkError: a file can't be written.
    """
    folder: Path = settings.out
    scores = score_tables.joined(part.scores for part in parts)
    directions = {judge.name: judge.higher_is_better for judge in judges}
    first = comparison_table(scores, [(EG, WG), *((EG, name) for name in settings.controls)], directions, settings.seed)
    second = comparison_table(scores, [(WG, kept(keep))], directions, settings.seed)
    curves = removal_curves(scores, judges, settings.n_baselines, settings.seed)
    third = wg_ablations.table(scores, ablations, directions, settings.seed) if ablations else None
    data = _data(parts[0])
    blocks = [
        f"# Expected and weighted gradients: {data}",
        heading(settings, parts),
        f"## Table 1: {WG} and controls against {EG}",
        comparison_text(first, directions),
        f"## Table 2: the {keep} fittest of {settings.n_baselines} baselines against all of them",
        comparison_text(second, directions),
        "## Figure 2: the least fit baselines removed",
        curves_text(curves),
        *_ablations(third),
        "Notes:\n\n" + "\n".join(f"- {note}" for note in notes(settings, parts, judges, scores)),
    ]
    text = "\n\n".join(blocks) + "\n"
    tables = {"table1": first, "table2": second, "figure2": curves, "scores": scores}
    if third is not None:
        tables["table3"] = third
    figures = {"figure2": draw_curves(curves), "figure1": draw_maps(settings, parts, keep)}
    write_set(
        folder / "tables.md",
        text,
        {name: score_tables.with_constants(table, data=data, seed=settings.seed) for name, table in tables.items()},
        figures,
    )
    return text


def write_set(
    path: Path, text: str, tables: Mapping[str, pd.DataFrame], figures: Mapping[str, Figure] | None = None
) -> None:
    """Write a report: its tables and figures beside it (NAME.csv, NAME.png), then the text, which is there only if all
    the others are of the same run.

    Raises:
        BenchmarkError: one of them can't be written, such as on a full disk.
    """
    figures = figures or {}
    names = [path.name, *(f"{name}.csv" for name in tables), *(f"{name}.png" for name in figures)]
    for name in names:
        remove_abandoned(path.parent, leftovers(name))
    with contextlib.suppress(OSError):  # writing says what is wrong
        path.unlink(missing_ok=True)
    for name, table in tables.items():
        with atomic_file(path.with_name(f"{name}.csv")) as file:
            table.to_csv(file, index=False)
    for name, figure in figures.items():
        buffer = io.BytesIO()
        # Without the version of matplotlib the file depends on the figure alone.
        figure.savefig(buffer, format="png", bbox_inches="tight", metadata={"Software": None})
        write_atomically(path.with_name(f"{name}.png"), buffer.getvalue())
    write_atomically(path, text.encode())


def heading(settings: argparse.Namespace, parts: Sequence[Part]) -> str:
    """The data, how many images for each model, the baselines and the seed."""
    lines = [f"{part.experiment.model} on {_data(part)}: {part.selection.line}" for part in parts]
    return (
        ". ".join(lines) + f". {settings.n_baselines} baselines ({settings.baselines}) x {settings.n_steps} steps, "
        f"alpha {settings.alpha:g}, neutral {settings.neutral}, {settings.ranking} ranking, {settings.levels} levels, "
        f"seed {settings.seed}.\n\n    {wg_run.command(settings, 'wg_tables')}"
    )


def comparison_text(table: pd.DataFrame, directions: dict[str, bool], extra: Sequence[str] = ()) -> str:
    """A comparison as a table of text; extra: more of its columns to show."""
    if not len(table):
        return "Nothing to compare."
    text = pd.DataFrame(
        {
            "model": table["model"],
            "judge": [f"{judge} {'↑' if directions[judge] else '↓'}" for judge in table["judge"]],
            **{name: table[name] for name in extra},
            "method": table["method"],
            "n": table["n"],
            "against": _mean_and_deviation(table["reference_mean"], table["reference_std"]),
            "method's": _mean_and_deviation(table["mean"], table["std"]),
            "improvement": [_percent(value) for value in table["improvement"]],
            "95 % interval": [
                "-" if np.isnan(a) else f"{_percent(a)} ... {_percent(b)}"
                for a, b in zip(table["low"], table["high"], strict=True)
            ],
            **{
                title: [_p(value) for value in table[column]]
                for title, column in (
                    ("p (t)", "t_p"),
                    ("Holm", "t_holm"),
                    ("p (Wilcoxon)", "wilcoxon_p"),
                    ("Holm ", "wilcoxon_holm"),
                )
            },
        }
    )
    return text.to_markdown(index=False, disable_numparse=True)


def _ablations(table: pd.DataFrame | None) -> list[str]:
    if table is None:
        return []
    return ["## Table 3: one setting at a time", wg_ablations.MEANING, wg_ablations.text(table)]


def removal_curves(scores: pd.DataFrame, judges: Sequence[Judge], n_baselines: int, seed: int) -> pd.DataFrame:
    """The mean score of WG without its 0, 1, ... least fit baselines, by model and deletion judge.

    Columns: model, judge, removed (-1 for EG), n, mean, std, low, high (95 % bootstrap interval of the mean).
    """
    of_removed = {-1: EG, 0: WG, **{n_baselines - k: kept(k) for k in range(1, n_baselines)}}
    rows = []
    for model in scores["model"].drop_duplicates():
        for judge in judges:
            if not judge.removes:
                continue
            part = scores[(scores["model"] == model) & (scores["judge"] == judge.name)]
            for removed, method in sorted(of_removed.items()):
                values = part[part["method"] == method]["score"].dropna().to_numpy()
                if len(values):
                    low, high = mean_interval(values, seed)
                    deviation = values.std(ddof=1) if len(values) > 1 else float("nan")
                    rows.append((model, judge.name, removed, len(values), values.mean(), deviation, low, high))
    return pd.DataFrame(rows, columns=["model", "judge", "removed", "n", "mean", "std", "low", "high"])


def curves_text(curves: pd.DataFrame) -> str:
    """The curves as a table: a row for each model and judge, a column for each number of removed baselines."""
    if not len(curves):
        return "No deletion judge was asked for."
    text = curves.assign(
        value=_mean_and_deviation(curves["mean"], curves["std"]),
        # Of the point of the curve that has the fewest.
        n=curves.groupby(["model", "judge"])["n"].transform("min"),
    )
    wide = text.pivot(index=["model", "judge", "n"], columns="removed", values="value").fillna("")
    wide.columns = [EG if removed < 0 else f"-{removed}" if removed else WG for removed in wide.columns]
    return wide.reset_index().to_markdown(index=False, disable_numparse=True)


def notes(
    settings: argparse.Namespace, parts: Sequence[Part], judges: Sequence[Judge], scores: pd.DataFrame
) -> list[str]:
    """What must be known to read the figures."""
    lines = [
        "Only images that the model classifies correctly are explained; on COCO, those whose predicted class names a "
        "category that is in the photograph, and S is the mask of that category in the input.",
        "Improvement is the relative change of the mean, positive where the method is better (↓ lower, ↑ higher is "
        "better); all comparisons are paired by image. Intervals: bootstrap, images resampled in pairs. p: two-sided "
        "paired t-test and Wilcoxon's signed ranks, each with Holm's correction over all rows of its table.",
    ]
    for fitness, names in _by_fitness(parts[0].experiment, [WG, *settings.controls]).items():
        own = [name for name in wg_judges.fitted(fitness) if name in set(scores["judge"])]
        lines.append(
            f"D_alpha of {', '.join(names)}: {fitness.kind}, {' and '.join(fitness.neutrals)}, {fitness.ranking} "
            f"ranking, alpha {fitness.alpha:g}. "
            + (
                f"{' and '.join(own)}, of the judges here, work in the same way and are partly a yardstick of its own."
                if own
                else "No judge here works in the same way."
            )
        )
    if settings.controls:
        lines.append(
            "Controls: " + "; ".join(f"{name}, {wg_methods.meaning(name)}" for name in settings.controls) + "."
        )
    for part in parts:
        if settings.images and len(part.selection.images) < settings.images:
            lines.append(
                f"{part.experiment.model}: {settings.images} images were asked for, but only "
                f"{len(part.selection.images)} count."
            )
    return lines + problem_notes(parts, scores)


def problem_notes(parts: Sequence[Part], scores: pd.DataFrame) -> list[str]:
    """What was skipped, what failed, and where weights say nothing."""
    lines = []
    for part in parts:
        model = part.experiment.model
        if part.selection.unreadable:
            lines.append(f"{model}: {len(part.selection.unreadable)} unreadable photographs were skipped.")
        if unreadable := wg_experiment.bench(part.experiment).unreadable_references:
            lines.append(f"{model}: {len(unreadable)} unreadable photographs were skipped when references were drawn.")
        if hopeless := part.hopeless():
            lines.append(
                f"{model}: for {hopeless} images all baselines have the same D_alpha (as where no removal brings the "
                "output down to alpha f(x)); WG is EG there."
            )
    failed = scores[scores["problem"] != ""]
    for (model, method, judge, problem), rows in failed.groupby(["model", "method", "judge", "problem"], observed=True):
        lines.append(f"{model}, {method}, {judge}: no score for {len(rows)} images ({problem}).")
    return lines


def _by_fitness(experiment: wg_experiment.Experiment, names: Sequence[str]) -> dict[wg_methods.Fitness, list[str]]:
    """Methods by what their weights follow from."""
    found: dict[wg_methods.Fitness, list[str]] = {}
    for name in names:
        method = experiment.method(name)
        if method.needs_fitness and not method.shuffled:
            found.setdefault(method.fitness, []).append(name)
    return found


def draw_curves(curves: pd.DataFrame) -> Figure:
    """Figure 2: a panel for each deletion judge, a line for each model, EG dashed."""
    judges = list(curves["judge"].drop_duplicates())
    figure = Figure(figsize=(4.0 * max(1, len(judges)), 3.2), layout="constrained")
    axes = figure.subplots(1, max(1, len(judges)), squeeze=False)[0]
    for axis, judge in zip(axes, judges, strict=False):
        part = curves[curves["judge"] == judge]
        for number, model in enumerate(part["model"].drop_duplicates()):
            colour = f"C{number % 10}"
            line = part[(part["model"] == model) & (part["removed"] >= 0)].sort_values("removed")
            errors = np.abs(line[["low", "high"]].to_numpy().T - line["mean"].to_numpy())
            axis.errorbar(line["removed"], line["mean"], np.nan_to_num(errors), color=colour, capsize=2, label=model)
            for value in part[(part["model"] == model) & (part["removed"] < 0)]["mean"]:
                axis.axhline(value, color=colour, linestyle="--", linewidth=1)
        axis.set_title(f"{judge} (lower is better)", fontsize=9)
        axis.set_xticks(sorted(set(part[part["removed"] >= 0]["removed"])))
        axis.set_xlabel("least fit baselines removed from WG (dashed: EG)", fontsize=8)
        axis.legend(fontsize=7)
    return figure


def shown(selections: Sequence[wg_run.Selection], count: int) -> list[tuple[Chosen, ...]]:
    """The images of figure 1 for each model: the first that all models have in common, or the first if none is."""
    common = set.intersection(*({image.name for image in selection.images} for selection in selections))
    return [
        tuple([image for image in selection.images if image.name in common] or selection.images)[:count]
        for selection in selections
    ]


def draw_maps(settings: argparse.Namespace, parts: Sequence[Part], keep: int) -> Figure:
    """Figure 1: maps of the same images where the models share some, models and images down, methods across."""
    names = list(dict.fromkeys([EG, WG, *([kept(keep)] if keep < settings.n_baselines else []), *settings.controls]))
    images: list[Tensor] = []
    columns: dict[str, list[Tensor]] = {name: [] for name in names}
    labels: list[str] = []
    for part, chosen in zip(parts, shown([part.selection for part in parts], settings.maps), strict=True):
        ready = wg_experiment.bench(part.experiment)
        for image in chosen:
            x = ready.input(image)[0].cpu()
            rows = {name: _made_of(part, name, image) for name in names}
            if any(row["problem"] for row in rows.values()):
                continue
            images.append(ready.network.preparation.pixels(x))
            labels.append(part.experiment.model)
            for name, row in rows.items():
                a = wg_experiment.method_map(part.experiment, name, x, row)
                columns[name].append(torch.from_numpy(a))
    if not images:
        return Figure(figsize=(4, 1))
    size = max(tuple(image.shape[1:]) for image in images)
    figure, _ = visualization.grid(
        _stacked(images, size),
        {name.replace("-", "\n"): _stacked(column, size) for name, column in columns.items()},
        labels=labels,
    )
    return figure


def _data(part: Part) -> str:
    return wg_experiment.bench(part.experiment).pictures.name


def _made_of(part: Part, method: str, image: Chosen) -> dict[str, Any]:
    for name, images in part.chunks:
        if image in images:
            sources = part.needs.sources(part.experiment.method(method), name)
            return wg_experiment.stored_rows(part.store, sources, images)[images.index(image)]
    raise ValueError(f"{image.name} is in no chunk")


def _stacked(images: Sequence[Tensor], size: tuple[int, ...]) -> Tensor:
    # Models may take inputs of different sizes.
    return torch.cat([nn.functional.interpolate(image[None].float(), size) for image in images])


def _mean_and_deviation(mean: pd.Series, deviation: pd.Series) -> list[str]:
    return [f"{m:.4f}" if np.isnan(s) else f"{m:.4f} ± {s:.4f}" for m, s in zip(mean, deviation, strict=True)]


def _percent(value: float) -> str:
    return "-" if np.isnan(value) else f"{value + 0.0:+.1%}"


def _p(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2g}"
