"""Photographs in a folder: in a folder for each class, named in a csv of labels, or just all of them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.data.data_set import DataSet, Places, Source
from benchmarks.data.pictures import Pictures
from benchmarks.run.errors import BenchmarkError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})


def class_folders(
    root: str | Path,
    name: str,
    classes: int | None = None,
    part: str = "",
    size: tuple[int, int] | None = None,
) -> Pictures:
    """CLASS/IMAGE below root; the class numbers follow the sorted folder names, as in torchvision's ImageFolder.

    Args:
        classes: how many there must be, so that the numbers are those of a model.
        part: the folder below root that holds the class folders, such as "train"; it begins the names.
        size: of `Pictures`.

    Raises:
        BenchmarkError: no such folder, no images in it, or another number of classes.
    """
    root = _folder(root)
    inside = root / part
    folders = sorted(path for path in inside.iterdir() if path.is_dir())
    if not folders:
        instead = "" if part else "; for files with a csv of labels give --labels"
        raise BenchmarkError(f"{inside} has no class folders (CLASS/IMAGE){instead}")
    if classes is not None and len(folders) != classes:
        raise BenchmarkError(
            f"{inside} has {len(folders)} class folders, but the model has {classes} classes: their numbers would not "
            f"be the model's. Give files with a csv of labels (--labels)"
        )
    pairs = [(path, label) for label, folder in enumerate(folders) for path in _images_below(folder)]
    if not pairs:
        raise BenchmarkError(f"{inside} holds no images ({', '.join(sorted(SUFFIXES))})")
    paths, labels = zip(*pairs, strict=True)
    names = tuple(path.relative_to(root).as_posix() for path in paths)
    return Pictures(name, names, paths, labels, tuple(folder.name for folder in folders), size)


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


def _images_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and not path.is_dir())


def _folder(root: str | Path, option: str = "--root") -> Path:
    root = Path(root)
    if not root.is_dir():
        raise BenchmarkError(f"{option} {root} is not a folder; give the one that holds the images")
    return root


def _imagenet(places: Places, classes: int) -> Source:
    if places.labels is None:
        found = class_folders(places.root, "ImageNet folder", classes)
    else:
        found = labelled_files(places.root, places.labels, "ImageNet folder", classes)
    return Source(replace(found, name=f"{found.name}, {len(found)} photographs"))


DATA_SET = DataSet(_imagenet, root="the folder of the photographs")
