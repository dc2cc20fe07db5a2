"""What a row's name may ask of any map: that it is mixed with its blur, or with a blob.

    smooth=3/32   smoothed_mix(m): half m, half its blur by a Gaussian of so many sides (`captum_wg.smoothing`)
    blob=1/4      half m, half a centred Gaussian of so many sides with the L1 norm of m: a control

They act on the finished map, so that a row and its mixes share what costs gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.methods.method import Method
from benchmarks.run.errors import BenchmarkError
from captum_wg.smoothing import smoothed_mix

_NOTES = {
    "smooth": "Rows with smooth=s are half the row's map and half its blur by a Gaussian of s sides, in equal L1 "
    "norms; insertion flatters them.",
    "blob": "Rows with blob=s are half the row's map and half a centred Gaussian of s sides, in equal L1 norms: a "
    "control.",
}


def centred_blob(shape: tuple[int, ...], share: float) -> Tensor:
    """A Gaussian around the middle of an image (C, H, W), the same in all channels, float64; its sum is 1.

    Args:
        share: sigma as a share of the side, of the height downwards and of the width across.
    """
    down, across = (
        torch.exp(-0.5 * ((torch.arange(side, dtype=torch.float64) - (side - 1) / 2) / (share * side)) ** 2)
        for side in shape[1:]
    )
    blob = torch.outer(down, across)
    return (blob / (shape[0] * blob.sum())).expand(shape)


def with_smooth(found: Tensor, share: float) -> Tensor:
    """`smoothed_mix` of a map (C, H, W)."""
    return smoothed_mix(found[None], share)[0]


def with_blob(found: Tensor, share: float) -> Tensor:
    """m / 2 + |m|_1 b / 2 of a map m (C, H, W), b the centred blob of sum 1."""
    return (found + found.abs().sum() * centred_blob(tuple(found.shape), share)) / 2


# By the words of a row's name, in the order in which they act.
MIXES: dict[str, Callable[[Tensor, float], Tensor]] = {"smooth": with_smooth, "blob": with_blob}


def share_of(name: str, word: str, value: Any) -> Fraction:
    """The value as a fraction, so that 0.09375 and 3/32 make one name.

    Raises:
        BenchmarkError: it is no number between 0 and 1.
    """
    number = isinstance(value, int | float | Fraction) and not isinstance(value, bool)
    if not number or not 0 < value <= 1:
        raise BenchmarkError(
            f"{name}: {word} must be a share of the image's side above 0 and up to 1, such as 3/32, got {value!r}"
        )
    return Fraction(value).limit_denominator(10**6)


def mixed(method: Method, name: str, shares: Mapping[str, Fraction]) -> Method:
    """The row, called `name`, with its map mixed as the words of MIXES say; its ingredients are the same."""

    def combine(x: Tensor, values: tuple[np.ndarray, ...], generator: np.random.Generator) -> np.ndarray:
        found = torch.from_numpy(method.combine(x, values, generator)).double()
        for word, mix in MIXES.items():
            if word in shares:
                found = mix(found, float(shares[word]))
        return found.float().numpy()

    return replace(
        method,
        name=name,
        source=name,
        combine=combine,
        group="control" if "blob" in shares else method.group,
        notes=(*method.notes, *(_NOTES[word] for word in shares)),
    )
