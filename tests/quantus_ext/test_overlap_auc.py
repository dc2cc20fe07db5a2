import numpy as np
import pytest
import quantus
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantus_ext import OverlapAUC, explainer


def literal(a, mask, levels, denominator, absolute=False):
    """One image: sets of pixels, literally."""
    height, width = mask.shape
    scores = {}
    for r in range(height):
        for c in range(width):
            values = [float(v) for v in a[:, r, c]]
            scores[r, c] = sum(map(abs, values)) if absolute else sum(values)
    order = sorted(scores, key=lambda p: (-scores[p], p))
    s = {p for p in scores if mask[p]}
    total = 0.0
    for i in range(1, levels + 1):
        t = set(order[: max(1, round(i / levels * len(s)))])
        total += len(t & s) / len(t if denominator == "top" else s)
    return total / levels


@pytest.fixture
def masks():
    s = np.zeros((4, 6, 7), bool)
    s[0, 1:4, 2:5] = True
    s[1, 0, 0] = True
    s[2] = True
    s[3, ::2, ::3] = True
    return s


@pytest.mark.parametrize("denominator", ["top", "mask"])
@pytest.mark.parametrize("ranking", ["signed", "absolute"])
@pytest.mark.parametrize("levels", [1, 7, 100])
def test_agrees_with_literal_sets(images, masks, denominator, ranking, levels):
    x, _, a = images
    scores = OverlapAUC(levels=levels, denominator=denominator, ranking=ranking)(None, x, None, a, masks)
    expected = [literal(*pair, levels, denominator, ranking == "absolute") for pair in zip(a, masks, strict=True)]
    assert scores == pytest.approx(expected, abs=1e-12)
    assert all(type(score) is float for score in scores)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**16), density=st.floats(0.02, 1), distinct=st.integers(2, 30))
def test_agrees_with_literal_sets_also_for_ties(seed, density, distinct):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, distinct, size=(1, 1, 5, 4)).astype(float)
    a[0, 0, 0, 0] = distinct
    mask = rng.random((1, 5, 4)) < density
    mask[0, -1, -1] = True
    for denominator in ("top", "mask"):
        (score,) = OverlapAUC(levels=11, denominator=denominator)(None, np.zeros((1, 3, 5, 4)), None, a, mask)
        assert score == pytest.approx(literal(a[0], mask[0], 11, denominator), abs=1e-12)
        assert 0 <= score <= 1


def test_best_and_worst(images, masks):
    x = images[0][:1]
    s = masks[:1]
    inside, outside = s[:, None].astype(float), 1.0 - s[:, None]
    assert OverlapAUC()(None, x, None, inside, s) == [1.0]
    assert OverlapAUC()(None, x, None, outside, s) == [0.0]
    assert OverlapAUC(denominator="mask")(None, x, None, outside, s) == [0.0]
    # A mask of 100 pixels covers k of itself at level k.
    square = np.zeros((1, 12, 12))
    square[:, 1:11, 1:11] = 1
    best = OverlapAUC(denominator="mask")(None, np.zeros((1, 3, 12, 12)), None, square, square)
    assert best == [pytest.approx(0.505)]


def test_a_single_pixel_counts_from_the_first_level():
    a, s = np.array([[[[1.0, 0.0], [0.0, 0.0]]]]), np.array([[[1, 0], [0, 0]]])
    assert OverlapAUC(levels=10)(None, np.zeros((1, 1, 2, 2)), None, a, s) == [1.0]


def test_forms_of_masks(images, masks):
    x, _, a = images
    expected = OverlapAUC()(None, x, None, a, masks)
    for s in (
        masks[:, None],
        masks[..., None],
        masks.astype(np.uint8) * 255,
        masks.astype(np.float64),
        torch.from_numpy(masks),
        masks.tolist(),
        masks * np.arange(1, 5).reshape(4, 1, 1),
    ):
        assert OverlapAUC()(None, x, None, a, s) == expected
        assert OverlapAUC()(None, x, None, a, s, batch_size=3) == expected


def test_curves(images, masks):
    x, _, a = images
    metric = OverlapAUC(levels=20, return_curve=True)
    curves = metric(None, x, None, a, masks)
    np.testing.assert_array_equal(metric.curves, curves)
    np.testing.assert_allclose(metric.curves.mean(1), OverlapAUC(levels=20)(None, x, None, a, masks))
    assert metric.fractions.tolist() == [i / 20 for i in range(1, 21)]
    aggregate = OverlapAUC(levels=20, return_curve=True, return_aggregate=True)(None, x, None, a, masks)
    np.testing.assert_allclose(aggregate[0], metric.curves.mean(0))


def test_makes_explanations_and_takes_channels_last(net, images, masks):
    x, y, _ = images
    a = explainer("Saliency")(net, x, y)
    expected = OverlapAUC()(None, x, None, a, masks)
    assert OverlapAUC()(net, x, y, None, masks, explain_func=explainer("Saliency")) == pytest.approx(expected)
    last = np.moveaxis(x, 1, -1)
    assert OverlapAUC()(None, last, None, np.moveaxis(a, 1, -1), masks[..., None], channel_first=False) == expected
    assert OverlapAUC()(None, last, None, a, masks[..., None]) == expected


def test_is_a_metric_of_quantus(capsys):
    metric = OverlapAUC()
    assert isinstance(metric, quantus.metrics.base.Metric)
    assert metric.score_direction.value == "higher"
    assert metric.evaluation_category.value == "Localisation"
    assert {t.value for t in metric.data_applicability} == {"image"}
    metric.interpret_scores()
    assert "lies on the object" in capsys.readouterr().out


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"levels": 0}, "levels must be a whole number"),
        ({"denominator": "union"}, "denominator must be one of .*got 'union'"),
        ({"ranking": None}, "ranking must be one of .*got None"),
        ({"removal": 0}, "Unexpected keyword arguments"),
    ],
)
def test_bad_parameters(kwargs, message):
    with pytest.raises(ValueError, match=message):
        OverlapAUC(**kwargs)


def test_bad_calls(images, masks):
    x, _, a = images
    metric = OverlapAUC()
    with pytest.raises(ValueError, match="OverlapAUC needs s_batch"):
        metric(None, x, None, a)
    empty = masks.copy()
    empty[[1, 2]] = False
    with pytest.raises(ValueError, match="s_batch marks no pixel in rows 1, 2"):
        metric(None, x, None, a, empty)
    for bad in (0.5, -1.0, np.nan, 2.0):
        soft = masks.astype(float)
        soft[3, 0, 1] = bad
        with pytest.raises(ValueError, match="other values in row 3"):
            metric(None, x, None, a, soft)
    with pytest.raises(ValueError, match="other values in row 2"):
        metric(None, x, None, a, masks * np.array([1, 1, -1, 1]).reshape(4, 1, 1))
    for shape in [(4, 7, 6), (4, 3, 6, 7), (3, 6, 7), (6, 7), (4, 42)]:
        with pytest.raises(ValueError, match=r"s_batch has shape .* does not fit inputs of shape \(4, 3, 6, 7\)"):
            metric(None, x, None, a, np.ones(shape))
    with pytest.raises(ValueError, match="s_batch must hold numbers or booleans"):
        metric(None, x, None, a, np.full((4, 6, 7), "1"))
    with pytest.raises(ValueError, match="OverlapAUC needs images"):
        metric(None, np.ones((4, 5)), None, np.arange(20.0).reshape(4, 5), np.ones((4, 5)))
    with pytest.raises(ValueError, match="does not tell where its channels are"):
        metric(None, np.ones((4, 8, 8, 8)), None, np.ones((4, 8, 8)), np.ones((4, 8, 8)))
    with pytest.raises(ValueError, match="ranks nothing"):
        metric(None, x, None, np.ones_like(a), masks)
    with pytest.raises(ValueError, match="needs attributions"):
        metric(None, x, None, None, masks)
    bad = a.copy()
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="a_batch holds NaN or infinite values in row 0"):
        metric(None, x, None, bad, masks)
    with pytest.raises(ValueError, match="Unexpected keyword arguments"):
        metric(None, x, None, a, masks, extra=1)
