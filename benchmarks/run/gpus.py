"""A GPU for each worker, whichever engine started it."""

from __future__ import annotations

import functools
import os
import sys
import tempfile
import time
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from benchmarks.run.errors import BenchmarkError

EACH = "cuda:*"

# The workers of a command that was killed finish their cell before they end and free their GPU.
WAIT_SECONDS = 300.0

# Whether this process computes. One that only hands out work may look at a GPU, but takes none away from its workers.
_computes = False

# Held as long as the process lives: the system frees the locks of a process that ends in whatever way.
_held: list[FileLock] = []


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
    if name == EACH and torch.cuda.device_count() == 0:
        raise BenchmarkError(f"--device {EACH}: there is no CUDA device here")
    try:
        device = torch.device(name) if name != EACH else _claim() if _computes else torch.device("cuda")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchmarkError(f"--device {name} can't be used here: {' '.join(str(error).split())[:200]}") from error
    return device


@functools.cache
def _claim() -> torch.device:
    count, ends = torch.cuda.device_count(), time.monotonic() + WAIT_SECONDS
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
    for number in range(count):
        # By the GPU's own name: workers may see the GPUs under other numbers.
        name = getattr(torch.cuda.get_device_properties(number), "uuid", number)
        user = getattr(os, "getuid", lambda: "user")()
        lock = FileLock(Path(tempfile.gettempdir()) / f"captum-wg-{user}-{name}.lock")
        try:
            lock.acquire(blocking=False)
        except Timeout:
            continue
        _held.append(lock)
        return torch.device("cuda", number)
    return None
