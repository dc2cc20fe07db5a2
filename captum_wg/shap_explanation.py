"""Attributions as shap's Explanation, for its plots (bar, beeswarm, waterfall, scatter, ...)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.attribution_base import AttributionResult
from captum_wg.engine.tensors import Inputs, as_tuple


def to_shap(
    attributions: Inputs | AttributionResult[Any],
    outputs: Tensor,
    data: Any = None,
    feature_names: Sequence[str] | None = None,
) -> Any:
    """A shap.Explanation of a table's attributions:

        explanation = to_shap(phi, model(x)[:, 1], x, names)
        shap.plots.beeswarm(explanation)
        shap.plots.waterfall(explanation[0])

    Its base values are F(x) - sum_i phi_i, where shap's bars start that end at F(x): what the baselines' outputs are
    on (weighted) average, but for the convergence delta.

    Args:
        attributions: (B, F), a tuple of these, side by side, or what `attribute` returned with them. Of groups those
            of group_attributions="sum", (B, P): a category of several columns is then one bar.
        outputs: F(x), (B,): the explained output.
        data: what stands beside the bars and colours the points, (B, F): the inputs, or the table they were made of,
            with text for categories (a Tensor, a tuple of these, an array or DataFrame). None: none.
        feature_names: F of them. None: the DataFrame's columns, or shap's own numbers.

    Raises:
        ImportError: shap is not there.
        TypeError, ValueError: attributions that are no table; outputs, data or feature_names of another length.
    """
    try:
        import shap  # late: it takes seconds, and need not be there
    except ImportError as error:
        raise ImportError("to_shap needs shap; install it: pip install shap") from error
    if isinstance(attributions, AttributionResult):
        attributions = attributions.attributions
    values = _columns(as_tuple(attributions))
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != (len(values),):
        came = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(f"outputs must be the explained output of each example, (B,) = ({len(values)},), got {came}")
    if feature_names is None and hasattr(data, "columns"):
        feature_names = [str(name) for name in data.columns]
    if feature_names is not None and len(feature_names) != values.shape[1]:
        raise ValueError(f"feature_names must name the {values.shape[1]} features, got {len(feature_names)}")
    numbers, shown = (None, None) if data is None else _beside(data, values.shape)
    return shap.Explanation(
        values=values,
        base_values=_array(outputs) - values.sum(1),
        data=numbers,
        display_data=shown,
        feature_names=None if feature_names is None else list(feature_names),
    )


def _columns(parts: tuple[Any, ...]) -> np.ndarray[Any, Any]:
    """Tensors (B, F) side by side."""
    for part in parts:
        if not isinstance(part, Tensor):
            raise TypeError(f"attributions must be Tensors (B, F), got {type(part).__name__}")
        if part.ndim != 2:
            raise ValueError(
                f"attributions must be of a table, (B, F), got shape {tuple(part.shape)}; flatten them, or sum them "
                "over groups (group_attributions='sum')"
            )
    return np.concatenate([_array(part) for part in parts], axis=1)


def _beside(data: Any, shape: tuple[int, ...]) -> tuple[np.ndarray[Any, Any], Any]:
    """The data as numbers, categories as their codes, and what is shown instead if these are not the data."""
    if isinstance(data, Tensor | tuple):
        data = np.concatenate([_array(part) for part in as_tuple(data)], axis=1)
    table = np.asarray(data)
    if table.shape != shape:
        raise ValueError(f"data must have the attributions' shape {shape}, got {table.shape}")
    if np.issubdtype(table.dtype, np.number):
        return table, None
    return np.stack([_codes(column) for column in table.T], axis=1), table


def _codes(column: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    try:
        return column.astype(np.float64)
    except (TypeError, ValueError):
        return np.unique(column.astype(str), return_inverse=True)[1].astype(np.float64)


def _array(values: Tensor) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = values.detach().to(device="cpu", dtype=torch.float64).numpy()
    return found
