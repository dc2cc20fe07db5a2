"""What the commands have in common: their end, and options made from dataclasses."""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import MISSING, field, fields
from pathlib import Path
from typing import Any

from benchmarks.run.errors import BenchmarkError


def exit_code(work: Callable[[argparse.Namespace], int | None], settings: argparse.Namespace) -> int:
    """What work returns, 0 for None; 2, the reason printed, if the settings can't be used."""
    try:
        return work(settings) or 0
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def number(kind: type, holds: Callable[[Any], bool], must: str) -> Callable[[str], Any]:
    """A `type` of argparse: a number for which something holds; must: "be at least 1", for the message."""

    def read(text: str) -> Any:
        value = kind(text)
        if not holds(value):
            raise argparse.ArgumentTypeError(f"must {must}, got {value}")
        return value

    read.__name__ = {int: "integer", float: "number"}[kind]  # argparse says "invalid integer value"
    return read


def integer_from(least: int) -> Callable[[str], int]:
    """A `type` of argparse: a whole number of at least `least`."""
    return number(int, lambda value: value >= least, f"be at least {least}")


positive = number(float, lambda value: 0 < value < math.inf, "be a finite number above 0")
positive_or_infinite = number(float, lambda value: value > 0, "be a number above 0, or inf")
share = number(float, lambda value: 0 < value < 1, "lie between 0 and 1")


def option(help: str, *, default: Any = MISSING, **words: Any) -> Any:
    """A field of a dataclass that `add_options` makes an option of; words: of `ArgumentParser.add_argument`."""
    return field(default=default, metadata={"help": help, **words})


def add_options(parser: argparse.ArgumentParser, kind: type, without: Collection[str] = (), **defaults: Any) -> None:
    """An option for each field of a dataclass that is an `option`, by its name: "--n-steps" for n_steps.

    Args:
        without: options that are left out.
        defaults: other than the dataclass's.
    """
    for one in fields(kind):
        name = f"--{one.name.replace('_', '-')}"
        if not one.metadata or name in without:
            continue
        words = dict(one.metadata)
        if one.default is False:
            words["action"] = "store_true"
        elif one.default is not MISSING or one.name in defaults:
            words["default"] = defaults.get(one.name, one.default)
            words.pop("required", None)
        parser.add_argument(name, **words)


def check_options(settings: Any) -> None:
    """That a dataclass made otherwise than by a command line has values that its options could have.

    Raises:
        ValueError: it has not.
    """
    for one in fields(settings):
        value, choices, read = getattr(settings, one.name), *map(one.metadata.get, ("choices", "type"))
        if choices and value not in choices:
            raise ValueError(f"{one.name} must be one of {choices}, got {value!r}")
        if read and value is not None:
            try:
                read(str(value))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"{one.name} {error}") from error


def check_writable(folder: Path, out: Path) -> None:
    """That files can be written into a folder, which is made if it is missing.

    Args:
        out: what the user gave as --out, for the message.

    Raises:
        BenchmarkError: they can't.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BenchmarkError(f"--out {out} can't be written to: {error}") from error
