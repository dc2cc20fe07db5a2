"""What must be the same wherever and whenever a group of examples is attributed, so that its bits are."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def reproducible(threads: int, device: torch.device | None) -> Iterator[None]:
    """Inside, torch has so many threads and deterministic convolutions; global generators are put back at the end."""
    before, python, numpy = torch.get_num_threads(), random.getstate(), np.random.get_state()
    cudnn: Any = torch.backends.cudnn
    with (
        torch.random.fork_rng(devices=_cuda(device)),
        cudnn.flags(enabled=cudnn.enabled, benchmark=False, deterministic=True, allow_tf32=cudnn.allow_tf32),
    ):
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)
            random.setstate(python)
            np.random.set_state(numpy)


def seed_group(seed: int, group: int, device: torch.device | None) -> None:
    """Seed the global generators for a group."""
    number = int(np.random.SeedSequence([seed, group]).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)
    # torch.manual_seed would reach into every CUDA device.
    torch.default_generator.manual_seed(number)
    for one in _cuda(device):
        with torch.cuda.device(one):
            torch.cuda.manual_seed(number)


def _cuda(device: torch.device | None) -> list[torch.device]:
    return [device] if device is not None and device.type == "cuda" else []
