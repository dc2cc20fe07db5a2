"""Failures: which are a result of the image, method or metric at hand, and which end a run."""

from __future__ import annotations

import re

import torch

from benchmarks.errors import BenchmarkError

# torch says these by plain RuntimeErrors.
_OF_THE_MACHINE = re.compile(
    r"DefaultCPUAllocator|out of memory|CUDA error|cuDNN error|CUDNN_STATUS|cuBLAS error|CUBLAS_STATUS"
)


def raise_if_of_the_run(error: Exception) -> None:
    """Raise what would be otherwise on another machine or another day, such as a full disk, and so is no result."""
    if isinstance(error, BenchmarkError | OSError | MemoryError | torch.cuda.OutOfMemoryError | ImportError):
        raise error
    if isinstance(error, RuntimeError) and _OF_THE_MACHINE.search(str(error)):
        raise error


def one_line(error: BaseException) -> str:
    """An exception in one line, as it stands in a result."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:500]
