import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods.idgi import idgi
from benchmarks.run.counting import Counted


def literal(model, x, target, baseline, n_steps):
    """Algorithm 1, one point after another."""
    result = np.zeros(x.shape)
    for j in range(n_steps):
        here = (baseline + j / n_steps * (x - baseline)).double().requires_grad_()
        there = (baseline + (j + 1) / n_steps * (x - baseline)).double()
        p = model(here).softmax(1)[0, target]
        p.backward()
        g = here.grad.numpy()
        d = float(model(there).softmax(1)[0, target] - p)
        result += g * g * d / (g * g).sum()
    return result


@pytest.mark.parametrize("rows", [1, 4, 50])
def test_it_is_algorithm_1(tiny_model, tiny_batch, rows):
    x, y = torch.from_numpy(tiny_batch[0][:1]).double(), int(tiny_batch[1][0])
    baseline = torch.full_like(x, 0.3)
    found = idgi(tiny_model.double(), x, y, baseline, n_steps=9, rows=rows)
    assert found.numpy() == pytest.approx(literal(tiny_model, x, y, baseline, 9), rel=1e-9, abs=1e-15)


def test_the_map_sums_to_the_rise_of_the_probability_whatever_the_steps(tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    rise = (tiny_model(x).softmax(1) - tiny_model(torch.zeros_like(x)).softmax(1))[0, y]
    for n_steps in (1, 3, 20):
        assert idgi(tiny_model, x, y, n_steps=n_steps).sum() == pytest.approx(float(rise), rel=1e-4)


def test_a_step_without_gradient_gives_nothing():
    class Flat(nn.Module):
        def forward(self, x):
            return torch.stack([x.sum((1, 2, 3)).clamp(min=1), torch.ones(len(x))], 1)

    found = idgi(Flat(), torch.ones(1, 1, 2, 2), 0, n_steps=8)
    assert found.isfinite().all()
    assert (found > 0).all()
    assert torch.equal(idgi(Flat(), torch.full((1, 1, 2, 2), 0.1), 0, n_steps=8), torch.zeros(1, 1, 2, 2))


def test_what_it_takes(tiny_model, tiny_batch):
    counted = Counted(tiny_model)
    idgi(counted, torch.from_numpy(tiny_batch[0][:1]), 0, n_steps=20, rows=8)
    assert counted.counter.evaluations() == (21, 0)
    assert counted.counter.largest == 8
