"""A GPU for each worker, whichever engine started it."""

from __future__ import annotations

import functools
import os
import tempfile
from pathlib import Path
from typing import IO

import torch

from benchmarks.errors import BenchmarkError

EACH = "cuda:*"

# Open as long as the process lives: the system frees the locks of a process that ends in whatever way.
_held: list[IO[str]] = []


def own_device(name: str) -> torch.device:
    """The device of a name; "cuda:*" is a GPU of this machine that no other worker holds, for as long as this lives.

    Raises:
        BenchmarkError: no such device, or more workers than GPUs.
    """
    try:
        device = _claim() if name == EACH else torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchmarkError(f"--device {name} can't be used here: {' '.join(str(error).split())[:200]}") from error
    return device


@functools.cache
def _claim() -> torch.device:
    try:
        import fcntl
    except ImportError as error:
        raise BenchmarkError(f"--device {EACH} needs file locks of POSIX; give one device and one worker") from error
    count = torch.cuda.device_count()
    if count == 0:
        raise BenchmarkError(f"--device {EACH}: there is no CUDA device here")
    for number in range(count):
        # By the GPU's own name: workers may see the GPUs under other numbers.
        lock = Path(tempfile.gettempdir()) / f"captum-wg-{os.getuid()}-{_unique_name(number)}.lock"
        file = lock.open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        _held.append(file)
        return torch.device("cuda", number)
    raise BenchmarkError(f"--device {EACH}: other workers hold all {count} GPUs; use as many workers as GPUs (--jobs)")


def _unique_name(number: int) -> str:
    return str(getattr(torch.cuda.get_device_properties(number), "uuid", number))
