"""Photographs: files or pixels, with their names and classes, read one at a time. The one way that images come in."""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageOps

from benchmarks.run.errors import Unreadable
from captum_wg.command_line.photographs import rgb

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Pictures:
    """Photographs with their names and, where they are known, their classes.

    Attributes:
        name: what they are, as it stands in the tables.
        names: of each photograph, unique; for files the path below the folder.
        sources: a file, or pixels (H, W, 3) uint8, for each.
        labels: class numbers, or None.
        class_names: of all classes by their numbers, where they are known.
        size: the width and height that all must have; None: any.
    """

    name: str
    names: tuple[str, ...]
    sources: Sequence[Path | np.ndarray]
    labels: tuple[int, ...] | None = None
    class_names: tuple[str, ...] = ()
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def read(self, position: int) -> tuple[Image.Image, int]:
        """The photograph at a position as `rgb` shows it, and the CRC-32 of its bytes.

        Raises:
            Unreadable: the file is missing, truncated, no image, of a kind that can't be shown, or of another size.
            OSError, MemoryError: it can't be read here or now, such as one that nobody may read.
        """
        source = self.sources[position]
        if isinstance(source, np.ndarray):
            picture, crc = Image.fromarray(source), zlib.crc32(source.tobytes())
        else:
            try:
                picture, crc = read_image(source, rgb)
            except Damaged as error:
                raise Unreadable(f"{self.names[position]}: {error}") from error
        if self.size not in (None, picture.size):
            found, wanted = (f"{width} x {height}" for width, height in (picture.size, self.size))
            raise Unreadable(f"{self.names[position]}: {found} pixels instead of {wanted}")
        return picture, crc

    def checksum(self) -> str:
        """Of the names, sizes and labels. The contents of those that are used are checked one by one."""
        digest = hashlib.sha256()
        for i, (name, source) in enumerate(zip(self.names, self.sources, strict=True)):
            size = _bytes_of(source)
            digest.update(f"{name}\0{size}\0{'' if self.labels is None else self.labels[i]}\n".encode())
        return digest.hexdigest()[:16]


class Damaged(Exception):
    """There is no file, or what it holds can't be used; the message says why, in one line."""


def read_image(path: Path, take: Callable[[Image.Image], T]) -> tuple[T, int]:
    """take(image) of a file, the image turned as its EXIF orientation says, and the CRC-32 of the file's bytes.

    Raises:
        Damaged: the file is missing, truncated or no image, or `take` can't use it.
        OSError, MemoryError: it can't be read here or now, which says nothing of the image.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: no path has such a name
        raise Damaged(_short(error)) from error
    except OSError as error:
        if error.filename is None:  # as where reading fails after the file was opened
            error.filename = str(path)
        raise
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()  # so that a truncated file fails here
        ImageOps.exif_transpose(picture, in_place=True)
        return take(picture), zlib.crc32(content)
    except (MemoryError, Damaged):
        raise
    except Exception as error:  # decoders fail in many ways on damaged files
        # Those that are the system's have a number, those that are Pillow's have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged(_short(error)) from error


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _bytes_of(source: Path | np.ndarray) -> int:
    """The length of a file, the CRC-32 of pixels."""
    if isinstance(source, np.ndarray):
        return zlib.crc32(source.tobytes())
    try:
        return source.stat().st_size
    except OSError:
        return -1  # it will be reported when it is read
