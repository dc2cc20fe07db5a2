import numpy as np
import torch
from matplotlib.figure import Figure

from benchmarks.tables import figures


def test_maps_of_images_of_several_sizes():
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, size, size, generator=generator) for size in (8, 16)]
    columns = {
        "EG": [np.ones((3, 8, 8)), np.ones((3, 16, 16))],
        "WG(keep=2)": [torch.randn(3, 8, 8), torch.randn(3, 16, 16)],
    }
    figure = figures.maps(images, columns, labels=["small", "large"])
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 6
    assert {axes.images[0].get_array().shape[:2] for axes in shown} == {(16, 16)}
    assert {"EG", "WG\n(keep=2)"} <= {axes.get_title() for axes in figure.axes}


def test_without_an_image_the_figure_is_empty():
    assert not figures.maps([], {"EG": []}).axes


def test_the_file_of_a_figure_does_not_name_its_maker():
    found = figures.png(Figure(figsize=(1, 1)))
    assert found.startswith(b"\x89PNG") and b"matplotlib" not in found.lower()
