"""What cells compute: pure functions of an experiment's settings, each giving a table with a row for each image.

    predictions   what the model says of a photograph, and whether it counts
    ingredient    what methods are made of: the maps of K baselines, their D_alpha, or a whole explanation
    scores        the maps of methods, judged

A worker makes what it needs from the settings (`bench`) and keeps it for its next cell. Images are explained and judged
in groups of `Experiment.together`, because Quantus and Captum work on batches, in which an image costs about half of
what it costs alone. Draws and rounding depend on the batch, so the groups are the same however the work is shared out;
a single image at the end belongs to the group before, as nothing can be permuted in it.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import quantus
import torch
from torch import nn

from benchmarks.experiment.bench import Bench, bench, prepared
from benchmarks.experiment.results import LEFT_OUT, MISCLASSIFIED, REFERENCE, UNREADABLE, USED, Chosen
from benchmarks.experiment.settings import Experiment
from benchmarks.judges.columns import JUDGES
from benchmarks.judges.judge import Judge, JudgeSettings
from benchmarks.methods.method import Ingredient, Method
from benchmarks.run.errors import BenchmarkError, Unreadable
from benchmarks.run.faults import attempted, faults_of_the_run
from benchmarks.run.randomness import generator_of, seeded
from benchmarks.run.store import Key, Store

# The value of an ingredient for one image, or why there is none.
Value = np.ndarray | str
# What an ingredient takes for an image.
COSTS = ("seconds", "gradients", "forwards")


@dataclass(frozen=True)
class Chunk:
    """The images of a cell, and their name in the keys of results."""

    name: str
    images: tuple[Chosen, ...]

    def groups(self, together: int) -> list[slice]:
        """Those that are explained and judged together."""
        return [slice(first, last) for first, last in bounds(len(self.images), together, alone=together == 1)]


def bounds(count: int, size: int, alone: bool = False) -> list[tuple[int, int]]:
    """Where runs of `size` of so many images begin and end; alone: whether one of a single image may be the last."""
    starts = [first for first in range(0, count, size) if first == 0 or alone or count - first > 1]
    return list(zip(starts, [*starts[1:], count], strict=True))


PREDICTED = {"position": "int64", "name": str, "crc": "int64", "label": "int64", "predicted": "int64"}
PREDICTED |= {"probability": float, "status": str}


@faults_of_the_run()
def predictions(experiment: Experiment, positions: Sequence[int]) -> pd.DataFrame:
    """What the model says of photographs and whether each counts: the columns of PREDICTED."""
    ready = bench(experiment)
    rows = [_prediction(ready, position) for position in positions]
    return pd.DataFrame(rows, columns=list(PREDICTED)).astype(PREDICTED)


def _prediction(ready: Bench, position: int) -> tuple[int, str, int, int, int, float, str]:
    name, crc, status = ready.pictures.names[position], 0, ""
    try:
        picture, crc = ready.pictures.read(position)
        if ready.references and crc in ready.references.crcs:  # an image would be its own baseline
            status = REFERENCE
        elif name in ready.without:
            status = LEFT_OUT
        else:
            x = prepared(ready.network, picture, name)[None].to(ready.device)
    except Unreadable as error:
        crc, status = 0, f"{UNREADABLE}: {error}"
    if status:
        return position, name, crc, -1, -1, 0.0, status
    with torch.no_grad():
        output = ready.network.model(x)[0]
    predicted = int(output.argmax())
    label = predicted if ready.pictures.labels is None else ready.pictures.labels[position]
    if label != predicted:
        status = MISCLASSIFIED
    elif ready.mask_of is not None:
        status = ready.mask(Chosen(position, name, crc, predicted))[1]
    return position, name, crc, label, predicted, float(output.softmax(0)[predicted]), status or USED


def ingredient(
    experiment: Experiment,
    store: Store,
    row: str,
    which: tuple[str, str, int | None],
    chunk: Chunk,
    needed: Sequence[Key] = (),
) -> pd.DataFrame:
    """One of the ingredients of a row, for the images of a chunk.

    Args:
        which: its kind, name and count of baselines, which may be larger than the row's own.
        needed: where the results are that it is made of.

    Columns: name; value, its bytes, with dtype and shape; seconds, those of the image's group divided by its images,
    and gradients and forwards in the same way; warnings of the group; problem, why there is no value, or "".
    """
    ready = bench(experiment)
    kind, name, count = which
    own = next(one for one in experiment.method(row).every if (one.kind, one.name) == (kind, name))
    own = replace(own, count=count)
    made_of = [values(store, one, chunk) for one in needed]
    tables = []
    for group in chunk.groups(experiment.together):
        images, given = chunk.images[group], [one[group] for one in made_of]
        found, problem = None, _problem(given)
        if not problem:  # what fails is the rows' that need it; the others go on
            found, problem = attempted(_explain_chosen, ready, own, images, given)
        maps, took = found or ([np.empty(0, np.float32)] * len(images), {})
        table = {
            "name": [image.name for image in images],
            "value": [value.tobytes() for value in maps],
            "dtype": str(maps[0].dtype),
            "shape": [list(value.shape) for value in maps],
            **{cost: took.get(cost, float("nan")) / len(images) for cost in COSTS},
            "warnings": [list(took.get("warnings", ()))] * len(images),
            "problem": problem,
        }
        tables.append(pd.DataFrame(table))
    return pd.concat(tables, ignore_index=True)


def _explain_chosen(
    ready: Bench, own: Ingredient, images: Sequence[Chosen], needed: Sequence[Sequence[Value]]
) -> tuple[list[np.ndarray], dict[str, Any]]:
    inputs, labels = torch.stack([ready.input(image) for image in images]), [image.label for image in images]
    names, parts = [image.name for image in images], [np.stack(one) for one in needed]
    found, took = explain(ready, own, names, inputs, labels, parts)
    return list(found), took


def explain(
    ready: Bench,
    own: Ingredient,
    names: Sequence[str],
    inputs: torch.Tensor,
    targets: Sequence[int],
    needed: Sequence[np.ndarray] = (),
    model: nn.Module | None = None,
) -> tuple[np.ndarray, dict[str, Any]]:
    """An ingredient of a batch (N, C, H, W), of the network or of another model; and what it took, by COSTS, and the
    warnings that it gave, without repetition.

    The draws of a method that uses the global generators follow from the seed and the batch alone: they differ between
    batches, repeat between runs and move no generator.
    """
    batch = ready.batch(names, inputs, targets, model)
    entropy = (inputs.numpy().tobytes(), np.asarray(targets, np.int64).tobytes())
    with seeded(ready.experiment.seed, own.name, *entropy), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        started = time.perf_counter()
        found = np.ascontiguousarray(own.make(batch, *needed))
        took: dict[str, Any] = {"seconds": time.perf_counter() - started}
    took["gradients"], took["forwards"] = batch.model.counter.evaluations() if model is None else (0, 0)
    took["warnings"] = tuple(dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught))
    return found, took


def stored(store: Store, key: Key, chunk: Chunk) -> pd.DataFrame:
    """What `ingredient` gave for the images of a chunk, but in `value` the value itself, or the problem.

    Raises:
        BenchmarkError: the results are of other images.
    """
    table = store.read((*key, chunk.name))
    if table["name"].tolist() != [image.name for image in chunk.images]:
        raise BenchmarkError(
            f"the results {'/'.join(key)} in {store.folder} are of other images than are chosen now; give another "
            "--out, or delete this folder"
        )
    rows = table.itertuples()
    table["value"] = [row.problem or np.frombuffer(row.value, row.dtype).reshape(row.shape) for row in rows]
    return table


def values(store: Store, key: Key, chunk: Chunk) -> list[Value]:
    """The values of an ingredient for each image of a chunk, or why there is none."""
    return list(stored(store, key, chunk)["value"])


def combined(
    method: Method,
    x: torch.Tensor,
    made_of: Sequence[Sequence[Value] | np.ndarray],
    generators: Sequence[np.random.Generator],
) -> np.ndarray:
    """A method's maps of images, both (N, C, H, W), from the values of each ingredient for each image."""
    return np.stack([method.combine(x[i], tuple(part[i] for part in made_of), generators[i]) for i in range(len(x))])


def generators_of(
    experiment: Experiment, method: Method, names: Sequence[str], *more: str
) -> list[np.random.Generator]:
    """What a method draws from for each image."""
    return [generator_of(experiment.seed, method.name, name, *more) for name in names]


def scores(
    experiment: Experiment,
    store: Store,
    rows: Mapping[str, Sequence[Key]],
    judges: Sequence[str],
    chunk: Chunk,
    limit: int | None = None,
) -> pd.DataFrame:
    """The scores of rows by judges, for the images of a chunk or its first ones.

    Args:
        rows: where the ingredients of each are, and after them what these are made of.
        limit: how many images; what is explained together stays so.

    Columns: method; judge; name; score; problem, why there is none (NaN), or ""; the columns COSTS and warnings of the
    map; warnings again, that the method gave while a judge had it explain again; curve, where the experiment holds
    them, empty of a judge that has none.
    """
    ready = bench(experiment)
    read = {key: stored(store, key, chunk) for keys in rows.values() for key in keys}
    methods = {row: experiment.method(row) for row in rows}
    tables = []
    for group in chunk.groups(experiment.together):
        if not (images := chunk.images[:limit][group]):
            continue
        made_of = {
            row: [read[key]["value"].tolist()[:limit][group] for key in keys[: len(methods[row].ingredients)]]
            for row, keys in rows.items()
        }
        judging = _Judging(ready, images, methods, made_of)
        for row in rows:
            for judge in judges:
                found, curves, problem = judging.scores(row, JUDGES[judge])
                table = {
                    "method": row,
                    "judge": judge,
                    "name": [image.name for image in images],
                    "score": found,
                    "problem": [problem or ("" if np.isfinite(s) else f"the judge gave {s}") for s in found],
                    "again": [list(judging.warnings)] * len(images),
                }
                tables.append(pd.DataFrame({**table, "curve": curves} if experiment.curves else table))
    maps = {
        row: _together(
            [_of_first(read[key], own.count) for key, own in zip(keys, methods[row].every, strict=True)], chunk
        )
        for row, keys in rows.items()
    }
    return pd.concat(tables, ignore_index=True).join(pd.concat(maps), on=["method", "name"])


def _of_first(part: pd.DataFrame, count: int | None) -> pd.DataFrame:
    """What a row's own part of a stored ingredient took, which may be of more baselines than the row's `count`."""
    if count is None:
        return part
    share = [count / max(1, shape[0]) for shape in part["shape"]]  # [0] where there is no value
    return part.assign(**{cost: part[cost] * share for cost in COSTS})


def _together(parts: Sequence[pd.DataFrame], chunk: Chunk) -> pd.DataFrame:
    """What a map took that is made of these, and the warnings, by the images' names."""
    names = [image.name for image in chunk.images]
    costs = sum((part[list(COSTS)].to_numpy() for part in parts), np.zeros((len(names), len(COSTS))))
    given = [[text for part in parts for text in part["warnings"][i]] for i in range(len(names))]
    return pd.DataFrame(costs, names, list(COSTS)).assign(warnings=given)


class _Judging:
    """Images, what rows are made of for them, and the functions that Quantus has explain them again.

    Quantus explains all inputs anew for each metric, so without this every column would pay for every map. Perturbed
    images are others and are explained, once for all rows that share an ingredient and all columns that ask for them.

    Attributes:
        warnings: messages that the methods gave while they explained here, without repetition.
    """

    def __init__(
        self,
        ready: Bench,
        images: Sequence[Chosen],
        methods: Mapping[str, Method],
        made_of: Mapping[str, Sequence[Sequence[Value]]],
    ):
        self.ready, self.images, self.methods, self.made_of = ready, images, methods, made_of
        self.settings = ready.experiment.for_judges(ready.network.classes)
        self.warnings: tuple[str, ...] = ()
        self.x = torch.stack([ready.input(image) for image in images])
        self.y = np.array([image.label for image in images])
        self._again: dict[tuple[Key, bytes, bytes], np.ndarray] = {}

    def scores(self, row: str, judge: Judge) -> tuple[np.ndarray, list[Any], str]:
        """The score of each image, its curve, empty where the judge has none, and why there are no scores."""
        found, problem = None, _problem(self.made_of[row])
        if not problem:  # whatever a method or a metric raises is an entry of the table, not its end
            groups = [slice(i, i + 1) for i in range(len(self.x))] if judge.alone else [slice(0, len(self.x))]
            found, problem = attempted(lambda: [self._evaluated(row, judge, group) for group in groups])
        if found is None:
            return np.full(len(self.images), np.nan), [[]] * len(self.images), problem
        return np.concatenate([part for part, _ in found]), [curve for _, curves in found for curve in curves], ""

    def _evaluated(self, row: str, judge: Judge, group: slice) -> tuple[np.ndarray, list[Any]]:
        """The scores by an unchanged `quantus.evaluate`, and the metric's curves.

        The metric's draws follow from the seed, the metric and the images, so they are the same for every row.
        """
        ready, method, images = self.ready, self.methods[row], self.images[group]
        x, y = self.x[group].numpy(), self.y[group]
        masks = [ready.mask(image)[0] for image in images] if judge.masks else []
        if any(mask is None for mask in masks):
            raise ValueError(f"{judge.name} needs the object's mask; got none")
        names = [image.name for image in images]
        drawn, again = (generators_of(ready.experiment, method, names, *more) for more in ((), ("again",)))
        maps = combined(method, self.x[group], [part[group] for part in self.made_of[row]], drawn)
        errors: list[Exception] = []

        def explain_by_quantus(model: nn.Module, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
            same = model is ready.network.model
            if same and np.array_equal(inputs, x) and np.array_equal(targets, y):
                return _formed(judge, method, maps, self.settings)
            of = [i % len(images) for i in range(len(inputs))]
            others = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32))
            given = None if same else model, [names[i] for i in of], others, np.asarray(targets)
            made_of = [self._made(own, *given) for own in method.ingredients]
            return _formed(judge, method, combined(method, others, made_of, [again[i] for i in of]), self.settings)

        def remembering(**given: Any) -> Any:
            try:
                return metric(**given)
            except Exception as error:
                errors.append(error)
                raise

        entropy = images[0].name if judge.alone else x.tobytes()
        with (
            seeded(ready.experiment.seed, judge.stream, entropy),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            metric = judge.make(self.settings)
            try:
                found = quantus.evaluate(
                    metrics={judge.name: remembering},
                    xai_methods={row: explain_by_quantus},
                    model=ready.network.model,
                    x_batch=x,
                    y_batch=y,
                    s_batch=np.stack(masks)[:, None] if judge.masks else None,
                    explain_func_kwargs={},
                    call_kwargs={"on device": {"device": str(ready.device), "channel_first": True}},
                )
            except Exception as error:  # it swallows the metric's and then fails with an unrelated KeyError
                raise (errors or [error])[0] from None
        curves = getattr(metric, "curves", None)
        return per_image(found[row][judge.name], len(x)), [[]] * len(x) if curves is None else list(curves)

    def _made(
        self, own: Ingredient, model: nn.Module | None, names: Sequence[str], x: torch.Tensor, targets: np.ndarray
    ) -> np.ndarray:
        """An ingredient of other images or classes than those of the table, or of another model."""
        key = (own.key, x.numpy().tobytes(), targets.tobytes())
        if model is None and key in self._again:
            return self._again[key]
        needed = [self._made(one, model, names, x, targets) for one in own.needs]
        found, took = explain(self.ready, own, names, x, targets.tolist(), needed, model)
        self.warnings = tuple(dict.fromkeys((*self.warnings, *took["warnings"])))
        if model is None:  # another one is one of many that a judge makes
            self._again[key] = found
        return found


def _formed(judge: Judge, method: Method, maps: np.ndarray, settings: JudgeSettings) -> np.ndarray:
    if callable(judge.form):
        return judge.form(maps, settings)
    return maps.sum(axis=1, keepdims=True) if (judge.form or method.channels) == 1 else maps


def per_image(found: Any, count: int) -> np.ndarray:
    """One number for each of `count` images; of a curve its mean over the steps."""
    if isinstance(found, Mapping):  # of a single image, by the steps
        found = [list(found.values())]
    values = np.asarray(found, dtype=float)
    if values.shape[:1] != (count,) or values.ndim > 2:
        raise ValueError(f"the metric returned scores of shape {values.shape} for {count} images")
    return values if values.ndim == 1 else values.mean(1)


def _problem(parts: Sequence[Sequence[Value]]) -> str:
    return next((value for part in parts for value in part if isinstance(value, str)), "")
