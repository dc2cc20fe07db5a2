"""A model during a call: where it is, one Tensor as its output, its mode and the global generators put back."""

from __future__ import annotations

import inspect
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_wg.engine.outputs import output_tensor

_one_thread = threading.RLock()
# torch does not type it.
_cuda_in_use: Callable[[], bool] = torch.cuda.is_initialized


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the model's first parameter or buffer."""
    return next((t.device for t in (*model.parameters(), *model.buffers())), None)


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter or buffer."""
    return next((t.dtype for t in (*model.parameters(), *model.buffers()) if t.is_floating_point()), None)


def check_is_module(model: Any) -> None:
    """For a function the error says how to make a module of it."""
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
            f"{str(error).replace('forward_func', 'the model')}; or let the module return that part: "
            "model.register_forward_hook(lambda module, args, output: output[0])"
        ) from None


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, returning one Tensor; each of its modules gets its own mode back.

    One thread at a time: modes, hooks and seeds would reach the others' maps.
    """
    with _one_thread:
        modes = [(module, module.training) for module in model.modules()]
        scripted = isinstance(model, torch.jit.ScriptModule)
        hook = None if scripted else model.register_forward_hook(lambda module, args, output: tensor_of(output))
        model.eval()
        try:
            yield
        finally:
            if hook is not None:
                hook.remove()
            for module, mode in modes:
                module.training = mode


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """The global generators seeded, and put back afterwards."""
    if seed is None:
        yield
        return
    of_numpy, of_python = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if _cuda_in_use() else ()
    with torch.random.fork_rng(devices=devices):
        # Before CUDA is in use torch.manual_seed would leave it a seed to start with, which nothing puts back.
        (torch.manual_seed if _cuda_in_use() else torch.default_generator.manual_seed)(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)
