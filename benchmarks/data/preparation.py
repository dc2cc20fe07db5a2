"""From photographs to a network's inputs, their masks taken along."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from benchmarks.data.pictures import Pictures

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preparation:
    """Resize the shorter side, crop the centre, scale to [0, 1], normalise: what torchvision's weights ask for.

    Attributes:
        resize: the shorter side; None leaves the size.
        crop: the side of the central square; None leaves it out.
        interpolation: "bilinear", "bicubic" or "nearest", of the image. A mask always takes the nearest pixel.
        mean, std: per channel, of pixels in [0, 1].
    """

    resize: int | None = 256
    crop: int | None = 224
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def keeps_size(self) -> bool:
        """Whether the input has the photograph's own size."""
        return self.resize is None and self.crop is None

    def image(self, picture: Image.Image) -> Tensor:
        """The input (3, H, W), float32."""
        values = v2.functional.pil_to_tensor(self._geometry()(picture))
        return self.from_pixels(v2.functional.to_dtype(values, torch.float32, scale=True))

    def mask(self, picture: Image.Image, mask: np.ndarray) -> np.ndarray:
        """The mask (H, W), bool, of the input made of this photograph, by the very call that resizes and crops it.

        Args:
            mask: (height, width) of the photograph, nonzero on the object.

        Raises:
            ValueError: the mask has another size than the photograph.
        """
        if mask.shape != (picture.height, picture.width):
            raise ValueError(
                f"the mask has another size than the photograph: {' x '.join(map(str, mask.shape))} instead of "
                f"{picture.height} x {picture.width}"
            )
        _, taken_along = self._geometry()(picture, tv_tensors.Mask(torch.from_numpy(mask != 0)[None]))
        return taken_along[0].numpy().astype(bool)

    def pixels(self, image: Tensor) -> Tensor:
        """A normalised input back in [0, 1], for pictures."""
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (self.mean, self.std))
        return (image.cpu() * std + mean).clamp(0, 1)

    def from_pixels(self, pixels: Tensor) -> Tensor:
        """Pixels (..., 3, H, W) in [0, 1], normalised."""
        return v2.functional.normalize(pixels, list(self.mean), list(self.std))

    def _geometry(self) -> v2.Transform:
        steps: list[v2.Transform] = []
        if self.resize is not None:
            steps.append(v2.Resize(self.resize, v2.InterpolationMode(self.interpolation), antialias=True))
        if self.crop is not None:
            steps.append(v2.CenterCrop(self.crop))
        return v2.Compose(steps) if steps else v2.Identity()


@dataclass(frozen=True)
class Enlarged(Preparation):
    """Enlarge a small picture bilinearly, in floating point, and normalise: the digits' way.

    Attributes:
        side: of the input.
        white: the value that becomes 1.
    """

    resize: int | None = None
    crop: int | None = None
    side: int = 32
    white: int = 240

    @property
    def keeps_size(self) -> bool:
        return False

    def image(self, picture: Image.Image) -> Tensor:
        """The input (3, side, side), float32."""
        pixels = v2.functional.pil_to_tensor(picture).float().div(self.white)
        return self.from_pixels(v2.functional.resize(pixels, [self.side, self.side], antialias=False))


@dataclass(frozen=True, eq=False)
class Inputs(Dataset):
    """Photographs as what `transform` makes of them: at each position (transform(photograph), its class)."""

    pictures: Pictures
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        picture, _ = self.pictures.read(position)
        return self.transform(picture), self.pictures.labels[position]  # type: ignore[index]
