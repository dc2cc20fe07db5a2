"""The rows of the cost table: what each of them runs, on which model and how much of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from benchmarks.cost import peers
from benchmarks.cost.counting import Counted, timed
from benchmarks.cost.memory import Memory, peak, resident
from benchmarks.data.datasets import NAMES, load
from benchmarks.data.selection import order, sample_references, stack
from benchmarks.models.checkpoints import efficientnet_lite0, load_checkpoint, ready, resnet18_32
from benchmarks.run.command_line import integer_from, option
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.faults import one_line
from captum_wg import (
    Consistency,
    ExpectedGradients,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
    WeightedGradients,
)
from captum_wg.engine.problem import automatic_rows

# Of each model what is explained unless the command says otherwise, and the shape of its inputs.
SIZES: dict[str, dict[str, int]] = {
    "resnet18": dict(images=1, baselines=10, n_steps=50, n_samples=200, metric_images=8, levels=96),
    "efficientnet_lite0": dict(images=1, baselines=2, n_steps=8, n_samples=16, metric_images=1, levels=24),
    "tiny": dict(images=1, baselines=2, n_steps=3, n_samples=6, metric_images=1, levels=96),
}
SHAPES = {"resnet18": (3, 32, 32), "efficientnet_lite0": (3, 224, 224), "tiny": (3, 16, 16)}


def _size(words: str, name: str) -> Any:
    return option(f"{words} (by model; resnet18: {SIZES['resnet18'][name]})", type=integer_from(1), default=None)


@dataclass(frozen=True)
class Settings:
    """One model, and how much of it is evaluated; sizes that are None are the model's own (`SIZES`).

    Attributes:
        gradient_rows, forward_rows: the micro-batches of the bare loops; 0 until they are found.
    """

    model: str = "resnet18"
    images: int | None = _size("images explained, B", "images")
    baselines: int | None = _size("baselines, K", "baselines")
    n_steps: int | None = _size("points on each path: B * K * n_steps gradients", "n_steps")
    n_samples: int | None = _size("points around each image, of the local measures", "n_samples")
    metric_images: int | None = _size("images that the deletion metrics judge", "metric_images")
    levels: int | None = _size("levels of the deletion metrics", "levels")
    seed: int = option("of the images, baselines and random points (%(default)s)", type=int, default=0)
    device: str = option("such as cpu or cuda (%(default)s)", default="cpu")
    threads: int | None = option("CPU threads (PyTorch's)", type=integer_from(1), default=None)
    weights: str | None = option("state_dict of a ResNet-18 for 32x32 images (random)", default=None)
    data: str = option("images for resnet18 (%(default)s)", choices=("noise", *NAMES), default="noise")
    root: str | None = option("folder of CIFAR-10, for --data cifar10", default=None)
    gradient_rows: int = 0
    forward_rows: int = 0

    def of(self, model: str) -> Settings:
        """These settings for a model, its own sizes where none are given.

        Raises:
            BenchmarkError: levels that cut its inputs into unequal parts.
        """
        usual = {name: size for name, size in SIZES[model].items() if getattr(self, name) is None}
        own = replace(self, model=model, **usual)
        if model != "resnet18":
            own = replace(own, weights=None, data="noise")
        channels, height, width = SHAPES[model]
        step, rest = divmod(channels * height * width, own.levels)
        if rest or height * width % step:
            raise BenchmarkError(
                f"--levels {own.levels} does not cut the {channels}x{height}x{width} elements of {model} into equal "
                f"parts of its {height * width} pixels, which Quantus' PixelFlipping needs; give another, such as 96"
            )
        return own

    @property
    def n_gradients(self) -> int:
        return self.images * self.baselines * self.n_steps

    @property
    def screening_steps(self) -> int:
        """A tenth of n_steps, or less for the points of "riemann_shared_end" to be used again."""
        most = min(self.n_steps, max(2, self.n_steps // 10))
        return max((s for s in range(2, most + 1) if (2 * self.n_steps - 1) % (2 * s - 1) == 0), default=most)


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


FITNESS = "the fitness adds forwards"
FEWER = "fewer gradients by design; the fitness adds forwards"
OTHER_STOP = "the searches stop by different rules"
CLEAN = "DeletionAUC also evaluates the image as it is"
EXTRA = "it also evaluates the baselines and the class"


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name, title: its name for --rows, and in the table.
        run: the work; None if the row is the sum of `parts`.
        peer: the row its ratio is against: the same evaluations for the same or a lesser result, but for `differs`
            and the few forwards by which this project's methods ask the model how its rows belong together.
        differs: why the evaluations of the two are not the same.
    """

    name: str
    title: str
    run: Callable[[Task], Any] | None
    peer: str = ""
    differs: str = ""
    parts: tuple[str, ...] = ()


def _paths(cls: type, **options: Any) -> Callable[[Task], Any]:
    def run(task: Task) -> Any:
        chosen = {"n_steps": task.settings.n_steps, **options}
        if "screening_steps" in options:
            chosen |= {"screening_steps": task.settings.screening_steps, "method": "riemann_shared_end"}
        return cls(task.model).attribute(task.x, task.baselines, task.y, pairing="shared", **chosen)

    return run


def _around(cls: type) -> Callable[[Task], Any]:
    return lambda t: cls(t.model).attribute(t.x, t.baselines, t.y, n_samples=t.settings.n_samples, pairing="shared")


def _floor(task: Task) -> None:
    s = task.settings
    peers.bare_gradients(task.model, task.x[:1], int(task.y[0]), s.n_gradients, s.gradient_rows)


def _forwards(task: Task) -> None:
    s = task.settings
    peers.bare_forwards(task.model, task.x[:1], s.metric_images * s.levels, s.forward_rows)


def _averaged(
    peer: Callable[..., Any], points: Callable[[Settings], int] = lambda s: s.n_steps
) -> Callable[[Task], Any]:
    """A peer that averages over this many points, of each path or of all."""
    return lambda t: peer(t.model, t.x, t.y, t.baselines, points(t.settings))


def _all_points(settings: Settings) -> int:
    return settings.baselines * settings.n_steps


def _shap(task: Task) -> Any:
    return peers.shap_gradients(task.model, task.x, task.baselines, _all_points(task.settings), task.settings.seed)


def _published_measures(task: Task) -> Any:
    s = task.settings
    return peers.published_measures(task.model, task.x, task.y, task.baselines, s.n_samples, s.gradient_rows)


def _deletion(task: Task) -> Any:
    from quantus_ext import DeletionAUC

    s = task.settings
    metric = DeletionAUC(levels=s.levels, disable_warnings=True)
    return metric(task.model, task.judged, task.classes, task.maps, device=s.device, channel_first=True)


def _pixel_flipping(task: Task) -> Any:
    s = task.settings
    return peers.pixel_flipping(task.model, task.judged, task.classes, task.maps, s.levels, s.device)


MEASURES = ("local-ig", "variance", "stability", "consistency")

# A row stands beside the one it is compared with: what a machine does elsewhere drifts.
ROWS: tuple[Row, ...] = (
    Row("floor", "bare loop of gradients", _floor),
    Row("eg", "ExpectedGradients", _paths(ExpectedGradients), "floor"),
    Row("wg", "WeightedGradients", _paths(WeightedGradients), "eg", FITNESS),
    Row("wg-keep", "WeightedGradients, keep=0.5", _paths(WeightedGradients, keep=0.5), "wg"),
    Row(
        "wg-screened",
        "WeightedGradients, keep=0.5, screening",
        _paths(WeightedGradients, keep=0.5, screening_steps=None),
        "eg",
        FEWER,
    ),
    Row("captum-ig", "Captum IntegratedGradients, looped over baselines", _averaged(peers.captum_looped), "eg"),
    Row(
        "captum-ig-batch",
        "Captum IntegratedGradients, all pairs in one batch",
        _averaged(peers.captum_one_batch),
        "eg",
    ),
    Row("gradient-shap", "Captum GradientShap", _averaged(peers.gradient_shap, _all_points), "eg"),
    Row("shap", "shap GradientExplainer", _shap, "eg", EXTRA),
    Row(
        "wg-published",
        "weighted gradients as published, n_steps points on each path",
        _averaged(peers.published_weighted_gradients),
        "wg",
        OTHER_STOP,
    ),
    Row("wg-1", "WeightedGradients, n_steps=1", _paths(WeightedGradients, n_steps=1), "floor", FITNESS),
    Row(
        "wg-published-1",
        "weighted gradients as published, 1 point on each path",
        _averaged(peers.published_weighted_gradients, lambda s: 1),
        "wg-1",
        OTHER_STOP,
    ),
    Row("local-ig", "LocalIntegratedGradients", _around(LocalIntegratedGradients), "floor"),
    Row("variance", "GradientVariance", _around(GradientVariance), "floor"),
    Row("stability", "Stability", _around(Stability), "floor"),
    Row("consistency", "Consistency", _around(Consistency), "floor"),
    Row("one-pass", "the four measures in one pass", _around(GeneralizedAttribution), "consistency"),
    Row("one-by-one", "the four measures one by one", None, "floor", parts=MEASURES),
    Row("gia-published", "four measures as published", _published_measures, "one-by-one"),
    Row("forwards", "bare loop of forwards", _forwards),
    Row("deletion", "DeletionAUC", _deletion, "forwards", CLEAN),
    Row("pixel-flipping", "Quantus PixelFlipping", _pixel_flipping, "deletion", CLEAN),
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
                return load_checkpoint(weights), f"ResNet-18 at 32x32, weights {Path(weights).name}"
            return resnet18_32().eval(), "ResNet-18 at 32x32, random weights"
        try:
            return efficientnet_lite0(), "EfficientNet-Lite0 at 224x224, ImageNet weights"
        except BenchmarkError:
            return resnet18().eval(), "ResNet-18 at 224x224, random weights"


def make_task(settings: Settings, model: nn.Module | None = None) -> Task:
    """The model and what it is asked; `model` stands in for the one that the settings name."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    shape = SHAPES[settings.model]
    own, words = network(settings.model, settings.weights, settings.seed)
    counted = ready(Counted(own if model is None else model), settings.device)
    draws = torch.Generator().manual_seed(settings.seed)
    if settings.data == "noise":
        x = torch.randn(settings.images, *shape, generator=draws)
        baselines = torch.randn(settings.baselines, *shape, generator=draws)
    else:
        train, test = load(settings.data, settings.root)
        x = stack(test, order(test, settings.seed)[: settings.images])[0]
        baselines = sample_references(train, settings.baselines, settings.seed)
    x, baselines = x.to(settings.device), baselines.to(settings.device)
    with torch.no_grad():
        y = torch.cat([counted(one).argmax(1) for one in x.split(8)])
    again = np.arange(settings.metric_images) % len(x)
    maps = torch.randn(settings.metric_images, 1, *shape[1:], generator=draws).numpy()
    counted.counter.reset()
    return Task(settings, words, counted, x, y, baselines, x.cpu().numpy()[again], y.cpu().numpy()[again], maps)


def run_once(row: Row, task: Task) -> tuple[float, tuple[int, int], int]:
    """Seconds, (gradients, forwards) and the largest batch of one run of a row."""
    counter = task.model.counter
    counter.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seconds, _ = timed(lambda: row.run(task), task.settings.device)  # type: ignore[misc]
    return seconds, counter.evaluations(), counter.largest


def best_rows(task: Task, repeats: int = 3) -> tuple[int, int]:
    """The micro-batches at which a bare gradient and a bare forward are cheapest, of a few sizes, interleaved."""
    s, x, usual = task.settings, task.x[:1], automatic_rows((task.x,))
    gradients = partial(peers.bare_gradients, task.model, x, int(task.y[0]))
    forwards = partial(peers.bare_forwards, task.model, x)
    found = []
    for loop, most, shares in (
        (gradients, s.n_gradients, (0.25, 0.5, 1, 2)),
        (forwards, s.metric_images * s.levels, (0.25, 1, 4, 8)),
    ):
        # Seconds per row: the best of the repeats, as the first ones of a size are slow.
        best = dict.fromkeys(sorted({min(most, max(1, round(usual * share))) for share in shares}), math.inf)
        for _ in range(repeats):
            for size in best:
                count = max(best) // size * size
                best[size] = min(best[size], timed(partial(loop, count, size), s.device)[0] / count)
        found.append(min(best, key=best.__getitem__))
    task.model.counter.reset()
    return found[0], found[1]


def small(task: Task) -> Task:
    """The same rows with next to no work: what loads code and warms caches."""
    s = task.settings
    sizes = dict(n_steps=min(2, s.n_steps), n_samples=min(4, s.n_samples), metric_images=1, levels=task.x.shape[1])
    return replace(
        task, settings=replace(s, **sizes), judged=task.judged[:1], classes=task.classes[:1], maps=task.maps[:1]
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
    """An error in one line, as it stands in a row's note."""
    if isinstance(error, ImportError) and getattr(error, "name", None):
        return f"{error.name} is not installed"
    return one_line(error)
