import copy
import functools
import itertools
import pickle

import numpy as np
import pytest
import quantus
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC


def corners(image):
    """Per channel the mean of the means of the four corner squares, literally."""
    channels, height, width = image.shape
    h, w = max(1, int(0.1 * height)), max(1, int(0.1 * width))
    result = []
    for c in range(channels):
        squares = [image[c, :h, :w], image[c, :h, -w:], image[c, -h:, :w], image[c, -h:, -w:]]
        result.append(sum(float(s.mean()) for s in squares) / 4)
    return result


def literal_curve(model, image, label, attribution, ks, neutral, insert=False, absolute=False, softmax=True):
    """One image, one level, one pixel at a time."""
    channels, height, width = image.shape
    scores = []
    for row, column in itertools.product(range(height), range(width)):
        values = [float(v) for v in attribution[:, row, column]]
        scores.append(sum(abs(v) for v in values) if absolute else sum(values))
    order = sorted(range(height * width), key=lambda p: (-scores[p], p))
    curve = []
    for k in ks:
        top = set(order[: round(k * height * width)])
        copy_ = image.copy()
        for p in range(height * width):
            if (p in top) != insert:
                for c in range(channels):
                    copy_[c, p // width, p % width] = neutral[c]
        with torch.no_grad():
            output = model(torch.from_numpy(copy_)[None])[0]
        curve.append(float((output.softmax(0) if softmax else output)[label]))
    return curve


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
@pytest.mark.parametrize("rule", ["mean", "trapezoid"])
@pytest.mark.parametrize("ranking", ["signed", "absolute"])
def test_agrees_with_a_literal_loop(net, images, cls, rule, ranking):
    x, y, a = images
    scores = cls(levels=9, rule=rule, ranking=ranking)(net, x, y, a)
    for image, label, attribution, score in zip(x, y, a, scores, strict=True):
        ks = [i / 9 for i in range(0 if rule == "trapezoid" else 1, 10)]
        curve = literal_curve(
            net, image, label, attribution, ks, corners(image), cls is InsertionAUC, ranking == "absolute"
        )
        expected = sum(curve) / 9 if rule == "mean" else sum((u + v) / 2 / 9 for u, v in itertools.pairwise(curve))
        assert score == pytest.approx(expected, abs=1e-6)
        assert type(score) is float


@pytest.mark.parametrize(
    "removal, neutral",
    [
        ("black", lambda image: [image.min()] * 3),
        ("mean", lambda image: image.mean((1, 2))),
        ("corners", corners),
        ("auto", corners),
        (0.25, lambda image: [0.25] * 3),
        (np.float32(0.25), lambda image: [0.25] * 3),
        (np.array([1.0, 2.0, 3.0]).reshape(3, 1, 1), lambda image: [1, 2, 3]),
        (torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1), lambda image: [1, 2, 3]),
        (lambda x: x.amax((2, 3), keepdim=True), lambda image: image.max((1, 2))),
        (lambda x: x.numpy().max((2, 3), keepdims=True), lambda image: image.max((1, 2))),
    ],
)
def test_removal(net, images, removal, neutral):
    x, y, a = images
    # Fewer examples at a time than there are: each must keep its own value.
    scores = DeletionAUC(levels=3, removal=removal)(net, x, y, a, batch_size=3)
    for image, label, attribution, score in zip(x, y, a, scores, strict=True):
        curve = literal_curve(net, image, label, attribution, [1 / 3, 2 / 3, 1], neutral(image))
        assert score == pytest.approx(np.mean(curve), abs=1e-6)


def test_removal_of_each_example_its_own(net, images):
    x, y, a = images
    values = np.arange(4.0).reshape(4, 1, 1, 1)
    together = DeletionAUC(levels=4, removal=values)(net, x, y, a, batch_size=3)
    alone = [
        DeletionAUC(levels=4, removal=float(i))(net, x[i : i + 1], y[i : i + 1], a[i : i + 1])[0] for i in range(4)
    ]
    assert together == pytest.approx(alone, abs=1e-6)


def test_blur_is_torchvisions(net, images, counting):
    from torchvision.transforms.functional import gaussian_blur

    x, y, a = images
    model = counting(net)
    DeletionAUC(levels=1, removal="blur", output="softmax")(model, x, y, a)
    sigma = 7 / 8
    expected = gaussian_blur(torch.from_numpy(x), [5, 5], [sigma, sigma])
    torch.testing.assert_close(torch.cat(model.seen), expected)


class Additive(nn.Module):
    """Column 1 is the sum of w x: what removing a pixel with neutral 0 costs is known."""

    def __init__(self, weights):
        super().__init__()
        self.register_buffer("weights", weights)
        self.eval()

    def forward(self, x):
        value = (x.flatten(1) * self.weights).sum(1)
        return torch.stack([-value, value], 1)


def test_best_and_worst_ranking_of_all():
    weights = torch.tensor([3.0, 1.0, 2.0, 5.0])
    x = np.ones((1, 1, 2, 2), np.float32)
    best = weights.numpy().reshape(1, 1, 2, 2)
    for cls, worse in ((DeletionAUC, max), (InsertionAUC, min)):
        metric = cls(levels=4, removal=0.0)
        evaluate = functools.partial(metric, Additive(weights), x, [1], softmax=False)
        every = [
            evaluate(np.array(ranking, float).reshape(1, 1, 2, 2))[0] for ranking in itertools.permutations(range(4))
        ]
        better = min if worse is max else max
        assert evaluate(best)[0] == better(every)
        assert evaluate(-best)[0] == worse(every)
    # 11 - 5, - 3, - 2, - 1 and the same from the other end.
    assert DeletionAUC(levels=4, removal=0.0)(Additive(weights), x, [1], best, softmax=False) == [(6 + 3 + 1 + 0) / 4]
    assert InsertionAUC(levels=4, removal=0.0)(Additive(weights), x, [1], best, softmax=False) == [
        (5 + 8 + 10 + 11) / 4
    ]


def test_ties_go_by_position(counting):
    model = counting(Additive(torch.ones(4)))
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    DeletionAUC(levels=4, output="softmax")(model, x, [1], np.array([[1.0, 2.0, 1.0, 1.0]]))
    zeros = [set(np.flatnonzero(row == 0).tolist()) for row in torch.cat(model.seen).numpy()]
    assert zeros == [{1}, {0, 1}, {0, 1, 2}, {0, 1, 2, 3}]


def test_levels_round_halves_to_even(counting):
    model = counting(Additive(torch.ones(5)))
    x = np.ones((1, 5), np.float32)
    curve = DeletionAUC(levels=10, return_curve=True)(model, x, [1], [[5, 4, 3, 2, 1]], softmax=False)[0]
    # k P = .5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5
    assert (5 - curve).tolist() == [0, 1, 2, 2, 2, 3, 4, 4, 4, 5]
    # Six different numbers of features: each is evaluated once.
    assert sum(model.rows) == 6


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
@pytest.mark.parametrize("rule, most", [("mean", 10), ("trapezoid", 11)])
def test_forwards_are_shared_and_counted(net, images, counting, cls, rule, most):
    x, y, a = images
    model = counting(net)
    whole = cls(levels=10, rule=rule, output="softmax")(model, x, y, a)
    assert model.rows == [4 * most]

    model = counting(net)
    cut = cls(levels=10, rule=rule, internal_batch_size=7, output="softmax")(model, x, y, a)
    assert sum(model.rows) == 4 * most
    assert max(model.rows) == 7
    # The default looks at the inputs' own outputs first, and so does a curve relative to them.
    for kwargs in ({}, {"relative": True, "output": "softmax"}):
        model = counting(net)
        cls(levels=10, rule=rule, **kwargs)(model, x, y, a)
        assert model.rows == [4, 4 * most]
    assert cut == pytest.approx(whole, abs=1e-6)
    # Quantus' batch_size bounds neither.
    assert cls(levels=10, rule=rule)(net, x, y, a, batch_size=1) == pytest.approx(whole, abs=1e-6)


def test_automatic_rows_are_bounded(net, counting):
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(6, 3, 16, 16)).astype(np.float32), rng.normal(size=(6, 3, 16, 16))
    model = counting(net)
    DeletionAUC(levels=100, output="softmax")(model, x, np.zeros(6, int), a)
    # 98304 // (3 * 16 * 16) = 128 rows, the rule of the gradients' engine.
    assert model.rows == [128, 128, 128, 128, 88]

    model = counting(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)))
    large = np.zeros((1, 3, 1024, 1024), np.float32)
    DeletionAUC(levels=4, removal=0)(model, large, [0], np.arange(1024.0**2).reshape(1, 1, 1024, 1024))
    assert max(model.rows) <= 8


def test_channels_of_a_pixel_go_together(net, images):
    x, y, a = images
    metric = DeletionAUC(levels=6)
    summed = a.sum(1, keepdims=True)
    expected = metric(net, x, y, a)
    assert metric(net, x, y, summed) == expected
    assert metric(net, x, y, summed[:, 0]) == expected


def test_abs_and_normalise(net, images):
    x, y, a = images
    assert DeletionAUC(levels=6, abs=True)(net, x, y, a) == DeletionAUC(levels=6)(net, x, y, np.abs(a))
    assert DeletionAUC(levels=6, abs=True)(net, x, y, a) == DeletionAUC(levels=6, ranking="absolute")(net, x, y, a)
    assert DeletionAUC(levels=6, normalise=True)(net, x, y, a) == DeletionAUC(levels=6)(net, x, y, a)
    before = a.copy()
    in_place = quantus.normalise_func.normalise_by_average_second_moment_estimate
    DeletionAUC(levels=6, normalise=True, normalise_func=in_place)(net, x, y, a)
    np.testing.assert_array_equal(a, before)

    def negative(a, factor):
        return -factor * a

    negated = DeletionAUC(levels=6, normalise=True, normalise_func=negative, normalise_func_kwargs={"factor": 2})
    assert negated(net, x, y, a) == DeletionAUC(levels=6)(net, x, y, -a)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16), levels=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_insertion_is_deletion_backwards(seed, levels):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).eval()
    x = rng.normal(size=(2, 2, 3, 4)).astype(np.float32)
    # No ties, and levels that divide P, so that both round alike.
    a = rng.permuted(np.tile(np.arange(12.0), (2, 1)), axis=1).reshape(2, 1, 3, 4)
    kwargs = {"levels": levels, "rule": "trapezoid", "return_curve": True}
    forward = InsertionAUC(**kwargs)(model, x, [0, 2], a)
    backward = DeletionAUC(**kwargs)(model, x, [0, 2], -a)
    for f, b in zip(forward, backward, strict=True):
        np.testing.assert_allclose(f, b[::-1], atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_only_the_ranking_counts(seed):
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = nn.Linear(7, 3).eval()
    x, y, a = rng.normal(size=(5, 7)).astype(np.float32), rng.integers(0, 3, 5), rng.normal(size=(5, 7))
    metric = DeletionAUC(levels=5)
    scores = metric(model, x, y, a)
    assert metric(model, x, y, np.exp(a)) == scores
    order = rng.permutation(5)
    assert metric(model, x[order], y[order], a[order]) == pytest.approx(np.array(scores)[order], abs=1e-6)
    assert metric(model, x[:1], y[:1], a[:1]) == pytest.approx(scores[:1], abs=1e-6)


def test_curve_and_area_agree(net, images):
    x, y, a = images
    for rule in ("mean", "trapezoid"):
        metric = DeletionAUC(levels=8, rule=rule)
        scores = metric(net, x, y, a, batch_size=3)
        curves = DeletionAUC(levels=8, rule=rule, return_curve=True)(net, x, y, a)
        assert isinstance(curves, list) and all(isinstance(c, np.ndarray) for c in curves)
        np.testing.assert_allclose(metric.curves, curves, atol=1e-6)
        assert metric.fractions[-1] == 1 and metric.fractions[0] == (0 if rule == "trapezoid" else 1 / 8)
        for score, curve in zip(scores, curves, strict=True):
            steps = torch.tensor(metric.fractions)
            area = curve.mean() if rule == "mean" else torch.trapezoid(torch.tensor(curve), steps).item()
            assert score == pytest.approx(area, abs=1e-6)
    with torch.no_grad():
        f = net(torch.from_numpy(x)).softmax(1).numpy()[np.arange(4), y]
    np.testing.assert_allclose([c[0] for c in curves], f, atol=1e-6)


def test_aggregates(net, images):
    x, y, a = images
    scores = DeletionAUC(levels=5)(net, x, y, a)
    metric = DeletionAUC(levels=5, return_aggregate=True)
    assert metric(net, x, y, a) == [pytest.approx(np.mean(scores))]
    assert DeletionAUC(levels=5, return_aggregate=True, aggregate_func=max)(net, x, y, a) == [max(scores)]
    (curve,) = DeletionAUC(levels=5, return_aggregate=True, return_curve=True)(net, x, y, a)
    np.testing.assert_allclose(curve, metric.curves.mean(0))
    metric(net, x, y, a)
    assert len(metric.all_evaluation_scores) == 2


def test_tabular_input_is_removed_by_zero(tabular):
    model, x, y, a = tabular
    scores = DeletionAUC(levels=5)(model, x, y, a)
    for i in range(3):
        row, curve = x[i].copy(), []
        for j in sorted(range(5), key=lambda j: -a[i, j]):
            row[j] = 0
            curve.append(model(torch.from_numpy(row)).softmax(0)[y[i]].item())
        assert scores[i] == pytest.approx(np.mean(curve), abs=1e-6)
    assert InsertionAUC(levels=5, removal="mean")(model, x, y, a) != scores


@pytest.mark.parametrize("shape", [(3, 2, 9), (3, 9, 2), (3, 4, 4), (3, 2, 3, 3, 2)])
def test_other_inputs_are_removed_by_element(shape, counting):
    rng = np.random.default_rng(0)
    size = int(np.prod(shape[1:]))
    x, a = rng.normal(size=shape).astype(np.float32), rng.normal(size=shape)
    torch.manual_seed(0)
    model = counting(nn.Sequential(nn.Flatten(), nn.Linear(size, 3)).eval())
    scores = DeletionAUC(levels=size)(model, x, [0, 1, 2], a)
    flat = nn.Sequential(nn.Flatten(), model.model).eval()
    expected = DeletionAUC(levels=size)(flat, x.reshape(3, -1), [0, 1, 2], a.reshape(3, -1))
    assert scores == pytest.approx(expected, abs=1e-6)
    one_channel = DeletionAUC(levels=size)(model, x, [0, 1, 2], a[:, :1])
    repeated = DeletionAUC(levels=size)(model, x, [0, 1, 2], np.repeat(a[:, :1], shape[1], 1))
    assert one_channel == repeated


def test_square_images_need_no_layout(images):
    rng = np.random.default_rng(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64 * 49, 3)).eval()
    x, a = rng.normal(size=(2, 64, 7, 7)).astype(np.float32), rng.normal(size=(2, 7, 7))
    assert DeletionAUC(levels=3)(model, x, [0, 1], a) == DeletionAUC(levels=3)(model, x, [0, 1], a, channel_first=True)


def test_channels_last(net, images):
    x, y, a = images
    expected = DeletionAUC(levels=5)(net, x, y, a)
    last = np.moveaxis(x, 1, -1)
    for attribution in (np.moveaxis(a, 1, -1), a.sum(1)[..., None], a.sum(1), a):
        assert DeletionAUC(levels=5)(net, last, y, attribution, channel_first=False) == expected
    with pytest.raises(ValueError, match="looks as if its channels came last"):
        DeletionAUC()(net, last, y, a)


def test_makes_explanations(net, images):
    x, y, a = images
    calls = []

    def explain_func(model, inputs, targets, **kwargs):
        calls.append((len(inputs), kwargs))
        return a[[int(np.flatnonzero((x == row).all((1, 2, 3)))[0]) for row in inputs]]

    scores = DeletionAUC(levels=5)(
        net, x, y, explain_func=explain_func, explain_func_kwargs={"flag": 1}, batch_size=3, device="cpu"
    )
    assert scores == pytest.approx(DeletionAUC(levels=5)(net, x, y, a), abs=1e-6)
    assert calls == [(2, {"flag": 1, "device": "cpu"})] * 2


def test_logits_or_probabilities(net, images):
    x, y, a = images
    ends_in_softmax = nn.Sequential(*net, nn.Softmax(1)).eval()
    probabilities = DeletionAUC(levels=4)(net, x, y, a)
    assert DeletionAUC(levels=4)(ends_in_softmax, x, y, a) == pytest.approx(probabilities, abs=1e-6)
    logits = DeletionAUC(levels=4)(net, x, y, a, softmax=False)
    assert max(abs(u - v) for u, v in zip(logits, probabilities, strict=True)) > 0.01


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes(images, net, dtype):
    x, y, a = images
    expected = DeletionAUC(levels=4)(net, x, y, a)
    scores = DeletionAUC(levels=4)(copy.deepcopy(net).to(dtype), x, y, a)
    assert scores == pytest.approx(expected, abs=1e-6 if dtype == torch.float64 else 0.02)


def test_tensors_and_integer_images(net, images):
    x, y, a = images
    expected = DeletionAUC(levels=4)(net, x, y, a)
    tensors = (torch.from_numpy(x).requires_grad_(), torch.from_numpy(y), torch.from_numpy(a))
    assert DeletionAUC(levels=4)(net, *tensors, batch_size=3) == pytest.approx(expected, abs=1e-6)
    assert DeletionAUC(levels=4)(net, x, y.tolist(), a) == expected
    assert DeletionAUC(levels=4)(net, x, y[:, None], a) == expected
    pixels = (x * 10).astype(np.int64)
    assert DeletionAUC(levels=4)(net, pixels, y, a) == DeletionAUC(levels=4)(net, pixels.astype(np.float32), y, a)
    assert DeletionAUC(levels=4)(net, x[:, :, ::-1], y, a[:, :, ::-1]) != expected


def test_nothing_of_the_callers_is_changed(net, images):
    x, y, a = images
    arrays = [x, y, a]
    before = [array.copy() for array in arrays]
    for array in arrays:
        array.flags.writeable = False
    kwargs = {"method": "name"}
    net[0].eval()
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    DeletionAUC(levels=4, removal="blur", abs=True, normalise=True)(
        net, x, y, a, explain_func=print, explain_func_kwargs=kwargs, device="cpu"
    )
    assert kwargs == {"method": "name"}
    for array, old in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, old)
    assert torch.equal(torch.get_rng_state(), state[0])
    np.testing.assert_array_equal(np.random.get_state()[1], state[1])
    assert all(p.grad is None for p in net.parameters())


def test_repeats_bit_by_bit(net, images):
    x, y, a = images
    assert DeletionAUC()(net, x, y, a) == DeletionAUC()(net, x, y, a)


def test_negative_attributions_are_accepted(net, images):
    x, y, a = images
    assert DeletionAUC(levels=5)(net, x, y, a - 100) == DeletionAUC(levels=5)(net, x, y, a - a.min() + 1)


def test_is_a_metric_of_quantus(net, images, capsys):
    for cls, direction in ((DeletionAUC, "lower"), (InsertionAUC, "higher")):
        metric = cls(display_progressbar=True)
        assert isinstance(metric, quantus.metrics.base.Metric)
        assert metric.score_direction.value == direction
        assert metric.evaluation_category.value == "Faithfulness"
        assert {t.value for t in metric.data_applicability} == {"image", "time-series", "tabular"}
        assert {t.value for t in metric.model_applicability} == {"torch", "tensorflow"}
        assert metric.name == cls.__name__.replace("AUC", " AUC")
        assert metric.get_params["levels"] == 100
        metric.interpret_scores()
        assert "lower is better when" in capsys.readouterr().out
        pickle.loads(pickle.dumps(metric))
        assert list(metric(net, *images)) == metric.evaluation_scores


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"levels": 0}, "levels must be a whole number of at least 1, got 0"),
        ({"levels": 2.5}, "levels must be a whole number of at least 1, got 2.5"),
        ({"levels": True}, "levels must be a whole number"),
        ({"internal_batch_size": 0}, "internal_batch_size must be a whole number of at least 1, got 0"),
        ({"rule": "simpson"}, "rule must be one of .*got 'simpson'"),
        ({"ranking": "random"}, "ranking must be one of .*got 'random'"),
        ({"removal": "white"}, "removal must be one of .*got 'white'"),
        ({"removal": None}, "removal must be one of .*got NoneType"),
        ({"removal": True}, "removal must be one of .*got bool"),
        ({"level": 3}, "Unexpected keyword arguments"),
    ],
)
@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
def test_bad_parameters(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls(**kwargs)


def test_bad_calls(net, images, tabular):
    x, y, a = images
    metric = DeletionAUC(levels=3)
    bad = a.copy()
    bad[[1, 3], 0, 0, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"a_batch holds NaN or infinite values in rows 1, 3"):
        metric(net, x, y, bad)
    bad = x.copy()
    bad[2, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"x_batch holds NaN or infinite values in row 2"):
        metric(net, bad, y, a)
    with pytest.raises(ValueError, match=r"y_batch holds class 5.* returns 5 columns"):
        metric(net, x, [0, 1, 5, 2], a)
    with pytest.raises(ValueError, match=r"class numbers from 0, got .*-1.*row 1"):
        metric(net, x, [0, -1, 1, 2], a)
    with pytest.raises(ValueError, match=r"class numbers from 0, got .*0.5.*row 0"):
        metric(net, x, [0.5, 1, 1, 2], a)
    for y_bad in (None, y[:2], 3, ["a"] * 4, np.eye(4)):
        with pytest.raises(ValueError, match="one class number for each of the 4 examples"):
            metric(net, x, y_bad, a)
    with pytest.raises(ValueError, match="DeletionAUC needs a model, got None"):
        metric(None, x, y, a)
    with pytest.raises(ValueError, match="DeletionAUC needs attributions: pass a_batch"):
        metric(net, x, y)
    with pytest.raises(ValueError, match="needs a model to make explanations"):
        metric(None, x, y, explain_func=print)
    with pytest.raises(ValueError, match="not empty"):
        metric(net, x[:0], y[:0], a[:0])
    with pytest.raises(ValueError, match="batch_size must be a whole number of at least 1, got 0"):
        metric(net, x, y, a, batch_size=0)
    with pytest.raises(ValueError, match="channel_first must be True, False or None"):
        metric(net, x, y, a, channel_first="first")
    with pytest.raises(ValueError, match="Unexpected keyword arguments"):
        metric(net, x, y, a, extra=1)
    for shape in [(4, 3, 6), (4, 2, 6, 7), (3, 3, 6, 7), (4, 1, 7, 6), (4, 3, 1, 1), (4,)]:
        with pytest.raises(ValueError, match=r"a_batch has shape .* does not fit inputs of shape \(4, 3, 6, 7\)"):
            metric(net, x, y, np.ones(shape))
    with pytest.raises(ValueError, match="a_batch must hold real numbers"):
        metric(net, x, y, a.astype(complex))
    with pytest.raises(ValueError, match="does not broadcast"):
        DeletionAUC(removal=np.zeros((2, 6, 7)))(net, x, y, a)
    with pytest.raises(ValueError, match="removal='blur' needs images"):
        model, x_tab, y_tab, a_tab = tabular
        DeletionAUC(removal="blur")(model, x_tab, y_tab, a_tab)
    with pytest.raises(ValueError, match=r"a_batch has shape \(3, 1\)"):
        metric(model, x_tab, y_tab, a_tab[:, :1])
    with pytest.raises(AttributeError, match="evaluation mode"):
        metric(copy.deepcopy(net).train(), x, y, a)
    with pytest.raises(AttributeError, match="evaluation mode"):
        metric(copy.deepcopy(net).double().train(), x, y, a)


def test_attributions_that_rank_nothing(net, images):
    x, y, a = images
    with pytest.raises(ValueError, match="it ranks nothing"):
        DeletionAUC()(net, x, y, np.zeros_like(a))
    some = a.copy()
    some[[0, 2]] = 0
    with pytest.warns(UserWarning, match="same score in rows 0, 2: there the features are ranked by position"):
        DeletionAUC(levels=3)(net, x, y, some)
    single = nn.Linear(1, 2).eval()
    assert len(DeletionAUC(levels=3)(single, np.ones((2, 1), np.float32), [0, 1], np.ones((2, 1)))) == 2


def test_bad_outputs(images):
    x, y, a = images

    class Output(nn.Module):
        def __init__(self, make):
            super().__init__()
            self.make = make

        def forward(self, x):
            return self.make(x)

    metric = DeletionAUC(levels=3)
    with pytest.raises(ValueError, match=r"one row of class scores per input.*shape \(4, 2, 2\)"):
        metric(Output(lambda x: x[:, :2, :2, 0]).eval(), x, y, a)
    with pytest.raises(ValueError, match="a single column that is no probability; say output='sigmoid'"):
        metric(Output(lambda x: x[:, :1, 0, 0]).eval(), x, [0] * 4, a)
    assert len(metric(Output(lambda x: x[:, :1, 0, 0]).eval(), x, [0] * 4, a, softmax=False)) == 4

    large = x.copy()
    large[2] += 1e30
    with pytest.raises(ValueError, match="NaN or infinite for masked copies of row 2"):
        metric(Output(lambda x: (x * x).flatten(1)).eval(), large, [0] * 4, a, softmax=False, batch_size=1)


def test_progress_is_shown_on_request_only(net, images, capsys):
    x, y, a = images
    DeletionAUC(levels=5)(net, x, y, a)
    assert capsys.readouterr().err == ""
    DeletionAUC(levels=5, display_progressbar=True)(net, x, y, a)
    assert "masked inputs" in capsys.readouterr().err
