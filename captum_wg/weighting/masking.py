"""Ranking features and removing the highest ranked: the one helper of the fitness and of the metrics.

A *feature* is what is removed as a whole: a pixel of an image, all channels together, an element of anything else; a
feature mask regroups elements at will, as in Captum's perturbation methods. What inputs are taken for goes by the
number of their dimensions alone, here and wherever else it matters:

    inputs                           D_alpha's feature  neutral="auto"  "mean" of each, over  angle="auto"  smooth along
    table (B, F)                     element            0               example, F            global        (error)
    series (B, T, F)                 element            0               step, F               global        F
    series (B, C, T)                 element            0               channel, T            global        T
    image (B, C, H, W)               pixel              corners         channel, H W          pixel *       H, W
    volume, video (B, C, D, H, W)    voxel              0               channel, D H W        pixel *       D, H, W
    at a layer: of ids (B, T, E)     token              baselines' mean token, E              global        E

(* channel pairs where C = 3, global where C = 1.) Three dimensions do not tell which of them is time. Where it is the
first, (B, T, F): feature_mask=torch.arange(T).view(1, T, 1) removes whole steps, neutral=lambda x: x.mean(1,
keepdim=True) puts each variable's own mean there, and for angle="pixel" (one angle a step) or smooth (along time) hand
over x.transpose(1, 2) and lambda z: model(z.transpose(1, 2)). Likewise video with its frames first, (B, T, C, H, W).

Shapes: R rows (masked copies), P features.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice
from captum_wg.engine.tensors import beside
from captum_wg.weighting.blur import blurred

RANKINGS = ("signed", "absolute")

Neutral = str | int | float | Tensor | Callable[..., object] | tuple[Any, ...]


class Features:
    """The features of a tuple of inputs, listed one after another over all its elements.

    Args:
        inputs: a tuple of Tensors (B, *feature); only shapes and device are read.
        feature_mask: None, or for each element an integer Tensor (1, *feature) or (B, *feature) of group numbers, as
            in Captum: elements with the same number, in whichever Tensor of the tuple, are one feature. The numbers
            need not be contiguous; P is how many different ones there are. One number for each step of (B, T, E) is
            (B, T, 1): a mask (B, T) is refused even where T = E lets it broadcast.

    Attributes:
        count: P, the number of features.
        counts: for each example (B,) how many of them it has: P, but for a feature mask that differs between examples.
    """

    def __init__(self, inputs: tuple[Tensor, ...], feature_mask: tuple[Tensor, ...] | None = None):
        n_examples, device = len(inputs[0]), inputs[0].device
        self._shapes = [tuple(x.shape[1:]) for x in inputs]
        self._mask_shapes = self._shapes
        self._groups: list[Tensor] | None = None
        if feature_mask is None:
            self._mask_shapes = [(1, *shape[1:]) if len(shape) > 2 else shape for shape in self._shapes]
            self.count = sum(map(math.prod, self._mask_shapes))
            self.counts = torch.full((n_examples,), self.count, device=device)
            return
        self._groups, self.count = _number_groups(inputs, feature_mask)
        present = torch.zeros(max(map(len, self._groups)), self.count, dtype=torch.bool, device=device)
        for groups in self._groups:
            present.scatter_(1, groups.expand(len(present), -1), True)
        self._absent = ~present
        self.counts = present.sum(1).expand(n_examples)

    def to(self, device: torch.device) -> Features:
        """The same features for tensors on another device."""
        moved = copy.copy(self)
        moved.counts = self.counts.to(device)
        if self._groups is not None:
            moved._groups, moved._absent = [groups.to(device) for groups in self._groups], self._absent.to(device)
        return moved

    def scores(
        self, attributions: tuple[Tensor, ...], ranking: str = "signed", examples: Tensor | None = None
    ) -> Tensor:
        """One score per feature, (R, P): the sum of its elements ("signed") or of their absolute values.

        An image's attribution may have one channel where the image has several. `examples` (R,) says which example
        each row belongs to; only a feature mask that differs between examples needs it. A feature that an example does
        not have scores -inf, the last of all.
        """
        check_choice(ranking, "ranking", RANKINGS)
        scores = self.sums(tuple(a.abs() if ranking == "absolute" else a for a in attributions), examples)
        if self._groups is None:
            return scores
        return scores.masked_fill_(_rows_of(self._absent, examples, len(scores)), -math.inf)

    def sums(self, attributions: tuple[Tensor, ...], examples: Tensor | None = None) -> Tensor:
        """The sum over each feature's elements, (R, P); 0 for one that an example does not have. As in `scores`."""
        rows = len(attributions[0])
        if self._groups is None:
            summed = [a.sum(1) if len(s) > 2 else a for a, s in zip(attributions, self._shapes, strict=True)]
            return torch.cat([a.reshape(rows, -1) for a in summed], dim=1)
        dtype = reduce(torch.promote_types, (a.dtype for a in attributions))
        sums = attributions[0].new_zeros(rows, self.count, dtype=dtype)
        for value, groups, shape in zip(attributions, self._groups, self._shapes, strict=True):
            flat = value.expand(rows, *shape).reshape(rows, -1)
            sums.scatter_add_(1, _rows_of(groups, examples, rows), flat.to(dtype))
        return sums

    def remove(
        self, inputs: tuple[Tensor, ...], neutral: tuple[Tensor, ...], removed: Tensor, examples: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Copies of inputs (R, *feature) in which the features marked in removed (R, P) have the neutral value.

        inputs and neutral must broadcast to R rows; examples as in `scores`.
        """
        marked = self.spread(removed, examples)
        return tuple(torch.where(m, value, x) for m, value, x in zip(marked, neutral, inputs, strict=True))

    def spread(self, values: Tensor, examples: Tensor | None = None) -> tuple[Tensor, ...]:
        """The features' values (R, P) at each of their elements: for each of inputs a Tensor that broadcasts to
        (R, *feature); examples as in `scores`."""
        rows = len(values)
        if self._groups is None:
            parts = torch.split(values, [math.prod(shape) for shape in self._mask_shapes], dim=1)
        else:
            parts = tuple(values.gather(1, _rows_of(groups, examples, rows)) for groups in self._groups)
        return tuple(part.view(rows, *shape) for part, shape in zip(parts, self._mask_shapes, strict=True))


def ranks(scores: Tensor) -> Tensor:
    """The place (R, P), int32, of each feature in the descending order of its row; ties go by position.

    `ranks(scores) < n` marks the n features that are removed first.
    """
    order = scores.argsort(dim=1, descending=True, stable=True)
    positions = torch.arange(scores.shape[1], dtype=torch.int32, device=scores.device).expand_as(order)
    return torch.empty_like(positions).scatter_(1, order, positions)


def neutral_values(
    inputs: tuple[Tensor, ...],
    neutral: Neutral = "auto",
    name: str = "neutral",
    auto: tuple[Tensor, ...] | None = None,
) -> tuple[Tensor, ...]:
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
        auto: what "auto" is for each element instead, broadcasting to it.

    Raises:
        ValueError: unknown name; "corners" or "blur" of something that is no image; a shape that does not broadcast.
        TypeError: neither of the forms above.
    """
    each = neutral if isinstance(neutral, tuple) else (neutral,) * len(inputs)
    if len(each) != len(inputs):
        raise ValueError(
            f"{name} is a tuple of {len(each)}, but there are {len(inputs)} inputs; give one value for each"
        )
    return tuple(
        auto[i] if auto is not None and isinstance(value, str) and value == "auto" else _neutral_value(x, value, name)
        for i, (x, value) in enumerate(zip(inputs, each, strict=True))
    )


def _neutral_value(x: Tensor, neutral: Any, name: str) -> Tensor:
    forms = f"{name} must be one of {NEUTRALS}, a number, a Tensor or a callable"
    if isinstance(neutral, str):
        if neutral not in NEUTRALS:
            raise ValueError(f"{forms}, got {neutral!r}")
        if neutral in ("corners", "blur") and x.ndim != 4:
            raise ValueError(
                f"{name}={neutral!r} needs images of shape (B, C, H, W), got an input of shape {tuple(x.shape)}; "
                f"use 'mean', 'black' or a number"
            )
        return _NAMED[neutral](x)
    if isinstance(neutral, bool) or not (isinstance(neutral, int | float | Tensor) or callable(neutral)):
        raise TypeError(f"{forms}, got {type(neutral).__name__}")
    value = torch.as_tensor(neutral(x) if callable(neutral) else neutral, device=x.device, dtype=x.dtype)
    shape = tuple(value.shape)
    if x.ndim == 4 and value.ndim == 1 and value.numel() > 1:
        # It would broadcast along W where W happens to be as long.
        raise ValueError(
            f"{name} has shape {shape} for images (B, C, H, W); for one value per channel reshape it to (C, 1, 1)"
        )
    if not _broadcasts(value, x):
        raise ValueError(f"{name} has shape {shape}, which does not broadcast to the input's {tuple(x.shape)}")
    if not torch.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinite values; give finite ones")
    # Batched rows are picked out by example below, so an axis for the batch must stand there.
    return value.reshape((1,) * (x.ndim - value.ndim) + shape)


def channel_means(x: Tensor) -> Tensor:
    """The mean of each channel of x (B, C, ...), or of all features of one without channels, broadcasting to x."""
    # mean of no dimensions would be that of all.
    return x.mean(tuple(range(2 if x.ndim > 2 else 1, x.ndim)), keepdim=True) if x.ndim > 1 else x


def _corners(x: Tensor) -> Tensor:
    h, w = max(1, int(0.1 * x.shape[2])), max(1, int(0.1 * x.shape[3]))
    squares = (x[..., :h, :w], x[..., :h, -w:], x[..., -h:, :w], x[..., -h:, -w:])
    return torch.stack([square.mean((2, 3), keepdim=True) for square in squares]).mean(0)


_NAMED: dict[str, Callable[[Tensor], Tensor]] = {
    "auto": lambda x: _corners(x) if x.ndim == 4 else x.new_zeros((1,) * x.ndim),
    "corners": _corners,
    "black": lambda x: beside(x.reshape(len(x), -1).amin(1), x),
    "mean": channel_means,
    "blur": lambda x: blurred(x, max(x.shape[2:]) / 8, reach=2),
}
NEUTRALS = tuple(_NAMED)


def _broadcasts(values: Tensor, x: Tensor) -> bool:
    sizes = zip(values.shape[::-1], x.shape[::-1], strict=False)
    return values.ndim <= x.ndim and all(own in (1, size) for own, size in sizes)


def _number_groups(inputs: tuple[Tensor, ...], feature_mask: tuple[Tensor, ...]) -> tuple[list[Tensor], int]:
    """The groups' numbers 0 ... P - 1, (1 or B, elements), and P."""
    if len(feature_mask) != len(inputs):
        raise ValueError(
            f"feature_mask is a tuple of {len(feature_mask)}, but there are {len(inputs)} inputs; give one for each"
        )
    given, count = numbered(feature_mask)
    masks = []
    for x, mask in zip(inputs, given, strict=True):
        shape, of_x = tuple(mask.shape), tuple(x.shape)
        # (B, T) of inputs (B, T, E): one number for each step.
        leading = 1 < mask.ndim < x.ndim and shape[0] in (1, len(x)) and shape[1:] == of_x[1 : mask.ndim]
        remedy = "; for one number at each of these give mask.unsqueeze(-1)" if leading else ""
        if not _broadcasts(mask, x):
            raise ValueError(f"feature_mask has shape {shape}, which does not broadcast to the input's {of_x}{remedy}")
        if leading and mask.numel() > 1:
            raise ValueError(
                f"feature_mask of shape {shape} may number the first or the last dimensions of inputs {of_x}{remedy}, "
                "else mask.unsqueeze(0)"
            )
        own = mask.ndim == x.ndim and len(mask) > 1
        mask = mask.to(x.device).expand(len(x) if own else 1, *x.shape[1:])
        masks.append(mask.reshape(len(mask), -1).contiguous())
    return masks, count


def numbered(feature_mask: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], int]:
    """The same groups with the numbers 0 ... P - 1, without gaps, and P."""
    for mask in feature_mask:
        if not isinstance(mask, Tensor) or mask.is_floating_point() or mask.is_complex():
            kind = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
            raise TypeError(f"feature_mask must hold integer Tensors (group numbers), got {kind}")
    masks = [mask.long().contiguous() for mask in feature_mask]
    numbers = torch.unique(torch.cat([mask.flatten().cpu() for mask in masks]))
    return tuple(torch.searchsorted(numbers.to(mask.device), mask) for mask in masks), numbers.numel()


def _rows_of(groups: Tensor, examples: Tensor | None, rows: int) -> Tensor:
    if groups.shape[0] == 1:
        return groups.expand(rows, -1)
    return groups if examples is None else groups[examples]
