"""What takes the place of a removed feature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from captum_wg.weighting.masking import NEUTRALS, neutral_values
from quantus_ext.arrays import to_tensor


def neutral_like(x: np.ndarray, removal: Any) -> np.ndarray:
    """What replaces a removed feature, for every element of x (a read-only view where it repeats)."""
    if isinstance(removal, str) and removal == "corners" and x.ndim != 4:
        removal = "auto"
    if isinstance(removal, np.ndarray | np.generic):
        removal = torch.tensor(removal)
    (value,) = neutral_values((to_tensor(x),), removal, name="removal")
    return np.broadcast_to(value.numpy(), x.shape)


def check_removal(removal: Any) -> Any:
    """removal itself, if it is of a form that `neutral_like` takes."""
    if isinstance(removal, str):
        if removal not in NEUTRALS:
            raise ValueError(f"removal must be one of {NEUTRALS}, a number, an array or a callable, got {removal!r}")
    elif isinstance(removal, bool) or not (
        isinstance(removal, int | float | np.ndarray | np.generic | Tensor) or callable(removal)
    ):
        raise ValueError(
            f"removal must be one of {NEUTRALS}, a number, an array or a callable, got {type(removal).__name__}"
        )
    return removal
