"""An experiment's things made ready: network, photographs, baselines, masks; once for each process."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.data import datasets, folders
from benchmarks.data.cifar10 import SIDE
from benchmarks.data.data_set import Masks, Source
from benchmarks.data.pictures import Pictures
from benchmarks.experiment.results import EMPTY_MASK, NO_MASK, UNREADABLE, Chosen
from benchmarks.experiment.settings import PLACES, Experiment
from benchmarks.methods.method import Baselines, Batch
from benchmarks.models.networks import Network, load_network
from benchmarks.run.counting import Counted
from benchmarks.run.errors import BenchmarkError, Unreadable
from benchmarks.run.faults import faults_of_the_run
from benchmarks.run.gpus import own_device
from benchmarks.run.versions import versions
from captum_wg.baselines import compose, constant, gaussian, gaussian_blur, uniform
from captum_wg.datasets.fingerprint import differences

# The share of the typical distance between an image and a baseline that is called local, and the images it is
# measured on.
LOCAL_SHARE, LOCAL_IMAGES = 0.1, 64


@dataclass(frozen=True)
class References:
    """The photographs that serve as baselines.

    Attributes:
        inputs: (K, C, H, W).
        positions: their places in the data itself, which are not explained; none if they are drawn from others.
        crcs: by which each is known under another name or in another folder.
        unreadable: why, for each photograph that would have been one and could not be decoded.
    """

    inputs: Tensor
    positions: frozenset[int]
    crcs: frozenset[int]
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Bench:
    """An experiment's things, ready to work with.

    Attributes:
        references: None if baselines are made and not drawn.
        baselines: K of them, (K, C, H, W), or a function of the inputs (1, C, H, W).
        without: names of photographs that are not explained.
    """

    experiment: Experiment
    network: Network
    pictures: Pictures
    device: torch.device
    references: References | None
    baselines: Baselines
    mask_of: Masks | None = None
    without: frozenset[str] = frozenset()

    @faults_of_the_run()
    def input(self, chosen: Chosen) -> Tensor:
        """The input (C, H, W) of an image.

        Raises:
            BenchmarkError: the file is another one than when it was chosen.
        """
        try:
            picture, crc = self.pictures.read(chosen.position)
        except Unreadable as error:
            raise BenchmarkError(f"an image became unreadable during the run: {error}") from error
        if crc != chosen.crc or self.pictures.names[chosen.position] != chosen.name:
            raise BenchmarkError(f"{chosen.name} has changed since it was chosen; put it back, or give another --out")
        return self.network.preparation.image(picture)

    @faults_of_the_run()
    def mask(self, image: Chosen) -> tuple[np.ndarray | None, str]:
        """The mask (H, W) of an input and "", or None and why there is none."""
        if self.mask_of is None:
            return None, NO_MASK
        mask, reason = self.mask_of(image.position, image.label)
        if mask is None:
            return None, reason
        picture, _ = self.pictures.read(image.position)
        try:
            taken_along = self.network.preparation.mask(picture, mask)
        except ValueError as error:
            return None, str(error)
        return (taken_along, "") if taken_along.any() else (None, EMPTY_MASK)

    def batch(
        self, names: Sequence[str], inputs: Tensor, targets: Sequence[int], model: nn.Module | None = None
    ) -> Batch:
        """Images to explain, of the network, whose evaluations are counted, or of another model."""
        return Batch(
            model or Counted(self.network.model),
            inputs.to(self.device),
            torch.tensor(targets, device=self.device),
            tuple(names),
            self.baselines,
            self.experiment.seed,
            lambda: self.radius,
            self.experiment.batch,
        )

    def order(self) -> list[int]:
        """The places of all photographs but the references, in the order in which they are taken."""
        places = np.random.default_rng(self.experiment.seed).permutation(len(self.pictures))
        apart = self.references.positions if self.references else ()
        return [int(place) for place in places if int(place) not in apart]

    @functools.cached_property
    def radius(self) -> float:
        """The local radius: as it is set, or a tenth of the median distance between an input and a baseline, to three
        digits, whatever the network says of the inputs and however many are explained.

        Raises:
            BenchmarkError: no image can be read.
        """
        if self.experiment.radius is not None:
            return self.experiment.radius
        found = [x for _, x, _ in islice(_readable(self.pictures, self.network, self.order(), []), LOCAL_IMAGES)]
        if not found:
            raise BenchmarkError(f"no image of {self.pictures.name} can be read")
        inputs = torch.stack(found)
        made = self.baselines(inputs[:1]) if callable(self.baselines) else self.baselines
        distances = torch.cdist(inputs.flatten(1), (made[0] if made.ndim == 5 else made).flatten(1))
        return float(f"{LOCAL_SHARE * distances.median().item():.3g}")

    @functools.cached_property
    def described(self) -> dict[str, Any]:
        """The settings of a results folder: what decides the results, checksums for what lies elsewhere, versions."""
        experiment = self.experiment
        settings = {name: value for name, value in asdict(experiment).items() if name not in PLACES}
        if self.references is not None:
            settings["references"] = _checksum(self.references.inputs.cpu().numpy().tobytes())
        if experiment.without is not None:
            settings["without"] = _checksum("\0".join(sorted(self.without)).encode())
        if experiment.masks is not None:
            settings["masks"] = _of_files(Path(experiment.masks))
        files = datasets.DATA_SETS[experiment.data].files(experiment)
        settings |= {name: _checksum(path.read_bytes()) for name, path in files.items()}
        return {
            **settings,
            "preparation": asdict(self.network.preparation),
            "device": self.device.type,
            "weights": self.network.checksum(),
            "photographs": self.pictures.checksum(),
            "versions": versions(experiment.code),
        }


def bench(experiment: Experiment) -> Bench:
    """The experiment's things, kept for the process's next cells.

    Raises:
        BenchmarkError: something of it is missing, does not fit, or is other than the experiment is made of.
    """
    alone = replace(experiment, made_of="")
    if not experiment.made_of:
        return _bench(alone)
    for again in (False, True):
        ready = _bench(alone)
        difference = differences(ready.described, json.loads(experiment.made_of))
        if not difference:
            return ready
        if not again:  # a worker that lives on may have made it of other files
            forget()
    raise BenchmarkError(
        f"a worker does not have what the command has: {difference}; see that all workers have the same code, packages "
        "and data, and start them anew if they are older than these"
    )


def forget() -> None:
    """Make all things anew when they are needed next."""
    _bench.cache_clear()


@functools.lru_cache(maxsize=2)
def _bench(experiment: Experiment) -> Bench:
    device = own_device(experiment.device)
    network = load_network(experiment.model, experiment.weights, device, resize=experiment.resize, crop=experiment.crop)
    source = datasets.source(experiment, network.classes)
    drawn = _references(source, network, experiment) if experiment.baselines == "references" else None
    baselines = drawn.inputs if drawn else _generated(experiment, network)
    without = frozenset() if experiment.without is None else folders.named_in(experiment.without, source.pictures)
    return Bench(experiment, network, source.pictures, device, drawn, baselines, source.mask_of, without)


def prepared(network: Network, picture: Image.Image, name: str) -> Tensor:
    """The input (C, H, W) of a photograph.

    Raises:
        Unreadable: it is not of CIFAR-10's size, for a network whose preparation leaves sizes as they are.
    """
    preparation = network.preparation
    if preparation.keeps_size and picture.size != (SIDE, SIDE):
        raise Unreadable(f"{name}: {picture.width} x {picture.height} pixels instead of {SIDE} x {SIDE}")
    return preparation.image(picture)


def _readable(
    pictures: Pictures, network: Network, places: Iterable[int], unreadable: list[str]
) -> Iterator[tuple[int, Tensor, int]]:
    """The place, input and CRC-32 of each photograph that can be read; of the others why not goes to `unreadable`."""
    for place in map(int, places):
        try:
            picture, crc = pictures.read(place)
            yield place, prepared(network, picture, pictures.names[place]), crc
        except Unreadable as error:
            unreadable.append(f"{UNREADABLE}: {error}")


@faults_of_the_run()
def _references(source: Source, network: Network, experiment: Experiment) -> References:
    """The first K usable photographs of the pool in a random order.

    Raises:
        BenchmarkError: there are fewer, or their inputs differ in shape.
    """
    pool, count, unreadable = source.references or source.pictures, experiment.n_baselines, list[str]()
    # Another stream than the explained images' order.
    places = np.random.default_rng([experiment.seed, 1]).permutation(len(pool))
    found = list(islice(_readable(pool, network, places, unreadable), count))
    if len(found) < count:
        raise BenchmarkError(
            f"{count} baselines are asked for, but there are only {len(found)} readable reference images"
        )
    positions, inputs, crcs = zip(*found, strict=True)
    sizes = [f"{pool.names[place]} has {' x '.join(map(str, x.shape[1:]))} pixels" for place, x, _ in found]
    if other := next((i for i, x in enumerate(inputs) if x.shape != inputs[0].shape), None):
        raise BenchmarkError(
            f"reference images must have one size after --resize and --crop; {sizes[0]}, {sizes[other]}: give --crop"
        )
    own = frozenset(positions if source.references is None else ())
    return References(torch.stack(inputs), own, frozenset(crcs), tuple(unreadable))


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


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _of_files(folder: Path) -> str:
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.png") if path.is_file()}
    digest = hashlib.sha256()
    for name, path in sorted(names.items()):
        content = path.read_bytes()
        # With the length, so that no other split into names and contents has the same bytes.
        digest.update(b"%s\0%d\0%s" % (name.encode(), len(content), content))
    return digest.hexdigest()[:16]
