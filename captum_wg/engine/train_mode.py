"""Finding the modules behind a function, and warning of those whose mode makes attributions random."""

from __future__ import annotations

import contextlib
import dis
import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType
from typing import Any

from torch import nn

from captum_wg.engine.checks import warn


def modules_of(function: object, depth: int = 4) -> Iterator[nn.Module]:
    """The modules that a function calls: itself, or what a lambda, method, partial, object or list holds."""
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
        known = function.__globals__
        held = [known[name] for name in _global_names(function.__code__) if name in known]
        held += [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()]
        for cell in function.__closure__ or ():
            with contextlib.suppress(ValueError):  # still empty
                held.append(cell.cell_contents)
    elif isinstance(function, list | tuple | set):
        held = list(function)
    elif isinstance(function, Mapping):
        held = list(function.values())
    elif hasattr(function, "__dict__") and not isinstance(function, type) and not inspect.ismodule(function):
        held = list(vars(function).values())
    for value in held:
        yield from modules_of(value, depth - 1)


def _global_names(code: CodeType) -> Iterator[str]:
    """The globals that some code reads, and the code inside of it (comprehensions, lambdas)."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield str(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _global_names(constant)


def _is_random(module: nn.Module) -> bool:
    """Whether outputs depend on chance, or on other rows, in train mode."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def warn_of_train_mode(forward_func: object) -> None:
    """A UserWarning that names the kinds of modules in train mode which make outputs random or depend on other rows."""
    modules = (m for model in modules_of(forward_func) for m in model.modules())
    if kinds := sorted({type(m).__name__ for m in modules if m.training and _is_random(m)}):
        warn(
            f"forward_func has modules in train mode ({', '.join(kinds)}): its outputs then depend on the other rows "
            "of a micro-batch or on chance, batch statistics are updated, and so are the attributions random. Call "
            "eval() on it unless this is meant"
        )
