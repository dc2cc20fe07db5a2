"""Where paths start: generators for the `baselines` argument.

Each is a small immutable callable of the inputs, a Tensor (B, *feature) or a tuple of these, that returns K baselines
in the inputs' dtype and on their device, as a Tensor (a tuple for a tuple):

    (K, *feature)       the same for all examples:  constant, uniform, gaussian(center=...), sample, stratified, k_means
    (B, K, *feature)    each example's own:         gaussian, gaussian_blur, channel_mean, maximum_distance

    references = compose(constant(0.0), gaussian_blur([2, 4]), sample(training_data, 10))
    ExpectedGradients(net).attribute(x, baselines=references, target=y)

Shapes: B examples, K baselines, C channels, H, W; an image is an input (B, C, H, W). Arguments that several have:

    k               K, at least 1.
    generator       The only source of randomness; draws are shared by all examples of a call. With an int seed (None
                    is seed 0) every call starts anew on the CPU, so that a map repeats bit by bit and devices agree;
                    a torch.Generator goes on from call to call and must be on the inputs' device. The elements of a
                    tuple are drawn one after the other from one stream.
    low, high       None: the inputs' own smallest and largest value, of each channel for images, of the whole Tensor
                    otherwise; over the batch, so give them if a map must not depend on the batch's other examples.
    values, stdev, center, low, high    Finite numbers: one, or C of them, one for each channel (dimension 1).

Generators can be pickled and deep-copied (before PyTorch 2.4 not with a torch.Generator). Results are detached from the
inputs. All raise TypeError for numbers of another type and for inputs that are no floating Tensors (but sample,
stratified and k_means(nearest=True) take ids, of inputs that are ids); ValueError for other numbers than the above, low
> high, a generator on another device, an empty batch.

Source: for blur, maximum distance, uniform and gaussian noise Sturmfels, Lundberg and Lee, "Visualizing the impact of
feature attribution baselines" (Distill, 2020).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from numbers import Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.data_baselines import OfData, k_means, stratified
from captum_wg.data_rows import Row, Select, check_enough, draw_rows, n_rows
from captum_wg.engine.baseline_set import BaselineSet, format_baselines
from captum_wg.engine.checks import DEFAULT_SEED, check_generator, check_inputs, check_positive_int
from captum_wg.engine.tensors import Inputs, as_tuple, at_least_float32, like_inputs
from captum_wg.integrals.random import Seed
from captum_wg.weighting.blur import blurred
from captum_wg.weighting.masking import channel_means

__all__ = [
    "channel_mean",
    "compose",
    "constant",
    "gaussian",
    "gaussian_blur",
    "k_means",
    "maximum_distance",
    "sample",
    "stratified",
    "uniform",
]

Numbers = float | Sequence[float]  # one, or one for each channel; kept as a float or a tuple of floats


class _OfEach(ABC):
    """Makes the baselines of each element of the inputs by itself."""

    def __post_init__(self) -> None:
        _check_fields(self)

    def __call__(self, inputs: Inputs) -> Inputs:
        elements = check_inputs(inputs, finite=False)
        draws, *_ = (check_generator(getattr(self, "generator", None), x.device) for x in elements)
        made = tuple(self._of(x.detach(), draws).to(x) for x in elements)
        return like_inputs(made, isinstance(inputs, tuple))

    @abstractmethod
    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        """The baselines of one element, in any floating type, on any device."""


@dataclass(frozen=True, init=False, repr=False)
class constant(_OfEach):
    """Baselines of one value each: constant(0.0), constant(0.0, 0.5, 1.0), constant((0.485, 0.456, 0.406)).

    values: K of them, each a number, or a sequence of C. Returns when called: (K, *feature).
    """

    values: tuple[Numbers, ...]

    def __init__(self, *values: float | Sequence[float] | Tensor | np.ndarray):
        if not values:
            raise ValueError("constant needs at least one value, such as constant(0.0), got none")
        object.__setattr__(self, "values", tuple(_numbers("values", value) for value in values))

    def __repr__(self) -> str:
        return f"constant({', '.join(map(repr, self.values))})"

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        return torch.stack([_by_channel("values", value, x).expand(x.shape[1:]) for value in self.values])


@dataclass(frozen=True)
class uniform(_OfEach):
    """Uniform noise: low + (high - low) u, u uniform on [0, 1). Returns when called: (K, *feature).

    Raises ValueError for inputs with NaN or infinite values where the range is theirs.
    """

    k: int
    low: Numbers | None = None
    high: Numbers | None = None
    generator: Seed = None

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        low, high = (bound.to(draws.device) for bound in _range(self.low, self.high, x))
        u = torch.rand((self.k, *x.shape[1:]), generator=draws, dtype=low.dtype, device=draws.device)
        return low + (high - low) * u


@dataclass(frozen=True)
class gaussian(_OfEach):
    """Normal noise e of mean 0 and standard deviation stdev > 0, the same for all examples: x + e, or center + e.

    Returns when called: (B, K, *feature), or (K, *feature) if center is given.
    """

    k: int
    stdev: Numbers
    center: Numbers | None = None
    generator: Seed = None

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        dtype = _wide(draws.device)
        noise = torch.randn((self.k, *x.shape[1:]), generator=draws, dtype=dtype, device=draws.device)
        noise = noise * _by_channel("stdev", self.stdev, x).to(noise)
        if self.center is not None:
            return _by_channel("center", self.center, x).to(noise) + noise
        around = at_least_float32(x).unsqueeze(1)
        return around + noise.to(around)


@dataclass(frozen=True)
class gaussian_blur(_OfEach):
    """Each image blurred, once for each sigma, mirrored at the border (as by torchvision's gaussian_blur).

    The kernel reaches 3 sigma to each side, or as far as reflection allows (the image's side less one pixel).

    sigmas: in pixels; a number above 0, or K of them. Returns when called: (B, K, C, H, W).

    Examples:
        >>> gaussian_blur([1, 2])(torch.rand(5, 3, 8, 8)).shape
        torch.Size([5, 2, 3, 8, 8])
    """

    sigmas: Numbers

    def __post_init__(self) -> None:
        _check_fields(self)
        object.__setattr__(self, "sigmas", tuple(np.atleast_1d(self.sigmas).tolist()))

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        if x.ndim != 4:
            raise ValueError(
                f"gaussian_blur needs images (B, C, H, W), got inputs of shape {tuple(x.shape)}; use channel_mean, "
                "constant or sample"
            )
        wide = at_least_float32(x)
        return torch.stack([blurred(wide, sigma, reach=3) for sigma in np.atleast_1d(self.sigmas).tolist()], 1)


@dataclass(frozen=True)
class channel_mean(_OfEach):
    """Each example's channels filled with their means; all features' mean for inputs (B, F) without channels.

    Returns when called: (B, 1, *feature).
    """

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        return channel_means(at_least_float32(x)).expand(x.shape).unsqueeze(1)


@dataclass(frozen=True)
class maximum_distance(_OfEach):
    """The farthest corner of the input range: each element low or high, what is farther (ties: low).

    Returns when called: (B, 1, *feature). Raises as `uniform` does.
    """

    low: Numbers | None = None
    high: Numbers | None = None

    def _of(self, x: Tensor, draws: torch.Generator) -> Tensor:
        low, high = _range(self.low, self.high, x)
        wide = x.to(low)
        return torch.where(high - wide > wide - low, high, low).unsqueeze(1)


@dataclass(frozen=True, eq=False, repr=False)
class sample(OfData):
    """K rows of a data set, drawn without replacement; the same for all examples.

    With an int seed (or None) the rows are drawn in the first call and kept, so data are read once. With a
    torch.Generator each call draws, and reads, anew. Copies share data and kept rows.

    Args:
        data: a Tensor, array or DataFrame (N, *feature), or a tuple of these with equal N for tuple inputs; anything
            with a length and integer indices, such as a Dataset, of which only the drawn items are read; a DataLoader
            or IterableDataset, which is read through once, keeping K rows (reservoir sampling): it need not fit into
            memory, but must end. What a shuffling loader or a random transform draws from the global generators of
            torch (CPU), numpy and Python repeats with the seed, and their states are put back; a loader's own
            `generator` is the caller's to seed.
        k: at most N.
        select: what of an item, or of a DataLoader's batch, is the input: a function item -> Tensor (or tuple of
            Tensors for tuple inputs). None: the item itself if it is a Tensor or array, its first entry if it is a
            tuple or list such as (image, label).

    Returns when called: (K, *feature).

    Raises:
        TypeError: data of no such form; items that aren't Tensors or arrays, of a floating type as the inputs or, for
            token ids, of whole numbers. Integer images (0 ... 255) are refused rather than converted: baselines must
            be prepared like the inputs.
        ValueError: empty data; rows of another shape than the inputs' examples; NaN or infinite values.

    Examples:
        >>> data = torch.arange(8.0).view(4, 2)
        >>> drawn = sample(data, 4, generator=1)(torch.zeros(1, 2))
        >>> drawn.sort(0).values.equal(data)  # without replacement: all of them
        True
    """

    data: Any
    k: int
    generator: Seed = None
    select: Select = None
    _kept: list[list[Row]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        _check_fields(self)
        check_enough(self.k, n_rows(self.data))

    def __repr__(self) -> str:
        size = n_rows(self.data)
        data = type(self.data).__name__ + ("" if size is None else f" of {size}")
        select = "" if self.select is None else f", select={self.select!r}"
        return f"sample(<{data}>, k={self.k}, generator={self.generator!r}{select})"

    def _rows(self, draws: torch.Generator) -> list[Row]:
        return draw_rows(self.data, self.k, self.select, draws)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class compose:
    """Several generators' baselines as one set, in order: compose(constant(0.0), gaussian_blur([2, 4])).

    Args:
        parts: generators of this module or functions of the inputs that return K_i baselines; or the baselines
            themselves, a Tensor (K_i, *feature) or (B, K_i, *feature), for tuple inputs a tuple of these. Part number i
            (from 0), if it is one of this module's with generator=None, gets the seed i, so that equal parts draw
            different noise.

    Returns when called: (K, *feature) with K the sum of K_i if every part is the same for all examples, else
    (B, K, *feature).

    Raises:
        TypeError: a part that is neither callable nor Tensors.
        ValueError: no parts; a part whose result has another shape, or another K for another element of a tuple.

    Examples:
        >>> references = compose(constant(0.0, 1.0), channel_mean())
        >>> references(torch.rand(5, 3, 8, 8)).shape  # each example's own, for one of them is
        torch.Size([5, 3, 3, 8, 8])
    """

    parts: tuple[Any, ...]
    _given: tuple[Any, ...]

    def __init__(self, *parts: Callable[[Any], Any] | Inputs):
        # A compose among the parts is opened before seeds are given, lest two parts get the same.
        given = [inner for part in parts for inner in (part._given if isinstance(part, compose) else (part,))]
        if not given:
            raise ValueError("compose needs at least one generator, such as compose(constant(0.0)), got none")
        seeded = []
        for i, part in enumerate(given):
            if not callable(part) and {isinstance(v, Tensor) for v in as_tuple(part)} != {True}:
                raise TypeError(
                    f"parts[{i}] must be callable or a Tensor of baselines, got {type(part).__name__}; for a number "
                    "use constant"
                )
            draws = isinstance(part, uniform | gaussian | OfData) and part.generator is None
            seeded.append(replace(part, generator=DEFAULT_SEED + i) if draws else part)
        object.__setattr__(self, "_given", tuple(given))
        object.__setattr__(self, "parts", tuple(seeded))

    def __repr__(self) -> str:
        return f"compose({', '.join(map(_short, self.parts))})"

    def __call__(self, inputs: Inputs) -> Inputs:
        elements = check_inputs(inputs, finite=False, whole_numbers=True)
        given = [part(inputs) if callable(part) else part for part in self.parts]
        sets = [_as_set(f"parts[{i}] ({_short(self.parts[i])})", g, inputs) for i, g in enumerate(given)]
        shared = all(s.shared for s in sets)
        joined = []
        for x, *values in zip(elements, *(s.values for s in sets), strict=True):
            if not shared:
                values = [v.expand(len(x), *v.shape[-x.ndim :]) for v in values]
            joined.append(torch.cat(values, dim=0 if shared else 1))
        return like_inputs(tuple(joined), isinstance(inputs, tuple))


def _as_set(name: str, given: Any, inputs: Inputs) -> BaselineSet:
    """What a part gave, checked."""
    elements, several = as_tuple(inputs), isinstance(inputs, tuple)
    if isinstance(given, tuple) != several or not all(isinstance(b, Tensor) for b in as_tuple(given)):
        expected = "a tuple of Tensors" if several else "a Tensor"
        raise TypeError(f"{name} must give {expected}, as the inputs are, got {type(given).__name__}")
    if len(as_tuple(given)) == len(elements):
        given = tuple(b.to(x) for b, x in zip(as_tuple(given), elements, strict=True))
    try:
        return format_baselines(given, elements, is_tuple=True, pairing="shared")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _check_fields(generator: Any) -> None:
    """The fields of a dataclass by their names: k becomes an int, numbers become floats."""
    for spec in fields(generator):
        name, value = spec.name, getattr(generator, spec.name)
        if name == "k":
            value = check_positive_int(value, "k")
        elif name == "generator":
            check_generator(value, getattr(value, "device", torch.device("cpu")))
        elif name in ("low", "high", "stdev", "center", "sigmas") and not (value is None and spec.default is None):
            given, value = value, _numbers(name, value)
            if name in ("stdev", "sigmas") and np.min(value) <= 0:
                why = "; the unblurred image is no baseline" if name == "sigmas" else ""
                raise ValueError(f"{name} must be above 0, got {given!r}{why}")
        object.__setattr__(generator, name, value)
    low, high = (getattr(generator, name, None) for name in ("low", "high"))
    if low is None or high is None:
        return
    if len({np.size(low), np.size(high)} - {1}) > 1:
        raise ValueError(f"low has {np.size(low)} numbers and high has {np.size(high)}; give one for each channel")
    if np.greater(low, high).any():
        raise ValueError(f"low must not be above high, got low={low!r} and high={high!r}")


def _numbers(name: str, value: Any) -> Numbers:
    """A float or a tuple of floats; all finite."""
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    several = isinstance(value, Sequence) and not isinstance(value, str)
    values = list(value) if several else [value]
    if not all(isinstance(v, Real) and not isinstance(v, bool) for v in values):
        raise TypeError(f"{name} must be a number or a sequence of numbers, one for each channel, got {value!r}")
    if not values or not all(math.isfinite(v) for v in values):
        raise ValueError(f"{name} must be finite, and at least one number, got {value!r}")
    return tuple(float(v) for v in values) if several else float(value)


def _by_channel(name: str, value: Numbers, x: Tensor) -> Tensor:
    """The numbers as a float64 Tensor on the CPU that broadcasts to *feature."""
    numbers = torch.tensor(value, dtype=torch.float64)
    if numbers.ndim == 0:
        return numbers
    channels = x.shape[1] if x.ndim > 1 else 0
    if len(numbers) != channels:
        raise ValueError(
            f"{name} has {len(numbers)} numbers, but inputs of shape {tuple(x.shape)} have {channels}; give one "
            "number, or one for each channel"
        )
    return numbers.view(-1, *(1,) * (x.ndim - 2))


def _range(low: Numbers | None, high: Numbers | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds that broadcast to *feature, on x's device: those given, else x's own."""
    dims = (0, 2, 3) if x.ndim == 4 else tuple(range(x.ndim))
    if (low is None or high is None) and not torch.isfinite(x).all():
        raise ValueError("inputs hold NaN or infinite values, which give no range; give low and high, or clean them")

    def bound(name: str, value: Numbers | None, own: Callable[..., Tensor]) -> Tensor:
        given = own(x, dim=dims, keepdim=True)[0] if value is None else _by_channel(name, value, x)
        return given.to(device=x.device, dtype=_wide(x.device))

    lowest, highest = bound("low", low, torch.amin), bound("high", high, torch.amax)
    if (lowest > highest).any():
        raise ValueError(
            f"low must not be above high; got low={'the smallest input' if low is None else low} and "
            f"high={'the largest input' if high is None else high}; give both"
        )
    return lowest, highest


def _wide(device: torch.device) -> torch.dtype:
    # What is drawn wide and then rounded is the same for inputs of every dtype; mps has no float64.
    return torch.float32 if device.type == "mps" else torch.float64


def _short(part: Any) -> str:
    if is_dataclass(part):
        return repr(part)
    if isinstance(part, Tensor):
        return f"<Tensor {tuple(part.shape)}>"
    return f"<{getattr(part, '__name__', type(part).__name__)}>"
