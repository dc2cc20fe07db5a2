"""Ranking features and removing the highest ranked: the one helper of the fitness and of the metrics.

A *feature* is what is removed as a whole. For an image (R, C, H, W) it is a pixel, all channels together; for any
other input it is one element; a feature mask regroups elements at will, as in Captum's perturbation methods.
Shapes: R rows (masked copies), P features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

RANKINGS = ("signed", "absolute")
NEUTRALS = ("auto", "corners", "black", "mean", "blur")

Neutral = str | int | float | Tensor | Callable[..., object] | tuple[Any, ...]


class Features:
    """The features of a tuple of inputs, listed one after another over all its elements.

    Args:
        inputs: a tuple of Tensors (B, *feature); only shapes and device are read.
        feature_mask: None, or for each element an integer Tensor (1, *feature) or (B, *feature) of group numbers, as
            in Captum: elements with the same number, in whichever Tensor of the tuple, are one feature. The numbers
            need not be contiguous; P is how many different ones there are.

    Attributes:
        count: P, the number of features.
        counts: for each example (B,) how many of them it has: P, but for a feature mask that differs between examples.
    """

    def __init__(self, inputs: tuple[Tensor, ...], feature_mask: tuple[Tensor, ...] | None = None):
        self._shapes = tuple(tuple(x.shape[1:]) for x in inputs)
        self._groups: tuple[Tensor, ...] | None = None
        if feature_mask is not None:
            self._groups, self.count = _number_groups(inputs, feature_mask)
            present = torch.zeros(
                max(len(g) for g in self._groups), self.count, dtype=torch.bool, device=inputs[0].device
            )
            for groups in self._groups:
                present.scatter_(1, groups.expand(len(present), -1), True)
            self._absent = ~present
            self.counts = present.sum(1).expand(len(inputs[0]))
            return
        self._sizes = tuple(math.prod(shape[1:]) if len(shape) == 3 else math.prod(shape) for shape in self._shapes)
        self.count = sum(self._sizes)
        self.counts = torch.full((len(inputs[0]),), self.count, device=inputs[0].device)

    def scores(
        self, attributions: tuple[Tensor, ...], ranking: str = "signed", examples: Tensor | None = None
    ) -> Tensor:
        """One score per feature, (R, P): the sum of its elements ("signed") or of their absolute values.

        An image's attribution may have one channel where the image has several. `examples` (R,) says which example
        each row belongs to; only a feature mask that differs between examples needs it. A feature that an example does
        not have scores -inf, the last of all.
        """
        if ranking not in RANKINGS:
            raise ValueError(f"ranking must be one of {RANKINGS}, got {ranking!r}")
        values = tuple(a.abs() if ranking == "absolute" else a for a in attributions)
        if self._groups is None:
            return torch.cat(
                [
                    (v.sum(1) if len(shape) == 3 else v).reshape(len(v), -1)
                    for v, shape in zip(values, self._shapes, strict=True)
                ],
                dim=1,
            )
        rows = values[0].shape[0]
        scores = values[0].new_zeros(rows, self.count)
        for value, groups, shape in zip(values, self._groups, self._shapes, strict=True):
            flat = value.expand(rows, *shape).reshape(rows, -1)
            scores.scatter_add_(1, _rows_of(groups, examples, rows), flat)
        return scores.masked_fill_(_rows_of(self._absent, examples, rows), -math.inf)

    def remove(
        self,
        inputs: tuple[Tensor, ...],
        neutral: tuple[Tensor, ...],
        removed: Tensor,
        examples: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Copies of inputs (R, *feature) in which the features marked in removed (R, P) have the neutral value.

        inputs and neutral must broadcast to R rows.
        """
        rows = removed.shape[0]
        copies, start = [], 0
        for i, (x, value, shape) in enumerate(zip(inputs, neutral, self._shapes, strict=True)):
            if self._groups is not None:
                mask = removed.gather(1, _rows_of(self._groups[i], examples, rows)).view(rows, *shape)
            else:
                mask = removed[:, start : start + self._sizes[i]]
                start += self._sizes[i]
                mask = mask.view(rows, 1, *shape[1:]) if len(shape) == 3 else mask.view(rows, *shape)
            copies.append(torch.where(mask, value, x))
        return tuple(copies)


def ranks(scores: Tensor) -> Tensor:
    """The place (R, P), int32, of each feature in the descending order of its row; ties go by position.

    `ranks(scores) < n` marks the n features that are removed first.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.empty_like(order, dtype=torch.int32)
    positions = torch.arange(scores.shape[1], dtype=torch.int32, device=scores.device)
    return places.scatter_(1, order, positions.expand_as(order))


def neutral_values(inputs: tuple[Tensor, ...], neutral: Neutral = "auto", name: str = "neutral") -> tuple[Tensor, ...]:
    """What a removed feature is replaced by: for each element of inputs a Tensor that broadcasts to it.

    Args:
        inputs: a tuple of Tensors (B, *feature).
        neutral: for all elements, or a tuple with one of these for each:
            "auto": "corners" for an image (B, C, H, W), 0 otherwise;
            "corners": per channel the mean of the means of the image's four corner squares of side
            max(1, int(0.1 H)) by max(1, int(0.1 W));
            "black": the example's smallest value (what Quantus means by it);
            "mean": the mean of each channel, or of all features of an input without channels;
            "blur": the image blurred with sigma = max(H, W) / 8, strong enough to leave only its broad colours;
            a number; a Tensor that broadcasts to the input; a callable of the input (the element) that returns one.
        name: the argument's name for the messages.

    Raises:
        ValueError: unknown name; "corners" or "blur" of something that is no image; a shape that does not broadcast.
        TypeError: neither of the forms above.
    """
    each = neutral if isinstance(neutral, tuple) else (neutral,) * len(inputs)
    if len(each) != len(inputs):
        raise ValueError(
            f"{name} is a tuple of {len(each)}, but there are {len(inputs)} inputs; give one value for each"
        )
    return tuple(_neutral_value(x, value, name) for x, value in zip(inputs, each, strict=True))


def _neutral_value(x: Tensor, neutral: object, name: str) -> Tensor:
    if isinstance(neutral, str):
        if neutral not in NEUTRALS:
            raise ValueError(f"{name} must be one of {NEUTRALS}, a number, a Tensor or a callable, got {neutral!r}")
        if neutral == "auto":
            neutral = "corners" if x.ndim == 4 else 0.0
        elif neutral in ("corners", "blur") and x.ndim != 4:
            raise ValueError(
                f"{name}={neutral!r} needs images of shape (B, C, H, W), got an input of shape {tuple(x.shape)}; "
                f"use 'mean', 'black' or a number"
            )
    if isinstance(neutral, str):
        return _NAMED[neutral](x)
    if isinstance(neutral, Tensor):
        value = neutral.to(device=x.device, dtype=x.dtype)
    elif isinstance(neutral, int | float) and not isinstance(neutral, bool):
        value = torch.tensor(float(neutral), device=x.device, dtype=x.dtype)
    elif callable(neutral):
        value = torch.as_tensor(neutral(x), device=x.device, dtype=x.dtype)
    else:
        raise TypeError(
            f"{name} must be one of {NEUTRALS}, a number, a Tensor or a callable, got {type(neutral).__name__}"
        )
    if x.ndim == 4 and value.ndim == 1 and value.numel() > 1:
        # It would broadcast along W where W happens to be as long.
        raise ValueError(
            f"{name} has shape {tuple(value.shape)} for images (B, C, H, W); for one value per channel reshape it to "
            "(C, 1, 1)"
        )
    try:
        fits = np.broadcast_shapes(tuple(value.shape), tuple(x.shape)) == tuple(x.shape)
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"{name} has shape {tuple(value.shape)}, which does not broadcast to the input's {tuple(x.shape)}"
        )
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinite values; give finite ones")
    # Batched rows are picked out by example below, so an axis for the batch must stand there.
    return value.reshape((1,) * (x.ndim - value.ndim) + tuple(value.shape))


def _corners(x: Tensor) -> Tensor:
    h, w = max(1, int(0.1 * x.shape[2])), max(1, int(0.1 * x.shape[3]))
    squares = (x[..., :h, :w], x[..., :h, -w:], x[..., -h:, :w], x[..., -h:, -w:])
    return torch.stack([square.mean((2, 3), keepdim=True) for square in squares]).mean(0)


def _black(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).amin(1).view(-1, *(1,) * (x.ndim - 1))


def _mean(x: Tensor) -> Tensor:
    # mean of no dimensions would be that of all.
    return x.mean(tuple(range(2 if x.ndim > 2 else 1, x.ndim)), keepdim=True) if x.ndim > 1 else x


def _blur(x: Tensor) -> Tensor:
    from torchvision.transforms.functional import gaussian_blur

    height, width = x.shape[2:]
    sigma = max(height, width) / 8
    # Reflection at the border allows at most 2 * side - 1.
    sides: Sequence[int] = [min(2 * math.ceil(2 * sigma) + 1, 2 * side - 1) for side in (width, height)]
    blurred: Tensor = gaussian_blur(x, list(sides), [sigma, sigma])
    return blurred


_NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "corners": _corners,
    "black": _black,
    "mean": _mean,
    "blur": _blur,
}


def _number_groups(inputs: tuple[Tensor, ...], feature_mask: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], int]:
    if len(feature_mask) != len(inputs):
        raise ValueError(
            f"feature_mask is a tuple of {len(feature_mask)}, but there are {len(inputs)} inputs; give one for each"
        )
    for mask in feature_mask:
        if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
            kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"feature_mask must hold integer Tensors (group numbers), got {kind}")
    broadcast = []
    for x, mask in zip(inputs, feature_mask, strict=True):
        mask = mask.to(device=x.device, dtype=torch.long)
        try:
            target = (mask.shape[0] if mask.ndim == x.ndim and mask.shape[0] > 1 else 1, *x.shape[1:])
            mask = mask.expand(target)
        except RuntimeError:
            target = ()
        if not target or target[0] not in (1, x.shape[0]):
            raise ValueError(
                f"feature_mask has shape {tuple(mask.shape)}, which does not broadcast to the input's {tuple(x.shape)}"
            )
        broadcast.append(mask.contiguous())
    numbers = torch.unique(torch.cat([mask.reshape(-1) for mask in broadcast]))
    return tuple(torch.searchsorted(numbers, mask).reshape(len(mask), -1) for mask in broadcast), numbers.numel()


def _rows_of(groups: Tensor, examples: Tensor | None, rows: int) -> Tensor:
    if groups.shape[0] == 1:
        return groups.expand(rows, -1)
    return groups if examples is None else groups[examples]
