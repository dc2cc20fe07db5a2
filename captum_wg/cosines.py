"""Cosines of the angles between gradients and directions, per pixel or for the whole example."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_wg.engine.tensors import beside

ANGLES = ("auto", "channel_pairs", "pixel", "global")

# (first, second, the remaining channel that shows their angle): rg -> blue, gb -> red, br -> green.
_CHANNEL_PAIRS = ((0, 1, 2), (1, 2, 0), (2, 0, 1))


def cosines(u: tuple[Tensor, ...], v: tuple[Tensor, ...], angle: str = "auto") -> tuple[Tensor, ...]:
    """Cosines of the angles between two sets of vectors (b, s, *feature), shown on every element they belong to.

    angle: "channel_pairs": at each pixel three angles of 2-dimensional vectors, of channels (r, g) shown on b, (g, b)
    on r and (b, r) on g; for images of 3 channels. "pixel": at each pixel one angle, of the vectors of all its
    channels, shown on all of them. "global": one angle for the whole example, all Tensors of a tuple together, shown on
    every element. "auto": channel_pairs for images of 3 channels, pixel for images of other C > 1, global otherwise; an
    image is a Tensor (B, C, H, W) or of more dimensions. A zero vector has cosine 0; values are in [-1, 1].

    Raises:
        ValueError: channel_pairs for other than 3 channels, pixel without channels.
    """
    modes = [_angle_of(x, angle) for x in u]
    flat_u, flat_v = ([x.reshape(*x.shape[:2], -1) for x in w] for w in (u, v))
    whole = [_cosine(flat_u, flat_v)] if "global" in modes else []
    result = []
    for a, b, mode in zip(u, v, modes, strict=True):
        if mode == "global":
            value = beside(whole[0], a)
        elif mode == "pixel":
            value = _cosine([a.movedim(2, -1)], [b.movedim(2, -1)]).unsqueeze(2)
        else:
            value = _cosines_of_pairs(a, b)
        result.append(value.expand_as(a))
    return tuple(result)


def _angle_of(x: Tensor, angle: str) -> str:
    """The angle of one element (b, s, *feature) of the inputs."""
    channels = x.shape[2] if x.ndim > 3 else None
    shape = f"(B, {', '.join(map(str, x.shape[2:]))})"
    if angle == "auto":
        if x.ndim < 5 or channels == 1:
            return "global"
        return "channel_pairs" if channels == 3 else "pixel"
    if angle == "channel_pairs" and channels != 3:
        raise ValueError(
            f"angle='channel_pairs' needs inputs with 3 channels, (B, 3, ...), got {shape}; "
            "use 'pixel', 'global' or 'auto'"
        )
    if angle == "pixel" and channels is None:
        raise ValueError(f"angle='pixel' needs inputs with channels, (B, C, ...), got {shape}; use 'global'")
    return angle


def _cosines_of_pairs(u: Tensor, v: Tensor) -> Tensor:
    """The angle of every two of three channels, (b, s, 3, ...), shown on the third."""
    shown = torch.empty_like(u)
    for first, second, third in _CHANNEL_PAIRS:
        (a, b), (c, d) = _unit(u[:, :, first], u[:, :, second]), _unit(v[:, :, first], v[:, :, second])
        shown[:, :, third] = a * c + b * d
    return shown.clamp_(-1, 1)


def _unit(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The vectors (a, b) divided by their lengths, zero vectors left as they are."""
    larger = _divisor(torch.maximum(a.abs(), b.abs()))
    a, b = a / larger, b / larger
    length = _length(a * a + b * b)
    return a / length, b / length


def _cosine(u: list[Tensor], v: list[Tensor]) -> Tensor:
    """Cosine along the last dimension, of vectors whose elements lie in several Tensors; 0 where one is zero."""
    u, v = _scaled(u), _scaled(v)
    dot = torch.stack([(a * b).sum(-1) for a, b in zip(u, v, strict=True)]).sum(0)
    norms = [_length(torch.stack([x.square().sum(-1) for x in w]).sum(0)) for w in (u, v)]
    return (dot / (norms[0] * norms[1])).clamp(-1, 1)


def _length(square: Tensor) -> Tensor:
    # Of a scaled vector, at least 1 but for zero vectors, where a square root has no derivative.
    return square.clamp(min=1).sqrt()


def _scaled(vector: list[Tensor]) -> list[Tensor]:
    largest = _divisor(torch.stack([x.abs().amax(-1) for x in vector]).amax(0).unsqueeze(-1))
    return [x / largest for x in vector]


def _divisor(largest: Tensor) -> Tensor:
    # Vectors are scaled by their largest element first: squares of a saturated softmax's tiny gradients underflow to 0.
    return torch.where(largest > 0, largest, torch.ones_like(largest))
