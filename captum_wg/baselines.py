"""Where paths start: generators for the `baselines` argument.

Each is a small immutable callable of the inputs, a Tensor (B, *feature) or a tuple of these, that returns K
baselines in the inputs' dtype and on their device, as a Tensor (a tuple for a tuple):

    (K, *feature)       the same for all examples:  constant, uniform, gaussian(center=...), sample
    (B, K, *feature)    each example's own:         gaussian, gaussian_blur, channel_mean, maximum_distance

    references = compose(constant(0.0), gaussian_blur([2, 4]), sample(training_data, 10))
    ExpectedGradients(net).attribute(x, baselines=references, target=y)

Shapes: B examples, K baselines, C channels, H, W; an image is an input (B, C, H, W).

Randomness comes from `generator` alone, never from a global generator, and draws are shared by all examples
of a call. With an int seed (None is seed 0) every call starts anew on the CPU, so that a map repeats bit by
bit and devices agree; a torch.Generator goes on from call to call and must be on the inputs' device. The
elements of a tuple are drawn one after the other from one stream.

Generators can be pickled and deep-copied (a copied torch.Generator goes on by itself, from the same state).
All results are detached from the inputs. All generators raise TypeError for inputs that aren't Tensors of a
floating type, ValueError for a batch that is empty.

Source: for blur, maximum distance, uniform and gaussian noise Sturmfels, Lundberg and Lee, "Visualizing the
impact of feature attribution baselines" (Distill, 2020).
"""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from captum_wg.engine.checks import DEFAULT_SEED, check_generator
from captum_wg.engine.tensors import Inputs, accumulation_dtype

Seed = torch.Generator | int | None
Numbers = float | Sequence[float]  # one, or one for each channel; kept as a float or a tuple of floats


@dataclass(frozen=True, init=False, repr=False)
class constant:
    """Baselines of one value each: constant(0.0), constant(0.0, 0.5, 1.0), constant((0.485, 0.456, 0.406)).

    Args:
        values: K of them, each a number, or a sequence of C numbers, one for each channel (dimension 1 of the
            inputs).

    Returns when called: (K, *feature).

    Raises:
        TypeError: a value is neither a number nor a sequence of numbers.
        ValueError: no value; one that is not finite; another number of channels than the inputs have.
    """

    values: tuple[Numbers, ...]

    def __init__(self, *values: float | Sequence[float] | Tensor | np.ndarray):
        if not values:
            raise ValueError("constant needs at least one value, such as constant(0.0), got none")
        object.__setattr__(self, "values", tuple(_numbers("values", value) for value in values))

    def __repr__(self) -> str:
        return f"constant({', '.join(map(repr, self.values))})"

    def __call__(self, inputs: Inputs) -> Inputs:
        def fill(x: Tensor) -> Tensor:
            rows = [_by_channel("values", value, x).expand(x.shape[1:]) for value in self.values]
            return torch.stack(rows).to(x)

        return _each(inputs, fill)


@dataclass(frozen=True)
class uniform:
    """Uniform noise: low + (high - low) u, u uniform on [0, 1), the same K draws for all examples.

    Args:
        k: K, the number of baselines.
        low, high: numbers, or one for each channel. None: the inputs' own smallest and largest value, of each
            channel for images, of the whole Tensor otherwise; over the batch, so give them if a map must not
            depend on the other examples of its batch.
        generator: None, an int seed or a torch.Generator; see the module.

    Returns when called: (K, *feature).

    Raises:
        TypeError, ValueError: k < 1; low > high; a number that is not finite; numbers for another number of
            channels; inputs with NaN or infinite values where the range is theirs; a generator on another
            device.
    """

    k: int
    low: Numbers | None = None
    high: Numbers | None = None
    generator: Seed = None

    def __post_init__(self) -> None:
        _check_draws(self)
        _check_range(self)

    def __call__(self, inputs: Inputs) -> Inputs:
        generator = _generator(self.generator, inputs)

        def draw(x: Tensor) -> Tensor:
            low, high = (bound.to(generator.device) for bound in _range(self.low, self.high, x))
            shape = (self.k, *x.shape[1:])
            u = torch.rand(shape, generator=generator, dtype=low.dtype, device=low.device)
            return (low + (high - low) * u).to(x)

        return _each(inputs, draw)


@dataclass(frozen=True)
class gaussian:
    """Normal noise e of mean 0 and the given deviation: x + e around each input, or center + e.

    Args:
        k: K, the number of baselines.
        stdev: the standard deviation, a number above 0 or one for each channel.
        center: None: each input; the same K draws are added to all of them. A number, or one for each
            channel: the baselines do not depend on the inputs.
        generator: None, an int seed or a torch.Generator; see the module.

    Returns when called: (B, K, *feature), or (K, *feature) if center is given.

    Raises:
        TypeError, ValueError: k < 1; stdev <= 0; a number that is not finite; numbers for another number of
            channels; a generator on another device.
    """

    k: int
    stdev: Numbers
    center: Numbers | None = None
    generator: Seed = None

    def __post_init__(self) -> None:
        _check_draws(self)
        object.__setattr__(self, "stdev", _numbers("stdev", self.stdev))
        if min(_as_tuple(self.stdev)) <= 0:
            raise ValueError(f"stdev must be above 0, got {self.stdev!r}")
        if self.center is not None:
            object.__setattr__(self, "center", _numbers("center", self.center))

    def __call__(self, inputs: Inputs) -> Inputs:
        generator = _generator(self.generator, inputs)

        def draw(x: Tensor) -> Tensor:
            shape = (self.k, *x.shape[1:])
            noise = torch.randn(shape, generator=generator, dtype=_wide(generator.device), device=generator.device)
            noise = noise * _by_channel("stdev", self.stdev, x).to(noise)
            if self.center is not None:
                return (_by_channel("center", self.center, x).to(noise) + noise).to(x)
            around = x.to(accumulation_dtype(x.dtype)).unsqueeze(1)
            return (around + noise.to(around)).to(x)

        return _each(inputs, draw)


@dataclass(frozen=True)
class gaussian_blur:
    """Each image blurred, once for each sigma (torchvision's gaussian_blur, with reflection at the border).

    The kernel reaches 3 sigma to each side, or as far as reflection allows (the image's side less one pixel).

    Args:
        sigmas: in pixels; a number above 0, or K of them.

    Returns when called: (B, K, C, H, W).

    Raises:
        TypeError, ValueError: no sigma; sigma <= 0 or not finite; inputs that are no images (B, C, H, W).
    """

    sigmas: Numbers

    def __post_init__(self) -> None:
        sigmas = _as_tuple(_numbers("sigmas", self.sigmas))
        if min(sigmas) <= 0:
            raise ValueError(f"sigmas must be above 0, got {self.sigmas!r}; the unblurred image is no baseline")
        object.__setattr__(self, "sigmas", sigmas)

    def __call__(self, inputs: Inputs) -> Inputs:
        from torchvision.transforms.functional import gaussian_blur as blur

        def blurred(x: Tensor) -> Tensor:
            if x.ndim != 4:
                raise ValueError(
                    f"gaussian_blur needs images (B, C, H, W), got inputs of shape {tuple(x.shape)}; "
                    f"use channel_mean, constant or sample"
                )
            wide = x.to(accumulation_dtype(x.dtype))
            copies = []
            for sigma in _as_tuple(self.sigmas):
                sides = [min(2 * math.ceil(3 * sigma) + 1, 2 * side - 1) for side in (x.shape[3], x.shape[2])]
                copies.append(blur(wide, sides, [sigma, sigma]))
            return torch.stack(copies, 1).to(x)

        return _each(inputs, blurred)


@dataclass(frozen=True)
class channel_mean:
    """Each example's channels filled with their means; all features' mean for inputs (B, F) without channels.

    Returns when called: (B, 1, *feature).
    """

    def __call__(self, inputs: Inputs) -> Inputs:
        def fill(x: Tensor) -> Tensor:
            dims = tuple(range(2 if x.ndim > 2 else 1, x.ndim))
            mean = x.to(accumulation_dtype(x.dtype)).mean(dims, keepdim=True) if dims else x
            return mean.expand(x.shape).unsqueeze(1).to(x)

        return _each(inputs, fill)


@dataclass(frozen=True)
class maximum_distance:
    """The farthest corner of the input range: each element low or high, what is farther (ties: low).

    Args:
        low, high: as in `uniform`.

    Returns when called: (B, 1, *feature).

    Raises:
        TypeError, ValueError: as in `uniform`.
    """

    low: Numbers | None = None
    high: Numbers | None = None

    def __post_init__(self) -> None:
        _check_range(self)

    def __call__(self, inputs: Inputs) -> Inputs:
        def corner(x: Tensor) -> Tensor:
            low, high = _range(self.low, self.high, x)
            wide = x.to(low)
            return torch.where(high - wide > wide - low, high, low).unsqueeze(1).to(x)

        return _each(inputs, corner)


@dataclass(frozen=True, eq=False, repr=False)
class sample:
    """K rows of a data set, drawn without replacement; the same for all examples.

    With an int seed (or None) the rows are drawn in the first call and kept, so data are read once. With a
    torch.Generator each call draws, and reads, anew. Copies share data and kept rows.

    Args:
        data: a Tensor or array (N, *feature), or a tuple of these with equal N for tuple inputs; anything
            with a length and integer indices, such as a Dataset, of which only the drawn items are read; a
            DataLoader or IterableDataset, which is read through once, keeping K rows (reservoir sampling), so
            that it need not fit into memory, but must end. What a shuffling loader or a random transform
            draws from the global generators of torch (CPU), numpy and Python repeats with the seed, and their
            states are put back; a loader's own `generator` is the caller's to seed.
        k: K, at most N.
        generator: None, an int seed or a torch.Generator; see the module.
        select: what of an item, or of a DataLoader's batch, is the input: a function item -> Tensor (or tuple
            of Tensors for tuple inputs). None: the item itself if it is a Tensor or array, its first entry if
            it is a tuple or list such as (image, label).

    Returns when called: (K, *feature).

    Raises:
        TypeError: data of no such form; items that aren't Tensors or arrays of a floating type. Integer
            images (0 ... 255) are refused rather than converted: baselines must be prepared like the inputs.
        ValueError: k < 1 or more than N; empty data; rows of another shape than the inputs' examples; NaN or
            infinite values; a generator on another device.
    """

    data: Any
    k: int
    generator: Seed = None
    select: Callable[[Any], Any] | None = None
    _kept: list[list[tuple[Tensor, ...]]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        _check_draws(self)
        if not _is_stream(self.data):
            _check_size(self.k, _length(self.data))

    def __repr__(self) -> str:
        size = "" if _is_stream(self.data) else f" of {_length(self.data)}"
        select = "" if self.select is None else f", select={self.select!r}"
        return f"sample(<{type(self.data).__name__}{size}>, k={self.k}, generator={self.generator!r}{select})"

    def __deepcopy__(self, memo: dict[int, Any]) -> sample:
        # The data are only read: a deep copy of a data set could be gigabytes, and draw the rows once more.
        new = replace(self, generator=copy.deepcopy(self.generator, memo))
        object.__setattr__(new, "_kept", self._kept)
        return new

    def __call__(self, inputs: Inputs) -> Inputs:
        generator = _generator(self.generator, inputs)
        elements = inputs if isinstance(inputs, tuple) else (inputs,)
        if isinstance(self.generator, torch.Generator):
            rows = self._draw(generator)
        else:
            if not self._kept:
                self._kept.append(self._draw(generator))
            rows = self._kept[0]
        _check_rows(rows, elements)
        stacked = tuple(torch.stack(column).to(x) for column, x in zip(zip(*rows, strict=True), elements, strict=True))
        return stacked if isinstance(inputs, tuple) else stacked[0]

    def _draw(self, generator: torch.Generator) -> list[tuple[Tensor, ...]]:
        if _is_stream(self.data):
            with _global_state_put_back(generator):
                return _reservoir(self._rows(), self.k, generator)
        size = _length(self.data)
        chosen = torch.randperm(size, generator=generator, device=generator.device)[: self.k].tolist()
        if _is_array(self.data):
            return [_copied((_tensor(self.data[i]),)) for i in chosen]
        if _is_arrays(self.data):
            return [_copied(tuple(_tensor(a[i]) for a in self.data)) for i in chosen]
        with _global_state_put_back(generator):
            return [_copied(self._input_of(self.data[i])) for i in chosen]

    def _rows(self) -> Iterator[tuple[Tensor, ...]]:
        """The rows of a DataLoader or IterableDataset, one at a time."""
        batched = isinstance(self.data, DataLoader) and self.data.batch_sampler is not None
        for item in self.data:
            entries = self._input_of(item)
            if not batched:
                yield entries
                continue
            if any(entry.ndim == 0 for entry in entries) or len({len(entry) for entry in entries}) > 1:
                raise ValueError(
                    f"data yields a batch with inputs of shapes {[tuple(entry.shape) for entry in entries]}, "
                    f"whose first dimensions should be one batch size; use select to pick the inputs"
                )
            yield from zip(*entries, strict=True)

    def _input_of(self, item: Any) -> tuple[Tensor, ...]:
        """The input of an item or of a batch, as a tuple of its elements."""
        if self.select is not None:
            item = self.select(item)
        elif isinstance(item, tuple | list) and item:
            item = item[0]
        entries = tuple(item) if isinstance(item, tuple | list) else (item,)
        if not entries or not all(map(_is_array, entries)):
            several = isinstance(item, tuple | list)
            kind = [type(entry).__name__ for entry in entries] if several else type(item).__name__
            raise TypeError(
                f"data must yield Tensors or arrays, or tuples that begin with one such as (image, label), "
                f"got {kind}; add a transform that makes Tensors, or pass select"
            )
        return tuple(_tensor(entry) for entry in entries)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class compose:
    """Several generators' baselines as one set, in order: compose(constant(0.0), gaussian_blur([2, 4])).

    Args:
        parts: generators of this module or functions of the inputs that return K_i baselines; or the
            baselines themselves, a Tensor (K_i, *feature) or (B, K_i, *feature), for tuple inputs a tuple of
            these. Part number i (from 0), if it is one of this module's with generator=None, gets the seed i,
            so that equal parts draw different noise.

    Returns when called: (K, *feature) with K the sum of K_i if every part is the same for all examples, else
    (B, K, *feature).

    Raises:
        TypeError: a part that is neither callable nor Tensors.
        ValueError: no parts; a part whose result has another shape, or another K for another element of a
            tuple.
    """

    parts: tuple[Any, ...]
    _given: tuple[Any, ...]

    def __init__(self, *parts: Callable[[Any], Any] | Inputs):
        # A compose among the parts is opened before seeds are given, lest two parts get the same.
        given = [inner for part in parts for inner in (part._given if isinstance(part, compose) else (part,))]
        if not given:
            raise ValueError("compose needs at least one generator, such as compose(constant(0.0)), got none")
        for i, part in enumerate(given):
            if not callable(part) and not _are_tensors(part):
                raise TypeError(
                    f"parts[{i}] must be callable or a Tensor of baselines, got {type(part).__name__}; "
                    f"for a number use constant"
                )
        object.__setattr__(self, "_given", tuple(given))
        object.__setattr__(self, "parts", tuple(_own_seed(part, i) for i, part in enumerate(given)))

    def __repr__(self) -> str:
        return f"compose({', '.join(_short(part) for part in self.parts)})"

    def __call__(self, inputs: Inputs) -> Inputs:
        elements = _elements(inputs)
        results = []
        for i, part in enumerate(self.parts):
            result = part(inputs) if callable(part) else part
            results.append(_checked(f"parts[{i}] ({_short(part)})", result, inputs, elements))
        own = any(b.ndim == x.ndim + 1 for result in results for b, x in zip(result, elements, strict=True))
        sets = []
        for x, *of_parts in zip(elements, *results, strict=True):
            if own:
                of_parts = [b if b.ndim == x.ndim + 1 else b.expand(len(x), *b.shape) for b in of_parts]
            sets.append(torch.cat([b.detach().to(x) for b in of_parts], dim=1 if own else 0))
        return tuple(sets) if isinstance(inputs, tuple) else sets[0]


def _elements(inputs: Inputs) -> tuple[Tensor, ...]:
    elements = inputs if isinstance(inputs, tuple) else (inputs,)
    if not elements or not all(isinstance(x, Tensor) for x in elements):
        kind = [type(x).__name__ for x in elements] if isinstance(inputs, tuple) else type(inputs).__name__
        raise TypeError(f"inputs must be a Tensor or a tuple of Tensors, got {kind}")
    for x in elements:
        if not x.is_floating_point():
            raise TypeError(
                f"inputs must have a floating type, got {x.dtype}; normalise images first, and for token ids "
                f"make baselines of their embeddings"
            )
        if x.ndim == 0 or x.numel() == 0:
            raise ValueError(f"inputs must be a batch (B, *feature) of at least one, got shape {tuple(x.shape)}")
    return elements


def _each(inputs: Inputs, baselines_of: Callable[[Tensor], Tensor]) -> Inputs:
    results = tuple(baselines_of(x.detach()) for x in _elements(inputs))
    return results if isinstance(inputs, tuple) else results[0]


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


def _as_tuple(value: Numbers) -> tuple[float, ...]:
    return tuple(value) if isinstance(value, Sequence) else (value,)


def _by_channel(name: str, value: Numbers, x: Tensor) -> Tensor:
    """The numbers as a float64 Tensor on the CPU that broadcasts to *feature."""
    if not isinstance(value, Sequence):
        return torch.tensor(value, dtype=torch.float64)
    if x.ndim < 2 or len(value) != x.shape[1]:
        channels = x.shape[1] if x.ndim > 1 else 0
        raise ValueError(
            f"{name} has {len(value)} numbers, but inputs of shape {tuple(x.shape)} have {channels}; "
            f"give one number, or one for each channel"
        )
    return torch.tensor(value, dtype=torch.float64).view(-1, *(1,) * (x.ndim - 2))


def _check_draws(generator: Any) -> None:
    """k and generator of a dataclass; k becomes an int."""
    k, seed = generator.k, generator.generator
    if isinstance(k, bool) or not isinstance(k, Integral):
        raise TypeError(f"k must be an integer, the number of baselines, got {k!r}")
    if int(k) < 1:
        raise ValueError(f"k must be at least 1, the number of baselines, got {k}")
    object.__setattr__(generator, "k", int(k))
    if not isinstance(seed, torch.Generator):
        check_generator(seed, torch.device("cpu"))


def _check_range(generator: Any) -> None:
    """low and high of a dataclass; they become floats."""
    for name in ("low", "high"):
        if getattr(generator, name) is not None:
            object.__setattr__(generator, name, _numbers(name, getattr(generator, name)))
    if generator.low is None or generator.high is None:
        return
    low, high = _as_tuple(generator.low), _as_tuple(generator.high)
    if len(low) > 1 and len(high) > 1 and len(low) != len(high):
        raise ValueError(f"low has {len(low)} numbers and high has {len(high)}; give one for each channel")
    if any(a > b for a, b in np.broadcast(low, high)):
        raise ValueError(f"low must not be above high, got low={generator.low!r} and high={generator.high!r}")


def _range(low: Numbers | None, high: Numbers | None, x: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds that broadcast to *feature, on x's device: those given, else x's own."""
    dtype = _wide(x.device)
    dims = (0, 2, 3) if x.ndim == 4 else tuple(range(x.ndim))
    if (low is None or high is None) and not torch.isfinite(x).all():
        raise ValueError("inputs hold NaN or infinite values, which give no range; give low and high, or clean them")

    def bound(name: str, value: Numbers | None, own: Callable[..., Tensor]) -> Tensor:
        if value is not None:
            return _by_channel(name, value, x).to(device=x.device, dtype=dtype)
        extreme = own(x, dim=dims)
        return (extreme.view(-1, 1, 1) if x.ndim == 4 else extreme).to(dtype)

    lowest, highest = bound("low", low, torch.amin), bound("high", high, torch.amax)
    if (lowest > highest).any():
        raise ValueError(
            f"low must not be above high; got low={'the smallest input' if low is None else low} and "
            f"high={'the largest input' if high is None else high}; give both"
        )
    return lowest, highest


def _generator(seed: Seed, inputs: Inputs) -> torch.Generator:
    """A generator for one call: a new one on the CPU for a seed, else the one given."""
    first, *others = _elements(inputs)
    for x in others:
        check_generator(seed, x.device)
    return check_generator(seed, first.device)


def _wide(device: torch.device) -> torch.dtype:
    # What is drawn wide and then rounded is the same for inputs of every dtype; mps has no float64.
    return torch.float32 if device.type == "mps" else torch.float64


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor | np.ndarray)


def _is_arrays(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 0 and all(map(_is_array, value))


def _are_tensors(value: Any) -> bool:
    return isinstance(value, Tensor) or (
        isinstance(value, tuple) and len(value) > 0 and all(isinstance(v, Tensor) for v in value)
    )


def _is_stream(data: Any) -> bool:
    return isinstance(data, DataLoader | IterableDataset)


def _length(data: Any) -> int:
    if _is_arrays(data):
        sizes = [_length(a) for a in data]
        if len(set(sizes)) > 1:
            raise ValueError(f"data is a tuple of Tensors with {sizes} rows; they must have equally many")
        return sizes[0]
    if _is_array(data) and data.ndim == 0:
        raise ValueError("data must have shape (N, *feature), got a single number")
    if not hasattr(data, "__len__") or not hasattr(data, "__getitem__") or isinstance(data, dict | str):
        raise TypeError(
            f"data must be a Tensor or array (N, *feature), a tuple of these, a Dataset with a length, an "
            f"IterableDataset or a DataLoader, got {type(data).__name__}"
        )
    return len(data)


def _check_size(k: int, size: int) -> None:
    if size == 0:
        raise ValueError("data is empty; give at least k rows")
    if k > size:
        raise ValueError(f"k={k} rows cannot be drawn without replacement from data of {size}; give a smaller k")


def _tensor(value: Tensor | np.ndarray) -> Tensor:
    # The copy serves read-only and reversed arrays, which torch can't take as they are.
    tensor = value.detach() if isinstance(value, Tensor) else torch.from_numpy(np.array(value, order="C"))
    if not tensor.is_floating_point():
        raise TypeError(
            f"data must hold floating-point rows, got {tensor.dtype}; prepare them exactly like the inputs "
            f"(scale to [0, 1], normalise) first"
        )
    return tensor


def _copied(row: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # A view would keep its whole batch in memory, and follow later changes of the data.
    return tuple(entry.clone() for entry in row)


def _reservoir(rows: Iterable[tuple[Tensor, ...]], k: int, generator: torch.Generator) -> list[tuple[Tensor, ...]]:
    """k rows, each set of k equally likely: row i (from 1) enters with probability k / i (Vitter's R)."""
    kept: list[tuple[Tensor, ...]] = []
    seen = 0
    for seen, row in enumerate(rows, start=1):
        if seen <= k:
            kept.append(_copied(row))
            continue
        place = int(torch.randint(seen, (), generator=generator, device=generator.device))
        if place < k:
            kept[place] = _copied(row)
    _check_size(k, seen)
    return kept


def _check_rows(rows: list[tuple[Tensor, ...]], elements: tuple[Tensor, ...]) -> None:
    expected = [tuple(x.shape[1:]) for x in elements]
    for number, row in enumerate(rows):
        shapes = [tuple(entry.shape) for entry in row]
        if shapes != expected:
            raise ValueError(
                f"data has a row of shapes {shapes}, but an example of the inputs has {expected}; crop or "
                f"resize the data, or use select to pick the inputs"
            )
        if not all(torch.isfinite(entry).all() for entry in row):
            raise ValueError(f"data has NaN or infinite values in drawn row {number}; give finite ones")


@contextmanager
def _global_state_put_back(generator: torch.Generator) -> Iterator[None]:
    """What a data set draws from global generators repeats with our seed, and leaves no trace."""
    python, numpy = random.getstate(), np.random.get_state()
    # torch.manual_seed and fork_rng's default would reach into every CUDA device.
    with torch.random.fork_rng(devices=[]):
        try:
            seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed)
            random.seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _own_seed(part: Any, number: int) -> Any:
    seedable = isinstance(part, uniform | gaussian | sample)
    return replace(part, generator=DEFAULT_SEED + number) if seedable and part.generator is None else part


def _short(part: Any) -> str:
    if is_dataclass(part):
        return repr(part)
    if isinstance(part, Tensor):
        return f"<Tensor {tuple(part.shape)}>"
    return f"<{getattr(part, '__name__', type(part).__name__)}>"


def _checked(name: str, result: Any, inputs: Inputs, elements: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """A part's result as a tuple of (K, *feature) or (B, K, *feature) with one K."""
    if not _are_tensors(result) or isinstance(result, tuple) != isinstance(inputs, tuple):
        expected = "a tuple of Tensors" if isinstance(inputs, tuple) else "a Tensor"
        raise TypeError(f"{name} must give {expected}, as the inputs are, got {type(result).__name__}")
    entries = result if isinstance(result, tuple) else (result,)
    if len(entries) != len(elements):
        raise ValueError(f"{name} gives a tuple of {len(entries)}, but there are {len(elements)} inputs")
    counts = set()
    for b, x in zip(entries, elements, strict=True):
        shared = b.ndim == x.ndim and b.shape[1:] == x.shape[1:]
        own = b.ndim == x.ndim + 1 and b.shape[0] == x.shape[0] and b.shape[2:] == x.shape[1:]
        count = b.shape[0 if shared else 1] if shared or own else 0
        if count == 0:
            raise ValueError(
                f"{name} gives baselines of shape {tuple(b.shape)} for inputs of shape {tuple(x.shape)}; "
                f"expected (K, *feature) or (B, K, *feature) with K at least 1"
            )
        counts.add(count)
    if len(counts) > 1:
        raise ValueError(f"{name} gives {sorted(counts)} baselines for the elements of a tuple; K must be one number")
    return entries
