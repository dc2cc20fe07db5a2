"""What a map costs: seconds, evaluations of the model and memory, beside bare loops and other libraries in one run.

    python -m benchmarks.cost
    python -m benchmarks.cost --model resnet18 --weights FILE --data cifar10 --root DIR --rows eg wg gradient-shap
    python -m benchmarks.cost --tenfold

prints a table and writes it as cost.csv, cost.md (tenfold.*) and report.html.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.cost import workloads
from benchmarks.cost.memory import Memory, in_fresh_process
from benchmarks.cost.workloads import BY_NAME, MEASURES, SHAPES, SIZES, Row, Settings, Task, describe
from benchmarks.run.command_line import add_options, check_writable, exit_code, integer_from
from benchmarks.run.counting import in_turns
from benchmarks.tables import markdown, page, report
from captum_wg.engine.problem import automatic_rows
from captum_wg.report import Report

# Enough points to fill several micro-batches, so that those of both sizes are nearly the same.
TENFOLD_STEPS = {"resnet18": 16, "efficientnet_lite0": 4, "tiny": 256}
NOTES = (
    "seconds: median [smallest, largest] of interleaved repeats. A ratio is taken repeat by repeat, then likewise.",
    "/ floor: to the bare loop of as many gradients (of as many forwards for rows without gradients).",
    "gradients and forwards: rows with a forward and a backward, and rows with a forward alone; by a few of these this "
    "project's methods ask the model how its rows belong together.",
    "against: the row that the ratio divides by, and its gradients + forwards (the bare loops scaled to as many).",
    "peak MB: of a process that runs the row once; added MB: above what that process held before.",
)
SPREAD = {"": "median", "_min": "min", "_max": "max"}
MIB = 2**20


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings; `settings` are those of all models."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cost",
        description="Time, evaluations and memory of this project's methods beside bare loops and other libraries.",
    )
    add = parser.add_argument
    models = list(SIZES)
    add("--model", nargs="+", choices=models, default=models[:2], help="by default all but tiny")
    add("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(BY_NAME)} (all)")
    add_options(parser, Settings)
    add("--repeats", type=integer_from(1), default=5, help="interleaved repeats (%(default)s)")
    add("--memory", action=argparse.BooleanOptionalAction, default=True, help="peak memory, a process for each row")
    add("--tenfold", action="store_true", help="only: peak memory at ten times the points")
    add("--out", type=Path, default=Path("cost"), help="folder to write to (%(default)s)")
    given = parser.parse_args(arguments)
    given.settings = Settings(**{one.name: getattr(given, one.name) for one in fields(Settings) if one.metadata})
    return given


@dataclass
class Result:
    """Of one row: the seconds of each repeat, rows with a gradient and rows without, memory, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    gradients: int = 0
    forwards: int = 0
    memory: Memory | None = None
    note: str = ""
    largest: int = 0

    @property
    def times(self) -> pd.Series:
        return pd.Series(self.seconds, dtype=float)

    @property
    def evaluations(self) -> int:
        """Those that a bare loop makes as many of."""
        return self.gradients or self.forwards


def measure(rows: Sequence[Row], task: Task, repeats: int, with_memory: bool) -> dict[str, Result]:
    """Run the rows in turns. Whatever fails is noted in its row, which is left out from then on."""
    results = {row.name: Result() for row in rows}
    warm = workloads.small(task)
    work = [("warm-up", row) for row in rows]
    work += [(f"{repeat + 1}/{repeats}", row) for repeat, row in in_turns(rows, repeats)]
    work += [("memory", row) for row in rows if with_memory]
    for what, row in (bar := tqdm(work, unit="run")):
        bar.set_description(f"{task.settings.model} {row.name} {what}")
        result = results[row.name]
        if result.note:
            continue
        try:
            if what == "memory":
                result.memory = in_fresh_process(workloads.probe, task.settings, row.name)
            elif what == "warm-up":
                workloads.run_once(row, warm)
            else:
                seconds, (result.gradients, result.forwards), result.largest = workloads.run_once(row, task)
                result.seconds.append(seconds)
        except Exception as error:
            # A row that only its memory fails keeps its times.
            result.note = "memory: " * (what == "memory") + describe(error)
    return results


def table(rows: Sequence[Row], results: dict[str, Result], settings: Settings) -> pd.DataFrame:
    """One line for each row, all figures as numbers."""
    lines = []
    for row in rows:
        own, peer, bare = (results.get(name, Result()) for name in (row.name, row.peer, row.loop))
        # The bare loop of as many evaluations.
        scale = own.evaluations / bare.evaluations if own.evaluations and bare.evaluations else 1.0
        of_peer = scale if row.peer == row.loop else 1.0
        spread = {"seconds": own.times, "floor_ratio": own.times / (bare.times * scale)}
        spread["ratio"] = own.times / (peer.times * of_peer)
        line = {"row": row.name, "title": row.title, "repeats": len(own.seconds)}
        line |= {f"{key}{end}": values.agg(how) for key, values in spread.items() for end, how in SPREAD.items()}
        line |= {"gradients": own.gradients, "forwards": own.forwards, "largest_batch": own.largest}
        for name in ("peak", "added"):
            line[f"{name}_mb"] = getattr(own.memory, name) / MIB if own.memory else math.nan
        line["peer"] = row.peer
        for name in ("gradients", "forwards"):
            line[f"peer_{name}"] = round(getattr(peer, name) * of_peer) if row.peer in results else math.nan
        notes = [own.note, row.differs if spread["ratio"].notna().any() else ""]
        lines.append(line | {"note": "; ".join(filter(None, notes))} | asdict(settings))
    return pd.DataFrame(lines)


def readable(full: pd.DataFrame) -> pd.DataFrame:
    """The table in words."""

    def text(form: str, *columns: str) -> list[str]:
        cells = full[[*columns]].itertuples(index=False)
        return ["-" if pd.isna(cell[-1]) else form.format(*cell) for cell in cells]

    def spread(key: str, digits: int) -> list[str]:
        return text(f"{{:.{digits}f}} [{{:.{digits}f}}, {{:.{digits}f}}]", *(f"{key}{end}" for end in SPREAD))

    shown = {
        "row": full["row"],
        "seconds": spread("seconds", 3),
        "/ floor": spread("floor_ratio", 2),
        "gradients": full["gradients"],
        "forwards": full["forwards"],
        "peak MB": text("{:.0f}", "peak_mb"),
        "added MB": text("{:.0f}", "added_mb"),
        "against": text("{} ({:.0f} + {:.0f})", "peer", "peer_gradients", "peer_forwards"),
        "ratio": spread("ratio", 2),
        "note": full["note"],
    }
    return pd.DataFrame(shown)


def heading(task: Task) -> str:
    """One paragraph: the model and the sizes."""
    s = task.settings
    return (
        f"{task.words}, {s.data} images, seed {s.seed}, {s.device}, {torch.get_num_threads()} threads, PyTorch "
        f"{torch.__version__}. {s.images} images x {s.baselines} baselines x {s.n_steps} steps = {s.n_gradients} "
        f"gradients; measures {s.images} x {s.n_samples} samples; deletion {s.metric_images} images x {s.levels} "
        f"levels. Best micro-batch of the bare loops: {s.gradient_rows} rows for gradients, {s.forward_rows} for "
        f"forwards (automatic: {automatic_rows((task.x,))})."
    )


def tenfold(settings: Settings) -> pd.DataFrame:
    """Peak memory in fresh processes at K * n_steps points, and at ten times as many."""
    points = settings.baselines * settings.n_steps
    base = replace(settings, n_samples=points)
    of_paths = [(row, size) for row in ("eg", "wg") for size in ("n_steps", "baselines")]
    around = [(row, "n_samples") for row in (*MEASURES, "one-pass")]
    lines = []
    for name, size in tqdm([*of_paths[:2], *around, *of_paths[2:]], unit="row"):
        # WeightedGradients holds a map of each baseline.
        more = 9 * settings.images * settings.baselines * math.prod(SHAPES[settings.model]) * 4
        maps = more if (name, size) == ("wg", "baselines") else 0
        line = {"model": settings.model, "row": name, "points": points, "tenfold": size, "maps_mb": maps / MIB}
        lines.append(line | {"note": ""})
        of_sizes = {"": base, "_tenfold": replace(base, **{size: 10 * getattr(base, size)})}
        try:
            found = {end: in_fresh_process(workloads.probe, own, name) for end, own in of_sizes.items()}
            for what in ("peak", "added"):
                lines[-1] |= {f"{what}_mb{end}": getattr(one, what) / MIB for end, one in found.items()}
            first, second = found.values()
            lines[-1] |= {"ratio": second.peak / first.peak, "ratio_added": second.added / max(1, first.added)}
        except Exception as error:  # noted in the row; the others go on
            lines[-1]["note"] = describe(error)
    return pd.DataFrame(lines)


def tables(given: argparse.Namespace, rows: Sequence[Row]) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """What is said of each model, its table as it is printed, and in full."""
    for model in given.model:
        if given.tenfold:
            steps = given.settings.n_steps or TENFOLD_STEPS[model]
            full = tenfold(replace(given.settings, n_steps=steps).of(model))
            yield "", full, full
        else:
            task = workloads.make_task(given.settings.of(model))
            task = replace(task, settings=replace(task.settings, **workloads.best_rows(task)))
            full = table(rows, measure(rows, task, given.repeats, given.memory), task.settings)
            yield heading(task), readable(full), full


def run(given: argparse.Namespace) -> int:
    """Make the tables, print them and write them; 0 if anything could be measured, else 1."""
    started = time.perf_counter()
    rows = workloads.choose(given.rows)
    for model in given.model:
        given.settings.of(model)  # says at once what can't be used
    check_writable(given.out, given.out)
    if given.settings.threads:
        torch.set_num_threads(given.settings.threads)
    name, title = ("tenfold", "Peak memory at ten times the points") if given.tenfold else ("cost", "Cost")
    legend = [] if given.tenfold else [*NOTES, *(f"{row.name}: {row.title}." for row in rows)]
    document, found, shown = [f"# {title}"], [], []
    for model, (words, table_, full) in zip(given.model, tables(given, rows), strict=True):
        blocks = [*filter(None, [words]), markdown.table(table_, "{:.2f}")]
        print("\n\n".join(["", *blocks]), flush=True)
        document += blocks
        found.append(full)
        shown.append(page.of_frame(model, table_, words))
        # After each model: what is there stays, whatever becomes of the next.
        pd.concat(found).to_csv(given.out / f"{name}.csv", index=False)
        text = "\n\n".join(filter(None, [*document, "\n".join(f"- {line}" for line in legend)]))
        (given.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    report.write_page(given.out, lambda: Report(title, tables=tuple(shown), notes=tuple(legend)))
    print("\n".join(["", *legend, f"{time.perf_counter() - started:.0f} s; written to {given.out}"]))
    return 0 if any((full["ratio"].notna() | full["note"].eq("")).any() for full in found) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be measured, 1 if nothing, 2 if the settings can't be used."""
    return exit_code(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
