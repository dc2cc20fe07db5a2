"""Spectral integrated gradients: the path brings in the strongest singular components of the image first.

Each channel of the difference from the baseline has a singular value decomposition x - x' = sum_i s_i u_i v_i^T,
s_1 >= s_2 >= ... With w how long a component takes to come in, as a share of the way,

    c(t) = x' + sum_i clamp((t - (1 - w)(1 - s_i / s_1)) / w, 0, 1) s_i u_i v_i^T

so that what is coarse (s_i near to s_1) comes first, from t = 0, and what is fine last. w = 1 is the straight path.

Source: Kim, Lim, Lee, Choi, "Spectral Integrated Gradients for Coarse-to-Fine Feature Attribution" (2026), with the
defaults of the authors' code (w = 0.4, 200 points). Departure: gradients are taken in the middle of a step, there at
its beginning.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.methods.path_integral import path_integral


def spectral_ig(
    model: nn.Module,
    x: Tensor,
    target: int,
    baseline: Tensor | float = 0.0,
    *,
    n_steps: int = 200,
    overlap: float = 0.4,
    rows: int = 16,
) -> Tensor:
    """The map (1, C, H, W) of an image (1, C, H, W); it takes n_steps gradients.

    Args:
        baseline: x', (1, C, H, W) or a number.
        overlap: w.
        rows: points of one pass; bounds memory.
    """
    start = torch.as_tensor(baseline, dtype=torch.float64, device=x.device).expand_as(x)[0]
    u, s, vh = torch.linalg.svd(x[0].double() - start, full_matrices=False)
    first = (1 - overlap) * (1 - s / s[:, :1].clamp(min=torch.finfo(s.dtype).tiny))

    def path(t: Tensor) -> Tensor:
        come = ((t.to(s)[:, None, None] - first) / overlap).clamp(0, 1)
        return (start + torch.einsum("chi,sci,ciw->schw", u, come * s, vh)).to(x.dtype)

    return path_integral(model, path, target, n_steps=n_steps, rows=rows)
