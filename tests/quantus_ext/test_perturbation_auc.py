"""Deletion, insertion and their difference, against literal loops."""

import copy
import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC, SymmetricRelevanceGain


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


@pytest.mark.parametrize("shape", [(3, 2, 9), (3, 9, 2), (3, 4, 4)])
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


def test_volumes_are_removed_by_voxel():
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(3, 2, 2, 3, 2)).astype(np.float32), rng.normal(size=(3, 2, 2, 3, 2))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(24, 3)).eval()
    scores = DeletionAUC(levels=12)(model, x, [0, 1, 2], a)
    for i in range(3):
        volume, curve = x[i].copy(), []
        for place in sorted(np.ndindex(2, 3, 2), key=lambda place: -a[i][(slice(None), *place)].sum()):
            volume[(slice(None), *place)] = 0
            curve.append(model(torch.from_numpy(volume)[None]).softmax(1)[0, i].item())
        assert scores[i] == pytest.approx(np.mean(curve), abs=1e-6)
    assert DeletionAUC(levels=12)(model, x, [0, 1, 2], a.sum(1, keepdims=True)) == pytest.approx(scores, abs=1e-6)


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


def test_repeats_bit_by_bit(net, images):
    x, y, a = images
    assert DeletionAUC()(net, x, y, a) == DeletionAUC()(net, x, y, a)


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


def test_starts_from_nothing_and_ends_at_the_input(net, images, counting):
    x, y, a = images
    model = counting(net)
    curves = InsertionAUC(levels=3, rule="trapezoid", removal=0.5, return_curve=True, output="softmax")(model, x, y, a)
    seen = torch.cat(model.seen).reshape(4, 4, 3, 6, 7)
    assert (seen[:, 0] == 0.5).all()
    np.testing.assert_array_equal(seen[:, -1], x)
    with torch.no_grad():
        whole = net(torch.from_numpy(x)).softmax(1).numpy()[np.arange(4), y]
    np.testing.assert_allclose([c[-1] for c in curves], whole, atol=1e-6)


def test_puts_the_highest_ranked_back_first(counting):
    model = counting(nn.Linear(4, 2).eval())
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    InsertionAUC(levels=4, removal=0, output="softmax")(model, x, [0], [[0.3, 0.1, 0.4, 0.2]])
    np.testing.assert_array_equal(torch.cat(model.seen), [[0, 0, 3, 0], [1, 0, 3, 0], [1, 0, 3, 4], [1, 2, 3, 4]])


def test_an_informative_ranking_wins_against_its_reverse():
    # The class is in one pixel.
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, 4] = 10
    x, a = np.ones((1, 1, 3, 3), np.float32), np.zeros((1, 1, 3, 3))
    a[0, 0, 1, 1] = 1
    insertion, deletion = InsertionAUC(levels=9, removal=0), DeletionAUC(levels=9, removal=0)
    sure = torch.tensor([0.0, 10.0]).softmax(0)[1].item()
    assert insertion(model, x, [1], a)[0] == pytest.approx(sure)
    assert deletion(model, x, [1], a)[0] == pytest.approx(0.5)
    assert insertion(model, x, [1], -a)[0] == pytest.approx((8 * 0.5 + sure) / 9)
    assert deletion(model, x, [1], -a)[0] == pytest.approx((8 * sure + 0.5) / 9)


def literal_groups(net, image, label, attribution, groups, levels, insert):
    """Groups of unequal size, one masked copy at a time, replaced by 0."""
    numbers = sorted(set(groups.ravel().tolist()))
    sums = {g: sum(float(attribution[c][groups == g].sum()) for c in range(3)) for g in numbers}
    order = sorted(numbers, key=lambda g: (-sums[g], g))
    curve = []
    for i in range(1, levels + 1):
        top = order[: round(i / levels * len(numbers))]
        masked = image.copy()
        for g in numbers:
            if (g in top) != insert:
                masked[:, groups == g] = 0
        with torch.no_grad():
            curve.append(net(torch.from_numpy(masked)[None]).softmax(1)[0, label].item())
    return curve


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
@pytest.mark.parametrize("own", [False, True])
def test_feature_masks(net, images, cls, own):
    x, y, a = images
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 6, size=(4, 6, 7)) if own else np.repeat(rng.integers(0, 6, size=(1, 6, 7)), 4, 0)
    if own:
        # Of one image a group more than of the others, and other numbers.
        groups[2, 0, 0] = 77
    given = groups[:, None] if own else groups[:1, None]
    metric = cls(levels=4, removal=0.0, feature_mask=given, return_curve=True)
    curves = metric(net, x, y, a, batch_size=3)
    for i, curve in enumerate(curves):
        expected = literal_groups(net, x[i], y[i], a[i], groups[i], 4, cls is InsertionAUC)
        np.testing.assert_allclose(curve, expected, atol=1e-6)
    tensor = cls(levels=4, removal=0.0, feature_mask=torch.from_numpy(given), return_curve=True)
    np.testing.assert_array_equal(tensor(net, x, y, a, batch_size=3), curves)


def test_a_mask_without_a_dimension_for_examples(net, images):
    x, y, a = (np.concatenate([each, each[:2]]) for each in images)
    mask = np.arange(42).reshape(6, 7) // 5
    # As many rows as there are examples.
    expected = DeletionAUC(levels=4, feature_mask=mask[None, None])(net, x, y, a)
    assert DeletionAUC(levels=4, feature_mask=mask)(net, x, y, a) == expected


def test_bad_feature_masks(net, images):
    for bad in (np.ones((1, 6, 7)), np.ones((1, 6, 7), bool), np.ones(3, int)):
        with pytest.raises(ValueError, match="feature_mask must hold group numbers"):
            DeletionAUC(feature_mask=bad)
    with pytest.raises(ValueError, match="feature_mask has shape"):
        DeletionAUC(feature_mask=np.ones((1, 1, 5, 7), int))(net, *images)


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC, SymmetricRelevanceGain])
def test_relative_to_the_input(net, images, cls):
    x, y, a = images
    with torch.no_grad():
        f = net(torch.from_numpy(x)).softmax(1).numpy()[np.arange(4), y]
    scores = cls(levels=6, relative=True)(net, x, y, a, batch_size=3)
    np.testing.assert_allclose(scores, np.array(cls(levels=6)(net, x, y, a)) / f, rtol=1e-5)
    # The attributions' normalisation is another thing.
    assert cls(levels=6, normalise=True)(net, x, y, a) == cls(levels=6)(net, x, y, a)
    with pytest.raises(ValueError, match=r"relative divides by f\(x\), which is not positive in row"):
        cls(levels=6, relative=True, output=lambda z: z - 100)(net, x, y, a)


@pytest.mark.parametrize("rule", ["mean", "trapezoid"])
def test_symmetric_relevance_gain(net, images, rule):
    x, y, a = images
    gain = SymmetricRelevanceGain(levels=7, rule=rule)
    scores = gain(net, x, y, a, batch_size=3)
    difference = np.subtract(
        InsertionAUC(levels=7, rule=rule)(net, x, y, a), DeletionAUC(levels=7, rule=rule)(net, x, y, a)
    )
    np.testing.assert_allclose(scores, difference, atol=1e-6)
    if rule == "trapezoid":
        # Removal in both orders: 42 pixels in 7 steps of 6.
        least_first = DeletionAUC(levels=7, rule=rule)(net, x, y, -a)
        np.testing.assert_allclose(
            scores, np.subtract(least_first, DeletionAUC(levels=7, rule=rule)(net, x, y, a)), atol=1e-6
        )
        np.testing.assert_allclose(gain(net, x, y, -a), np.negative(scores), atol=1e-6)


def test_the_gain_is_a_metric(net, images, capsys):
    gain = SymmetricRelevanceGain(levels=3)
    assert gain.score_direction.value == "higher" and gain.name == "Symmetric relevance gain"
    gain.interpret_scores()
    assert "Insertion AUC minus deletion AUC" in capsys.readouterr().out
    gain(net, *images)
    assert gain.plot_curves().get_ylabel() == "Difference of the output for the class"


def rise(model, image, explanation, label, mode, step):
    """The published CausalMetric.single_run and auc, but for the class, which is given."""
    from scipy.ndimage import gaussian_filter

    channels, hw = image.shape[1], image.shape[2] * image.shape[3]
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = np.zeros((channels, channels, 11, 11))
    for c in range(channels):
        kernel[c, c] = gaussian_filter(delta, 5)
    kernel = torch.from_numpy(kernel.astype("float32"))
    n_steps = (hw + step - 1) // step
    if mode == "del":
        start, finish = image.clone(), torch.zeros_like(image)
    else:
        start, finish = nn.functional.conv2d(image, kernel, padding=5), image.clone()
    scores = np.empty(n_steps + 1)
    order = np.flip(np.argsort(explanation.reshape(-1, hw), axis=1), axis=-1)
    for i in range(n_steps + 1):
        with torch.no_grad():
            scores[i] = model(start).softmax(1)[0, label]
        if i < n_steps:
            coords = order[:, step * i : step * (i + 1)]
            start.numpy().reshape(1, channels, hw)[0, :, coords] = finish.numpy().reshape(1, channels, hw)[0, :, coords]
    return (scores.sum() - scores[0] / 2 - scores[-1] / 2) / (scores.shape[0] - 1)


@pytest.mark.parametrize("cls, mode", [(DeletionAUC, "del"), (InsertionAUC, "ins")])
@pytest.mark.parametrize("size, step", [((16, 16), 16), ((12, 13), 25)])
def test_rise(net, cls, mode, size, step):
    rng = np.random.default_rng(0)
    x, a = rng.normal(size=(3, 3, *size)).astype(np.float32), rng.normal(size=(3, *size))
    with torch.no_grad():
        y = net(torch.from_numpy(x)).argmax(1).numpy()
    metric = cls.rise(size[0] * size[1], step)
    expected = [rise(net, torch.from_numpy(x[i : i + 1]), a[i], y[i], mode, step) for i in range(3)]
    np.testing.assert_allclose(metric(net, x, y, a), expected, atol=1e-7, rtol=0)
    assert "RISE" in repr(metric) and "Duc" in repr(cls())
    assert cls.rise(10, 4).levels == [0, 4, 8, 10] and cls.rise(8, 4).levels == [0, 4, 8]
    assert cls.rise().levels[-2:] == [224 * 223, 224 * 224]
    assert cls.rise(100, 10, levels=3, output="identity").output == "identity"
