"""What the commands have in common: numbers, checked as they are read, and the workers."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from benchmarks.errors import BenchmarkError
from benchmarks.gpus import EACH
from benchmarks.runner import BACKENDS, Engine


def integer_from(least: int) -> Callable[[str], int]:
    """A `type` of argparse: a whole number of at least `least`."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return integer


def add_workers(parser: argparse.ArgumentParser, jobs: str) -> None:
    """The options that say where a command works, and nothing of what it computes.

    Args:
        jobs: in the words of the help, how many workers there are on this machine unless the user says.
    """
    add = parser.add_argument
    add("--jobs", type=integer_from(1), help=f"workers ({jobs}; of a cluster that is started: one for each core)")
    add("--backend", choices=BACKENDS, default="local", help="processes here, a dask or a ray cluster (%(default)s)")
    add("--address", help="of a running cluster, such as tcp://host:8786 (dask) or auto (ray)")
    add("--device", default="cpu", help=f"cpu, cuda, cuda:0 or {EACH}, a GPU for each worker (%(default)s)")


def engine(settings: argparse.Namespace, jobs: int = 1) -> Engine:
    """The workers that the options of `add_workers` ask for; `jobs` of them on this machine unless they say.

    Raises:
        BenchmarkError: options that exclude each other.
    """
    local = jobs if settings.backend == "local" else None
    try:
        return Engine(
            settings.backend, settings.jobs or local, settings.address, gpus=settings.device.startswith("cuda")
        )
    except ValueError as error:
        raise BenchmarkError(str(error)) from error
