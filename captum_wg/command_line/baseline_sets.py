"""The baselines that the command line has names for, and those of a folder of photographs.

Shapes: K baselines (K, C, H, W) of one input (1, C, H, W).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_wg import baselines
from captum_wg.command_line.errors import ImageError, UsageError
from captum_wg.command_line.photographs import Preparation, find, read

# blurred: sigmas as shares of the side.
_SIGMAS = (0.03, 0.1)
_NOISES = 2
_PHOTOGRAPHS = 10

Baselines = tuple[Tensor, list[str]]


@dataclass(frozen=True)
class NamedBaselines:
    """summary: what they are, for the list; make: (x, preparation, seed) -> the baselines, and a name for each."""

    summary: str
    make: Callable[[Tensor, Preparation, int], Baselines]


def _black(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    return preparation.normalised(torch.zeros_like(x)), ["black"]


def _white(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    return preparation.normalised(torch.ones_like(x)), ["white"]


def _zero(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    return torch.zeros_like(x), ["zero"]


def _mean(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    return _called(baselines.channel_mean(), x), ["mean colour"]


def _blur(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    sigmas = [share * x.shape[-1] for share in _SIGMAS]
    return _called(baselines.gaussian_blur(sigmas), x), [f"blur, sigma {sigma:.3g}" for sigma in sigmas]


def _noise(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    low, high = (preparation.normalised(torch.full_like(x, v))[0, :, 0, 0].tolist() for v in (0, 1))
    made = _called(baselines.uniform(_NOISES, low, high, generator=seed), x)
    return made, [f"noise {i + 1}" for i in range(_NOISES)]


def _far(x: Tensor, preparation: Preparation, seed: int) -> Baselines:
    low, high = (preparation.normalised(torch.full_like(x, v))[0, :, 0, 0].tolist() for v in (0, 1))
    return _called(baselines.maximum_distance(low, high), x), ["farthest"]


def _called(generator: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    made: Tensor = generator(x)
    return made[0] if made.ndim > x.ndim else made


NAMED: dict[str, NamedBaselines] = {
    "blur": NamedBaselines(f"the photo blurred, sigma {_SIGMAS[0]:.0%} and {_SIGMAS[1]:.0%} of its side", _blur),
    "black": NamedBaselines("black", _black),
    "white": NamedBaselines("white", _white),
    "mean": NamedBaselines("the photo's mean colour", _mean),
    "noise": NamedBaselines(f"{_NOISES} images of uniform noise", _noise),
    "zero": NamedBaselines("zeros as the network takes them: the mean colour of its training images, mostly", _zero),
    "far": NamedBaselines("of each pixel and channel 0 or 1, what is farther from the photo's", _far),
}
DEFAULT = "blur,black,white,mean,noise"


@dataclass(frozen=True)
class Photographs:
    """K photographs of a folder, the same for all images but for the one that is explained, which is left out."""

    folder: Path
    count: int = _PHOTOGRAPHS
    _prepared: dict[Path, Tensor | None] = field(default_factory=dict, compare=False)

    def of(self, image: Path, preparation: Preparation, seed: int) -> Baselines:
        files = list(find([self.folder]).values())
        order = torch.randperm(len(files), generator=torch.Generator().manual_seed(seed)).tolist()
        made: list[Tensor] = []
        names: list[str] = []
        for file in (files[i] for i in order):
            if len(made) < self.count and file.resolve() != image.resolve():
                prepared = self._input(file, preparation)
                if prepared is not None:
                    made.append(prepared)
                    names.append(file.name)
        if not made:
            raise UsageError(f"--baselines {self.folder}: no image in it can be read but the one that is explained")
        return torch.stack(made), names

    def _input(self, file: Path, preparation: Preparation) -> Tensor | None:
        if file not in self._prepared:
            try:
                self._prepared[file] = preparation.input(read(file))
            except ImageError as error:
                print(f"{file}: left out of the baselines: {error}", file=sys.stderr)
                self._prepared[file] = None
        return self._prepared[file]


@dataclass(frozen=True)
class BaselineSet:
    """What --baselines names."""

    parts: Sequence[NamedBaselines | Photographs]

    @classmethod
    def parse(cls, text: str) -> BaselineSet:
        """Names and folders, separated by commas; FOLDER:K takes K photographs.

        Raises:
            UsageError: neither a name nor a folder; an empty folder; K below 1.
        """
        return cls([_parse(part.strip()) for part in text.split(",")])

    def of(self, x: Tensor, image: Path, preparation: Preparation, seed: int) -> Baselines:
        """The baselines of an input (1, C, H, W) from a file, and their names."""
        sets = [
            part.of(image, preparation, seed) if isinstance(part, Photographs) else part.make(x, preparation, seed)
            for part in self.parts
        ]
        return torch.cat([rows for rows, _ in sets]), [name for _, names in sets for name in names]


def _parse(text: str) -> NamedBaselines | Photographs:
    if text in NAMED:
        return NAMED[text]
    folder, _, count = text.rpartition(":")
    if not (folder and count.isdecimal()):
        folder, count = text, str(_PHOTOGRAPHS)
    if not folder or not Path(folder).is_dir():
        raise UsageError(f"--baselines {text!r} is no folder, and none of the names {', '.join(NAMED)}")
    if int(count) < 1:
        raise UsageError(f"--baselines {text!r}: at least 1 photograph is needed")
    find([Path(folder)])
    return Photographs(Path(folder), int(count))
