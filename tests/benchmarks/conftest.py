import numpy as np
import pytest
import torch
from torch import nn


@pytest.fixture(scope="session")
def tiny_model():
    """A convolutional network for 3x32x32 and 10 classes, with fixed random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def tiny_batch(tiny_model):
    """Three noise images and the classes that the tiny model gives them."""
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x.numpy(), np.asarray(tiny_model(x).argmax(1))


@pytest.fixture(scope="session")
def references():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
