import importlib.util
import inspect
import warnings

import numpy as np
import pytest
import torch
from captum.attr import DeepLift
from torch import nn

from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.others import ROWS
from benchmarks.models.checkpoints import resnet18_32
from benchmarks.run.counting import Counted
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import Store
from captum_wg.weighting.masking import blurred

# So that each of them is quick.
FEW = {
    "KernelShap": dict(cells=3, n_samples=30),
    "RISE": dict(n_masks=20, cells=3),
    "IDGI": dict(n_steps=5),
    "GuidedIG": dict(n_steps=4),
    "Occlusion": dict(patch=16),
    "Lime": dict(cells=3, n_samples=30),
    "BlurIG": dict(n_steps=5),
    "SpectralIG": dict(n_steps=5),
    "BEE": dict(n_draws=2, n_steps=2, levels=3),
    "IntegratedGradients-zero": dict(n_steps=4),
    "IntegratedGradients-blur": dict(n_steps=4),
    "GradientShap-references": dict(n_samples=20),
    "SmoothGrad": dict(n_samples=20),
}
NEEDS_ZENNIT = ("EpsilonPlus", "EpsilonAlpha2Beta1")
NEEDED = pytest.mark.skipif(importlib.util.find_spec("zennit") is None, reason="needs zennit")
NAMES = [pytest.param(name, marks=NEEDED) if name in NEEDS_ZENNIT else name for name in ROWS]


@pytest.fixture(scope="module")
def resnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = resnet18_32()
        model.train()(torch.randn(16, 3, 32, 32))
    return model.eval().requires_grad_(False)


def maps(name, model, x, targets, baselines=None, seed=0, **settings):
    (ingredient,) = ROWS[name](name, MethodSettings(), **{**FEW.get(name, {}), **settings}).ingredients
    if baselines is None:
        baselines = torch.randn(3, *x.shape[1:], generator=torch.Generator().manual_seed(5))
    names = tuple(map(str, range(len(x))))
    return ingredient.make(Batch(model, x, torch.as_tensor(targets), names, baselines, seed))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", NAMES)
def test_a_map_is_the_same_whatever_its_company(resnet, tiny_batch, name):
    x, y = torch.from_numpy(tiny_batch[0]), [1, 7, 3]
    together = maps(name, resnet, x, y)
    assert together.shape == x.shape
    assert all(found.std() > 0 for found in together)
    for i in range(len(x)):
        assert np.array_equal(maps(name, resnet, x[i : i + 1], y[i : i + 1])[0], together[i])
    assert not np.allclose(maps(name, resnet, x[:1], [2])[0], together[0])  # of another class


@pytest.mark.parametrize("name", NAMES)
def test_what_a_map_takes_is_counted(resnet, tiny_batch, name):
    counted = Counted(resnet)
    maps(name, counted, torch.from_numpy(tiny_batch[0][:1]), [1])
    assert (
        counted.counter.evaluations()
        == {
            "DeepLift": (2, 2),  # a pair, and its two outputs to see that the map is complete
            "DeepLiftShap": (6, 6),
            "GuidedBackprop": (1, 0),
            "LayerGradCam": (1, 0),
            "Occlusion": (0, 10),
            "KernelShap": (0, 30),
            "Lime": (0, 30),
            "GuidedGradCam": (2, 0),
            "BlurIG": (5, 0),
            "SpectralIG": (5, 0),
            "BEE": (4, 8),
            "IntegratedGradients-zero": (4, 0),
            "IntegratedGradients-blur": (4, 0),
            "GradientShap-references": (20, 0),
            "SmoothGrad": (20, 0),
            "EpsilonPlus": (1, 0),
            "EpsilonAlpha2Beta1": (1, 0),
            "RISE": (0, 20),
            "IDGI": (6, 0),
            "GuidedIG": (4, 0),
        }[name]
    )
    assert counted.counter.largest <= 64


@pytest.mark.parametrize("name", ["KernelShap", "Lime", "RISE", "BEE", "GradientShap-references", "SmoothGrad"])
def test_draws_follow_from_the_seed_alone(resnet, tiny_batch, name):
    x = torch.from_numpy(tiny_batch[0][:1])
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
    found = maps(name, resnet, x, [1])
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])
    torch.manual_seed(99)
    assert np.array_equal(maps(name, resnet, x, [1]), found)
    assert not np.array_equal(maps(name, resnet, x, [1], seed=1), found)


class Relu6Net(nn.Module):
    """One ReLU6 used twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.relu = nn.Linear(12, 5), nn.Linear(5, 3), nn.ReLU6()

    def forward(self, x):
        return self.relu(self.second(self.relu(self.first(x.flatten(1)))))


@pytest.fixture
def relu6():
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Relu6Net()
        x, baseline = 6 * torch.randn(1, 3, 2, 2), torch.zeros(1, 3, 2, 2)
    return model, x, baseline


def test_deep_lift_is_the_rescale_rule_on_every_use_of_a_relu6(relu6):
    model, x, baseline = relu6
    with torch.no_grad():
        pairs = torch.cat([x, baseline]).flatten(1)
        z1 = model.first(pairs)
        z2 = model.second(z1.clamp(0, 6))
        slopes = [(z.clamp(0, 6)[0] - z.clamp(0, 6)[1]) / (z[0] - z[1]) for z in (z1, z2)]
        target = int(slopes[1].argmax())
        multipliers = slopes[1][target] * model.second.weight[target] * slopes[0] @ model.first.weight
        wanted = (multipliers * (pairs[0] - pairs[1])).view(x.shape)
    assert wanted.abs().max() > 0.1
    assert maps("DeepLift", model, x, [target]) == pytest.approx(wanted.numpy(), rel=1e-4)


def test_captum_alone_would_be_wrong_there(relu6):
    model, x, baseline = relu6
    target = int((model(x) - model(baseline)).abs().argmax())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, delta = DeepLift(model).attribute(x, baseline, target=target, return_convergence_delta=True)
    assert abs(float(delta)) > 0.1


def test_deep_lift_shap_is_the_mean_over_the_baselines(tiny_model, tiny_batch):
    x = torch.from_numpy(tiny_batch[0][:1])
    baselines = torch.randn(19, 3, 32, 32, generator=torch.Generator().manual_seed(8))  # more than go together
    found = maps("DeepLiftShap", tiny_model, x, [4], baselines)

    # DeepLift's baseline is 0; shifted by it, the first convolution sees the same.
    class Shifted(nn.Module):
        def __init__(self, shift):
            super().__init__()
            self.model, self.shift = tiny_model, nn.Parameter(shift)

        def forward(self, x):
            return self.model(x + self.shift)

    each = [maps("DeepLift", Shifted(b), x - b, [4]) for b in baselines]
    assert found == pytest.approx(np.mean(each, 0), abs=1e-6)
    assert maps("DeepLiftShap", tiny_model, x, [4], lambda _: baselines) == pytest.approx(found)


def test_a_pool_is_of_the_first_baselines(tiny_model, tiny_batch):
    x = torch.from_numpy(tiny_batch[0][:1])
    baselines = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(8))
    for name in ("DeepLiftShap", "GradientShap-references"):
        found = maps(name, tiny_model, x, [4], baselines, pool=3)
        assert np.array_equal(found, maps(name, tiny_model, x, [4], baselines[:3]))
        assert np.array_equal(found, maps(name, tiny_model, x, [4], lambda _: baselines, pool=3))
        assert not np.allclose(found, maps(name, tiny_model, x, [4], baselines))


def test_deep_lift_shap_asks_for_two_baselines(resnet, tiny_batch):
    with pytest.raises(BenchmarkError, match="2 baselines or more, got 1"):
        maps("DeepLiftShap", resnet, torch.from_numpy(tiny_batch[0][:1]), [4], torch.zeros(1, 3, 32, 32))


class Product(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.relu = nn.Linear(12, 4), nn.ReLU()
        nn.init.constant_(self.linear.weight, 0.1)

    def forward(self, x):
        y = self.relu(self.linear(x.flatten(1)) + 1)
        return y * y.sigmoid()


class Smooth(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.activation = nn.Linear(12, 4), nn.SiLU()

    def forward(self, x):
        return self.activation(self.linear(x.flatten(1)))


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("DeepLift", Product(), "map does not sum to the rise of the output.*no rule for"),
        ("GuidedBackprop", Smooth(), "networks of ReLUs; this one has SiLU"),
        ("GuidedBackprop", nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "this one has none"),
        ("LayerGradCam", nn.Sequential(nn.Flatten(), nn.Linear(12, 4)), "a height and a width; this network has none"),
        ("GuidedGradCam", Smooth(), "networks of ReLUs; this one has SiLU"),
        pytest.param("EpsilonPlus", Product(), "relevance passes add, mul, sigmoid", marks=NEEDED),
    ],
)
def test_a_network_that_a_method_is_not_made_for_is_an_entry_of_the_table(name, model, message):
    with pytest.raises(ValueError, match=message):
        maps(name, model, torch.ones(1, 3, 2, 2), [0])


def test_guided_backprop_passes_back_what_is_positive(relu6):
    model, x, _ = relu6
    with torch.no_grad():
        z1 = model.first(x.flatten(1))[0]
        z2 = model.second(z1.clamp(0, 6))
        target = int(((z2 > 0) & (z2 < 6)).int().argmax())
        assert 0 < z2[target] < 6
        passed = (model.second.weight[target] * ((z1 > 0) & (z1 < 6))).clamp(min=0)
        wanted = (passed @ model.first.weight).view(x.shape)
    assert maps("GuidedBackprop", model, x, [target]) == pytest.approx(wanted.numpy(), rel=1e-5)


def test_grad_cam_weighs_the_channels_of_the_last_layer_with_a_size(tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    activation = tiny_model[:5](x).requires_grad_()
    (gradient,) = torch.autograd.grad(tiny_model[5:](activation)[0, y], activation)
    cam = (gradient.mean((2, 3), keepdim=True) * activation).sum(1, keepdim=True).relu()
    wanted = nn.functional.interpolate(cam, (32, 32), mode="bilinear")
    found = maps("LayerGradCam", tiny_model, x, [y])
    assert found.sum(1) == pytest.approx(wanted[:, 0].detach().numpy(), abs=1e-6)
    assert np.array_equal(found[:, 0], found[:, 2])


def test_occlusion_is_the_fall_of_the_output_where_a_patch_is_hidden(tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    found = maps("Occlusion", tiny_model, x, [y], patch=16, stride=16)
    hidden = x.clone()
    hidden[..., :16, 16:] = 0
    fall = float((tiny_model(x) - tiny_model(hidden))[0, y])
    assert found[0, :, :16, 16:] == pytest.approx(np.full((3, 16, 16), fall), abs=1e-5)


def test_guided_grad_cam_is_the_size_of_the_product(tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), [int(tiny_batch[1][0])]
    guided, cam = maps("GuidedBackprop", tiny_model, x, y), maps("LayerGradCam", tiny_model, x, y)
    found = maps("GuidedGradCam", tiny_model, x, y)
    assert found.max() > 0 and found == pytest.approx(np.abs(guided * cam.sum(1, keepdims=True)), abs=1e-6)


@pytest.mark.parametrize("name, start", [("IntegratedGradients-zero", "zero"), ("IntegratedGradients-blur", "blur")])
def test_integrated_gradients_from_one_baseline(tiny_model, tiny_batch, name, start):
    x = torch.from_numpy(tiny_batch[0][:1])
    start = torch.zeros_like(x) if start == "zero" else blurred(x, 4.0, reach=3)
    rises = (tiny_model(x) - tiny_model(start))[0]
    target = int(rises.abs().argmax())
    assert maps(name, tiny_model, x, [target], n_steps=300).sum() == pytest.approx(float(rises[target]), rel=0.01)


def test_gradient_shap_and_smooth_grad_of_a_linear_model(tiny_batch):
    x = torch.from_numpy(tiny_batch[0][:1])
    linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    weights = linear[1].weight[1].detach().view(x.shape)
    baseline = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    found = maps("GradientShap-references", linear, x, [1], baseline)
    assert found == pytest.approx((weights * (x - baseline)).numpy(), abs=1e-5)
    assert maps("SmoothGrad", linear, x, [1]) == pytest.approx((weights * x).numpy(), abs=1e-5)


def test_smooth_grad_averages_gradients_around_the_image(tiny_batch):
    """Of f = sum x^2 / 2 the gradient at x + e is x + e, whose mean is near x; one sample shows the noise."""
    x = torch.from_numpy(tiny_batch[0][:1])

    class Square(nn.Module):
        def forward(self, x):
            return torch.stack([x.square().sum((1, 2, 3)) / 2] * 2, 1)

    one, many = (torch.from_numpy(maps("SmoothGrad", Square(), x, [1], n_samples=n)) / x - x for n in (1, 400))
    spread = 0.15 * float(x.max() - x.min())
    assert float(one.std()) == pytest.approx(spread, rel=0.05) and float(many.std()) < spread / 15


@pytest.mark.parametrize("name, tolerance", [("KernelShap", 1e-3), ("Lime", 0.05)])
def test_a_cell_of_a_linear_model_gets_its_share(tiny_batch, name, tolerance):
    x = torch.from_numpy(tiny_batch[0][:1])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        linear = nn.Sequential(nn.Flatten(), nn.Linear(3072, 2))
    found = maps(name, linear, x, [1], cells=2, n_samples=200)
    parts = linear[1].weight[1].view(x.shape) * x
    for rows in (slice(16), slice(16, 32)):
        for columns in (slice(16), slice(16, 32)):
            share = float(parts[..., rows, columns].detach().sum())
            assert found[0, :, rows, columns] == pytest.approx(np.full((3, 16, 16), share), abs=tolerance)


class Residual(nn.Module):
    """Two branches that meet; without biases no relevance is lost."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 1, bias=False)
        self.relu, self.last = nn.ReLU(), nn.Linear(16, 2, bias=False)

    def forward(self, x):
        y = self.relu(self.first(x))
        return self.last((y + self.relu(self.second(y))).flatten(1))


@pytest.mark.parametrize(("name", "alpha", "beta"), [("EpsilonPlus", 1, 0), ("EpsilonAlpha2Beta1", 2, 1)])
def test_relevance_is_shared_out_by_the_contributions(name, alpha, beta):
    pytest.importorskip("zennit")
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model, x = Residual().double(), torch.randn(1, 3, 4, 4).double()

    def back(layer, below, relevance):
        """R_i = sum_j (alpha z+_ij / z+_j - beta z-_ij / z-_j) R_j, element by element."""
        unit = torch.eye(below.numel()).double().view(-1, *below.shape[1:])
        z = (layer(unit) * below.view(-1, 1, 1, 1)).flatten(1)  # i by j
        positive, negative = z.clamp(min=0), z.clamp(max=0)
        shares = alpha * positive / (positive.sum(0) + 1e-12) - beta * negative / (negative.sum(0) - 1e-12)
        return (shares @ relevance.flatten()).view(below.shape)

    with torch.no_grad():
        y = model.first(x).relu()
        branch = model.second(y).relu()
        features = (y + branch).flatten()
        contributions = features * model.last.weight[1]
        r = (contributions / contributions.sum()).view(y.shape)
        whole = y + branch + 1e-12
        wanted = back(model.first, x, r * y / whole + back(model.second, y, r * branch / whole))
    found = maps(name, model, x, [1])
    assert found == pytest.approx(wanted.numpy(), rel=1e-3, abs=1e-4)
    if name == "EpsilonPlus":
        assert found.sum() == pytest.approx(1, abs=1e-3)


def test_without_zennit_the_extra_is_named(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "zennit" else find(name))
    with pytest.raises(BenchmarkError, match=r"EpsilonPlus needs zennit: .*captum-wg\[peers\]"):
        ROWS["EpsilonPlus"]("EpsilonPlus", MethodSettings())


def test_a_note_names_its_row_and_one_of_many_rows_none():
    own, shared = ROWS["IDGI"]("IDGI(n_steps=9)", MethodSettings(), n_steps=9).notes
    assert own.startswith("IDGI(n_steps=9) explains the class' probability")
    assert (shared,) == ROWS["Occlusion"]("Occlusion", MethodSettings()).notes


def test_a_row_with_settings_can_be_stored(tmp_path):
    (ingredient,) = ROWS["RISE"]("RISE(n_masks=9, cells=3)", MethodSettings(), n_masks=9, cells=3).ingredients
    assert not Store(tmp_path, "{}").has((*ingredient.key, "000000-000002"))


def test_the_settings_are_those_of_the_method():
    def known(name):
        return [p.name for p in inspect.signature(ROWS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]

    assert known("RISE") == ["n_masks", "cells", "seen"]
    assert known("DeepLift") == known("EpsilonPlus") == []


@pytest.mark.parametrize(
    ("row", "keywords", "wanted"),
    [
        ("Occlusion", {"patch": "banana"}, "patch must be a whole number of at least 1, got 'banana'"),
        ("Occlusion", {"patch": 0}, "patch must be a whole number"),
        ("RISE", {"n_masks": -3}, "n_masks must be a whole number"),
        ("RISE", {"seen": 2.0}, "seen must be a number between 0 and 1, got 2.0"),
        ("IDGI", {"n_steps": True}, "n_steps must be a whole number"),
        ("SmoothGrad", {"noise": 1}, "noise must be a number between 0 and 1, got 1"),
        ("DeepLiftShap", {"pool": 11}, "pool must be at most 10, the number of baselines, got 11"),
    ],
)
def test_settings_that_can_not_be(row, keywords, wanted):
    with pytest.raises(BenchmarkError, match=f"--methods {row}: {wanted}"):
        ROWS[row](row, MethodSettings(n_baselines=10), **keywords)
