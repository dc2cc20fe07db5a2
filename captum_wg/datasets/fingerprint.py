"""What an object is, as JSON on which two processes agree: whether results were made with the same things."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def fingerprint(value: Any, _within: frozenset[int] = frozenset()) -> Any:
    """A value as JSON that is the same in every process that holds the same value, on whatever device.

    Numbers and text stand for themselves, and so does what collections hold. Tensors, arrays and the parameters of a
    module are told by digests. A function or class that can be imported is known by its name; a lambda, a local
    function or one of the script itself by its code and by what it refers to. Other objects are their class and
    attributes.

    Raises:
        ValueError: a torch.Generator in it, which is another after each call.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, np.generic):
        return fingerprint(value.item(), _within)
    if isinstance(value, Tensor | np.ndarray):
        return _of_tensor(torch.as_tensor(value))
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, torch.dtype | torch.device | Path | complex):
        return str(value)
    if isinstance(value, torch.Generator):
        raise ValueError("it holds a torch.Generator, whose draws depend on what came before; give an int seed")
    if isinstance(value, ModuleType):
        return value.__name__
    if id(value) in _within:
        return "itself"
    inner = functools.partial(fingerprint, _within=_within | {id(value)})
    if isinstance(value, Mapping):
        return {str(name): inner(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [inner(part) for part in value]
    if isinstance(value, set | frozenset):
        return sorted((inner(part) for part in value), key=json.dumps)
    if isinstance(value, nn.Module):
        return _of_module(value, inner)
    if isinstance(value, functools.partial):
        return {"function": inner(value.func), "args": inner(value.args), "keywords": inner(value.keywords)}
    if isinstance(value, MethodType):
        return {"function": inner(value.__func__), "of": inner(value.__self__)}
    if isinstance(value, CodeType):
        return [value.co_code.hex(), list(value.co_names), inner(value.co_consts)]
    if isinstance(value, FunctionType) and (value.__module__ == "__main__" or "<" in value.__qualname__):
        seen = inspect.getclosurevars(value)
        return {
            "code": digest(inner(value.__code__)),
            "defaults": inner([value.__defaults__, value.__kwdefaults__]),
            "refers to": inner({**seen.globals, **seen.nonlocals}),
        }
    if hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return {"class": inner(type(value)), **inner(getattr(value, "__dict__", {}))}


def digest(value: Any) -> str:
    """A short digest of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def differences(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """What differs between two settings, such as "seed: 0 there, 1 here"; empty if nothing does."""
    return "; ".join(differing(stored, wanted).values())


def differing(stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """The same by the settings' names."""
    a, b = ({name: json.dumps(value) for name, value in _flat(one).items()} for one in (stored, wanted))
    return {
        name: f"{name}: {_short(a.get(name, 'nothing'))} there, {_short(b.get(name, 'nothing'))} here"
        for name in sorted({*a, *b})
        if a.get(name) != b.get(name)
    }


def _of_tensor(tensor: Tensor) -> str:
    plain = tensor.detach().cpu().to_dense().contiguous()
    content = hashlib.sha256(plain.reshape(-1).view(torch.uint8).numpy().data).hexdigest()[:16]
    return f"{plain.dtype} {tuple(plain.shape)} {content}"


def _of_module(module: nn.Module, inner: Any) -> Any:
    # What stands in attributes without an underscore: sizes, strides, rates, the mode.
    structure = [
        [name, inner(type(part)), {k: inner(v) for k, v in vars(part).items() if not k.startswith("_")}]
        for name, part in module.named_modules()
    ]
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    return {"class": inner(type(module)), "structure": digest(structure), "parameters": digest(inner(tensors))}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, Mapping) and value:
        return {k: v for key, part in value.items() for k, v in _flat(part, f"{name}.{key}" if name else key).items()}
    return {name: value}


def _short(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
