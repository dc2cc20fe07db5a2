"""What the weighted-gradients commands have in common: their options, the images that count, and working off cells."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import math
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.experiment import scores as score_tables
from benchmarks import wg_experiment, wg_methods
from benchmarks.run.command_line import add_workers, engine, integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell, Runner
from benchmarks.run.store import Key, Store, open_store
from benchmarks.wg_experiment import Chosen, Experiment

# Photographs looked at in one cell. Part of the cells' names, so a change of it makes them anew.
PREDICTIONS = 64
# Images that are taken from their maps to their scores before the next ones are begun, where maps are discarded.
ROUND = 1024
# Settings that say how a run is carried out: the tables do not depend on them, and don't name them.
_HOW = ("out", "jobs", "backend", "address", "chunk", "discard_maps")
# Options that say something with one value of another option only.
_USELESS = (
    ("labels", "data", "imagenet"),
    ("instances", "data", "coco"),
    ("images_dir", "data", "coco"),
    ("references", "baselines", "references"),
)


@dataclasses.dataclass(frozen=True)
class Selection:
    """The images that count, in their order, and what became of all that were tried.

    Attributes:
        statuses: how many photographs of each status; see `wg_experiment`.
        unreadable: why, for each that could not be decoded.
    """

    images: tuple[Chosen, ...]
    statuses: dict[str, int]
    unreadable: tuple[str, ...]

    @property
    def tried(self) -> int:
        return sum(self.statuses.values())

    @property
    def line(self) -> str:
        """How many count, of how many, and why the others don't."""
        others = ", ".join(f"{n} {status}" for status, n in self.statuses.items() if status != wg_experiment.USED)
        return f"n = {len(self.images)} of {self.tried} tried" + (f" ({others})" if others else "")


@dataclasses.dataclass(frozen=True)
class Part:
    """One model's results: its scores, image by image, and what the report shows besides.

    Attributes:
        chunks: the images of a cell, by the last part of its key.
        scores: the columns model, method, judge, image, score, problem.
        needs: what the methods are made of.
    """

    experiment: Experiment
    store: Store
    selection: Selection
    chunks: tuple[tuple[str, tuple[Chosen, ...]], ...]
    needs: wg_experiment.Needs
    scores: pd.DataFrame = dataclasses.field(default_factory=pd.DataFrame)

    def hopeless(self) -> int:
        """Images for which all baselines have the same D_alpha, by the experiment's own settings: WG is EG there."""
        method = self.experiment.method(wg_methods.WG)
        if (method.points, method.fitness) not in self.needs.fitness:
            return 0
        tables = [
            self.store.read(self.needs.fitness_key(method.points, method.fitness, images)) for images, _ in self.chunks
        ]
        return sum(len(row) > 1 and np.ptp(row) == 0 for table in tables for row in table["distances"])


def select(experiment: Experiment, store: Store, runner: Runner, count: int | None) -> Selection:
    """The first `count` images that count, or all (None), in the order that the seed gives.

    Raises:
        BenchmarkError: none does.
    """
    places = wg_experiment.order(experiment)
    parts: list[pd.DataFrame] = []
    start = used = 0
    while start < len(places) and (count is None or used < count):
        # As many as are likely to do, so that all workers have something to look at.
        rate = max(0.1, used / start) if start else 0.7
        wanted = len(places) - start if count is None else math.ceil((count - used) / rate)
        stop = min(len(places), start + PREDICTIONS * math.ceil(wanted / PREDICTIONS))
        cells = [
            Cell(
                ("predictions", f"{first:07d}-{min(first + PREDICTIONS, len(places)):07d}"),
                wg_experiment.predictions,
                (experiment, tuple(places[first : first + PREDICTIONS])),
            )
            for first in range(start, stop, PREDICTIONS)
        ]
        runner.run(store, cells, f"{experiment.model}: predictions")
        parts.append(store.read_all([cell.key for cell in cells]))
        used += int((parts[-1]["status"] == wg_experiment.USED).sum())
        start = stop
    looked_at = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"status": []})
    counts = (looked_at["status"] == wg_experiment.USED).cumsum()
    if not used:
        found = ", ".join(f"{n} {status}" for status, n in _short_statuses(looked_at["status"]).items())
        raise BenchmarkError(
            f"no image of {len(looked_at)} counts for {experiment.model} ({found}); check that the labels and the "
            f"weights belong to these data"
        )
    if count is not None and used > count:
        looked_at = looked_at[: int(np.searchsorted(counts, count)) + 1]
    chosen = looked_at[looked_at["status"] == wg_experiment.USED]
    return Selection(
        tuple(
            Chosen(int(row.position), str(row.name_), int(row.crc), int(row.predicted))
            for row in chosen.rename(columns={"name": "name_"}).itertuples()
        ),
        _short_statuses(looked_at["status"]),
        tuple(text for text in looked_at["status"] if text.startswith(wg_experiment.UNREADABLE)),
    )


def evaluate(
    experiment: Experiment,
    store: Store,
    runner: Runner,
    selection: Selection,
    *,
    chunk: int,
    judged: Sequence[tuple[str, str]],
    methods: Sequence[str] = (),
    which: slice = slice(None),
    drawn: Collection[str] = (),
    discard_maps: bool = False,
) -> Part:
    """All results of one model for the images of `select`: their maps, and each method's scores by each judge.

    Args:
        chunk: how many in a cell.
        judged: (method, judge).
        methods: besides those, to be made but not judged.
        which: of these images, such as a half.
        drawn: names of images whose maps are needed for a figure.
        discard_maps: delete all other maps as soon as they are judged, ROUND images after ROUND images.
    """
    first, last, _ = which.indices(len(selection.images))
    chunks = tuple(
        (f"{i:06d}-{min(i + chunk, last):06d}", selection.images[i : min(i + chunk, last)])
        for i in range(first, last, chunk)
    )
    made = [experiment.method(name) for name in dict.fromkeys((*(name for name, _ in judged), *methods))]
    needs = wg_experiment.Needs.of(made, experiment.n_baselines)
    kept = {name for name, chosen in chunks if methods or any(image.name in drawn for image in chosen)}
    in_round = max(1, ROUND // chunk) if discard_maps else max(1, len(chunks))
    for start in range(0, len(chunks), in_round):
        part = chunks[start : start + in_round]
        several = f" of images {part[0][0][:6]}-{part[-1][0][-6:]}" if len(chunks) > in_round else ""
        _round(experiment, store, runner, needs, judged, part, kept, f"{experiment.model}: {{}}{several}")
        if discard_maps:
            for points, name in itertools.product(needs.maps, (name for name, _ in part if name not in kept)):
                store.delete(needs.maps_key(points, name))
    if discard_maps:
        # Also those of earlier runs, with other methods or chunks.
        wanted = {needs.maps_key(points, name) for points in needs.maps for name in kept}
        for key in store.keys("maps"):
            if key not in wanted:
                store.delete(key)
    scores = score_tables.joined(
        _read_scores(experiment, store, method, judge, [name for name, _ in chunks]) for method, judge in judged
    )
    return Part(experiment, store, selection, chunks, needs, scores)


def _read_scores(experiment: Experiment, store: Store, method: str, judge: str, chunks: Sequence[str]) -> pd.DataFrame:
    table = store.read_all([("scores", method, judge, name) for name in chunks]).rename(columns={"name": "image"})
    return score_tables.with_constants(table, model=experiment.model, method=method, judge=judge)


def _round(
    experiment: Experiment,
    store: Store,
    runner: Runner,
    needs: wg_experiment.Needs,
    judged: Sequence[tuple[str, str]],
    chunks: Sequence[tuple[str, tuple[Chosen, ...]]],
    kept: Collection[str],
    label: str,
) -> None:
    """Maps, D_alpha and scores of some chunks.

    Maps and D_alpha are made where something is missing that follows from them, and all of them in the chunks of
    `kept`; and everywhere the D_alpha of weighted gradients by the experiment's own settings, for `Part.hopeless`.
    """
    wanted: set[Key | None] = set()
    own = experiment.method(wg_methods.WG)
    if (own.points, own.fitness) in needs.fitness:
        wanted.update(needs.fitness_key(own.points, own.fitness, name) for name, _ in chunks)
    scores = []
    for method, judge in judged:
        parsed = experiment.method(method)
        for name, chosen in chunks:
            sources = needs.sources(parsed, name)
            key = ("scores", method, judge, name)
            scores.append(Cell(key, wg_experiment.scores, (experiment, store, sources, chosen, method, judge)))
            if not store.has(key):
                wanted.update(sources)
    fitness = []
    for (points, by), count in needs.fitness.items():
        for name, chosen in chunks:
            key, maps_key = needs.fitness_key(points, by, name), needs.maps_key(points, name)
            if name in kept or key in wanted:
                fitness.append(Cell(key, wg_experiment.fitness, (experiment, store, maps_key, chosen, by, count)))
                if not store.has(key):
                    wanted.add(maps_key)
    maps = [
        Cell(needs.maps_key(points, name), wg_experiment.maps, (experiment, chosen, points, count))
        for points, count in needs.maps.items()
        for name, chosen in chunks
        if name in kept or needs.maps_key(points, name) in wanted
    ]
    for cells, kind in ((maps, "maps"), (fitness, "fitness"), (scores, "scores")):
        if cells:
            runner.run(store, cells, label.format(kind))


def options(
    prog: str, description: str, out: str, without: Collection[str] = (), **defaults: Any
) -> argparse.ArgumentParser:
    """A parser of everything that decides an `Experiment`, of --images, and of where the work is done.

    Args:
        out: the default of --out.
        without: options that say nothing in this command.
        defaults: other than `Experiment`'s.
    """
    parser = argparse.ArgumentParser(prog=prog, description=description)
    default = Experiment("", "cifar10", "", **defaults)

    def add(name: str, **settings: Any) -> None:
        if name not in without:
            parser.add_argument(name, **settings)

    add("--data", choices=wg_experiment.DATA, required=True, help="what the photographs are")
    add("--root", required=True, help="their folder: train/ and test/, class folders or files, images/ of COCO")
    add("--labels", help="imagenet: csv with the columns file and class_index, instead of class folders")
    add("--instances", help="coco: the annotations (ROOT/instances.json)")
    add("--images-dir", help="coco: the photographs (ROOT/images)")
    add("--masks", help="folder of masks (NAME.png for a photograph NAME.jpg), for the overlap")
    add("--models", nargs="+", required=True, metavar="NAME", help="torchvision's names, efficientnet_lite0, ...")
    add(
        "--weights",
        nargs="+",
        default=[],
        metavar="NAME=FILE",
        help="state_dicts instead of the default weights, of networks that take what torchvision's do",
    )
    add("--resize", type=integer_from(1), help="shorter side, other than the weights ask for")
    add("--crop", type=integer_from(1), help="side of the central square, other than the weights ask for")
    add("--images", type=integer_from(0), default=100, help="correctly classified images; 0: all (%(default)s)")
    add("--without", metavar="FILE", help="csv whose column image names photographs to leave out: a run's scores.csv")
    add("--baselines", choices=wg_experiment.BASELINES, default=default.baselines, help="(%(default)s)")
    add("--references", help="folder of reference images (training images, or photographs of the data themselves)")
    add("--n-baselines", type=integer_from(2), default=default.n_baselines, help="(%(default)s)")
    add("--n-steps", type=integer_from(1), default=default.n_steps, help="points on each path (%(default)s)")
    add("--alpha", type=_share, default=default.alpha, help="of D_alpha (%(default)s)")
    add("--neutral", choices=wg_methods.NEUTRALS, default=default.neutral, help="of D_alpha (%(default)s)")
    add("--ranking", choices=("signed", "absolute"), default=default.ranking, help="of pixels (%(default)s)")
    add("--levels", type=integer_from(1), default=default.levels, help="of the judges' curves (%(default)s)")
    add("--seed", type=integer_from(0), default=default.seed, help="of everything that is drawn (%(default)s)")
    add("--out", type=Path, default=Path(out), help="folder of tables and results (%(default)s)")
    add_workers(parser, jobs="1")
    add("--batch", type=integer_from(1), default=default.batch, help="images in one forward (%(default)s)")
    add("--chunk", type=integer_from(1), default=8, help="images in one cell (%(default)s)")
    add(
        "--discard-maps",
        action="store_true",
        help="delete all maps in --out but those of figure 1 as soon as they are judged; later rows or judges make "
        "them again. Nothing else may use this --out meanwhile",
    )
    return parser


def run(settings: argparse.Namespace, *works: Callable[[Experiment, Store, Runner], Any]) -> list[Any]:
    """What the last of `works` gives for each model's experiment, its store and a runner.

    Each of them is done for all models before the next one is begun. The stores are in --out/cells.
    """
    workers = engine(settings)
    # What is missing of any model is found before the hours that another one takes.
    described = [(experiment, wg_experiment.describe(experiment)) for experiment in experiments(settings)]
    things = []
    for experiment, made_with in described:
        for text in wg_experiment.bench(experiment).unreadable_references:
            print(f"skipped as a reference image, {text}", file=sys.stderr)
        store = open_store(settings.out / "cells" / experiment.model, made_with)
        things.append((dataclasses.replace(experiment, made_of=store.settings), store))
    found: list[Any] = []
    with Runner(workers) as runner:
        for work in works:
            found = [work(experiment, store, runner) for experiment, store in things]
    return found


def command(settings: argparse.Namespace, module: str) -> str:
    """The command that gives the same tables, with whatever --out and workers."""
    words = ["python", "-m", f"benchmarks.{module}"]
    for name, value in vars(settings).items():
        # Without weights the option is left out; an empty list of anything else says something.
        if name in _HOW or value is None or value is False or (value == [] and name == "weights"):
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return shlex.join(words)


def experiments(settings: argparse.Namespace) -> list[Experiment]:
    """One for each model.

    Raises:
        BenchmarkError: weights for a model that is not asked for, a model named twice, an option that the data or
            the baselines have no use for.
    """
    for name, of, needed in _USELESS:
        if getattr(settings, name) is not None and getattr(settings, of) != needed:
            raise BenchmarkError(
                f"--{name.replace('_', '-')} is of --{of} {needed} alone, but --{of} is {getattr(settings, of)}; "
                "leave one of them out"
            )
    weights: dict[str, str] = {}
    for text in settings.weights:
        name, equals, file = text.partition("=")
        if not equals and len(settings.models) == 1:
            name, file = settings.models[0], text
        if name not in settings.models or not file:
            raise BenchmarkError(
                f"--weights {text}: give NAME=FILE with a NAME of --models ({', '.join(settings.models)})"
            )
        weights[name] = file
    if len(set(settings.models)) < len(settings.models):
        raise BenchmarkError(f"--models names a model twice: {', '.join(settings.models)}")
    given: dict[str, Any] = {
        field.name: getattr(settings, field.name)
        for field in dataclasses.fields(Experiment)
        if field.name not in ("model", "weights", "made_of") and hasattr(settings, field.name)
    }
    for name in ("root", "labels", "instances", "images_dir", "masks", "references", "without"):
        given[name] = _full(given.get(name))
    return [Experiment(model, weights=_full(weights.get(model)), **given) for model in settings.models]


def _short_statuses(statuses: pd.Series) -> dict[str, int]:
    return dict(Counter(status.partition(":")[0] for status in statuses))


def _full(path: str | None) -> str | None:
    # Workers may have another working directory.
    return None if path is None else str(Path(path).absolute())


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"must lie between 0 and 1, got {value}")
    return value
