"""How well a baseline explains an input: D_alpha, the weights that follow from it, and the choice of baselines.

D_alpha (Duc et al. 2025, Eq. 7) is the least number of features, taken in the order of the baseline's own map, whose
removal brings the output down to a share alpha of what it was. A small D_alpha is a good baseline. Its insertion twin
is the least number whose restoring, in the same order, into an input with every feature removed brings the output up
to that share. Shapes: B examples, K baselines, P features, R = B K rows.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice, check_number, check_positive_int, name_rows, warn
from captum_wg.engine.problem import Problem
from captum_wg.weighting.masking import RANKINGS, Features, ranks

FitnessOutput = str | Callable[[Tensor], Tensor]

FITNESS_OUTPUTS = ("auto", "softmax", "identity")
# What "both" stands for; each is searched with each neutral.
FITNESSES: dict[str, tuple[str, ...]] = {
    "deletion": ("deletion",),
    "insertion": ("insertion",),
    "both": ("deletion", "insertion"),
}


@runtime_checkable
class Maps(Protocol):
    """The maps of K baselines for each of B examples, made when they are needed."""

    count: int

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """Those of baseline k of example b, b K + k = numbers (r,): (r, *feature) for each element."""


class _Given:
    def __init__(self, maps: tuple[Tensor, ...]):
        self.count = maps[0].shape[1]
        self._flat = tuple(m.flatten(0, 1) for m in maps)

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        return tuple(m[numbers] for m in self._flat)


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
        alpha, tolerance, max_iterations: as above; tolerance 0 gives the exact minimum where the curve is monotone.
        n_rivals, n_best, which_only: as above.

    Returns:
        The answers (R,), int64, and whether each row can reach alpha times its start, (R,), bool: False if not even
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
        # Itself counted.
        may_precede = (least.unsqueeze(1) <= most.unsqueeze(2)).sum(2)
        settled |= may_precede <= n_best
    return settled.flatten()


def d_alpha(
    problem: Problem,
    maps: tuple[Tensor, ...] | Maps,
    reference: Tensor,
    fitness_output: Callable[[Tensor], Tensor],
    features: Features,
    neutrals: Sequence[tuple[Tensor, ...]],
    *,
    alpha: float = 0.5,
    tolerance: float = 0.01,
    max_iterations: int = 100,
    ranking: str = "signed",
    fitness: str = "deletion",
    n_best: int | None = None,
    which_only: bool = False,
) -> Tensor:
    """D_alpha of each baseline's map, (B, K) int64, in number of features; float64 if it is the mean of several.

    Each step of the bisection is one sweep of masked forwards over all open rows of the B K, in micro-batches.

    Args:
        problem: the explained function and inputs.
        maps: the baselines' own attributions, (B, K, *feature) for each element of the inputs; or an object with
            `count` (K) and `rows(numbers)`, which gives those of b K + k = numbers (r,), (r, *feature).
        reference, fitness_output: f(x) and what makes scores of the model's output, from `reference_scores`.
        features, neutrals: what is ranked and removed, and what takes its place (`captum_wg.weighting.masking`). Of several
            neutrals, each with a search of its own, the result is the geometric mean over them.
        alpha, tolerance, max_iterations: see `bisect`.
        ranking: "signed" or "absolute".
        fitness: "deletion", "insertion", or "both": the geometric mean of the two.
        n_best, which_only: the search only for the n_best baselines of each example, see `bisect`; a mean of several
            searches needs all of them.

    The result of one search is on the inputs' device, the mean of several on the CPU.

    Warns:
        UserWarning: for some example no baseline's removal ever reaches alpha f(x), so that its D_alpha are all P, or
            an insertion starts above it, so that they are all 1: the baselines can't be told apart.
    """
    given = maps if isinstance(maps, Maps) else _Given(maps)
    n_baselines = given.count
    n_rows = problem.rows()
    device = problem.inputs[0].device
    examples = torch.arange(problem.n_examples, device=device).repeat_interleave(n_baselines)
    references = reference.repeat_interleave(n_baselines)

    places = torch.empty(len(examples), features.count, dtype=torch.int32, device=device)
    for part in torch.arange(len(examples), device=device).split(n_rows):
        scores = features.scores(given.rows(part), ranking, examples[part])
        places[part] = ranks(scores)

    def score(rows: Tensor, count: Tensor, neutral: tuple[Tensor, ...], way: str) -> Tensor:
        parts = []
        for part, of_part in zip(rows.split(n_rows), count.split(n_rows), strict=True):
            of = examples[part]
            first = places[part] < of_part.unsqueeze(1)
            masked = features.remove(
                tuple(x[of] for x in problem.inputs),
                tuple(v[of] if v.shape[0] > 1 else v for v in neutral),
                first if way == "deletion" else ~first,
                of,
            )
            parts.append(_scores(problem, masked, of, fitness_output))
            bar.update(len(part))
        found = torch.cat(parts)
        # The search is for a falling score: a rising one is mirrored at its target.
        return found if way == "deletion" else 2 * alpha * references[rows].to(found) - found

    def emptied(neutral: tuple[Tensor, ...]) -> Tensor:
        """f with every feature removed, (B,)."""
        everyone, parts = torch.arange(problem.n_examples, device=device), []
        for part in everyone.split(n_rows):
            masked = features.remove(
                tuple(x[part] for x in problem.inputs),
                tuple(v[part] if v.shape[0] > 1 else v for v in neutral),
                torch.ones(len(part), features.count, dtype=torch.bool, device=device),
                part,
            )
            parts.append(_scores(problem, masked, part, fitness_output))
        return torch.cat(parts)

    steps = min(max_iterations, math.ceil(math.log2(features.count + 1)))
    searches = [(neutral, way) for neutral in neutrals for way in FITNESSES[fitness]]
    answers: list[Tensor] = []
    reachable = torch.zeros(problem.n_examples, dtype=torch.bool, device=device)
    with problem.progress(len(examples) * steps * len(searches), "fitness") as bar:
        for neutral, way in searches:
            answer, possible = bisect(
                lambda rows, count, neutral=neutral, way=way: score(rows, count, neutral, way),  # type: ignore[misc]
                references,
                features.counts[examples],
                alpha,
                tolerance,
                max_iterations,
                n_baselines,
                n_best if len(searches) == 1 else None,
                which_only and len(searches) == 1,
            )
            answers.append(answer)
            if way == "deletion":
                reachable |= possible.view(-1, n_baselines).any(1)
            else:
                # An insertion always ends at x; it tells nothing if it starts above the target.
                reachable |= emptied(neutral) < alpha * reference
    if not reachable.all():
        texts = {
            "deletion": ("not even removing every feature brings the output down to", "P"),
            "insertion": ("removing every feature leaves the output above", "1"),
            "both": ("removing every feature leaves the output above", "P by deletion and 1 by insertion"),
        }
        what, value = texts[fitness]
        warn(
            f"for examples {name_rows(~reachable)} {what} alpha = {alpha} of f(x): D_alpha is {value} for all their "
            "baselines, which therefore weigh the same there (as in ExpectedGradients), and keep takes the first. "
            "Choose another neutral, alpha or fitness_output"
        )
    if len(answers) == 1:
        return answers[0].view(-1, n_baselines)
    return geometric_mean(torch.stack(answers)).view(-1, n_baselines)


def geometric_mean(values: Tensor) -> Tensor:
    """The geometric mean over dimension 0 of positive whole numbers (M, R): (R,), float64 on the CPU.

    Of the exact products, so that equal ones give equal means and ties are settled by position.
    """
    # Products of many counts are beyond int64, and float64 is not on every device.
    products = [math.prod(row) for row in values.T.tolist()]
    return torch.tensor([math.exp(math.log(product) / len(values)) for product in products], dtype=torch.float64)


def reference_scores(
    problem: Problem, fitness_output: FitnessOutput = "auto"
) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """f(x), (B,), and what makes scores of the model's output, decided once on f(x).

    fitness_output: "softmax" (over dimension 1), "identity", a callable of the model's output (R, ...) that returns
    scores of the same form (target is then looked up in them) or one number per row, or "auto": identity if the output
    is one column or all its values lie in [0, 1], softmax otherwise.

    Raises:
        ValueError: "auto" for outputs of more than two dimensions; "softmax" of one column; f(x)
            not positive or not finite, with the examples and the ways out.
    """
    everyone = torch.arange(problem.n_examples, device=problem.inputs[0].device)
    output = problem.raw_outputs_at_inputs()
    transform = fitness_output if callable(fitness_output) else _named_transform(fitness_output, output)
    scores = _select_scores(problem, transform(_wide(output)), everyone)
    bad = ~(torch.isfinite(scores) & (scores > 0))
    if bad.any():
        raise ValueError(
            "the output f(x) must be positive and finite to say how much of it a removal takes, but is not for "
            f"examples {name_rows(bad)} ({', '.join(f'{v:.3g}' for v in scores[bad][:5].tolist())}). Set "
            "fitness_output to something positive ('softmax', or a callable such as torch.exp), or power=0 without "
            "keep for equal weights"
        )
    return scores, transform


def weights(fitness: Tensor, power: float = 1.0) -> Tensor:
    """Weights (B, K), float64, proportional to D**-power and summing to 1 (Duc et al. 2025, section 4.1, App. B.4)."""
    # By the best baseline first: a large power would underflow.
    ratio = fitness.double().amin(1, keepdim=True) / fitness.double()
    raised = ratio**power
    return raised / raised.sum(1, keepdim=True)


def of_normalised_maps(weights: Tensor, norms: Tensor) -> Tensor:
    """The weights (B, K) of maps that are proportional to w_k / ||map_k||_1, and sum to 1.

    The average by them is that of the maps divided by their norms (B, K) up to one factor per example, which makes it
    complete. A map that is 0 everywhere gets none; if all are, the weights stay as they are.
    """
    norms = norms.to(weights)
    shares = torch.where(norms > 0, weights / norms.where(norms > 0, torch.ones_like(norms)), 0.0)
    total = shares.sum(1, keepdim=True)
    return torch.where(total > 0, shares / total.where(total > 0, torch.ones_like(total)), weights)


def kept_baselines(fitness: Tensor, n_kept: int) -> Tensor:
    """The numbers (B, n_kept) of the baselines with the smallest D_alpha, in ascending order; ties go by position."""
    best = fitness.argsort(dim=1, stable=True)[:, :n_kept]
    return best.sort(dim=1).values


def check_keep(keep: object, n_baselines: int) -> int | None:
    """How many baselines `keep` says: an int counts them, a float in (0, 1] is a share, at least one."""
    if keep is None:
        return None
    if isinstance(keep, numbers.Real) and not isinstance(keep, numbers.Integral) and 0 < float(keep) <= 1:
        return max(1, round(float(keep) * n_baselines))
    if isinstance(keep, numbers.Integral) and not isinstance(keep, bool) and 1 <= int(keep) <= n_baselines:
        return int(keep)
    raise ValueError(
        f"keep must be a whole number from 1 to the number of baselines ({n_baselines}), or a share, a float in (0, "
        f"1]; got {keep!r}"
    )


def check_settings(
    alpha: object,
    tolerance: object,
    max_iterations: object,
    power: object,
    ranking: object,
    fitness: object,
) -> None:
    """The arguments of D_alpha that can be judged without the data."""
    check_number(alpha, "alpha", 0.0, 1.0, open_interval=True)
    check_number(tolerance, "tolerance", 0.0)
    check_positive_int(max_iterations, "max_iterations")
    if check_number(power, "power", 0.0) == math.inf:
        raise ValueError("power must be finite, got inf; keep=1 takes the best baseline alone")
    if ranking not in RANKINGS:
        raise ValueError(f"ranking must be one of {RANKINGS}, got {ranking!r}")
    check_choice(fitness, "fitness", FITNESSES)


def check_fitness_output(fitness_output: object) -> None:
    """fitness_output is a known name or a callable."""
    if not callable(fitness_output) and fitness_output not in FITNESS_OUTPUTS:
        raise ValueError(
            f"fitness_output must be one of {FITNESS_OUTPUTS} or a callable of the output, got {fitness_output!r}"
        )


def _scores(
    problem: Problem, rows: tuple[Tensor, ...], examples: Tensor, transform: Callable[[Tensor], Tensor]
) -> Tensor:
    return _select_scores(problem, transform(_wide(problem.raw_outputs(rows, examples))), examples)


def _select_scores(problem: Problem, scores: Tensor, examples: Tensor) -> Tensor:
    if not (isinstance(scores, Tensor) and scores.ndim == 1 and len(scores) == len(examples)):
        scores = problem.targets.select(scores, examples)
    # A model may answer on another device than it is asked on.
    return scores.to(examples.device)


def _named_transform(name: str, output: Tensor) -> Callable[[Tensor], Tensor]:
    one_column = output.ndim < 2 or (output.ndim == 2 and output.shape[1] == 1)
    if name == "auto":
        if output.ndim > 2:
            raise ValueError(
                f"fitness_output can't be found automatically for outputs of shape {tuple(output.shape)}; say "
                "'softmax' (over dimension 1), 'identity', or give a callable"
            )
        name = "identity" if one_column or bool(((output >= 0) & (output <= 1)).all()) else "softmax"
    if name == "identity":
        return _identity
    if one_column:
        raise ValueError(
            "fitness_output='softmax' of an output of one column is always 1; use 'identity' or torch.sigmoid"
        )
    return _softmax


def _identity(output: Tensor) -> Tensor:
    return output


def _softmax(output: Tensor) -> Tensor:
    return output.softmax(dim=1)


def _wide(output: Tensor) -> Tensor:
    return output.to(torch.promote_types(output.dtype, torch.float32))
