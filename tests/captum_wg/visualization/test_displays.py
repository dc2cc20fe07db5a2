import numpy as np
import pytest
import torch

from captum_wg.visualization import show_displays, signed_image, unsigned_image, usual_image


def random_maps(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def photographs(*shape):
    return np.random.default_rng(7).random(shape)


def quantile(values, q):
    """Linear between the neighbours in order, as numpy's."""
    values = sorted(values)
    place = q * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (place - below) * (values[above] - values[below])


def literal_usual(image, a, low_share, high_share):
    """Pixel by pixel: absolute values, one number a pixel, clipped, scaled to [0, 1], times the input."""
    _, height, width = image.shape
    s = [[sum(abs(channel[i][j]) for channel in a) for j in range(width)] for i in range(height)]
    flat = [v for row in s for v in row]
    low, high = quantile(flat, low_share), quantile(flat, high_share)
    picture = np.zeros((height, width, 3))
    for i in range(height):
        for j in range(width):
            u = (min(max(s[i][j], low), high) - low) / (high - low)
            for c in range(3):
                picture[i, j, c] = u * round(255 * image[c % len(image), i, j])
    return picture


@pytest.mark.parametrize("quantiles", [(0.05, 0.95), (0.2, 1.0)])
@pytest.mark.parametrize(("of_image", "of_map"), [(3, 3), (3, 1), (1, 3)])
def test_the_usual_display_is_the_papers(of_image, of_map, quantiles):
    image, a = photographs(of_image, 5, 7), random_maps(of_map, 5, 7)
    picture = usual_image(image, a[0] if of_map == 1 else a, quantiles)
    assert picture.shape == (5, 7, 3) and picture.dtype == np.uint8
    assert np.abs(picture - literal_usual(image, a, *quantiles)).max() <= 0.5 + 1e-9


def test_the_usual_display_shows_the_input_and_loses_signs():
    image, a = photographs(3, 6, 6), random_maps(3, 6, 6)
    assert (usual_image(image, a) == usual_image(image, -a)).all()
    assert (usual_image(image, np.ones((3, 6, 6))) == np.rint(255 * np.moveaxis(image, 0, -1))).all()
    assert (usual_image(0 * image, a) == 0).all()


def test_normalised_images_and_batches():
    images, a = photographs(2, 3, 6, 6), random_maps(2, 3, 6, 6)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.1)
    normalised = (images - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    pictures = usual_image(torch.from_numpy(normalised), torch.from_numpy(a), mean=mean, std=std)
    for picture, image, one in zip(pictures, images, a, strict=True):
        assert np.abs(picture.astype(int) - usual_image(image, one)).max() <= 1


def test_the_displays_stand_side_by_side():
    images, a = photographs(2, 3, 6, 6), random_maps(2, 3, 6, 6)
    figure, axes = show_displays(images, a, quantiles=(0.1, 0.8), labels=["cat", "dog"])
    assert axes.shape == (2, 4) and len(figure.axes) == 8
    assert [axis.get_title().replace("\n", " ") for axis in axes[0]] == [
        "input",
        "usual: |a| summed, times input",
        "ours, unsigned",
        "ours, signed",
    ]
    assert [axis.get_ylabel() for axis in axes[:, 0]] == ["cat", "dog"]
    for row, image, one in zip(axes, images, a, strict=True):
        expected = [
            np.rint(255 * np.moveaxis(image, 0, -1)),
            usual_image(image, one, (0.1, 0.8)),
            unsigned_image(one, (0.1, 0.8)),
            signed_image(one, (0.1, 0.8)),
        ]
        for axis, picture in zip(row, expected, strict=True):
            assert (np.asarray(axis.get_images()[0].get_array()) == picture).all()
    assert show_displays(images[0], a[0])[1].shape == (1, 4)


@pytest.mark.parametrize("draw", [usual_image, show_displays])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attribution": np.zeros((3, 8, 4))}, ValueError, r"the image's height and width \(8, 8\), got \(8, 4\)"),
        ({"attribution": np.zeros((2, 3, 8, 8))}, ValueError, "attribution has 2 maps, but there are 1 images"),
        ({"attribution": "map"}, TypeError, "attribution must be a Tensor or a numpy array"),
        ({"attribution": np.full((3, 8, 8), np.nan)}, ValueError, "attribution holds NaN"),
        ({"image": np.full((3, 8, 8), 2.0)}, ValueError, r"image must lie in \[0, 1\].*give the mean and std"),
        ({"image": np.zeros((1, 8, 8)), "attribution": np.zeros((1, 8, 8))}, ValueError, "may be a text.*show_text"),
        ({"quantiles": (0.9, 0.1)}, ValueError, "quantiles must be two numbers"),
        ({"mean": 0.5}, ValueError, "both mean and std"),
    ],
)
def test_bad_calls_are_refused(draw, changes, error, message):
    arguments = {"image": np.zeros((3, 8, 8)), "attribution": random_maps(3, 8, 8)} | changes
    with pytest.raises(error, match=message):
        draw(**arguments)
