"""The rows of the cost table: what each of them runs, on which model and how much of it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

import captum_wg
from benchmarks.cost import peers
from benchmarks.cost.memory import Memory, peak, resident
from benchmarks.data.datasets import NAMES, load
from benchmarks.data.selection import order, sample_references, stack
from benchmarks.models.checkpoints import efficientnet_lite0, load_checkpoint, ready, resnet18_32
from benchmarks.run.command_line import integer_from, option
from benchmarks.run.counting import Counted, in_turns, timed
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.faults import one_line
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
    def n_points(self) -> int:
        """On all paths to one image."""
        return self.baselines * self.n_steps

    @property
    def n_gradients(self) -> int:
        return self.images * self.n_points

    @property
    def n_forwards(self) -> int:
        """Of the deletion metrics."""
        return self.metric_images * self.levels

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


Work = Callable[[Task], Any]


def ours(kind: type, *settings: str, **options: Any) -> Work:
    """The map by one of this project's methods; its options have the names of settings, or are given."""

    def run(t: Task) -> Any:
        own = options | {name: getattr(t.settings, name) for name in settings}
        return kind(t.model).attribute(t.x, t.baselines, t.y, pairing="shared", **own)

    return run


def theirs(peer: Callable[..., Any], *settings: str | int) -> Work:
    """The map by a peer; its further arguments are settings, by name, or numbers."""

    def run(t: Task) -> Any:
        own = (getattr(t.settings, one) if isinstance(one, str) else one for one in settings)
        return peer(t.model, t.x, t.y, t.baselines, *own)

    return run


def floor(t: Task) -> None:
    s = t.settings
    peers.bare_gradients(t.model, t.x[:1], int(t.y[0]), s.n_gradients, s.gradient_rows)


def forwards(t: Task) -> None:
    peers.bare_forwards(t.model, t.x[:1], t.settings.n_forwards, t.settings.forward_rows)


def shap_gradients(t: Task) -> Any:
    return peers.shap_gradients(t.model, t.x, t.baselines, t.settings.n_points, t.settings.seed)


def one_by_one(t: Task) -> Any:
    return [ours(kind, "n_samples")(t) for kind in MEASURES.values()]


def deletion(t: Task) -> Any:
    from quantus_ext import DeletionAUC

    metric = DeletionAUC(levels=t.settings.levels, disable_warnings=True)
    return metric(t.model, t.judged, t.classes, t.maps, device=t.settings.device, channel_first=True)


def pixel_flipping(t: Task) -> Any:
    return peers.pixel_flipping(t.model, t.judged, t.classes, t.maps, t.settings.levels, t.settings.device)


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
        run: the work.
        peer: the row its ratio is against: the same evaluations for the same or a lesser result, but for `differs`
            and the few forwards by which this project's methods ask the model how its rows belong together.
        differs: why the evaluations of the two are not the same.
        loop: the bare loop of what it evaluates.
    """

    name: str
    title: str
    run: Work
    peer: str = ""
    differs: str = ""
    loop: str = "floor"


EG, WG = captum_wg.ExpectedGradients, captum_wg.WeightedGradients
screened = ours(WG, "n_steps", "screening_steps", keep=0.5, method="riemann_shared_end")
published = partial(theirs, peers.published_weighted_gradients)
one_pass = ours(captum_wg.GeneralizedAttribution, "n_samples")
measures = theirs(peers.published_measures, "n_samples", "gradient_rows")
IG, AS_PUBLISHED = "Captum IntegratedGradients", "weighted gradients as published"
MEASURES = {
    "local-ig": captum_wg.LocalIntegratedGradients,
    "variance": captum_wg.GradientVariance,
    "stability": captum_wg.Stability,
    "consistency": captum_wg.Consistency,
}

# A row stands beside the one it is compared with: what a machine does elsewhere drifts.
ROWS = (
    Row("floor", "bare loop of gradients", floor),
    Row("eg", "ExpectedGradients", ours(EG, "n_steps"), "floor"),
    Row("wg", "WeightedGradients", ours(WG, "n_steps"), "eg", FITNESS),
    Row("wg-keep", "WeightedGradients, keep=0.5", ours(WG, "n_steps", keep=0.5), "wg"),
    Row("wg-screened", "WeightedGradients, keep=0.5, screening", screened, "eg", FEWER),
    Row("captum-ig", f"{IG}, looped over baselines", theirs(peers.captum_looped, "n_steps"), "eg"),
    Row("captum-ig-batch", f"{IG}, all pairs in one batch", theirs(peers.captum_one_batch, "n_steps"), "eg"),
    Row("gradient-shap", "Captum GradientShap", theirs(peers.gradient_shap, "n_points"), "eg"),
    Row("shap", "shap GradientExplainer", shap_gradients, "eg", EXTRA),
    Row("wg-published", f"{AS_PUBLISHED}, n_steps points on each path", published("n_steps"), "wg", OTHER_STOP),
    Row("wg-1", "WeightedGradients, n_steps=1", ours(WG, n_steps=1), "floor", FITNESS),
    Row("wg-published-1", f"{AS_PUBLISHED}, 1 point on each path", published(1), "wg-1", OTHER_STOP),
    *(Row(name, kind.__name__, ours(kind, "n_samples"), "floor") for name, kind in MEASURES.items()),
    Row("one-pass", "the four measures in one pass", one_pass, "consistency"),
    Row("one-by-one", "the four measures one by one", one_by_one, "floor"),
    Row("gia-published", "four measures as published", measures, "one-by-one"),
    Row("forwards", "bare loop of forwards", forwards, loop="forwards"),
    Row("deletion", "DeletionAUC", deletion, "forwards", CLEAN, loop="forwards"),
    Row("pixel-flipping", "Quantus PixelFlipping", pixel_flipping, "deletion", CLEAN, loop="forwards"),
)
BY_NAME = {row.name: row for row in ROWS}
# What a row loads before its work.
LIBRARIES = {"deletion": "quantus_ext", "pixel-flipping": "quantus_ext", "shap": "shap"}


def choose(names: Sequence[str] | None) -> list[Row]:
    """The rows of these names with what their ratios need, in the table's order; all if there are no names."""
    if unknown := [name for name in names or () if name not in BY_NAME]:
        raise BenchmarkError(f"unknown row {', '.join(map(repr, unknown))}; known are {', '.join(BY_NAME)}")
    wanted = {one for name in names or BY_NAME for one in (name, BY_NAME[name].peer, BY_NAME[name].loop)}
    return [row for row in ROWS if row.name in wanted]


def network(name: str, weights: str | None = None, seed: int = 0) -> tuple[nn.Module, str]:
    """A network in evaluation mode, and what it is in words."""
    if weights:
        return load_checkpoint(weights), f"ResNet-18 at 32x32, weights {Path(weights).name}"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name == "tiny":
            layers = (nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
            return nn.Sequential(*layers, nn.Linear(128, 10)), "a tiny network, random weights"
        if name == "resnet18":
            return resnet18_32(), "ResNet-18 at 32x32, random weights"
        try:
            return efficientnet_lite0(), "EfficientNet-Lite0 at 224x224, ImageNet weights"
        except BenchmarkError:
            return resnet18(), "ResNet-18 at 224x224, random weights"


def make_task(settings: Settings) -> Task:
    """The model and what it is asked."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    shape = SHAPES[settings.model]
    own, words = network(settings.model, settings.weights, settings.seed)
    counted = ready(Counted(own), settings.device)
    draws = torch.Generator().manual_seed(settings.seed)
    if settings.data == "noise":
        x, baselines = (torch.randn(n, *shape, generator=draws) for n in (settings.images, settings.baselines))
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
        seconds, _ = timed(lambda: row.run(task), task.settings.device)
    return seconds, counter.evaluations(), counter.largest


def best_rows(task: Task, repeats: int = 3) -> dict[str, int]:
    """The micro-batches at which a bare gradient and a bare forward are cheapest, of a few sizes, interleaved."""
    s, x, usual = task.settings, task.x[:1], automatic_rows((task.x,))
    gradients = partial(peers.bare_gradients, task.model, x, int(task.y[0]))
    forwards = partial(peers.bare_forwards, task.model, x)
    found = {}
    for name, loop, most, shares in (
        ("gradient_rows", gradients, s.n_gradients, (0.25, 0.5, 1, 2)),
        ("forward_rows", forwards, s.n_forwards, (0.25, 1, 4, 8)),
    ):
        # Seconds per row: the best of the repeats, as the first ones of a size are slow.
        best = dict.fromkeys(sorted({min(most, max(1, round(usual * share))) for share in shares}), math.inf)
        for _, size in in_turns(best, repeats):
            count = max(best) // size * size
            best[size] = min(best[size], timed(partial(loop, count, size), s.device)[0] / count)
        found[name] = min(best, key=best.__getitem__)
    task.model.counter.reset()
    return found


def small(task: Task) -> Task:
    """The same rows with next to no work: what loads code and warms caches."""
    s = task.settings
    sizes = dict(n_steps=min(2, s.n_steps), n_samples=min(4, s.n_samples), metric_images=1, levels=task.x.shape[1])
    judged = {name: getattr(task, name)[:1] for name in ("judged", "classes", "maps")}
    return replace(task, settings=replace(s, **sizes), **judged)


def probe(settings: Settings, name: str) -> Memory:
    """The peak memory of one row, run once; to be called in a process that has done nothing else."""
    row = BY_NAME[name]
    task = make_task(settings)
    # Loads code, and has the libraries make their buffers for one row.
    peers.bare_gradients(task.model, task.x[:1], int(task.y[0]), 1, 1)
    if name in LIBRARIES:
        import_module(LIBRARIES[name])
    before = resident(settings.device)
    run_once(row, task)
    return Memory(peak(settings.device), before)


def describe(error: BaseException) -> str:
    """An error in one line, as it stands in a row's note."""
    if isinstance(error, ImportError) and error.name:
        return f"{error.name} is not installed"
    return one_line(error)
