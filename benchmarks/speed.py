"""What a map costs: seconds, evaluations of the model and memory, beside bare loops and other libraries in one run.

    python -m benchmarks.speed
    python -m benchmarks.speed --model resnet18 --weights FILE --data cifar10 --root DIR --rows eg wg gradient-shap
    python -m benchmarks.speed --tenfold
    python -m benchmarks.speed --precision --weights FILE --data cifar10 --root DIR

prints a table and writes it as speed.csv and speed.md (tenfold.*, precision.*).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.cost.memory import Memory, in_fresh_process, mebibytes
from benchmarks.cost.workloads import (
    BY_NAME,
    MODELS,
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
from benchmarks.data import datasets as data
from benchmarks.run.command_line import integer_from
from benchmarks.run.errors import BenchmarkError
from captum_wg.engine.problem import automatic_rows

DATA = ("noise", *data.NAMES)

# Enough points to fill several micro-batches, so that those of both sizes are nearly the same.
TENFOLD_STEPS = {"resnet18": 16, "efficientnet_lite0": 4, "tiny": 256}


@dataclass
class Result:
    """Of one row: the seconds of each repeat, rows with a gradient and rows without, memory, and what went wrong."""

    seconds: list[float]
    gradients: int = 0
    forwards: int = 0
    largest: int = 0
    memory: Memory | None = None
    note: str = ""


def measure(
    rows: Sequence[Row], task: Task, repeats: int, with_memory: bool, progress: bool = True
) -> dict[str, Result]:
    """Run the rows in interleaved repeats, every second one backwards so that a drift of the machine cancels."""
    results = {row.name: Result([]) for row in rows}
    own = [row for row in rows if row.run is not None]
    warm = small(task)
    total = len(own) * (repeats + 1 + with_memory)
    with tqdm(total=total, unit="run", disable=not progress) as bar:

        def attempt(row: Row, work: Callable[[], None], what: str) -> None:
            bar.set_description(f"{task.settings.model} {row.name} {what}".strip())
            result = results[row.name]
            if not result.note:
                try:
                    work()
                except Exception as error:  # noted in the row; the others go on
                    result.note = describe(error)
            bar.update()

        def timed(row: Row) -> None:
            result = results[row.name]
            seconds, (result.gradients, result.forwards), result.largest = run_once(row, task)
            result.seconds.append(seconds)

        for row in own:
            attempt(row, lambda row=row: run_once(row, warm), "warm-up")
        for repeat in range(repeats):
            for row in own if repeat % 2 == 0 else reversed(own):
                attempt(row, lambda row=row: timed(row), f"{repeat + 1}/{repeats}")
        if with_memory:
            for row in own:
                # A row that only its memory fails keeps its times.
                bar.set_description(f"{task.settings.model} {row.name} memory")
                if not results[row.name].note:
                    try:
                        results[row.name].memory = in_fresh_process(probe, task.settings, row.name)
                    except Exception as error:
                        results[row.name].note = f"memory: {describe(error)}"
                bar.update()
    for row in rows:
        if row.parts:
            results[row.name] = _sum([results[name] for name in row.parts])
    return results


def _sum(parts: Iterable[Result]) -> Result:
    parts = list(parts)
    if failed := [part.note for part in parts if not part.seconds]:
        return Result([], note=failed[0] or "a part was not measured")
    memories = [part.memory for part in parts if part.memory is not None]
    return Result(
        [sum(seconds) for seconds in zip(*(part.seconds for part in parts), strict=False)],
        sum(part.gradients for part in parts),
        sum(part.forwards for part in parts),
        max(part.largest for part in parts),
        max(memories, key=lambda m: m.peak) if memories else None,
    )


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Median, smallest and largest; NaN of nothing."""
    return (median(values), min(values), max(values)) if values else (math.nan,) * 3


def ratios(result: Result, other: Result, scale: float = 1.0) -> list[float]:
    """This row's seconds over the other's times scale, repeat by repeat."""
    return [a / (b * scale) for a, b in zip(result.seconds, other.seconds, strict=False)]


def table(rows: Sequence[Row], results: dict[str, Result], settings: Settings) -> pd.DataFrame:
    """One line for each row, all figures as numbers."""
    lines = []
    for row in rows:
        result = results[row.name]
        floor = results.get("floor" if result.gradients else "forwards")
        own = result.gradients or result.forwards
        against = (floor.gradients or floor.forwards) if floor else 0
        to_floor = ratios(result, floor, own / against) if floor and against and own else []
        peer = results.get(row.peer)
        scale = 1.0
        if peer is not None and row.peer in ("floor", "forwards"):
            # The bare loop of as many evaluations.
            scale = own / against if against and own else 1.0
        to_peer = ratios(result, peer, scale) if peer is not None and peer.seconds else []
        seconds, floors, peers_ = spread(result.seconds), spread(to_floor), spread(to_peer)
        lines.append(
            {
                "model": settings.model,
                "row": row.name,
                "title": row.title,
                "repeats": len(result.seconds),
                "seconds": seconds[0],
                "seconds_min": seconds[1],
                "seconds_max": seconds[2],
                "floor_ratio": floors[0],
                "floor_ratio_min": floors[1],
                "floor_ratio_max": floors[2],
                "gradients": result.gradients,
                "forwards": result.forwards,
                "largest_batch": result.largest,
                "peak_mb": mebibytes(result.memory.peak) if result.memory else math.nan,
                "added_mb": mebibytes(result.memory.added) if result.memory else math.nan,
                "peer": row.peer,
                "peer_gradients": round(peer.gradients * scale) if peer else math.nan,
                "peer_forwards": round(peer.forwards * scale) if peer else math.nan,
                "ratio": peers_[0],
                "ratio_min": peers_[1],
                "ratio_max": peers_[2],
                "aim": row.aim,
                "note": "; ".join(filter(None, [result.note, row.differs if to_peer else ""])),
                **asdict(settings),
            }
        )
    return pd.DataFrame(lines)


def readable(full: pd.DataFrame) -> pd.DataFrame:
    """The table as it is printed."""

    def evaluations(gradients: float, forwards: float) -> str:
        return "-" if math.isnan(gradients) else f"{gradients:.0f} + {forwards:.0f}"

    def with_spread(prefix: str, digits: int) -> list[str]:
        columns = (full[prefix], full[f"{prefix}_min"], full[f"{prefix}_max"])
        return [
            "-" if math.isnan(m) else f"{m:.{digits}f} [{a:.{digits}f}, {b:.{digits}f}]"
            for m, a, b in zip(*columns, strict=True)
        ]

    def whole(column: str) -> list[str]:
        return ["-" if math.isnan(value) else f"{value:.0f}" for value in full[column]]

    peers_ = zip(full["peer"], full["peer_gradients"], full["peer_forwards"], strict=True)
    return pd.DataFrame(
        {
            "row": full["row"],
            "seconds": with_spread("seconds", 3),
            "/ floor": with_spread("floor_ratio", 2),
            "gradients": full["gradients"],
            "forwards": full["forwards"],
            "peak MB": whole("peak_mb"),
            "added MB": whole("added_mb"),
            "against": [
                f"{name} ({evaluations(g, f)})" if name and not math.isnan(g) else "-" for name, g, f in peers_
            ],
            "ratio": with_spread("ratio", 2),
            "aim": full["aim"],
            "note": full["note"],
        }
    )


def heading(task: Task) -> str:
    """One paragraph: the model and the sizes."""
    settings = task.settings
    return (
        f"{task.words}, {settings.data} images, seed {settings.seed}, {settings.device}, "
        f"{torch.get_num_threads()} threads, PyTorch {torch.__version__}. "
        f"{settings.images} images x {settings.baselines} baselines x {settings.n_steps} steps = "
        f"{settings.n_gradients} gradients; measures {settings.images} x {settings.n_samples} samples; deletion "
        f"{settings.metric_images} images x {settings.levels} levels. Best micro-batch of the bare loops: "
        f"{settings.gradient_rows} rows for gradients, {settings.forward_rows} for forwards (automatic: "
        f"{automatic_rows((task.x,))})."
    )


NOTES = (
    "seconds: median [smallest, largest] of interleaved repeats. A ratio is taken repeat by repeat, then likewise.",
    "/ floor: to the bare loop of as many gradients (of as many forwards for rows without gradients).",
    "gradients and forwards: rows with a forward and a backward, and rows with a forward alone.",
    "against: the row that the ratio divides by, and its gradients + forwards (the bare loops scaled to as many).",
    "peak MB: of a process that runs the row once; added MB: above what that process held before.",
)


def run(
    settings: Settings, rows: Sequence[Row], repeats: int, with_memory: bool, progress: bool = True
) -> tuple[Task, pd.DataFrame]:
    """Measure one model: the task with the micro-batches found, and the full table."""
    task = make_task(settings)
    gradient_rows, forward_rows = best_rows(task)
    settings = replace(settings, gradient_rows=gradient_rows, forward_rows=forward_rows)
    task = replace(task, settings=settings)
    results = measure(rows, task, repeats, with_memory, progress)
    return task, table(rows, results, settings)


def speed(every: Sequence[Settings], rows: Sequence[Row], repeats: int, with_memory: bool, out: Path) -> int:
    """Measure the models one after another, print the table and write it; 0 if anything could be measured."""
    document, tables = ["# Speed"], []
    legend = [*NOTES, *(f"{row.name}: {row.title}." for row in rows)]
    for settings in every:
        task, full = run(settings, rows, repeats, with_memory)
        tables.append(full)
        part = [heading(task), readable(full).to_markdown(index=False, disable_numparse=True)]
        print("\n\n".join(["", *part]), flush=True)
        document += part
        _write(out, "speed", pd.concat(tables), [*document, "\n".join(f"- {line}" for line in legend)])
    print("\n" + "\n".join(legend))
    return 0 if any(full["repeats"].any() for full in tables) else 1


def tenfold(every: Sequence[Settings], out: Path, progress: bool = True) -> pd.DataFrame:
    """Peak memory in fresh processes at K * S points and at ten times as many."""
    lines = []
    for settings in every:
        steps, more = settings.n_steps, 10 * settings.n_steps
        points = settings.baselines * steps
        base = replace(settings, n_samples=points)
        maps = 9 * settings.images * settings.baselines * math.prod(SHAPES[settings.model]) * 4
        longer, wider = replace(base, n_steps=more), replace(base, baselines=10 * settings.baselines)
        sampled = replace(base, n_samples=10 * points)
        cases = [
            ("eg", "n_steps", longer, 0),
            ("eg", "baselines", wider, 0),
            *((name, "n_samples", sampled, 0) for name in ("local-ig", "variance", "stability", "consistency")),
            ("one-pass", "n_samples", sampled, 0),
            ("wg", "n_steps", longer, 0),
            ("wg", "baselines", wider, maps),
        ]
        smaller: dict[str, Memory] = {}
        for name, grown, larger, expected in tqdm(cases, unit="row", disable=not progress):
            line: dict[str, Any] = {
                "model": settings.model,
                "row": name,
                "points": points,
                "tenfold": grown,
                "maps_mb": mebibytes(expected),
                "aim": "<= 1.10" if not expected else "grows by its maps only",
                "note": "",
            }
            try:
                if name not in smaller:
                    smaller[name] = in_fresh_process(probe, base, name)
                first, second = smaller[name], in_fresh_process(probe, larger, name)
                line |= {
                    "peak_mb": mebibytes(first.peak),
                    "peak_mb_tenfold": mebibytes(second.peak),
                    "added_mb": mebibytes(first.added),
                    "added_mb_tenfold": mebibytes(second.added),
                    "ratio": second.peak / first.peak,
                    "ratio_added": second.added / max(1, first.added),
                }
            except Exception as error:  # noted in the row; the others go on
                line["note"] = describe(error)
            lines.append(line)
    full = pd.DataFrame(lines)
    text = full.to_markdown(index=False, floatfmt=".2f")
    print(text)
    _write(out, "tenfold", full, ["# Peak memory at ten times the points", text])
    return full


def _write(out: Path, name: str, full: pd.DataFrame, document: Sequence[str]) -> None:
    full.to_csv(out / f"{name}.csv", index=False)
    (out / f"{name}.md").write_text("\n\n".join(document) + "\n", encoding="utf-8")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed",
        description="Time, evaluations and memory of this project's methods beside bare loops and other libraries.",
    )
    add = parser.add_argument
    add("--model", nargs="+", choices=MODELS, default=list(MODELS[:2]), help="by default all but tiny")
    add("--rows", nargs="+", metavar="ROW", help=f"of {', '.join(BY_NAME)} (default: all)")
    for flag, words in (
        ("--images", "images explained, B"),
        ("--baselines", "baselines, K"),
        ("--n-steps", "points on each path: B * K * n_steps gradients"),
        ("--n-samples", "points around each image, of the local measures"),
        ("--metric-images", "images that the deletion metrics judge"),
        ("--levels", "levels of the deletion metrics"),
    ):
        add(flag, type=integer_from(1), help=f"{words} (default: by model, for ResNet-18 {_default(flag)})")
    add("--repeats", type=integer_from(1), default=5, help="interleaved repeats (default 5)")
    add("--threads", type=integer_from(1), help="CPU threads (default: PyTorch's)")
    add("--device", default="cpu", help="such as cpu or cuda (default cpu)")
    add("--seed", type=int, default=0, help="of the images, baselines and random points (default 0)")
    add("--weights", help="state_dict of a ResNet-18 for 32x32 images (default: random weights)")
    add("--data", choices=DATA, help="images for resnet18 (default: noise, with --precision digits)")
    add("--root", help="folder of CIFAR-10, for --data cifar10")
    add("--memory", action=argparse.BooleanOptionalAction, default=True, help="peak memory, a process for each row")
    add("--tenfold", action="store_true", help="only: peak memory at ten times the points")
    add("--precision", action="store_true", help="only: what other precisions and compilers gain, and their price")
    add("--cache", type=Path, help="folder of the trained digits network, for --precision without --weights")
    add("--out", type=Path, default=Path("speed"), help="folder to write to (default: speed)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be measured, 1 if nothing, 2 if the settings can't be used."""
    given = parse(arguments)
    try:
        started = time.perf_counter()
        given.out.mkdir(parents=True, exist_ok=True)
        rows = choose(given.rows)
        if given.threads:
            torch.set_num_threads(given.threads)
        if given.precision:
            from benchmarks.precision import precision

            code = precision(given)
        elif given.tenfold:
            every = [replace(s, n_steps=given.n_steps or TENFOLD_STEPS[s.model]) for s in _settings(given)]
            code = 0 if tenfold(every, given.out)["note"].eq("").any() else 1
        else:
            code = speed(_settings(given), rows, given.repeats, given.memory, given.out)
        print(f"\n{time.perf_counter() - started:.0f} s; written to {given.out}")
        return code
    except (BenchmarkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _settings(given: argparse.Namespace) -> list[Settings]:
    every = []
    for model in given.model:
        sizes = {key: getattr(given, key) or usual for key, usual in SIZES[model].items()}
        channels, height, width = SHAPES[model]
        step, rest = divmod(channels * height * width, sizes["levels"])
        if rest or height * width % step:
            raise BenchmarkError(
                f"--levels {sizes['levels']} does not cut the {channels}x{height}x{width} elements of {model} into "
                f"equal parts of its {height * width} pixels, which Quantus' PixelFlipping needs; give another, such "
                "as 96"
            )
        every.append(
            Settings(
                model,
                **sizes,
                seed=given.seed,
                device=given.device,
                threads=given.threads,
                weights=given.weights if model == "resnet18" else None,
                data=(given.data or "noise") if model == "resnet18" else "noise",
                root=given.root,
            )
        )
    return every


def _default(flag: str) -> int:
    return SIZES["resnet18"][flag.removeprefix("--").replace("-", "_")]


if __name__ == "__main__":
    sys.exit(main())
