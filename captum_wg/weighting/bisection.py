"""The search for D_alpha: how many features bring a falling score down to a share of its start."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def bisect(
    score: Callable[[Tensor, Tensor], Tensor],
    reference: Tensor,
    n_features: int | Tensor,
    alpha: float = 0.5,
    tolerance: float = 0.01,
    max_iterations: int = 100,
    n_rivals: int = 1,
    n_best: int | None = None,
    which_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """The least number of removed features at which a falling score reaches alpha times its start, for R rows at once.

    Every iteration asks for the score of all rows that are still open, each at the middle of its own interval:
    score <= alpha reference means fewer may do, else more are needed (Algorithm 1 of the paper, its branches the right
    way round). A row stops as soon as |score - alpha reference| <= tolerance * reference, and that number is its
    answer; otherwise the answer is the smallest number visited with score <= alpha reference, or n_features if there
    was none.

    With n_best the rows are groups of n_rivals, of each of which only the n_best smallest answers are wanted: a row's
    search ends as soon as n_best others of its group are sure to have smaller answers (each lies between what its
    search has ruled out and what it has found). Which rows those are, and their answers, are the same as without; the
    answers of the others are upper bounds, none of them among the n_best smallest. which_only: a row that is sure to be
    among them ends too, its answer being an upper bound.

    Args:
        score: score(rows, removed) -> the scores (r,) of rows (r,) with removed (r,) features gone.
        reference: the scores (R,) with nothing removed, positive.
        n_features: P, or the P of each row (R,); the answer lies between 1 and P.
        tolerance: 0 gives the exact minimum where the curve is monotone.

    Returns:
        The answers (R,), int64, and whether each row can reach alpha times its start, bool: False if not even
        n_features did.
    """
    device = reference.device
    target, slack = alpha * reference, tolerance * reference
    low = torch.ones(len(reference), dtype=torch.long, device=device)
    high = torch.as_tensor(n_features, device=device).expand_as(low).clone()
    answer = high.clone()
    hopeless = torch.zeros_like(low, dtype=torch.bool)
    last = high.clone()
    finite = torch.ones((), dtype=torch.bool, device=device)
    for _ in range(max_iterations):
        rows = (low <= high).nonzero().flatten()
        if not len(rows):
            break
        middle = (low[rows] + high[rows]) // 2
        value = score(rows, middle).to(reference.dtype)
        finite &= torch.isfinite(value).all()
        # A curve may stay at its target for a while: without a tolerance only the first step of it is the answer.
        near = ((value - target[rows]).abs() <= slack[rows]) & (slack[rows] > 0)
        enough = value <= target[rows]
        found = near | enough
        answer[rows] = torch.where(found, middle, answer[rows])
        hopeless[rows] = ~found & (middle == last[rows])
        low[rows] = torch.where(enough, low[rows], middle + 1)
        # An empty interval closes a row.
        high[rows] = torch.where(near, low[rows] - 1, torch.where(enough, middle - 1, high[rows]))
        if n_best is not None:
            settled = _settled(torch.where(low <= high, low, answer), answer, n_rivals, n_best, which_only)
            high = torch.where(settled, low - 1, high)
    if not finite:
        # Read here alone: asking in every iteration would wait for the device.
        raise ValueError("the output is NaN or infinite for a masked input; check the model, or set neutral")
    return answer, ~hopeless


def _settled(least: Tensor, most: Tensor, n_rivals: int, n_best: int, which_only: bool) -> Tensor:
    """Rows (R,) whose answers, between least and most, are sure to be none of the n_best smallest of their group.

    which_only: or sure to be one of them.
    """
    least, most = least.view(-1, n_rivals), most.view(-1, n_rivals)
    # kthvalue has no deterministic form on a GPU.
    settled = least > most.sort(dim=1).values[:, n_best - 1 : n_best]
    if which_only:
        may_precede = (least.unsqueeze(1) <= most.unsqueeze(2)).sum(2)  # itself counted
        settled |= may_precede <= n_best
    return settled.flatten()
