"""How well a baseline explains an input: D_alpha, and the weightings that follow from it.

D_alpha (Duc et al. 2025, Eq. 7) is the least number of features, taken in the order of the baseline's own map, whose
removal brings the output down to a share alpha of what it was. A small D_alpha is a good baseline. Its insertion twin
is the least number whose restoring, in the same order, into an input with every feature removed brings the output up
to that share. Shapes: B examples, K baselines, P features, R = B K rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from captum_wg.engine.checks import check_bool, check_choice, check_number, check_positive_int, name_rows, warn
from captum_wg.engine.problem import Problem
from captum_wg.weighting.bisection import bisect
from captum_wg.weighting.maps import Maps
from captum_wg.weighting.masking import RANKINGS, Features, Neutral, neutral_values, ranks
from captum_wg.weighting.output import Output, OutputTransform, check_output
from captum_wg.weighting.weights import equal_weights, inverse_power, of_normalised_maps, only, smallest

Neutrals = Sequence[tuple[Tensor, ...]]

# What is said, and what D_alpha is, where the baselines can't be told apart.
_UNREACHABLE = {
    ("deletion",): ("not even removing every feature brings the output down to", "P"),
    ("insertion",): ("removing every feature leaves the output above", "1"),
    ("deletion", "insertion"): ("removing every feature leaves the output above", "P by deletion and 1 by insertion"),
}


@dataclass(frozen=True)
class FitnessWeighting:
    """Weights by how few features of a baseline's own map it takes: w_k = D_alpha,k^-power / sum_j D_alpha,j^-power.

    Called as weighting(problem, maps), as any weighting rule is (`captum_wg.weighting.binding`).

    Args:
        alpha: the share of f(x) to come down to, in (0, 1).
        tolerance: how near to alpha f(x), relative to f(x), ends a search; 0: the exact minimum of a monotone curve.
        max_iterations: of the search; it needs ceil(log2(P + 1)).
        neutral: what a removed feature is replaced by: "auto" (the image's corners for (B, C, H, W), else 0; at a layer
            the mean activation of the baselines), "corners", "mean", "blur", "black", a number, a Tensor that
            broadcasts to the input, or a callable of the input; for a tuple of inputs possibly a tuple of these. A list
            of these: one search with each, and D_alpha is the geometric mean.
        ranking: the order of removal: "signed" (sum over channels) or "absolute" (sum of absolute values).
        output: f out of the model's output: "auto" (the output itself if it is one column or, for this example, a
            distribution; its softmax otherwise), "softmax", "sigmoid", "identity", or a callable. What is attributed is
            forward_func as given in any case.
        power: the exponent of the weights, >= 0 (the paper's appendix allows 1 to 2); 0: equal weights.
        normalise_maps: divide each baseline's map by its L1 norm before it is weighted, so that no baseline counts for
            more because its map is larger. One factor per example then restores completeness, so that w_k is
            proportional to D_alpha^-power / ||IG_k||_1. A map of zeros gets no weight.

    Raises:
        TypeError, ValueError: a setting that can't be, by its name.
    """

    alpha: float = 0.5
    tolerance: float = 0.01
    max_iterations: int = 100
    neutral: Neutral | list[Neutral] = "auto"
    ranking: str = "signed"
    output: Output = "auto"
    power: float = 1.0
    normalise_maps: bool = False

    # Which searches D_alpha is the geometric mean of, each with each neutral.
    ways: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not self.ways:
            raise TypeError("FitnessWeighting is what Deletion, Insertion and Both have in common; make one of these")
        check_number(self.alpha, "alpha", 0.0, 1.0, open_interval=True)
        check_number(self.tolerance, "tolerance", 0.0)
        check_positive_int(self.max_iterations, "max_iterations")
        if check_number(self.power, "power", 0.0) == math.inf:
            raise ValueError("power must be finite, got inf; keep=1 takes the best baseline alone")
        check_choice(self.ranking, "ranking", RANKINGS)
        check_output(self.output)
        check_bool(self.normalise_maps, "normalise_maps")
        if isinstance(self.neutral, list) and not self.neutral:
            raise ValueError("neutral is an empty list; give at least one of them, such as neutral='auto'")

    def __call__(self, problem: Problem, maps: Maps) -> Tensor:
        return self.bind(problem, maps.features)(maps)

    def bind(self, problem: Problem, features: Features) -> BoundFitness:
        """The weighting for the examples of one call."""
        return BoundFitness(self, problem, features)

    def distances(self, problem: Problem, maps: Maps) -> Tensor:
        """D_alpha of each baseline, (B, K): int64, float64 where it is the geometric mean of several searches."""
        return self.bind(problem, maps.features).distances(maps)

    def weights(self, distances: Tensor, norms: Tensor | None = None, n_kept: int | None = None) -> Tensor:
        """The weights (B, K), float64, that follow from D_alpha (B, K), the maps' norms and how many are kept."""
        distances = distances.cpu()  # few, and in float64, which not every device has
        weights = inverse_power(distances, self.power)
        if n_kept is not None:
            weights = only(weights, smallest(distances, n_kept))
        return of_normalised_maps(weights, norms.cpu()) if self.normalise_maps and norms is not None else weights


class BoundFitness:
    """A `FitnessWeighting` for the examples of one call; f(x) is taken once, and only if a search is asked for."""

    def __init__(self, rule: FitnessWeighting, problem: Problem, features: Features):
        self._rule = rule
        self._problem = problem
        self._features = features
        neutral = rule.neutral
        each = neutral if isinstance(neutral, list) else [neutral]
        channels = problem.inputs[0].shape[1] if problem.inputs[0].ndim == 4 else 0
        if len(each) == channels > 1 and all(isinstance(one, int | float) for one in each):
            raise ValueError(
                f"neutral={each!r} would be {channels} searches with one number each. For one value per channel give a "
                f"Tensor of shape ({channels}, 1, 1); for several searches say so with Tensors or names"
            )
        self._neutrals = [neutral_values(problem.inputs, one, auto=problem.neutral) for one in each]
        self._reference: tuple[Tensor, OutputTransform | None] | None = None

    def needs_maps(self, n_baselines: int, fewer: bool) -> bool:
        """Whether the weights of K baselines, of which fewer are kept or not, depend on their maps."""
        return n_baselines > 1 and (self._rule.normalise_maps or self._searches(fewer))

    def check(self, fewer: bool) -> None:
        """Raise now, before gradients are spent, if f(x) shows that there can be no search."""
        if self._searches(fewer):
            self.take_reference()

    def take_reference(self) -> tuple[Tensor, OutputTransform | None]:
        """f(x) and what makes scores of the model's output."""
        self._problem.refuse_together("weights are searched one row at a time; use weighting='equal'")
        if self._reference is None:
            self._reference = reference_scores(self._problem, self._rule.output)
        return self._reference

    def __call__(self, maps: Maps, n_kept: int | None = None) -> Tensor:
        """Weights (B, K), float64, 0 for all but the n_kept fittest."""
        norms = maps.norms() if self._rule.normalise_maps else None
        if self._searches(n_kept is not None):
            alike = self._rule.power == 0 or n_kept == 1
            return self._rule.weights(self.distances(maps, n_kept, alike), norms, n_kept)
        equal = equal_weights(self._problem.n_examples, maps.count)
        return equal if norms is None else of_normalised_maps(equal, norms)

    def choose(self, maps: Maps, n_kept: int) -> Tensor:
        """The numbers (B, n_kept) of the fittest baselines, ascending."""
        return smallest(self.distances(maps, n_kept, which_only=True), n_kept)

    def distances(self, maps: Maps, n_best: int | None = None, which_only: bool = False) -> Tensor:
        """D_alpha (B, K); with n_best of the fittest alone, which_only: so far as to tell which these are."""
        reference, transform = self.take_reference()
        return d_alpha(
            self._problem,
            maps,
            reference,
            transform,
            self._features,
            self._neutrals,
            alpha=self._rule.alpha,
            tolerance=self._rule.tolerance,
            max_iterations=self._rule.max_iterations,
            ranking=self._rule.ranking,
            ways=self._rule.ways,
            n_best=n_best,
            which_only=which_only,
        )

    def _searches(self, fewer: bool) -> bool:
        return self._rule.power > 0 or fewer


def d_alpha(
    problem: Problem,
    maps: Maps,
    reference: Tensor,
    transform: OutputTransform | None,
    features: Features,
    neutrals: Neutrals,
    *,
    alpha: float = 0.5,
    tolerance: float = 0.01,
    max_iterations: int = 100,
    ranking: str = "signed",
    ways: tuple[str, ...] = ("deletion",),
    n_best: int | None = None,
    which_only: bool = False,
) -> Tensor:
    """D_alpha of each baseline's map, (B, K) int64, in number of features; float64 if it is the mean of several.

    Each step of the bisection is one sweep of masked forwards over all open rows of the B K, in micro-batches.

    Args:
        problem: the explained function and inputs.
        maps: the baselines' own attributions.
        reference, transform: f(x) and what makes scores of the model's output, from `reference_scores`. Where f(x) is
            0 nothing is searched, and D_alpha is P.
        features, neutrals: what is ranked and removed, and what takes its place (`captum_wg.weighting.masking`). Of
            several neutrals, each with a search of its own, the result is the geometric mean over them.
        alpha, tolerance, max_iterations: see `captum_wg.weighting.bisection.bisect`.
        ranking: "signed" or "absolute".
        ways: "deletion", "insertion", or both, of which the result is the geometric mean.
        n_best, which_only: the search only for the n_best baselines of each example, see `bisect`; a mean of several
            searches needs all of them.

    The result of one search is on the inputs' device, the mean of several on the CPU.

    Warns:
        UserWarning: for some example no baseline's removal ever reaches alpha f(x), so that its D_alpha are all P, or
            an insertion starts above it, so that they are all 1: the baselines can't be told apart.
    """
    n_baselines = maps.count
    n_rows = problem.rows()
    device = problem.inputs[0].device
    examples = torch.arange(problem.n_examples, device=device).repeat_interleave(n_baselines)
    references = reference.repeat_interleave(n_baselines)
    searched = reference > 0
    # Rows without any feature to remove are closed from the start.
    counts = torch.where(searched, features.counts, 0)[examples]

    places = torch.empty(len(examples), features.count, dtype=torch.int32, device=device)
    for part in torch.split(torch.arange(len(examples), device=device), n_rows):
        scores = features.scores(maps.rows(part), ranking, examples[part])
        places[part] = ranks(scores)

    def score(rows: Tensor, count: Tensor, neutral: tuple[Tensor, ...], way: str) -> Tensor:
        parts = []
        for part, of_part in zip(torch.split(rows, n_rows), torch.split(count, n_rows), strict=True):
            of = examples[part]
            first = places[part] < of_part.unsqueeze(1)
            masked = features.remove(
                tuple(x[of] for x in problem.inputs),
                tuple(v[of] if v.shape[0] > 1 else v for v in neutral),
                first if way == "deletion" else ~first,
                of,
            )
            parts.append(scores_of(problem, masked, of, transform))
            bar.update(len(part))
        found = torch.cat(parts)
        # The search is for a falling score: a rising one is mirrored at its target.
        return found if way == "deletion" else 2 * alpha * references[rows].to(found) - found

    def emptied(neutral: tuple[Tensor, ...]) -> Tensor:
        """f with every feature removed, (B,)."""
        everyone, parts = torch.arange(problem.n_examples, device=device), []
        for part in torch.split(everyone, n_rows):
            masked = features.remove(
                tuple(x[part] for x in problem.inputs),
                tuple(v[part] if v.shape[0] > 1 else v for v in neutral),
                torch.ones(len(part), features.count, dtype=torch.bool, device=device),
                part,
            )
            parts.append(scores_of(problem, masked, part, transform))
        return torch.cat(parts)

    steps = min(max_iterations, math.ceil(math.log2(features.count + 1)))
    searches = [(neutral, way) for neutral in neutrals for way in ways]
    answers: list[Tensor] = []
    reachable = ~searched
    with problem.progress(len(examples) * steps * len(searches), "fitness") as bar:
        for neutral, way in searches:
            answer, possible = bisect(
                partial(score, neutral=neutral, way=way),
                references,
                counts,
                alpha,
                tolerance,
                max_iterations,
                n_baselines,
                n_best if len(searches) == 1 else None,
                which_only and len(searches) == 1,
            )
            answers.append(torch.where(searched[examples], answer, features.counts[examples]))
            if way == "deletion":
                reachable |= possible.view(-1, n_baselines).any(1)
            elif searched.any():
                # An insertion always ends at x; it tells nothing if it starts above the target.
                reachable |= emptied(neutral) < alpha * reference
    if not reachable.all():
        what, value = _UNREACHABLE[ways]
        warn(
            f"for examples {name_rows(~reachable)} {what} alpha = {alpha} of f(x): D_alpha is {value} for all their "
            "baselines, which therefore weigh the same there (as in ExpectedGradients), and keep takes the first. "
            "Choose another neutral, alpha or output"
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


def reference_scores(problem: Problem, output: Output = "auto") -> tuple[Tensor, OutputTransform | None]:
    """f(x), (B,), and what makes scores of the model's output (`captum_wg.weighting.output`).

    A callable's scores are one number per row, or of the model's form, and target is then looked up in them. f(x) is 0
    where it can't be said how much of it a removal takes: it is not positive, or "auto" does not know what it is.

    Raises:
        ValueError: as `OutputTransform`; f(x) is NaN or infinite.

    Warns:
        UserWarning: examples of which f(x) is 0 in this sense, and the ways out.
    """
    everyone = torch.arange(problem.n_examples, device=problem.inputs[0].device)
    raw = problem.raw_outputs_at_inputs()
    if output == "auto" and raw.ndim > 2:
        warn(
            f"outputs of shape {tuple(raw.shape)} do not tell how much of f(x) a removal takes: all baselines weigh "
            "the same, as in ExpectedGradients. Say what f is by the weighting's output: Deletion(output='softmax') "
            "(over dimension 1), 'sigmoid', 'identity' or a callable"
        )
        return torch.zeros(problem.n_examples, device=everyone.device), None
    transform = OutputTransform(output, raw)
    scores = _select_scores(problem, transform(raw, everyone), everyone)
    bad = ~torch.isfinite(scores)
    if bad.any():
        raise ValueError(f"the output f(x) is NaN or infinite for examples {name_rows(bad)}; check the model there")
    low = scores <= 0
    if low.any():
        warn(
            f"the output f(x) of examples {name_rows(low)} is not positive "
            f"({', '.join(f'{v:.3g}' for v in scores[low][:5].tolist())}; exactly 0 is often a head that was never "
            "trained), so it can't be said how much of it a removal takes: their baselines all weigh the same, as in "
            "ExpectedGradients. Say what f is by the weighting's output: Deletion(output='softmax'), 'sigmoid' or a "
            "callable such as torch.exp"
        )
    return scores.clamp(min=0), transform


def scores_of(
    problem: Problem, rows: tuple[Tensor, ...], examples: Tensor, transform: OutputTransform | None
) -> Tensor:
    """f at one micro-batch of rows (R, *feature) of `examples` (R,): (R,)."""
    output = problem.raw_outputs(rows, examples)
    return _select_scores(problem, output if transform is None else transform(output, examples), examples)


def _select_scores(problem: Problem, scores: Tensor, examples: Tensor) -> Tensor:
    if not (isinstance(scores, Tensor) and scores.ndim == 1 and len(scores) == len(examples)):
        scores = problem.targets.select(scores, examples)
    # A model may answer on another device than it is asked on.
    return scores.to(examples.device)
