"""A small network whose ReLUs are modules, images that it tells apart, and references."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


class Net(nn.Module):
    """Notes the rows that it has with gradients and without."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu = nn.Conv2d(3, 4, 3), nn.ReLU()
        self.pool, self.last = nn.AvgPool2d(4), nn.Linear(4 * 4 * 4, 3)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.randn(p.shape, generator=generator) / 2)
        self.graded = self.plain = 0
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.graded += len(x)
        else:
            self.plain += len(x)
        return self.last(self.pool(self.relu(self.first(x))).flatten(1))


@pytest.fixture
def net() -> Net:
    return Net()


@pytest.fixture(scope="session")
def images() -> Tensor:
    return torch.randn(5, 3, 18, 18, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def references() -> Tensor:
    return torch.randn(70, 3, 18, 18, generator=torch.Generator().manual_seed(2))
