"""What takes the place of a removed feature."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_array
from scipy.sparse.linalg import splu
from torch import Tensor

from captum_wg.engine.checks import check_number
from captum_wg.weighting.masking import NEUTRALS, neutral_values
from quantus_ext.arrays import require_real, to_tensor

# A pixel is the mean of its neighbours, those at its sides with twice the weight of those at its corners.
_NEIGHBOURS = {(i, j): 1 / 6 if i * j == 0 else 1 / 12 for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)}


class NoisyLinearImputation:
    """Replaces removed pixels by the mean of their neighbours, all at once, with a little noise: the removal of ROAD.

    What is removed of an image solves one sparse system of linear equations, in which each removed pixel is the
    weighted mean of its 8 neighbours, 1/6 for those at its sides and 1/12 for those at its corners (at the border of
    those there are); its matrix is the same for all channels. So a mask leaves no edges that a network could read.
    An image of which nothing is left is 0 before the noise.

    Source: Rong et al., "A consistent and efficient evaluation strategy for attribution methods", ICML 2022, and its
    code. There the noise is drawn anew for each image; here all have the same field of noise, so that scores repeat
    and don't depend on the batch.

    Args:
        noise: the standard deviation of the noise.
        seed: of the noise.
    """

    def __init__(self, noise: float = 0.01, seed: int = 0):
        self.noise, self.seed = check_number(noise, "noise", 0.0), seed

    def __call__(self, x: Tensor, removed: Tensor) -> Tensor:
        """x (R, C, H, W) with the removed pixels, bool (R, C, H, W), imputed."""
        if x.ndim != 4:
            raise ValueError(f"NoisyLinearImputation needs images (B, C, H, W), got inputs of shape {tuple(x.shape)}")
        images, masks = x.cpu().double().numpy(), removed.cpu().numpy()[:, 0]
        noise = self.noise * np.random.default_rng(self.seed).standard_normal(images.shape[1:])
        imputed = [_imputed(image, mask) + noise for image, mask in zip(images, masks, strict=True)]
        return torch.from_numpy(np.stack(imputed)).to(x)


def _imputed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """image (C, H, W) with the pixels marked in mask (H, W) at the means of their neighbours."""
    if not mask.any() or mask.all():
        return np.where(mask, 0.0, image)
    rows, columns = np.nonzero(mask)
    number = np.full(mask.shape, -1)
    number[rows, columns] = unknowns = np.arange(len(rows))
    total, known = np.zeros(len(rows)), np.zeros((len(rows), len(image)))
    entries = []
    for (down, right), weight in _NEIGHBOURS.items():
        i, j = rows + down, columns + right
        there = np.flatnonzero((i >= 0) & (i < mask.shape[0]) & (j >= 0) & (j < mask.shape[1]))
        i, j = i[there], j[there]
        total[there] += weight
        unknown = mask[i, j]
        entries.append((there[unknown], number[i, j][unknown], np.full(unknown.sum(), -weight)))
        known[there[~unknown]] += weight * image[:, i[~unknown], j[~unknown]].T
    entries.append((unknowns, unknowns, total))
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    result = image.copy()
    result[:, rows, columns] = splu(csc_array((value, (row, column)))).solve(known).T
    return result


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
