from __future__ import annotations

import pytest
import torch
from captum._utils.gradient import compute_gradients
from torch import nn

from captum_wg.engine.gradient import Differentiated, input_gradients


@pytest.mark.parametrize("target", [1, torch.tensor(1), torch.tensor([0, 2, 1]), [0, 2, 1], (1,), [(0,), (2,), (1,)]])
def test_gradients_are_captums(make_net, draw, target):
    net, x = make_net(4), draw(3, 4).requires_grad_()
    (expected,) = compute_gradients(net, (x,), target)
    (found,) = input_gradients(net, x, target)
    torch.testing.assert_close(found, expected)


def test_gradients_are_captums_for_tuples_and_further_arguments(draw):
    x, y, w = draw(3, 4).requires_grad_(), draw(3, 2, seed=1).requires_grad_(), draw(3, seed=2)
    f = lambda x, y, w, power: (x.sum(1) * y.sum(1)) ** power * w  # noqa: E731
    expected = compute_gradients(f, (x, y), None, (w, 3))
    found = input_gradients(f, (x, y), None, (w, 3))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


def test_one_further_argument_needs_no_tuple(draw):
    x = draw(3, 4).requires_grad_()
    assert torch.equal(input_gradients(lambda x, w: (x * w).sum(1), x, None, 2.0)[0], torch.full_like(x, 2.0))


def test_an_unused_element_has_none(draw):
    x, y = draw(3, 4).requires_grad_(), draw(3, 2).requires_grad_()
    gx, gy = input_gradients(lambda x, y: x.sum(1), (x, y))
    assert (gx == 1).all() and gy is None


def test_an_output_without_a_gradient_at_these_points_has_none(draw):
    x, w = draw(3, 4).requires_grad_(), nn.Parameter(torch.ones(3, dtype=torch.float64))
    for f in (lambda x: x.detach().sum(1), lambda x: torch.zeros(len(x)), lambda x: w * 2):
        assert input_gradients(f, x) == (None,)


def test_the_function_may_write_into_what_it_is_given(draw):
    x = draw(3, 4).requires_grad_()
    before = x.detach().clone()
    (found,) = input_gradients(lambda x: x.mul_(2).sum(1), x)
    assert torch.equal(found, torch.full_like(x, 2.0)) and torch.equal(x.detach(), before)


def test_a_cudnn_rnn_in_eval_mode_is_explained(draw):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("cudnn RNN backward can only be called in training mode")

    with pytest.raises(RuntimeError, match="put the RNN modules alone into train mode"):
        input_gradients(Fails.apply, draw(3, 4).requires_grad_())


def test_other_errors_of_backward_pass_through(draw):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.sum(1)

        @staticmethod
        def backward(ctx, g):
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match=r"^out of memory"):
        input_gradients(Fails.apply, draw(3, 4).requires_grad_())


def test_what_is_differentiated_is_seen_and_not_done(draw):
    x = draw(3, 4).requires_grad_()
    with Differentiated() as seen:
        for ask in (
            lambda: torch.autograd.grad(x.sum(1).unbind(), x),
            lambda: torch.autograd.grad(outputs=x.prod(1), inputs=(x,), grad_outputs=torch.ones(3)),
        ):
            (found,) = ask()
            assert torch.equal(found, torch.zeros_like(x))
    torch.testing.assert_close(
        torch.cat([v.detach().reshape(-1) for v in seen.outputs]), torch.cat([x.sum(1), x.prod(1)])
    )
    assert x.grad is None
    with Differentiated() as another:
        pass
    assert another.outputs == ()


def test_gradients_with_a_graph_are_differentiated_once_more():
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([2.0, -3.0], dtype=torch.float64, requires_grad=True)
    (gradient,) = input_gradients(lambda z: (weight * z**3).sum(1), x, create_graph=True)
    second = torch.autograd.grad(gradient.sum(), (x, weight))
    torch.testing.assert_close(second, (6 * weight.detach() * x.detach(), (3 * x.detach() ** 2).sum(0)))
    (plain,) = input_gradients(lambda z: (weight * z**3).sum(1), x)
    assert torch.equal(plain, gradient) and not plain.requires_grad
