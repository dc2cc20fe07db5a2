"""Texts and tables: drawn by Captum and by shap, which do it well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from captum.attr import visualization as captum_visualization
from matplotlib.figure import Figure
from torch import Tensor

from captum_wg.attribution_base import AttributionResult
from captum_wg.engine.checks import check_choice
from captum_wg.engine.tensors import Inputs
from captum_wg.shap_explanation import to_shap
from captum_wg.text import token_attributions
from captum_wg.visualization.arrays import check_count, values_of
from captum_wg.visualization.canvas import axes_given

_OF_ONE_ROW = ("waterfall",)
_WITH_AXES = ("bar", "beeswarm", "scatter")
PLOTS = (*_WITH_AXES, *_OF_ONE_ROW)


def show_text(
    words: Sequence[Sequence[str]],
    attributions: Tensor,
    *,
    predicted: Sequence[Any] | None = None,
    probabilities: Sequence[float] | Tensor | None = None,
    true: Sequence[Any] | None = None,
    explained: Sequence[Any] | None = None,
    deltas: Sequence[float] | Tensor | None = None,
    legend: bool = True,
) -> Any:
    """Words on green where they speak for the output and red where against it, by `captum.attr.visualization`.

        groups, words = word_groups(texts, offsets)
        show_text(words, token_attributions(attributions, groups), predicted=names, probabilities=p)

    Each text's colours go to its own largest magnitude; its score is the sum of its words' attributions.

    Args:
        words: of B texts, each text's tokens or words.
        attributions: one number for each, (B, T), or an embedding's vectors (B, T, E), which are summed. T may be more
            than a text has words: the rest is padding.
        predicted, probabilities, true, explained: B of each for Captum's columns: the predicted class and its
            probability, the true class, the explained class. None: empty, and a probability of nan.
        deltas: the convergence deltas, kept with the records.
        legend: draw Captum's legend.

    Returns:
        IPython's HTML, which a notebook has shown already; its text is `.data`.

    Raises:
        ImportError: IPython, which Captum draws with, is not there.
        TypeError, ValueError: attributions of another shape, not finite, or of another number of texts or words.
    """
    if not captum_visualization.HAS_IPYTHON:
        raise ImportError("show_text needs IPython, with which Captum draws text; install it: pip install ipython")
    values = values_of(attributions, "attributions")
    if values.ndim == 3:
        values = values_of(token_attributions(attributions), "attributions")
    if values.ndim != 2:
        raise ValueError(f"attributions must have shape (B, T) or (B, T, E) for B texts, got {values.shape}")
    if isinstance(words, str) or any(isinstance(text, str) for text in words):
        raise TypeError("words must hold a list of words for each text, got a string; for one text give [words]")
    check_count("words", words, len(values), "texts")
    columns: dict[str, Sequence[Any] | Tensor | None] = {
        "predicted": predicted,
        "probabilities": probabilities,
        "true": true,
        "explained": explained,
        "deltas": deltas,
    }
    for name, column in columns.items():
        if column is not None:
            check_count(name, column, len(values), "texts")
    records = []
    for i, (text, row) in enumerate(zip(words, values, strict=True)):
        if len(text) > len(row):
            raise ValueError(f"words[{i}] has {len(text)} words, but attributions has {len(row)} numbers for each text")
        own, largest = row[: len(text)], np.abs(row[: len(text)]).max(initial=0.0)
        of = {name: "" if column is None else column[i] for name, column in columns.items()}
        records.append(
            captum_visualization.VisualizationDataRecord(
                word_attributions=own / largest if largest > 0 else own,
                pred_prob=np.nan if probabilities is None else float(of["probabilities"]),
                pred_class=of["predicted"],
                true_class=of["true"],
                attr_class=of["explained"],
                attr_score=own.sum(),
                raw_input_ids=list(text),
                convergence_score=np.nan if deltas is None else float(of["deltas"]),
            )
        )
    return captum_visualization.visualize_text(records, legend)


def show_table(
    attributions: Inputs | AttributionResult[Any],
    outputs: Tensor,
    data: Any = None,
    feature_names: Sequence[str] | None = None,
    plot: str = "beeswarm",
    *,
    row: int | None = None,
    ax: Any = None,
    **options: Any,
) -> tuple[Figure, Any]:
    """A table's attributions as one of shap's plots: "beeswarm", "bar", "scatter", or "waterfall" of one row.

    Args:
        attributions, outputs, data, feature_names: as in `captum_wg.to_shap`.
        plot: which of shap's.
        row: the number of the example for "waterfall", or for "bar" of that one; None: all.
        ax: Axes to draw on, not for "waterfall"; None makes a new figure.
        **options: the plot's own, such as max_display=20.

    Returns:
        The figure and its main Axes. pyplot's current figure stays what it was.

    Raises:
        ImportError: shap is not there.
        TypeError, ValueError: as `to_shap`; another plot; a row that is missing or not there.
    """
    check_choice(plot, "plot", PLOTS)
    if row is None and plot in _OF_ONE_ROW:
        raise ValueError(f"plot={plot!r} is of one row; say which: row=0")
    if row is not None and plot not in (*_OF_ONE_ROW, "bar"):
        raise ValueError(f"plot={plot!r} is of all rows; leave row out")
    if ax is not None and plot not in _WITH_AXES:
        raise ValueError(f"plot={plot!r} makes a figure of its own; leave ax out")
    given = axes_given(ax)
    explanation = to_shap(attributions, outputs, data, feature_names)
    if row is not None:
        if not 0 <= row < len(explanation):
            raise ValueError(f"row must be from 0 to {len(explanation) - 1}, got {row!r}")
        explanation = explanation[row]
    from shap import plots

    with _own_pyplot_figure() as (figure, own):
        if ax is not None:
            options["ax"] = ax
            if plot == "beeswarm":
                options.setdefault("plot_size", None)  # it would resize the caller's figure
        getattr(plots, plot)(explanation, show=False, **options)
    return (figure, own) if given is None else given


@contextmanager
def _own_pyplot_figure() -> Iterator[tuple[Figure, Any]]:
    """A current figure and Axes for code that draws by pyplot; afterwards pyplot is as it was."""
    from matplotlib import pyplot

    before, interactive = pyplot.get_fignums(), pyplot.isinteractive()
    current = pyplot.gcf() if before else None
    figure = pyplot.figure(layout="constrained")
    try:
        yield figure, figure.add_subplot()
    finally:
        for number in set(pyplot.get_fignums()) - set(before):
            pyplot.close(number)
        if current is not None:
            pyplot.figure(current)
        (pyplot.ion if interactive else pyplot.ioff)()
