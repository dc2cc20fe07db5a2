import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d
from torch import nn

from benchmarks.methods.blur_ig import blur_ig
from benchmarks.methods.outputs import probability
from benchmarks.methods.spectral_ig import spectral_ig
from benchmarks.run.counting import Counted


@pytest.fixture
def smooth_model():
    """Four classes, of a network without kinks."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softplus(), nn.Flatten(), nn.Linear(4 * 6 * 5, 4))
    return model.double().eval().requires_grad_(False)


@pytest.fixture
def x():
    return torch.randn(1, 3, 8, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def literal(model, points, middles, target):
    """The sum over steps of the gradient in their middle times the step."""
    total = 0
    for before, middle, after in zip(points, middles, points[1:], strict=False):
        middle = middle.clone().requires_grad_()
        model(middle[None]).softmax(1)[0, target].backward()
        total = total + middle.grad * (after - before)
    return total.numpy()


def blurred(x, sigma):
    """By scipy, axis by axis."""
    found = x[0].numpy()
    for axis in (1, 2) if sigma else ():
        found = gaussian_filter1d(found, sigma, axis, mode="reflect", truncate=4.0)
    return torch.from_numpy(found)


def test_blur_ig_step_by_step(smooth_model, x):
    largest = 0.25 * 8
    points = [blurred(x, largest * (1 - j / 5)) for j in range(6)]
    middles = [blurred(x, largest * (1 - (j + 0.5) / 5)) for j in range(5)]
    found = blur_ig(smooth_model, x, 2, n_steps=5, largest=0.25, rows=2)
    assert found[0].numpy() == pytest.approx(literal(smooth_model, points, middles, 2), abs=1e-12)


def test_spectral_ig_step_by_step(smooth_model, x):
    baseline = torch.full_like(x, 0.3)

    def at(t, overlap=0.4):
        channels = []
        for channel in (x - baseline)[0].numpy():
            u, s, vh = np.linalg.svd(channel, full_matrices=False)
            total = np.zeros_like(channel)
            for i in range(len(s)):
                begins = (1 - overlap) * (1 - s[i] / s[0])
                total += min(max((t - begins) / overlap, 0), 1) * s[i] * np.outer(u[:, i], vh[i])
            channels.append(total)
        return baseline[0] + torch.from_numpy(np.stack(channels))

    points, middles = [at(j / 5) for j in range(6)], [at((j + 0.5) / 5) for j in range(5)]
    assert torch.allclose(points[0], baseline[0]) and torch.allclose(points[-1], x[0])
    found = spectral_ig(smooth_model, x, 1, baseline, n_steps=5, rows=3)
    assert found[0].numpy() == pytest.approx(literal(smooth_model, points, middles, 1), abs=1e-12)


def test_with_one_share_for_all_components_the_spectral_path_is_straight(smooth_model, x):
    found = spectral_ig(smooth_model, x, 1, n_steps=4, overlap=1.0)
    points, middles = [x[0] * j / 4 for j in range(5)], [x[0] * (j + 0.5) / 4 for j in range(4)]
    assert found[0].numpy() == pytest.approx(literal(smooth_model, points, middles, 1), abs=1e-12)


@pytest.mark.parametrize("explain", [blur_ig, spectral_ig])
def test_a_map_sums_to_the_rise_of_the_probability(smooth_model, x, explain):
    start = blurred(x, 0.2 * 8)[None] if explain is blur_ig else torch.zeros_like(x)
    rise = float(probability(smooth_model, x, 0) - probability(smooth_model, start, 0))
    errors = [abs(float(explain(smooth_model, x, 0, n_steps=n).sum()) - rise) for n in (20, 200)]
    assert errors[1] < 1e-3 * abs(rise) and errors[1] < errors[0] / 5


def test_the_gradients_are_as_many_as_the_steps_in_bounded_passes(smooth_model, x):
    for explain in (blur_ig, spectral_ig):
        counted = Counted(smooth_model)
        found = explain(counted, x, 0, n_steps=23, rows=5)
        assert counted.counter.evaluations() == (23, 0) and counted.counter.largest == 5
        assert torch.allclose(found, explain(smooth_model, x, 0, n_steps=23, rows=100), atol=1e-12)


def test_an_image_of_one_colour_has_no_map(smooth_model):
    flat = torch.zeros(1, 3, 8, 7, dtype=torch.float64)
    for explain in (blur_ig, spectral_ig):
        assert torch.equal(explain(smooth_model, flat, 0, n_steps=3), flat)
