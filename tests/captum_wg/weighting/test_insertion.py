"""D_alpha by insertion, against a literal search."""

from __future__ import annotations

import pytest
import torch

from captum_wg import Insertion

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def insertion_one(score, x, heat, alpha=0.5, tolerance=0.01, neutral=0.0):
    """The least number of elements of x, the highest of heat first, that an input of neutral values needs back."""
    order = sorted(range(x.numel()), key=lambda i: (-heat[i].item(), i))
    with torch.no_grad():
        goal = alpha * score(x.unsqueeze(0)).item()
        low, high, answer = 1, x.numel(), x.numel()
        while low <= high:
            middle = (low + high) // 2
            built = torch.full_like(x, neutral)
            built[order[:middle]] = x[order[:middle]]
            reached = score(built.unsqueeze(0)).item()
            if tolerance > 0 and abs(reached - goal) <= tolerance * goal / alpha:
                return middle
            if reached >= goal:
                answer, high = middle, middle - 1
            else:
                low = middle + 1
    return answer


@pytest.mark.parametrize("tolerance", [0.0, 0.01, 0.2])
@pytest.mark.parametrize("alpha", [0.5, 0.8])
def test_insertion_is_the_literal_search(make_net, draw, integrated_gradients, fitness_of, alpha, tolerance):
    own = make_net(10)
    # All classes are alike where every feature is removed.
    net = lambda x: 30 * (own(x) - own(torch.full_like(x, -0.2)))  # noqa: E731
    x, references = draw(4, 10), draw(3, 10, seed=1)
    target = net(x).argmax(1).tolist()
    weighting = Insertion(alpha=alpha, tolerance=tolerance, neutral=-0.2)
    found = fitness_of(net, x, references, target, n_steps=24, method="riemann_middle", weighting=weighting)
    assert found.dtype == torch.int64 and len(found.unique()) > 1
    for b in range(4):
        for k in range(3):
            heat = integrated_gradients(lambda p, t=target[b]: net(p)[:, t], x[b], references[k])
            score = lambda p, t=target[b]: net(p).softmax(1)[:, t]  # noqa: E731
            assert found[b, k] == insertion_one(score, x[b], heat, alpha, tolerance, -0.2)
