"""Figures and axes: those a caller gives, or new ones that need no display."""

from __future__ import annotations

import math
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from captum_wg.visualization.arrays import AxesArray, Bounds, Image

FONT, GAP, EDGE = 8.0, 0.05, 0.1  # a grid's letters in points, the space between and around its pictures in inches


@contextmanager
def canvas(
    given: tuple[Figure, Any] | None,
    shape: tuple[int, int],
    fig_size: Bounds,
    use_pyplot: bool,
    name: str = "plt_fig_axis must be (figure, axes) with",
    **layout: Any,
) -> Iterator[tuple[Figure, AxesArray]]:
    """The figure and a flat array of rows * columns Axes: those given, or new ones; shown once they are drawn on.

    name: how a message about the given ones begins.
    """
    if use_pyplot:
        # Imported late: pyplot chooses a display, which drawing into a file does not need.
        from matplotlib import pyplot
    if given is not None:
        figure, axes = given[0], np.asarray(given[1], dtype=object).ravel()
        if len(axes) != (count := math.prod(shape)) or not all(isinstance(axis, Axes) for axis in axes):
            raise ValueError(f"{name} {count} Axes, one a picture, got {len(axes)}")
    else:
        make, margins, grid = (
            pyplot.figure if use_pyplot else Figure,
            layout.pop("margins", None),
            layout.pop("grid", {}),
        )
        figure = make(figsize=fig_size, layout=None if margins else "constrained", **layout)
        axes = figure.subplots(*shape, squeeze=False, gridspec_kw=margins or grid).ravel()
    yield figure, axes
    if use_pyplot:
        with warnings.catch_warnings():
            # Without a display there is nothing to show, and nothing to say about it.
            warnings.filterwarnings("ignore", message=".*non-interactive")
            pyplot.show()


def axes_given(ax: Any) -> tuple[Figure, Any] | None:
    """What `canvas` takes, of an argument `ax`: Axes, several of them, or None."""
    if ax is None:
        return None
    first = next(iter(np.asarray(ax, dtype=object).ravel()), None)
    if not isinstance(first, Axes):
        raise TypeError(f"ax must be matplotlib Axes, or several of them, got {type(first).__name__}")
    return cast(Figure, first.figure), ax


def write_below(figure: Figure, axis: Axes, text: str, own: bool) -> None:
    """A caption under the whole of our own figure, or under the axis of a caller's."""
    inches = figure.get_figwidth() if own else axis.get_window_extent().width / axis.figure.dpi
    lines = textwrap.fill(text, max(24, int(inches * 72 / (0.58 * FONT))))
    if own:
        figure.supxlabel(lines, fontsize=FONT, color="0.3")
    else:
        axis.set_xlabel(f"{axis.get_xlabel()}\n{lines}".lstrip(), fontsize=FONT, color="0.3")


def draw_bare(axis: Axes, picture: Image) -> None:
    """A picture without ticks and frame."""
    axis.imshow(picture, interpolation="nearest")
    # The axis itself stays on: it carries a row's label.
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)


class _Wrapper(textwrap.TextWrapper):
    """Breaks at spaces, after _ / - and inside CamelCase."""

    wordsep_re = re.compile(r"(\s+|(?<=[a-z0-9])(?=[A-Z])|(?<=[_/\-])(?=\S))")


def wrapped(texts: Sequence[str], inches: float) -> tuple[list[str], float]:
    """Texts in lines of that length, and the room that the highest takes, in inches."""
    wrapper = _Wrapper(max(4, int(inches * 72 / (0.6 * FONT))))
    wrapped = ["\n".join(wrapper.fill(line) for line in text.splitlines()) for text in texts]
    most = max(text.count("\n") + bool(text) for text in wrapped)
    return wrapped, EDGE + 1.25 * FONT / 72 * most
