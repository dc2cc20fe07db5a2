"""What a cell of the attribution table computes, from the experiment's settings alone.

Three kinds of cells, each a table:

    maps          what a source of rows explains, how long it took, and what it warned of
    scores        a row's maps, judged in a column
    robustness    all rows of a source, judged in all columns that explain perturbed images: these explanations cost far
                  more than their scores and are the same for all

A worker makes what it needs (network, images, references, rows) from the settings and keeps it for its next cell.

Images are explained and judged in blocks of BLOCK, because Quantus and Captum work on batches, in which an image costs
about half of what it costs alone. Draws depend on the batch, and FeaturePermutation exchanges values between its
images, so the blocks are the same however the work is shared out: the images 1 to 8 of the selection, 9 to 16, and so
on; a single image at the end belongs to the block before. Of more images, all blocks but a last one of another size
stay what they were.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks import old_judges as judges
from benchmarks import old_methods as methods
from benchmarks.data import datasets as data
from benchmarks.data import pictures
from benchmarks.evaluation import Explanations, evaluate, explain
from benchmarks.old_methods import Method
from benchmarks.models import checkpoints as models
from benchmarks.run.errors import BenchmarkError, Unreadable
from benchmarks.run.faults import one_line, raise_if_of_the_run
from benchmarks.run.gpus import own_device
from benchmarks.run.store import Key, Store, check_worker
from benchmarks.run.versions import versions

# Images in a block; the last may hold fewer, or one more. Part of the settings, so results of other blocks are refused.
BLOCK = 8
# The share of the typical distance between an image and a reference that is called local.
LOCAL_SHARE = 0.1
# Test images that this distance is measured on.
LOCAL_IMAGES = 64

# The files of this folder that the results depend on.
_SOURCES = (
    "attribution_experiment.py",
    "attribution_table.py",
    "data.py",
    "evaluation.py",
    "faults.py",
    "judges.py",
    "methods.py",
    "models.py",
    "pictures.py",
    "randomness.py",
    "runner.py",
)
# Settings that say where things are or how they are computed, but not what.
_PLACES = ("root", "weights", "device", "made_of")


@dataclass(frozen=True)
class Experiment:
    """Everything that decides the results, but for how many images are taken.

    Attributes:
        data, root: of `data.load`.
        weights: the file of the network's state_dict.
        radius: the local radius of the local measures, in units of the normalised input.
        baselines, n_steps: how many references, and points for each.
        seed: of the images' order, the references, and whatever is drawn.
        fresh_draws: of `methods.MethodSettings`.
        device: "cpu", "cuda", "cuda:0", or "cuda:*" for a GPU of each worker's own.
        made_of: what `describe` says of it, as JSON: the files at the same paths may be others another time, or for
            another process. "" where nobody compares.
    """

    data: str
    root: str | None
    weights: str
    radius: float
    baselines: int = 10
    n_steps: int = 10
    seed: int = 0
    fresh_draws: bool = False
    device: str = "cpu"
    made_of: str = ""


@dataclass(frozen=True)
class Block:
    """Test images that are explained and judged together.

    Attributes:
        first: how many images of the selection come before.
        positions: their places in the test part.
        digest: of places, inputs and classes.
    """

    first: int
    positions: tuple[int, ...]
    digest: str

    def __len__(self) -> int:
        return len(self.positions)

    @property
    def name(self) -> str:
        """As it stands in the keys of results."""
        return f"{self.first:06d}-{self.first + len(self):06d}-{self.digest}"


@dataclass(frozen=True, eq=False)
class Bench:
    """An experiment's things, ready to work with.

    Attributes:
        rows: every row of the table by its name.
    """

    experiment: Experiment
    model: nn.Module
    test: Dataset
    rows: dict[str, Method]
    device: str

    def batch(self, block: Block) -> tuple[np.ndarray, np.ndarray]:
        """The images (N, C, H, W) and classes (N,) of a block.

        Raises:
            BenchmarkError: they are others than when they were chosen.
        """
        try:
            x, y = data.stack(self.test, block.positions)
        except Unreadable as error:
            raise BenchmarkError(f"an image became unreadable during the run: {error}") from error
        if digest(block.positions, x, y) != block.digest:
            raise BenchmarkError(
                f"images {', '.join(map(str, block.positions))} of the test part are not, in this worker, those that "
                "were chosen; see that all workers have the same data, and run the command again"
            )
        return x.numpy(), y.numpy()

    def of_source(self, source: str) -> Method:
        """A row of a source; what it explains is the same for all."""
        return next(row for row in self.rows.values() if row.source == source)


@functools.lru_cache(maxsize=1)
def bench(experiment: Experiment) -> Bench:
    """The experiment's things, kept for the process's next cells.

    Raises:
        BenchmarkError: something of it is missing, does not fit, or is other than the experiment is made of.
    """
    device = own_device(experiment.device)
    images = data.load(experiment.data, experiment.root)
    references = data.readable_references(images.train, experiment.baselines, experiment.seed).x
    model = models.load_checkpoint(experiment.weights, images.classes)
    if experiment.made_of:
        _check(experiment, describe(experiment, images, references, model))
    model = models.ready(model, device)
    return Bench(experiment, model, images.test, available(experiment, references), str(device))


def made_of(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with what `describe` says of it."""
    return replace(experiment, made_of=json.dumps(settings, sort_keys=True))


def _check(experiment: Experiment, found: Mapping[str, Any]) -> None:
    wanted = json.loads(experiment.made_of)
    if found["weights"] != wanted["weights"]:
        raise BenchmarkError(
            f"the worker's {experiment.weights} holds another network than the command's: see that all workers read "
            f"the same file and that it does not change during a run"
        )
    check_worker(wanted, found)


def available(experiment: Experiment, references: Tensor) -> dict[str, Method]:
    """Every row of the table by its name, as the experiment makes it."""
    return methods.available(
        methods.MethodSettings(
            references, experiment.n_steps, experiment.radius, experiment.seed, experiment.fresh_draws
        )
    )


def describe(experiment: Experiment, images: data.Images, references: Tensor, model: nn.Module) -> dict[str, Any]:
    """The settings of a results folder: what decides the results, checksums for what lies elsewhere, and versions."""
    return {
        **{name: value for name, value in asdict(experiment).items() if name not in _PLACES},
        "data": images.name,
        "test images": _checksum(images, experiment),
        "references": digest(references),
        "weights": models.checksum(model),
        "device": experiment.device.partition(":")[0],
        "block": BLOCK,
        "versions": versions(_SOURCES),
    }


def local_images(test: Dataset, seed: int) -> data.Readable:
    """The first test images in the seed's order, whatever the network says of them and however many are explained.

    Raises:
        BenchmarkError: none can be read.
    """
    found = data.readable(test, data.order(test, seed), LOCAL_IMAGES)
    if not found.positions:
        raise BenchmarkError(f"no test image can be read; the first: {next(iter(found.unreadable.values()), '-')}")
    return found


def local_radius(inputs: Tensor, references: Tensor) -> float:
    """A tenth of the median distance between an input and a reference, to three digits."""
    distances = torch.cdist(inputs.flatten(1), references.flatten(1))
    return float(f"{LOCAL_SHARE * distances.median().item():.3g}")


def maps(experiment: Experiment, source: str, block: Block) -> pd.DataFrame:
    """The maps of a block of test images.

    Columns: image, its position; maps, the bytes of float32 (n * C, H, W), and their shape; seconds, those of the block
    divided by its images; warnings of the block; reason, why there are no maps, or "".
    """
    ready = bench(experiment)
    x, y = ready.batch(block)
    seconds, reason = float("nan"), ""
    messages: tuple[str, ...] = ()
    found: np.ndarray = np.empty((len(x), 0), np.float32)
    try:
        row = ready.of_source(source)
        explained = explain(row, ready.model, x, y, experiment.seed, ready.device)
        shape = (len(x), row.part[1] * x.shape[1], *x.shape[2:])
        if explained.maps.shape != shape:
            raise ValueError(f"the maps have shape {explained.maps.shape} instead of {shape}")
        found = np.ascontiguousarray(explained.maps, dtype=np.float32)
        seconds, messages = explained.seconds / len(x), explained.warnings
    except Exception as error:  # the rows' cells say why; the other rows go on
        raise_if_of_the_run(error)
        reason = one_line(error)
    return pd.DataFrame(
        {
            "image": list(block.positions),
            "maps": [row.tobytes() for row in found],
            "shape": [list(found.shape[1:])] * len(x),
            "seconds": seconds,
            "warnings": [list(messages)] * len(x),
            "reason": reason,
        }
    )


def stored_maps(table: pd.DataFrame) -> np.ndarray:
    """The maps (N, n * C, H, W) of a table that `maps` gave."""
    return np.stack([np.frombuffer(row.maps, np.float32).reshape(row.shape) for row in table.itertuples()])


def scores(
    experiment: Experiment,
    store: Store,
    maps_key: Key,
    block: Block,
    rows: Sequence[str],
    columns: Sequence[str],
    count: int | None = None,
) -> pd.DataFrame:
    """The scores of rows of one source by judges, for a block or its first `count` images.

    Columns: method; judge; image, its position; score; reason, why there is none (NaN), or ""; warnings that the
    methods gave of other images than the block's, as where a judge perturbs them.

    Raises:
        BenchmarkError: the maps are of other images.
    """
    ready = bench(experiment)
    table = store.read(maps_key)
    if table["image"].tolist() != list(block.positions):
        raise BenchmarkError(
            f"the results {'/'.join(maps_key)} in {store.folder} are of other images than those that were chosen; "
            "delete them and run the command again"
        )
    x, y = (part[:count] for part in ready.batch(block))
    positions, table = block.positions[:count], table[:count]
    source = ready.rows[rows[0]]
    explanations = Explanations(source, ready.model, experiment.seed, ready.device)
    failure = table["reason"][0]
    if not failure:
        explanations.add(x, y, stored_maps(table))
    available_judges = judges.available()
    parts = []
    for method in rows:
        for judge in columns:
            values, reason = np.full(len(x), np.nan), failure
            try:
                if not failure:
                    values = evaluate(explanations, ready.rows[method], available_judges[judge], x, y)
            except Exception as error:  # whatever a method or a metric raises is an entry of the table, not its end
                raise_if_of_the_run(error)
                reason = one_line(error)
            parts.append(
                pd.DataFrame({"method": method, "judge": judge, "image": positions, "score": values, "reason": reason})
            )
    found = pd.concat(parts, ignore_index=True)
    return found.assign(warnings=[list(explanations.warnings)] * len(found))


def robustness(
    experiment: Experiment, store: Store, maps_key: Key, block: Block, source: str, count: int
) -> pd.DataFrame:
    """The `scores` of all rows of a source by all judges that explain perturbed images, for the block's first ones."""
    rows = [row.name for row in bench(experiment).rows.values() if row.source == source]
    columns = [judge.name for judge in judges.available().values() if judge.robustness]
    return scores(experiment, store, maps_key, block, rows, columns, count)


def digest(*parts: Tensor | Sequence[int]) -> str:
    """A checksum of tensors and whole numbers."""
    found = hashlib.sha256()
    for part in parts:
        found.update(torch.as_tensor(part).contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def _checksum(images: data.Images, experiment: Experiment) -> str:
    if isinstance(images.test, TensorDataset):
        return digest(*images.test.tensors)
    return pictures.of_dataset(images.test, images.name, str(experiment.root)).checksum()
