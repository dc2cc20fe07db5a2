"""Scores image by image: one row for each model, method, judge and image, tens of millions of rows.

Their text is kept as categories: as strings those of a table of 50,000 images take ten times the memory.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

TEXT = ("model", "judge", "method", "image", "problem")
COLUMNS = ("model", "judge", "method", "image", "score", "problem")


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tables of scores, one below the other, their columns in the order of `COLUMNS`.

    One is looked at after the other, so that the strings of an iterator's tables are not all in memory at once, as
    pandas' union_categoricals needs them.
    """
    categories = {name: pd.Index([], dtype=object) for name in TEXT}
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, np.int8)] for name in COLUMNS}
    for table in tables:
        parts["score"].append(table["score"].to_numpy(dtype=float))
        for name in TEXT:
            column = pd.Categorical(table[name])
            own = column.categories.astype(object)
            known = categories[name] = categories[name].append(own.difference(categories[name], sort=False))
            # Signed, as -1 stands for a text that is missing; the place after the last is where -1 points to.
            places = np.append(known.get_indexer(own), -1).astype(np.min_scalar_type(-len(known) - 1))
            parts[name].append(places[column.codes])
    codes = {name: np.concatenate(parts.pop(name)) for name in COLUMNS}
    texts = {name: pd.Categorical.from_codes(codes[name], categories[name]) for name in TEXT}
    return pd.DataFrame({**codes, "score": codes["score"].astype(float), **texts}, copy=False)


def constant(text: str, count: int) -> pd.Categorical:
    """The same text in each of so many rows."""
    return pd.Categorical.from_codes(np.zeros(count, dtype=np.int8), [text])


def with_constants(scores: pd.DataFrame, **values: str | int) -> pd.DataFrame:
    """The table with further columns, each of one value."""
    return scores.assign(**{name: constant(str(value), len(scores)) for name, value in values.items()})
