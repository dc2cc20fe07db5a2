"""Photographs as files: a folder of classes, files with a csv of labels, or CIFAR-10, read one at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torchvision import datasets

from benchmarks.data import cifar10
from benchmarks.errors import BenchmarkError, Unreadable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


@dataclass(frozen=True, eq=False)
class Pictures:
    """Photographs with their names and, where they are known, their classes.

    Attributes:
        name: what they are, as it stands in the tables.
        names: of each photograph, unique; for files the path below the folder.
        sources: a file, or pixels (H, W, 3) uint8, for each.
        labels: class numbers, or None.
    """

    name: str
    names: tuple[str, ...]
    sources: Sequence[Path | np.ndarray]
    labels: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def read(self, position: int) -> tuple[Image.Image, int]:
        """The photograph at a position in RGB, and the CRC-32 of its bytes.

        Raises:
            Unreadable: the file is missing, truncated, or no image.
        """
        source = self.sources[position]
        if isinstance(source, np.ndarray):
            return Image.fromarray(source), zlib.crc32(source.tobytes())
        try:
            content = source.read_bytes()
            # Conversion decodes, so that a truncated file fails here.
            return Image.open(io.BytesIO(content)).convert("RGB"), zlib.crc32(content)
        except Exception as error:  # decoders fail in many ways on damaged files
            raise Unreadable(f"{self.names[position]}: {' '.join(str(error).split())[:200]}") from error

    def checksum(self) -> str:
        """Of the names, sizes and labels. The contents of those that are used are checked one by one."""
        digest = hashlib.sha256()
        for i, (name, source) in enumerate(zip(self.names, self.sources, strict=True)):
            size = _size(source)
            digest.update(f"{name}\0{size}\0{'' if self.labels is None else self.labels[i]}\n".encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, eq=False)
class MaskFolder:
    """Masks as images: folder/NAME.png for a photograph NAME.jpg, with its subfolders, nonzero on the object.

    Raises:
        BenchmarkError: no such folder.
    """

    folder: str | Path
    pictures: Pictures

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise BenchmarkError(f"--masks {self.folder} is not a folder; give the one that holds the masks")

    def mask(self, position: int, label: int) -> tuple[np.ndarray | None, str]:
        """The mask (height, width), bool, and ""; or None and why there is none."""
        path = (Path(self.folder) / self.pictures.names[position]).with_suffix(".png")
        if not path.is_file():
            return None, "no mask"
        try:
            return np.asarray(Image.open(path).convert("L")) > 0, ""
        except Exception as error:  # decoders fail in many ways on damaged files
            return None, f"the mask is unreadable: {' '.join(str(error).split())[:200]}"


def cifar10_pictures(root: str | Path) -> tuple[Pictures, Pictures]:
    """The training and the test images of CIFAR-10, in either form that `benchmarks.data.cifar10` reads."""
    images = cifar10(root)
    train, test = (of_dataset(part, images.name, root) for part in (images.train, images.test))
    return train, test


def class_folders(root: str | Path, name: str, classes: int | None = None) -> Pictures:
    """CLASS/IMAGE below root; the class numbers follow the sorted folder names, as in torchvision's ImageFolder.

    Args:
        classes: how many there must be, so that the numbers are those of a model.

    Raises:
        BenchmarkError: no such folder, no images in it, or another number of classes.
    """
    root = _folder(root)
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    if not folders:
        raise BenchmarkError(f"{root} has no class folders; for files with a csv of labels give --labels")
    if classes is not None and len(folders) != classes:
        raise BenchmarkError(
            f"{root} has {len(folders)} class folders, but the model has {classes} classes: their numbers would not "
            f"be the model's. Give files with a csv of labels (--labels)"
        )
    pairs = [(path, label) for label, folder in enumerate(folders) for path in _images_below(folder)]
    if not pairs:
        raise BenchmarkError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    return Pictures(
        name,
        tuple(path.relative_to(root).as_posix() for path, _ in pairs),
        [path for path, _ in pairs],
        tuple(label for _, label in pairs),
    )


def labelled_files(root: str | Path, labels: str | Path, name: str, classes: int) -> Pictures:
    """The files that a csv names: columns `file` (below root) and `class_index` (from 0).

    Raises:
        BenchmarkError: no such folder or csv, missing columns, a class number that is none of the model's, a file
            named twice, no rows.
    """
    root, labels = _folder(root), Path(labels)
    if not labels.is_file():
        raise BenchmarkError(f"--labels {labels} does not exist; give a csv with the columns file and class_index")
    with labels.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if missing := {"file", "class_index"} - set(reader.fieldnames or ()):
            raise BenchmarkError(
                f"{labels} lacks the column {' and '.join(sorted(missing))}; it has "
                f"{', '.join(reader.fieldnames or ())}"
            )
        rows = list(reader)
    if not rows:
        raise BenchmarkError(f"{labels} has no rows")
    numbers: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        text = (row["class_index"] or "").strip()
        if not text.isdecimal() or int(text) >= classes:
            raise BenchmarkError(
                f"{labels}, line {line}: class_index must be a whole number from 0 to {classes - 1}, the model's "
                f"classes; got {text!r}"
            )
        if row["file"] in numbers:
            raise BenchmarkError(f"{labels}, line {line}: {row['file']} is named twice")
        numbers[row["file"]] = int(text)
    return Pictures(name, tuple(numbers), [root / file for file in numbers], tuple(numbers.values()))


def all_files(root: str | Path, name: str) -> Pictures:
    """Every image below a folder, without labels.

    Raises:
        BenchmarkError: no such folder, or no images in it.
    """
    root = _folder(root)
    paths = _images_below(root)
    if not paths:
        raise BenchmarkError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    return Pictures(name, tuple(path.relative_to(root).as_posix() for path in paths), paths)


def of_dataset(dataset, name: str, root: str | Path) -> Pictures:
    """The photographs of one part of CIFAR-10, as `benchmarks.data.cifar10` reads it below root."""
    if isinstance(dataset, datasets.ImageFolder):
        paths = [Path(path) for path, _ in dataset.samples]
        names = tuple(path.relative_to(root).as_posix() for path in paths)
        return Pictures(name, names, paths, tuple(label for _, label in dataset.samples))
    part = "train" if dataset.train else "test"
    names = tuple(f"{part}/{i:05d}" for i in range(len(dataset.data)))
    return Pictures(name, names, list(dataset.data), tuple(dataset.targets))


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def _folder(root: str | Path) -> Path:
    root = Path(root)
    if not root.is_dir():
        raise BenchmarkError(f"--root {root} is not a folder; give the one that holds the images")
    return root


def named_in(file: str | Path, pictures: Pictures) -> frozenset[str]:
    """The names of photographs in the column `image` of a csv, such as a run's scores.csv.

    Raises:
        BenchmarkError: it can't be read, has no such column, or names none of the photographs.
    """
    try:
        table = pd.read_csv(file, usecols=["image"], dtype=str)
    except (OSError, ValueError) as error:
        raise BenchmarkError(f"--without {file}: a csv with a column image is needed ({error})") from error
    names = frozenset(table["image"].dropna())
    if not names & set(pictures.names):
        raise BenchmarkError(
            f"--without {file} names none of the photographs of {pictures.name}, such as {pictures.names[0]}; give a "
            "file of the same data"
        )
    return names


def _size(source: Path | np.ndarray) -> int:
    if isinstance(source, np.ndarray):
        return zlib.crc32(source.tobytes())
    try:
        return source.stat().st_size
    except OSError:
        return -1  # it will be reported when it is read
