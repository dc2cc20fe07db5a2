"""What all metrics accept in a call, and what they refuse, shown on DeletionAUC."""

import copy
import pickle

import numpy as np
import pytest
import quantus
import torch
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC, OverlapAUC


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
        assert capsys.readouterr().out.endswith(f"{direction} is better.\n")
        pickle.loads(pickle.dumps(metric))
        assert list(metric(net, *images)) == metric.evaluation_scores


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


SWITCHES = ("abs", "normalise", "return_curve", "return_aggregate", "disable_warnings", "display_progressbar")


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC, OverlapAUC])
@pytest.mark.parametrize("name", SWITCHES)
def test_booleans_are_booleans(cls, name):
    for bad in ("no", 1, 0, None):
        with pytest.raises(TypeError, match=f"{name} must be True or False, got {bad!r}"):
            cls(**{name: bad})


def test_relative_and_softmax_are_booleans(net, images):
    for bad in ("no", 0):
        with pytest.raises(TypeError, match=f"softmax must be True or False, got {bad!r}"):
            DeletionAUC()(net, *images, softmax=bad)
    with pytest.raises(TypeError, match="relative must be True or False, got 'no'"):
        DeletionAUC(relative="no")
    with pytest.raises(ValueError, match=r"output must be one of .*got 'logits'"):
        DeletionAUC(output="logits")


def test_complex_numbers_are_refused(net, images):
    x, y, a = images
    for arguments, name in [((x * 1j, y, a), "x_batch"), ((x, y, a * 1j), "a_batch")]:
        with pytest.raises(ValueError, match=f"{name} must hold real numbers, got"):
            DeletionAUC()(net, *arguments)
    for bad in (y.astype(complex), y > 1):
        with pytest.raises(ValueError, match=rf"y_batch must hold one class number.*{bad.dtype}"):
            DeletionAUC()(net, x, bad, a)
    with pytest.raises(ValueError, match="s_batch must hold numbers or booleans, got"):
        OverlapAUC()(None, x, None, a, np.ones((4, 6, 7), complex))
