import math
import warnings
import weakref

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import captum_wg.local_measures as generalized
from captum_wg import Consistency, GeneralizedAttribution, GradientVariance, LocalIntegratedGradients, Stability
from captum_wg.measures import ConsistencyCosine, Mean, StabilityCosine, Variance

CLASSES = [LocalIntegratedGradients, GradientVariance, Stability, Consistency]
NAMES = ["local_integrated_gradients", "gradient_variance", "stability", "consistency"]
BALL = dict(sampler="ball", radius=1.0)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def randn(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


class Net(nn.Module):
    """A small smooth classifier of any number of inputs of any shapes; counts its rows."""

    def __init__(self, *features, columns=3, dtype=torch.float64):
        super().__init__()
        n = sum(math.prod(f) for f in features)
        self.first = nn.Parameter(randn(n, 5, seed=100, dtype=dtype) / n**0.5)
        self.second = nn.Parameter(randn(5, columns, seed=101, dtype=dtype))
        self.rows = []

    def forward(self, *inputs):
        self.rows.append(len(inputs[0]))
        flat = torch.cat([x.reshape(len(x), -1) for x in inputs], 1)
        return torch.tanh(flat @ self.first) @ self.second


def given_points(points):
    """A sampler of these very points."""
    return lambda inputs: points


def gradient_at(model, target, point):
    """Gradients at one point, a tuple of Tensors (*feature), by plain autograd."""
    leaves = tuple(p.detach().clone().requires_grad_() for p in point)
    return torch.autograd.grad(model(*(leaf[None] for leaf in leaves))[0, target], leaves)


# Literal replicas


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
def test_replicas(feature, angle, auto):
    model, x, points = Net(feature), randn(2, *feature, seed=1), randn(2, 6, *feature, seed=2)
    expected = replica(model, 1, (x,), (points,), angle)
    options = dict(target=1, sampler=given_points(points))
    for size in (None, 1, 5):
        assert_same(run_all(model, x, angle, internal_batch_size=size, **options), expected)
    if auto:
        assert_same(run_all(model, x, "auto", **options), expected)


@pytest.mark.parametrize("feature", [(3, 2, 2), (5,)])
@pytest.mark.parametrize("own", [False, True])
def test_replicas_with_weights(feature, own):
    model, x, points = Net(feature), randn(2, *feature, seed=1), randn(2, 6, *feature, seed=2)
    weights = randn(2, 6, seed=3).abs() if own else randn(6, seed=3).abs().expand(2, 6)
    expected = replica(model, 0, (x,), (points,), "global", weights / weights.sum(1, keepdim=True))
    for size in (None, 2):
        given = weights if own else 7 * weights[0]
        options = dict(target=0, sampler=given_points(points), weights=given, internal_batch_size=size)
        assert_same(run_all(model, x, "global", **options), expected)


def test_replicas_of_a_tuple():
    model, x = Net((4,), (2, 2)), (randn(2, 4, seed=1), randn(2, 2, 2, seed=2))
    points = randn(2, 5, 4, seed=3), randn(2, 5, 2, 2, seed=4)
    results = run_all(model, x, "auto", target=2, sampler=given_points(points), internal_batch_size=3)
    assert_same(results, replica(model, 2, x, points, "global"), is_tuple=True)


def test_auto_looks_at_each_element_of_a_tuple():
    features = (4,), (3, 2, 2), (2, 1, 2), (1, 2, 2)
    x = tuple(randn(1, *f, seed=i) for i, f in enumerate(features))
    points = tuple(randn(1, 5, *f, seed=10 + i) for i, f in enumerate(features))
    model = Net(*features)
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
        self.points.append(x.detach().clone())
        return self.model(x)


@pytest.mark.parametrize("sampler", ["segments", "ball", "rays"])
def test_replicas_with_built_in_samplers(sampler):
    model, x, references = Net((3, 2, 2)), randn(2, 3, 2, 2, seed=1), randn(4, 3, 2, 2, seed=2)
    options = dict(target=1, sampler=sampler, radius=1.5, baselines=references, n_samples=6)
    seen = Seen(model)
    LocalIntegratedGradients(seen).attribute(x, **options)
    points = torch.cat(seen.points).view(2, 6, 3, 2, 2)
    assert_same(run_all(model, x, **options), replica(model, 1, (x,), (points,), "channel_pairs"))


# Eq. 9


@pytest.mark.parametrize("size", [None, 1, 4])
def test_a_set_with_no_input(size):
    model, points = Net((3, 2)), randn(1, 7, 3, 2, seed=2)
    weights = randn(7, seed=3).abs()
    gradients = torch.stack([gradient_at(model, 1, (p,))[0] for p in points[0]])
    calls = []

    def sampler(inputs):
        calls.append(inputs)
        return points

    method = GeneralizedAttribution(model)
    result = method.attribute(
        None,
        target=1,
        sampler=sampler,
        internal_batch_size=size,
        measures={
            "mean": "local_integrated_gradients",
            "variance": "gradient_variance",
            "largest": lambda g, p, x, at_x, w: g.amax(1) if x is None and at_x is None else 1 / 0,
        },
    )
    assert calls == [None]
    torch.testing.assert_close(result["mean"], gradients.mean(0, keepdim=True))
    torch.testing.assert_close(result["variance"], gradients.var(0, correction=0)[None])
    torch.testing.assert_close(result["largest"], gradients.amax(0, keepdim=True))
    weighted = LocalIntegratedGradients(model).attribute(None, target=1, sampler=given_points(points), weights=weights)
    shares = (weights / weights.sum()).view(-1, 1, 1)
    torch.testing.assert_close(weighted, (shares * gradients).sum(0, keepdim=True))


def test_a_set_of_tuples_with_no_input():
    model, points = Net((3,), (2, 2)), (randn(1, 7, 3, seed=2), randn(1, 7, 2, 2, seed=3))
    result = LocalIntegratedGradients(model).attribute(None, target=1, sampler=given_points(points))
    assert isinstance(result, tuple)
    gradients = [gradient_at(model, 1, (points[0][0, s], points[1][0, s])) for s in range(7)]
    for value, each in zip(result, zip(*gradients, strict=True), strict=True):
        torch.testing.assert_close(value[0], torch.stack(each).mean(0))


def test_a_set_of_numbers_with_no_input():
    points = randn(1, 9, seed=2)
    result = LocalIntegratedGradients(lambda x: x**3).attribute(None, sampler=given_points(points))
    torch.testing.assert_close(result, (3 * points.square()).mean(1))


@pytest.mark.parametrize("make", [Stability, Consistency])
def test_a_set_with_no_input_has_no_cosines(make):
    with pytest.raises(ValueError, match="compares with an input, but inputs is None"):
        make(Net((3,))).attribute(None, target=1, sampler=given_points(randn(1, 4, 3)))


def test_all_four_at_once_are_the_four_one_by_one():
    model, x, references = Net((3, 2, 2)), randn(3, 3, 2, 2, seed=1), randn(4, 3, 2, 2, seed=2)
    options = dict(baselines=references, target=1, n_samples=9, radius=2.0, internal_batch_size=7)
    together = GeneralizedAttribution(model).attribute(x, **options)
    assert list(together) == NAMES
    for name, make in zip(NAMES, CLASSES, strict=True):
        assert torch.equal(together[name], make(model).attribute(x, **options))
    some = GeneralizedAttribution(model).attribute(x, **options, measures=("stability", "gradient_variance"))
    assert list(some) == ["stability", "gradient_variance"]
    named = GeneralizedAttribution(model).attribute(
        x, **options, measures={"s": StabilityCosine("global"), 3: "stability"}
    )
    assert list(named) == ["s", 3]
    assert torch.equal(named[3], together["stability"])
    assert torch.equal(named["s"], Stability(model).attribute(x, **options, angle="global"))


# Laws


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


def test_gradients_scale_and_add():
    model, x = Net((4,)), randn(2, 4, seed=1)
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
def test_tiny_gradients_in_float32_have_directions(make):
    model, x = Net((3, 2, 2), dtype=torch.float32), randn(2, 3, 2, 2, seed=1, dtype=torch.float32)
    tiny = make(lambda x: 1e-30 * model(x)).attribute(x, target=0, **BALL)
    torch.testing.assert_close(tiny, make(model).attribute(x, target=0, **BALL))


def test_variance_of_a_large_slope_in_float32():
    wiggle = Net((4,))

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
def test_another_sample_gives_nearly_the_same(make):
    model, x, references = Net((4,)), randn(1, 4, seed=1), randn(5, 4, seed=2)
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
def test_cutting_the_work_changes_nothing(n_examples, n_samples, internal_batch_size, sampler):
    model, x, references = Net((2, 2, 2)), randn(4, 2, 2, 2, seed=1), randn(3, 2, 2, 2, seed=2)
    options = dict(baselines=references, sampler=sampler, radius=2.0, n_samples=n_samples, target=1, pairing="shared")
    whole = GeneralizedAttribution(model).attribute(x, **options)
    part = GeneralizedAttribution(model).attribute(x[:n_examples], internal_batch_size=internal_batch_size, **options)
    for name in NAMES:
        torch.testing.assert_close(part[name], whole[name][:n_examples])


# Cost


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
def test_number_of_gradients(size, measures, extra):
    model = Net((4,))
    GeneralizedAttribution(model).attribute(
        randn(3, 4), target=0, n_samples=7, internal_batch_size=size, measures=measures, **BALL
    )
    assert sum(model.rows) == 3 * 7 + 3 * extra
    if size:
        assert max(model.rows) <= size


def test_automatic_micro_batches_are_bounded():
    model = Net((3, 32, 32), dtype=torch.float32)
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
def test_memory_does_not_grow_with_n_samples(sampler):
    model, x, references = Net((3, 8, 8)), randn(2, 3, 8, 8, seed=1), randn(3, 3, 8, 8, seed=2)
    largest = []
    for n_samples in (8, 80):
        with Largest() as mode:
            GeneralizedAttribution(model).attribute(
                x, references, 0, radius=2.0, sampler=sampler, n_samples=n_samples, internal_batch_size=4
            )
        largest.append(mode.elements)
    assert largest[0] == largest[1]


def test_gradients_are_dropped_once_folded_in():
    class Living(Mean):
        references, most = (), 0

        def update(self, gradients, *others):
            Living.references = [*(r for r in Living.references if r() is not None), weakref.ref(gradients)]
            Living.most = max(Living.most, len(Living.references))
            super().update(gradients, *others)

    measures = {"living": Living(), "variance": "gradient_variance", "consistency": "consistency"}
    GeneralizedAttribution(Net((4,))).attribute(
        randn(2, 4), target=0, n_samples=60, internal_batch_size=3, measures=measures, **BALL
    )
    assert Living.most <= 2


# Measures of the user's own


class Extremes:
    """The largest gradient; writes down what it is given."""

    needs_input_gradients = False

    def __init__(self):
        self.log = []

    def init(self, inputs):
        self.best = None
        self.log.append(("init", inputs))

    def update(self, gradients, points, inputs, input_gradients, weights):
        self.log.append(("update", gradients, points, inputs, input_gradients, weights))
        best = gradients.amax(1)
        self.best = best if self.best is None else torch.maximum(self.best, best)

    def finish(self):
        self.log.append(("finish",))
        return self.best


class NeedyExtremes(Extremes):
    needs_input_gradients = True


class SilentExtremes:
    """Says nothing of whether it needs the gradients at the inputs."""

    def __init__(self):
        self.inner = Extremes()

    def init(self, inputs):
        self.inner.init(inputs)

    def update(self, *values):
        self.inner.update(*values)

    def finish(self):
        return self.inner.finish()


@pytest.mark.parametrize("size", [None, 1, 4, 14])
@pytest.mark.parametrize("form", ["object", "class", "function"])
def test_own_measure(size, form):
    model, x, points = Net((4,)), randn(5, 4, seed=1), randn(5, 6, 4, seed=2)
    measure = {"object": Extremes(), "class": Extremes, "function": lambda g, p, x, at_x, w: g.amax(1)}[form]
    result = GeneralizedAttribution(model).attribute(
        x, target=1, sampler=given_points(points), internal_batch_size=size, measures={"largest": measure}
    )
    assert list(result) == ["largest"]
    gradients = torch.stack([torch.stack([gradient_at(model, 1, (p,))[0] for p in row]) for row in points])
    torch.testing.assert_close(result["largest"], gradients.amax(1))


@pytest.mark.parametrize("size", [None, 1, 4, 14])
@pytest.mark.parametrize("needy", [False, True])
def test_what_own_measures_are_given(size, needy):
    model, x, points = Net((4,)), randn(5, 4, seed=1), randn(5, 6, 4, seed=2)
    weights = randn(5, 6, seed=3).abs()
    measure = NeedyExtremes() if needy else Extremes()
    GeneralizedAttribution(model).attribute(
        x.clone().requires_grad_(),
        target=1,
        sampler=given_points(points),
        weights=weights,
        internal_batch_size=size,
        measures={"m": measure},
    )
    assert sum(model.rows) == 30 + 5 * needy
    at_x = torch.stack([gradient_at(model, 1, (v,))[0] for v in x])
    # Groups of examples, each opened, fed and closed, one after another.
    groups, kinds = [], [entry[0] for entry in measure.log]
    while kinds:
        end = kinds.index("finish")
        assert kinds[0] == "init"
        assert set(kinds[1:end]) == {"update"}
        groups.append(measure.log[: end + 1])
        del measure.log[: end + 1], kinds[: end + 1]
    first = 0
    for group in groups:
        inputs = group[0][1]
        here = slice(first, first + len(inputs))
        first = here.stop
        assert torch.equal(inputs, x[here])
        tiles = group[1:-1]
        assert torch.equal(torch.cat([t[2] for t in tiles], 1), points[here])
        expected = weights[here] / weights[here].sum(1, keepdim=True)
        torch.testing.assert_close(torch.cat([t[5] for t in tiles], 1), expected)
        for _, gradients, _, inputs, input_gradients, share in tiles:
            assert not gradients.requires_grad
            assert gradients.shape == (*share.shape, 4)
            assert torch.equal(inputs, x[here])
            if needy:
                torch.testing.assert_close(input_gradients, at_x[here])
            else:
                assert input_gradients is None
    assert first == 5


def test_a_measure_that_says_nothing_is_given_gradients_at_the_inputs():
    measure = SilentExtremes()
    model = Net((4,))
    GeneralizedAttribution(model).attribute(randn(2, 4), target=0, n_samples=3, measures={"m": measure}, **BALL)
    assert sum(model.rows) == 2 * 3 + 2
    assert measure.inner.log[1][4] is not None


def test_equal_weights_are_shared_by_all_examples():
    measure = Extremes()
    GeneralizedAttribution(Net((4,))).attribute(randn(3, 4), target=0, n_samples=8, measures={"m": measure}, **BALL)
    torch.testing.assert_close(measure.log[1][5], torch.full((1, 8), 1 / 8).double())


def test_own_function_of_everything():
    model, x = Net((3,), (2, 2)), (randn(2, 3, seed=1), randn(2, 2, 2, seed=2))
    seen = []

    def function(gradients, points, inputs, input_gradients, weights):
        seen.append(1)
        offsets = tuple(p - v.unsqueeze(1) for p, v in zip(points, inputs, strict=True))
        changes = tuple(g - a.unsqueeze(1) for g, a in zip(gradients, input_gradients, strict=True))
        return tuple(
            (weights.view(*weights.shape, *(1,) * (o.ndim - 2)) * o * c).sum(1)
            for o, c in zip(offsets, changes, strict=True)
        )

    def attribute(size):
        return GeneralizedAttribution(model).attribute(
            x, target=1, n_samples=9, internal_batch_size=size, measures={"own": function}, **BALL
        )["own"]

    whole, cut = attribute(1000), attribute(2)
    assert len(seen) == 1 + 2
    for a, b, v in zip(whole, cut, x, strict=True):
        assert a.shape == v.shape
        torch.testing.assert_close(a, b)


def test_own_results_keep_their_shape_and_dtype():
    model, x = Net((4,)), randn(3, 4)
    result = GeneralizedAttribution(model).attribute(
        x,
        target=0,
        n_samples=5,
        internal_batch_size=5,
        measures={
            "number": lambda g, *others: g.float().flatten(1).norm(dim=1),
            "all": lambda g, *others: g,
            "pair": lambda g, *others: (g.mean(1), g.amax((1, 2)) > 0),
        },
        **BALL,
    )
    assert result["number"].shape == (3,)
    assert result["number"].dtype == torch.float32
    assert result["all"].shape == (3, 5, 4)
    assert isinstance(result["pair"], tuple)
    assert result["pair"][1].dtype == torch.bool


def test_a_measure_object_can_be_used_again():
    model, x, measure = Net((4,)), randn(2, 4), Variance()
    method = GeneralizedAttribution(model)
    first = method.attribute(x, target=0, measures={"v": measure}, **BALL)
    method.attribute(1e3 * x, target=1, measures={"v": measure}, **BALL)
    assert torch.equal(first["v"], method.attribute(x, target=0, measures={"v": measure}, **BALL)["v"])


def test_one_object_under_two_names():
    measure = Mean()
    with pytest.raises(ValueError, match=r"measures\['b'\] is the same object as another one"):
        GeneralizedAttribution(Net((4,))).attribute(
            randn(1, 4), target=0, measures={"a": measure, "b": measure}, **BALL
        )


def test_one_function_under_two_names_is_fine():
    result = GeneralizedAttribution(Net((4,))).attribute(
        randn(1, 4), target=0, measures={name: lambda g, *others: g.mean(1) for name in "ab"}, **BALL
    )
    assert torch.equal(result["a"], result["b"])


# Captum's contract


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize(
    "targets, columns",
    [
        ([1, torch.tensor(1), torch.tensor([1]), torch.tensor([1, 1, 1]), [1, 1, 1]], (3,)),
        ([(0, 2), [(0, 2)] * 3], (2, 3)),
    ],
)
def test_target_forms(make, targets, columns):
    inner = Net((4,), columns=math.prod(columns))
    results = [
        make(lambda x: inner(x).view(-1, *columns)).attribute(randn(3, 4), target=target, n_samples=5, **BALL)
        for target in targets
    ]
    for result in results[1:]:
        assert torch.equal(result, results[0])


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("size", [None, 1, 4])
def test_each_example_has_its_own_target_and_arguments(make, size):
    model = Net((4,))
    x, scale, targets = randn(3, 4), randn(3, 1, seed=5), [2, 0, 1]
    table = randn(7, seed=6)

    def forward(x, scale, table, power):
        return model(x * scale) ** power * table[0]

    options = dict(n_samples=5, internal_batch_size=size, **BALL)
    result = make(forward).attribute(x, target=targets, additional_forward_args=(scale, table, 2), **options)
    for b in range(3):
        alone = make(forward).attribute(
            x[b : b + 1], target=targets[b], additional_forward_args=(scale[b : b + 1], table, 2), **options
        )
        torch.testing.assert_close(result[b : b + 1], alone)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_results_have_the_inputs_shape_and_dtype(make, dtype):
    model = Net((3, 2, 2), dtype=dtype)
    x, references = randn(2, 3, 2, 2, seed=1, dtype=dtype), randn(4, 3, 2, 2, seed=2, dtype=dtype)
    result = make(model).attribute(x, references, 1, n_samples=20)
    assert result.dtype == dtype
    assert result.shape == x.shape
    wide = make(model.double()).attribute(x.double(), references.double(), 1, n_samples=20)
    # One angle of nearly zero vectors may turn over in bfloat16.
    assert (result.double() - wide).abs().mean() < 30 * torch.finfo(dtype).eps


@pytest.mark.parametrize("make", CLASSES)
def test_numbers_as_examples(make):
    x, points = randn(3, seed=1), randn(3, 5, seed=2)
    result = make(lambda x: x**3).attribute(x, sampler=given_points(points))
    expected = {
        LocalIntegratedGradients: (3 * points**2).mean(1),
        GradientVariance: (3 * points**2).var(1, correction=0),
        Stability: torch.sign(points - x[:, None]).mean(1),
        Consistency: torch.ones(3).double(),
    }[make]
    torch.testing.assert_close(result, expected)


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("feature", [(4,), (3, 2, 2)])
def test_noise_tunnel_without_noise_changes_nothing(make, feature):
    method, x = make(Net(feature)), randn(3, *feature)
    tunnel = NoiseTunnel(method)
    options = dict(target=1, n_samples=6, **BALL)
    result = tunnel.attribute(x, nt_samples=4, stdevs=0.0, **options)
    torch.testing.assert_close(result, method.attribute(x, **options))
    noisy = tunnel.attribute(x, nt_samples=4, nt_samples_batch_size=2, stdevs=0.1, nt_type="smoothgrad_sq", **options)
    assert (noisy >= 0).all()
    assert noisy.shape == x.shape


@pytest.mark.parametrize("make", CLASSES)
def test_noise_tunnel_with_references(make):
    method, x, references = make(Net((4,))), randn(3, 4), randn(7, 4)
    options = dict(target=[0, 1, 2], n_samples=6)
    one = NoiseTunnel(method).attribute(x, baselines=references[:1], nt_samples=4, stdevs=0.0, **options)
    torch.testing.assert_close(one, method.attribute(x, references[:1], **options))
    drawn = NoiseTunnel(method).attribute(
        x, baselines=references, draw_baseline_from_distrib=True, nt_samples=4, pairing="shared", **options
    )
    assert drawn.shape == x.shape
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("make", CLASSES)
def test_sensitivity_max(make):
    method, x, references = make(Net((4,))), randn(3, 4), randn(7, 4)
    for options in (BALL, dict(baselines=references)):
        still = sensitivity_max(method.attribute, x, lambda x: x, target=1, n_samples=6, **options)
        # The sample is the same every time.
        assert still.max() < 1e-12
        moved = sensitivity_max(method.attribute, x, target=1, n_samples=6, **options)
        assert moved.shape == (3,)
        assert (moved > 0).all()


@pytest.mark.parametrize("make", CLASSES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_grad_mode(make, mode):
    model = Net((4,)).requires_grad_(False)
    plain = make(model).attribute(randn(2, 4), target=0, **BALL)
    with mode():
        assert torch.equal(make(model).attribute(randn(2, 4), target=0, **BALL), plain)


@pytest.mark.parametrize("make", CLASSES)
def test_nothing_is_left_behind(make):
    model = Net((4,))
    x, weights = randn(2, 4).requires_grad_(), torch.ones(5).requires_grad_()
    result = make(model).attribute(x, target=0, n_samples=5, weights=weights, **BALL)
    assert not result.requires_grad
    assert x.grad is None
    assert all(p.grad is None for p in model.parameters())
    assert not model._forward_hooks and not model._backward_hooks


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_host_methods(make):
    method = make(Net((4,)))
    assert not method.has_convergence_delta()
    with pytest.raises(NotImplementedError, match="attribute_future is not implemented"):
        method.attribute_future(randn(2, 4))
    assert method.attribute.__wrapped__


@pytest.mark.parametrize("make", CLASSES)
def test_gradients_go_through_gradient_func(make):
    method = make(Net((4,)))
    calls = []

    def gradient_func(forward_fn, inputs, target_ind=None, additional_forward_args=None):
        calls.append(len(inputs[0]))
        return tuple(torch.ones_like(x) for x in inputs)

    method.gradient_func = gradient_func
    result = method.attribute(randn(2, 4), target=0, n_samples=5, **BALL)
    assert sum(calls) == 10 + 2 * (make is Consistency)
    if make is LocalIntegratedGradients:
        torch.testing.assert_close(result, torch.ones_like(result))


@pytest.mark.parametrize("make", CLASSES)
def test_an_unused_element_has_zeros(make):
    x = randn(2, 4, seed=1), randn(2, 3, seed=2)
    used, unused = make(lambda a, b: a.square().sum(1)).attribute(x, **BALL)
    assert (used != 0).any()
    if make in (LocalIntegratedGradients, GradientVariance):
        assert (unused == 0).all()


@pytest.mark.parametrize("make", CLASSES)
def test_paired_and_own_references(make):
    model, x = Net((4,)), randn(3, 4, seed=1)
    own = randn(3, 5, 4, seed=2)
    result = make(model).attribute(x, own, 0, n_samples=10)
    for b in range(3):
        torch.testing.assert_close(result[b : b + 1], make(model).attribute(x[b : b + 1], own[b], 0, n_samples=10))
    paired = make(model).attribute(x, own[:, 0], 0, n_samples=10, pairing="paired")
    assert torch.equal(paired, make(model).attribute(x, own[:, :1], 0, n_samples=10))
    shared = make(model).attribute(x, own[0, :3], 0, n_samples=10, pairing="shared")
    with pytest.warns(UserWarning, match="pairing='shared' or pairing='paired'"):
        assert torch.equal(make(model).attribute(x, own[0, :3], 0, n_samples=10), shared)


@pytest.mark.parametrize("make", CLASSES)
def test_references_from_a_callable(make):
    model, x, references = Net((4,)), randn(2, 4, seed=1), randn(3, 4, seed=2)
    called = make(model).attribute(x, lambda inputs: references, 0)
    assert torch.equal(called, make(model).attribute(x, references, 0))


def test_progress_is_shown_on_request(capsys):
    model = Net((4,))
    LocalIntegratedGradients(model).attribute(randn(1, 4), target=0, **BALL)
    assert capsys.readouterr().err == ""
    Consistency(model).attribute(randn(1, 4), target=0, show_progress=True, **BALL)
    assert "Consistency at the inputs" in capsys.readouterr().err


def test_attribution_methods_agree_on_the_published_function():
    # F of the published code is the sum of all logits.
    model, x, references = Net((4,)), randn(2, 4, seed=1), randn(3, 4, seed=2)
    options = dict(baselines=references, sampler="rays", radius=0.7, n_samples=12)
    whole = LocalIntegratedGradients(lambda x: model(x).sum(1)).attribute(x, **options)
    each = sum(LocalIntegratedGradients(model).attribute(x, target=t, **options) for t in range(3))
    torch.testing.assert_close(whole, each)


# Guards


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
@pytest.mark.parametrize(
    "inputs, kwargs, error, match",
    [
        (None, {}, ValueError, r"inputs is None and sampler='segments': .* needs a callable sampler"),
        (None, BALL, ValueError, r"inputs is None and sampler='ball'"),
        (randn(2, 4), {}, ValueError, r"baselines are the reference points .* got None"),
        (randn(2, 4), dict(baselines=randn(0, 4)), ValueError, "baselines are empty"),
        (randn(2, 4), dict(baselines=randn(3, 5)), ValueError, "baselines must have shape"),
        (randn(2, 4), dict(baselines=randn(3, 4).float()), TypeError, r"baselines are torch\.float32"),
        (randn(2, 4), dict(baselines=torch.tensor([[1.0, 1, math.nan, 1]]).double()), ValueError, "rows 0"),
        (randn(2, 4), dict(baselines=np.zeros((1, 4))), TypeError, "baselines must be None, a number, a Tensor"),
        (randn(2, 4), dict(baselines=0, pairing="both"), ValueError, "pairing must be 'shared', 'paired' or None"),
        (torch.full((2, 4), math.inf), BALL, ValueError, "inputs holds NaN or infinite values in examples 0, 1"),
        (torch.ones(2, 4, dtype=torch.long), BALL, TypeError, "inputs must be floating point"),
        (randn(2, 4), {**BALL, "target": 3}, ValueError, "target 3 is out of range"),
        (randn(2, 4), {**BALL, "target": None}, ValueError, "target is missing"),
        (randn(2, 4), {**BALL, "target": [0]}, ValueError, "target has 1 entries for 2 examples"),
        (randn(2, 4), {**BALL, "radius": 0}, ValueError, "radius must be a number greater than 0"),
        (randn(2, 4), {**BALL, "radius": math.nan}, ValueError, "radius must be a number greater than 0"),
        (randn(2, 4), {**BALL, "radius": math.inf}, ValueError, "radius must be finite for sampler='ball'"),
        (randn(2, 4), {**BALL, "n_samples": 0}, ValueError, "n_samples must be a whole number of at least 1"),
        (randn(2, 4), {**BALL, "generator": "0"}, TypeError, "generator must be"),
        (randn(2, 4), {**BALL, "sampler": "cube"}, ValueError, "sampler must be one of"),
        (randn(2, 4), {**BALL, "internal_batch_size": 0}, ValueError, "internal_batch_size must be a whole number"),
        (randn(2, 4), dict(baselines=0, sampler="rays", radius=1.0), ValueError, "baselines number 0 are zero"),
        (randn(2, 4), {**BALL, "weights": [1.0] * 100}, TypeError, "weights must be a Tensor, got list"),
        (
            randn(2, 4),
            {**BALL, "weights": torch.ones(99)},
            ValueError,
            r"weights must have shape \(S,\) = \(100,\) or \(B, S\) = \(2, 100\), got \(99,\)",
        ),
        (randn(2, 4), {**BALL, "weights": torch.ones(1, 100)}, ValueError, r"weights must have shape .* \(1, 100\)"),
        (randn(2, 4), {**BALL, "weights": torch.zeros(100)}, ValueError, "with a positive sum for each example"),
        (
            randn(2, 4),
            {**BALL, "weights": torch.tensor([[1.0] * 100, [0.0] * 100])},
            ValueError,
            "with a positive sum for each example",
        ),
        (randn(2, 4), {**BALL, "weights": -torch.ones(100)}, ValueError, "weights must be finite and not negative"),
        (randn(2, 4), {**BALL, "weights": torch.arange(100) - 1}, ValueError, "finite and not negative"),
        (randn(2, 4), {**BALL, "weights": torch.full((100,), math.nan)}, ValueError, "weights must be finite"),
        (randn(2, 4), {**BALL, "weights": torch.full((100,), math.inf)}, ValueError, "weights must be finite"),
    ],
)
def test_bad_arguments(make, inputs, kwargs, error, match):
    with pytest.raises(error, match=match):
        make(Net((4,))).attribute(inputs, **{"target": 0, **kwargs})


@pytest.mark.parametrize("make", [Stability, Consistency])
def test_bad_angles(make):
    method = make(Net((4,)))
    with pytest.raises(ValueError, match="angle must be one of"):
        method.attribute(randn(2, 4), target=0, angle="rgb", **BALL)
    with pytest.raises(ValueError, match="angle='channel_pairs' needs inputs with 3 channels"):
        method.attribute(randn(2, 4), target=0, angle="channel_pairs", **BALL)
    with pytest.raises(ValueError, match="angle='pixel' needs inputs with channels"):
        method.attribute(randn(2, 4), target=0, angle="pixel", **BALL)
    with pytest.raises(ValueError, match=r"angle='channel_pairs' needs inputs with 3 channels.*\(B, 4, 1, 1\)"):
        method.attribute(randn(2, 4, 1, 1), target=0, angle="channel_pairs", **BALL)


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
@pytest.mark.parametrize(
    "forward, match",
    [
        (lambda x: torch.ones(len(x), dtype=x.dtype), "returns an output without a gradient"),
        (lambda x: x.detach().sum(1), "returns an output without a gradient"),
        (lambda x: torch.ones(len(x), requires_grad=True), "depends on none of the inputs"),
        (lambda x: (x - x).sqrt().sum(1), "the gradient is NaN or infinite for examples 0"),
    ],
)
def test_bad_functions(make, forward, match):
    with pytest.raises(ValueError, match=match):
        make(forward).attribute(randn(2, 4), **BALL)


def test_bad_gradients_name_their_examples():
    x = torch.tensor([[-9.0], [9.0], [-9.0], [9.0]])
    for size, named in ((1, "1;"), (None, "1, 3;")):
        with pytest.raises(ValueError, match=f"the gradient is NaN or infinite for examples {named}"):
            LocalIntegratedGradients(lambda x: (x.abs() - x).sqrt()).attribute(x, internal_batch_size=size, **BALL)


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_bad_forward_func(make):
    with pytest.raises(TypeError, match="forward_func must be a module or a callable"):
        make(3).attribute(randn(2, 4), **BALL)


class Half:
    def init(self, inputs): ...


@pytest.mark.parametrize(
    "measures, error, match",
    [
        ("stability", TypeError, "measures must be a mapping of names to measures, or a list .* got 'stability'"),
        ({}, TypeError, "with at least one"),
        ([], TypeError, "with at least one"),
        (Mean(), TypeError, "measures must be a mapping"),
        (["median"], ValueError, r"measures\['median'\] must be one of \('local_integrated_gradients'.*got 'median'"),
        ({"a": "mean"}, ValueError, r"measures\['a'\] must be one of"),
        ({"a": 3}, TypeError, r"measures\['a'\] must be a built-in name, an object with init.* got int"),
        ({"a": None}, TypeError, r"measures\['a'\] must be a built-in name.* got NoneType"),
        ({"a": Half()}, TypeError, r"measures\['a'\] must be a built-in name.* got Half"),
        ({"a": Half}, TypeError, r"measures\['a'\] must be a built-in name.* got Half"),
        ({"a": lambda *values: 3.0}, TypeError, r"measures\['a'\] must return a Tensor.*got float"),
        ({"a": lambda *values: None}, TypeError, r"measures\['a'\] must return a Tensor.*got NoneType"),
        ({"a": lambda g, *others: (g.mean(1), 2)}, TypeError, r"measures\['a'\] must return a Tensor"),
        ({"a": lambda g, *others: g.mean()}, ValueError, r"measures\['a'\] must return one row .* got shape \(\)"),
        ({"a": lambda g, *others: g.mean(0)}, ValueError, r"\(2, ...\), got shape \(100, 4\); reduce over dimension 1"),
        ({"a": lambda g, *others: g.mean((0, 1))}, ValueError, r"must return one row .* got shape \(4,\)"),
    ],
)
def test_bad_measures(measures, error, match):
    with pytest.raises(error, match=match):
        GeneralizedAttribution(Net((4,))).attribute(randn(2, 4), target=0, measures=measures, **BALL)


def test_a_plain_function_of_too_much(monkeypatch):
    model = Net((4,))
    options = dict(target=0, n_samples=50, **BALL)
    # 50 gradients and points of 4 float64.
    monkeypatch.setattr(generalized, "COLLECTED_BYTES", 2 * 50 * 4 * 8)
    own = {"own": lambda g, *others: g.mean(1)}
    GeneralizedAttribution(model).attribute(randn(3, 4), internal_batch_size=99, measures=own, **options)
    for size, n_samples in ((100, 50), (1, 51)):
        with pytest.raises(ValueError, match=r"measures\['own'\] is a plain function .* init, update and finish"):
            GeneralizedAttribution(model).attribute(
                randn(3, 4), internal_batch_size=size, measures=own, **{**options, "n_samples": n_samples}
            )
    model.rows.clear()
    GeneralizedAttribution(model).attribute(randn(3, 4), internal_batch_size=1, measures={"m": Mean()}, **options)
    assert max(model.rows) == 1


def test_named_classes_are_the_measures_of_the_same_name():
    assert list(generalized.MEASURES) == NAMES
    assert list(generalized.MEASURES.values()) == [Mean, Variance, StabilityCosine, ConsistencyCosine]


@pytest.mark.parametrize("make", [*CLASSES, GeneralizedAttribution])
def test_references_bound_in_the_constructor_serve_where_none_are_given(make):
    net, x, references = Net((4,)), randn(3, 4), randn(7, 4)
    options = dict(target=1, n_samples=6)
    bound = make(net, baselines=references)
    given = make(net).attribute(x, references, **options)
    if make is GeneralizedAttribution:
        for name, value in bound.attribute(x, **options).items():
            assert torch.equal(value, given[name])
        return
    assert torch.equal(bound.attribute(x, **options), given)
    assert not torch.equal(bound.attribute(x, references[:2], **options), given)
    torch.testing.assert_close(NoiseTunnel(bound).attribute(x, nt_samples=2, stdevs=0.0, **options), given)
