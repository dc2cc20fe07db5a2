"""What the convergence is measured on: networks, images and references, as functions along paths."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from benchmarks.quadrature.estimators import Integrands
from benchmarks.quadrature.integrands import Exact, Tabulated, along_paths
from benchmarks.run.errors import BenchmarkError

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
BACKGROUNDS = ("hubble_deep_field", "immunohistochemistry", "retina")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Problem:
    """A network, the images x (N, *feature) and classes y (N,) that are explained, and references (K, *feature).

    Attributes:
        name: of the network and the data, as it stands in the table.
        steps: midpoints of the reference on each path.
        exact: gradients are taken at the estimators' own nodes instead of on the grid of the reference.
        rows: micro-batch.
    """

    name: str
    model: nn.Module
    x: Tensor
    y: Tensor
    references: Tensor
    steps: int
    exact: bool = False
    rows: int = 32

    def integrands(self, image: int) -> Integrands:
        """The integrands of one image, `Tabulated` or `Exact`."""
        label = int(self.y[image])
        at, outputs = along_paths(lambda z: self.model(z)[:, label], self.x[image], self.references, self.rows)
        if self.exact:
            return Exact(at, outputs, len(self.references), self.steps)
        return Tabulated.of(at, len(self.references), self.steps)


def smooth(images: int, baselines: int, steps: int, seed: int) -> Problem:
    """A network of tanh and softplus layers in float64, trained here on scikit-learn's 8x8 digits."""
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(grey / 16).double(), torch.from_numpy(labels).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = nn.Sequential(
            nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Softplus(), nn.Linear(32, 10)
        ).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = models.ready(model, "cpu")
    order = np.random.default_rng(seed).permutation(len(x))
    chosen, others = order[:images], order[images : images + baselines]
    name = "smooth network (tanh, softplus; float64)"
    return Problem(name, model, x[chosen], model(x[chosen]).argmax(1), x[others], steps, exact=True, rows=4096)


def resnet18(settings: argparse.Namespace, baselines: int, steps: int, name: str = "") -> Problem:
    """The ResNet-18 for 32x32 images of `settings`: trained on the digits here, or from a checkpoint."""
    images = data.load(settings.data, settings.root)
    references = data.sample_references(images.train, baselines, settings.seed)
    model = models.ready(models.trained(settings.data, images, settings.weights, settings.cache), settings.device)
    chosen = data.select_correct(model, images.test, settings.images, settings.seed, settings.device)
    data.tell_unreadable(chosen.unreadable.values())
    x, references = chosen.x.to(settings.device), references.to(settings.device)
    return Problem(f"ResNet-18 at 32x32, {images.name}", model, x, chosen.y, references, steps)


def efficientnet_lite0(settings: argparse.Namespace, baselines: int, steps: int) -> Problem:
    """EfficientNet-Lite0 at 224x224; photographs of --root, or scikit-image's with random crops as references.

    The class explained is the one predicted.
    """
    model = models.ready(models.efficientnet_lite0(), settings.device)
    generator = np.random.default_rng(settings.seed)
    if settings.root is not None:
        explained, references, source = *_folder(settings.root, settings.images, baselines, generator), "photographs"
    else:
        from skimage import data as photographs

        if settings.images > len(PHOTOGRAPHS):
            raise BenchmarkError(
                f"without --root there are {len(PHOTOGRAPHS)} photographs; got --images {settings.images}"
            )
        explained = [_crop(getattr(photographs, n)()) for n in PHOTOGRAPHS[: settings.images]]
        pools = [getattr(photographs, n)() for n in BACKGROUNDS]
        references = [_crop(pools[k % len(pools)], generator) for k in range(baselines)]
        source = "scikit-image's photographs"
    x, references = torch.stack(explained).to(settings.device), torch.stack(references).to(settings.device)
    with torch.no_grad():
        y = model(x).argmax(1).cpu()
    return Problem(f"EfficientNet-Lite0 at 224x224, {source}", model, x, y, references, steps, rows=8)


def _folder(
    root: Path, images: int, baselines: int, generator: np.random.Generator
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    files = sorted(p for p in root.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"})
    if len(files) < images + baselines:
        raise BenchmarkError(f"--root {root} holds {len(files)} photographs; {images} + {baselines} are needed")
    chosen = [files[i] for i in generator.permutation(len(files))[: images + baselines]]
    crops = [_crop(np.asarray(Image.open(p).convert("RGB"))) for p in chosen]
    return crops[:images], crops[images:]


def _crop(pixels: np.ndarray, generator: np.random.Generator | None = None) -> Tensor:
    """The central square of a photograph (H, W, 3), or a random one of half its side, as a normalised 224x224 image."""
    side = min(pixels.shape[:2])
    corner = [(n - side) // 2 for n in pixels.shape[:2]]
    if generator is not None:
        side //= 2
        corner = [int(generator.integers(0, n - side + 1)) for n in pixels.shape[:2]]
    square = pixels[corner[0] : corner[0] + side, corner[1] : corner[1] + side]
    resized = Image.fromarray(square).resize((224, 224), Image.Resampling.BILINEAR)
    values = torch.from_numpy(np.asarray(resized).copy()).float().permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return (values - mean) / std
