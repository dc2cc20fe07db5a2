from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer, mobilenet_v2, resnet18, shufflenet_v2_x0_5

from benchmarks.methods.hookable import Sum, hookable
from benchmarks.run.counting import Counted


class Padded(nn.Conv2d):
    """A convolution that pads by itself, as EfficientNet-Lite0's."""

    def forward(self, x):
        return F.conv2d(F.pad(x, [1, 1, 1, 1]), self.weight, self.bias)


class Awkward(nn.Module):
    """One ReLU6 used twice, a function, a sum of branches, batch norm, work in place, sizes."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = Padded(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.relu = nn.ReLU6(inplace=True)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = self.relu(self.norm(self.first(x)))
        y = self.second(x)
        y += x
        y = F.relu(y, inplace=True)
        return self.last(F.adaptive_avg_pool2d(self.relu(3 * y), 1).view(x.size(0), -1))


@pytest.fixture
def awkward():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Awkward()
        model.train()(3 * torch.randn(50, 3, 6, 6))  # so that batch norm does something
    return model.eval()


@pytest.fixture
def x():
    return 5 * torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(1))


def test_the_outputs_and_gradients_stay(awkward, x):
    copy = hookable(awkward)
    torch.testing.assert_close(copy(x), awkward(x), rtol=1e-4, atol=1e-5)
    gradients = [
        torch.autograd.grad(m(p)[:, 0].sum(), p)[0] for m in (awkward, copy) for p in [x.clone().requires_grad_()]
    ]
    assert gradients[0].abs().max() > 0.001
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_each_operation_is_a_module_used_once(awkward, x):
    calls = []
    copy = hookable(awkward)
    for module in copy.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, *_: calls.append(m))
    copy(x)
    names = [type(module).__name__ for module in calls]
    assert names == ["Padded", "ReLU", "Conv2d", "Sum", "ReLU", "ReLU", "AdaptiveAvgPool2d", "Linear"]
    assert len(set(calls)) == len(calls)
    assert not any(getattr(module, "inplace", False) for module in calls)


def test_a_relu6_is_a_relu_to_hooks_and_still_ends_at_6(awkward):
    first, *_ = [module for module in hookable(awkward).modules() if isinstance(module, nn.ReLU)]
    assert type(first) is nn.ReLU
    assert first(torch.tensor([-1.0, 3.0, 9.0])).tolist() == [0, 3, 6]


def test_the_model_itself_is_left_alone(awkward, x):
    wanted, state = awkward(x), {name: value.clone() for name, value in awkward.state_dict().items()}
    hookable(awkward)
    assert torch.equal(awkward(x), wanted)
    assert all(torch.equal(value, state[name]) for name, value in awkward.state_dict().items())


def test_the_copy_of_a_counted_model_counts_on_its_counter(awkward, x):
    counted = Counted(awkward)
    hookable(counted)(x).sum().backward()
    assert counted.counter.evaluations() == (4, 0)


def test_a_batch_norm_whose_convolution_has_another_use_is_kept():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)
            self.norm.running_mean.fill_(2.0)

        def forward(self, x):
            y = self.convolution(x)
            return (y + self.norm(y)).flatten(1)

    model, x = Both().eval(), torch.ones(1, 1, 2, 2)
    copy = hookable(model)
    torch.testing.assert_close(copy(x), model(x))
    assert any(isinstance(module, nn.BatchNorm2d) for module in copy.modules())


@pytest.mark.parametrize(
    ("make", "sums", "relus"),
    [
        (resnet18, 8, 17),
        (mobilenet_v2, 10, 35),
        (shufflenet_v2_x0_5, 0, 37),
        (partial(VisionTransformer, 32, 16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=16), 4, 0),
    ],
)
def test_networks_of_torchvision(make, sums, relus):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make()
        model.train()(torch.randn(8, 3, 32, 32))
        x = torch.randn(2, 3, 32, 32)
    copy = hookable(model.eval())
    torch.testing.assert_close(copy(x), model(x), rtol=1e-4, atol=1e-5)
    assert sum(isinstance(module, Sum) for module in copy.modules()) == sums
    assert sum(isinstance(module, nn.ReLU) for module in copy.modules()) == relus


def test_a_network_that_decides_by_its_numbers_is_refused():
    class Deciding(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"Deciding can't be followed by torch\.fx"):
        hookable(Deciding())
