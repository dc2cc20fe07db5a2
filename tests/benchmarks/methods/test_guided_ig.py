import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods.guided_ig import guided_ig
from benchmarks.run.counting import Counted


def literal(gradient, x, baseline, n_steps, fraction, radius):
    """In the pixels' own values, element by element, as the algorithm is written down."""
    z, result = baseline.copy(), np.zeros_like(x)
    n = len(x)
    whole = sum(abs(x[i] - baseline[i]) for i in range(n))
    for t in range(1, n_steps + 1):
        g = gradient(z)
        old = z.copy()
        low, high = max(t / n_steps - radius, 0), min(t / n_steps + radius, 1)
        least, most = (baseline + a * (x - baseline) for a in (low, high))
        for i in range(n):
            if abs(z[i] - baseline[i]) < abs(least[i] - baseline[i]):
                z[i] = least[i]
        while True:
            missing = sum(abs(x[i] - z[i]) for i in range(n)) - whole * (1 - t / n_steps)
            if missing <= 1e-9 * whole:
                break
            free = [i for i in range(n) if x[i] != baseline[i] and abs(z[i] - most[i]) > 1e-12]
            limit = np.quantile([abs(g[i]) if i in free else np.inf for i in range(n)], fraction, method="lower")
            chosen = [i for i in free if abs(g[i]) <= limit]
            gamma = missing / sum(abs(most[i] - z[i]) for i in chosen)
            for i in chosen:
                z[i] += min(gamma, 1) * (most[i] - z[i])
            if gamma <= 1:
                break
        result += g * (z - old)
    return result


@pytest.fixture
def small():
    """A smooth model of 2 x 3 x 4 inputs, float64; an image one of whose pixels is the baseline's."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(24, 8), nn.Tanh(), nn.Linear(8, 3)).double()
        x, baseline = torch.randn(1, 2, 3, 4).double(), torch.randn(1, 2, 3, 4).double()
    x[0, 0, 0, 0] = baseline[0, 0, 0, 0]
    return model, x, baseline


@pytest.mark.parametrize("fraction", [0.1, 0.25, 1.0])
@pytest.mark.parametrize("radius", [0.0, 0.05, 1.0])
def test_it_is_the_algorithm(small, fraction, radius):
    model, x, baseline = small

    def gradient(z):
        point = torch.from_numpy(z.reshape(x.shape)).requires_grad_()
        model(point).softmax(1)[0, 1].backward()
        return point.grad.numpy().ravel()

    found = guided_ig(model, x, 1, baseline, n_steps=11, fraction=fraction, radius=radius)
    wanted = literal(gradient, x.numpy().ravel(), baseline.numpy().ravel(), 11, fraction, radius)
    assert found.numpy().ravel() == pytest.approx(wanted, rel=1e-7, abs=1e-12)


def test_without_leeway_it_is_integrated_gradients(small):
    model, x, baseline = small
    points = (baseline + torch.arange(7).double().view(-1, 1, 1, 1) / 7 * (x - baseline)).requires_grad_()
    model(points).softmax(1)[:, 2].sum().backward()
    wanted = (points.grad.mean(0, keepdim=True) * (x - baseline)).detach()
    assert guided_ig(model, x, 2, baseline, n_steps=7, radius=0) == pytest.approx(wanted, rel=1e-9)


def test_it_sums_to_the_rise_of_the_probability_with_many_steps(small):
    model, x, baseline = small
    rise = (model(x).softmax(1) - model(baseline).softmax(1))[0, 0]
    errors = [abs(float(guided_ig(model, x, 0, baseline, n_steps=n).sum() - rise.detach())) for n in (20, 200)]
    assert errors[1] < errors[0] / 5
    assert errors[1] < 0.01


def test_the_image_as_its_own_baseline_gets_a_map_of_zeros(small):
    model, x, _ = small
    assert torch.equal(guided_ig(model, x, 0, x, n_steps=3), torch.zeros_like(x))


def test_a_gradient_that_is_not_finite_is_refused():
    class Root(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum((1, 2, 3)).sqrt(), x.sum((1, 2, 3))], 1)

    with pytest.raises(FloatingPointError, match="step 1 of 4"):
        guided_ig(Root(), torch.ones(1, 1, 2, 2), 0, n_steps=4)


def test_what_it_takes(tiny_model, tiny_batch):
    counted = Counted(tiny_model)
    guided_ig(counted, torch.from_numpy(tiny_batch[0][:1]), 0, n_steps=6)
    assert counted.counter.evaluations() == (6, 0)
    assert counted.counter.largest == 1
