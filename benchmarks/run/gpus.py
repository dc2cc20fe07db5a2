"""A GPU for each worker, whichever engine started it."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

import torch

from benchmarks.run.errors import BenchmarkError

EACH = "cuda:*"

# The workers of a command that was killed finish their cell before they end and free their GPU.
WAIT_SECONDS = 300.0

# Whether this process computes. One that only hands out work may look at a GPU, but takes none away from its workers.
_computes = False

# Open as long as the process lives: the system frees the locks of a process that ends in whatever way.
_held: list[IO[str]] = []


def compute_here() -> None:
    """From now on this process is a worker, for which "cuda:*" is a GPU of its own."""
    global _computes
    _computes = True


def own_device(name: str) -> torch.device:
    """The device of a name; "cuda:*" is a GPU of this machine that no other worker holds, for as long as this lives.

    To a process that is no worker it is the first one, which it does not keep from others.

    Raises:
        BenchmarkError: no such device, or more workers than GPUs.
    """
    try:
        device = torch.device(name) if name != EACH else _claim() if _computes else _any()
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchmarkError(f"--device {name} can't be used here: {' '.join(str(error).split())[:200]}") from error
    return device


def _any() -> torch.device:
    if torch.cuda.device_count() == 0:
        raise BenchmarkError(f"--device {EACH}: there is no CUDA device here")
    return torch.device("cuda")


@functools.cache
def _claim() -> torch.device:
    try:
        import fcntl  # noqa: F401
    except ImportError as error:
        raise BenchmarkError(f"--device {EACH} needs file locks of POSIX; give one device and one worker") from error
    _any()
    count = torch.cuda.device_count()
    ends = time.monotonic() + WAIT_SECONDS
    told = False
    while (device := _free(count)) is None:
        if not told:
            print(f"waiting for one of {count} GPUs, which other workers hold", file=sys.stderr, flush=True)
            told = True
        if time.monotonic() >= ends:
            raise BenchmarkError(
                f"--device {EACH}: other workers hold all {count} GPUs; use as many workers as GPUs (--jobs), and end "
                "workers of earlier runs that still live"
            )
        time.sleep(1)
    return device


def _free(count: int) -> torch.device | None:
    """A GPU that this process holds from now on, None if others hold all."""
    import fcntl

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
    return None


def _unique_name(number: int) -> str:
    return str(getattr(torch.cuda.get_device_properties(number), "uuid", number))
