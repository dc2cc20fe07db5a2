"""A small set of pictures, networks for them, and what to do with both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

N = 22


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(N, 3, 5, 4, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(N) % 3


@pytest.fixture
def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 3 * 2, 3)).eval()


@pytest.fixture
def load(pictures: Tensor, labels: Tensor) -> Callable[..., DataLoader]:
    """load(batch_size, ...): a loader of (picture, label)."""

    def make(batch_size: int = 5, **options: object) -> DataLoader:
        return DataLoader(TensorDataset(pictures, labels), batch_size, **options)

    return make


@pytest.fixture
def contents() -> Callable[[Path], dict[str, bytes]]:
    """contents(folder): its files, by name."""
    return lambda folder: {path.name: path.read_bytes() for path in folder.iterdir()}
