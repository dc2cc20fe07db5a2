"""Finding the modules behind a function, and warning of those whose mode makes attributions random."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from typing import Any

from torch import nn

from captum_wg.engine.checks import warn


def modules_of(function: object, depth: int = 3) -> Iterator[nn.Module]:
    """The modules that a function calls: itself, or what a lambda, method, partial or callable object holds."""
    if isinstance(function, nn.Module):
        yield function
        return
    if depth == 0:
        return
    held: list[Any] = []
    if isinstance(function, functools.partial):
        held = [function.func, *function.args, *function.keywords.values()]
    elif inspect.ismethod(function):
        held = [function.__self__, function.__func__]
    elif inspect.isfunction(function):
        try:
            variables = inspect.getclosurevars(function)
        except ValueError:  # a cell that is still empty
            return
        held = [*variables.nonlocals.values(), *variables.globals.values(), *(function.__defaults__ or ())]
    elif hasattr(function, "__dict__") and not isinstance(function, type) and not inspect.ismodule(function):
        held = list(vars(function).values())
    for value in held:
        yield from modules_of(value, depth - 1)


def warn_of_train_mode(forward_func: object) -> None:
    """A UserWarning that names the kinds of modules in train mode which make outputs random or depend on other rows."""
    moody = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)
    kinds = sorted(
        {
            type(m).__name__
            for model in modules_of(forward_func)
            for m in model.modules()
            if m.training
            and (isinstance(m, moody) or (isinstance(m, nn.RNNBase | nn.MultiheadAttention) and m.dropout > 0))
        }
    )
    if kinds:
        warn(
            f"forward_func has modules in train mode ({', '.join(kinds)}): its outputs then depend on the other rows "
            "of a micro-batch or on chance, batch statistics are updated, and so are the attributions random. Call "
            "eval() on it unless this is meant"
        )
