"""What a row's map takes, counted on a call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.methods.method import Batch, Ingredient, Method
from benchmarks.run.counting import Counted


def price(method: Method, batch: Batch) -> tuple[float, float]:
    """The gradients and the forwards of one map of a row, made by itself: the mean over the images of a batch.

    A gradient is one row of a forward and its backward; a forward is a row without. What an ingredient shares with
    other rows of a table counts in full here, and of baselines only as many as the row takes.
    """
    counted = Counted(batch.model)
    batch = replace(batch, model=counted)
    made: dict[tuple[str, str], np.ndarray] = {}

    def value(one: Ingredient) -> np.ndarray:
        if one.key not in made:
            made[one.key] = one.make(batch, *map(value, one.needs))
        return made[one.key]

    for own in method.ingredients:
        value(own)
    gradients, forwards = counted.counter.evaluations()
    return gradients / len(batch.inputs), forwards / len(batch.inputs)
