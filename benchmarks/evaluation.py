"""A method judged by a metric on some images, through an unchanged `quantus.evaluate`.

Plain functions of what they are given: the same arguments give the same scores in every process.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import quantus
from torch import nn

from benchmarks.old_judges import Judge, per_image
from benchmarks.old_methods import Method
from benchmarks.run.randomness import seeded


@dataclass(frozen=True)
class Explained:
    """What a method gives for a batch.

    Attributes:
        maps: (N, n * C, H, W), those of all n rows of the method's source.
        seconds: how long it took.
        warnings: messages that the method gave, without repetition.
    """

    maps: np.ndarray
    seconds: float
    warnings: tuple[str, ...]


def explain(
    method: Method, model: nn.Module, inputs: np.ndarray, targets: np.ndarray, seed: int = 0, device: str = "cpu"
) -> Explained:
    """Explain a batch (N, C, H, W).

    The draws of a method that uses the global generators follow from the seed and the batch alone: they differ between
    batches, repeat between runs and move no generator.
    """
    inputs = np.ascontiguousarray(inputs, dtype=np.float32)
    with (
        seeded(seed, method.source, inputs.tobytes(), np.asarray(targets).tobytes()),
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        started = time.perf_counter()
        maps = np.asarray(method.explain(model, inputs, targets, device=device))
        seconds = time.perf_counter() - started
    messages = (" ".join(str(warning.message).split()) for warning in caught)
    return Explained(maps, seconds, tuple(dict.fromkeys(messages)))


class Explanations:
    """The maps of one source, as functions for Quantus; an image explained before is not explained again.

    Quantus explains all inputs anew for each metric, so without this every column would pay for every map.
    Perturbed images are others and are explained, once for all rows of the source and all columns that ask for them.

    Attributes:
        warnings: messages that the method gave while it explained here, without repetition.
    """

    def __init__(self, source: Method, model: nn.Module, seed: int = 0, device: str = "cpu"):
        self.source, self.model, self.seed, self.device = source, model, seed, device
        self.warnings: tuple[str, ...] = ()
        self._known: dict[bytes, np.ndarray] = {}

    def add(self, inputs: np.ndarray, targets: np.ndarray, maps: np.ndarray) -> None:
        """Take over maps (N, n * C, H, W) that `explain` gave for a batch."""
        self._known.update(zip(_keys(inputs, targets), maps, strict=True))

    def maps(self, method: Method, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The maps (N, C, H, W) of a batch, of one of the rows of the source."""
        keys = _keys(inputs, targets)
        if not all(key in self._known for key in keys):
            explained = explain(self.source, self.model, inputs, targets, self.seed, self.device)
            self.warnings = tuple(dict.fromkeys((*self.warnings, *explained.warnings)))
            self.add(inputs, targets, explained.maps)
        return part(method, np.stack([self._known[key] for key in keys]))

    def function(self, method: Method, channels: int) -> Callable[..., np.ndarray]:
        """A function with `quantus.explain`'s signature: maps with their channels summed (1) or kept (any other)."""

        def explain_by_quantus(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
            maps = self.maps(method, inputs, targets)
            return maps.sum(axis=1, keepdims=True) if channels == 1 else maps

        return explain_by_quantus


def part(method: Method, maps: np.ndarray) -> np.ndarray:
    """A row's own maps (N, C, H, W), as a copy, of those of its source (N, n * C, H, W)."""
    i, n = method.part
    size = maps.shape[1] // n
    return maps[:, i * size : (i + 1) * size].copy()


def evaluate(
    explanations: Explanations, method: Method, judge: Judge, inputs: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """The scores (N,) of a method's explanations of inputs (N, C, H, W), by `quantus.evaluate`.

    The metric's draws follow from the seed, the metric and the images, so they are the same for every method.

    Raises:
        Exception: what the method or the metric raises.
    """
    metric = _Remembering(judge.make())
    try:
        with (
            seeded(explanations.seed, judge.stream, np.ascontiguousarray(inputs).tobytes()),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            scores = quantus.evaluate(
                metrics={judge.name: metric},
                xai_methods={method.name: explanations.function(method, judge.channels or method.channels)},
                model=explanations.model,
                x_batch=inputs,
                y_batch=targets,
                explain_func_kwargs={"device": explanations.device},
                call_kwargs={"on device": {"device": explanations.device}},
            )
    except Exception as error:
        raise metric.error or error from None
    return per_image(scores[method.name][judge.name], len(inputs))


def _keys(inputs: np.ndarray, targets: np.ndarray) -> list[bytes]:
    return [
        hashlib.sha256(np.ascontiguousarray(x, dtype=np.float32).tobytes() + f" {int(y)}".encode()).digest()
        for x, y in zip(inputs, targets, strict=True)
    ]


class _Remembering:
    """A metric that keeps its exception: `quantus.evaluate` swallows it and then fails with an unrelated KeyError."""

    def __init__(self, metric: Callable[..., Any]):
        self.metric = metric
        self.error: Exception | None = None

    def __call__(self, **kwargs: Any) -> Any:
        try:
            return self.metric(**kwargs)
        except Exception as error:
            self.error = error
            raise
