"""Failures: which are a result of the image, method or metric at hand, and which end a run."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch

from benchmarks.run.errors import BenchmarkError

T = TypeVar("T")

# torch says these by plain RuntimeErrors.
_MEMORY = re.compile(r"DefaultCPUAllocator|out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")
_DEVICE = re.compile(r"CUDA error|cuDNN error|CUDNN_STATUS|cuBLAS error|CUBLAS_STATUS")


def raise_if_of_the_run(error: Exception) -> None:
    """Raise what would be otherwise on another machine or another day, such as a full disk, and so is no result.

    Raises:
        BenchmarkError: for what a user can put right: memory, files.
        Exception: the error itself, if it is of the device or of the installation.
    """
    if isinstance(error, BenchmarkError | ImportError):
        raise error
    of_torch = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or _MEMORY.search(of_torch):
        raise BenchmarkError(
            f"a worker has too little memory ({one_line(error)}); with fewer --jobs the same command goes on where it "
            "was (a smaller --batch, where there is one, is another setting and needs an --out of its own)"
        ) from error
    if isinstance(error, OSError):
        raise BenchmarkError(
            f"a worker can't read or write a file ({one_line(error)}); put it right, and the same command goes on "
            "where it was"
        ) from error
    if _DEVICE.search(of_torch):
        raise error


@contextlib.contextmanager
def faults_of_the_run() -> Iterator[None]:
    """What fails inside for want of memory, or because a file can't be read, says so, and is nowhere stored."""
    try:
        yield
    except Exception as error:
        raise_if_of_the_run(error)
        raise


def attempted(work: Callable[..., T], *arguments: Any) -> tuple[T | None, str]:
    """What work gives and "", or None and why it fails, in one line, if that is a result of its own."""
    try:
        return work(*arguments), ""
    except Exception as error:
        raise_if_of_the_run(error)
        return None, one_line(error)


def one_line(error: BaseException) -> str:
    """An exception in one line, as it stands in a result."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:500]
