import numpy as np
import pytest
import torch

from benchmarks.methods import bee as module
from benchmarks.methods.bee import KINDS, bee
from captum_wg.weighting.masking import neutral_values

SETTINGS = dict(n_steps=3, levels=4)


@pytest.fixture
def x(tiny_batch):
    return torch.from_numpy(tiny_batch[0][:1])


def deletion(model, x, target, found, levels=4):
    """The mean probability with the highest ranked pixels replaced by the corners, by hand."""
    order = np.argsort(-found.sum(1).flatten().numpy(), kind="stable")
    neutral = neutral_values((x,), "corners")[0]
    outputs = []
    for level in range(1, levels + 1):
        gone = torch.zeros(1024, dtype=torch.bool)
        gone[torch.from_numpy(order[: round(level / levels * 1024)].copy())] = True
        outputs.append(float(model(torch.where(gone.view(1, 1, 32, 32), neutral, x)).softmax(1)[0, target]))
    return np.mean(outputs)


def test_bandit_by_hand(tiny_model, x, references):
    """The same draws in a loop that is written out: Beta posteriors, rewards by rank, the best map."""
    nodes, weights = np.polynomial.legendre.leggauss(3)
    draws = np.random.default_rng(4)
    counts, scores, maps = [[1, 1] for _ in KINDS], [], []
    for _ in range(6):
        chances = draws.beta([won for won, _ in counts], [lost for _, lost in counts])
        kind = int(np.argmax(chances))
        start = KINDS[kind](x, references, draws)
        total = torch.zeros_like(x)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            point = (start + node * (x - start)).float().requires_grad_()
            (gradient,) = torch.autograd.grad(tiny_model(point)[0, 5], point)
            total += weight * gradient * (x - start)
        score = deletion(tiny_model, x, 5, total)
        rank = sum(score <= s for s in scores) / len(scores) if scores else 1
        counts[kind][0 if draws.random() < rank else 1] += 1
        scores.append(score)
        maps.append(total)
    found = bee(tiny_model, x, 5, references, n_draws=6, generator=np.random.default_rng(4), **SETTINGS)
    assert torch.allclose(found, maps[int(np.argmin(scores))], atol=1e-5)
    assert len(set(scores)) == 6


def test_more_draws_are_never_worse(tiny_model, x, references):
    scores = [
        deletion(
            tiny_model,
            x,
            5,
            bee(tiny_model, x, 5, references, n_draws=n, generator=np.random.default_rng(1), **SETTINGS),
        )
        for n in (1, 4, 12)
    ]
    assert scores == sorted(scores, reverse=True) and scores[-1] < scores[0]


def test_a_kind_that_wins_is_tried_more_often(tiny_model, x, references, monkeypatch):
    tried = []

    def kind(number):
        def make(x, references, generator):
            tried.append(number)
            # Of a baseline that is the image itself nothing is left to explain but noise of rounding.
            return references[:1] if number == 2 else x + 0.01 * torch.randn(x.shape, generator=seeds)

        return make

    seeds = torch.Generator().manual_seed(0)
    monkeypatch.setattr(module, "KINDS", tuple(map(kind, range(5))))
    bee(tiny_model, x, 5, x[:1] * 0, n_draws=60, generator=np.random.default_rng(0), **SETTINGS)
    assert np.bincount(tried, minlength=5).argmax() == 2


def test_baselines_of_each_kind(x, references):
    normal, uniform, blur, constant, reference = (
        kind(x, references, np.random.default_rng(i)) for i, kind in enumerate(KINDS)
    )
    low, high = x.amin((2, 3)), x.amax((2, 3))
    assert all(b.shape == x.shape for b in (normal, uniform, blur, constant, reference))
    assert torch.allclose(normal.mean((2, 3)), x.mean((2, 3)), atol=0.15)
    assert torch.allclose(normal.std((2, 3)), x.std((2, 3)), rtol=0.15)
    for one in (uniform, constant):
        assert (one.amin((2, 3)) >= low).all() and (one.amax((2, 3)) <= high).all()
    assert torch.equal(constant.amin((2, 3)), constant.amax((2, 3))) and uniform.std() > 1
    assert blur.std() < x.std() / 2
    assert any(torch.equal(reference[0], one) for one in references)
