"""CIFAR-10: from a folder of images, or in torchvision's form, which is downloaded if it is missing."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from functools import partial
from pathlib import Path

from torchvision import datasets

from benchmarks.data.data_set import DataSet, Source
from benchmarks.data.folders import class_folders
from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Preparation
from benchmarks.run.errors import BenchmarkError

SIDE = 32
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10 = Preparation(None, None, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))


def cifar10_pictures(
    root: str | Path | None, all_classes: bool = False, size: tuple[int, int] | None = None
) -> tuple[Pictures, Pictures]:
    """The training and the test images: train/CLASS/IMAGE and test/CLASS/IMAGE below root, or torchvision's form.

    Args:
        all_classes: whether its ten classes must be there, so that the class numbers are those of any of its networks.
        size: of `Pictures`; files may have any.

    Raises:
        BenchmarkError: no root, nothing usable in it, or not ten classes.
    """
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
    if not ((root / "test").is_dir() and (root / "train").is_dir()):
        return _torchvisions(root, train=True), _torchvisions(root, train=False)
    train, test = (class_folders(root, "CIFAR-10", part=part, size=size) for part in ("train", "test"))
    if train.class_names != test.class_names:
        raise BenchmarkError(
            f"{root}/train and {root}/test hold different classes: {', '.join(train.class_names)}; "
            f"{', '.join(test.class_names)}"
        )
    # Of ten other names the order may be another, but a network may also have learned from these very folders.
    if all_classes and len(test.class_names) != len(CIFAR10_CLASSES):
        raise BenchmarkError(
            f"--root {root}: the folders of train/ and test/ must be CIFAR-10's {len(CIFAR10_CLASSES)} classes, as "
            f"their order gives the network's class numbers: {', '.join(CIFAR10_CLASSES)}; got "
            f"{len(test.class_names)}: {', '.join(test.class_names)}"
        )
    suffix = Path(test.names[0]).suffix.lstrip(".").upper()
    name = f"CIFAR-10 ({'JPEG' if suffix == 'JPG' else suffix})"
    return replace(train, name=name), replace(test, name=name)


def _torchvisions(root: Path, train: bool) -> Pictures:
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # older ones say that it is there already
            found = datasets.CIFAR10(str(root), train=train, download=True)
    except (OSError, RuntimeError) as error:
        raise BenchmarkError(
            f"no CIFAR-10 under {root} (neither train/ and test/ nor cifar-10-batches-py/), and it could not be "
            f"downloaded: {error}. Put one of the two forms there, or run with --data digits"
        ) from error
    part = "train" if train else "test"
    names = tuple(f"{part}/{i:05d}" for i in range(len(found.data)))
    return Pictures("CIFAR-10", names, list(found.data), tuple(found.targets), CIFAR10_CLASSES)


DATA_SET = DataSet(
    lambda places, classes: Source(*reversed(cifar10_pictures(places.root, all_classes=True))),
    parts=partial(cifar10_pictures, size=(SIDE, SIDE)),
    preparation=CIFAR10,
    network="resnet18_cifar10",
    class_names=CIFAR10_CLASSES,
    n_classes=10,
)
