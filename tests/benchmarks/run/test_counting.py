import copy
import time

import pytest
import torch

from benchmarks.run.counting import Counted, in_turns, timed


def test_the_counter_tells_forwards_from_gradients(tiny_model):
    model = Counted(tiny_model)
    x = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(x), tiny_model(x))
    assert model.counter.evaluations() == (0, 5)

    points = x[:3].clone().requires_grad_()
    output = model(points)[:, 0].sum()
    assert model.counter.evaluations() == (0, 8)  # no backward yet
    (gradient,) = torch.autograd.grad(output, points, retain_graph=True)
    assert gradient.shape == points.shape
    assert model.counter.evaluations() == (3, 5)
    torch.autograd.grad(output, points)
    assert model.counter.evaluations() == (6, 5)  # the second backward costs again, the forward does not

    copy.deepcopy(model)(x)
    assert model.counter.evaluations() == (6, 10)
    assert model.counter.largest == 5
    model.counter.reset()
    assert model.counter.evaluations() == (0, 0)


def test_work_is_timed_and_its_result_kept():
    seconds, result = timed(lambda: time.sleep(0.05) or "done", "cpu")
    assert result == "done"
    assert seconds == pytest.approx(0.05, rel=1) and seconds >= 0.05


def test_every_second_turn_goes_backwards():
    assert [*in_turns(("a", "b"), 3)] == [(0, "a"), (0, "b"), (1, "b"), (1, "a"), (2, "a"), (2, "b")]
    # Also of a dictionary's keys, whose values may change meanwhile.
    best = {1: 0, 2: 0}
    for repeat, name in in_turns(best, 2):
        best[name] += repeat
    assert best == {1: 1, 2: 1}


def test_a_counted_model_is_in_the_models_own_mode(tiny_model):
    tiny_model[1].train()  # a part by itself stays as it is
    assert not Counted(tiny_model).training and tiny_model[1].training
    assert Counted(tiny_model.train()).training
