"""The registry of all rows, by name, with settings as in "WeightedGradients(power=2, keep=3)".

Any name may end in smooth=3/32 or blob=1/4 besides its own settings: see `benchmarks.methods.mixes`.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any

from benchmarks.methods import captums, controls, others, ours, patch_corrected, sampled, weightings
from benchmarks.methods.method import Method, MethodSettings
from benchmarks.methods.mixes import MIXES, mixed, share_of
from benchmarks.run.errors import BenchmarkError

GROUPS = ("captum", "ours", "published", "others", "control")

# A row is a Method, or a function (name, settings, *, keywords) that makes one; the keywords are what its name may say.
ROWS: dict[str, Method | Callable[..., Method]] = {
    **captums.ROWS,
    **weightings.ROWS,
    **ours.ROWS,
    **sampled.ROWS,
    **patch_corrected.ROWS,
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
    row, own = ROWS[base], keywords(base)
    known = [*own, *MIXES]
    if unknown := [word for word in given if word not in known]:
        raise BenchmarkError(
            f"{name}: {base} has no setting {', '.join(map(repr, unknown))}; known are {', '.join(known)}"
        )
    ordered = {word: given[word] for word in own if word in given}
    found = row if isinstance(row, Method) else row(written(base, ordered), settings, **ordered)
    shares = {word: share_of(name, word, given[word]) for word in MIXES if word in given}
    return mixed(found, written(base, {**ordered, **shares}), shares) if shares else found


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
    """What a row's name may say, besides MIXES."""
    row = ROWS[base]
    fixed = getattr(row, "keywords", {})  # of a functools.partial
    given = {} if isinstance(row, Method) else inspect.signature(row).parameters
    return [word for word, one in given.items() if one.kind is one.KEYWORD_ONLY and word not in fixed]


def parse(name: str) -> tuple[str, dict[str, Any]]:
    """("WeightedGradients", {"keep": 3}) of "WeightedGradients(keep=3)".

    Raises:
        BenchmarkError: it is no such text.
    """
    base, bracket, inside = name.strip().partition("(")
    try:
        # Names of rows need not be Python's: "WeightedGradients-half".
        call = ast.parse(f"row({inside}" if bracket else "row()", mode="eval").body
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not call.args:
            return base.strip(), {str(word.arg): _value(word.value) for word in call.keywords}
    except (SyntaxError, TypeError, ValueError, ZeroDivisionError):
        pass
    raise _unknown(name)


def written(base: str, settings: Mapping[str, Any]) -> str:
    """The name that `parse` reads."""

    def text(value: Any) -> str:
        if isinstance(value, tuple):
            return f"[{', '.join(map(text, value))}]"
        return str(value) if isinstance(value, str | Fraction) else repr(value)

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
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _value(node.left) / _value(node.right)
    return ast.literal_eval(node)
