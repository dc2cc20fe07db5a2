"""What is seen, beside pictures stored here; `python test_pictures.py` stores them anew.

Words are left out, since letters differ from machine to machine. TOLERANCE is the root mean square over all pixels of
the difference in brightness, of 255: lines and colours are rounded otherwise by other versions of matplotlib.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from captum_wg.visualization import (
    STYLES,
    BaselineMaps,
    grid,
    histogram,
    show,
    show_baselines,
    show_curves,
    show_displays,
    visualize_attributions,
)

STORED = Path(__file__).parent / "pictures"
SIDE = 48
TOLERANCE = 3


def scene():
    """A bright disc on a slope of colours, and a map: for the disc's upper half, against its lower one."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    disc = np.exp(-6 * (x**2 + y**2))
    image = np.stack([0.2 + 0.6 * disc, 0.3 + 0.2 * x, 0.4 - 0.3 * y])
    noise = np.random.default_rng(0).standard_normal((3, SIDE, SIDE))
    return image.clip(0, 1), -np.sign(y) * disc + 0.3 * noise


def styles():
    image, a = scene()
    figure = Figure(figsize=(3, 2), dpi=SIDE)
    for i, style in enumerate(STYLES):
        axis = figure.add_axes((i % 3 / 3, i // 3 / 2, 1 / 3, 1 / 2))
        show(image, a, style, ax=axis, colorbar=False, caption=False)
    return figure


def grid_of_methods():
    image, a = scene()
    maps = {"first": np.stack([a, -a]), "second": np.stack([3 * a, 0 * a])}
    return show(np.stack([image, image[:, ::-1]]), maps, cell_size=1)[0]


def grid_per_channel():
    image, a = scene()
    maps = {"signed": np.stack([a, -a]), "unsigned": np.stack([a**2, 0 * a])}
    return grid(np.stack([image, image[:, ::-1]]), maps)[0]


def batch():
    _, a = scene()
    return visualize_attributions(np.stack([a, np.abs(a)]), True, fig_size=(2, 1))[0]


def displays():
    return show_displays(*scene(), cell_size=1)[0]


def baselines():
    image, a = (torch.from_numpy(part) for part in scene())
    starts = torch.stack([torch.zeros_like(image), image.mean((1, 2), keepdim=True).expand_as(image)])
    maps = torch.stack([a, a.flip(1)])[None]
    return show_baselines(BaselineMaps(image[None], starts[None], maps, torch.tensor([[0.75, 0.25]])))[0]


def curves():
    draws = np.random.default_rng(0)
    level, images = np.linspace(0.05, 1, 20), draws.random((15, 1))
    noise = 0.05 * draws.standard_normal((4, 15, 20))
    falling = {f"method {k}": images * np.exp(-k * level) + noise[k] for k in (1, 2)}
    rising = {f"method {k}": images * (1 - np.exp(-k * level)) + noise[k + 1] for k in (1, 2)}
    return show_curves({"deletion": falling, "insertion": rising})[0]


def trained_against_random():
    draws = np.random.default_rng(0)
    maps = {"trained": draws.standard_normal(500), "random weights": 0.3 * draws.standard_normal(500)}
    return histogram({"IG": maps}, bins=25)[0]


def without_words(figure):
    for axis in figure.axes:
        axis.set(title="", xlabel="", ylabel="")
        axis.tick_params(labelleft=False, labelbottom=False, labelright=False, labeltop=False)
        if legend := axis.get_legend():
            legend.remove()
    figure.suptitle("")
    figure.supxlabel("")
    return figure


def save(figure, folder, name):
    path = folder / f"{name}.png"
    without_words(figure).savefig(path, dpi=SIDE)
    return path


PICTURES = [
    styles,
    grid_of_methods,
    grid_per_channel,
    batch,
    displays,
    baselines,
    curves,
    trained_against_random,
]


@pytest.mark.parametrize("make", PICTURES, ids=lambda make: make.__name__)
def test_pictures_are_as_they_were(make, tmp_path):
    drawn = save(make(), tmp_path, make.__name__)
    assert compare_images(str(STORED / drawn.name), str(drawn), TOLERANCE) is None


@pytest.mark.parametrize("style", STYLES)
def test_a_change_is_seen(style, tmp_path):
    """Signs the wrong way round, or twice the smoothing."""
    image, a = scene()
    smooth = 0.02 if style in ("signed", "unsigned") else 1 / 48
    pictures = [
        save(show(image, b, style, smooth=s, colorbar=False, caption=False, cell_size=0.5)[0], tmp_path, name)
        for name, b, s in [("right", a, smooth), ("reversed", -a, smooth), ("soft", a, 2 * smooth)]
    ]
    right, reversed_, soft = map(str, pictures)
    assert compare_images(right, soft, TOLERANCE) is not None
    assert style == "unsigned" or compare_images(right, reversed_, TOLERANCE) is not None


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for make in PICTURES:
        save(make(), STORED, make.__name__)
