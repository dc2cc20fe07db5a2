"""What of a table is missing, in which order it is made, and what a table is shown of it."""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.experiment import cells
from benchmarks.experiment.bench import bench, forget
from benchmarks.experiment.cells import Chunk, bounds
from benchmarks.experiment.results import USED, Chosen, Drawn, ModelResults, Selection, Warned
from benchmarks.experiment.scores import joined, with_constants
from benchmarks.experiment.settings import Experiment, experiments
from benchmarks.judges.columns import JUDGES
from benchmarks.methods import rows
from benchmarks.methods.method import Ingredient, Method, file_name
from benchmarks.methods.weightings import WG
from benchmarks.run.command_line import engine
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Cell, Runner
from benchmarks.run.store import Key, Store, open_store

# Photographs looked at in one cell. Part of the cells' names, so a change of it makes them anew.
PREDICTIONS = 64
# Images that are taken from their maps to their scores before the next ones are begun, where maps are discarded.
ROUND = 1024
# Skipped photographs that are named one by one.
NAMED = 10

_NUMBERS = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?:[\s,;]+[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)*")

# What a command does with a model's experiment, its store and a runner.
Work = Callable[[Experiment, Store, Runner], Any]


def for_each_model(settings: argparse.Namespace, *works: Work, jobs: int = 1, **more: Any) -> list[Any]:
    """What the last of `works` gives for each model's experiment, its store and a runner.

    Each of them is done for all models before the next one is begun. The stores are in --out/cells.

    Args:
        jobs: workers on this machine unless the settings say.
        more: of `Experiment`, that the command line does not say.
    """
    workers = engine(settings, jobs)
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
    with Runner(workers) as runner:
        for work in works:
            found = [work(experiment, store, runner) for experiment, store in things]
    return found


def tell(messages: Sequence[str]) -> None:
    """Name photographs that are skipped, the first of them if they are many."""
    for message in messages[:NAMED]:
        print(message, file=sys.stderr)
    if len(messages) > NAMED:
        print(f"skipped: {len(messages)} photographs in all", file=sys.stderr)


def select(experiment: Experiment, store: Store, runner: Runner, count: int | None) -> Selection:
    """The first `count` images that count, or all (None), in the order that the seed gives.

    Raises:
        BenchmarkError: none does.
    """
    places = bench(experiment).order()
    parts: list[pd.DataFrame] = []
    start = used = 0
    while start < len(places) and (count is None or used < count):
        # As many as are likely to do, so that all workers have something to look at.
        rate = max(0.1, used / start) if start else 0.7
        wanted = len(places) - start if count is None else math.ceil((count - used) / rate)
        stop = min(len(places), start + PREDICTIONS * math.ceil(wanted / PREDICTIONS))
        looks = [
            Cell(
                ("predictions", f"{first:07d}-{min(first + PREDICTIONS, len(places)):07d}"),
                cells.predictions,
                (experiment, tuple(places[first : first + PREDICTIONS])),
            )
            for first in range(start, stop, PREDICTIONS)
        ]
        runner.run(store, looks, f"{experiment.model}: predictions")
        parts.append(store.read_all([cell.key for cell in looks]))
        used += int((parts[-1]["status"] == USED).sum())
        start = stop
    looked_at = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"status": []})
    if not used:
        found = ", ".join(f"{n} {status}" for status, n in Selection.of((), looked_at["status"]).statuses.items())
        raise BenchmarkError(
            f"no image of {len(looked_at)} counts for {experiment.model} ({found}); check that the labels and the "
            f"weights belong to these data"
        )
    if count is not None and used > count:
        counts = (looked_at["status"] == USED).cumsum()
        looked_at = looked_at[: int(np.searchsorted(counts, count)) + 1]
    chosen = looked_at[looked_at["status"] == USED].rename(columns={"name": "image"})
    images = [
        Chosen(int(one.position), str(one.image), int(one.crc), int(one.predicted), float(one.probability))
        for one in chosen.itertuples()
    ]
    selection = Selection.of(images, looked_at["status"])
    tell([f"skipped, {text}" for text in selection.unreadable])
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
    methods: Sequence[str] = (),
    chunk: int = 8,
    which: slice = slice(None),
    drawn: Collection[str] = (),
    again: int | None = None,
    slow_again: bool = True,
    discard_maps: bool = False,
) -> ModelResults:
    """All results of one model for the images of `select`: what methods are made of, and their scores by each judge.

    Args:
        judged: (method, judge).
        methods: besides those, whose ingredients are made but not judged.
        chunk: images in a cell.
        which: of these images, such as a half.
        drawn: names of images whose maps are needed for a picture.
        again: how many images, the first ones, are for the judges that explain again; None: all.
        slow_again: whether slow rows are explained again.
        discard_maps: delete all other maps as soon as they are judged, ROUND images after ROUND images.
    """
    plan = Plan.of(
        experiment, store, selection, judged, methods, chunk=chunk, which=which, again=again, slow_again=slow_again
    )
    kept = {one.name for one in plan.chunks if methods or any(image.name in drawn for image in one.images)}
    in_round = max(1, ROUND // chunk) if discard_maps else max(1, len(plan.chunks))
    for start in range(0, len(plan.chunks), in_round):
        part = plan.chunks[start : start + in_round]
        several = f" of images {part[0].name[:6]}-{part[-1].name[-6:]}" if len(plan.chunks) > in_round else ""
        for kind, work in plan.missing(part, kept):
            runner.run(store, work, f"{experiment.model}: {kind}{several}")
        if discard_maps:
            for own, one in itertools.product(plan.ingredients.values(), part):
                if own.kind == "maps" and one.name not in kept:
                    store.delete((*own.key, one.name))
    if discard_maps:
        # Also those of earlier runs, with other methods or chunks.
        wanted = {(*own.key, name) for own in plan.ingredients.values() for name in kept}
        for key in store.keys("maps"):
            if key not in wanted:
                store.delete(key)
    return plan.results(drawn)


@dataclass(frozen=True, eq=False)
class Plan:
    """The cells of one model's results.

    Attributes:
        images: those that are judged.
        chunks: the images of a cell.
        methods: the rows by their names.
        ingredients: all that they are made of, by kind and name: of as many baselines as any of them needs.
        judged: (method, judge).
        left_out: why another (method, judge) is not computed.
        again: how many images are for the judges that explain again.
    """

    experiment: Experiment
    store: Store
    selection: Selection
    images: tuple[Chosen, ...]
    chunks: tuple[Chunk, ...]
    methods: dict[str, Method]
    ingredients: dict[tuple[str, str], Ingredient]
    judged: tuple[tuple[str, str], ...]
    left_out: dict[tuple[str, str], str]
    again: int | None

    @classmethod
    def of(
        cls,
        experiment: Experiment,
        store: Store,
        selection: Selection,
        judged: Sequence[tuple[str, str]],
        methods: Sequence[str] = (),
        *,
        chunk: int = 8,
        which: slice = slice(None),
        again: int | None = None,
        slow_again: bool = True,
    ) -> Plan:
        """See `evaluate`.

        Raises:
            BenchmarkError: chunks that don't hold whole groups of images that are explained together.
        """
        if chunk % experiment.together:
            raise BenchmarkError(
                f"--chunk {chunk}: {experiment.together} images are explained together, so a cell must hold a multiple "
                f"of {experiment.together}"
            )
        start, stop, _ = which.indices(len(selection.images))
        ends = bounds(stop - start, chunk, alone=experiment.together == 1)
        chunks = tuple(
            Chunk(f"{start + a:06d}-{start + b:06d}", selection.images[start + a : start + b]) for a, b in ends
        )
        asked = [(experiment.method(name), judge) for name, judge in judged]
        made = {one.name: one for one in (*(one for one, _ in asked), *map(experiment.method, methods))}
        left_out = {}
        for method, judge in asked:
            if JUDGES[judge].explains and again == 0:
                left_out[method.name, judge] = "left out: --robustness-images 0"
            elif JUDGES[judge].explains and method.slow and not slow_again:
                left_out[method.name, judge] = (
                    "left out: one forward per input element and map (--ablation-robustness computes it)"
                )
        pairs = dict.fromkeys((method.name, judge) for method, judge in asked)
        largest: dict[tuple[str, str], Ingredient] = {}
        for own in (own for method in made.values() for own in method.every):
            other = largest.get((own.kind, own.name), own)
            largest[own.kind, own.name] = max(own, other, key=lambda one: one.count or 0)
        return cls(
            experiment,
            store,
            selection,
            selection.images[start:stop],
            chunks,
            made,
            largest,
            tuple(pair for pair in pairs if pair not in left_out),
            left_out,
            again,
        )

    def key(self, own: Ingredient) -> Key:
        """Where an ingredient is, but for the images."""
        return self.ingredients[own.kind, own.name].key

    def sources(self, method: Method) -> list[Key]:
        """Where that is which a method is made of, but for the images."""
        return [self.key(own) for own in method.ingredients]

    def missing(self, chunks: Sequence[Chunk], kept: Collection[str] = ()) -> Iterator[tuple[str, list[Cell]]]:
        """The cells of some chunks, of one kind after the other.

        Ingredients are made where something is missing that follows from them, and all of them in the chunks of `kept`;
        and everywhere the D_alpha of weighted gradients by the experiment's own settings, for `equal_fitness`.
        """
        judging = {cell.key: (cell, made_of) for one in chunks for cell, made_of in self._scores(one)}
        wanted = {(*key, one.name) for key in self._own_fitness() for one in chunks}
        for key, (_, made_of) in judging.items():
            if not self.store.has(key):
                wanted |= made_of
        made: dict[str, list[Cell]] = {}
        for kind in ("fitness", "maps"):  # what is made of others first, which says what of these is needed
            made[kind] = []
            for own, row in self._by_length(kind):
                needed = [self.key(one) for one in own.needs]
                for one in chunks:
                    key = (*own.key, one.name)
                    if one.name in kept or key in wanted:
                        which = (own.kind, own.name, own.count)
                        arguments = (self.experiment, self.store, row, which, one, needed)
                        made[kind].append(Cell(key, cells.ingredient, arguments))
                        if not self.store.has(key):
                            wanted |= {(*need, one.name) for need in needed}
        made["scores"] = [cell for cell, _ in judging.values()]
        yield from ((kind, made[kind]) for kind in ("maps", "fitness", "scores") if made[kind])

    def _by_length(self, kind: str) -> list[tuple[Ingredient, str]]:
        """The ingredients of a kind and a row that has each. What takes longest comes first, so that no worker is left
        with it at the end."""
        found = []
        for own in (own for own in self.ingredients.values() if own.kind == kind):
            method = next(one for one in self.methods.values() if own.key in map(self.key, one.every))
            found.append((own, method.name, method.slow))
        return [(own, name) for own, name, _ in sorted(found, key=lambda item: not item[2])]

    def _scores(self, chunk: Chunk) -> Iterator[tuple[Cell, set[Key]]]:
        """The cells that judge a chunk, and the keys of what they need."""
        for name, judge in self.judged:
            if key := self._key_of_scores(name, judge, chunk):
                made_of = {one.name: list(map(self.key, one.every)) for one in self._together(name, judge)}
                by = [other for other in JUDGES if JUDGES[other].stream == JUDGES[judge].stream]
                by = by if JUDGES[judge].explains else [judge]
                limit = self._limit(chunk) if JUDGES[judge].explains else None
                arguments = (self.experiment, self.store, made_of, by, chunk, limit)
                needed = {(*source, chunk.name) for sources in made_of.values() for source in sources}
                yield Cell(key, cells.scores, arguments), needed

    def _together(self, name: str, judge: str) -> list[Method]:
        """The rows that are judged in one cell: where the judge explains again, all rows that share the explanation."""
        method = self.methods[name]
        if not JUDGES[judge].explains or method.source == method.name:
            return [method]
        return rows.of_source(method.source, self.experiment.for_methods)

    def _limit(self, chunk: Chunk) -> int | None:
        if self.again is None:
            return None
        # The names of chunks are places among all images of the selection.
        return max(0, min(len(chunk.images), self.again - int(chunk.name[:6])))

    def _key_of_scores(self, name: str, judge: str, chunk: Chunk) -> Key | None:
        """None of images that are not explained again."""
        if not JUDGES[judge].explains:
            return ("scores", file_name(name), judge, chunk.name)
        limit = self._limit(chunk)
        if limit == 0:
            return None
        # The maps are those of the whole chunk, so it is part of the name.
        more = () if limit is None else (f"{limit:06d}",)
        return ("again", file_name(self.methods[name].source), JUDGES[judge].stream, chunk.name, *more)

    def _own_fitness(self) -> list[Key]:
        """The D_alpha of weighted gradients by the experiment's own settings, where it is computed."""
        own = self.experiment.method(WG).ingredients[-1]
        return [self.key(own)] if (own.kind, own.name) in self.ingredients else []

    def results(self, drawn: Collection[str]) -> ModelResults:
        """All that a table may see."""
        ready = bench(self.experiment)
        costs: dict[str, pd.Series] = {}
        curves: list[pd.DataFrame] = []
        warned: list[pd.DataFrame] = []

        def read() -> Iterator[pd.DataFrame]:
            # One after the other: the texts of tens of millions of rows are not all in memory at once.
            for method, judge in self.judged:
                table = self._read(method, judge)
                costs.setdefault(method, table[list(cells.COSTS)].mean())
                for perturbed, column in ((False, "warnings"), (True, "again")):
                    given = table[["image", "chunk", column]].explode(column).dropna()
                    warned.append(given.set_axis(["image", "chunk", "message"], axis=1).assign(perturbed=perturbed))
                    warned[-1]["method"] = method
                if self.experiment.curves and table["curve"].map(len).any():
                    mean = np.mean([curve for curve in table["curve"] if len(curve)], axis=0)
                    fractions = np.arange(1, len(mean) + 1) / len(mean)
                    curves.append(pd.DataFrame(dict(judge=judge, method=method, fraction=fractions, value=mean)))
                yield table

        scores = joined(read())
        return ModelResults(
            experiment=self.experiment,
            data=ready.pictures.name,
            selection=self.selection,
            images=self.images,
            shape=tuple(ready.input(self.images[0]).shape),  # type: ignore[arg-type]
            scores=scores,
            left_out=self.left_out,
            costs=pd.DataFrame.from_dict(costs, orient="index", columns=list(cells.COSTS)),
            warnings=_told_apart(pd.concat(warned)) if warned else (),
            chunks=len(self.chunks),
            radius=ready.radius if any(one.local for one in self.methods.values()) else math.nan,
            unreadable_references=ready.references.unreadable if ready.references else (),
            equal_fitness=self._equal_fitness(),
            drawn=self._drawn(drawn),
            curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
        )

    def _read(self, method: str, judge: str) -> pd.DataFrame:
        """The scores of a method by a judge, with all that stands beside them."""
        keys = [(chunk.name, key) for chunk in self.chunks if (key := self._key_of_scores(method, judge, chunk))]
        table = pd.concat([self.store.read(key).assign(chunk=name) for name, key in keys], ignore_index=True)
        own = table[(table["method"] == method) & (table["judge"] == judge)].rename(columns={"name": "image"})
        return with_constants(own, model=self.experiment.model, method=method, judge=judge)

    def _equal_fitness(self) -> int:
        values = (
            value
            for key, chunk in itertools.product(self._own_fitness(), self.chunks)
            for value in cells.values(self.store, key, chunk)
        )
        return sum(not isinstance(value, str) and len(value) > 1 and not np.ptp(value) for value in values)

    def _drawn(self, names: Collection[str]) -> Drawn:
        ready = bench(self.experiment)
        found: list[Chosen] = []
        pixels: list[np.ndarray] = []
        maps: dict[str, list[np.ndarray | None]] = {name: [] for name in self.methods}
        for chunk in (one for one in self.chunks if any(image.name in names for image in one.images)):
            keys = {key for method in self.methods.values() for key in self.sources(method)}
            made = {key: cells.values(self.store, key, chunk) for key in keys}
            for i, image in ((i, image) for i, image in enumerate(chunk.images) if image.name in names):
                x = ready.input(image)
                found.append(image)
                pixels.append(ready.network.preparation.pixels(x).numpy())
                for name, method in self.methods.items():
                    own = [made[key][i] for key in self.sources(method)]
                    failed = any(isinstance(value, str) for value in own)
                    maps[name].append(None if failed else cells.method_map(self.experiment, method, x, image.name, own))
        if not found:
            return Drawn()
        whole = {name: np.stack(own) for name, own in maps.items() if all(one is not None for one in own)}  # type: ignore[arg-type]
        return Drawn(tuple(found), np.stack(pixels), whole)


def _told_apart(given: pd.DataFrame) -> tuple[Warned, ...]:
    """Warnings, told apart by their words but for the numbers in them.

    Args:
        given: the columns message, method, image, chunk, perturbed.
    """
    found = []
    words = given["message"].str.replace(_NUMBERS, "#", regex=True)
    for _, alike in given.groupby(words, sort=False):
        first = alike.iloc[0]
        same = alike[(alike["chunk"] == first["chunk"]) & (alike["perturbed"] == first["perturbed"])]
        found.append(
            Warned(
                tuple(alike["method"].unique()),
                first["message"],
                tuple(same["image"].unique()),
                bool(first["perturbed"]),
                alike["chunk"].nunique(),
            )
        )
    return tuple(found)
