"""Models that can be differentiated twice, and those that can't, by the name of what stands in the way."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from captum_wg.engine.double_backward import check_double_backward


class OnceCube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        return 3 * ctx.saved_tensors[0] ** 2 * gradient


class Cube(nn.Module):
    def forward(self, x, *, times=1):
        return times * OnceCube.apply(x)


class Attention(nn.Module):
    """Of a batch (B, T, 4) to itself."""

    def __init__(self):
        super().__init__()
        self.project = nn.Linear(4, 4)

    def forward(self, x):
        q = self.project(x)
        return nn.functional.scaled_dot_product_attention(q, q, q)


class Nested(nn.Module):
    """Calls with a keyword, and gives a dictionary."""

    def __init__(self):
        super().__init__()
        self.body = nn.ModuleDict({"first": nn.Linear(4, 4), "cube": Cube()})

    def forward(self, x):
        return {"logits": self.body["cube"](self.body["first"](x), times=2), "name": "nested"}


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(nn.Linear(4, 3), Cube()), r"in 1 \(Cube\): trying to differentiate twice"),
        (nn.Sequential(nn.Linear(4, 3), Cube(), nn.Linear(3, 2)), r"in 1 \(Cube\):"),
        (nn.Sequential(Cube(), nn.Linear(4, 3), Cube()), r"in 0 \(Cube\), 2 \(Cube\):"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Sequential(nn.Linear(4, 3), Cube())), r"in 1\.1 \(Cube\):"),
        (Nested(), r"in body\.cube \(Cube\):"),
        (Cube(), r"in the model itself \(Cube\):"),
        (OnceCube.apply, "outside of any module:"),
    ],
)
def test_what_stands_in_the_way_is_named(model, names):
    x = torch.randn(2, 4)
    before = x.clone()
    for function in (model, lambda *z: model(*z)):
        with pytest.raises(ValueError, match="can't be differentiated twice, " + names):
            check_double_backward(function, x)
    assert torch.equal(x, before)
    if isinstance(model, nn.Module):
        assert not any(m._forward_pre_hooks for m in model.modules())
        assert all(p.grad is None for p in model.parameters())


def test_fused_attention_is_named_and_its_remedy_works():
    model = nn.Sequential(nn.Linear(4, 4), Attention(), nn.Linear(4, 2))
    x = torch.randn(2, 1, 3, 4)
    with pytest.raises(ValueError, match=r"in 1 \(Attention\).*sdpa_kernel\(SDPBackend.MATH\)"):
        check_double_backward(model, x)
    with sdpa_kernel(SDPBackend.MATH):
        check_double_backward(model, x)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Softplus()).eval(),
        nn.LSTM(4, 3),
        nn.Identity(),
        lambda x: x.detach(),
        lambda x: x.long(),
    ],
)
def test_what_autograd_can_do_twice_or_has_nothing_to_do_for_passes(model):
    check_double_backward(model, torch.randn(2, 4))


def test_arguments_that_are_no_tensors_are_handed_on():
    seen = []

    def function(x, table, flag):
        seen.append((table.dtype, flag))
        return x * table[0]

    check_double_backward(function, torch.randn(2, 4), torch.arange(4), "flag")
    assert seen == [(torch.int64, "flag")]
