"""What takes the place of a removed feature."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from captum_wg.weighting.masking import NEUTRALS, neutral_values
from quantus_ext.arrays import require_real, to_tensor


def rise_blur(x: Tensor) -> Tensor:
    """What RISE's insertion starts from: x (B, C, H, W) blurred by a kernel of 11 x 11, sigma 5; the border is 0."""
    if x.ndim != 4:
        raise ValueError(f"rise_blur needs images (B, C, H, W), got inputs of shape {tuple(x.shape)}")
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).to(x).expand(x.shape[1], 1, 11, 11)
    return torch.nn.functional.conv2d(x, kernel, padding=5, groups=x.shape[1])


def takes_mask(removal: Any) -> bool:
    """Whether removal is a function of the inputs and of what is removed of them."""
    if not callable(removal):
        return False
    try:
        parameters = inspect.signature(removal).parameters.values()
    except ValueError:  # some that are written in C have none
        return False
    return sum(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters) == 2


def neutral_like(x: np.ndarray, removal: Any) -> np.ndarray:
    """What replaces a removed feature, for every element of x (a read-only view where it repeats)."""
    if isinstance(removal, str) and removal == "corners" and x.ndim != 4:
        removal = "auto"
    if isinstance(removal, np.ndarray | np.generic):
        removal = torch.tensor(removal)
    (value,) = neutral_values((to_tensor(x),), removal, name="removal")
    return np.broadcast_to(value.numpy(), x.shape)


def check_removal(removal: Any) -> Any:
    """removal itself, if it is of a form that `neutral_like` or `perturbation_curves` takes."""
    forms = f"removal must be one of {NEUTRALS}, a number, an array or a callable"
    if isinstance(removal, str):
        if removal not in NEUTRALS:
            raise ValueError(f"{forms}, got {removal!r}")
    elif isinstance(removal, bool) or not (
        isinstance(removal, int | float | np.ndarray | np.generic | Tensor) or callable(removal)
    ):
        raise ValueError(f"{forms}, got {type(removal).__name__}")
    if isinstance(removal, np.ndarray | np.generic | Tensor):
        require_real(removal if isinstance(removal, Tensor) else np.asarray(removal), "removal")
    return removal
