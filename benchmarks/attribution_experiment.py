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
on. Of more images, all blocks but a last one that was short stay what they were.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from benchmarks import data, judges, methods, models, pictures
from benchmarks.evaluation import Explanations, evaluate, explain
from benchmarks.faults import one_line, raise_if_of_the_run
from benchmarks.gpus import own_device
from benchmarks.methods import Method
from benchmarks.store import Key, Store
from benchmarks.versions import versions

# Images in a block. Part of the cells' names and settings, so a change of it makes them anew.
BLOCK = 8
# The share of the typical distance between an image and a reference that is called local.
LOCAL_SHARE = 0.1
# Test images that this distance is measured on.
LOCAL_IMAGES = 64

# The files of this folder that the results depend on.
_SOURCES = (
    "attribution_experiment.py",
    "data.py",
    "evaluation.py",
    "judges.py",
    "methods.py",
    "models.py",
    "pictures.py",
    "randomness.py",
)
# Settings that say where things are or how they are computed, but not what.
_PLACES = ("root", "weights", "device")


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

    def batch(self, positions: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """The images (N, C, H, W) and classes (N,) at these places of the test part."""
        x, y = data.stack(self.test, np.asarray(positions))
        return x.numpy(), y.numpy()

    def of_source(self, source: str) -> Method:
        """A row of a source; what it explains is the same for all."""
        return next(row for row in self.rows.values() if row.source == source)


@functools.lru_cache(maxsize=1)
def bench(experiment: Experiment) -> Bench:
    """The experiment's things, kept for the process's next cells.

    Raises:
        BenchmarkError: something of it is missing or does not fit.
    """
    device = own_device(experiment.device)
    images = data.load(experiment.data, experiment.root)
    references = data.sample_references(images.train, experiment.baselines, experiment.seed)
    model = models.ready(models.load_checkpoint(experiment.weights, images.classes), device)
    return Bench(experiment, model, images.test, available(experiment, references), str(device))


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
        "references": _digest(references),
        "weights": models.checksum(model),
        "device": experiment.device.partition(":")[0],
        "block": BLOCK,
        "versions": versions(_SOURCES),
    }


def local_radius(test: Dataset, references: Tensor, seed: int) -> float:
    """A tenth of the median distance between a test image and a reference, to three digits.

    Over the first test images in the seed's order, whatever the network says of them and however many are explained.
    """
    inputs, _ = data.stack(test, data.order(test, seed)[:LOCAL_IMAGES])
    distances = torch.cdist(inputs.flatten(1), references.flatten(1))
    return float(f"{LOCAL_SHARE * distances.median().item():.3g}")


def maps(experiment: Experiment, source: str, positions: Sequence[int]) -> pd.DataFrame:
    """The maps of a block of test images.

    Columns: image, its position; maps, the bytes of float32 (n * C, H, W), and their shape; seconds, those of the block
    divided by its images; warnings of the block; reason, why there are no maps, or "".
    """
    ready = bench(experiment)
    x, y = ready.batch(positions)
    seconds, reason = float("nan"), ""
    messages: tuple[str, ...] = ()
    found: np.ndarray = np.empty((len(x), 0), np.float32)
    try:
        explained = explain(ready.of_source(source), ready.model, x, y, experiment.seed, ready.device)
        found = np.ascontiguousarray(explained.maps, dtype=np.float32)
        seconds, messages = explained.seconds / len(x), explained.warnings
    except Exception as error:  # the rows' cells say why; the other rows go on
        raise_if_of_the_run(error)
        reason = one_line(error)
    return pd.DataFrame(
        {
            "image": list(positions),
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
    positions: Sequence[int],
    rows: Sequence[str],
    columns: Sequence[str],
) -> pd.DataFrame:
    """The scores of rows of one source by judges, for the first images of a block.

    Columns: method; judge; image, its position; score; reason, why there is none (NaN), or "".
    """
    ready = bench(experiment)
    x, y = ready.batch(positions)
    table = store.read(maps_key)[: len(x)]
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
    return pd.concat(parts, ignore_index=True)


def robustness(
    experiment: Experiment, store: Store, maps_key: Key, positions: Sequence[int], source: str
) -> pd.DataFrame:
    """The `scores` of all rows of a source by all judges that explain perturbed images."""
    rows = [row.name for row in bench(experiment).rows.values() if row.source == source]
    columns = [judge.name for judge in judges.available().values() if judge.robustness]
    return scores(experiment, store, maps_key, positions, rows, columns)


def _checksum(images: data.Images, experiment: Experiment) -> str:
    if isinstance(images.test, TensorDataset):
        return _digest(*images.test.tensors)
    _, test = pictures.cifar10_pictures(str(experiment.root))
    return test.checksum()


def _digest(*tensors: Tensor) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
