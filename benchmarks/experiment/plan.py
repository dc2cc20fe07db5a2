"""How a table is made: the images of each model are chosen, and what is missing of its results is worked off."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmarks.experiment import cells
from benchmarks.experiment.bench import bench, forget
from benchmarks.experiment.missing import Plan
from benchmarks.experiment.reading import read
from benchmarks.experiment.results import USED, Chosen, ModelResults, Selection
from benchmarks.experiment.settings import Experiment, experiments
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell, Engine, Runner
from benchmarks.run.store import Store, open_store

# Photographs looked at in one cell. Part of the cells' names, so a change of it makes them anew.
PREDICTIONS = 64
# Images that are taken from their maps to their scores before the next ones are begun, where maps are discarded.
ROUND = 1024
# Skipped photographs that are named one by one.
NAMED = 10

# What a command does with a model's experiment, its store and a runner.
Work = Callable[[Experiment, Store, Runner], Any]


def tabulate(
    settings: argparse.Namespace,
    judged: Sequence[tuple[str, str]],
    *,
    drawn: int = 0,
    options: Mapping[str, Any] | None = None,
    **more: Any,
) -> tuple[ModelResults, ...]:
    """The results of a command's table, for each of its models.

    Args:
        judged: (method, judge).
        drawn: how many images of each model a picture shows: see `shown`.
        options: of `evaluate`, beside those that the command line says.
        more: of `for_each_model`.
    """
    selections: dict[str, Selection] = {}

    def choose(experiment: Experiment, store: Store, runner: Runner) -> None:
        selections[experiment.model] = select(experiment, store, runner, settings.images or None)

    def judge(experiment: Experiment, store: Store, runner: Runner) -> ModelResults:
        names = {image.name for images in shown([*selections.values()], drawn) for image in images}
        given = {"chunk": settings.chunk, "discard_maps": settings.discard_maps, **(options or {})}
        return evaluate(experiment, store, runner, selections[experiment.model], judged, drawn=names, **given)

    # Which images all models have in common is known when all have seen theirs.
    return tuple(for_each_model(settings, choose, judge, **more))


def for_each_model(settings: argparse.Namespace, *works: Work, jobs: int = 1, **more: Any) -> list[Any]:
    """What the last of `works` gives for each model's experiment, its store and a runner.

    Each of them is done for all models before the next one is begun. The stores are in --out/cells.

    Args:
        jobs: workers on this machine unless the settings say.
        more: of `Experiment`, that the command line does not say.
    """
    workers = settings.jobs or (jobs if settings.backend == "local" else None)
    engine = Engine(settings.backend, workers, settings.address, gpus=settings.device.startswith("cuda"))
    forget()
    # What is missing of any model is found before the hours that another one takes.
    things = []
    for experiment in experiments(settings, **more):
        ready = bench(experiment)
        if ready.references:
            tell([f"skipped as a reference image, {text}" for text in ready.references.unreadable])
        store = open_store(settings.out / "cells" / experiment.model, ready.described)
        things.append((experiment.known(ready.described), store))
    found: list[Any] = []
    with Runner(engine) as runner:
        for work in works:
            found = [work(experiment, store, runner) for experiment, store in things]
    return found


def tell(messages: Sequence[str]) -> None:
    """Name photographs that are skipped, the first of them if they are many."""
    more = [f"skipped: {len(messages)} photographs in all"] * (len(messages) > NAMED)
    for message in [*messages[:NAMED], *more]:
        print(message, file=sys.stderr)


def select(experiment: Experiment, store: Store, runner: Runner, count: int | None) -> Selection:
    """The first `count` images that count, or all (None), in the order that the seed gives.

    Raises:
        BenchmarkError: none does.
    """
    places = bench(experiment).order()
    looks = [
        Cell(("predictions", f"{a:07d}-{b:07d}"), cells.predictions, (experiment, tuple(places[a:b])))
        for a, b in cells.bounds(len(places), PREDICTIONS, alone=True)
    ]
    looked_at = pd.DataFrame(columns=list(cells.PREDICTED)).astype(cells.PREDICTED)
    done = used = 0
    while done < len(looks) and (count is None or used < count):
        # As many as are likely to do, so that all workers have something to look at.
        rate = max(0.1, used / len(looked_at)) if done else 0.7
        wanted = len(looks) if count is None else math.ceil((count - used) / rate / PREDICTIONS)
        done += len(part := looks[done : done + wanted])
        runner.run(store, part, f"{experiment.model}: predictions")
        looked_at = pd.concat([looked_at, store.read_all([cell.key for cell in part])], ignore_index=True)
        used = int((looked_at["status"] == USED).sum())
    if not used:
        raise BenchmarkError(
            f"no image of {len(looked_at)} counts for {experiment.model} "
            f"({Selection.of((), looked_at['status']).others}); check that the labels and the weights belong to these "
            "data"
        )
    if count is not None and used > count:
        counts = (looked_at["status"] == USED).cumsum()
        looked_at = looked_at[: counts.searchsorted(count) + 1]
    images = [
        Chosen(one.position, one.image, one.crc, one.predicted, one.probability)
        for one in looked_at[looked_at["status"] == USED].rename(columns={"name": "image"}).itertuples()
    ]
    selection = Selection.of(images, looked_at["status"])
    tell([f"skipped, {text}" for text in selection.unreadable])
    print(f"{experiment.model}: {selection.line}", file=sys.stderr)
    return selection


def shown(selections: Sequence[Selection], count: int) -> list[tuple[Chosen, ...]]:
    """The images of a picture for each model: the first that all models have in common, or the first if none is."""
    common = set.intersection(*({image.name for image in selection.images} for selection in selections))
    return [
        tuple([image for image in selection.images if image.name in common] or selection.images)[:count]
        for selection in selections
    ]


def evaluate(
    experiment: Experiment,
    store: Store,
    runner: Runner,
    selection: Selection,
    judged: Sequence[tuple[str, str]],
    *,
    drawn: Collection[str] = (),
    discard_maps: bool = False,
    **more: Any,
) -> ModelResults:
    """All results of one model for the images of `select`: what methods are made of, and their scores by each judge.

    Args:
        drawn: names of images whose maps are needed for a picture.
        discard_maps: delete all other maps as soon as they are judged, ROUND images after ROUND images.
        judged, more: of `Plan`.
    """
    plan = Plan(experiment, store, selection, judged, **more)
    kept = {one.name for one in plan.chunks if plan.methods or any(image.name in drawn for image in one.images)}
    in_round = max(1, ROUND // plan.chunk) if discard_maps else max(1, len(plan.chunks))
    for start in range(0, len(plan.chunks), in_round):
        part = plan.chunks[start : start + in_round]
        several = f" of images {part[0].name[:6]}-{part[-1].name[-6:]}" if len(plan.chunks) > in_round else ""
        for kind, work in plan.missing(part, kept):
            runner.run(store, work, f"{experiment.model}: {kind}{several}")
        if discard_maps:
            done = {one.name for one in part} - kept
            last = start + in_round >= len(plan.chunks)  # also those of earlier runs, with other methods or chunks
            wanted = {(*own.key, name) for own, _ in plan.ingredients.values() for name in kept}
            for key in store.keys("maps"):
                if key[-1] in done or (last and key not in wanted):
                    store.delete(key)
    return read(plan, drawn)
