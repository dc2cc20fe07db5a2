"""One cell of the table: a method judged by a metric on some images, through an unchanged `quantus.evaluate`.

Plain functions of what they are given, so that any runner (this process, a pool, a queue) can work off cells.
"""

from __future__ import annotations

import contextlib
import io
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import quantus
from torch import nn

from benchmarks.judges import Judge, per_image
from benchmarks.methods import Method
from benchmarks.randomness import seeded


@dataclass(frozen=True)
class Cell:
    """The scores (N,) of one method under one metric, or the reason why there are none."""

    method: str
    judge: str
    scores: np.ndarray | None = None
    reason: str | None = None


Store = dict[tuple[str, bytes, bytes], tuple[np.ndarray, float]]


class Explanations:
    """One method's maps of one model, as functions for Quantus; a batch explained before is not explained again.

    Quantus explains all inputs anew for each metric, so without this every column would pay for every map.
    A perturbed batch is another batch and is explained. The draws of a method that uses the global generators
    follow from the batch alone: they differ between batches, repeat between runs and move no generator.

    Args:
        store: where maps are kept. Rows of one source given the same store are computed once for all of them.

    Attributes:
        warnings: messages that the method gave, without repetition.
    """

    def __init__(
        self, method: Method, model: nn.Module, seed: int = 0, device: str = "cpu", store: Store | None = None
    ):
        self.method, self.model, self.seed, self.device = method, model, seed, device
        self.warnings: list[str] = []
        self._store: Store = {} if store is None else store

    def maps(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """The maps (N, C, H, W) of a batch."""
        maps, _ = self._explained(inputs, targets)
        i, n = self.method.part
        size = maps.shape[1] // n
        return maps[:, i * size : (i + 1) * size].copy()

    def seconds_per_image(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """How long the explanation of a batch took when it was computed, divided by its size."""
        _, seconds = self._explained(inputs, targets)
        return seconds / len(inputs)

    def function(self, channels: int) -> Callable[..., np.ndarray]:
        """A function with `quantus.explain`'s signature: maps with their channels summed (1) or kept (any other)."""

        def explain(model: Any, inputs: np.ndarray, targets: np.ndarray, **_: Any) -> np.ndarray:
            maps = self.maps(inputs, targets)
            return maps.sum(axis=1, keepdims=True) if channels == 1 else maps

        return explain

    def _explained(self, inputs: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, float]:
        inputs = np.ascontiguousarray(inputs, dtype=np.float32)
        key = self.method.source, inputs.tobytes(), np.asarray(targets).tobytes()
        if key not in self._store:
            with seeded(self.seed, *key), warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                started = time.perf_counter()
                maps = np.asarray(self.method.explain(self.model, inputs, targets, device=self.device))
                self._store[key] = maps, time.perf_counter() - started
            self._remember(caught)
        return self._store[key]

    def _remember(self, caught: list[warnings.WarningMessage]) -> None:
        for warning in caught:
            message = " ".join(str(warning.message).split())
            if message not in self.warnings:
                self.warnings.append(message)


def run_cell(
    explanations: Explanations,
    judge: Judge,
    inputs: np.ndarray,
    targets: np.ndarray,
    seed: int = 0,
) -> Cell:
    """Judge the explanations of inputs (N, C, H, W) by `quantus.evaluate`; a failure becomes the cell's reason."""
    method = explanations.method
    channels = judge.channels or method.channels
    metric = _Remembering(judge.make())
    try:
        with seeded(seed, judge.stream), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            scores = quantus.evaluate(
                metrics={judge.name: metric},
                xai_methods={method.name: explanations.function(channels)},
                model=explanations.model,
                x_batch=inputs,
                y_batch=targets,
                explain_func_kwargs={"device": explanations.device},
                call_kwargs={"on device": {"device": explanations.device}},
            )
        return Cell(method.name, judge.name, per_image(scores[method.name][judge.name], len(inputs)))
    except Exception as error:  # whatever a method or a metric raises is an entry of the table, not its end
        return Cell(method.name, judge.name, reason=describe(metric.error or error))


def describe(error: BaseException) -> str:
    """An exception in one line."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"


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
