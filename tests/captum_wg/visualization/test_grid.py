import itertools

import numpy as np
import pytest
import torch

from captum_wg.visualization import grid, magnitude_scale, signed_image, unsigned_image


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def shown(axis):
    (picture,) = axis.get_images()
    return np.asarray(picture.get_array())


def test_grid_shows_images_and_maps():
    images = np.random.default_rng(0).random((2, 3, 6, 8))
    ig, variance, summed = random_maps(2, 3, 6, 8), random_maps(2, 3, 6, 8) ** 2, random_maps(2, 1, 3, 4)
    maps = {"IntegratedGradients": torch.from_numpy(ig), "Variance": variance, "summed": summed}
    figure, axes = grid(images, maps, {"summed": False}, labels=["cat", "dog\np=0.9"])
    assert axes.shape == (2, 4) and len(figure.axes) == 8
    assert [axis.get_title() for axis in axes[0]] == ["input", "Integrated\nGradients", "Variance", "summed"]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["cat", "dog\np=0.9"]
    for row in range(2):
        assert np.abs(shown(axes[row, 0]) - 255 * np.moveaxis(images[row], 0, -1)).max() <= 0.5 + 1e-9
        assert (shown(axes[row, 1]) == signed_image(ig[row])).all()
        assert (shown(axes[row, 2]) == unsigned_image(variance[row])).all()
        assert (shown(axes[row, 3]) == unsigned_image(summed[row])).all()


def test_signs_of_a_grid():
    images, a = np.zeros((1, 1, 4, 4)), random_maps(1, 1, 4, 4)
    for signed, expected in ((True, signed_image), (False, unsigned_image)):
        _, axes = grid(images, {"a": a, "|a|": np.abs(a)}, signed)
        assert (shown(axes[0, 1]) == expected(a[0])).all()
        assert (shown(axes[0, 2]) == expected(np.abs(a[0]))).all()


@pytest.mark.parametrize("scale", [None, "method", "image", "all", (0.1, 2.0)])
def test_scales_of_a_grid(scale):
    maps = {"a": random_maps(3, 3, 4, 4), "b": 5 * random_maps(3, 1, 4, 4, seed=1)}
    _, axes = grid(np.zeros((3, 1, 4, 4)), maps, True, scale=scale, quantiles=(0.1, 0.9))
    for row in range(3):
        for column, (name, a) in enumerate(maps.items(), start=1):
            together = {
                "method": [a],
                "image": [m[row] for m in maps.values()],
                "all": list(maps.values()),
                None: [a[row]],
            }
            bounds = scale if isinstance(scale, tuple) else magnitude_scale(together[scale], (0.1, 0.9))
            assert (shown(axes[row, column]) == signed_image(a[row], scale=bounds)).all(), name


def test_input_images_are_denormalised():
    images = np.random.default_rng(0).random((2, 3, 4, 4))
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    normalised = (images - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    plain = [shown(axis) for axis in grid(images, {"a": images})[1][:, 0]]
    back = [shown(axis) for axis in grid(torch.from_numpy(normalised), {"a": images}, mean=mean, std=std)[1][:, 0]]
    assert np.abs(np.stack(plain).astype(int) - np.stack(back)).max() <= 1
    one = grid((images - 0.5) / 0.25, {"a": images}, mean=0.5, std=0.25)[1][0, 0]
    assert np.abs(shown(one).astype(int) - plain[0]).max() <= 1
    bytes_ = np.stack(plain).transpose(0, 3, 1, 2)
    assert (shown(grid(bytes_, {"a": images})[1][1, 0]) == plain[1]).all()
    assert (shown(grid(torch.from_numpy(bytes_), {"a": images})[1][1, 0]) == plain[1]).all()


def test_long_titles_are_wrapped_and_stay_inside_the_figure():
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    names = ["LocalIntegratedGradients (segments, radius=inf)", "an_underscored_name_that_is_long", "W" * 40, "x"]
    a = random_maps(1, 1, 4, 4)
    figure, axes = grid(a.clip(0, 1), dict.fromkeys(names, a), labels=["a very long label beside it"])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    _, height = figure.get_size_inches() * figure.dpi
    boxes = [axis.title.get_window_extent(renderer) for axis in axes[0]]
    for box in (*boxes, axes[0, 0].yaxis.label.get_window_extent(renderer)):
        assert box.x0 >= 0 and box.y0 >= 0 and box.y1 <= height
    wrapped = {axis.get_title().replace("\n", "").replace(" ", "") for axis in axes[0, 1:]}
    assert wrapped == {name.replace(" ", "") for name in names}
    for left, right in itertools.pairwise(boxes[:3]):
        assert left.x1 < right.x0


def test_a_grid_of_one_image():
    _, axes = grid(np.zeros((3, 4, 4)), {"a": random_maps(3, 4, 4)})
    assert axes.shape == (1, 2)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"maps": {}}, ValueError, "maps is empty"),
        ({"maps": np.zeros((2, 3, 4, 4))}, TypeError, "maps must be a dict of attributions by title, got ndarray"),
        ({"maps": {"a": np.zeros((3, 3, 4, 4))}}, ValueError, r"maps\['a'\] has 3 maps, but there are 2 images"),
        ({"maps": {"a": np.zeros((2, 5, 4, 4))}}, ValueError, r"maps\['a'\] must have shape"),
        ({"images": np.zeros((2, 4, 4, 4))}, ValueError, "images must have shape"),
        ({"images": np.full((2, 3, 4, 4), 1.5)}, ValueError, r"images must lie in \[0, 1\].*give the mean and std"),
        ({"images": np.full((2, 3, 4, 4), np.nan)}, ValueError, r"images holds NaN .* rows \[0, 1\]"),
        ({"signed": {"b": True}}, ValueError, r"signed names \['b'\]"),
        ({"labels": ["a"]}, ValueError, "labels has 1 entries, but there are 2 images"),
        ({"mean": 0.5}, ValueError, "both mean and std"),
        ({"mean": 0.5, "std": 0.0}, ValueError, "std must be one finite positive number"),
        ({"mean": (0.5, 0.5), "std": 1.0}, ValueError, "mean must be one finite number or one for each of the 3"),
        ({"cell_size": 0}, ValueError, "cell_size must be a positive number"),
    ],
)
def test_bad_grids_are_refused(changes, error, message):
    arguments = {"images": np.zeros((2, 3, 4, 4)), "maps": {"a": np.zeros((2, 3, 4, 4))}} | changes
    with pytest.raises(error, match=message):
        grid(**arguments)


def test_a_text_is_not_drawn_in_a_grid():
    text = np.random.default_rng(0).random((1, 12, 16))
    with pytest.raises(ValueError, match=r"maps\['IG'\] has shape \(1, 12, 16\), which may be a text .* show_text"):
        grid(text, {"IG": text})
    grid(text[None], {"IG": text})
