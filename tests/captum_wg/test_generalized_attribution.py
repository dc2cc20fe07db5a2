"""Any measures from one pass: over sets with no input, several at once, and the caller's own."""

from __future__ import annotations

import weakref

import pytest
import torch

from captum_wg import (
    Consistency,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
    local_measures,
)
from captum_wg.measures import Mean, StabilityCosine, Variance

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


# --- sets with no input, and several measures at once


@pytest.mark.parametrize("size", [None, 1, 4])
def test_a_set_with_no_input(classifier, size):
    model, points = classifier((3, 2)), randn(1, 7, 3, 2, seed=2)
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


def test_a_set_of_tuples_with_no_input(classifier):
    model, points = classifier((3,), (2, 2)), (randn(1, 7, 3, seed=2), randn(1, 7, 2, 2, seed=3))
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
def test_a_set_with_no_input_has_no_cosines(classifier, make):
    with pytest.raises(ValueError, match="compares with an input, but inputs is None"):
        make(classifier((3,))).attribute(None, target=1, sampler=given_points(randn(1, 4, 3)))


def test_all_four_at_once_are_the_four_one_by_one(classifier):
    model, x, references = classifier((3, 2, 2)), randn(3, 3, 2, 2, seed=1), randn(4, 3, 2, 2, seed=2)
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


# --- measures of the caller's own


def test_gradients_are_dropped_once_folded_in(classifier):
    class Living(Mean):
        references, most = (), 0

        def update(self, gradients, *others):
            Living.references = [*(r for r in Living.references if r() is not None), weakref.ref(gradients)]
            Living.most = max(Living.most, len(Living.references))
            super().update(gradients, *others)

    measures = {"living": Living(), "variance": "gradient_variance", "consistency": "consistency"}
    GeneralizedAttribution(classifier((4,))).attribute(
        randn(2, 4), target=0, n_samples=60, internal_batch_size=3, measures=measures, **BALL
    )
    assert Living.most <= 2


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
def test_own_measure(classifier, size, form):
    model, x, points = classifier((4,)), randn(5, 4, seed=1), randn(5, 6, 4, seed=2)
    measure = {"object": Extremes(), "class": Extremes, "function": lambda g, p, x, at_x, w: g.amax(1)}[form]
    result = GeneralizedAttribution(model).attribute(
        x, target=1, sampler=given_points(points), internal_batch_size=size, measures={"largest": measure}
    )
    assert list(result) == ["largest"]
    gradients = torch.stack([torch.stack([gradient_at(model, 1, (p,))[0] for p in row]) for row in points])
    torch.testing.assert_close(result["largest"], gradients.amax(1))


@pytest.mark.parametrize("size", [None, 1, 4, 14])
@pytest.mark.parametrize("needy", [False, True])
def test_what_own_measures_are_given(classifier, micro_batches, size, needy):
    model, x, points = classifier((4,)), randn(5, 4, seed=1), randn(5, 6, 4, seed=2)
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
    if size is None:
        assert sum(model.rows) == 30 + 5 * needy
    else:
        assert model.rows == [size] * (micro_batches(5, 6, size) + needy * micro_batches(5, 1, size))
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


def test_a_measure_that_says_nothing_is_given_gradients_at_the_inputs(classifier):
    measure = SilentExtremes()
    model = classifier((4,))
    GeneralizedAttribution(model).attribute(randn(2, 4), target=0, n_samples=3, measures={"m": measure}, **BALL)
    assert sum(model.rows) == 2 * 3 + 2
    assert measure.inner.log[1][4] is not None


def test_equal_weights_are_shared_by_all_examples(classifier):
    measure = Extremes()
    GeneralizedAttribution(classifier((4,))).attribute(
        randn(3, 4), target=0, n_samples=8, measures={"m": measure}, **BALL
    )
    torch.testing.assert_close(measure.log[1][5], torch.full((1, 8), 1 / 8).double())


def test_own_function_of_everything(classifier):
    model, x = classifier((3,), (2, 2)), (randn(2, 3, seed=1), randn(2, 2, 2, seed=2))
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


def test_own_results_keep_their_shape_and_dtype(classifier):
    model, x = classifier((4,)), randn(3, 4)
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


def test_a_measure_object_can_be_used_again(classifier):
    model, x, measure = classifier((4,)), randn(2, 4), Variance()
    method = GeneralizedAttribution(model)
    first = method.attribute(x, target=0, measures={"v": measure}, **BALL)
    method.attribute(1e3 * x, target=1, measures={"v": measure}, **BALL)
    assert torch.equal(first["v"], method.attribute(x, target=0, measures={"v": measure}, **BALL)["v"])


def test_one_object_under_two_names(classifier):
    measure = Mean()
    with pytest.raises(ValueError, match=r"measures\['b'\] is the same object as another one"):
        GeneralizedAttribution(classifier((4,))).attribute(
            randn(1, 4), target=0, measures={"a": measure, "b": measure}, **BALL
        )


def test_one_function_under_two_names_is_fine(classifier):
    result = GeneralizedAttribution(classifier((4,))).attribute(
        randn(1, 4), target=0, measures={name: lambda g, *others: g.mean(1) for name in "ab"}, **BALL
    )
    assert torch.equal(result["a"], result["b"])


# --- what no measure is


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
def test_bad_measures(classifier, measures, error, match):
    with pytest.raises(error, match=match):
        GeneralizedAttribution(classifier((4,))).attribute(randn(2, 4), target=0, measures=measures, **BALL)


def test_a_plain_function_of_too_much(classifier, monkeypatch):
    model = classifier((4,))
    options = dict(target=0, n_samples=50, **BALL)
    # 50 gradients and points of 4 float64.
    monkeypatch.setattr(local_measures, "COLLECTED_BYTES", 2 * 50 * 4 * 8)
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
