import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import MobileNet_V2_Weights, ResNet50_Weights

from benchmarks.data.preparation import Preparation


def photograph(width=301, height=260, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height))


@pytest.mark.parametrize("weights", [ResNet50_Weights.IMAGENET1K_V1, MobileNet_V2_Weights.DEFAULT])
def test_it_is_what_torchvisions_weights_ask_for(weights):
    wanted = weights.transforms()
    ours = Preparation(wanted.resize_size[0], wanted.crop_size[0], wanted.interpolation.value)
    assert torch.allclose(ours.image(photograph()), wanted(photograph()), atol=1e-5)


@pytest.mark.parametrize("size", [(301, 260), (100, 333), (64, 64)])
def test_a_mask_goes_where_the_image_goes(size):
    """The mask of the red part of a photograph is the red part of the input, but for the blurred border."""
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    mask[height // 3 : height // 2, width // 4 : width // 2] = 1
    pixels = np.stack([mask * 255, np.zeros_like(mask), np.zeros_like(mask)], -1)
    preparation = Preparation(48, 32)
    picture = Image.fromarray(pixels)
    found = preparation.mask(picture, mask)
    red = preparation.pixels(preparation.image(picture))[0].numpy()
    assert found.shape == (32, 32) and found.dtype == bool and found.any()
    assert found[red > 0.9].all()
    assert not found[red < 0.1].any()


def test_a_mask_outside_the_crop_is_empty():
    mask = np.zeros((100, 300), np.uint8)
    mask[:, :20] = 1
    assert not Preparation(50, 50).mask(photograph(300, 100), mask).any()


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(
        ValueError, match=r"^the mask has another size than the photograph: 10 x 10 instead of 100 x 300$"
    ):
        Preparation().mask(photograph(300, 100), np.ones((10, 10)))


def test_pixels_and_back():
    preparation = Preparation(None, None)
    x = preparation.image(photograph(32, 32))
    assert x.shape == (3, 32, 32)
    assert torch.allclose(preparation.from_pixels(preparation.pixels(x)), x, atol=1e-5)
