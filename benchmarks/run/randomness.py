"""Random draws that repeat: Quantus' metrics and some of Captum's methods draw from the global generators."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(*entropy: int | str | bytes) -> Iterator[None]:
    """Inside, Python's, numpy's and PyTorch's global generators start from the entropy; afterwards they are as before.

    The same entropy gives the same draws, in every process.
    """
    words = [part if isinstance(part, int) else zlib.crc32(_bytes(part)) for part in entropy]
    seeds = np.random.SeedSequence(words).generate_state(3)
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(int(seeds[0]))
        np.random.seed(int(seeds[1]))
        torch.manual_seed(int(seeds[2]))
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def generator_of(seed: int, *words: str) -> np.random.Generator:
    """A generator that follows from a seed and from what it is for, such as a method and an image."""
    encoded = [byte for word in words for byte in (*word.encode(), 0)]
    return np.random.default_rng(np.random.SeedSequence([seed, *encoded]))


def _bytes(part: str | bytes) -> bytes:
    return part.encode() if isinstance(part, str) else part
