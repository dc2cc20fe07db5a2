"""The attribution table: methods by metrics, each score through an unchanged `quantus.evaluate`.

    python -m benchmarks.attribution_table
    python -m benchmarks.attribution_table --data cifar10 --root DIR --weights FILE --images 64

prints it and writes table.md, table.csv, paired.csv, scores.csv (one row per method, metric and image) and maps.png to
--out, and there keeps every result, so that the same command goes on after an interruption and a later one with more
images, methods or metrics does only what is new. A run that ends early, by Ctrl-C or an error, writes none of these
files: what it has finished is in --out/cells, and the same command goes on from there.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from torch import nn

from benchmarks import attribution_experiment, report
from benchmarks import old_judges as judges
from benchmarks import old_methods as methods
from benchmarks.attribution_experiment import BLOCK, Block, Experiment, digest
from benchmarks.data import datasets as data
from benchmarks.evaluation import part
from benchmarks.old_judges import Judge
from benchmarks.old_methods import Method
from benchmarks.models import checkpoints as models
from benchmarks.run.command_line import (
    add_workers,
    check_writable,
    engine,
    exit_code,
    integer_from,
    positive_or_infinite,
)
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.gpus import EACH, own_device
from benchmarks.run.runner import Cell, Runner, one_thread
from benchmarks.run.store import Key, Store, open_store

_NUMBERS = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?:[\s,;]+[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)*")

# A warning: its source and block, whether that block's images were perturbed, and the message.
Given = tuple[str, Block, bool, str]


@dataclass(frozen=True)
class Warned:
    """A warning of the rows of a source: the same message but for its numbers counts as one.

    Attributes:
        methods: the rows.
        example: the message as it was first given,
        images: and of which images, by their positions.
        perturbed: whether it was given of them perturbed.
        blocks: in how many blocks it was given.
    """

    methods: tuple[str, ...]
    example: str
    images: tuple[int, ...]
    perturbed: bool
    blocks: int


@dataclass(frozen=True)
class Results:
    """All that the report shows.

    Attributes:
        scores: the columns method, judge, image (its position), score, reason (why there is none, or ""), in the order
            of rows, columns and images.
        left_out: why a (method, judge) was not computed.
        seconds: per image, by method.
        maps: of the images of the first block, by method.
        warnings: in the order of the rows.
        blocks: how many there are.
    """

    scores: pd.DataFrame
    left_out: dict[tuple[str, str], str]
    seconds: dict[str, float]
    maps: dict[str, np.ndarray]
    warnings: tuple[Warned, ...]
    blocks: int


def compute(
    experiment: Experiment,
    store: Store,
    runner: Runner,
    rows: Sequence[Method],
    columns: Sequence[Judge],
    selection: data.Selection,
    *,
    robustness_images: int,
    ablation_robustness: bool = False,
) -> Results:
    """The maps of each row and its scores in each column, of the selected test images.

    Args:
        robustness_images: how many of them, the first ones, are for the robustness columns.
        ablation_robustness: also the robustness columns of the ablation rows.
    """
    blocks = [
        Block(
            first,
            selection.positions[first:last],
            digest(selection.positions[first:last], selection.x[first:last], selection.y[first:last]),
        )
        for first, last in _bounds(len(selection.positions))
    ]
    # What takes longest comes first, so that no worker is left with it at the end.
    sources = dict.fromkeys(row.source for row in sorted(rows, key=lambda row: not row.ablation))
    runner.run(
        store,
        [
            Cell(_maps_key(source, block), attribution_experiment.maps, (experiment, source, block))
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
    perturbed = {
        (source, block): Cell(
            # Their maps are those of the whole block, so it is part of the name.
            ("robustness", source, block.name, f"{count:06d}"),
            attribution_experiment.robustness,
            (experiment, store, _maps_key(source, block), block, source, count),
        )
        for source in explained_again
        for block in blocks
        if (count := min(robustness_images - block.first, len(block))) > 0
    }
    cells = [
        *perturbed.values(),
        *(
            Cell(
                ("scores", row.name, judge.name, block.name),
                attribution_experiment.scores,
                (experiment, store, _maps_key(row.source, block), block, (row.name,), (judge.name,)),
            )
            for judge in columns
            if not judge.robustness
            for row in rows
            for block in blocks
        ),
    ]
    runner.run(store, cells, "scores")

    found = {cell.key: store.read(cell.key) for cell in cells}
    seconds, maps, given = _of_maps(store, rows, blocks)
    for (source, block), cell in perturbed.items():
        given += [(source, block, True, message) for message in found[cell.key]["warnings"][0]]
    scores = _in_order(list(found.values()), rows, columns)
    return Results(scores, left_out, seconds, maps, _warned(rows, given), len(blocks))


def _bounds(count: int) -> list[tuple[int, int]]:
    """Where blocks begin and end. None is of one image, unless it is the only one: nothing can be permuted in it."""
    starts = [first for first in range(0, count, BLOCK) if first == 0 or count - first > 1]
    return list(zip(starts, [*starts[1:], count], strict=True))


def _maps_key(source: str, block: Block) -> Key:
    return "maps", source, block.name


def _of_maps(
    store: Store, rows: Sequence[Method], blocks: Sequence[Block]
) -> tuple[dict[str, float], dict[str, np.ndarray], list[Given]]:
    """The seconds and maps of `Results`, and the warnings."""
    seconds: dict[str, float] = {}
    maps: dict[str, np.ndarray] = {}
    given: list[Given] = []
    for source in dict.fromkeys(row.source for row in rows):
        of_source = [row for row in rows if row.source == source]
        # Without the maps, which are many bytes; only those of the first block are drawn.
        tables = [store.read(_maps_key(source, block), ["seconds", "reason", "warnings"]) for block in blocks]
        seconds.update(dict.fromkeys((row.name for row in of_source), float(pd.concat(tables)["seconds"].mean())))
        if not tables[0]["reason"][0]:
            drawn = attribution_experiment.stored_maps(store.read(_maps_key(source, blocks[0])))
            maps.update({row.name: part(row, drawn) for row in of_source})
        for block, table in zip(blocks, tables, strict=True):
            given += [(source, block, False, message) for message in table["warnings"][0]]
    # In the order of the rows, between which those of another source may stand.
    return seconds, {row.name: maps[row.name] for row in rows if row.name in maps}, given


def _warned(rows: Sequence[Method], given: Sequence[Given]) -> tuple[Warned, ...]:
    """The warnings, told apart by their source and their words, in the order of the rows."""
    alike: dict[tuple[str, str], list[tuple[Block, bool, str]]] = {}
    for source, block, again, message in given:
        alike.setdefault((source, _NUMBERS.sub("#", message)), []).append((block, again, message))
    found = []
    for (source, _), places in alike.items():
        block, again, message = places[0]
        names = tuple(row.name for row in rows if row.source == source)
        found.append(Warned(names, message, block.positions, again, len({block for block, _, _ in places})))
    order = [row.name for row in rows]
    return tuple(sorted(found, key=lambda warned: order.index(warned.methods[0])))


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
    scores = scores[scores["method"].isin(of_method) & scores["judge"].isin(of_judge)][list(empty.columns)]
    order = np.lexsort((scores["judge"].map(of_judge), scores["method"].map(of_method)))
    return scores.iloc[order].reset_index(drop=True)


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
    add(
        "--radius",
        type=positive_or_infinite,
        help="local radius in normalised units, or inf (a tenth of the median distance)",
    )
    add("--fresh-draws", action="store_true", help="local measures draw new points for each explanation")
    add("--ablation-robustness", action="store_true", help="also the sensitivity columns of the ablation rows (slow)")
    add("--seed", type=at_least(0), default=0, help="of images, references and all random draws (%(default)s)")
    add("--out", type=Path, default=Path("results"), help="folder of the table and of all results (%(default)s)")
    add("--cache", type=Path, help=f"folder of the trained digits network ({models.default_cache()})")
    add_workers(parser, jobs="one for each core, with a GPU 1")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be computed, 1 if nothing, 2 if the settings can't be used."""
    return exit_code(table, parse(arguments))


def table(settings: argparse.Namespace) -> int:
    """Compute what is missing of the table, print it and write its files."""
    started = time.perf_counter()
    workers = engine(settings, jobs=joblib.cpu_count() if settings.device == "cpu" else 1)
    if settings.device != EACH:  # of which this process must take none from the workers
        own_device(settings.device)
    columns = judges.choose(judges.available(), settings.metrics)
    images = data.load(settings.data, settings.root)
    training = data.readable_references(images.train, settings.baselines, settings.seed)
    references = training.x
    # Names are checked before the minute that a training may take.
    methods.choose(methods.available(methods.MethodSettings(references)), settings.methods)
    check_writable(settings.out, settings.out)

    model, weights = _model(settings, images)
    radius, unreadable = settings.radius, {}
    if radius is None:
        inputs = attribution_experiment.local_images(images.test, settings.seed)
        radius, unreadable = attribution_experiment.local_radius(inputs.x, references), inputs.unreadable
    experiment = Experiment(
        data=settings.data,
        # Workers may have another working directory.
        root=None if settings.root is None else str(settings.root.absolute()),
        weights=str(weights.absolute()),
        radius=radius,
        baselines=settings.baselines,
        n_steps=settings.n_steps,
        seed=settings.seed,
        fresh_draws=settings.fresh_draws,
        device=settings.device,
    )
    described = attribution_experiment.describe(experiment, images, references, model)
    experiment = attribution_experiment.made_of(experiment, described)
    store = open_store(settings.out / "cells", described)
    with one_thread():
        selection = data.select_correct(model, images.test, settings.images, settings.seed)
    unreadable = {**unreadable, **selection.unreadable}
    data.tell_unreadable([*training.unreadable.values(), *unreadable.values()])
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
        unreadable_test=len(unreadable),
        unreadable_training=len(training.unreadable),
    )
    print(report.heading(facts), flush=True)
    with Runner(workers) as runner:
        results = compute(
            experiment,
            store,
            runner,
            rows,
            columns,
            selection,
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
    try:
        kept = models.checksum(models.load_checkpoint(file, images.classes)) == models.checksum(model)
    except BenchmarkError:
        kept = False
    if not kept:
        raise BenchmarkError(
            f"--cache {file.parent} can't be written to, but the workers read the trained network there; give another"
        )
    return model, file


if __name__ == "__main__":
    sys.exit(main())
