import math

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.figure import Figure

matplotlib.use("Agg")

from captum_wg.visualization import (
    grid,
    histogram,
    magnitude_scale,
    signed_image,
    unsigned_image,
    visualize_attributions,
)


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


# A second derivation, from the words of the paper: one number at a time.


def literal_quantile(values, q):
    ordered = sorted(values)
    position = q * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def literal_picture(a, signed, quantiles=(0.05, 0.95), bounds=None):
    channels, height, width = a.shape
    magnitudes = [abs(float(v)) for v in a.ravel()]
    low, high = bounds or (literal_quantile(magnitudes, quantiles[0]), literal_quantile(magnitudes, quantiles[1]))
    picture = np.zeros((height, width, 3), dtype=int)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                value = float(a[c, i, j])
                clipped = min(max(abs(value), low), high)
                scaled = (clipped - low) / (high - low)
                pixel = 128 + round(127 * math.copysign(scaled, value)) if signed else round(255 * scaled)
                for shown in [c] if channels == 3 else range(3):
                    picture[i, j, shown] = pixel
    return picture


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("quantiles", [(0.05, 0.95), (0.0, 1.0), (0.3, 0.6)])
def test_pictures_follow_the_formula(channels, quantiles):
    a = random_maps(channels, 6, 5, seed=channels)
    for picture, signed in ((unsigned_image, False), (signed_image, True)):
        image = picture(a, quantiles)
        assert image.dtype == np.uint8 and image.shape == (6, 5, 3)
        # One step apart where a rounding tie falls differently.
        assert np.abs(image.astype(int) - literal_picture(a, signed, quantiles)).max() <= 1
        assert (image != literal_picture(a, signed, quantiles)).mean() < 0.01


def test_every_map_of_a_batch_has_its_own_scale_unless_common():
    batch = random_maps(3, 3, 8, 8) * np.array([1, 10, 100]).reshape(3, 1, 1, 1)
    for picture in (unsigned_image, signed_image):
        assert (picture(batch) == np.stack([picture(a) for a in batch])).all()
        common = picture(batch, scale="common")
        assert (common == picture(batch, scale=magnitude_scale(batch))).all()
        assert (common[0] != picture(batch)[0]).any()
    # On the common scale the map of largest magnitudes is the brightest.
    brightness = unsigned_image(batch, scale="common").mean((1, 2, 3))
    assert brightness[0] < brightness[1] < brightness[2]


def test_a_given_scale_replaces_the_quantiles():
    a = random_maps(1, 7, 7)
    expected = literal_picture(a, True, bounds=(0.25, 1.5))
    assert (signed_image(a, quantiles=(0.4, 0.5), scale=(0.25, 1.5)) == expected).all()
    assert (signed_image(a, scale=(0.25, 1.5)) == expected).all()


def test_magnitude_scale_pools_maps_of_any_shape():
    one, three = random_maps(1, 5, 5), 4 * random_maps(2, 3, 4, 4, seed=1)
    pooled = [abs(float(v)) for v in (*one.ravel(), *three.ravel())]
    expected = (literal_quantile(pooled, 0.05), literal_quantile(pooled, 0.95))
    for maps in ([one, three], {"a": one, "b": torch.from_numpy(three)}, (m for m in (one, three))):
        assert magnitude_scale(maps) == pytest.approx(expected)
    assert magnitude_scale(three, (0, 1)) == (np.abs(three).min(), np.abs(three).max())


def test_grey_is_zero_and_signs_are_darker_and_brighter():
    a = np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]])
    assert signed_image(a, (0, 1))[0, :, 0].tolist() == [1, 64, 128, 192, 255]
    assert unsigned_image(a, (0, 1))[0, :, 0].tolist() == [255, 128, 0, 128, 255]


def test_magnitudes_below_the_lower_quantile_are_grey_whatever_their_sign():
    a = np.array([[-10.0, -1.0, -0.5, 0.5, 1.0, 10.0]])
    assert signed_image(a, scale=(1.0, 10.0))[0, :, 0].tolist() == [1, 128, 128, 128, 128, 255]


finite_maps = hnp.arrays(
    np.float64,
    st.tuples(st.sampled_from([1, 3]), st.integers(1, 5), st.integers(1, 5)),
    elements=st.floats(-1e300, 1e300) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324]),
)


@settings(max_examples=150, deadline=None)
@given(finite_maps)
def test_laws_of_the_pictures(a):
    signed, unsigned = signed_image(a).astype(int), unsigned_image(a).astype(int)
    sign = np.moveaxis(np.broadcast_to(np.sign(a), (3, *a.shape[1:])), 0, -1)
    assert (signed_image(-a) == 256 - signed).all()
    assert (unsigned_image(-a) == unsigned).all()
    assert signed.min() >= 1 and unsigned.min() >= 0
    assert (np.sign(signed - 128) * sign >= 0).all()
    assert (signed[sign == 0] == 128).all() and (unsigned[sign == 0] == 0).all()
    # Both show the same magnitude, in 127 and in 255 steps.
    assert np.abs(np.abs(signed - 128) / 127 - unsigned / 255).max() <= 0.5 / 127 + 0.5 / 255 + 1e-9


@settings(max_examples=60, deadline=None)
@given(finite_maps, st.integers(-20, 20))
def test_powers_of_two_change_no_picture(a, exponent):
    a = np.where(np.abs(a) < 1e-250, 0.0, a)  # no rounding among subnormal numbers
    scaled = np.ldexp(a / 1e20, exponent)
    assert (signed_image(scaled) == signed_image(a / 1e20)).all()


def test_order_of_a_batch_is_kept():
    batch, order = random_maps(5, 3, 4, 4), [3, 0, 4, 1, 2]
    for scale in (None, "common"):
        assert (signed_image(batch[order], scale=scale) == signed_image(batch, scale=scale)[order]).all()


def test_colours_are_the_channels():
    a = np.zeros((3, 2, 2))
    a[0, 0, 0], a[1, 0, 1], a[2, 1, 0] = 1, 1, -1
    unsigned, signed = unsigned_image(a), signed_image(a)
    assert unsigned[0, 0].tolist() == [255, 0, 0] and unsigned[0, 1].tolist() == [0, 255, 0]
    assert signed[1, 0].tolist() == [128, 128, 1] and signed[1, 1].tolist() == [128, 128, 128]


@pytest.mark.parametrize(
    ("a", "unsigned", "signed"),
    [
        (np.zeros((3, 4, 4)), 0, 128),
        (np.full((3, 4, 4), 0.3), 255, 255),
        (np.full((1, 4, 4), -7.0), 255, 1),
        (np.full((1, 1, 1), 1e-30), 255, 255),
        # Rounding noise on a constant is no structure.
        (0.1 * (1 + 1e-8 * random_maps(3, 4, 4)), 255, 255),
    ],
    ids=["zero", "positive", "negative", "single", "almost constant"],
)
def test_maps_without_structure_give_plain_pictures(a, unsigned, signed):
    assert (unsigned_image(a) == unsigned).all()
    assert (signed_image(a) == signed).all()


def test_a_one_signed_map_stays_on_its_side_of_grey():
    a = np.abs(random_maps(3, 6, 6))
    assert signed_image(a).min() == 128 and signed_image(a).max() == 255
    assert signed_image(-a).min() == 1 and signed_image(-a).max() == 128


def test_few_peaks_among_zeros_are_seen():
    a = np.zeros((1, 20, 20))
    a[0, 3, 4], a[0, 5, 6] = 2.0, -1.0
    assert (unsigned_image(a)[..., 0] > 0).sum() == 2
    assert signed_image(a)[3, 4].tolist() == [255] * 3 and signed_image(a)[5, 6].tolist() == [1] * 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_tensors_of_any_kind_are_taken(dtype):
    a = torch.from_numpy(random_maps(2, 3, 4, 4)).to(dtype).requires_grad_()
    assert (signed_image(a) == signed_image(a.detach().double().numpy())).all()
    assert (unsigned_image(a[0]) == unsigned_image(a)[0]).all()
    assert (unsigned_image(a[0, 0]) == unsigned_image(a[0, :1])).all()


def test_inputs_are_left_as_they_are():
    a = random_maps(3, 4, 4)
    before = a.copy()
    signed_image(a), unsigned_image(a), histogram({"a": a}), visualize_attributions(a)
    assert (a == before).all()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_tensors_are_taken():
    a = torch.from_numpy(random_maps(3, 4, 4))
    assert (signed_image(a.cuda()) == signed_image(a)).all()


@pytest.mark.parametrize("show", [unsigned_image, signed_image, visualize_attributions])
@pytest.mark.parametrize(
    ("a", "error", "message"),
    [
        (np.zeros((2, 4, 4)), ValueError, r"1 or 3 channels, got \(2, 4, 4\); sum over the channels"),
        (np.zeros((8, 8, 3)), ValueError, r"got \(8, 8, 3\); channels come first"),
        (np.zeros((4,)), ValueError, r"must have shape .* got \(4,\)"),
        (np.zeros((1, 2, 3, 4, 4)), ValueError, "must have shape"),
        (np.zeros((0, 3, 4, 4)), ValueError, "holds no values"),
        ([[1.0]], TypeError, "Tensor or a numpy array of real numbers, got list"),
        ((torch.zeros(1, 1, 2, 2),), TypeError, "of a tuple of attributions give one element"),
        (np.zeros((2, 2), dtype=complex), TypeError, "got complex128"),
        (torch.zeros(2, 2, dtype=torch.complex64), TypeError, "got torch.complex64"),
        (np.full((2, 2), np.nan), ValueError, "attributions holds NaN or infinite values;"),
    ],
)
def test_bad_maps_are_refused(show, a, error, message):
    with pytest.raises(error, match=message):
        show(a)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_with_values_that_are_not_finite_are_named(bad):
    batch = random_maps(4, 3, 2, 2)
    batch[1, 0, 0, 0] = batch[3, 2, 1, 1] = bad
    with pytest.raises(ValueError, match=r"attributions holds NaN or infinite values in rows \[1, 3\]"):
        signed_image(batch)
    with pytest.raises(ValueError, match=r"maps\['IG'\] holds NaN or infinite values in rows \[1, 3\]"):
        grid(np.zeros((4, 3, 2, 2)), {"IG": batch})
    with pytest.raises(ValueError, match=r"maps\['IG'\]\['trained'\] holds NaN .* \[1, 3\]"):
        histogram({"IG": {"trained": batch}})
    with pytest.raises(ValueError, match=r"maps\[0\] holds NaN"):
        magnitude_scale([batch])


@pytest.mark.parametrize(
    "quantiles", [(0.95, 0.05), (0.5, 0.5), (-0.1, 0.9), (0.1, 1.1), (5, 95), (0.5,), (np.nan, 1), 0.9]
)
def test_impossible_quantiles_are_refused(quantiles):
    for call in (
        lambda: unsigned_image(np.ones((2, 2)), quantiles),
        lambda: signed_image(np.ones((2, 2)), quantiles, scale=(0, 1)),
        lambda: magnitude_scale(np.ones((2, 2)), quantiles),
        lambda: histogram({"a": np.ones((2, 2))}, quantiles=quantiles),
        lambda: grid(np.ones((1, 1, 2, 2)), {"a": np.ones((1, 1, 2, 2))}, quantiles=quantiles, scale=(0, 1)),
    ):
        with pytest.raises(ValueError, match="quantiles must be two numbers"):
            call()


@pytest.mark.parametrize("scale", ["shared", (1, 0), (-1, 1), (0, np.inf), (0, np.nan), (1,), 3.0])
def test_impossible_scales_are_refused(scale):
    with pytest.raises(ValueError, match='scale must be None, "common" or two finite numbers'):
        signed_image(np.ones((2, 2)), scale=scale)
    with pytest.raises(ValueError, match='scale must be None, "method", "image", "all" or two'):
        grid(np.ones((1, 1, 2, 2)), {"a": np.ones((1, 1, 2, 2))}, scale=scale)


def test_magnitude_scale_refuses_nothing_and_no_maps():
    with pytest.raises(ValueError, match="maps is empty"):
        magnitude_scale([])
    with pytest.raises(TypeError, match="maps must be a Tensor, an array or several of them, got int"):
        magnitude_scale(3)


# Figures


def shown(axis):
    (picture,) = axis.get_images()
    return np.asarray(picture.get_array())


def test_one_map_as_a_figure():
    a = random_maps(3, 5, 6)
    figure, axis = visualize_attributions(a, title="IG")
    assert isinstance(figure, Figure) and axis.get_title() == "IG"
    assert (shown(axis) == signed_image(a)).all()
    figure, axis = visualize_attributions(a, signed=False, quantiles=(0, 1))
    assert (shown(axis) == unsigned_image(a, (0, 1))).all()
    # Without negative values the magnitude says all.
    figure, axis = visualize_attributions(np.abs(a))
    assert (shown(axis) == unsigned_image(a)).all()


def test_a_batch_as_a_figure():
    batch = random_maps(3, 1, 5, 6)
    _, axes = visualize_attributions(batch, scale="common", title=["a", "b", "c"])
    assert axes.shape == (3,) and [axis.get_title() for axis in axes] == ["a", "b", "c"]
    assert (np.stack([shown(axis) for axis in axes]) == signed_image(batch, scale="common")).all()
    _, axes = visualize_attributions(batch[:1])
    assert axes.shape == (1,)


def test_a_figure_is_drawn_on_given_axes():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    result = visualize_attributions(random_maps(3, 5, 5), plt_fig_axis=(figure, right))
    assert result == (figure, right) and not left.get_images() and len(right.get_images()) == 1
    result = visualize_attributions(random_maps(2, 3, 5, 5), plt_fig_axis=(figure, [left, right]))
    assert result[0] is figure and list(result[1]) == [left, right]
    with pytest.raises(ValueError, match=r"plt_fig_axis must be \(figure, axes\) with 3 Axes"):
        visualize_attributions(random_maps(3, 3, 5, 5), plt_fig_axis=(figure, [left, right]))
    with pytest.raises(ValueError, match="plt_fig_axis must be"):
        visualize_attributions(random_maps(3, 5, 5), plt_fig_axis=(figure, None))


def test_pyplot_is_used_on_request_only():
    from matplotlib import pyplot

    pyplot.close("all")
    visualize_attributions(random_maps(3, 5, 5))
    assert pyplot.get_fignums() == []
    figure, _ = visualize_attributions(random_maps(3, 5, 5), use_pyplot=True)
    assert pyplot.get_fignums() == [figure.number]
    pyplot.close("all")


def test_titles_must_fit_the_batch():
    with pytest.raises(ValueError, match="title has 1 entries, but there are 2 maps"):
        visualize_attributions(random_maps(2, 3, 5, 5), title="a")


def test_a_text_is_not_drawn_as_a_map():
    text = random_maps(1, 12, 16)
    with pytest.raises(ValueError, match=r"attributions has shape \(1, 12, 16\), which may be a text .* show_text"):
        visualize_attributions(text)
    for grey in (text[0], text[None]):
        visualize_attributions(grey)
