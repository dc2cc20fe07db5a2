import pytest
import torch

from captum_wg import ExpectedGradients
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.weighting.masking import Features
from captum_wg.weighting.removal_scores import removal_scores

TARGETS = [0, 2, 1]


@pytest.fixture
def net(classifier):
    return classifier((2, 3, 4))


@pytest.fixture
def x(draw):
    return draw(3, 2, 3, 4)


def problem(net, x, target=TARGETS, size=None):
    return Problem(net, input_gradients, x, target, None, size)


@pytest.mark.parametrize("size", [None, 1, 5])
@pytest.mark.parametrize("own", [False, True])
def test_each_set_is_removed_by_itself(net, x, own, size):
    sets = torch.rand(3, 7, 12, generator=torch.Generator().manual_seed(0)) < 0.3
    found = removal_scores(problem(net, x, size=size), Features((x,)), sets if own else sets[0], 0.5, "softmax")
    for i, target in enumerate(TARGETS):
        with torch.no_grad():
            assert found.before[i] == pytest.approx(float(net(x[i : i + 1]).softmax(1)[0, target]))
            for s in range(7):
                masked = x[i].clone()
                masked[:, sets[i if own else 0, s].view(3, 4)] = 0.5
                assert found.after[i, s] == pytest.approx(float(net(masked[None]).softmax(1)[0, target]))
    torch.testing.assert_close(found.drops, found.before[:, None] - found.after)


def test_a_neutral_value_of_each_example_and_a_probed_model(net, x):
    made, _ = ExpectedGradients(net)._problem(x, None, TARGETS, None, None, None, False)
    found = removal_scores(made, Features((x,)), torch.ones(1, 12, dtype=torch.bool), "mean", "identity")
    means = x.mean((2, 3), keepdim=True).expand_as(x)
    with torch.no_grad():
        torch.testing.assert_close(found.after[:, 0], net(means)[torch.arange(3), TARGETS])


def test_outputs_that_are_not_finite_are_named(x):
    def f(z):
        return 1 / z.flatten(1).abs().sum(1)

    sets = torch.zeros(3, 2, 12, dtype=torch.bool)
    sets[1, 1] = True
    with pytest.raises(ValueError, match="NaN or infinite for examples 1 or masked copies"):
        removal_scores(problem(f, x, None), Features((x,)), sets, 0.0)
