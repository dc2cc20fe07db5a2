"""Scores image by image: one row for each model, method, judge and image, tens of millions of rows.

Their text is kept as categories: as strings those of a table of 50,000 images take ten times the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

TEXT = ("model", "judge", "method", "image", "problem")
COLUMNS = ("model", "judge", "method", "image", "score", "problem")


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Tables of scores, one below the other, their columns in the order of `COLUMNS`."""
    tables = [_categorical(table) for table in tables if len(table)]
    if not tables:
        return _categorical(pd.DataFrame({name: [] for name in COLUMNS}))
    columns = {
        name: union_categoricals([table[name] for table in tables])
        if name in TEXT
        else np.concatenate([table[name].to_numpy(dtype=float) for table in tables])
        for name in COLUMNS
    }
    return pd.DataFrame(columns, copy=False)


def constant(text: str, count: int) -> pd.Categorical:
    """The same text in each of so many rows."""
    return pd.Categorical.from_codes(np.zeros(count, dtype=np.int8), [text])


def with_constants(scores: pd.DataFrame, **values: str | int) -> pd.DataFrame:
    """The table with further columns, each of one value."""
    return scores.assign(**{name: constant(str(value), len(scores)) for name, value in values.items()})


def wide(scores: pd.DataFrame, model: str, judge: str) -> pd.DataFrame:
    """A model's scores by a judge: a row for each image, in the order of their names, a column for each method."""
    part = scores.loc[(scores["model"] == model) & (scores["judge"] == judge), ["image", "method", "score"]]
    return part.astype({"image": object, "method": object}).pivot(index="image", columns="method").sort_index()["score"]


def _categorical(table: pd.DataFrame) -> pd.DataFrame:
    text: Sequence[str] = [name for name in TEXT if not isinstance(table[name].dtype, pd.CategoricalDtype)]
    return table.astype({name: "category" for name in text})[list(COLUMNS)]
