"""Functions to explain, small enough to check by hand, and one that records what the engine asks of it."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum_wg import ExpectedGradients
from captum_wg.engine.problem import Problem


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


@pytest.fixture(scope="session")
def micro_batches() -> Callable[[int, int, int], int]:
    """micro_batches(B, S, size): how many of that size S points of each of B examples take, whole examples together
    where they fit."""

    def count(n_examples: int, n_points: int, size: int) -> int:
        together, found = max(1, size // n_points), 0
        for first in range(0, n_examples, together):
            examples = min(together, n_examples - first)
            found += len(range(0, n_points, max(1, size // examples)))
        return found

    return count


@pytest.fixture
def record() -> type[Recorder]:
    return Recorder


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No questions before the walk, so that what it takes itself can be counted (they have a file of their own)."""
    monkeypatch.setattr(Problem, "probe", lambda problem, references: None)


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


@pytest.fixture
def rising() -> Callable[[Tensor], Tensor]:
    """A positive function that every removal of a positive feature lowers, each example and baseline differently."""

    def function(x: Tensor) -> Tensor:
        x = x.flatten(1)
        scale = torch.linspace(0.2, 2, x.shape[1], dtype=x.dtype)
        return torch.log1p((scale * x).square()).sum(1) + 0.3 * (x * x.roll(1, 1)).abs().sum(1)

    return function


@pytest.fixture
def spread(draw: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Three examples of 12 features, and five baselines whose D_alpha for `rising` differ."""
    size = torch.tensor([[0.1], [1.0], [3.0], [0.5], [6.0]], dtype=torch.float64)
    return draw(3, 12).abs() + 0.1, draw(5, 12, seed=1) * size


@pytest.fixture
def maps_of() -> Callable[..., Tensor]:
    """maps_of(f, x, references): the integrated gradients of each baseline by itself, (B, K, *feature)."""

    def maps(
        f: Callable[..., Tensor], x: Tensor, references: Tensor, n_steps: int = 50, multiply: bool = True
    ) -> Tensor:
        single = ExpectedGradients(f, multiply)
        return torch.stack([single.attribute(x, r.unsqueeze(0), n_steps=n_steps) for r in references], 1)

    return maps


@pytest.fixture(scope="session")
def search_one():
    """Algorithm 1 for one example and one baseline; curve(k) is the score with k features removed."""

    def search(curve, start, n_features, alpha=0.5, tolerance=0.01, max_iterations=100):
        low, high, answer = 1, n_features, n_features
        for _ in range(max_iterations):
            if low > high:
                break
            middle = (low + high) // 2
            score = curve(middle)
            if tolerance > 0 and abs(score - alpha * start) <= tolerance * start:
                return middle
            if score <= alpha * start:
                answer, high = middle, middle - 1
            else:
                low = middle + 1
        return answer

    return search


class Classifier(nn.Module):
    """A small smooth classifier of any number of inputs of any shapes; counts the rows that it has gradients of."""

    def __init__(self, *features: tuple[int, ...], columns: int = 3, dtype: torch.dtype = torch.float64):
        super().__init__()
        n = sum(math.prod(f) for f in features)
        generators = [torch.Generator().manual_seed(seed) for seed in (100, 101)]
        first = torch.randn((n, 5), generator=generators[0], dtype=torch.float64) / n**0.5
        second = torch.randn((5, columns), generator=generators[1], dtype=torch.float64)
        self.first, self.second = nn.Parameter(first.to(dtype)), nn.Parameter(second.to(dtype))
        self.rows: list[int] = []

    def forward(self, *inputs: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self.rows.append(len(inputs[0]))
        flat = torch.cat([x.reshape(len(x), -1) for x in inputs], 1)
        return torch.tanh(flat @ self.first) @ self.second


@pytest.fixture(scope="session")
def classifier() -> type[Classifier]:
    return Classifier
