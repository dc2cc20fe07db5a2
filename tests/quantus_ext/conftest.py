import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

matplotlib.use("agg")


class Counting(nn.Module):
    """A model that notes how many rows each forward had, and keeps them."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        self.rows = []
        self.seen = []
        self.eval()

    def forward(self, x):
        self.rows.append(len(x))
        self.seen.append(x.detach().clone())
        return self.model(x)


@pytest.fixture
def counting():
    return Counting


@pytest.fixture
def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(36, 5)
    )
    return model.eval()


@pytest.fixture
def images():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4, 3, 6, 7)).astype(np.float32)
    y = np.array([0, 3, 1, 4])
    a = rng.normal(size=(4, 3, 6, 7))
    return x, y, a


@pytest.fixture
def tabular():
    torch.manual_seed(0)
    rng = np.random.default_rng(1)
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).eval()
    return model, rng.normal(size=(3, 5)).astype(np.float32), np.array([0, 1, 2]), rng.normal(size=(3, 5))
