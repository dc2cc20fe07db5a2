"""The images: scikit-learn's digits as 3x32x32, and CIFAR-10 from a folder.

A data set here gives normalised images (3, 32, 32) and class numbers; everything downstream works on those alone.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset
from torchvision import datasets, transforms

from benchmarks.run.errors import BenchmarkError, Unreadable

NAMES = ("digits", "cifar10")

DIGITS = "digits (scikit-learn)"
SIDE = 32
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)

# Skipped images that are named one by one.
NAMED = 10


@dataclass(frozen=True)
class Images:
    """A data set with its training and its test part.

    Attributes:
        name: what it really is, as it stands in the table.
        train, test: sequences of (image, class) with normalised float32 images (C, H, W).
        mean, std: per channel, of pixels in [0, 1]; what the images were normalised with.
        classes: how many there are.
        class_names: by their numbers, where they are known.
    """

    name: str
    train: Dataset
    test: Dataset
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: int
    class_names: tuple[str, ...] = ()

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images back in [0, 1], for pictures."""
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


@dataclass(frozen=True)
class Selection:
    """Test images that the model classifies correctly: x (N, C, H, W) and y (N,), with their places in the test part.

    `tried` is how many test images were looked at to find them; of these, `unreadable` says by their places why some
    could not be read.
    """

    x: Tensor
    y: Tensor
    positions: tuple[int, ...]
    tried: int
    unreadable: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Readable:
    """Those of some images of a data set that can be read: x (N, C, H, W), y (N,), and their places.

    `unreadable` says by their places why the others can't; of no readable image x is empty.
    """

    x: Tensor
    y: Tensor
    positions: tuple[int, ...]
    unreadable: dict[int, str]


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
    grey, labels, (train, test) = digits_parts()
    pixels = torch.from_numpy(grey).float().div(16).view(-1, 1, 8, 8)
    pixels = nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    mean, std = round(pixels[train].mean().item(), 4), round(pixels[train].std().item(), 4)
    x = ((pixels - mean) / std).expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(labels).long()
    parts = [TensorDataset(x[torch.from_numpy(p)], y[torch.from_numpy(p)]) for p in (train, test)]
    return Images(DIGITS, parts[0], parts[1], (mean,) * 3, (std,) * 3, 10)


def digits_parts() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Their values (1797, 64) from 0 to 16, their classes, and the places of those for training and for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    return grey, labels, (train, test)


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
    transform = transforms.Compose([_sized, transforms.ToTensor(), transforms.Normalize(CIFAR10_MEAN, CIFAR10_STD)])
    if (root / "test").is_dir() and (root / "train").is_dir():
        train, test = (_image_folder(root / part, transform) for part in ("train", "test"))
        if train.classes != test.classes:
            raise BenchmarkError(
                f"{root}/train and {root}/test hold different classes: {train.classes}, {test.classes}"
            )
        name = f"CIFAR-10 ({_file_format(test.samples[0][0])})"
        return Images(name, train, test, CIFAR10_MEAN, CIFAR10_STD, len(test.classes), tuple(test.classes))
    train, test = (_torchvision_cifar10(root, train, transform) for train in (True, False))
    return Images("CIFAR-10", train, test, CIFAR10_MEAN, CIFAR10_STD, 10, CIFAR10_CLASSES)


def _sized(picture: Image.Image) -> Image.Image:
    width, height = picture.size
    if (width, height) != (SIDE, SIDE):
        raise ValueError(f"{width} x {height} pixels instead of {SIDE} x {SIDE}")
    return picture


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
    """The first `count` correctly classified test images in a random order given by the seed.

    Raises:
        BenchmarkError: there are fewer.
    """
    places = order(test, seed)
    chosen: list[tuple[Tensor, int, int]] = []
    unreadable: dict[int, str] = {}
    tried = 0
    for start in range(0, len(places), batch_size):
        batch = readable(test, places[start : start + batch_size])
        correct = torch.empty(0)
        if batch.positions:
            with torch.no_grad():
                correct = model(batch.x.to(device)).argmax(1).cpu() == batch.y
        row_of = {position: row for row, position in enumerate(batch.positions)}
        for position in places[start : start + batch_size].tolist():
            tried += 1
            if position in batch.unreadable:
                unreadable[position] = batch.unreadable[position]
            elif correct[row := row_of[position]]:
                chosen.append((batch.x[row], int(batch.y[row]), position))
            if len(chosen) == count:
                images, labels, positions = zip(*chosen, strict=True)
                return Selection(torch.stack(images), torch.tensor(labels), tuple(positions), tried, unreadable)
    raise BenchmarkError(
        f"{count} correctly classified test images asked for, but the model gets only {len(chosen)} of "
        f"{len(places)} right{f' ({len(unreadable)} of them are unreadable)' * bool(unreadable)}; ask for fewer "
        f"(--images), or check that the weights belong to this data"
    )


def sample_references(train: Dataset, count: int, seed: int) -> Tensor:
    """`count` training images (count, C, H, W), drawn without replacement by the seed; unreadable ones are named and
    passed over.

    Raises:
        BenchmarkError: there are fewer.
    """
    found = readable_references(train, count, seed)
    tell_unreadable(found.unreadable.values())
    return found.x


def readable_references(train: Dataset, count: int, seed: int) -> Readable:
    """The images of `sample_references`, and those that were passed over."""
    available = len(train)  # type: ignore[arg-type]
    if not 1 <= count <= available:
        raise BenchmarkError(
            f"--baselines must lie between 1 and {available}, the number of training images; got {count}"
        )
    # Another stream than the test images' order.
    found = readable(train, np.random.default_rng([seed, 1]).permutation(available), count)
    if len(found.positions) < count:
        raise BenchmarkError(
            f"--baselines {count}: only {len(found.positions)} of the {available} training images can be read; the "
            f"first that can't: {next(iter(found.unreadable.values()))}"
        )
    return found


def tell_unreadable(messages: Collection[str]) -> None:
    """Name images that are skipped, the first of them if they are many."""
    for message in itertools.islice(messages, NAMED):
        print(f"skipped, unreadable: {message}", file=sys.stderr)
    if len(messages) > NAMED:
        print(f"skipped, unreadable: {len(messages)} images in all", file=sys.stderr)


def readable(dataset: Dataset, positions: Iterable[int], count: int | None = None) -> Readable:
    """Those of the images at these places that can be read, the first `count` of them if it is given."""
    x, y, places = [], [], []
    unreadable: dict[int, str] = {}
    for place in map(int, positions):
        if len(places) == count:
            break
        try:
            image, label = read(dataset, place)
        except Unreadable as error:
            unreadable[place] = str(error)
            continue
        x.append(image)
        y.append(label)
        places.append(place)
    return Readable(torch.stack(x) if x else torch.empty(0), torch.tensor(y), tuple(places), unreadable)


def stack(dataset: Dataset, positions: Iterable[int]) -> tuple[Tensor, Tensor]:
    """The images (N, C, H, W) and classes (N,) at these places of the data set.

    Raises:
        Unreadable: one of them can't be read.
    """
    x, y = zip(*(read(dataset, int(position)) for position in positions), strict=True)
    return torch.stack(x), torch.tensor(y)


def read(dataset: Dataset, position: int) -> tuple[Tensor, int]:
    """The image (C, H, W) and its class at a place of the data set.

    Raises:
        Unreadable: it is missing, truncated, no image, or of another size.
    """
    try:
        x, y = dataset[position]
    except MemoryError:
        raise
    except Exception as error:  # decoders fail in many ways on damaged files
        raise Unreadable(f"{_name(dataset, position)}: {' '.join(str(error).split())[:200]}") from error
    return x, int(y)


def _name(dataset: Dataset, position: int) -> str:
    if isinstance(dataset, datasets.ImageFolder):
        # As train/cat/0.png.
        return Path(dataset.samples[position][0]).relative_to(Path(dataset.root).parent).as_posix()
    return f"image {position}"
