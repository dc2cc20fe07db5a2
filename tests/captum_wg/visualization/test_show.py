import io
import math

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread

from captum_wg.visualization import STYLES, show, signed_image, unsigned_image
from captum_wg.visualization.styles import overlay_colours

SUMMED = ["overlay", "heat", "topk", "contour"]


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def photographs(*shape):
    return np.random.default_rng(7).random(shape)


def layers(axis):
    return [np.asarray(picture.get_array()) for picture in axis.get_images()]


def pixels(figure):
    """What is seen, (height, width, 3) in [0, 1]."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=50)
    stream.seek(0)
    return imread(stream)[..., :3]


def words(text):
    return " ".join(text.split())


# A second derivation, one pixel at a time: the Gaussian ends at four sigma, borders are mirrored with their own pixel.


def literal_blur(m, sigmas):
    def at(i, side):
        i %= 2 * side
        return i if i < side else 2 * side - 1 - i

    def kernel(sigma):
        radius = int(4 * sigma + 0.5)
        weights = {d: math.exp(-(d**2) / (2 * sigma**2)) for d in range(-radius, radius + 1)}
        return {d: w / sum(weights.values()) for d, w in weights.items()}

    height, width = m.shape
    out = np.zeros_like(m)
    for i in range(height):
        for j in range(width):
            for d, w in kernel(sigmas[0]).items():
                for e, u in kernel(sigmas[1]).items():
                    out[i, j] += w * u * m[at(i + d, height), at(j + e, width)]
    return out


def test_the_map_is_summed_and_smoothed_with_zero_in_the_middle():
    a = random_maps(3, 8, 12)
    figure, axis = show(photographs(3, 8, 12), a, smooth=0.1)
    beneath, m = layers(axis)
    assert np.allclose(m, literal_blur(a.sum(0), (0.8, 1.2)))
    assert m.sum() == pytest.approx(a.sum())
    drawn = axis.get_images()[1]
    assert drawn.norm.vcenter == 0 and drawn.norm.vmax == -drawn.norm.vmin
    assert drawn.norm.vmax == pytest.approx(sorted(np.abs(m).ravel())[-1], rel=0.1)
    assert (beneath == beneath[..., :1]).all()
    assert isinstance(figure, Figure) and len(figure.axes) == 2
    said = words(figure.get_supxlabel())
    assert said.startswith("Sum over the channels; smoothed by a Gaussian of 0.8 pixels; colours end at the 99.5 %")
    assert said.endswith("red: positive, blue: negative.")


def test_smoothing_is_light_and_can_be_left_out():
    a, image = random_maps(3, 64, 64), photographs(3, 64, 64)
    by_default = layers(show(image, a)[1])[1]
    assert (by_default == layers(show(image, a, smooth=1 / 48)[1])[1]).all()
    figure, axis = show(image, a, smooth=0)
    assert np.allclose(layers(axis)[1], a.sum(0)) and "not smoothed" in words(figure.get_supxlabel())
    assert 0.4 < np.corrcoef(by_default.ravel(), a.sum(0).ravel())[0, 1] < 1


def test_the_overlay_is_transparent_where_the_map_is_zero():
    colours = overlay_colours(matplotlib.colormaps["RdBu_r"])
    low, middle, high = colours([0.0, 0.5, 1.0])
    assert middle[3] < 0.01 and low[3] == high[3] == pytest.approx(0.9)
    assert high[0] > high[2] and low[2] > low[0]


def test_the_papers_forms_are_drawn_as_they_are():
    a, image = random_maps(3, 8, 8), photographs(3, 8, 8)
    for style, expected in (("signed", signed_image), ("unsigned", unsigned_image)):
        figure, axis = show(image, a, style)
        assert (layers(axis)[0] == expected(a)).all() and len(figure.axes) == 1
        assert "each colour channel on its own; not smoothed" in words(figure.get_supxlabel()).lower()
        bounded = layers(show(image, a, style, scale=2.0)[1])[0]
        assert (bounded == expected(a, scale=(0.0, 2.0))).all()


def test_topk_keeps_the_photograph_where_the_map_is_largest():
    a, image = random_maps(3, 10, 10), photographs(3, 10, 10)
    (picture,) = layers(show(image, a, "topk", smooth=0, top=0.07)[1])
    original = np.rint(255 * np.moveaxis(image, 0, -1))
    kept = (picture == original).all(-1)
    order = sorted(range(100), key=lambda i: (-a.sum(0).ravel()[i], i))[:7]
    assert sorted(np.flatnonzero(kept)) == sorted(order)
    assert (picture[~kept].min()) > 150
    # What speaks against the output is not among them, however few speak for it.
    (picture,) = layers(show(image, -np.abs(a), "topk", top=0.5)[1])
    assert not (picture == original).all(-1).any()


def test_contours_lie_at_shares_of_the_largest_colour():
    a = np.linspace(-2, 1, 400).reshape(20, 20)
    _, axis = show(photographs(3, 20, 20), a, "contour", smooth=0, scale=2.0)
    (lines,) = axis.collections
    assert lines.levels == pytest.approx([-1.5, -1.0, -0.5, 0.5])


def test_the_papers_forms_share_scales_as_grids_do():
    a = random_maps(2, 3, 8, 8)
    figure, axes = show(None, {"a": a, "b": 3 * a}, "signed", scale="method")
    assert axes.shape == (2, 2) and "one scale for each method" in words(figure.get_supxlabel())
    for column in axes.T:
        assert (np.stack([layers(axis)[0] for axis in column]) == signed_image(a, scale="common")).all()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "a",
    [np.zeros((3, 8, 8)), np.full((3, 8, 8), 2.0), -np.abs(random_maps(3, 8, 8)), np.full((3, 8, 8), 1e-30)],
    ids=["zero", "constant", "one sign", "tiny"],
)
def test_maps_without_structure_are_drawn(style, a):
    figure, _ = show(photographs(3, 8, 8), a, style)
    assert np.isfinite(pixels(figure)).all()


def test_a_few_peaks_among_zeros_are_seen():
    a = np.zeros((40, 40))
    a[3, 4] = 5.0
    assert show(None, a, "heat", smooth=0)[1].get_images()[0].norm.vmax == 5


def test_photographs_are_denormalised():
    image = photographs(3, 6, 6)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    normalised = (image - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    a = {"a": random_maps(3, 6, 6)}
    plain = layers(show(image, a)[1][0, 0])[0]
    assert np.abs(plain - np.rint(255 * np.moveaxis(image, 0, -1))).max() <= 1
    again = layers(show(torch.from_numpy(normalised), a, mean=mean, std=std)[1][0, 0])[0]
    assert np.abs(plain.astype(int) - again).max() <= 1


@pytest.mark.parametrize(
    ("scale", "bars"), [("image", 2), ("method", 3), ("all", 1), (None, 6), (2.5, 1)], ids=lambda value: str(value)
)
def test_maps_of_a_grid_share_their_scale(scale, bars):
    maps = {
        "a": random_maps(2, 3, 8, 8),
        "b": 9 * random_maps(2, 3, 8, 8, seed=1),
        "c": random_maps(2, 1, 8, 8, seed=2),
    }
    figure, axes = show(photographs(2, 3, 8, 8), maps, smooth=0, scale=scale, labels=["cat", "dog"], title="both")
    assert axes.shape == (2, 4) and len(figure.axes) == 8 + bars
    assert [axis.get_title() for axis in axes[0]] == ["input", "a", "b", "c"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["cat", "dog"] and figure.get_suptitle() == "both"
    ends = np.array([[axis.get_images()[1].norm.vmax for axis in row] for row in axes[:, 1:]])
    summed = np.stack([a.sum(1) for a in maps.values()], axis=1)  # (images, methods, H, W)
    over = {"image": (1, 2, 3), "method": (0, 2, 3), "all": (0, 1, 2, 3), None: (2, 3)}
    expected = 2.5 if scale == 2.5 else np.quantile(np.abs(summed), 0.995, axis=over[scale], keepdims=True)[..., 0, 0]
    assert np.allclose(ends, expected)


def test_a_batch_is_a_grid_and_bars_can_be_left_out():
    figure, axes = show(photographs(2, 3, 8, 8), random_maps(2, 3, 8, 8), colorbar=False, caption=False)
    assert axes.shape == (2, 2) and len(figure.axes) == 4 and figure.get_supxlabel() == ""
    _, axes = show(None, random_maps(2, 3, 8, 8), "heat")
    assert axes.shape == (2, 1)
    _, axis = show(photographs(1, 3, 8, 8), random_maps(1, 3, 8, 8))
    assert len(axis.get_images()) == 2


def test_coarse_maps_of_any_channels_are_enlarged():
    a = np.stack([np.full((2, 2), 1.0), np.array([[3.0, -1.0], [-1.0, -1.0]])] + [np.zeros((2, 2))] * 6)
    figure, axis = show(photographs(3, 8, 8), a, smooth=0)
    m = layers(axis)[1]
    assert m.shape == (8, 8) and m[0, 0] == 4 and m[-1, -1] == 0 and 0 < m[3, 3] < 4
    assert "enlarged from 2 x 2" in words(figure.get_supxlabel())


def test_given_axes_are_drawn_on_and_pyplot_is_left_alone():
    from matplotlib import pyplot

    pyplot.close("all")
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert show(photographs(3, 8, 8), random_maps(3, 8, 8), ax=right, title="IG", colorbar=False) == (figure, right)
    assert not left.get_images() and right.get_title() == "IG" and "Gaussian" in right.get_xlabel()
    assert len(figure.axes) == 2 and figure.get_supxlabel() == ""
    result, axes = show(photographs(3, 8, 8), {"IG": random_maps(3, 8, 8)}, ax=[left, right])
    assert result is figure and axes.tolist() == [[left, right]]
    assert pyplot.get_fignums() == []
    with pytest.raises(ValueError, match="title of a grid belongs to the figure"):
        show(photographs(3, 8, 8), {"IG": random_maps(3, 8, 8)}, ax=[left, right], title="all")
    with pytest.raises(ValueError, match="ax must be 2 Axes, one a picture, got 1"):
        show(photographs(3, 8, 8), {"IG": random_maps(3, 8, 8)}, ax=left)
    with pytest.raises(TypeError, match="ax must be matplotlib Axes, or several of them, got Figure"):
        show(photographs(3, 8, 8), random_maps(3, 8, 8), ax=figure)


def test_a_map_of_one_image_is_no_text():
    text = torch.rand(1, 12, 16)
    for image in (text, None):
        with pytest.raises(ValueError, match=r"attribution has shape \(1, 12, 16\), which may be a text .* show_text"):
            show(image, text, "heat")
    with pytest.raises(ValueError, match=r"attribution\['IG'\] has shape \(1, 12, 16\), which may be a text"):
        show(text, {"IG": text})
    # A photograph beside it, or a batch, says what it is.
    show(torch.rand(3, 12, 16), text)
    show(text, text[0])
    show(text[None], text[None])


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"style": "rainbow"}, ValueError, "style must be one of .*'overlay'"),
        ({"smooth": -1}, ValueError, "smooth must be a number in"),
        ({"top": 0}, ValueError, r"top must be a share of the pixels in \(0, 1\], got 0"),
        ({"top": 2}, ValueError, "top must be a number in"),
        ({"scale": "row"}, ValueError, "scale must be one of .*'image'"),
        ({"scale": True}, ValueError, "scale must be a positive finite number"),
        ({"scale": 0}, ValueError, "scale must be a positive finite number"),
        ({"cmap": "no such"}, ValueError, "cmap must be a name of matplotlib's colour maps"),
        ({"cmap": "PuOr_r", "style": "signed"}, ValueError, "cmap has no meaning for style='signed'"),
        ({"cell_size": 0}, ValueError, "cell_size must be a positive number"),
        ({"image": None}, ValueError, "style='overlay' is drawn over the image, which is None"),
        ({"image": np.full((3, 8, 8), 2.0)}, ValueError, r"image must lie in \[0, 1\].*give the mean and std"),
        ({"image": np.zeros((8, 8, 3))}, ValueError, "image must have shape .* channels come first"),
        ({"attribution": {}}, ValueError, "attribution is empty"),
        ({"attribution": np.zeros((2, 3, 8, 8))}, ValueError, "attribution has 2 maps, but there are 1 images"),
        ({"attribution": np.zeros((3, 8, 4))}, ValueError, "has 8 x 4 pixels and the image 8 x 8"),
        ({"attribution": np.full((3, 8, 8), 1e308)}, ValueError, "overflows when its channels are summed"),
        ({"attribution": np.full((3, 8, 8), np.nan)}, ValueError, "attribution holds NaN"),
        ({"attribution": np.zeros((5, 8, 8)), "style": "signed"}, ValueError, "1 or 3 channels, got .*show_text"),
        ({"labels": ["a", "b"]}, ValueError, "labels has 2 entries, but there are 1 images"),
        ({"mean": 0.5}, ValueError, "both mean and std"),
    ],
)
def test_bad_calls_are_refused(changes, error, message):
    arguments = {"image": np.zeros((3, 8, 8)), "attribution": random_maps(3, 8, 8)} | changes
    with pytest.raises(error, match=message):
        show(**arguments)
