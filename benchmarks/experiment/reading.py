"""What a table is shown of one model's stored results."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks.experiment import cells
from benchmarks.experiment.bench import Bench, bench
from benchmarks.experiment.missing import Plan
from benchmarks.experiment.results import Drawn, ModelResults, Warned, Weighted
from benchmarks.experiment.scores import joined, with_constants
from benchmarks.methods.method import Method
from benchmarks.run.store import Key

# Baselines of an image that a picture shows, the heaviest.
HEAVIEST = 10
_NUMBERS = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?:[\s,;]+[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?)*")


def read(plan: Plan, drawn: Collection[str] = ()) -> ModelResults:
    """All that a table may see; drawn: names of the images of a picture."""
    ready = bench(plan.experiment)
    costs: dict[str, pd.Series] = {}
    curves: list[pd.DataFrame] = []
    warned: list[pd.DataFrame] = []

    def tables() -> Iterator[pd.DataFrame]:
        # One after the other: the texts of tens of millions of rows are not all in memory at once.
        for (method, judge), reason in plan.reasons.items():
            if reason:
                continue
            table = _scores(plan, method, judge)
            costs.setdefault(method, table[list(cells.COSTS)].mean())
            for perturbed, column in ((False, "warnings"), (True, "again")):
                given = table[["image", "chunk", column]].explode(column).dropna()
                given.columns = ["image", "chunk", "message"]
                warned.append(given.assign(perturbed=perturbed, method=method))
            if plan.experiment.curves and table["curve"].map(len).any():
                mean = np.mean([curve for curve in table["curve"] if len(curve)], axis=0)
                fractions = np.arange(1, len(mean) + 1) / len(mean)
                curves.append(pd.DataFrame(dict(judge=judge, method=method, fraction=fractions, value=mean)))
            yield table

    scores = joined(tables())
    channels, height, width = ready.input(plan.images[0]).shape
    return ModelResults(
        experiment=plan.experiment,
        data=ready.pictures.name,
        selection=plan.selection,
        images=plan.images,
        shape=(channels, height, width),
        scores=scores,
        left_out={pair: reason for pair, reason in plan.reasons.items() if reason},
        costs=pd.DataFrame.from_dict(costs, orient="index", columns=list(cells.COSTS)),
        warnings=_told_apart(pd.concat(warned)) if warned else (),
        chunks=len(plan.chunks),
        radius=ready.radius if any(row.local for row in plan.rows.values()) else math.nan,
        unreadable_references=ready.references.unreadable if ready.references else (),
        equal_fitness=_equal_fitness(plan),
        drawn=_drawn(plan, drawn),
        curves=pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(),
    )


def _scores(plan: Plan, method: str, judge: str) -> pd.DataFrame:
    """The scores of a method by a judge, with all that stands beside them."""
    keys = {chunk.name: plan.key_of_scores(method, judge, chunk) for chunk in plan.chunks}
    parts = [plan.store.read(key).assign(chunk=name) for name, key in keys.items() if key]
    table = pd.concat(parts, ignore_index=True).rename(columns={"name": "image"})
    own = table[(table["method"] == method) & (table["judge"] == judge)]
    return with_constants(own, model=plan.experiment.model, method=method, judge=judge)


def _equal_fitness(plan: Plan) -> int:
    """For how many images all baselines have the same D_alpha."""
    parts = (cells.values(plan.store, key, chunk) for key in plan.own_fitness() for chunk in plan.chunks)
    values = (value for part in parts for value in part if not isinstance(value, str))
    return sum(len(value) > 1 and not np.ptp(value) for value in values)


def _drawn(plan: Plan, names: Collection[str]) -> Drawn:
    """The images of a picture, and the maps of the rows that have one of each."""
    ready = bench(plan.experiment)
    pixels: list[np.ndarray] = []
    maps: dict[str, list[np.ndarray]] = {name: [] for name in plan.rows}
    weighted: dict[str, Weighted] = {}
    fitted = next((row for row in plan.rows.values() if _is_fitted(row)), None)
    images = tuple(image for image in plan.images if image.name in names)
    for chunk in plan.chunks:
        places = [i for i, image in enumerate(chunk.images) if image.name in names]
        keys: list[Key] = [own.key for own, _ in plan.ingredients.values()] if places else []
        made = {key: cells.values(plan.store, key, chunk) for key in keys}
        for i in places:
            x = ready.input(chunk.images[i])
            pixels.append(ready.network.preparation.pixels(x).numpy())
            for name, row in plan.rows.items():
                values = [made[key][i : i + 1] for key in plan.sources(row)]
                if not any(isinstance(value, str) for (value,) in values):
                    draws = cells.generators_of(plan.experiment, row, [chunk.images[i].name])
                    maps[name].append(cells.combined(row, x[None], values, draws)[0])
                    if row is fitted:
                        image = chunk.images[i].name
                        weighted[image] = _weighted(ready, row, image, x, [value for (value,) in values])
    if not images:
        return Drawn()
    whole = {name: np.stack(own) for name, own in maps.items() if len(own) == len(images)}
    return Drawn(images, np.stack(pixels), whole, weighted)


def _is_fitted(row: Method) -> bool:
    """Whether its weights are those that its baselines' D_alpha give."""
    own = row.weighting
    return own is not None and own.fitted and not own.shuffled and own.screening_steps is None and own.pool > 1


def _weighted(ready: Bench, row: Method, name: str, x: Tensor, values: list[np.ndarray]) -> Weighted:
    """The heaviest baselines of an image (C, H, W), from the values of the row's ingredients."""
    maps, distances = values
    weights = row.weighting.weights(distances)
    places = np.argsort(-weights, kind="stable")[:HEAVIEST]
    baselines = ready.batch([name], x[None], [0]).baselines_of(x[None].to(ready.device))[places]
    pixels = ready.network.preparation.pixels(baselines).numpy()
    return Weighted(row.name, len(weights), places, pixels, maps[places], distances[places], weights[places])


def _told_apart(given: pd.DataFrame) -> tuple[Warned, ...]:
    """Warnings, told apart by their words but for the numbers in them.

    Args:
        given: the columns message, method, image, chunk, perturbed.
    """
    found = []
    words = given["message"].str.replace(_NUMBERS, "#", regex=True)
    for _, alike in given.groupby(words, sort=False):
        methods, chunks = tuple(alike["method"].unique()), alike["chunk"].nunique()
        first = alike.iloc[0]
        same = alike[(alike["chunk"] == first["chunk"]) & (alike["perturbed"] == first["perturbed"])]
        images = tuple(same["image"].unique())
        found.append(Warned(methods, first["message"], images, bool(first["perturbed"]), chunks))
    return tuple(found)
