"""What maps are measured on: networks, images and references; the settings of the command say which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.data.datasets import load
from benchmarks.data.folders import all_files
from benchmarks.data.preparation import Preparation
from benchmarks.data.selection import sample_references, select_correct, tell_unreadable
from benchmarks.models.checkpoints import efficientnet_lite0, ready
from benchmarks.models.training import trained
from benchmarks.quadrature.integrands import Exact, Tabulated, along_paths
from benchmarks.quadrature.settings import Settings
from benchmarks.run.errors import BenchmarkError
from quantus_ext import DeletionAUC

# What a table says, and the frames that are written, by file.
Table = tuple[str, dict[str, pd.DataFrame]]

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
BACKGROUNDS = ("hubble_deep_field", "immunohistochemistry", "retina")
IMAGENET = Preparation()


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
    steps: int = 150
    exact: bool = False
    rows: int = 32

    def integrands(self, image: int) -> Exact | Tabulated:
        """The integrands of one image."""
        label = int(self.y[image])
        at = along_paths(lambda z: self.model(z)[:, label], self.x[image], self.references, self.rows)
        return (Exact if self.exact else Tabulated)(at, len(self.references), self.steps)

    def explain(self, attribute: Callable[..., Any], size: int, **options: Any) -> Any:
        """What a method gives for all images, `size` at a time, joined."""
        parts = [*zip(self.x.split(size), self.y.split(size), strict=True)]
        shown = tqdm(parts, desc=self.name, unit="chunk", leave=False)
        found = [attribute(x, baselines=self.references, target=y, **options) for x, y in shown]
        if isinstance(found[0], tuple):
            return tuple(torch.cat(part).detach() for part in zip(*found, strict=True))
        return torch.cat(found).detach()

    def deletion_auc(self, maps: Tensor) -> np.ndarray:
        """The deletion AUC (N,) of maps (N, C, H, W)."""
        metric = DeletionAUC(disable_warnings=True)
        x, y, a = (values.cpu().numpy() for values in (self.x, self.y, maps))
        return np.asarray(metric(self.model, x, y, a, device=str(self.x.device), channel_first=True), dtype=float)

    def text(self, settings: Settings, *parts: str) -> str:
        """A table and its notes, below what they are of."""
        what = (
            f"{self.name}, n = {len(self.x)} correctly classified images, K = {settings.baselines} reference images, "
            f"seed {settings.seed}, {torch.get_num_threads()} threads."
        )
        return "\n\n".join([what, *parts])


def smooth(settings: Settings) -> Problem:
    """A network of tanh and softplus layers in float64, trained here on scikit-learn's 8x8 digits."""
    from sklearn.datasets import load_digits

    grey, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(grey / 16).double(), torch.from_numpy(labels).long()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        layers = nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Softplus(), nn.Linear(32, 10)
        model = nn.Sequential(*layers).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model = ready(model, "cpu")
    order = np.random.default_rng(settings.seed).permutation(len(x))
    chosen, others = order[: settings.images], order[settings.images :][: settings.baselines]
    name, steps = "smooth network (tanh, softplus; float64)", settings.reference_steps or 2000
    return Problem(name, model, x[chosen], model(x[chosen]).argmax(1), x[others], steps, exact=True, rows=4096)


def resnet18(settings: Settings, baselines: int | None = None, steps: int | None = None) -> Problem:
    """The ResNet-18 for 32x32 images: trained on the digits here, or from a checkpoint."""
    train, test = load(settings.data, settings.root)
    references = sample_references(train, baselines or settings.baselines, settings.seed)
    classes = len(test.pictures.class_names)
    model = ready(trained(settings.data, classes, settings.weights, settings.cache), settings.device)
    chosen = select_correct(model, test, settings.images, settings.seed, settings.device)
    tell_unreadable(chosen.unreadable.values())
    x, y, references = (part.to(settings.device) for part in (chosen.x, chosen.y, references))
    steps = steps or settings.reference_steps or 150
    return Problem(f"ResNet-18 at 32x32, {test.pictures.name}", model, x, y, references, steps)


def lite0(settings: Settings) -> Problem:
    """EfficientNet-Lite0 at 224x224; photographs of --root, or scikit-image's with random crops as references.

    The class explained is the one predicted.
    """
    model = ready(efficientnet_lite0(), settings.device)
    generator = np.random.default_rng(settings.seed)
    n, k = settings.images, settings.baselines
    if settings.root is not None:
        files = all_files(settings.root, "photographs")
        if len(files) < n + k:
            raise BenchmarkError(f"--root {settings.root} holds {len(files)} photographs; {n} + {k} are needed")
        crops = [_crop(np.asarray(files.read(i)[0])) for i in generator.permutation(len(files))[: n + k]]
        source = files.name
    else:
        from skimage import data as photographs

        if n > len(PHOTOGRAPHS):
            raise BenchmarkError(f"without --root there are {len(PHOTOGRAPHS)} photographs; got --images {n}")
        crops = [_crop(getattr(photographs, name)()) for name in PHOTOGRAPHS[:n]]
        pools = [getattr(photographs, name)() for name in BACKGROUNDS]
        crops += [_crop(pools[i % len(pools)], generator) for i in range(k)]
        source = "scikit-image's photographs"
    x, references = torch.stack(crops).to(settings.device).split((n, k))
    with torch.no_grad():
        y = model(x).argmax(1)
    name, steps = f"EfficientNet-Lite0 at 224x224, {source}", settings.reference_steps or 150
    return Problem(name, model, x, y, references, steps, rows=8)


def _crop(pixels: np.ndarray, generator: np.random.Generator | None = None) -> Tensor:
    """The central square of a photograph (H, W, 3), or a random one of half its side, as a normalised 224x224 image."""
    side = min(pixels.shape[:2])
    top, left = ((n - side) // 2 for n in pixels.shape[:2])
    if generator is not None:
        side //= 2
        top, left = (int(generator.integers(0, n - side + 1)) for n in pixels.shape[:2])
    square = Image.fromarray(pixels).crop((left, top, left + side, top + side))
    resized = np.asarray(square.resize((224, 224), Image.Resampling.BILINEAR))
    return IMAGENET.from_pixels(torch.from_numpy(resized.copy()).float().permute(2, 0, 1) / 255)


PROBLEMS: dict[str, Callable[[Settings], Problem]] = dict(smooth=smooth, resnet18=resnet18, efficientnet_lite0=lite0)
