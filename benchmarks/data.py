"""The images: scikit-learn's digits as 3x32x32, and CIFAR-10 from a folder.

A data set here gives normalised images (3, 32, 32) and class numbers; everything downstream works on those alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset
from torchvision import datasets, transforms

from benchmarks.errors import BenchmarkError

NAMES = ("digits", "cifar10")

CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True)
class Images:
    """A data set with its training and its test part.

    Attributes:
        name: what it really is, as it stands in the table.
        train, test: sequences of (image, class) with normalised float32 images (C, H, W).
        mean, std: per channel, of pixels in [0, 1]; what the images were normalised with.
        classes: how many there are.
    """

    name: str
    train: Dataset
    test: Dataset
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images back in [0, 1], for pictures."""
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


@dataclass(frozen=True)
class Selection:
    """Test images that the model classifies correctly: x (N, C, H, W) and y (N,), with their places in the test part.

    `tried` is how many test images were looked at to find them.
    """

    x: Tensor
    y: Tensor
    positions: tuple[int, ...]
    tried: int


def load(name: str, root: str | Path | None = None) -> Images:
    """The data set called `name`; "cifar10" reads from the folder `root`.

    Raises:
        BenchmarkError: unknown name, no root, or nothing usable in it.
    """
    if name == "digits":
        return digits()
    if name == "cifar10":
        return cifar10(root)
    raise BenchmarkError(f"unknown data {name!r}; known are {', '.join(NAMES)}")


def digits() -> Images:
    """scikit-learn's 1797 handwritten digits, 8x8 grey, enlarged to 3x32x32; a third of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(grey).float().div(16).view(-1, 1, 8, 8)
    pixels = nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    mean, std = round(pixels[train].mean().item(), 4), round(pixels[train].std().item(), 4)
    x = ((pixels - mean) / std).expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(labels).long()
    parts = [TensorDataset(x[torch.from_numpy(p)], y[torch.from_numpy(p)]) for p in (train, test)]
    return Images("digits (scikit-learn)", parts[0], parts[1], (mean,) * 3, (std,) * 3, 10)


def cifar10(root: str | Path | None) -> Images:
    """CIFAR-10 under root: an ImageFolder of train/ and test/, or torchvision's form, downloaded if it is missing."""
    if root is None:
        raise BenchmarkError(
            "--data cifar10 needs --root: the folder that holds it, or that it is to be downloaded into"
        )
    root = Path(root)
    if not root.is_dir():
        raise BenchmarkError(
            f"--root {root} is not a folder; give the one that holds CIFAR-10, or create it to have CIFAR-10 "
            f"downloaded into it"
        )
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)])
    if (root / "test").is_dir() and (root / "train").is_dir():
        train, test = (_image_folder(root / part, transform) for part in ("train", "test"))
        if train.classes != test.classes:
            raise BenchmarkError(
                f"{root}/train and {root}/test hold different classes: {train.classes}, {test.classes}"
            )
        name = f"CIFAR-10 ({_file_format(test.samples[0][0])})"
        return Images(name, train, test, CIFAR10_MEAN, CIFAR10_STD, len(test.classes))
    train, test = (_torchvision_cifar10(root, train, transform) for train in (True, False))
    return Images("CIFAR-10", train, test, CIFAR10_MEAN, CIFAR10_STD, 10)


def _image_folder(folder: Path, transform: Callable) -> datasets.ImageFolder:
    try:
        return datasets.ImageFolder(str(folder), transform)
    except FileNotFoundError as error:
        raise BenchmarkError(f"{folder} is no ImageFolder (CLASS/IMAGE): {error}") from error


def _file_format(path: str) -> str:
    suffix = Path(path).suffix.lstrip(".").upper()
    return {"JPG": "JPEG"}.get(suffix, suffix)


def _torchvision_cifar10(root: Path, train: bool, transform: Callable) -> datasets.CIFAR10:
    try:
        return datasets.CIFAR10(str(root), train=train, transform=transform)
    except RuntimeError:
        pass  # not there yet
    try:
        return datasets.CIFAR10(str(root), train=train, transform=transform, download=True)
    except (OSError, RuntimeError) as error:
        raise BenchmarkError(
            f"no CIFAR-10 under {root} (neither train/ and test/ nor cifar-10-batches-py/), and it could not be "
            f"downloaded: {error}. Put one of the two forms there, or run with --data digits"
        ) from error


def order(test: Dataset, seed: int) -> np.ndarray:
    """The places of all test images in the random order in which they are taken."""
    return np.random.default_rng(seed).permutation(len(test))  # type: ignore[arg-type]


def select_correct(
    model: nn.Module, test: Dataset, count: int, seed: int, device: torch.device | str = "cpu", batch_size: int = 64
) -> Selection:
    """The first `count` correctly classified test images in a random order given by the seed."""
    places = order(test, seed)
    chosen: list[tuple[Tensor, int, int]] = []
    tried = 0
    for start in range(0, len(places), batch_size):
        x, y = stack(test, places[start : start + batch_size])
        with torch.no_grad():
            correct = model(x.to(device)).argmax(1).cpu() == y
        for i, position in enumerate(places[start : start + batch_size]):
            tried += 1
            if correct[i]:
                chosen.append((x[i], int(y[i]), int(position)))
            if len(chosen) == count:
                images, labels, positions = zip(*chosen, strict=True)
                return Selection(torch.stack(images), torch.tensor(labels), tuple(positions), tried)
    raise BenchmarkError(
        f"{count} correctly classified test images asked for, but the model gets only {len(chosen)} of "
        f"{len(places)} right; ask for fewer (--images), or check that the weights belong to this data"
    )


def sample_references(train: Dataset, count: int, seed: int) -> Tensor:
    """`count` training images (count, C, H, W), drawn without replacement by the seed."""
    available = len(train)  # type: ignore[arg-type]
    if not 1 <= count <= available:
        raise BenchmarkError(
            f"--baselines must lie between 1 and {available}, the number of training images; got {count}"
        )
    # Another stream than the test images' order.
    positions = np.random.default_rng([seed, 1]).permutation(available)[:count]
    return stack(train, positions)[0]


def stack(dataset: Dataset, positions: np.ndarray) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) and classes (N,) at these places of the data set."""
    pairs = list(Subset(dataset, positions.tolist()))  # type: ignore[arg-type]
    return torch.stack([x for x, _ in pairs]), torch.tensor([int(y) for _, y in pairs])
