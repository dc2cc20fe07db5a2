"""Every command in README and docs is complete: its parser takes it as written, and its settings suffice to begin."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data.datasets import DATA_SETS
from benchmarks.models import training
from benchmarks.models.networks import CIFAR10_RESNET18, CIFAR10_VIT

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = re.compile(r"(?:python -m (?:benchmarks\.\w+|captum_wg)|captum-wg)(?= |$)")


def lines(text: str) -> Iterator[str]:
    """The lines of code of a page: of fenced and indented blocks, continued ones joined, and spans within the text."""
    fences = re.compile(r"^```.*?^```", flags=re.M | re.S)
    indented = re.compile(r"^ {4}.+", flags=re.M)
    text = text.replace("\\\n", " ")
    for block in (*fences.findall(text), *indented.findall(fences.sub("", text))):
        yield from block.splitlines()
    for span in re.findall(r"`([^`]+)`", indented.sub("", fences.sub("", text))):
        yield " ".join(span.split())


def commands(text: str) -> list[str]:
    """This project's own commands among them."""
    parts = [part.strip() for line in lines(text) for part in line.split("&&")]
    return [part for part in parts if COMMAND.match(part)]


def main_of(words: list[str]) -> tuple[Callable[[list[str]], int], list[str]]:
    """The function behind a command, and its arguments."""
    if words[0] == "captum-wg":
        return importlib.import_module("captum_wg.command_line").main, words[1:]
    name = words[2]
    folder = ROOT.joinpath(*name.split(".")).is_dir()
    return importlib.import_module(f"{name}.__main__" if folder else name).main, words[3:]


class Stop(Exception):
    """The command has read its arguments, or would begin to compute."""


def parsed(command: str) -> argparse.Namespace:
    """The settings of a command, by its own parser.

    Raises:
        SystemExit: the parser does not take it.
    """
    real, found = argparse.ArgumentParser.parse_args, []

    def stop(self: argparse.ArgumentParser, *given: Any) -> None:
        found.append(real(self, *given))
        raise Stop

    main, arguments = main_of(shlex.split(command, comments=True))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stop):
        patch.setattr(argparse.ArgumentParser, "parse_args", stop)
        main(arguments)
    return found[0]


def missing(settings: argparse.Namespace) -> list[str]:
    """Options that the data and the networks of a benchmark can't do without."""
    given = vars(settings)
    data, networks = given.get("data"), str(given.get("models", given.get("model")))
    of_cifar10 = data == "cifar10"
    needed = {
        "root": of_cifar10 or (data in DATA_SETS and DATA_SETS[data].root),
        "weights": CIFAR10_RESNET18 in networks or CIFAR10_VIT in networks or (of_cifar10 and "models" not in given),
    }
    return [name for name, need in needed.items() if need and not given.get(name)]


def begun(command: str) -> bool:
    """Whether a table's command finds nothing wrong with its settings before it looks for its data."""

    def stop(*_: Any, **__: Any) -> None:
        raise Stop

    main, arguments = main_of(shlex.split(command, comments=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("benchmarks.experiment.plan.bench", stop)
        patch.setattr(training, "trained", stop)
        try:
            main(arguments)
        except Stop:
            return True
    return False


WRITTEN = [(page.name, command) for page in PAGES for command in commands(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "command"), WRITTEN)
def test_a_command_is_complete(page, command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    try:
        settings = parsed(command)
    except SystemExit:
        settings = None
    assert settings, f"{page}: {capsys.readouterr().err}"
    assert not missing(settings), f"{page}: {command}"
    if hasattr(settings, "n_baselines"):
        assert begun(command), f"{page}: {command}\n{capsys.readouterr().err}"


def test_there_are_commands_in_every_form():
    assert {"README.md", "results.md", "performance.md", "benchmarks.md"} <= {page for page, _ in WRITTEN}
    text = (
        "Span `python -m benchmarks.cost\n--tenfold`, other `python x.py`.\n\n    python -m captum_wg models\n\n"
        "```\npip install x && captum-wg methods  # list\npython -m benchmarks.field \\\n    --data coco\n```\n"
    )
    assert [" ".join(shlex.split(command, comments=True)) for command in commands(text)] == [
        "captum-wg methods",
        "python -m benchmarks.field --data coco",
        "python -m captum_wg models",
        "python -m benchmarks.cost --tenfold",
    ]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("python -m benchmarks.wg_variance", "--models"),
        ("python -m benchmarks.cost --row eg --threads", "--threads"),
        ("captum-wg explain", "IMAGE"),
    ],
)
def test_what_a_parser_refuses_is_found(command, says, capsys):
    with pytest.raises(SystemExit, match="2"):
        parsed(command)
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        ("python -m benchmarks.field --data cifar10 --models resnet18_cifar10", ["root", "weights"]),
        ("python -m benchmarks.quadrature --data cifar10 --root DIR", ["weights"]),
        ("python -m benchmarks.attribution_table --data cifar10 --weights FILE", ["root"]),
        ("python -m benchmarks.attribution_table --data cifar10 --root DIR", ["weights"]),
        ("python -m benchmarks.field --data coco --root DIR --models efficientnet_lite0", []),
    ],
)
def test_what_the_data_needs_is_found(command, lacks):
    assert missing(parsed(command)) == lacks


def test_a_wrong_name_is_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = "python -m benchmarks.field --data coco --root DIR --models efficientnet_lite0"
    assert begun(command) and not begun(f"{command} --judges Overlap")
    assert "Overlap" in capsys.readouterr().err
