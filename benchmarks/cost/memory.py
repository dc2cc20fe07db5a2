"""Peak memory of a piece of work, in a process that does nothing else."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Memory:
    """Bytes: the most that was held at once, and what was held before the work began."""

    peak: int
    before: int

    @property
    def added(self) -> int:
        return max(0, self.peak - self.before)


def in_fresh_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """work(*arguments) in a process that has imported the work's module and done nothing; an exception of it, or its
    death, is raised here."""
    forks = "forkserver" in multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if forks else "spawn")
    if forks:
        # The imports take longer than most of the work: a server makes them once, and each process is a copy of it.
        context.set_forkserver_preload(["benchmarks.cost.workloads"])
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(work, *arguments).result()


def peak(device: str) -> int:
    """The most memory this process ever held, in bytes: of the GPU if the work is there, else of the process."""
    if torch.device(device).type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Linux hands ru_maxrss of the parent on to its children, so it may be the peak of another process.
    if (own := _status("VmHWM")) is not None:
        return own
    try:
        import resource
    except ImportError as error:  # Windows
        raise RuntimeError("peak memory can't be read on this platform") from error
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def resident(device: str) -> int:
    """What the process holds now, in bytes; where that can't be told, its peak so far."""
    if torch.device(device).type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    now = _status("VmRSS")
    return peak(device) if now is None else now


def _status(field: str) -> int | None:
    """A size in this process' /proc entry, in bytes; None where there is none."""
    try:
        found = re.search(
            rf"^{field}:\s*(\d+) kB$", Path("/proc/self/status").read_text(errors="replace"), re.MULTILINE
        )
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None
