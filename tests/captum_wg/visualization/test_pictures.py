"""What is seen, beside pictures stored here; `python test_pictures.py` stores them anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from captum_wg.visualization import STYLES, BaselineMaps, histogram, show, show_baselines, show_curves

STORED = Path(__file__).parent / "pictures"
SIDE = 48


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
    """Letters differ from machine to machine, and with them the layout."""
    for axis in figure.axes:
        axis.set(title="", xlabel="", ylabel="")
        axis.tick_params(labelleft=False, labelbottom=False, labelright=False, labeltop=False)
        if legend := axis.get_legend():
            legend.remove()
    figure.suptitle("")
    figure.supxlabel("")
    return figure


PICTURES = [styles, grid_of_methods, baselines, curves, trained_against_random]


@pytest.mark.parametrize("make", PICTURES, ids=lambda make: make.__name__)
def test_pictures_are_as_they_were(make, tmp_path):
    drawn = tmp_path / f"{make.__name__}.png"
    without_words(make()).savefig(drawn, dpi=SIDE)
    assert compare_images(str(STORED / drawn.name), str(drawn), tol=3) is None


if __name__ == "__main__":
    STORED.mkdir(exist_ok=True)
    for make in PICTURES:
        without_words(make()).savefig(STORED / f"{make.__name__}.png", dpi=SIDE)
