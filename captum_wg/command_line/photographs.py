"""Photographs from files: found, read as a viewer shows them, and prepared as a network wants them.

Shapes: (3, H, W), float32.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from captum_wg.command_line.errors import ImageError, UsageError

SUFFIXES = (".avif", ".bmp", ".gif", ".jp2", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
# What the picture of an image ends in.
PANEL = "_panel.png"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """Resize the shorter side, crop the central square, scale to [0, 1], normalise.

    Attributes:
        resize: the shorter side, in pixels; at least crop.
        crop: the side of the central square.
        interpolation: a name of PIL.Image.Resampling in small letters.
        mean, std: per channel, of pixels in [0, 1].
    """

    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def input(self, picture: Image.Image) -> Tensor:
        """The network's input of a photograph."""
        short = min(picture.size)
        width, height = (max(self.crop, int(self.resize * side / short)) for side in picture.size)
        filter_ = Image.Resampling[self.interpolation.upper()]
        left, top = round((width - self.crop) / 2), round((height - self.crop) / 2)
        square = picture.resize((width, height), filter_).crop((left, top, left + self.crop, top + self.crop))
        return self.normalised(torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 255)

    def normalised(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] as the network takes them."""
        mean, std = self._of_channels()
        return (pixels - mean) / std

    def pixels(self, inputs: Tensor) -> Tensor:
        """An input back in [0, 1], for pictures."""
        mean, std = self._of_channels()
        return (inputs * std + mean).clamp(0, 1)

    def _of_channels(self) -> tuple[Tensor, Tensor]:
        return torch.tensor(self.mean).view(-1, 1, 1), torch.tensor(self.std).view(-1, 1, 1)


def find(paths: Iterable[Path]) -> dict[str, Path]:
    """Images by the names of what is written for them: a folder's with the path below it, all without suffix.

    Args:
        paths: files, and folders, of which the images (SUFFIXES) are taken, in their subfolders too, but not the
            pictures that stand beside their .json.

    Raises:
        UsageError: no such file or folder, or a folder without images.
    """
    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
        files = [path]
        if path.is_dir():
            files = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file() and not _made(f))
            if not files:
                raise UsageError(f"{path} holds no image; those are taken that end in {' '.join(SUFFIXES)}")
        for file in files:
            below = file.relative_to(path).with_suffix("") if path.is_dir() else Path(file.stem)
            name, number = str(below), 2
            while name in found:
                name, number = f"{below}_{number}", number + 1
            found[name] = file
    return found


def _made(file: Path) -> bool:
    """Whether it is a picture of an earlier run."""
    name = file.name.removesuffix(PANEL)
    return name != file.name and file.with_name(f"{name}.json").is_file()


def read(path: Path) -> Image.Image:
    """The photograph in a file in 8-bit RGB, turned as its EXIF orientation says.

    Raises:
        ImageError: it is missing, truncated, no image, or of a kind of which nobody knows what is white.
    """
    try:
        with Image.open(path) as picture:
            picture.load()
            return rgb(ImageOps.exif_transpose(picture))
    except (MemoryError, ImageError):
        raise
    except Exception as error:  # decoders fail in many ways on damaged files
        raise ImageError(" ".join(str(error).split())[:200] or type(error).__name__) from error


def rgb(picture: Image.Image) -> Image.Image:
    """An image of any of Pillow's modes in 8-bit RGB, as a viewer shows it.

    Pillow's own conversion cuts values that are no bytes off at 255. Here 16-bit grey is scaled from [0, 65535], floats
    from [0, 1], and what is transparent shows white.

    Raises:
        ImageError: floats outside [0, 1], or 32-bit integers.
    """
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):  # Pillow before 11
        return _grey(np.asarray(picture) / 65535)
    if picture.mode == "I":
        raise ImageError("32-bit integers, of which no value is known to be white; save it with 8 or 16 bits")
    if picture.mode == "F":
        values = np.asarray(picture)
        if not ((values >= 0) & (values <= 1)).all():
            raise ImageError(
                f"a float image must have values in [0, 1]; these lie in [{values.min():g}, {values.max():g}]; save it "
                "so, or with 8 or 16 bits"
            )
        return _grey(values)
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray((values * 255.0).round().astype(np.uint8)).convert("RGB")
