"""Failures: which are a result of the image, method or metric at hand, and which end a run."""

from __future__ import annotations

import torch

from benchmarks.errors import BenchmarkError


def raise_if_of_the_run(error: Exception) -> None:
    """Raise what would be otherwise on another machine or another day, such as a full disk, and so is no result."""
    if isinstance(error, BenchmarkError | OSError | MemoryError | torch.OutOfMemoryError | ImportError):
        raise error


def one_line(error: BaseException) -> str:
    """An exception in one line, as it stands in a result."""
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"[:500]
