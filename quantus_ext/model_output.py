"""A model as torch has it, and the one Tensor among what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_wg.engine.outputs import output_tensor


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
    """The output if it is a Tensor, or its logits; otherwise the error says what a module can do about it."""
    try:
        return output_tensor(output)
    except TypeError as error:
        raise TypeError(
            f"{error}; or let the module return that part: "
            "model.register_forward_hook(lambda module, args, output: output[0])"
        ) from None


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
