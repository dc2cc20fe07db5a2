"""Numbers on the command line, checked as they are read."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable


def integer_from(least: int) -> Callable[[str], int]:
    """A `type` of argparse: a whole number of at least `least`."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return integer


def positive(text: str) -> float:
    """A `type` of argparse: a finite number above 0."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value}")
    return value
