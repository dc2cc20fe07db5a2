"""Functions of what happens inside a model: the activations of its layers, the model from there on, and one neuron.

A layer stands for the floating-point Tensors (rows, ...) of its output, or of its positional arguments; whatever else
is among them (whole numbers, None, nested tuples) stays as it is. Hooks are there for the time of one call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import accumulate, pairwise
from math import prod
from numbers import Integral
from typing import Any, cast

import torch
from torch import Tensor, nn

from captum_wg.engine.tensors import like_inputs
from captum_wg.engine.train_mode import modules_of

# visit(number of the layer, its Tensors) -> the Tensors to go on with.
Visit = Callable[[int, tuple[Tensor, ...]], tuple[Tensor, ...]]
Selector = int | slice | tuple[int | slice, ...] | Callable[..., Tensor]


class Layers:
    """Modules of a function, each of which it calls once.

    Args:
        forward_func: the model, or a function that calls it.
        modules: the layers.
        at_input: whether they stand for their positional arguments rather than for their outputs.
    """

    def __init__(self, forward_func: Callable[..., Any], modules: Sequence[nn.Module], at_input: bool = False):
        self.forward_func = forward_func
        self.modules = modules
        self.at_input = at_input

    def run(self, arguments: tuple[Any, ...], visit: Visit) -> Any:
        """forward_func(*arguments), in which the layers' Tensors are what `visit` returns for them.

        Raises:
            ValueError: a layer is not called, or more than once; its Tensors have not one row for each of the inputs'.
            TypeError: a layer holds no Tensor of floating-point numbers.
        """
        called: list[int] = []

        def pass_on(number: int, value: Any) -> Any:
            if number in called:
                raise ValueError(
                    f"{self.name(number)} is called more than once in one forward, so that it has no activation of "
                    "its own; give each call a module of its own, such as torch.nn.Identity(), and choose that (of a "
                    "model spread over several devices choose one copy, model.module)"
                )
            called.append(number)
            return _with_tensors(value, visit(number, self._tensors(number, value, len(arguments[0]))))

        with ExitStack() as hooks:
            # Transformers' fast path hands nested Tensors from layer to layer.
            hooks.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)
            for number, module in enumerate(self.modules):
                show = _untraced(partial(pass_on, number))
                handle = (
                    module.register_forward_pre_hook(lambda _, args, show=show: show(args))
                    if self.at_input
                    else module.register_forward_hook(lambda _, args, output, show=show: show(output))
                )
                hooks.callback(handle.remove)
            output = self.forward_func(*arguments)
        for number in range(len(self.modules)):
            if number not in called:
                known = [m for model in modules_of(self.forward_func) for m in model.modules()]
                why = (
                    "is never called by forward_func; choose one that takes part in its forward"
                    if any(m is self.modules[number] for m in known) or not known
                    else "is not in the model that forward_func calls; take it from that very object (not from a copy)"
                )
                raise ValueError(f"{self.name(number)} {why}")
        return output

    def activations(self, arguments: tuple[Any, ...]) -> list[tuple[Tensor, ...]]:
        """The Tensors of each layer in forward_func(*arguments)."""
        found: dict[int, tuple[Tensor, ...]] = {}

        def keep(number: int, tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            found[number] = tuple(t.clone() for t in tensors)  # before a module after it writes into them
            return tensors

        self.run(arguments, keep)
        return [found[number] for number in range(len(self.modules))]

    def _tensors(self, number: int, value: Any, rows: int) -> tuple[Tensor, ...]:
        parts = value if isinstance(value, tuple | list) else (value,)
        found = tuple(p for p in parts if _is_activation(p))
        what = f"the {'input' if self.at_input else 'output'} of {self.name(number)}"
        if not found:
            kinds = [str(p.dtype) if isinstance(p, Tensor) else type(p).__name__ for p in parts]
            raise TypeError(
                f"{what} must be a floating-point Tensor, or a tuple with some, got {', '.join(kinds) or 'nothing'}; "
                "choose another layer (for token ids the output of the embedding), or put a torch.nn.Identity() where "
                "the model has such a Tensor"
            )
        if any(len(t) != rows for t in found):
            raise ValueError(
                f"{what} must have one row for each example: {rows} rows went into the model, Tensors of shape "
                f"{[tuple(t.shape) for t in found]} are there; choose a layer where the rows lie in dimension 0, "
                "neither split nor merged, or put a torch.nn.Identity() there"
            )
        return found

    def name(self, number: int) -> str:
        """The layer's name in the model, if it is found there, and its class."""
        module = self.modules[number]
        known = (item for model in modules_of(self.forward_func) for item in model.named_modules())
        name = next((name for name, m in known if m is module), "")
        return f"layer {name} ({type(module).__name__})" if name else f"layer {type(module).__name__}"


class Activations:
    """The activations of layers as a function of the model's inputs: all of a row's in one Tensor, (R, n).

    Attributes:
        counts: how many Tensors each layer has, once it was called.
    """

    def __init__(self, layers: Layers):
        self._layers = layers
        self._shapes: list[tuple[int, ...]] = []
        self._dtypes: list[torch.dtype] = []
        self.counts: list[int] = []

    def __call__(self, *arguments: Any) -> Tensor:
        by_layer = self._layers.activations(arguments)
        found = [t for tensors in by_layer for t in tensors]
        shapes = [tuple(t.shape[1:]) for t in found]
        if self._shapes and shapes != self._shapes:
            raise ValueError(
                f"the layer's activations have shapes (B, ...) of {self._shapes} for some inputs and baselines, but "
                f"{shapes} for others; a path between them needs one shape: pad inputs and baselines alike"
            )
        self._shapes, self._dtypes, self.counts = shapes, [t.dtype for t in found], [len(t) for t in by_layer]
        return torch.cat([t.flatten(1) if t.ndim > 1 else t.unsqueeze(1) for t in found], dim=1)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """(..., n) as the layers' Tensors, (..., *feature)."""
        bounds = pairwise(accumulate(map(prod, self._shapes), initial=0))
        return tuple(
            flat[..., start:stop].reshape(*flat.shape[:-1], *shape).to(dtype)
            for (start, stop), shape, dtype in zip(bounds, self._shapes, self._dtypes, strict=True)
        )


class FromActivations:
    """The model as a function of its layers' activations: f(*activations, *inputs, *other arguments)."""

    def __init__(self, layers: Layers, counts: list[int]):
        self._layers = layers
        self._bounds = list(pairwise(accumulate(counts, initial=0)))

    def __call__(self, *arguments: Any) -> Any:
        count = self._bounds[-1][1]
        elsewhere = _saves_tensors_its_own_way()

        def replace(number: int, _: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            if not elsewhere and _saves_tensors_its_own_way():
                raise ValueError(
                    f"{self._layers.name(number)} is called within torch.utils.checkpoint, whose second forward, of "
                    "the backward pass, knows nothing of other activations; turn checkpoints off, or choose a layer "
                    "outside of them"
                )
            start, stop = self._bounds[number]
            return tuple(a.clone() for a in arguments[start:stop])  # which a module after it may write into

        return self._layers.run(arguments[count:], replace)


class Neuron:
    """One number (R,) of a layer's activation as a function of the model's inputs.

    Args:
        layers: the one layer.
        selector: an int (an activation (R, N)), a tuple of an int or slice for each dimension, the selected ones being
            summed, a slice, or a callable of the activation (of a tuple if there are several Tensors) that returns
            (R,), or one number for all rows, which is then taken of each row by itself.
    """

    def __init__(self, layers: Layers, selector: Selector):
        if not callable(selector):
            index = selector if isinstance(selector, tuple) else (selector,)
            if not index or any(isinstance(i, bool) or not isinstance(i, Integral | slice) for i in index):
                raise TypeError(
                    f"neuron_selector must be an int, a slice, a tuple of these or a callable, got {selector!r}"
                )
            self._index = index
        self._layers = layers
        self._selector = selector

    def __call__(self, *arguments: Any) -> Tensor:
        (found,) = self._layers.activations(arguments)
        rows = len(found[0])
        chosen = self._called(found) if callable(self._selector) else self._selected(found)
        if not isinstance(chosen, Tensor) or chosen.numel() != rows:
            came = tuple(chosen.shape) if isinstance(chosen, Tensor) else type(chosen).__name__
            raise ValueError(
                f"neuron_selector must select one number for each of {rows} rows of an activation of shape "
                f"{[tuple(t.shape) for t in found]}, got {came}; give an index for each dimension but the first, or "
                "slices, whose neurons are summed"
            )
        return chosen.reshape(rows)

    def _called(self, found: tuple[Tensor, ...]) -> Any:
        selector = cast(Callable[..., Any], self._selector)
        chosen = selector(like_inputs(found, len(found) > 1))
        if isinstance(chosen, Tensor) and chosen.ndim == 0 and len(found[0]) > 1:
            rows = (tuple(t[i : i + 1] for t in found) for i in range(len(found[0])))
            chosen = torch.stack([selector(like_inputs(row, len(found) > 1)) for row in rows])
        return chosen

    def _selected(self, found: tuple[Tensor, ...]) -> Tensor:
        if len(found) > 1:
            raise ValueError(
                f"neuron_selector={self._selector!r} can't select from a layer of {len(found)} Tensors; give a "
                "callable of the tuple"
            )
        try:
            chosen = found[0][(slice(None), *self._index)]
        except IndexError as error:
            raise ValueError(
                f"neuron_selector={self._selector!r} is out of range for an activation of shape "
                f"{tuple(found[0].shape)} (its first dimension, the examples, is not counted): {error}"
            ) from error
        if any(isinstance(i, slice) for i in self._index) and chosen.numel():
            chosen = chosen.reshape(len(chosen), -1).sum(1)
        return chosen


def _untraced(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that torch.compile does not take into its graphs."""
    # Without dynamo, which takes seconds to import, nothing is compiled.
    if "torch._dynamo" not in sys.modules:
        return hook
    untraced: Callable[..., Any] = torch.compiler.disable(hook)  # type: ignore[no-untyped-call]
    return untraced


def _saves_tensors_its_own_way() -> bool:
    """Whether hooks on saved tensors are there, as within torch.utils.checkpoint."""
    try:
        with torch.autograd.graph.disable_saved_tensors_hooks("not here"):
            return False
    except RuntimeError:
        return True


def _is_activation(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 0


def _with_tensors(value: Any, tensors: tuple[Tensor, ...]) -> Any:
    """A layer's value with other Tensors in place of its own."""
    others: Iterator[Tensor] = iter(tensors)
    if isinstance(value, Tensor):
        return next(others)
    parts = [next(others) if _is_activation(p) else p for p in value]
    return value._make(parts) if hasattr(value, "_make") else type(value)(parts)
