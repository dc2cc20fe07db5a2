"""What a cell of the weighted-gradients tables computes, from the experiment's settings alone.

Three kinds of cells, each a table with a row for each image:

    predictions   what the model says of a photograph, and whether it counts
    maps          the map of each baseline, and its D_alpha: all that every weighting is made of
    scores        a method's map, judged

A worker makes what it needs (network, photographs, baselines) from the settings and keeps it for its next cell. Images
are taken one at a time, so that no result depends on which images share a cell.
"""

from __future__ import annotations

import functools
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from benchmarks import coco, pictures, wg_judges, wg_methods
from benchmarks.errors import BenchmarkError
from benchmarks.faults import one_line, raise_if_of_the_run
from benchmarks.gpus import own_device
from benchmarks.networks import Network, load_network
from benchmarks.pictures import Pictures, Unreadable
from benchmarks.randomness import seeded
from benchmarks.store import Key, Store
from benchmarks.versions import versions
from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.baselines import compose, constant, gaussian, gaussian_blur, uniform

DATA = ("cifar10", "imagenet", "coco")
BASELINES = ("references", "published", "uniform", "gaussian", "blur")
NEUTRALS = ("corners", "mean", "blur", "black")

# Why an image does not count.
USED, REFERENCE, UNREADABLE, MISCLASSIFIED = "used", "a reference image", "unreadable", "misclassified"
EMPTY_MASK, NO_MASK = "the mask is empty after the crop", "no mask"

Baselines = Callable[[Tensor], Any]
Masks = Callable[[int, int], tuple[np.ndarray | None, str]]

# Settings that say where things are or how they are computed, but not what.
_PLACES = ("weights", "root", "labels", "instances", "images_dir", "masks", "references", "device")


# The files of this folder that the results depend on.
_SOURCES = (
    "coco.py",
    "data.py",
    "imagenet_to_coco.csv",
    "models.py",
    "networks.py",
    "pictures.py",
    "preparation.py",
    "randomness.py",
    "wg_experiment.py",
    "wg_judges.py",
    "wg_methods.py",
)


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the results, but for how many images are taken.

    Attributes:
        model, weights, resize, crop: of `networks.load_network`.
        data: "cifar10", "imagenet" or "coco".
        root, labels, instances, images_dir: where the photographs, their labels and annotations are.
        masks: a folder of masks (PNG, named as the photographs, nonzero on the object); None: without, or COCO's.
        references: a folder of reference images; None: training images (cifar10), or photographs of the data itself,
            which are then not explained.
        baselines: "references"; "published" (white, black and uniform noise); "uniform", "gaussian" noise; "blur".
        n_baselines, n_steps: K, and the points on each path.
        alpha, neutral, ranking: of D_alpha; the ranking also of the judges.
        levels: of the judges' curves.
        seed: of the images' order, the references, and whatever is drawn.
        device: "cpu", "cuda", "cuda:0", or "cuda:*" for a GPU of each worker's own.
        batch: how many points or masked images share a forward.
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

    def __post_init__(self) -> None:
        for name, known in (
            ("data", DATA),
            ("baselines", BASELINES),
            ("neutral", NEUTRALS),
            ("ranking", ("signed", "absolute")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        for name in ("n_baselines", "n_steps", "levels", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie between 0 and 1, got {self.alpha}")


@dataclass(frozen=True)
class Chosen:
    """An image that counts: its place in the data, its name and CRC-32, the class that is explained."""

    position: int
    name: str
    crc: int
    label: int


@dataclass(frozen=True, eq=False)
class Bench:
    """An experiment's things, ready to work with.

    Attributes:
        reference_positions: places of the references in the data itself, which are not explained.
        baselines_of: inputs (1, C, H, W) -> baselines in a form that captum_wg takes, K of them.
        mask_of: place and class -> the photograph's mask (height, width) and "", or None and why there is none;
            None where the data have no masks.
    """

    experiment: Experiment
    network: Network
    pictures: Pictures
    device: torch.device
    reference_positions: frozenset[int]
    baselines_of: Baselines
    mask_of: Masks | None

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
        BenchmarkError: something of it is missing or does not fit.
    """
    device = own_device(experiment.device)
    network = load_network(experiment.model, experiment.weights, device, resize=experiment.resize, crop=experiment.crop)
    photographs, references, mask_of = _data(experiment, network.classes)
    apart = references is not None
    used: frozenset[int] = frozenset()
    if experiment.baselines == "references":
        found, positions = _references(references or photographs, network, experiment)
        used = frozenset() if apart else frozenset(positions)
        baselines_of: Baselines = lambda x: found.to(x)  # noqa: E731
    else:
        baselines_of = _generated(experiment, network)
    return Bench(experiment, network, photographs, device, used, baselines_of, mask_of)


def describe(experiment: Experiment) -> dict[str, Any]:
    """The settings of a results folder: what decides the results, checksums for what lies elsewhere, and versions."""
    ready = bench(experiment)
    settings = {name: value for name, value in asdict(experiment).items() if name not in _PLACES}
    if experiment.references is not None and experiment.baselines == "references":
        settings["references"] = pictures.all_files(experiment.references, "references").checksum()
    if experiment.masks is not None:
        settings["masks"] = pictures.all_files(experiment.masks, "masks").checksum()
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


def order(experiment: Experiment) -> list[int]:
    """The places of all photographs but the references, in the order in which they are taken."""
    ready = bench(experiment)
    places = np.random.default_rng(experiment.seed).permutation(len(ready.pictures))
    return [int(place) for place in places if int(place) not in ready.reference_positions]


def predictions(experiment: Experiment, positions: Sequence[int]) -> pd.DataFrame:
    """What the model says of photographs and whether each counts: position, name, crc, label, predicted, status."""
    ready = bench(experiment)
    rows = [_prediction(ready, position) for position in positions]
    columns = {"position": "int64", "name": str, "crc": "int64", "label": "int64", "predicted": "int64", "status": str}
    return pd.DataFrame(rows, columns=list(columns)).astype(columns)


def maps(experiment: Experiment, images: Sequence[Chosen]) -> pd.DataFrame:
    """The maps of all baselines and their D_alpha for each image.

    Columns: name; maps, the bytes of float32 (K, C, H, W), and their shape; distances, the D_alpha (K,); features, how
    many there are; problem, why there are no maps, or "".
    """
    ready = bench(experiment)
    rows = []
    for image in images:
        x = ready.input(image)
        try:
            with seeded(experiment.seed, image.name), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # an image whose D_alpha are all P is counted in the notes
                found, distances = baseline_maps(ready, x, image.label)
            problem = ""
        except Exception as error:
            raise_if_of_the_run(error)
            found, distances, problem = np.empty(0, np.float32), np.empty(0, np.int64), one_line(error)
        rows.append(
            {
                "name": image.name,
                "maps": np.ascontiguousarray(found).tobytes(),
                "shape": list(found.shape),
                "distances": distances.tolist(),
                "features": x[0, 0].numel(),
                "problem": problem,
            }
        )
    return pd.DataFrame(rows)


def baseline_maps(ready: Bench, x: Tensor, label: int, model: nn.Module | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The integrated gradients (K, C, H, W) of one input x (1, C, H, W) from each baseline, and the D_alpha (K,).

    model: another than the experiment's.
    """
    experiment, model = ready.experiment, model or ready.network.model
    baselines = ready.baselines_of(x)
    own = baselines[0] if baselines.ndim == 5 else baselines
    common: dict[str, Any] = dict(target=label, n_steps=experiment.n_steps, internal_batch_size=experiment.batch)
    # Expected gradients of a single baseline for each row: (K, 1, ...) pairs row k with baseline k.
    found = ExpectedGradients(model).attribute(x.expand_as(own), own[:, None], **common)
    if len(own) == 1:
        return found.cpu().numpy(), np.ones(1, np.int64)
    distances = WeightedGradients(model).fitness(
        x, own[None], alpha=experiment.alpha, neutral=experiment.neutral, ranking=experiment.ranking, **common
    )
    return found.cpu().numpy(), distances[0].cpu().numpy()


def scores(
    experiment: Experiment, store: Store, maps_key: Key, images: Sequence[Chosen], method: str, judge: str
) -> pd.DataFrame:
    """The score of a method's map by a judge for each image: name, score, problem; NaN where there is a problem."""
    ready = bench(experiment)
    stored = store.read(maps_key)
    judged_by = wg_judges.available(experiment.levels, experiment.ranking, experiment.batch, ready.network.classes)[
        judge
    ]
    rows = []
    for image, (_, row) in zip(images, stored.iterrows(), strict=True):
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
        rows.append({"name": image.name, "score": score, "problem": problem})
    return pd.DataFrame(rows).astype({"name": str, "score": float, "problem": str})


def method_map(experiment: Experiment, method: str, x: Tensor, row: pd.Series) -> np.ndarray:
    """A method's map (C, H, W) of an image x, from its row of the maps."""
    found = np.frombuffer(row["maps"], np.float32).reshape(row["shape"])
    return wg_methods.method(method, experiment.n_baselines).map(
        x, found, np.asarray(row["distances"]), _generator(experiment, method, row["name"])
    )


def explanation(ready: Bench, method: str, name: str) -> Callable[..., np.ndarray]:
    """A method as a function with the signature of `quantus.explain`, for one image and what becomes of it.

    A method that draws draws anew, but the same for the same image.
    """

    def explain(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
        by = wg_methods.method(method, ready.experiment.n_baselines)
        generator = _generator(ready.experiment, method, name, "again")
        made = []
        for x, label in zip(inputs, targets, strict=True):
            tensor = torch.as_tensor(x, dtype=torch.float32)
            if by.control:  # no network is asked
                found, distances = np.empty(0), np.empty(0)
            else:
                found, distances = baseline_maps(ready, tensor[None].to(ready.device), int(label), model)
            made.append(by.map(tensor, found, distances, generator))
        return np.stack(made)

    return explain


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


def _generator(experiment: Experiment, *words: str) -> np.random.Generator:
    encoded = [byte for word in words for byte in (*word.encode(), 0)]
    return np.random.default_rng(np.random.SeedSequence([experiment.seed, *encoded]))


def _prediction(ready: Bench, position: int) -> tuple[int, str, int, int, int, str]:
    name = ready.pictures.names[position]
    try:
        picture, crc = ready.pictures.read(position)
    except Unreadable as error:
        return position, name, 0, -1, -1, f"{UNREADABLE}: {error}"
    x = ready.network.preparation.image(picture)[None].to(ready.device)
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
        references, photographs = pictures.cifar10_pictures(experiment.root)
        if classes != 10:
            raise BenchmarkError(f"{experiment.model} has {classes} classes; CIFAR-10 has 10")
    elif experiment.data == "imagenet":
        if experiment.labels is None:
            photographs = pictures.class_folders(experiment.root, "ImageNet folder", classes)
        else:
            photographs = pictures.labelled_files(experiment.root, experiment.labels, "ImageNet folder", classes)
        photographs = replace(photographs, name=f"{photographs.name}, {len(photographs)} photographs")
    else:
        if classes != 1000:
            raise BenchmarkError(
                f"--data coco needs a model of ImageNet's 1000 classes; {experiment.model} has {classes}"
            )
        found = coco.load_coco(experiment.root, experiment.instances, experiment.images_dir)
        photographs, mask_of = found.pictures, found.mask
    if experiment.references is not None:
        references = pictures.all_files(experiment.references, "references")
    if experiment.masks is not None:
        mask_of = pictures.MaskFolder(experiment.masks, photographs).mask
    return photographs, references, mask_of


def _references(pool: Pictures, network: Network, experiment: Experiment) -> tuple[Tensor, list[int]]:
    """The first K readable photographs of the pool in a random order, (K, C, H, W), and their places."""
    found: list[Tensor] = []
    positions: list[int] = []
    # Another stream than the explained images' order.
    for place in np.random.default_rng([experiment.seed, 1]).permutation(len(pool)):
        try:
            found.append(network.preparation.image(pool.read(int(place))[0]))
        except Unreadable:
            continue
        positions.append(int(place))
        if len(found) == experiment.n_baselines:
            return torch.stack(found), positions
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
