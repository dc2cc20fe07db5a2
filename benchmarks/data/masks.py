"""Masks of objects as image files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.data.data_set import Masks
from benchmarks.data.pictures import Damaged, Pictures, read_image
from benchmarks.run.errors import BenchmarkError

# Pillow's modes of one value for each pixel, and those with transparency.
_GREY = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
_WITH_ALPHA = ("LA", "PA", "RGBA")


@dataclass(frozen=True, eq=False)
class MaskFolder:
    """Masks as images: folder/NAME.png for a photograph NAME.jpg, with its subfolders, nonzero on the object.

    In a mask with a palette index 0 is off the object if its colour is black; if it is not, black is, and without any
    black pixel the mask is unusable. In one with colours a pixel is nonzero if any of them is; and where there is
    transparency (LA, RGBA), what is fully transparent is not on the object.

    Attributes:
        where: masks of the data's own: where these have none for a class, neither has the folder.

    Raises:
        BenchmarkError: no such folder.
    """

    folder: str | Path
    pictures: Pictures
    where: Masks | None = None

    def __post_init__(self) -> None:
        if not Path(self.folder).is_dir():
            raise BenchmarkError(f"--masks {self.folder} is not a folder; give the one that holds the masks")

    def mask(self, position: int, label: int) -> tuple[np.ndarray | None, str]:
        """The mask (height, width), bool, and ""; or None and why there is none.

        Raises:
            OSError, MemoryError: its file can't be read here or now.
        """
        if self.where and (own := self.where(position, label))[0] is None:
            return own
        path = (Path(self.folder) / self.pictures.names[position]).with_suffix(".png")
        if not path.is_file():
            return None, "no mask"
        try:
            return read_image(path, _nonzero)[0], ""
        except Damaged as error:
            return None, f"the mask is unreadable: {error}"


def _nonzero(mask: Image.Image) -> np.ndarray:
    """Where a mask is nonzero (height, width), see `MaskFolder`."""
    if mask.mode == "P":
        if not any((mask.getpalette("RGB") or [0])[:3]):
            return np.asarray(mask) != 0
        coloured = np.asarray(mask.convert("RGB")).any(-1)
        # Such as a black and white one whose palette begins with white: its indices would be the background.
        if coloured.all():
            raise Damaged("index 0 of its palette is not black, and no pixel is: which of them is the background?")
        return coloured
    if mask.mode not in (*_GREY, *_WITH_ALPHA, "RGB"):
        mask = mask.convert("RGB")
    values = np.asarray(mask) != 0
    if mask.mode in _GREY:
        return values
    if mask.mode in _WITH_ALPHA:
        return values[..., :-1].any(-1) & values[..., -1]
    return values.any(-1)
