"""What a call finds and puts back: where a model is and in which dtype, its mode, the global generators."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

_one_thread = threading.RLock()
# torch does not type it.
_cuda_in_use: Callable[[], bool] = torch.cuda.is_initialized


def device_of(model: nn.Module) -> torch.device | None:
    """The device of the model's first parameter or buffer."""
    return next((t.device for t in (*model.parameters(), *model.buffers())), None)


def dtype_of(model: nn.Module) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter or buffer."""
    tensors = (*model.parameters(), *model.buffers())
    return next((t.dtype for t in tensors if t.is_floating_point()), None)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each of its modules gets its own mode back.

    One thread at a time: modes, hooks and seeds would reach the others' maps.
    """
    with _one_thread:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            yield
        finally:
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
