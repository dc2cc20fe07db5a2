"""The tables and figures of weighted gradients (Duc et al. 2025), with controls and judges that the weights never saw.

    python -m benchmarks.wg_tables --data cifar10 --root DIR --models resnet18_cifar10 --weights FILE
    python -m benchmarks.wg_tables --data imagenet --root DIR --labels CSV --models efficientnet_lite0 densenet121
    python -m benchmarks.wg_tables --data coco --root DIR --models efficientnet_lite0 --images 200 --jobs 2

writes tables.md, table1.csv, table2.csv, figure2.csv, figure1.png, figure2.png and scores.csv to --out, and there keeps
every result, so that the same command goes on after an interruption and a later one with more images, methods or judges
does only what is new.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import wg_experiment, wg_judges, wg_methods, wg_report
from benchmarks.command_line import add_workers, engine, integer_from
from benchmarks.errors import BenchmarkError
from benchmarks.runner import Cell, Runner
from benchmarks.store import Key, Store, open_store
from benchmarks.wg_experiment import Chosen, Experiment
from benchmarks.wg_judges import Judge

# Photographs looked at in one cell. Part of the cells' names, so a change of it makes them anew.
PREDICTIONS = 64
# Figure 2 of the paper removes up to this many baselines.
REMOVED = 5


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


@dataclasses.dataclass(frozen=True)
class Part:
    """One model's results: its scores, image by image, and what the report shows besides.

    Attributes:
        scores: the columns model, method, judge, image, score, problem.
        hopeless: images for which no baseline's removal reaches alpha f(x), so that all weights are equal.
    """

    experiment: Experiment
    store: Store
    selection: Selection
    chunks: tuple[tuple[Key, tuple[Chosen, ...]], ...]
    scores: pd.DataFrame
    hopeless: int


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
    *,
    images: int | None,
    chunk: int,
    judged: Sequence[tuple[str, str]],
) -> Part:
    """All results of one model: the images, their maps, and each method's scores by each judge.

    Args:
        images: how many, None: all that count.
        chunk: how many in a cell.
        judged: (method, judge).
    """
    selection = select(experiment, store, runner, images)
    chunks = tuple(
        (("maps", f"{i:06d}-{min(i + chunk, len(selection.images)):06d}"), selection.images[i : i + chunk])
        for i in range(0, len(selection.images), chunk)
    )
    runner.run(
        store,
        [Cell(key, wg_experiment.maps, (experiment, part)) for key, part in chunks],
        f"{experiment.model}: maps",
    )
    cells = [
        Cell(
            ("scores", method, judge, key[-1]),
            wg_experiment.scores,
            (experiment, store, key, part, method, judge),
        )
        for method, judge in judged
        for key, part in chunks
    ]
    runner.run(store, cells, f"{experiment.model}: scores")
    tables = []
    for cell in cells:
        _, method, judge, _ = cell.key
        tables.append(store.read(cell.key).assign(model=experiment.model, method=method, judge=judge))
    scores = pd.concat(tables, ignore_index=True).rename(columns={"name": "image"})
    hopeless = sum(
        int(len(row.distances) > 1 and np.all(np.asarray(row.distances) == row.features))
        for key, _ in chunks
        for row in store.read(key)[["distances", "features"]].itertuples()
    )
    columns = ["model", "judge", "method", "image", "score", "problem"]
    return Part(experiment, store, selection, chunks, scores[columns], hopeless)


def judged_methods(
    judges: Sequence[Judge], n_baselines: int, keep: int, controls: Sequence[str]
) -> list[tuple[str, str]]:
    """(method, judge) of all tables and figures, without repetition."""
    table = [wg_methods.EG, wg_methods.WG, *([wg_methods.kept(keep)] if keep < n_baselines else []), *controls]
    curve = [wg_methods.kept(n_baselines - removed) for removed in range(1, min(REMOVED, n_baselines - 1) + 1)]
    pairs = [(method, judge.name) for judge in judges for method in table]
    pairs += [(method, judge.name) for judge in judges if judge.removes for method in curve]
    return list(dict.fromkeys(pairs))


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.wg_tables",
        description="Expected against weighted gradients: tables 1 and 2 and figures 1 and 2 of Duc et al. (2025).",
    )
    default = Experiment("", "cifar10", "")
    add = parser.add_argument
    add("--data", choices=wg_experiment.DATA, required=True, help="what the photographs are")
    add("--root", required=True, help="their folder: train/ and test/, class folders or files, images/ of COCO")
    add("--labels", help="imagenet: csv with the columns file and class_index, instead of class folders")
    add("--instances", help="coco: the annotations (ROOT/instances.json)")
    add("--images-dir", help="coco: the photographs (ROOT/images)")
    add("--masks", help="folder of masks (NAME.png for a photograph NAME.jpg), for the overlap")
    add("--models", nargs="+", required=True, metavar="NAME", help="torchvision's names, efficientnet_lite0, ...")
    add("--weights", nargs="+", default=[], metavar="NAME=FILE", help="state_dicts instead of the default weights")
    add("--resize", type=integer_from(1), help="shorter side, other than the weights ask for")
    add("--crop", type=integer_from(1), help="side of the central square, other than the weights ask for")
    add("--images", type=integer_from(0), default=100, help="correctly classified images; 0: all (%(default)s)")
    add("--baselines", choices=wg_experiment.BASELINES, default=default.baselines, help="(%(default)s)")
    add("--references", help="folder of reference images (training images, or photographs of the data themselves)")
    add("--n-baselines", type=integer_from(2), default=default.n_baselines, help="(%(default)s)")
    add("--n-steps", type=integer_from(1), default=default.n_steps, help="points on each path (%(default)s)")
    add("--keep", type=integer_from(1), help="baselines that filtered WG keeps (half of them)")
    add("--alpha", type=_share, default=default.alpha, help="of D_alpha (%(default)s)")
    add("--neutral", choices=wg_experiment.NEUTRALS, default=default.neutral, help="of D_alpha (%(default)s)")
    add("--ranking", choices=("signed", "absolute"), default=default.ranking, help="of pixels (%(default)s)")
    add("--levels", type=integer_from(1), default=default.levels, help="of the judges' curves (%(default)s)")
    add(
        "--judges",
        nargs="+",
        metavar="NAME",
        help=f"of {', '.join(wg_judges.available())} (all but ROAD, MPRT and RandomLogit)",
    )
    add(
        "--controls",
        nargs="*",
        metavar="NAME",
        default=list(wg_methods.CONTROLS),
        help="rows beside EG and WG, also WeightedGradients-power2, -keep3",
    )
    add("--seed", type=integer_from(0), default=default.seed, help="of everything that is drawn (%(default)s)")
    add("--maps", type=integer_from(1), default=1, help="images of figure 1 for each model (%(default)s)")
    add("--out", type=Path, default=Path("results/wg"), help="folder of tables and results (%(default)s)")
    add_workers(parser, jobs="1")
    add("--batch", type=integer_from(1), default=default.batch, help="images in one forward (%(default)s)")
    add("--chunk", type=integer_from(1), default=8, help="images in one cell (%(default)s)")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if the tables are written, 2 if the settings can't be used."""
    settings = parse(arguments)
    try:
        tables(settings)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def tables(settings: argparse.Namespace) -> None:
    """Compute all that is missing, write the tables and figures, and print the tables."""
    masks = settings.data == "coco" or settings.masks is not None
    judges = wg_judges.choose(
        wg_judges.available(settings.levels, settings.ranking, settings.batch), settings.judges, masks
    )
    keep = settings.keep or max(1, round(settings.n_baselines / 2))
    if keep > settings.n_baselines:
        raise BenchmarkError(f"--keep {keep} is more than the {settings.n_baselines} baselines")
    judged = judged_methods(judges, settings.n_baselines, keep, settings.controls)
    for name, _ in judged:
        wg_methods.method(name, settings.n_baselines)  # a wrong name is found before any work
    workers = engine(settings)

    parts = []
    with Runner(workers) as runner:
        for experiment in experiments(settings):
            store = open_store(settings.out / "cells" / experiment.model, wg_experiment.describe(experiment))
            part = evaluate(
                experiment, store, runner, images=settings.images or None, chunk=settings.chunk, judged=judged
            )
            for text in part.selection.unreadable:
                print(f"skipped, {text}", file=sys.stderr)
            parts.append(part)
    print(wg_report.write(settings, parts, judges, keep))


def experiments(settings: argparse.Namespace) -> list[Experiment]:
    """One for each model.

    Raises:
        BenchmarkError: weights for a model that is not asked for, a model named twice.
    """
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
        if field.name not in ("model", "weights")
    }
    for name in ("root", "labels", "instances", "images_dir", "masks", "references"):
        given[name] = _full(given[name])
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


if __name__ == "__main__":
    sys.exit(main())
