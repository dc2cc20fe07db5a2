"""Photographs as files: a folder of classes, files with a csv of labels, or CIFAR-10, read one at a time."""

from __future__ import annotations

import csv
import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
from PIL import Image
from torchvision import datasets

from benchmarks.data.datasets import CIFAR10_CLASSES, DIGITS, cifar10, digits_parts
from benchmarks.run.errors import BenchmarkError, Unreadable

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
# Pillow's modes of one value for each pixel, and those with transparency.
_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("LA", "PA", "RGBA")

T = TypeVar("T")


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
            OSError, MemoryError: it can't be read here or now, such as one that nobody may read.
        """
        source = self.sources[position]
        if isinstance(source, np.ndarray):
            return Image.fromarray(source), zlib.crc32(source.tobytes())
        try:
            content = _content(source)
            return _decoded(content, lambda picture: picture.convert("RGB")), zlib.crc32(content)
        except _Damaged as error:
            raise Unreadable(f"{self.names[position]}: {error}") from error

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

    In a mask with a palette index 0 is off the object if its colour is black; if it is not, black is, and without any
    black pixel the mask is unusable. In one with colours a pixel is nonzero if any of them is; and where there is
    transparency (LA, RGBA), what is fully transparent is not on the object.

    Raises:
        BenchmarkError: no such folder.
    """

    folder: str | Path
    pictures: Pictures

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise BenchmarkError(f"--masks {self.folder} is not a folder; give the one that holds the masks")

    def mask(self, position: int, label: int) -> tuple[np.ndarray | None, str]:
        """The mask (height, width), bool, and ""; or None and why there is none.

        Raises:
            OSError, MemoryError: its file can't be read here or now.
        """
        path = (Path(self.folder) / self.pictures.names[position]).with_suffix(".png")
        if not path.is_file():
            return None, "no mask"
        try:
            return _decoded(_content(path), _nonzero), ""
        except _Damaged as error:
            return None, f"the mask is unreadable: {error}"


def cifar10_pictures(root: str | Path, all_classes: bool = False) -> tuple[Pictures, Pictures]:
    """The training and the test images of CIFAR-10, in either form that `benchmarks.data.cifar10` reads.

    Args:
        all_classes: whether its ten classes must be there, so that the class numbers are those of any of its networks.

    Raises:
        BenchmarkError: no CIFAR-10 there, or not ten classes.
    """
    images = cifar10(root)
    # Of ten other names the order may be another, but a network may also have learned from these very folders.
    if all_classes and len(images.class_names) != len(CIFAR10_CLASSES):
        raise BenchmarkError(
            f"--root {root}: the folders of train/ and test/ must be CIFAR-10's {len(CIFAR10_CLASSES)} classes, as "
            f"their order gives the network's class numbers: {', '.join(CIFAR10_CLASSES)}; got "
            f"{len(images.class_names)}: {', '.join(images.class_names)}"
        )
    train, test = (of_dataset(part, images.name, root) for part in (images.train, images.test))
    return train, test


def digits_pictures() -> tuple[Pictures, Pictures]:
    """scikit-learn's handwritten digits, 8x8, the same parts for training and for testing as those of
    `benchmarks.data.datasets.digits`; their sixteen shades of grey are multiples of 15."""
    grey, labels, parts = digits_parts()
    pixels = (15 * grey.reshape(-1, 8, 8, 1)).astype(np.uint8).repeat(3, axis=3)
    train, test = (
        Pictures(
            DIGITS,
            tuple(f"{name}/{i:04d}" for i in range(len(part))),
            list(pixels[part]),
            tuple(labels[part].tolist()),
        )
        for name, part in zip(("train", "test"), parts, strict=True)
    )
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
            named twice, a row without a file, no rows, or a csv that is not in UTF-8.
    """
    root, labels = _folder(root), Path(labels)
    if not labels.is_file():
        raise BenchmarkError(f"--labels {labels} does not exist; give a csv with the columns file and class_index")
    try:
        with labels.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or ()
            rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BenchmarkError(
            f"--labels {labels} must be a csv in UTF-8 with the columns file and class_index; it can't be read as one: "
            f"{error}. Save it as UTF-8"
        ) from error
    if missing := {"file", "class_index"} - set(columns):
        raise BenchmarkError(f"{labels} lacks the column {' and '.join(sorted(missing))}; it has {', '.join(columns)}")
    if not rows:
        raise BenchmarkError(f"{labels} has no rows")
    numbers: dict[str, int] = {}
    for line, row in enumerate(rows, start=2):
        # A row with fewer columns than the first one has None in their place.
        if not row["file"]:
            raise BenchmarkError(f"{labels}, line {line}: file must name an image below {root}; got none")
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


def all_files(root: str | Path, name: str, option: str = "--root") -> Pictures:
    """Every image below a folder, without labels.

    Args:
        option: what the folder is given by, for messages.

    Raises:
        BenchmarkError: no such folder, or no images in it.
    """
    root = _folder(root, option)
    paths = _images_below(root)
    if not paths:
        raise BenchmarkError(f"{option} {root} holds no images ({', '.join(sorted(SUFFIXES))})")
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


class _Damaged(Exception):
    """There is no file, or what it holds can't be decoded; the message says why, in one line."""


def _content(path: Path) -> bytes:
    """A file's bytes. Where it is there but can't be read, that says nothing of the image: such errors go on."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: no path has such a name
        raise _Damaged(_short(error)) from error
    except OSError as error:
        if error.filename is None:  # as where reading fails after the file was opened
            error.filename = str(path)
        raise


def _decoded(content: bytes, take: Callable[[Image.Image], T]) -> T:
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()  # so that a truncated file fails here
        return take(picture)
    except MemoryError:
        raise
    except Exception as error:  # decoders fail in many ways on damaged files
        # Those that are the system's have a number, those that are Pillow's have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise _Damaged(_short(error)) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _nonzero(mask: Image.Image) -> np.ndarray:
    """Where a mask is nonzero (height, width), see `MaskFolder`."""
    if mask.mode == "P":
        if not any((mask.getpalette("RGB") or [0])[:3]):
            return np.asarray(mask) != 0
        coloured = np.asarray(mask.convert("RGB")).any(-1)
        # Such as a black and white one whose palette begins with white: its indices would be the background.
        if coloured.all():
            raise _Damaged("index 0 of its palette is not black, and no pixel is: which of them is the background?")
        return coloured
    if mask.mode not in (*_GREY, *_WITH_ALPHA, "RGB"):
        mask = mask.convert("RGB")
    values = np.asarray(mask) != 0
    if mask.mode in _GREY:
        return values
    if mask.mode in _WITH_ALPHA:
        return values[..., :-1].any(-1) & values[..., -1]
    return values.any(-1)


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())


def _folder(root: str | Path, option: str = "--root") -> Path:
    root = Path(root)
    if not root.is_dir():
        raise BenchmarkError(f"{option} {root} is not a folder; give the one that holds the images")
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
