"""What code results are made by: part of their settings, so that those of other code are not taken for the same.

What a result depends on is found from the code: the module of the function that makes it, all that this module imports
of this project, all that these import, and so on. Comments and docstrings don't count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import captum_wg
import quantus_ext

_PACKAGES = ("torch", "torchvision", "captum", "quantus", "numpy", "scipy", "pillow")
_FOLDERS = {
    "benchmarks": Path(__file__).parents[1],
    **{module.__name__: Path(str(module.__file__)).parent for module in (captum_wg, quantus_ext)},
}


def _sources(kind: str) -> dict[str, str]:
    """The text of each file of this project of a kind, by its name: "benchmarks.run.versions"."""
    found = {}
    for package, folder in _FOLDERS.items():
        for path in sorted(folder.rglob(kind)):
            words = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path.read_text(encoding="utf-8")
    return found


# Read once: a process that lives on works with the modules that it imported, whatever the files say by now.
_SOURCES, _TABLES = _sources("*.py"), _sources("*.csv")


def versions(modules: tuple[str, ...]) -> dict[str, str]:
    """The versions of packages, and as "source" a checksum of the code that the functions of some modules depend on.

    The checksum is of the files as they were when this process imported them.
    """
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    # The version number does not change with every change of the code.
    names = closure(modules)
    parts = [f"{name}\0{meaning(_SOURCES[name])}" for name in names]
    # A table lies beside the module that reads it.
    folders = {name.rpartition(".")[0] for name in names}
    parts += [f"{name}\0{text}" for name, text in _TABLES.items() if name.rpartition(".")[0] in folders]
    found["source"] = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return found


def closure(modules: Iterable[str]) -> list[str]:
    """These modules of the project and all that they import of it, in the order of their names."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in _SOURCES and name not in found:
            found.add(name)
            waiting += [name.rpartition(".")[0], *_imports(_SOURCES[name])]
    return sorted(found)


@functools.cache
def meaning(source: str) -> str:
    """A module's code without its comments, its docstrings, the help of its options, and the places of its words."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            del node.body[: ast.get_docstring(node, clean=False) is not None]
        if isinstance(node, ast.Call):
            node.keywords = [word for word in node.keywords if word.arg != "help"]
            if isinstance(node.func, ast.Name) and node.func.id == "option":
                node.args = []  # only the help has no name
    return ast.dump(tree)


@functools.cache
def _imports(source: str) -> tuple[str, ...]:
    """What a module imports, and what may be a module of that."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return tuple(found)
