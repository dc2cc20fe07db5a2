"""Functions to explain, small enough to check by hand, and one that records what the engine asks of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


class Recorder:
    """A function that notes how many rows each call had, with gradients (`graded`) or without (`plain`)."""

    def __init__(self, function: Callable[..., Tensor]):
        self.function = function
        self.graded: list[int] = []
        self.plain: list[int] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        (self.graded if torch.is_grad_enabled() else self.plain).append(len(inputs[0]))
        return self.function(*inputs)

    @property
    def sizes(self) -> list[int]:
        return self.graded + self.plain


@pytest.fixture
def record() -> type[Recorder]:
    return Recorder


@pytest.fixture
def make_net() -> Callable[..., nn.Module]:
    """make_net(features, outputs): a smooth network in float64, the same for the same sizes."""

    def make(features: int, outputs: int = 3, hidden: int = 8, seed: int = 0) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = nn.Sequential(
                nn.Flatten(), nn.Linear(features, hidden), nn.Tanh(), nn.Linear(hidden, outputs)
            ).double()
        return net.eval()

    return make


@pytest.fixture
def draw() -> Callable[..., Tensor]:
    """draw(*shape, seed=0): standard normal numbers in float64 that leave the global generator alone."""

    def normal(*shape: int, seed: int = 0) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)

    return normal
