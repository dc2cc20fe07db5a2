"""The model's output along a ranking of the features: the one engine of deletion and insertion.

Shapes: B examples, P features, N levels, R rows (masked copies).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from captum_wg.engine.checks import not_finite
from captum_wg.weighting.masking import Features
from quantus_ext.arrays import named
from quantus_ext.class_score import ClassScore


def perturbation_curves(
    score: ClassScore,
    x: Tensor,
    features: Features,
    places: Tensor,
    values: Tensor | Callable[[Tensor, Tensor], Tensor],
    counts: np.ndarray,
    insert: bool,
    first: int = 0,
    show_progress: bool = False,
) -> np.ndarray:
    """The scores (B, N) of x with the highest ranked features removed, as many as counts (B, N) says.

    Levels at which an example has the same number of features are evaluated once, in forwards of at most `score.rows`
    rows. Masking runs where the model is.

    Args:
        x: inputs (B, *feature), channels first.
        features: what is removed as a whole.
        places: the place (B, P) of each feature in the ranking, 0 for the highest.
        values: what replaces x, (B, *feature); or a function of rows (R, *feature) and of what is removed of them, bool
            (R, 1 or C, *), that returns it for these rows.
        insert: the features are put back into an input of which everything is removed, instead of being removed.
        first: the number of the first example.
        show_progress: a progress bar over the rows.

    Raises:
        ValueError: a score that is not finite; and as `ClassScore`.
    """
    n, levels = counts.shape
    keys, key_of = np.unique(np.arange(n)[:, None] * (counts.max() + 1) + counts, return_inverse=True)
    examples, removed = (torch.from_numpy(k).to(score.device) for k in np.divmod(keys, counts.max() + 1))
    x, places = x.to(score.device), places.to(score.device)
    values = values.to(score.device) if isinstance(values, Tensor) else values

    outputs = np.empty(len(keys))
    with tqdm(total=len(keys), desc="masked inputs", unit="row", leave=False, disable=not show_progress) as bar:
        for start in range(0, len(keys), score.rows):
            rows = slice(start, start + score.rows)
            example = examples[rows]
            top = places[example] < removed[rows, None]
            gone, inputs = ~top if insert else top, x[example]
            if callable(values):
                ones = torch.ones_like(inputs)
                (mask,) = features.remove((torch.zeros_like(inputs),), (ones,), gone, example)
                value = values(inputs, mask.bool()).to(inputs)
            else:
                value = values[example]
            (masked,) = features.remove((inputs,), (value,), gone, example)
            outputs[rows] = score(masked, example + first)
            bar.update(len(example))

    curves = outputs[key_of.reshape(n, levels)]
    bad = not_finite(torch.from_numpy(curves)).numpy()
    if bad.any():
        raise ValueError(f"the model's output is NaN or infinite for masked copies of {named(bad, first)}")
    return curves
