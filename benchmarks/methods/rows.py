"""The registry of all rows, by name, with settings as in "WeightedGradients(power=2, keep=3)"."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.methods import captums, controls, others, ours, weightings
from benchmarks.methods.method import Method, MethodSettings
from benchmarks.run.errors import BenchmarkError

GROUPS = ("captum", "ours", "published", "others", "control")

# A row is a Method, or a function (name, settings, *, keywords) that makes one; the keywords are what its name may say.
ROWS: dict[str, Method | Callable[..., Method]] = {
    **captums.ROWS,
    **weightings.ROWS,
    **ours.ROWS,
    **others.ROWS,
    **controls.ROWS,
}


def method(name: str, settings: MethodSettings) -> Method:
    """The row of a name: one of ROWS, or with settings such as "WeightedGradients(neutral=[corners, blur], keep=3)",
    written as Python's keyword arguments, in which a text needs no quotes.

    Its own name says the settings in the order of the row's signature, whatever order they were given in.

    Raises:
        BenchmarkError: unknown name or setting, or a value that the row can't have.
    """
    base, given = (name, {}) if name in ROWS else parse(name)
    if base not in ROWS:
        raise _unknown(name)
    row = ROWS[base]
    known = keywords(base)
    if unknown := [word for word in given if word not in known]:
        says = f"known are {', '.join(known)}" if known else "it has no settings"
        raise BenchmarkError(f"{name}: {base} has no setting {', '.join(map(repr, unknown))}; {says}")
    if isinstance(row, Method):
        return row
    ordered = {word: given[word] for word in known if word in given}
    return row(written(base, ordered), settings, **ordered)


def choose(names: Sequence[str], settings: MethodSettings) -> list[Method]:
    """The rows of these names, and of groups, each once, in the order in which they are asked for.

    Raises:
        BenchmarkError: see `method`.
    """
    found = (
        method(one, settings)
        for name in names
        for one in ([row for row in ROWS if _group(row, settings) == name] if name in GROUPS else [name])
    )
    return list({one.name: one for one in found}.values())


def _group(name: str, settings: MethodSettings) -> str:
    # A row of a library that is not installed can't be made, but says its group.
    return getattr(ROWS[name], "group", None) or method(name, settings).group


def of_source(source: str, settings: MethodSettings) -> list[Method]:
    """All rows of the registry that are one part each of what one source explains."""
    every = (method(name, settings) for name in ours.ROWS)
    return [one for one in every if one.source == source]


def keywords(base: str) -> list[str]:
    """What a row's name may say."""
    row = ROWS[base]
    fixed = getattr(row, "keywords", {})  # of a functools.partial
    given = {} if isinstance(row, Method) else inspect.signature(row).parameters
    return [word for word, one in given.items() if one.kind is one.KEYWORD_ONLY and word not in fixed]


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """("WeightedGradients", {"keep": 3}) of "WeightedGradients(keep=3)".

    Raises:
        BenchmarkError: it is no such text.
    """
    try:
        call = ast.parse(name.strip(), mode="eval").body
        if isinstance(call, ast.Name):
            return call.id, {}
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            return call.func.id, {str(word.arg): _value(word.value) for word in call.keywords}
    except (SyntaxError, ValueError):
        pass
    raise _unknown(name)


def written(base: str, settings: Mapping[str, Any]) -> str:
    """The name that `parse` reads."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return f"[{', '.join(map(text, value))}]"
        return value if isinstance(value, str) else repr(value)

    words = [f"{word}={text(value)}" for word, value in settings.items()]
    return f"{base}({', '.join(words)})" if words else base


def _unknown(name: str) -> BenchmarkError:
    return BenchmarkError(
        f"unknown method {name!r}; known are {', '.join(ROWS)}, and the groups {', '.join(GROUPS)}; settings are "
        "written as in WeightedGradients(power=2, keep=3)"
    )


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.List | ast.Tuple):
        return tuple(map(_value, node.elts))
    return ast.literal_eval(node)
