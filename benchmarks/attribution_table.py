"""The attribution table: methods by metrics, each score through an unchanged `quantus.evaluate`.

    python -m benchmarks.attribution_table
    python -m benchmarks.attribution_table --data cifar10 --root DIR --weights FILE --images 64

prints it and writes table.md, table.csv, paired.csv, scores.csv (one row per method, metric and image) and maps.png to
--out, and there keeps every result, so that the same command goes on after an interruption and a later one with more
images, methods or metrics does only what is new.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from torch import nn

from benchmarks import attribution_experiment, data, judges, methods, models, report
from benchmarks.attribution_experiment import BLOCK, Experiment
from benchmarks.command_line import add_workers, engine, integer_from, positive
from benchmarks.errors import BenchmarkError
from benchmarks.evaluation import part
from benchmarks.gpus import EACH, own_device
from benchmarks.judges import Judge
from benchmarks.methods import Method
from benchmarks.runner import Cell, Runner, one_thread
from benchmarks.store import Key, Store, open_store

# The first and the last image of a block, as a slice of the selection.
Block = tuple[int, int]


@dataclass(frozen=True)
class Results:
    """All that the report shows.

    Attributes:
        scores: the columns method, judge, image (its position), score, reason (why there is none, or ""), in the order
            of rows, columns and images.
        left_out: why a (method, judge) was not computed.
        seconds: per image, by method.
        maps: of the images of the first block, by method.
        warnings: by message, the methods that gave it and the blocks in which they did.
    """

    scores: pd.DataFrame
    left_out: dict[tuple[str, str], str]
    seconds: dict[str, float]
    maps: dict[str, np.ndarray]
    warnings: dict[str, tuple[list[str], list[Block]]]


def compute(
    experiment: Experiment,
    store: Store,
    runner: Runner,
    rows: Sequence[Method],
    columns: Sequence[Judge],
    positions: Sequence[int],
    *,
    robustness_images: int,
    ablation_robustness: bool = False,
) -> Results:
    """The maps of each row and its scores in each column, of the test images at these positions.

    Args:
        robustness_images: how many of them, the first ones, are for the robustness columns.
        ablation_robustness: also the robustness columns of the ablation rows.
    """
    positions = tuple(positions)
    blocks = _blocks(len(positions))
    # What takes longest comes first, so that no worker is left with it at the end.
    sources = dict.fromkeys(row.source for row in sorted(rows, key=lambda row: not row.ablation))
    runner.run(
        store,
        [
            Cell(_maps_key(source, block), attribution_experiment.maps, (experiment, source, positions[slice(*block)]))
            for source in sources
            for block in blocks
        ],
        "maps",
    )

    left_out = {
        (row.name, judge.name): reason
        for row in rows
        for judge in columns
        if (reason := _left_out(row, judge, robustness_images, ablation_robustness))
    }
    explained_again = dict.fromkeys(
        row.source for row in rows for judge in columns if judge.robustness and (row.name, judge.name) not in left_out
    )
    cells = [
        Cell(
            # Their maps are those of the whole block, so it is part of the name.
            ("robustness", source, _name(block), _name(first)),
            attribution_experiment.robustness,
            (experiment, store, _maps_key(source, block), positions[slice(*first)], source),
        )
        for source in explained_again
        # The first images of the blocks.
        for block, first in zip(blocks, _blocks(robustness_images), strict=False)
    ]
    cells += [
        Cell(
            ("scores", row.name, judge.name, _name(block)),
            attribution_experiment.scores,
            (experiment, store, _maps_key(row.source, block), positions[slice(*block)], (row.name,), (judge.name,)),
        )
        for judge in columns
        if not judge.robustness
        for row in rows
        for block in blocks
    ]
    runner.run(store, cells, "scores")

    scores = _in_order([store.read(cell.key) for cell in cells], rows, columns)
    return Results(scores, left_out, *_of_maps(store, rows, blocks))


def _blocks(count: int) -> list[Block]:
    return [(first, min(first + BLOCK, count)) for first in range(0, count, BLOCK)]


def _name(block: Block) -> str:
    return "{:06d}-{:06d}".format(*block)


def _maps_key(source: str, block: Block) -> Key:
    return "maps", source, _name(block)


def _left_out(row: Method, judge: Judge, count: int, ablation_robustness: bool) -> str | None:
    if not judge.robustness:
        return None
    if count == 0:
        return "left out: --robustness-images 0"
    if row.ablation and not ablation_robustness:
        return "left out: one forward per input element and map (--ablation-robustness computes it)"
    return None


def _in_order(tables: Sequence[pd.DataFrame], rows: Sequence[Method], columns: Sequence[Judge]) -> pd.DataFrame:
    """The scores of rows and columns, whatever else the cells hold."""
    empty = pd.DataFrame(columns=["method", "judge", "image", "score", "reason"])
    scores = pd.concat(tables, ignore_index=True) if tables else empty
    of_method = {row.name: i for i, row in enumerate(rows)}
    of_judge = {judge.name: i for i, judge in enumerate(columns)}
    scores = scores[scores["method"].isin(of_method) & scores["judge"].isin(of_judge)]
    order = np.lexsort((scores["judge"].map(of_judge), scores["method"].map(of_method)))
    return scores.iloc[order].reset_index(drop=True)


def _of_maps(
    store: Store, rows: Sequence[Method], blocks: Sequence[Block]
) -> tuple[dict[str, float], dict[str, np.ndarray], dict[str, tuple[list[str], list[Block]]]]:
    """The seconds, maps and warnings of `Results`."""
    seconds: dict[str, float] = {}
    maps: dict[str, np.ndarray] = {}
    warnings: dict[str, tuple[list[str], list[Block]]] = {}
    for row in rows:
        tables = [store.read(_maps_key(row.source, block)) for block in blocks]
        seconds[row.name] = float(pd.concat(tables)["seconds"].mean())
        if not tables[0]["reason"][0]:
            maps[row.name] = part(row, attribution_experiment.stored_maps(tables[0]))
        for block, table in zip(blocks, tables, strict=True):
            for message in table["warnings"][0]:
                names, where = warnings.setdefault(message, ([], []))
                names += [row.name] * (row.name not in names)
                where += [block] * (block not in where)
    return seconds, maps, warnings


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution_table",
        description="Judge attribution methods of Captum and of this project by Quantus' metrics, side by side.",
    )
    at_least = integer_from
    add = parser.add_argument
    add("--data", choices=data.NAMES, default="digits", help="digits (the default) needs no files")
    add("--root", type=Path, help="folder of CIFAR-10: train/ and test/ as an ImageFolder, or torchvision's form")
    add("--weights", type=Path, help="state_dict of a ResNet-18 for 32x32 images; digits can do without")
    add("--images", type=at_least(1), default=2, help="correctly classified test images to explain (%(default)s)")
    add("--robustness-images", type=at_least(0), default=1, help="of these, for the sensitivity columns (%(default)s)")
    add("--methods", nargs="+", metavar="NAME", help=f"rows (all), by name or group: {', '.join(methods.GROUPS)}")
    add("--metrics", nargs="+", metavar="NAME", help=f"columns (all): {', '.join(judges.available())}")
    add(
        "--baselines", type=at_least(1), default=10, help="reference images, drawn from the training ones (%(default)s)"
    )
    add("--n-steps", type=at_least(1), default=10, help="points per reference image (%(default)s)")
    add("--radius", type=positive, help="local radius in normalised units (a tenth of the median distance)")
    add("--fresh-draws", action="store_true", help="local measures draw new points for each explanation")
    add("--ablation-robustness", action="store_true", help="also the sensitivity columns of the ablation rows (slow)")
    add("--seed", type=at_least(0), default=0, help="of images, references and all random draws (%(default)s)")
    add("--out", type=Path, default=Path("results"), help="folder of the table and of all results (%(default)s)")
    add("--cache", type=Path, help=f"folder of the trained digits network ({models.default_cache()})")
    add_workers(parser, jobs="one for each core, with a GPU 1")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be computed, 1 if nothing, 2 if the settings can't be used."""
    settings = parse(arguments)
    try:
        return table(settings)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def table(settings: argparse.Namespace) -> int:
    """Compute what is missing of the table, print it and write its files."""
    started = time.perf_counter()
    workers = engine(settings, jobs=joblib.cpu_count() if settings.device == "cpu" else 1)
    if settings.device != EACH:  # of which this process must take none from the workers
        own_device(settings.device)
    columns = judges.choose(judges.available(), settings.metrics)
    images = data.load(settings.data, settings.root)
    references = data.sample_references(images.train, settings.baselines, settings.seed)
    # Names are checked before the minute that a training may take.
    methods.choose(methods.available(methods.MethodSettings(references)), settings.methods)
    _writable(settings.out)

    model, weights = _model(settings, images)
    experiment = Experiment(
        data=settings.data,
        # Workers may have another working directory.
        root=None if settings.root is None else str(settings.root.absolute()),
        weights=str(weights.absolute()),
        radius=settings.radius or attribution_experiment.local_radius(images.test, references, settings.seed),
        baselines=settings.baselines,
        n_steps=settings.n_steps,
        seed=settings.seed,
        fresh_draws=settings.fresh_draws,
        device=settings.device,
    )
    store = open_store(settings.out / "cells", attribution_experiment.describe(experiment, images, references, model))
    with one_thread():
        selection = data.select_correct(model, images.test, settings.images, settings.seed)
    rows = methods.choose(attribution_experiment.available(experiment, references), settings.methods)
    facts = report.Facts(
        data=images.name,
        images=settings.images,
        tried=selection.tried,
        robustness_images=min(settings.robustness_images, settings.images),
        seed=settings.seed,
        baselines=settings.baselines,
        n_steps=settings.n_steps,
        radius=experiment.radius,
        radius_chosen=settings.radius is None,
        fresh_draws=settings.fresh_draws,
        device=settings.device.partition(":")[0],
        shape=tuple(selection.x.shape[1:]),
    )
    print(report.heading(facts), flush=True)
    with Runner(workers) as runner:
        results = compute(
            experiment,
            store,
            runner,
            rows,
            columns,
            selection.positions,
            robustness_images=facts.robustness_images,
            ablation_robustness=settings.ablation_robustness,
        )
    scores = report.long_scores(results.scores, selection, facts)
    written = report.write(settings.out, facts, rows, columns, results, scores, images.pixels(selection.x))
    print(written.text)
    print(f"\n{time.perf_counter() - started:.0f} s; written to {settings.out}: {', '.join(written.files)}")
    return 0 if len(scores) else 1


def _model(settings: argparse.Namespace, images: data.Images) -> tuple[nn.Module, Path]:
    """The network and the file that workers read it from; a training happens here, once."""
    model = models.ready(models.trained(settings.data, images, settings.weights, settings.cache), "cpu")
    if settings.weights is not None:
        return model, settings.weights
    print(f"digits network: accuracy {models.accuracy(model, images.test):.1%} on {len(images.test)} test images")
    file = models.digits_file(settings.cache)
    if not file.is_file():
        raise BenchmarkError(
            f"--cache {file.parent} can't be written to, but the workers read the trained network there; give another"
        )
    return model, file


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchmarkError(f"--out {folder} can't be written to: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
