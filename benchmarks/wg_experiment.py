"""What a cell of the weighted-gradients tables computes, from the experiment's settings alone.

Four kinds of cells, each a table with a row for each image:

    predictions   what the model says of a photograph, and whether it counts
    maps          the map of each baseline
    fitness       the D_alpha of each baseline's map
    scores        a method's map, judged

A worker makes what it needs (network, photographs, baselines) from the settings and keeps it for its next cell. Images
are taken one at a time, so that no result depends on which images share a cell.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks import wg_judges, wg_methods
from benchmarks.data import cifar10, coco, folders, masks
from benchmarks.data.pictures import Pictures
from benchmarks.models.networks import Network, load_network
from benchmarks.run.errors import BenchmarkError, Unreadable
from benchmarks.run.faults import one_line, raise_if_of_the_run
from benchmarks.run.gpus import own_device
from benchmarks.run.randomness import seeded
from benchmarks.run.store import Key, Store, check_worker
from benchmarks.run.versions import versions
from captum_wg import ExpectedGradients, GradientVariance
from captum_wg.baselines import compose, constant, gaussian, gaussian_blur, uniform
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.weighting import fitness as fit
from captum_wg.weighting.masking import Features, neutral_values

DATA = ("cifar10", "imagenet", "coco")
BASELINES = ("references", "published", "uniform", "gaussian", "blur")

# Why an image does not count.
USED, REFERENCE, UNREADABLE, MISCLASSIFIED = "used", "a reference image", "unreadable", "misclassified"
LEFT_OUT = "left out"
EMPTY_MASK, NO_MASK = "the mask is empty after the crop", "no mask"

Baselines = Callable[[Tensor], Any]
# The keys of a method's maps, of their D_alpha and of those it screens by, where it needs them.
Sources = tuple[Key | None, Key | None, Key | None]
Masks = Callable[[int, int], tuple[np.ndarray | None, str]]

# Settings that say where things are or how they are computed, but not what.
_PLACES = (
    "weights",
    "root",
    "labels",
    "instances",
    "images_dir",
    "masks",
    "references",
    "without",
    "device",
    "made_of",
)


# The files of this folder that the results depend on.
_SOURCES = (
    "coco.py",
    "data.py",
    "faults.py",
    "imagenet_to_coco.csv",
    "models.py",
    "networks.py",
    "pictures.py",
    "preparation.py",
    "randomness.py",
    "runner.py",
    "wg_experiment.py",
    "wg_judges.py",
    "wg_methods.py",
    "wg_run.py",
    "wg_variance.py",
)


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the results, but for how many images are taken.

    Attributes:
        model, weights, resize, crop: of `networks.load_network`.
        data: "cifar10", "imagenet" or "coco".
        root, labels, instances, images_dir: where the photographs, their labels and annotations are.
        masks: a folder of masks (PNG, named as the photographs, nonzero on the object); None: without, or COCO's. Of
            COCO, the photographs that count are the same with it.
        references: a folder of reference images; None: training images (cifar10), or photographs of the data itself.
            Those that are drawn are not explained, whatever their names.
        baselines: "references"; "published" (white, black and uniform noise); "uniform", "gaussian" noise; "blur".
        n_baselines, n_steps: K, and the points on each path.
        alpha, neutral, ranking: of D_alpha; the ranking also of the judges.
        levels: of the judges' curves.
        seed: of the images' order, the references, and whatever is drawn.
        device: "cpu", "cuda", "cuda:0", or "cuda:*" for a GPU of each worker's own.
        batch: how many points or masked images share a forward.
        without: a csv whose column `image` names photographs that are not explained, such as an earlier run's.
        made_of: what `describe` says of it, as JSON: the files at the same places may be others another time, or for
            another worker. "": not known yet.
    """

    model: str
    data: str
    root: str
    weights: str | None = None
    resize: int | None = None
    crop: int | None = None
    labels: str | None = None
    instances: str | None = None
    images_dir: str | None = None
    masks: str | None = None
    references: str | None = None
    without: str | None = None
    baselines: str = "references"
    n_baselines: int = 10
    n_steps: int = 50
    alpha: float = 0.5
    neutral: str = "corners"
    ranking: str = "signed"
    levels: int = 100
    seed: int = 0
    device: str = "cpu"
    batch: int = 32
    made_of: str = ""

    def __post_init__(self) -> None:
        for name, known in (
            ("data", DATA),
            ("baselines", BASELINES),
            ("neutral", wg_methods.NEUTRALS),
            ("ranking", wg_methods.RANKINGS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        for name in ("n_baselines", "n_steps", "levels", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")

    def method(self, name: str) -> wg_methods.Method:
        """The method of a name, with this experiment's settings where the name says nothing else.

        Raises:
            BenchmarkError: there is no such method.
        """
        fitness = wg_methods.Fitness(self.alpha, (self.neutral,), self.ranking)
        return wg_methods.method(name, self.n_baselines, self.n_steps, fitness)


@dataclass(frozen=True)
class Chosen:
    """An image that counts: its place in the data, its name and CRC-32, the class that is explained."""

    position: int
    name: str
    crc: int
    label: int


@dataclass(frozen=True)
class Needs:
    """What some methods are made of.

    Attributes:
        n_baselines: how many there are.
        maps: of how many of them, the first ones, there are maps of each sort of points.
        fitness: of how many of these there is D_alpha, by the points and by how it is taken.
    """

    n_baselines: int
    maps: Mapping[str, int]
    fitness: Mapping[tuple[str, wg_methods.Fitness], int]

    @classmethod
    def of(cls, methods: Sequence[wg_methods.Method], n_baselines: int) -> Needs:
        """As many as the method with the largest pool needs.

        A baseline's map and D_alpha are taken to be the same among however many others they are computed.
        """
        maps: dict[str, int] = {}
        fitness: dict[tuple[str, wg_methods.Fitness], int] = {}
        for method in methods:
            if method.control:
                continue
            pool = method.pool or n_baselines
            for points in (method.points, method.screening):
                if points:
                    maps[points] = max(pool, maps.get(points, 0))
                    if method.needs_fitness:
                        fitness[points, method.fitness] = max(pool, fitness.get((points, method.fitness), 0))
        return cls(n_baselines, maps, fitness)

    def maps_key(self, points: str, chunk: str) -> Key:
        """Where the maps are of a chunk of images."""
        return ("maps", self._first(points, self.maps[points]), chunk)

    def fitness_key(self, points: str, by: wg_methods.Fitness, chunk: str) -> Key:
        """Where their D_alpha are."""
        return ("fitness", self._first(points, self.fitness[points, by]), by.name, chunk)

    def sources(self, method: wg_methods.Method, chunk: str) -> Sources:
        """Where that is which a method is made of, for a chunk of images."""
        if method.control:
            return None, None, None
        own = self.fitness_key(method.points, method.fitness, chunk) if method.needs_fitness else None
        screening = self.fitness_key(method.screening, method.fitness, chunk) if method.screening else None
        return self.maps_key(method.points, chunk), own, screening

    def _first(self, points: str, count: int) -> str:
        return points if count == self.n_baselines else f"{points}-first{count}"


@contextlib.contextmanager
def _faults_of_the_run() -> Iterator[None]:
    """What fails inside for want of memory, or because a file can't be read, says so, and is nowhere stored."""
    try:
        yield
    except Exception as error:
        raise_if_of_the_run(error)
        raise


@dataclass(frozen=True, eq=False)
class Bench:
    """An experiment's things, ready to work with.

    Attributes:
        reference_positions: places of the references in the data itself, which are not explained.
        references: (K, C, H, W), None if baselines are made and not drawn.
        without: names of photographs that are not explained.
        unreadable_references: why, for each photograph that would have been one and could not be decoded.
        reference_crcs: the CRC-32 of each reference, by which it is known under another name or in another folder.
        baselines_of: inputs (1, C, H, W) -> baselines in a form that captum_wg takes, K of them.
        mask_of: place and class -> the photograph's mask (height, width) and "", or None and why there is none;
            None where the data have no masks.
    """

    experiment: Experiment
    network: Network
    pictures: Pictures
    device: torch.device
    reference_positions: frozenset[int]
    references: Tensor | None
    baselines_of: Baselines
    mask_of: Masks | None
    unreadable_references: tuple[str, ...] = ()
    without: frozenset[str] = frozenset()
    reference_crcs: frozenset[int] = frozenset()

    @_faults_of_the_run()
    def input(self, chosen: Chosen) -> Tensor:
        """The input (1, C, H, W) of an image.

        Raises:
            BenchmarkError: the file is another one than when it was chosen.
        """
        try:
            picture, crc = self.pictures.read(chosen.position)
        except Unreadable as error:
            raise BenchmarkError(f"an image became unreadable during the run: {error}") from error
        if crc != chosen.crc or self.pictures.names[chosen.position] != chosen.name:
            raise BenchmarkError(f"{chosen.name} has changed since it was chosen; put it back, or give another --out")
        return self.network.preparation.image(picture)[None].to(self.device)


@functools.lru_cache(maxsize=1)
def bench(experiment: Experiment) -> Bench:
    """The experiment's things, kept for the process's next cells.

    Raises:
        BenchmarkError: something of it is missing, does not fit, or is other than the experiment is made of.
    """
    device = own_device(experiment.device)
    network = load_network(experiment.model, experiment.weights, device, resize=experiment.resize, crop=experiment.crop)
    photographs, references, mask_of = _data(experiment, network.classes)
    apart = references is not None
    used: frozenset[int] = frozenset()
    drawn: Tensor | None = None
    unreadable: tuple[str, ...] = ()
    crcs: list[int] = []
    if experiment.baselines == "references":
        found, positions, crcs, unreadable = _references(references or photographs, network, experiment)
        used = frozenset() if apart else frozenset(positions)
        drawn = found
        baselines_of: Baselines = lambda x: found.to(x)  # noqa: E731
    else:
        baselines_of = _generated(experiment, network)
    left_out = frozenset() if experiment.without is None else folders.named_in(experiment.without, photographs)
    ready = Bench(
        experiment,
        network,
        photographs,
        device,
        used,
        drawn,
        baselines_of,
        mask_of,
        unreadable_references=unreadable,
        reference_crcs=frozenset(crcs),
        without=left_out,
    )
    if experiment.made_of:
        check_worker(json.loads(experiment.made_of), _described(ready))
    return ready


def describe(experiment: Experiment) -> dict[str, Any]:
    """The settings of a results folder: what decides the results, checksums for what lies elsewhere, and versions."""
    return _described(bench(experiment))


def _described(ready: Bench) -> dict[str, Any]:
    experiment = ready.experiment
    settings = {name: value for name, value in asdict(experiment).items() if name not in _PLACES}
    if ready.references is not None:
        settings["references"] = hashlib.sha256(ready.references.cpu().numpy().tobytes()).hexdigest()[:16]
    if experiment.without is not None:
        settings["without"] = hashlib.sha256("\0".join(sorted(ready.without)).encode()).hexdigest()[:16]
    if experiment.masks is not None:
        settings["masks"] = _of_files(Path(experiment.masks))
    if experiment.data == "coco":
        instances = Path(experiment.instances or Path(experiment.root) / "instances.json")
        settings["instances"] = hashlib.sha256(instances.read_bytes()).hexdigest()[:16]
    return {
        **settings,
        "preparation": asdict(ready.network.preparation),
        "device": ready.device.type,
        "weights": ready.network.checksum(),
        "photographs": ready.pictures.checksum(),
        "versions": versions(_SOURCES),
    }


def _of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png") if path.is_file()}
    for name, path in sorted(names.items()):
        content = path.read_bytes()
        # With the length, so that no other split into names and contents has the same bytes.
        digest.update(f"{name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def order(experiment: Experiment) -> list[int]:
    """The places of all photographs but the references, in the order in which they are taken."""
    ready = bench(experiment)
    places = np.random.default_rng(experiment.seed).permutation(len(ready.pictures))
    return [int(place) for place in places if int(place) not in ready.reference_positions]


@_faults_of_the_run()
def predictions(experiment: Experiment, positions: Sequence[int]) -> pd.DataFrame:
    """What the model says of photographs and whether each counts: position, name, crc, label, predicted, status."""
    ready = bench(experiment)
    rows = [_prediction(ready, position) for position in positions]
    columns = {"position": "int64", "name": str, "crc": "int64", "label": "int64", "predicted": "int64", "status": str}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def maps(experiment: Experiment, images: Sequence[Chosen], points: str, count: int | None = None) -> pd.DataFrame:
    """The maps of the first `count` baselines, or of all, for each image.

    points: "stepsN" or "randomN", see `baseline_maps`.

    Columns: name; maps, the bytes of float32 (K, C, H, W), and their shape; problem, why there are no maps, or "".
    """
    ready = bench(experiment)
    rows = []
    for image in images:
        try:
            found, problem = baseline_maps(ready, ready.input(image), image.label, points, image.name, count=count), ""
        except Exception as error:
            raise_if_of_the_run(error)
            found, problem = np.empty(0, np.float32), one_line(error)
        rows.append(
            {
                "name": image.name,
                "maps": np.ascontiguousarray(found).tobytes(),
                "shape": list(found.shape),
                "problem": problem,
            }
        )
    return pd.DataFrame(rows)


def baseline_maps(
    ready: Bench,
    x: Tensor,
    label: int,
    points: str,
    name: str,
    model: nn.Module | None = None,
    count: int | None = None,
) -> np.ndarray:
    """The integrated gradients (K, C, H, W) of one input x (1, C, H, W) from each baseline.

    Args:
        name: the image's, which random points follow from.
        points: "stepsN" for a quadrature of N points, "randomN" for N points drawn uniformly on each path.
        model: another than the experiment's.
        count: of the first baselines alone; None: of all.
    """
    experiment = ready.experiment
    baselines = ready.baselines_of(x)
    own = (baselines[0] if baselines.ndim == 5 else baselines)[:count]
    kind, number = re.fullmatch(r"([a-z]+)(\d+)", points).groups()  # type: ignore[union-attr]
    explain = ExpectedGradients(model or ready.network.model).attribute
    common: dict[str, Any] = dict(target=label, internal_batch_size=experiment.batch)
    if kind == "steps":
        # Expected gradients of a single baseline for each row: (K, 1, ...) pairs row k with baseline k.
        found = explain(x.expand_as(own), own[:, None], n_steps=int(number), **common)
    else:
        # One call for each baseline: the draws of a call are shared by its rows.
        drawn = torch.Generator(x.device).manual_seed(seed_of(experiment, points, name))
        random = dict(n_samples=int(number), generator=drawn, pairing="shared", **common)
        found = torch.cat([explain(x, one[None], **random) for one in own])
    return found.cpu().numpy()


def path_variance(ready: Bench, x: Tensor, label: int, name: str) -> np.ndarray:
    """For each baseline (K,) the variance of its map taken from one uniformly random point, summed over all elements.

    The variance of (x - x'_k) g along the path, estimated from n_steps random points.
    """
    experiment = ready.experiment
    baselines = ready.baselines_of(x)
    own = baselines[0] if baselines.ndim == 5 else baselines
    spread = GradientVariance(ready.network.model).attribute(
        x.expand_as(own),
        own[:, None],
        target=label,
        n_samples=experiment.n_steps,
        sampler="segments",
        radius=float("inf"),
        generator=seed_of(experiment, "path variance", name),
        internal_batch_size=experiment.batch,
    )
    # The measure divides by the number of points.
    unbiased = experiment.n_steps / max(1, experiment.n_steps - 1)
    return ((x - own).square() * spread).double().sum((1, 2, 3)).cpu().numpy() * unbiased


def fitness(
    experiment: Experiment,
    store: Store,
    maps_key: Key,
    images: Sequence[Chosen],
    by: wg_methods.Fitness,
    count: int | None = None,
) -> pd.DataFrame:
    """The D_alpha of the first `count` baselines' maps, or of all, for each image.

    Columns: name; distances (K,); features, how many there are; problem, why there are no distances, or "".
    """
    ready = bench(experiment)
    rows = []
    for image, row in zip(images, stored_rows(store, (maps_key, None, None), images), strict=True):
        x, problem, distances = ready.input(image), row["problem"], np.empty(0)
        if not problem:
            try:
                distances = baseline_fitness(ready, x, image.label, stored_maps(row)[:count], by)
            except Exception as error:
                raise_if_of_the_run(error)
                problem = one_line(error)
        rows.append(
            {
                "name": image.name,
                "distances": distances.astype(float).tolist(),
                "features": x[0, 0].numel(),
                "problem": problem,
            }
        )
    return pd.DataFrame(rows)


def baseline_fitness(
    ready: Bench, x: Tensor, label: int, found: np.ndarray, by: wg_methods.Fitness, model: nn.Module | None = None
) -> np.ndarray:
    """The D_alpha (K,) of the maps (K, C, H, W) of one input x (1, C, H, W)."""
    if len(found) == 1:
        return np.ones(1)
    problem = Problem(
        model or ready.network.model, input_gradients, x, label, None, ready.experiment.batch, False, "fitness"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an image whose D_alpha are all P is counted in the notes
        distances = fit.d_alpha(
            problem,
            (torch.from_numpy(found.copy()).to(x)[None],),
            *fit.reference_scores(problem),
            Features(problem.inputs),
            [neutral_values(problem.inputs, one) for one in by.neutral],
            alpha=by.alpha,
            ranking=by.ranking,
            fitness=by.kind,
        )
    return distances[0].cpu().numpy()


def scores(
    experiment: Experiment,
    store: Store,
    sources: Sources,
    images: Sequence[Chosen],
    method: str,
    judge: str,
) -> pd.DataFrame:
    """The score of a method's map by a judge for each image: name, score, problem; NaN where there is a problem."""
    ready = bench(experiment)
    made_of = stored_rows(store, sources, images)
    judged_by = wg_judges.available(experiment.levels, experiment.ranking, experiment.batch, ready.network.classes)[
        judge
    ]
    rows = []
    for image, row in zip(images, made_of, strict=True):
        score, problem = float("nan"), row["problem"]
        if not problem:
            x = ready.input(image)
            mask = input_mask(ready, image)[0] if judged_by.masks else None
            try:
                a = method_map(experiment, method, x[0].cpu(), row)
                with seeded(experiment.seed, judge, image.name), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    score = judged_by.score(
                        ready.network.model,
                        x[0].cpu().numpy(),
                        image.label,
                        a,
                        mask,
                        ready.device,
                        explanation(ready, method, image.name),
                    )
            except Exception as error:
                raise_if_of_the_run(error)
                problem = one_line(error)
            else:
                problem = "" if math.isfinite(score) else f"the judge gave {score}"
        rows.append({"name": image.name, "score": score, "problem": problem})
    return pd.DataFrame(rows).astype({"name": str, "score": float, "problem": str})


def stored_rows(store: Store, sources: Sources, images: Sequence[Chosen]) -> list[dict[str, Any]]:
    """What a method is made of, for each image of a chunk: name, maps, shape, distances, screening, problem.

    Raises:
        BenchmarkError: the results are of other images.
    """
    maps_key, *fitness_keys = sources
    if maps_key is None:
        nothing = {"maps": b"", "shape": [0], "problem": "", "distances": None, "screening": None}
        return [{"name": image.name, **nothing} for image in images]
    made_of = store.read(maps_key)
    for column, key in zip(("distances", "screening"), fitness_keys, strict=True):
        if key is None:
            made_of[column] = [None] * len(made_of)
        else:
            fitted = store.read(key)
            made_of[column] = fitted["distances"]
            made_of["problem"] = made_of["problem"].where(made_of["problem"] != "", fitted["problem"])
    if made_of["name"].tolist() != [image.name for image in images]:
        raise BenchmarkError(
            f"the results {'/'.join(maps_key)} in {store.folder} are of other images than are chosen now; give "
            "another --out, or delete this folder"
        )
    return made_of.to_dict("records")


def method_map(experiment: Experiment, method: str, x: Tensor, row: Mapping[str, Any]) -> np.ndarray:
    """A method's map (C, H, W) of an image x, from its row of `stored_rows`."""
    generator = generator_of(experiment, method, row["name"])
    return experiment.method(method).map(x, stored_maps(row), row["distances"], generator, row["screening"])


def stored_maps(row: Mapping[str, Any]) -> np.ndarray:
    """The maps (K, C, H, W) of a row of `stored_rows`."""
    return np.frombuffer(row["maps"], np.float32).reshape(row["shape"])


def explanation(ready: Bench, method: str, name: str) -> Callable[..., np.ndarray]:
    """A method as a function with the signature of `quantus.explain`, for one image and what becomes of it.

    A method that draws draws anew, but the same for the same image.
    """

    def explain(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        by = ready.experiment.method(method)
        generator = generator_of(ready.experiment, method, name, "again")
        made = []
        for x, label in zip(inputs, targets, strict=True):
            tensor = torch.as_tensor(x, dtype=torch.float32)
            found, distances, screening = np.empty(0), np.empty(0), None
            if not by.control:  # of which no network is asked
                row = tensor[None].to(ready.device)
                found = baseline_maps(ready, row, int(label), by.points, name, model, by.pool)
                if by.needs_fitness:
                    distances = baseline_fitness(ready, row, int(label), found, by.fitness, model)
                if by.screening:
                    coarse = baseline_maps(ready, row, int(label), by.screening, name, model, by.pool)
                    screening = baseline_fitness(ready, row, int(label), coarse, by.fitness, model)
            made.append(by.map(tensor, found, distances, generator, screening))
        return np.stack(made)

    return explain


@_faults_of_the_run()
def input_mask(ready: Bench, image: Chosen) -> tuple[np.ndarray | None, str]:
    """The mask (H, W) of an input, or None and why there is none."""
    if ready.mask_of is None:
        return None, NO_MASK
    mask, reason = ready.mask_of(image.position, image.label)
    if mask is None:
        return None, reason
    picture, _ = ready.pictures.read(image.position)
    try:
        taken_along = ready.network.preparation.mask(picture, mask)
    except ValueError as error:
        return None, str(error)
    return (taken_along, "") if taken_along.any() else (None, EMPTY_MASK)


def generator_of(experiment: Experiment, *words: str) -> np.random.Generator:
    """A generator that follows from the experiment's seed and from what it is for, such as a method and an image."""
    encoded = [byte for word in words for byte in (*word.encode(), 0)]
    return np.random.default_rng(np.random.SeedSequence([experiment.seed, *encoded]))


def seed_of(experiment: Experiment, *words: str) -> int:
    """A seed in the same way."""
    return int(generator_of(experiment, *words).integers(2**31))


def _prediction(ready: Bench, position: int) -> tuple[int, str, int, int, int, str]:
    name = ready.pictures.names[position]
    try:
        picture, crc = ready.pictures.read(position)
        if crc in ready.reference_crcs:  # an image would be its own baseline
            return position, name, crc, -1, -1, REFERENCE
        if name in ready.without:
            return position, name, crc, -1, -1, LEFT_OUT
        x = _prepared(ready.network, picture, name)[None].to(ready.device)
    except Unreadable as error:
        return position, name, 0, -1, -1, f"{UNREADABLE}: {error}"
    with torch.no_grad():
        predicted = int(ready.network.model(x).argmax(1))
    labels = ready.pictures.labels
    label = predicted if labels is None else labels[position]
    status = USED
    if label != predicted:
        status = MISCLASSIFIED
    elif ready.mask_of is not None:
        _, reason = input_mask(ready, Chosen(position, name, crc, predicted))
        status = reason or USED
    return position, name, crc, label, predicted, status


def _data(experiment: Experiment, classes: int) -> tuple[Pictures, Pictures | None, Masks | None]:
    """The photographs, those for references if they are others, and where their masks are."""
    references = None
    mask_of: Masks | None = None
    if experiment.data == "cifar10":
        references, photographs = cifar10.cifar10_pictures(experiment.root, all_classes=True)
        if classes != 10:
            raise BenchmarkError(f"{experiment.model} has {classes} classes; CIFAR-10 has 10")
    elif experiment.data == "imagenet":
        if experiment.labels is None:
            photographs = folders.class_folders(experiment.root, "ImageNet folder", classes)
        else:
            photographs = folders.labelled_files(experiment.root, experiment.labels, "ImageNet folder", classes)
        photographs = replace(photographs, name=f"{photographs.name}, {len(photographs)} photographs")
    else:
        if classes != 1000:
            raise BenchmarkError(
                f"--data coco needs a model of ImageNet's 1000 classes; {experiment.model} has {classes}"
            )
        found = coco.load_coco(experiment.root, experiment.instances, experiment.images_dir)
        photographs, mask_of = found.pictures, found.mask
    if experiment.references is not None:
        references = folders.all_files(experiment.references, "references", "--references")
    if experiment.masks is not None:
        own = masks.MaskFolder(experiment.masks, photographs).mask
        mask_of = own if mask_of is None else _where_both(mask_of, own)
    return photographs, references, mask_of


def _where_both(condition: Masks, masks: Masks) -> Masks:
    """The second's masks of those photographs and classes of which the first has one, too."""

    def mask_of(position: int, label: int) -> tuple[np.ndarray | None, str]:
        found, reason = condition(position, label)
        return (None, reason) if found is None else masks(position, label)

    return mask_of


def _prepared(network: Network, picture: Image.Image, name: str) -> Tensor:
    """The input (C, H, W) of a photograph.

    Raises:
        Unreadable: it is not of CIFAR-10's size, for a network whose preparation leaves sizes as they are.
    """
    preparation = network.preparation
    if preparation.resize is None and preparation.crop is None and picture.size != (cifar10.SIDE, cifar10.SIDE):
        raise Unreadable(
            f"{name}: {picture.width} x {picture.height} pixels instead of {cifar10.SIDE} x {cifar10.SIDE}"
        )
    return preparation.image(picture)


@_faults_of_the_run()
def _references(
    pool: Pictures, network: Network, experiment: Experiment
) -> tuple[Tensor, list[int], list[int], tuple[str, ...]]:
    """The first K usable photographs of the pool in a random order, (K, C, H, W), their places, their CRC-32, and why
    others are not among them.

    Raises:
        BenchmarkError: there are fewer, or their inputs differ in shape.
    """
    found: list[Tensor] = []
    positions: list[int] = []
    crcs: list[int] = []
    unreadable: list[str] = []
    # Another stream than the explained images' order.
    for place in np.random.default_rng([experiment.seed, 1]).permutation(len(pool)):
        name = pool.names[place]
        try:
            picture, crc = pool.read(int(place))
            x = _prepared(network, picture, name)
        except Unreadable as error:
            unreadable.append(f"{UNREADABLE}: {error}")
            continue
        if found and x.shape != found[0].shape:
            sizes = [" x ".join(map(str, one.shape[1:])) for one in (found[0], x)]
            raise BenchmarkError(
                f"reference images must have one size after --resize and --crop; {pool.names[positions[0]]} has "
                f"{sizes[0]} pixels, {name} {sizes[1]}: give --crop"
            )
        found.append(x)
        positions.append(int(place))
        crcs.append(crc)
        if len(found) == experiment.n_baselines:
            return torch.stack(found), positions, crcs, tuple(unreadable)
    raise BenchmarkError(
        f"--n-baselines {experiment.n_baselines}: there are only {len(found)} readable reference images"
    )


def _generated(experiment: Experiment, network: Network) -> Baselines:
    """Baselines that no photograph is needed for; black and white are those of the pixels."""
    k, seed = experiment.n_baselines, experiment.seed
    black, white = (
        network.preparation.from_pixels(torch.full((3, 1, 1), value)).flatten().tolist() for value in (0.0, 1.0)
    )
    if experiment.baselines == "uniform":
        return uniform(k, black, white, generator=seed)
    if experiment.baselines == "gaussian":
        return gaussian(k, stdev=1.0, generator=seed)
    if experiment.baselines == "blur":
        # From a twentieth of the image's side up to a quarter.
        return lambda x: gaussian_blur(np.geomspace(max(x.shape[2:]) / 20, max(x.shape[2:]) / 4, k).tolist())(x)
    if k < 3:
        raise BenchmarkError(f"--baselines published is white, black and noise: at least 3 are needed, got {k}")
    return compose(constant(white, black), uniform(k - 2, black, white, generator=seed))
