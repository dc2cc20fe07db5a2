"""What work takes: rows of forwards and of backwards, counted by a wrapper of the model, and seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass
class Counter:
    """Rows that went through a model.

    Attributes:
        gradients: rows for which a backward pass ran; twice if it ran twice.
        forwards: rows that went forwards only.
        largest: the most rows of one call.
    """

    gradients: int = 0
    forwards: int = 0
    largest: int = 0

    def reset(self) -> None:
        self.gradients = self.forwards = self.largest = 0

    def evaluations(self) -> tuple[int, int]:
        """(gradients, forwards)."""
        return self.gradients, self.forwards

    def __deepcopy__(self, memo: dict) -> Counter:
        # A copy of the model, as Quantus makes one, goes on counting here.
        return self


class Counted(nn.Module):
    """The model with a counter; its outputs are those of the model itself."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.counter = Counter()
        self.training = model.training

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        output = self.model(x, *args, **kwargs)
        counter, rows = self.counter, len(x)
        counter.largest = max(counter.largest, rows)
        counter.forwards += rows
        if output.requires_grad:
            forward_only = [rows]  # until the first backward of this forward begins

            def on_backward(_: Tensor) -> None:
                counter.gradients += rows
                counter.forwards -= forward_only.pop() if forward_only else 0

            output.register_hook(on_backward)
        return output


def timed(work: Callable[[], T], device: torch.device | str) -> tuple[float, T]:
    """The seconds of one call, on a GPU until what it has begun there is done, and what it returns."""
    wait = torch.cuda.synchronize if torch.device(device).type == "cuda" else lambda device: None
    wait(device)
    started = time.perf_counter()
    result = work()
    wait(device)
    return time.perf_counter() - started, result


def in_turns(names: Collection[T], repeats: int) -> Iterator[tuple[int, T]]:
    """(repeat, name): every second repeat goes backwards, so that a drift of the machine cancels."""
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed([*names]):
            yield repeat, name
