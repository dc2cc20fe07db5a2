"""What a map costs: seconds, evaluations of the model and memory, beside bare loops and other libraries in one run.

    python -m benchmarks.cost
    python -m benchmarks.cost --model resnet18 --weights FILE --data cifar10 --root DIR --rows eg wg gradient-shap
    python -m benchmarks.cost --tenfold

prints a table and writes it as cost.csv and cost.md (tenfold.*).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.cost.memory import Memory, in_fresh_process
from benchmarks.cost.workloads import (
    BY_NAME,
    MEASURES,
    SHAPES,
    SIZES,
    Row,
    Settings,
    Task,
    best_rows,
    choose,
    describe,
    make_task,
    probe,
    run_once,
    small,
)
from benchmarks.run.command_line import add_options, check_writable, exit_code, integer_from
from captum_wg.engine.problem import automatic_rows

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
    shared = {one.name: getattr(given, one.name) for one in fields(Settings) if one.metadata}
    given.settings = Settings(**shared)
    return given


@dataclass
class Result:
    """Of one row: the seconds of each repeat, rows with a gradient and rows without, memory, and what went wrong."""

    seconds: list[float] = field(default_factory=list)
    gradients: int = 0
    forwards: int = 0
    largest: int = 0
    memory: Memory | None = None
    note: str = ""


def measure(
    rows: Sequence[Row], task: Task, repeats: int, with_memory: bool, progress: bool = True
) -> dict[str, Result]:
    """Run the rows in interleaved repeats, every second one backwards so that a drift of the machine cancels."""
    results = {row.name: Result() for row in rows}
    own = [row for row in rows if row.run is not None]
    warm = small(task)
    with tqdm(total=len(own) * (repeats + 1 + with_memory), unit="run", disable=not progress) as bar:

        def attempt(row: Row, work: Callable[[Row, Result], None], what: str) -> None:
            """Whatever fails is noted in the row, which is left out from then on; the others go on."""
            bar.set_description(f"{task.settings.model} {row.name} {what}")
            result = results[row.name]
            if not result.note:
                try:
                    work(row, result)
                except Exception as error:
                    # A row that only its memory fails keeps its times.
                    result.note = "memory: " * (what == "memory") + describe(error)
            bar.update()

        def timed(row: Row, result: Result) -> None:
            seconds, (result.gradients, result.forwards), result.largest = run_once(row, task)
            result.seconds.append(seconds)

        def remembered(row: Row, result: Result) -> None:
            result.memory = in_fresh_process(probe, task.settings, row.name)

        for row in own:
            attempt(row, lambda row, _: run_once(row, warm), "warm-up")
        for repeat in range(repeats):
            for row in own if repeat % 2 == 0 else reversed(own):
                attempt(row, timed, f"{repeat + 1}/{repeats}")
        for row in own if with_memory else ():
            attempt(row, remembered, "memory")
    for row in rows:
        if row.parts:
            results[row.name] = _sum([results[name] for name in row.parts])
    return results


def _sum(parts: Sequence[Result]) -> Result:
    if failed := [part.note for part in parts if not part.seconds]:
        return Result(note=failed[0] or "a part was not measured")
    return Result(
        [sum(seconds) for seconds in zip(*(part.seconds for part in parts), strict=False)],
        sum(part.gradients for part in parts),
        sum(part.forwards for part in parts),
        max(part.largest for part in parts),
        max((part.memory for part in parts if part.memory), key=lambda m: m.peak, default=None),
    )


def table(rows: Sequence[Row], results: dict[str, Result], settings: Settings) -> pd.DataFrame:
    """One line for each row, all figures as numbers."""
    seconds = {name: pd.Series(result.seconds, dtype=float) for name, result in results.items()}
    lines = []
    for row in rows:
        result, peer = results[row.name], results.get(row.peer)
        loop = "floor" if result.gradients else "forwards"
        bare = results.get(loop, Result())
        # The bare loop of as many evaluations.
        own, least = result.gradients or result.forwards, bare.gradients or bare.forwards
        scale = own / least if own and least else 1.0
        of_peer = scale if row.peer in ("floor", "forwards") else 1.0
        nothing = pd.Series(dtype=float)
        spread = {
            "seconds": seconds[row.name],
            "floor_ratio": seconds[row.name] / (seconds.get(loop, nothing) * scale),
            "ratio": seconds[row.name] / (seconds.get(row.peer, nothing) * of_peer),
        }
        figures = {f"{key}{end}": values.agg(how) for key, values in spread.items() for end, how in SPREAD.items()}
        note = [result.note, row.differs if spread["ratio"].notna().any() else ""]
        lines.append(
            {
                "row": row.name,
                "title": row.title,
                "repeats": len(result.seconds),
                **figures,
                "gradients": result.gradients,
                "forwards": result.forwards,
                "largest_batch": result.largest,
                "peak_mb": result.memory.peak / MIB if result.memory else math.nan,
                "added_mb": result.memory.added / MIB if result.memory else math.nan,
                "peer": row.peer,
                "peer_gradients": round(peer.gradients * of_peer) if peer else math.nan,
                "peer_forwards": round(peer.forwards * of_peer) if peer else math.nan,
                "note": "; ".join(filter(None, note)),
                **asdict(settings),
            }
        )
    return pd.DataFrame(lines)


def readable(full: pd.DataFrame) -> str:
    """The table in Markdown."""

    def number(value: float, digits: int = 0) -> str:
        return "-" if math.isnan(value) else f"{value:.{digits}f}"

    def with_spread(line: pd.Series, key: str, digits: int) -> str:
        middle, least, most = (number(line[f"{key}{end}"], digits) for end in SPREAD)
        return middle if middle == "-" else f"{middle} [{least}, {most}]"

    shown = pd.DataFrame(
        {
            "row": line["row"],
            "seconds": with_spread(line, "seconds", 3),
            "/ floor": with_spread(line, "floor_ratio", 2),
            "gradients": line["gradients"],
            "forwards": line["forwards"],
            "peak MB": number(line["peak_mb"]),
            "added MB": number(line["added_mb"]),
            "against": "-"
            if math.isnan(line["peer_gradients"])
            else f"{line['peer']} ({number(line['peer_gradients'])} + {number(line['peer_forwards'])})",
            "ratio": with_spread(line, "ratio", 2),
            "note": line["note"],
        }
        for _, line in full.iterrows()
    )
    return shown.to_markdown(index=False, disable_numparse=True)


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


def cost(settings: Settings, rows: Sequence[Row], repeats: int, with_memory: bool) -> tuple[str, pd.DataFrame]:
    """The heading and the table of one model."""
    task = make_task(settings)
    gradient_rows, forward_rows = best_rows(task)
    task = replace(task, settings=replace(settings, gradient_rows=gradient_rows, forward_rows=forward_rows))
    return heading(task), table(rows, measure(rows, task, repeats, with_memory), task.settings)


def tenfold(settings: Settings, progress: bool = True) -> pd.DataFrame:
    """Peak memory in fresh processes at K * n_steps points, and at ten times as many."""
    points = settings.baselines * settings.n_steps
    base = replace(settings, n_samples=points)
    grown = {name: replace(base, **{name: 10 * getattr(base, name)}) for name in ("n_steps", "baselines", "n_samples")}
    cases = [(row, name) for row in ("eg", "wg") for name in ("n_steps", "baselines")]
    cases[2:2] = [(row, "n_samples") for row in (*MEASURES, "one-pass")]
    smaller: dict[str, Memory] = {}
    lines = []
    for row, name in tqdm(cases, unit="row", disable=not progress):
        # WeightedGradients holds a map of each baseline.
        more = 9 * settings.images * settings.baselines * math.prod(SHAPES[settings.model]) * 4
        maps = more if (row, name) == ("wg", "baselines") else 0
        line: dict[str, Any] = {"model": settings.model, "row": row, "points": points, "tenfold": name}
        line |= {"maps_mb": maps / MIB, "note": ""}
        try:
            if row not in smaller:
                smaller[row] = in_fresh_process(probe, base, row)
            first, second = smaller[row], in_fresh_process(probe, grown[name], row)
            line |= {
                "peak_mb": first.peak / MIB,
                "peak_mb_tenfold": second.peak / MIB,
                "added_mb": first.added / MIB,
                "added_mb_tenfold": second.added / MIB,
                "ratio": second.peak / first.peak,
                "ratio_added": second.added / max(1, first.added),
            }
        except Exception as error:  # noted in the row; the others go on
            line["note"] = describe(error)
        lines.append(line)
    return pd.DataFrame(lines)


def _tables(given: argparse.Namespace, rows: Sequence[Row]) -> Iterator[tuple[list[str], pd.DataFrame]]:
    """What is printed of each model, and its table."""
    for model in given.model:
        if given.tenfold:
            steps = given.settings.n_steps or TENFOLD_STEPS[model]
            full = tenfold(replace(given.settings, n_steps=steps).of(model))
            yield [full.to_markdown(index=False, floatfmt=".2f")], full
        else:
            words, full = cost(given.settings.of(model), rows, given.repeats, given.memory)
            yield [words, readable(full)], full


def run(given: argparse.Namespace) -> int:
    """Make the tables, print them and write them; 0 if anything could be measured, else 1."""
    started = time.perf_counter()
    rows = choose(given.rows)
    for model in given.model:
        given.settings.of(model)  # says at once what can't be used
    check_writable(given.out, given.out)
    if given.settings.threads:
        torch.set_num_threads(given.settings.threads)
    name = "tenfold" if given.tenfold else "cost"
    document = ["# Peak memory at ten times the points" if given.tenfold else "# Cost"]
    legend = [] if given.tenfold else [*NOTES, *(f"{row.name}: {row.title}." for row in rows)]
    tables: list[pd.DataFrame] = []
    for words, full in _tables(given, rows):
        print("\n\n".join(["", *words]), flush=True)
        document += words
        tables.append(full)
        # After each model: what is there stays, whatever becomes of the next.
        pd.concat(tables).to_csv(given.out / f"{name}.csv", index=False)
        text = "\n\n".join([*document, *(["\n".join(f"- {line}" for line in legend)] if legend else [])])
        (given.out / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print("\n".join(["", *legend, f"{time.perf_counter() - started:.0f} s; written to {given.out}"]))
    return 0 if any((full["ratio"].notna() | full["note"].eq("")).any() for full in tables) else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be measured, 1 if nothing, 2 if the settings can't be used."""
    return exit_code(run, parse(arguments))


if __name__ == "__main__":
    sys.exit(main())
