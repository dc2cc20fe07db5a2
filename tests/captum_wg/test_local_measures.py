"""The four measures against literal replicas of the paper's equations, their laws, and what they cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from captum_wg import Consistency, GeneralizedAttribution, GradientVariance, LocalIntegratedGradients, Stability
from captum_wg.local_measures import MEASURES
from captum_wg.measures import ConsistencyCosine, Mean, StabilityCosine, Variance

pytestmark = pytest.mark.filterwarnings("error")

CLASSES = [LocalIntegratedGradients, GradientVariance, Stability, Consistency]
NAMES = ["local_integrated_gradients", "gradient_variance", "stability", "consistency"]
BALL = dict(sampler="ball", radius=1.0)


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def given_points(points):
    """A sampler of these very points."""
    return lambda inputs: points


def gradient_at(model, target, point):
    """Gradients at one point, a tuple of Tensors (*feature), by plain autograd."""
    leaves = tuple(p.detach().clone().requires_grad_() for p in point)
    return torch.autograd.grad(model(*(leaf[None] for leaf in leaves))[0, target], leaves)


# --- literal replicas


def flat(tensors):
    return [float(v) for t in tensors for v in t.flatten()]


def cosine(u, v):
    dot = sum(a * b for a, b in zip(u, v, strict=True))
    lengths = math.sqrt(sum(a * a for a in u)) * math.sqrt(sum(b * b for b in v))
    return dot / lengths if lengths else 0.0


def cosine_maps(u, v, angle):
    """Of two tuples of Tensors (*feature): for each element the cosines, shown where the paper shows them."""
    if angle == "global":
        value = cosine(flat(u), flat(v))
        return [torch.full_like(a, value) for a in u]
    maps = []
    for a, b in zip(u, v, strict=True):
        shown = torch.zeros_like(a)
        for place in np.ndindex(*a.shape[1:]):
            at = (slice(None), *place)
            p, q = a[at].tolist(), b[at].tolist()
            if angle == "pixel":
                shown[at] = cosine(p, q)
            else:
                (r1, g1, b1), (r2, g2, b2) = p, q
                theta_rg, theta_gb, theta_br = (
                    cosine([r1, g1], [r2, g2]),
                    cosine([g1, b1], [g2, b2]),
                    cosine([b1, r1], [b2, r2]),
                )
                shown[at] = torch.tensor([theta_gb, theta_br, theta_rg])
        maps.append(shown)
    return maps


def replica(model, target, inputs, points, angle="global", weights=None):
    """The four measures of inputs, tuples of (B, *feature), at points, tuples of (B, S, *feature)."""
    n_examples, n_points = points[0].shape[:2]
    results = {name: [[] for _ in inputs] for name in NAMES}
    for b in range(n_examples):
        w = [1 / n_points] * n_points if weights is None else weights[b].tolist()
        x = tuple(v[b] for v in inputs)
        at_x = gradient_at(model, target, x)
        mean, square = [[torch.zeros_like(v) for v in x] for _ in range(2)]
        stability, consistency = [[torch.zeros_like(v) for v in x] for _ in range(2)]
        for s in range(n_points):
            point = tuple(p[b, s] for p in points)
            gradient = gradient_at(model, target, point)
            to_point = cosine_maps([p - v for p, v in zip(point, x, strict=True)], gradient, angle)
            to_gradient = cosine_maps(at_x, gradient, angle)
            for i, g in enumerate(gradient):
                mean[i] += w[s] * g
                square[i] += w[s] * g * g
                stability[i] += w[s] * to_point[i]
                consistency[i] += w[s] * to_gradient[i]
        for i in range(len(x)):
            values = (mean[i], square[i] - mean[i] * mean[i], stability[i], consistency[i])
            for name, value in zip(NAMES, values, strict=True):
                results[name][i].append(value)
    return {name: tuple(torch.stack(v) for v in parts) for name, parts in results.items()}


def run_all(model, inputs, angle="auto", **kwargs):
    """The four measures, each by its own class."""
    return {
        name: make(model).attribute(inputs, **kwargs, **({"angle": angle} if make in (Stability, Consistency) else {}))
        for name, make in zip(NAMES, CLASSES, strict=True)
    }


def assert_same(results, expected, is_tuple=False, **tolerance):
    assert list(results) == list(expected)
    for name, value in results.items():
        assert isinstance(value, tuple) == is_tuple
        for part, wanted in zip(value if is_tuple else (value,), expected[name], strict=True):
            torch.testing.assert_close(part, wanted, **tolerance)


@pytest.mark.parametrize(
    "feature, angle, auto",
    [
        ((3, 2, 2), "channel_pairs", True),
        ((3, 2, 2), "pixel", False),
        ((3, 2, 2), "global", False),
        ((1, 2, 2), "global", True),
        ((1, 2, 2), "pixel", False),
        ((4, 2, 2), "pixel", True),
        ((5,), "global", True),
        ((4, 3), "global", True),
        ((), "global", True),
        ((2, 2, 2, 2), "pixel", True),
        ((3, 2, 1, 2), "channel_pairs", True),
        ((1, 2, 2, 2), "global", True),
    ],
)
def test_replicas(classifier, feature, angle, auto):
    model, x, points = classifier(feature), randn(2, *feature, seed=1), randn(2, 6, *feature, seed=2)
    expected = replica(model, 1, (x,), (points,), angle)
    options = dict(target=1, sampler=given_points(points))
    for size in (None, 1, 5):
        assert_same(run_all(model, x, angle, internal_batch_size=size, **options), expected)
    if auto:
        assert_same(run_all(model, x, "auto", **options), expected)


@pytest.mark.parametrize("feature", [(3, 2, 2), (5,)])
@pytest.mark.parametrize("own", [False, True])
def test_replicas_with_weights(classifier, feature, own):
    model, x, points = classifier(feature), randn(2, *feature, seed=1), randn(2, 6, *feature, seed=2)
    weights = randn(2, 6, seed=3).abs() if own else randn(6, seed=3).abs().expand(2, 6)
    expected = replica(model, 0, (x,), (points,), "global", weights / weights.sum(1, keepdim=True))
    for size in (None, 2):
        given = weights if own else 7 * weights[0]
        options = dict(target=0, sampler=given_points(points), weights=given, internal_batch_size=size)
        assert_same(run_all(model, x, "global", **options), expected)


def test_replicas_of_a_tuple(classifier):
    model, x = classifier((4,), (2, 2)), (randn(2, 4, seed=1), randn(2, 2, 2, seed=2))
    points = randn(2, 5, 4, seed=3), randn(2, 5, 2, 2, seed=4)
    results = run_all(model, x, "auto", target=2, sampler=given_points(points), internal_batch_size=3)
    assert_same(results, replica(model, 2, x, points, "global"), is_tuple=True)


def test_auto_looks_at_each_element_of_a_tuple(classifier):
    features = (4,), (3, 2, 2), (2, 1, 2), (1, 2, 2)
    x = tuple(randn(1, *f, seed=i) for i, f in enumerate(features))
    points = tuple(randn(1, 5, *f, seed=10 + i) for i, f in enumerate(features))
    model = classifier(*features)
    result = run_all(model, x, target=0, sampler=given_points(points))["stability"]
    angles = "global", "channel_pairs", "pixel", "global"
    for i, angle in enumerate(angles):
        offsets = [tuple((p[0, s] - v[0]) for p, v in zip(points, x, strict=True)) for s in range(5)]
        gradients = [gradient_at(model, 0, tuple(p[0, s] for p in points)) for s in range(5)]
        if angle == "global":
            maps = [cosine_maps(o, g, angle)[i] for o, g in zip(offsets, gradients, strict=True)]
        else:
            maps = [cosine_maps([o[i]], [g[i]], angle)[0] for o, g in zip(offsets, gradients, strict=True)]
        torch.testing.assert_close(result[i][0], torch.stack(maps).mean(0))


class Seen(nn.Module):
    """Remembers the points at which it is asked."""

    def __init__(self, model):
        super().__init__()
        self.model, self.points = model, []

    def forward(self, x):
        if torch.is_grad_enabled():  # and not where the engine only asks how rows belong together
            self.points.append(x.detach().clone())
        return self.model(x)


@pytest.mark.parametrize("sampler", ["segments", "ball", "rays"])
def test_replicas_with_built_in_samplers(classifier, sampler):
    model, x, references = classifier((3, 2, 2)), randn(2, 3, 2, 2, seed=1), randn(4, 3, 2, 2, seed=2)
    options = dict(target=1, sampler=sampler, radius=1.5, baselines=references, n_samples=6)
    seen = Seen(model)
    LocalIntegratedGradients(seen).attribute(x, **options)
    points = torch.cat(seen.points).view(2, 6, 3, 2, 2)
    assert_same(run_all(model, x, **options), replica(model, 1, (x,), (points,), "channel_pairs"))


def test_named_classes_are_the_measures_of_the_same_name():
    assert list(MEASURES) == NAMES
    assert list(MEASURES.values()) == [Mean, Variance, StabilityCosine, ConsistencyCosine]


# --- laws


def bowl(sign):
    return lambda x: sign * x.square().flatten(1).sum(1)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("options", [BALL, dict(baselines=randn(4, 3, 2, 2, seed=5))])
@pytest.mark.parametrize("angle", ["global", "pixel", "channel_pairs"])
def test_stability_of_an_optimum(sign, options, angle):
    result = Stability(bowl(sign)).attribute(torch.zeros(1, 3, 2, 2).double(), angle=angle, **options)
    torch.testing.assert_close(result, torch.full((1, 3, 2, 2), float(sign)).double())


def test_stability_of_a_linear_function_averages_to_zero():
    result = Stability(lambda x: x.sum(1)).attribute(randn(1, 4), **BALL, n_samples=4000)
    assert result.abs().max() < 4 * 0.5 / 4000**0.5


@pytest.mark.parametrize("feature", [(4,), (3, 2, 2), (2, 2, 2)])
def test_a_linear_function(feature):
    slope = randn(*feature, seed=3)
    x, references = randn(2, *feature, seed=1), randn(3, *feature, seed=2)
    results = run_all(lambda x: (x * slope).flatten(1).sum(1), x, baselines=references, internal_batch_size=7)
    torch.testing.assert_close(results["local_integrated_gradients"], slope.expand_as(x))
    assert (results["gradient_variance"] == 0).all()
    torch.testing.assert_close(results["consistency"], torch.ones_like(x))


def test_consistency_of_the_opposite_gradient():
    x, points = torch.ones(1, 2).double(), -torch.ones(1, 3, 2).double()
    result = Consistency(bowl(1)).attribute(x, sampler=given_points(points))
    torch.testing.assert_close(result, -torch.ones_like(x))


def test_gradients_scale_and_add(classifier):
    model, x = classifier((4,)), randn(2, 4, seed=1)
    mean = [LocalIntegratedGradients(model).attribute(x, target=t, **BALL) for t in range(2)]
    both = LocalIntegratedGradients(lambda x: 2 * model(x)[:, 0] - 3 * model(x)[:, 1]).attribute(x, **BALL)
    torch.testing.assert_close(both, 2 * mean[0] - 3 * mean[1])
    variance = GradientVariance(model).attribute(x, target=0, **BALL)
    torch.testing.assert_close(GradientVariance(lambda x: 3 * model(x)).attribute(x, target=0, **BALL), 9 * variance)
    for make in (Stability, Consistency):
        plain = make(model).attribute(x, target=0, **BALL)
        for scale, sign in [(5.0, 1), (1e-200, 1), (-2.0, -1 if make is Stability else 1)]:
            scaled = make(lambda x, scale=scale: scale * model(x)).attribute(x, target=0, **BALL)
            torch.testing.assert_close(scaled, sign * plain)


@pytest.mark.parametrize("make", [Stability, Consistency])
def test_tiny_gradients_in_float32_have_directions(classifier, make):
    model, x = classifier((3, 2, 2), dtype=torch.float32), randn(2, 3, 2, 2, seed=1, dtype=torch.float32)
    tiny = make(lambda x: 1e-30 * model(x)).attribute(x, target=0, **BALL)
    torch.testing.assert_close(tiny, make(model).attribute(x, target=0, **BALL))


def test_variance_of_a_large_slope_in_float32(classifier):
    wiggle = classifier((4,))

    def model(x):
        return 1e4 * x.sum(1) + wiggle(x)[:, 0]

    x = randn(2, 4, seed=1)
    wiggle.float()
    points = (x[:, None] + randn(2, 200, 4, seed=2)).float()
    narrow = GradientVariance(model).attribute(x.float(), sampler=given_points(points), internal_batch_size=16)
    wiggle.double()
    wide = GradientVariance(model).attribute(x.float().double(), sampler=given_points(points.double()))
    torch.testing.assert_close(narrow.double(), wide, rtol=0.02, atol=1e-6)


def test_sampling_error_falls_with_the_root_of_n():
    x, reference = torch.ones(1, 2).double(), torch.zeros(1, 2).double()
    model = LocalIntegratedGradients(lambda x: (x**3).sum(1))
    sizes = [16, 64, 256, 1024]
    errors = []
    for n in sizes:
        each = [model.attribute(x, reference, n_samples=n, generator=seed)[0, 0].item() - 1 for seed in range(60)]
        errors.append(math.sqrt(np.mean(np.square(each))))
        # E[3 t^2] is 1, its variance 4/5.
        assert errors[-1] == pytest.approx(math.sqrt(0.8 / n), rel=0.35)
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.65 < slope < -0.38


@pytest.mark.parametrize("make", CLASSES)
def test_another_sample_gives_nearly_the_same(classifier, make):
    model, x, references = classifier((4,)), randn(1, 4, seed=1), randn(5, 4, seed=2)
    first, second = (
        make(model).attribute(x, references, 0, n_samples=4000, generator=seed) for seed in (torch.Generator(), 7)
    )
    assert not torch.equal(first, second)
    assert (first - second).abs().max() < 0.03


@settings(max_examples=15, deadline=None)
@given(
    n_examples=st.integers(1, 4),
    n_samples=st.integers(1, 12),
    internal_batch_size=st.integers(1, 30),
    sampler=st.sampled_from(["segments", "ball", "rays"]),
)
def test_cutting_the_work_changes_nothing(classifier, n_examples, n_samples, internal_batch_size, sampler):
    model, x, references = classifier((2, 2, 2)), randn(4, 2, 2, 2, seed=1), randn(3, 2, 2, 2, seed=2)
    options = dict(baselines=references, sampler=sampler, radius=2.0, n_samples=n_samples, target=1, pairing="shared")
    whole = GeneralizedAttribution(model).attribute(x, **options)
    part = GeneralizedAttribution(model).attribute(x[:n_examples], internal_batch_size=internal_batch_size, **options)
    for name in NAMES:
        torch.testing.assert_close(part[name], whole[name][:n_examples])


def test_attribution_methods_agree_on_the_published_function(classifier):
    # F of the published code is the sum of all logits.
    model, x, references = classifier((4,)), randn(2, 4, seed=1), randn(3, 4, seed=2)
    options = dict(baselines=references, sampler="rays", radius=0.7, n_samples=12)
    whole = LocalIntegratedGradients(lambda x: model(x).sum(1)).attribute(x, **options)
    each = sum(LocalIntegratedGradients(model).attribute(x, target=t, **options) for t in range(3))
    torch.testing.assert_close(whole, each)


# --- what they cost


@pytest.mark.parametrize("size", [None, 1, 2, 5, 16, 1000])
@pytest.mark.parametrize(
    "measures, extra",
    [
        (NAMES[:3], 0),
        (["stability"], 0),
        (["consistency"], 1),
        (None, 1),
        ({"own": lambda g, *others: g.sum(1)}, 1),
    ],
)
def test_number_of_gradients(classifier, micro_batches, size, measures, extra):
    model = classifier((4,))
    GeneralizedAttribution(model).attribute(
        randn(3, 4), target=0, n_samples=7, internal_batch_size=size, measures=measures, **BALL
    )
    if size is None:
        assert sum(model.rows) == 3 * 7 + 3 * extra
    else:
        # Of exactly this size, the last filled up.
        assert model.rows == [size] * (micro_batches(3, 7, size) + extra * micro_batches(3, 1, size))


def test_automatic_micro_batches_are_bounded(classifier):
    model = classifier((3, 32, 32), dtype=torch.float32)
    LocalIntegratedGradients(model).attribute(torch.zeros(2, 3, 32, 32), baselines=1.0, n_samples=70, target=0)
    assert sum(model.rows) == 140
    assert max(model.rows) <= 32


class Largest(TorchDispatchMode):
    """The number of elements of the largest Tensor any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


@pytest.mark.parametrize("sampler", ["segments", "ball", "rays"])
def test_memory_does_not_grow_with_n_samples(classifier, sampler):
    model, x, references = classifier((3, 8, 8)), randn(2, 3, 8, 8, seed=1), randn(3, 3, 8, 8, seed=2)
    largest = []
    for n_samples in (8, 80):
        with Largest() as mode:
            GeneralizedAttribution(model).attribute(
                x, references, 0, radius=2.0, sampler=sampler, n_samples=n_samples, internal_batch_size=4
            )
        largest.append(mode.elements)
    assert largest[0] == largest[1]
