"""A model as torch has it, and the one Tensor among what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


def check_is_module(model: Any) -> None:
    if not isinstance(model, nn.Module):
        remedy = "; make a module of a function: type('Model', (torch.nn.Module,), {'forward': lambda self, x: f(x)})()"
        raise ValueError(
            f"model must be a torch.nn.Module, got {type(model).__name__}{remedy if callable(model) else ''}"
        )


def check_is_no_function(model: Any) -> None:
    """Where Keras' models are taken, too."""
    if inspect.isroutine(model) or isinstance(model, partial):
        check_is_module(model)


def tensor_of(output: Any) -> Tensor:
    """The output if it is a Tensor, or its logits (an attribute or an entry), as models of transformers have them.

    Raises:
        ValueError: neither; the message says how to choose.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    if isinstance(output, Mapping):
        what, choice = f"with the entries {list(output)}", f"output[{next(iter(output), 'name')!r}]"
    elif isinstance(output, tuple | list):
        what, choice = f"of {len(output)} elements", "output[0]"
    else:
        what, choice = (
            f"with the attributes {sorted(vars(output)) if hasattr(output, '__dict__') else []}",
            "output.name",
        )
    raise ValueError(
        f"the model returns a {type(output).__name__} {what} and no logits; say which Tensor of it counts: "
        f"model.register_forward_hook(lambda module, args, output: {choice})"
    )


@contextmanager
def tensor_outputs(model: nn.Module) -> Iterator[None]:
    """The model returns one Tensor for the time being, also to code that takes nothing else."""
    if isinstance(model, torch.jit.ScriptModule):
        yield
        return
    handle = model.register_forward_hook(lambda module, args, output: tensor_of(output))
    try:
        yield
    finally:
        handle.remove()
