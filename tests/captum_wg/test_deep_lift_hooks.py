import pytest
import torch
import torch.nn.functional as F
from torch import nn

from captum_wg.deep_lift_hooks import uses


class Net(nn.Module):
    """A step between two linear layers."""

    def __init__(self, step, **modules):
        super().__init__()
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 2)
        for name, module in modules.items():
            self.add_module(name, module)
        self.step = step

    def forward(self, x):
        return self.last(self.step(self, self.first(x)))


def seen(net):
    return uses(net, lambda: net(torch.ones(2, 4, requires_grad=True) * 1))


@pytest.mark.parametrize(
    "step, name",
    [
        (lambda net, h: F.relu(h), "relu"),
        (lambda net, h: h.clone().relu_(), "relu"),
        (lambda net, h: torch.tanh(h), "tanh"),
        (lambda net, h: h.clamp(min=0), "clamp"),
        (lambda net, h: h * h, "mul"),
        (lambda net, h: h / (2 + h.mean()), "div"),
        (lambda net, h: 1 / h, "rdiv"),
        (lambda net, h: h**2, "pow"),
        (lambda net, h: F.softmax(input=h, dim=1), "softmax"),
        (lambda net, h: F.scaled_dot_product_attention(h[None], h[None], h[None])[0], "scaled_dot_product_attention"),
        (lambda net, h: F.max_pool1d(h[:, None], 3, 1, 1)[:, 0], "max_pool1d"),
        (lambda net, h: (h @ h.T) @ h, "matmul"),
    ],
)
def test_functions_without_a_module(step, name):
    found = seen(Net(step))
    assert found.gaps == [f"the model (Net) calls {name}"]
    assert found.reused == []


@pytest.mark.parametrize(
    "step", [lambda net, h: h + h.mean() * 2, lambda net, h: h * torch.full((6,), 3.0), lambda net, h: net.act(h)]
)
def test_what_is_linear_or_known_is_not_named(step):
    assert seen(Net(step, act=nn.ReLU())) == ([], [])


def test_modules_by_their_names():
    def step(net, h):
        return net.block(h)

    class MyReLU(nn.ReLU):
        pass

    block = nn.Sequential(nn.GELU(), nn.Sequential(nn.LayerNorm(6), MyReLU()), nn.Tanh())
    assert seen(Net(step, block=block)).gaps == [
        "block.0 (GELU) calls gelu",
        "block.1.0 (LayerNorm) calls layer_norm",
        "block.1.1 (MyReLU) calls relu",
    ]
    block[2].register_full_backward_hook(lambda *args: None)
    assert seen(Net(step, block=block)).gaps[-1] == "block.2 (Tanh) has a backward hook already"


def test_rules_that_are_not_exact():
    net = Net(lambda net, h: net.soft(net.pool(h[:, None])[:, 0]), pool=nn.MaxPool1d(3, 1, 1), soft=nn.Softmax(1))
    assert seen(net).gaps == ["pool (MaxPool1d) has no exact rule", "soft (Softmax) has no exact rule"]


def test_modules_used_twice():
    net = Net(lambda net, h: net.act(net.act(h) - 1), act=nn.ReLU())
    assert seen(net) == ([], ["act (ReLU) is used 2 times"])


def test_leaves_nothing_behind():
    net = Net(lambda net, h: net.act(h), act=nn.ReLU())

    def fails():
        raise KeyError("the model's own")

    seen(net)
    with pytest.raises(KeyError):
        uses(net, fails)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in net.modules())
