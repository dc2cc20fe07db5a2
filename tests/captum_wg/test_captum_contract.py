"""What anyone may rely on who swaps a class name of captum.attr for one of ours."""

from __future__ import annotations

import copy
import inspect
import pickle
import random

import numpy as np
import pytest
import torch
from captum._utils.common import _select_targets
from captum.attr import (
    GradientAttribution,
    GradientShap,
    IntegratedGradients,
    NoiseTunnel,
    configure_interpretable_embedding_layer,
    remove_interpretable_embedding_layer,
)
from captum.metrics import infidelity, sensitivity_max
from torch import nn

from captum_wg import Deletion, ExpectedGradients, WeightedGradients, baselines

pytestmark = [
    # Whether a removal reaches alpha f(x) is another file's matter.
    pytest.mark.filterwarnings("error::UserWarning", "ignore:for examples .* not even removing:UserWarning"),
    pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients], ids=lambda c: c.__name__),
]

FEATURES = 4


class Classifier(nn.Module):
    """Probabilities of three classes, of which no removal leaves all."""

    def __init__(self, features=FEATURES):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.net = nn.Sequential(nn.Flatten(), nn.Linear(features, 6), nn.Tanh(), nn.Linear(6, 3))

    def forward(self, x):
        return (8 * self.net(x)).softmax(1)


@pytest.fixture
def net():
    return Classifier().double().eval()


@pytest.fixture
def x(draw):
    return 2 * draw(3, FEATURES)


@pytest.fixture
def references(draw):
    return draw(4, FEATURES, seed=1)


# --- calling


def test_it_is_a_gradient_attribution_with_captums_leading_arguments(cls, net):
    method = cls(net)
    assert isinstance(method, GradientAttribution)
    names = list(inspect.signature(cls.attribute).parameters)
    captums = list(inspect.signature(IntegratedGradients.attribute).parameters)
    assert names[: len(captums)] == captums
    assert list(inspect.signature(cls.__init__).parameters)[:3] == ["self", "forward_func", "multiply_by_inputs"]
    leading = ["self", "attributions", "start_point", "end_point", "target", "additional_forward_args"]
    assert list(inspect.signature(cls.compute_convergence_delta).parameters)[:6] == leading
    assert hasattr(cls.attribute, "__wrapped__") and hasattr(cls.compute_convergence_delta, "__wrapped__")
    assert method.has_convergence_delta()


def test_gradient_shaps_own_call_works(cls, net, x, references):
    """The same keywords; n_samples and stdevs where the method draws at random."""
    call = {"inputs": x, "baselines": references, "target": 1, "return_convergence_delta": True}
    if cls is ExpectedGradients:
        call |= {"n_samples": 5, "stdevs": 0.01}
    attributions, delta = cls(net).attribute(**call)
    theirs, _ = GradientShap(net).attribute(**call)
    assert attributions.shape == theirs.shape == x.shape
    assert attributions.dtype == x.dtype and delta.shape == (3,)


def test_integrated_gradients_calls_work_unchanged(cls, net, x):
    for kwargs in (
        {"target": 1},
        {"baselines": 0.5, "target": torch.tensor([0, 1, 2]), "n_steps": 30},
        {"baselines": torch.ones(1, FEATURES).double(), "target": [2, 1, 0], "method": "riemann_middle"},
        {"target": 0, "internal_batch_size": 10},
    ):
        torch.testing.assert_close(
            cls(net).attribute(x, **kwargs), IntegratedGradients(net).attribute(x, **kwargs), rtol=1e-4, atol=1e-6
        )
    positional = (x, 0.5, 1, None, 20, "riemann_right", 7, True)
    ours, theirs = cls(net).attribute(*positional), IntegratedGradients(net).attribute(*positional)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_attribute_future_is_not_implemented(cls, net, x):
    with pytest.raises(NotImplementedError, match="attribute_future is not implemented"):
        cls(net).attribute_future(x)


def test_multiplies_by_inputs(cls, net, x, references):
    assert cls(net).multiplies_by_inputs is True
    method = cls(net, multiply_by_inputs=False)
    assert method.multiplies_by_inputs is False
    one = references[:1]
    torch.testing.assert_close(
        method.attribute(x, one, 1) * (x - one), cls(net).attribute(x, one, 1), rtol=1e-12, atol=1e-14
    )
    torch.testing.assert_close(
        method.attribute(x, one, 1), IntegratedGradients(net, False).attribute(x, one, 1), rtol=1e-4, atol=1e-6
    )


TARGETS = {
    "None": ((), None),
    "one column": ((1,), None),
    "int": ((3,), 2),
    "0-D": ((3,), torch.tensor(1)),
    "one of 1-D": ((3,), torch.tensor([1])),
    "1-D": ((3,), torch.tensor([2, 0, 1])),
    "list": ((3,), [2, 0, 1]),
    "tuple": ((3, 2), (1, 1)),
    "tuple of one": ((3,), (2,)),
    "list of tuples": ((3, 2), [(0, 1), (2, 0), (1, 1)]),
}


@pytest.mark.parametrize(("shape", "target"), TARGETS.values(), ids=TARGETS)
def test_every_form_of_target_is_captums(cls, draw, x, references, shape, target):
    w = draw(FEATURES, *shape, seed=5)
    f = lambda x: torch.sigmoid(torch.tensordot(x, w, 1)) + 0.1  # noqa: E731
    found = (
        cls(f).attribute(x, references, target, weighting=Deletion(output="identity"))
        if cls is WeightedGradients
        else cls(f).attribute(x, references, target)
    )
    selected = lambda x: _select_targets(f(x), target).reshape(-1)  # noqa: E731
    if target is not None and isinstance(target, list | torch.Tensor) and len(torch.as_tensor(target).shape) > 0:
        per_example = [target[i] if len(target) > 1 else target[0] for i in range(3)]
        alone = []
        for i, t in enumerate(per_example):
            t = t if isinstance(t, tuple) else int(t)
            one = lambda x, t=t: _select_targets(f(x), t)  # noqa: E731
            alone.append(cls(one).attribute(x[i : i + 1], references))
        torch.testing.assert_close(found, torch.cat(alone))
    else:
        torch.testing.assert_close(found, cls(selected).attribute(x, references))


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (3, 4, 4), (1, 8, 8), (2, 2, 3, 2)], ids=str)
def test_inputs_of_every_rank_keep_their_form(cls, draw, shape):
    x, references = draw(3, *shape).float(), draw(2, *shape, seed=1).float()
    f = lambda x: 1 + x.reshape(len(x), -1).square().sum(1)  # noqa: E731
    found = cls(f).attribute(x, references)
    assert (found.shape, found.dtype, found.device) == (x.shape, x.dtype, x.device)
    assert not found.requires_grad
    # Twice the path's middle times the difference: x^2 - x'^2, exactly.
    single = x.square().unsqueeze(1) - references.square()
    assert (found >= single.amin(1) - 1e-5).all() and (found <= single.amax(1) + 1e-5).all()
    if cls is ExpectedGradients:
        torch.testing.assert_close(found, single.mean(1))


def test_tuples_in_tuples_out(cls, draw):
    inputs = (draw(3, 4).float(), draw(3, 2, 3, 3, seed=1).float(), draw(3, seed=2).float())
    f = lambda a, b, c: 1 + a.square().sum(1) + b.flatten(1).square().sum(1) + c.square()  # noqa: E731
    given = (draw(2, 4, seed=3).float(), draw(3, 2, 2, 3, 3, seed=4).float(), lambda c: c[:2] + 1)
    found = cls(f).attribute(inputs, given)
    assert isinstance(found, tuple)
    assert [(v.shape, v.dtype) for v in found] == [(v.shape, v.dtype) for v in inputs]
    for mixed in ((0, given[1], None), (given[0], 0.5, 1), None, 2.0):
        assert len(cls(f).attribute(inputs, mixed)) == 3
    (alone,) = cls(f).attribute((inputs[0],), additional_forward_args=(inputs[1], inputs[2]))
    assert alone.shape == inputs[0].shape


def test_further_arguments_go_with_their_example_or_as_they_are(cls, x, references, draw):
    scale, table = draw(3, seed=5).abs() + 0.5, draw(2, FEATURES, seed=6)
    seen = []

    def f(x, scale, table, power, flag, nothing):
        seen.append((len(scale) == len(x), table.shape, power, flag, nothing))
        return 1 + (x.square() * table[0].square()).sum(1) * scale**power

    args = (scale, table, 2, "flag", None)
    found = cls(f).attribute(x, references, additional_forward_args=args, internal_batch_size=7)
    assert set(seen) == {(True, (2, FEATURES), 2, "flag", None)}
    for b in range(3):
        alone = cls(f).attribute(x[b : b + 1], references, additional_forward_args=(scale[b : b + 1], *args[1:]))
        torch.testing.assert_close(found[b : b + 1], alone)


def test_one_further_argument_needs_no_tuple(cls, x, references):
    f = lambda x, power: 1 + x.square().sum(1) ** power  # noqa: E731
    assert torch.equal(
        cls(f).attribute(x, references, None, 2), cls(f).attribute(x, references, additional_forward_args=(2,))
    )


# --- dtypes, modes and layouts


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_result_has_the_inputs_dtype(cls, net, x, references, dtype):
    exact = cls(net).attribute(x, references, [0, 1, 2], n_steps=10)
    low = copy.deepcopy(net).to(dtype)
    found, delta = cls(low).attribute(
        x.to(dtype), references.to(dtype), [0, 1, 2], n_steps=10, return_convergence_delta=True
    )
    assert found.dtype == dtype
    assert delta.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # D_alpha may differ by a step in low precision, and the weights with it.
    close = 0.05 if cls is ExpectedGradients else 0.5
    error = (found.double() - exact).abs().max() / exact.abs().max()
    assert error < {torch.float64: 1e-14, torch.float32: 1e-4}.get(dtype, close)


def test_float64_is_kept_throughout(cls, x, references):
    f = lambda x: 1 + x.square().sum(1) ** 2  # noqa: E731
    result = cls(f).attribute(x, references, n_steps=4, return_convergence_delta=True)
    assert result[1].abs().max() < 1e-12 * f(x).max()


def test_autocast(cls, x, references):
    net = Classifier().eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = cls(net).attribute(x.float(), references.float(), 1, n_steps=8)
    assert found.dtype == torch.float32 and torch.isfinite(found).all()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_no_grad_and_inference_mode_change_nothing(cls, net, x, references, mode):
    f = lambda x, scale, table: net(x) * scale.unsqueeze(1) + 0 * table.sum()  # noqa: E731
    scale, table = torch.ones(3).double() / 2, torch.ones(2).double()
    kwargs = {"target": torch.tensor([0, 1, 2]), "return_convergence_delta": True, "internal_batch_size": 9}
    if cls is WeightedGradients:
        kwargs["weighting"] = Deletion(output="identity")  # halves of probabilities
    expected = cls(f).attribute(x, references, additional_forward_args=(scale, table), **kwargs)
    with mode():
        found = cls(f).attribute(x, references, additional_forward_args=(scale, table), **kwargs)
        made_here = cls(f).attribute(x + 0, references + 0, additional_forward_args=(scale * 1, table * 1), **kwargs)
        assert not torch.is_grad_enabled()
    for a, b, c in zip(expected, found, made_here, strict=True):
        assert torch.equal(a, b) and torch.equal(a, c)


def test_frozen_models(cls, net, x, references):
    expected = cls(net).attribute(x, references, 1)
    for p in net.parameters():
        p.requires_grad_(False)
    assert torch.equal(cls(net).attribute(x, references, 1), expected)


def test_train_mode_is_warned_of_and_left(cls, x, references):
    net = nn.Sequential(nn.Linear(FEATURES, 1), nn.Dropout(0.5), nn.Sigmoid()).double()
    with (
        pytest.warns(UserWarning, match="draws at random"),
        pytest.warns(UserWarning, match=r"train mode \(Dropout\).*eval\(\) on it unless this is meant"),
    ):
        cls(net).attribute(x, references)
    assert net.training
    cls(net.eval()).attribute(x, references)


def test_inputs_that_are_not_contiguous(cls, draw):
    net = Classifier(3 * 4 * 5).double().eval()
    x, references = draw(2, 4, 5, 3).permute(0, 3, 1, 2), draw(3, 5, 4, 3, seed=1).permute(0, 3, 2, 1)
    assert not x.is_contiguous()
    kwargs = {"weighting": Deletion(ranking="absolute")} if cls is WeightedGradients else {}
    found = cls(net).attribute(x, references, 1, **kwargs)
    torch.testing.assert_close(found, cls(net).attribute(x.contiguous(), references.contiguous(), 1, **kwargs))


def test_rows_that_were_expanded(cls, net, references):
    x = torch.linspace(-1, 1, FEATURES).double().expand(3, FEATURES)
    found = cls(net).attribute(x, references[:1].expand(2, FEATURES), 1)
    torch.testing.assert_close(found, found[:1].expand_as(found), rtol=1e-12, atol=1e-14)


# --- nothing left behind


def test_nothing_is_changed(cls, net, x, references):
    x, references = x.requires_grad_(), references.requires_grad_()
    target, scale = torch.tensor([0, 1, 2]), torch.ones(3).double()
    f = nn.ModuleList([net])
    f.forward = lambda x, scale: net(x) * scale.unsqueeze(1)  # type: ignore[method-assign]
    frozen = next(net.parameters())
    frozen.requires_grad_(False)
    copies = [v.detach().clone() for v in (x, references, target, scale, *net.parameters())]
    kwargs = {"target": target, "additional_forward_args": (scale,), "baselines": references}
    before = dict(kwargs)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()

    cls(f).attribute(x, return_convergence_delta=True, **kwargs)
    if cls is ExpectedGradients:
        cls(f).attribute(x, n_samples=5, stdevs=0.1, **kwargs)
    else:
        cls(f).attribute(x, keep=2, screening_steps=3, **kwargs)
        cls(f).fitness(x, **kwargs)

    assert states[:2] == (random.getstate(), np.random.get_state()[1].tolist())
    assert torch.equal(states[2], torch.get_rng_state())
    now = (x, references, target, scale, *net.parameters())
    assert all(torch.equal(a, b) for a, b in zip(copies, now, strict=True))
    assert kwargs == before and kwargs["additional_forward_args"] == (scale,)
    assert x.grad is None and x.requires_grad and x.is_leaf and x.grad_fn is None
    assert references.grad is None and references.requires_grad
    assert all(p.grad is None for p in net.parameters())
    assert [p.requires_grad for p in net.parameters()] == [False, True, True, True]
    assert not any(m.training for m in net.modules())
    for module in net.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks and not module._backward_hooks


def test_a_result_that_is_written_to_harms_nothing(cls, net, x, references):
    before = x.clone(), references.clone()
    cls(net).attribute(x, references, 1).fill_(7)
    assert torch.equal(x, before[0]) and torch.equal(references, before[1])


def test_calls_do_not_depend_on_each_other(cls, net, x, references):
    method = cls(net)
    first = method.attribute(x, references, 1)
    method.attribute(x[:2], 0.5, 0)
    assert torch.equal(method.attribute(x, references, 1), first)


# --- wrappers


@pytest.mark.parametrize("nt_type", ["smoothgrad", "smoothgrad_sq", "vargrad"])
@pytest.mark.parametrize("own", [False, True])
def test_noise_tunnel_with_bound_baselines(cls, net, x, references, nt_type, own):
    bound = (lambda x: references.expand(len(x), 4, FEATURES)) if own else references
    method = cls(net, baselines=bound)
    plain = method.attribute(x, target=[0, 1, 2], n_steps=10)
    tunnel = NoiseTunnel(method)
    silent = tunnel.attribute(x, nt_type=nt_type, nt_samples=3, stdevs=0.0, target=[0, 1, 2], n_steps=10)
    expected = {"smoothgrad": plain, "smoothgrad_sq": plain**2, "vargrad": torch.zeros_like(plain)}[nt_type]
    torch.testing.assert_close(silent, expected, rtol=1e-10, atol=1e-12)
    torch.manual_seed(0)
    noisy = tunnel.attribute(
        x, nt_type=nt_type, nt_samples=4, nt_samples_batch_size=2, stdevs=0.3, target=[0, 1, 2], n_steps=10
    )
    assert noisy.shape == x.shape and (noisy - silent).abs().max() > 1e-3


def test_noise_tunnel_is_the_mean_over_noisy_inputs(cls, net, x, references):
    method = cls(net, baselines=references)
    torch.manual_seed(1)
    found = NoiseTunnel(method).attribute(x, nt_samples=5, stdevs=0.3, target=1, n_steps=5)
    torch.manual_seed(1)
    noise = torch.normal(0, torch.tensor(0.3).repeat(15, FEATURES)).view(3, 5, FEATURES)
    expected = torch.stack([method.attribute(x + noise[:, i], target=1, n_steps=5) for i in range(5)]).mean(0)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_noise_tunnel_with_pairs_arguments_and_deltas(cls, net, x, draw):
    starts, scale = draw(3, FEATURES, seed=2), draw(3, seed=3).abs() + 0.5
    f = lambda x, scale: net(x) * scale.unsqueeze(1)  # noqa: E731
    kwargs = {"baselines": starts, "pairing": "paired", "target": [0, 1, 2], "additional_forward_args": scale}
    plain = cls(f).attribute(x, **kwargs)
    found, delta = NoiseTunnel(cls(f)).attribute(
        x, nt_samples=2, stdevs=0.0, return_convergence_delta=True, n_steps=50, **kwargs
    )
    torch.testing.assert_close(found, plain)
    assert delta.shape == (6,)


def test_noise_tunnel_of_tuples(cls, net, x, references):
    f = lambda a, b: net(torch.cat([a, b], 1))  # noqa: E731
    split = lambda t: (t[:, :1], t[:, 1:])  # noqa: E731
    method = cls(f, baselines=split(references))
    found = NoiseTunnel(method).attribute(split(x), nt_samples=2, stdevs=(0.0, 0.0), target=1)
    torch.testing.assert_close(found, method.attribute(split(x), target=1))


def test_noise_tunnel_with_baselines_drawn_by_captum(cls, net, x, references):
    np.random.seed(0)
    found = NoiseTunnel(cls(net)).attribute(
        x, nt_samples=2, stdevs=0.0, baselines=references, draw_baseline_from_distrib=True, pairing="paired", target=1
    )
    assert found.shape == x.shape


def test_sensitivity_max_with_bound_baselines(cls, net, x, references):
    method = cls(net, baselines=references)
    shift = lambda x, _=None: x + 0.05  # noqa: E731
    found = sensitivity_max(method.attribute, x, perturb_func=shift, n_perturb_samples=2, target=1, n_steps=10)
    one, other = (method.attribute(v, target=1, n_steps=10) for v in (x, x + 0.05))
    expected = (other - one).norm(dim=1) / one.norm(dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


def test_infidelity_of_the_result(cls, net, x, references):
    method = cls(net, multiply_by_inputs=False, baselines=references)

    def perturb(inputs, _=None):
        noise = 0.01 * torch.ones_like(inputs)
        return noise, inputs - noise

    attributions = method.attribute(x, target=1)
    found = infidelity(net, perturb, x, attributions, target=1, n_perturb_samples=2)
    expected = (0.01 * attributions.sum(1) - (net(x) - net(x - 0.01))[:, 1]).square()
    torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-12)


def test_a_replacement_of_gradient_func_is_honoured(cls, net, x, references):
    """As Captum's layer methods do it: gradients of something else, asked for by keyword."""
    asked = []

    def gradient_func(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        asked.append((forward_fn is net, len(inputs[0]), target_ind, additional_forward_args))
        return tuple(torch.full_like(i, 2.0) for i in inputs)

    method = cls(net, baselines=references)
    method.gradient_func = gradient_func
    kwargs = {"weighting": "equal"} if cls is WeightedGradients else {}
    found = method.attribute(x, target=1, n_steps=3, internal_batch_size=5, **kwargs)
    torch.testing.assert_close(found, 2 * (x - references.mean(0)))
    assert {(a[0], a[2], a[3]) for a in asked} == {(True, 1, None)} and max(a[1] for a in asked) <= 5


def test_copies_and_pickles_explain_alike(cls, net, x, references):
    kinds = (None, 0.5, references, baselines.compose(baselines.constant(0.0), baselines.uniform(3, -1.0, 1.0)))
    for bound in kinds:
        method = cls(net, multiply_by_inputs=False, baselines=bound)
        expected = method.attribute(x, target=1)
        for twin in (copy.deepcopy(method), pickle.loads(pickle.dumps(method))):
            assert twin.multiplies_by_inputs is False
            assert torch.equal(twin.attribute(x, target=1), expected)


# --- what cannot be attributed


def test_an_unused_element_gets_zeros(cls, draw, x, references):
    unused = draw(3, 2, 2).float()
    f = lambda x, unused: 1 + x.square().sum(1)  # noqa: E731
    found = cls(f).attribute((x.float(), unused), (references.float(), 0.0))
    assert torch.equal(found[1], torch.zeros_like(unused))
    torch.testing.assert_close(found[0], cls(lambda x: f(x, None)).attribute(x.float(), references.float()))


def test_an_output_without_a_gradient(cls, x):
    for f in (lambda x: x.detach().sum(1), lambda x: x.argmax(1).double(), lambda x: torch.ones(len(x))):
        with pytest.raises(
            ValueError,
            match=r"no gradient at any point of any example: either .* or the graph is cut",
        ):
            cls(f).attribute(x)


def test_integers_are_sent_to_the_embedding_layer_where_it_works(cls):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Embedding(7, 3), nn.Flatten(), nn.Linear(12, 2)).eval()
    tokens = torch.tensor([[1, 2, 3, 4], [6, 0, 1, 1]])
    with pytest.raises(TypeError, match=r"int64.*embedding layer.*LayerExpectedGradients"):
        cls(net).attribute(tokens, target=1)

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.rest = net[0], net[1:]

        def forward(self, tokens):
            return self.rest(self.embedding(tokens))

    named = Named().eval()
    # Captum's own warning that the layer is replaced for a while.
    with pytest.warns(UserWarning, match="interpretable embedding"):
        layer = configure_interpretable_embedding_layer(named, "embedding")
    embedded = layer.indices_to_embeddings(tokens)
    found = cls(named).attribute(embedded, target=1)
    remove_interpretable_embedding_layer(named, layer)
    assert found.shape == (2, 4, 3)
    delta = found.flatten(1).sum(1) - (named(tokens) - net[1:](torch.zeros_like(embedded)))[:, 1]
    assert delta.abs().max() < 1e-5


def test_a_cudnn_rnn_in_eval_mode_would_be_explained_and_cpu_rnns_work(cls, draw):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self.rnn, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1]).softmax(1)

    x = draw(2, 5, 3).float()
    assert cls(Reader().eval()).attribute(x, draw(3, 5, 3, seed=1).float(), 1).shape == x.shape
