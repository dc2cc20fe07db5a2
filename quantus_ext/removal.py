"""What takes the place of a removed feature."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from scipy.sparse import csc_array, csr_array, diags_array, kron
from scipy.sparse.linalg import splu
from torch import Tensor

from captum_wg.engine.checks import check_number
from captum_wg.weighting.masking import NEUTRALS, neutral_values
from quantus_ext.arrays import require_real, to_tensor


def check_removal(removal: Any) -> Any:
    """removal itself, if it is of a form that `neutral_like` takes or `takes_mask` tells."""
    values = int | float | np.ndarray | np.generic | Tensor
    known = callable(removal) or (isinstance(removal, values) and not isinstance(removal, bool))
    if not (removal in NEUTRALS if isinstance(removal, str) else known):
        got = repr(removal) if isinstance(removal, str) else type(removal).__name__
        raise ValueError(f"removal must be one of {NEUTRALS}, a number, an array or a callable, got {got}")
    if isinstance(removal, np.ndarray | np.generic | Tensor):
        require_real(removal, "removal")
    return removal


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


def rise_blur(x: Tensor) -> Tensor:
    """What RISE's insertion starts from: x (B, C, H, W) blurred by a kernel of 11 x 11, sigma 5; the border is 0."""
    if x.ndim != 4:
        raise ValueError(f"rise_blur needs images (B, C, H, W), got inputs of shape {tuple(x.shape)}")
    delta = np.zeros((11, 11))
    delta[5, 5] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 5)).to(x).expand(x.shape[1], 1, 11, 11)
    return torch.nn.functional.conv2d(x, kernel, padding=5, groups=x.shape[1])


class NoisyLinearImputation:
    """Replaces removed pixels by the mean of their neighbours, all at once, with a little noise: the removal of ROAD.

    What is removed of an image solves one sparse system of linear equations, in which each removed pixel is the
    weighted mean of its 8 neighbours, 1/6 for those at its sides and 1/12 for those at its corners (at the border of
    those there are); its matrix is the same for all channels. So a mask leaves no edges that a network could read.
    An image of which nothing is left is 0 before the noise. Slow: one solve for each copy, 0.3 s for half of 224 x 224.

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
        imputed = [_imputed(image, mask) + noise * mask for image, mask in zip(images, masks, strict=True)]
        return torch.from_numpy(np.stack(imputed)).to(x)


def _imputed(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """image (C, H, W) with the pixels marked in mask (H, W) at the means of their neighbours."""
    if not mask.any() or mask.all():
        return np.where(mask, 0.0, image)
    gone, values = mask.ravel(), image.reshape(len(image), -1).copy()
    rows, columns = (diags_array([0.5, 1, 0.5], offsets=[-1, 0, 1], shape=(side, side)) for side in mask.shape)
    # 1/12 for a neighbour at a corner, 1/6 for one at a side.
    weights = csr_array(kron(rows, columns)) / 3
    weights.setdiag(0)
    weights = weights[gone]
    system = diags_array(weights.sum(1)) - weights[:, gone]
    values[:, gone] = splu(csc_array(system)).solve(weights[:, ~gone] @ values[:, ~gone].T).T
    return values.reshape(image.shape)
