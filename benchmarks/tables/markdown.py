"""Tables as markdown, and how their numbers are written; "-" stands for what can't be computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

ARROWS = {True: " ↑", False: " ↓", None: ""}
# Headings of p-values.
P_VALUES = {
    "t_p": "p (t)",
    "t_holm": "Holm (t)",
    "wilcoxon_p": "p (Wilcoxon)",
    "wilcoxon_holm": "Holm (Wilcoxon)",
}


def table(frame: pd.DataFrame, form: str = "{}") -> str:
    """A table of text, its numbers in the given form where they are floats."""
    text = frame.apply(lambda column: column.map(form.format) if pd.api.types.is_float_dtype(column) else column)
    return str(text.to_markdown(index=False, disable_numparse=True))


def document(blocks: Iterable[str]) -> str:
    """Headings, paragraphs and tables, one below the other; empty ones are left out."""
    return "\n\n".join(filter(None, blocks)) + "\n"


def bullets(lines: Iterable[str], heading: str = "Notes:") -> str:
    """A list below its heading."""
    return f"{heading}\n\n" + "\n".join(f"- {line}" for line in lines)


def percent(value: float) -> str:
    """A share with its sign, such as "+3.5%"."""
    return "-" if math.isnan(value) else f"{value + 0.0:+.1%}"  # no sign of -0.0


def p_value(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2g}"


def interval(low: float, high: float, form: Callable[[float], str] = percent) -> str:
    return "-" if math.isnan(low) else f"{form(low)} ... {form(high)}"


def mean_and_deviation(mean: float, deviation: float, digits: int = 4) -> str:
    """A mean, with its standard deviation if it has one."""
    spread = "" if math.isnan(deviation) else f" ± {deviation:.{digits}f}"
    return "-" if math.isnan(mean) else f"{mean:.{digits}f}{spread}"


def comparison(found: pd.DataFrame, *arguments: Any, **more: Any) -> str:
    """What `compare` found as a table of text; the others as in `compared`."""
    return compared_text(compared(found, *arguments, **more))


def compared_text(words: pd.DataFrame) -> str:
    """What `compared` gave as text."""
    return table(words) if len(words) else "Nothing to compare."


def compared(
    found: pd.DataFrame,
    higher_is_better: Mapping[str, bool | None],
    extra: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> pd.DataFrame:
    """What `compare` found in words.

    Args:
        extra: more of its columns to show, before the method.
        drop: columns of the text to leave out, such as that of a single model.
    """
    text = {
        "model": found["model"],
        "judge": [f"{judge}{ARROWS[higher_is_better[judge]]}" for judge in found["judge"]],
        **{name: found[name] for name in extra},
        "method": found["method"],
        "n": found["n"],
        "against": _each(mean_and_deviation, found, "reference_mean", "reference_std"),
        "method's": _each(mean_and_deviation, found, "mean", "std"),
        "improvement": _each(percent, found, "improvement"),
        "95 % interval": _each(interval, found, "low", "high"),
        **{title: _each(p_value, found, name) for name, title in P_VALUES.items()},
    }
    return pd.DataFrame(text).drop(columns=list(drop))


def _each(form: Callable[..., str], found: pd.DataFrame, *names: str) -> list[str]:
    return [form(*values) for values in found[list(names)].itertuples(index=False)]
