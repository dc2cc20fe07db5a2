"""How well a baseline explains an input: D_alpha, as `Deletion` and `Insertion` define it, and the weights from it.

Shapes: B examples, K baselines, P features, R = B K rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from captum_wg.engine.checks import check_bool, check_choice, check_number, check_positive_int, name_rows, warn
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import beside
from captum_wg.weighting.bisection import bisect
from captum_wg.weighting.maps import Maps
from captum_wg.weighting.masking import RANKINGS, Features, Neutral, neutral_values, ranks
from captum_wg.weighting.output import Output, check_output
from captum_wg.weighting.score import SCORES, Score
from captum_wg.weighting.weights import inverse_power, of_normalised_maps, only, smallest

# What takes the place of removed features: for each element of the inputs (1 or B, *feature).
Values = tuple[Tensor, ...]

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
        score: what is followed down to alpha of its start: "output", f itself, which must be positive; or "distance",
            |f(x) - E f(x'_k)|, on x's side of the mean over the example's baselines (`captum_wg.weighting.score`): for
            regressions and other outputs without a natural zero. The map's sign is then that of f(x) - E f(x'_k): what
            brings f(x) away from the mean, upwards or downwards, is removed first.

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
    score: str = "output"

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
        check_choice(self.score, "score", SCORES)
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
        each = rule.neutral if isinstance(rule.neutral, list) else [rule.neutral]
        channels = problem.inputs[0].shape[1] if problem.inputs[0].ndim == 4 else 0
        if len(each) == channels > 1 and all(isinstance(one, int | float) for one in each):
            raise ValueError(
                f"neutral={each!r} would be {channels} searches with one number each. For one value per channel give a "
                f"Tensor of shape ({channels}, 1, 1); for several searches say so with Tensors or names"
            )
        neutrals = [neutral_values(problem.inputs, one, auto=problem.neutral) for one in each]
        self._searches = [(neutral, way) for neutral in neutrals for way in rule.ways]
        self._score: Score | None = None

    def needs_maps(self, n_baselines: int, fewer: bool) -> bool:
        return n_baselines > 1 and (self._rule.normalise_maps or self._needs_search(fewer))

    def check(self, fewer: bool) -> None:
        if self._needs_search(fewer):
            self.take_score()

    def take_score(self) -> Score:
        """What the searches follow, and its value at the inputs."""
        self._problem.refuse_together("weights are searched one row at a time; use weighting='equal'")
        if self._score is None:
            self._score = Score(self._problem, self._rule.output, self._rule.score)
        return self._score

    def __call__(self, maps: Maps, n_kept: int | None = None) -> Tensor:
        if self._needs_search(n_kept is not None):
            alike = self._rule.power == 0 or n_kept == 1
            distances = self.distances(maps, n_kept, which_only=alike)
        else:
            distances = torch.ones(self._problem.n_examples, maps.count)
        return self._rule.weights(distances, maps.norms() if self._rule.normalise_maps else None, n_kept)

    def choose(self, maps: Maps, n_kept: int) -> Tensor:
        return smallest(self.distances(maps, n_kept, which_only=True), n_kept)

    def distances(self, maps: Maps, n_best: int | None = None, which_only: bool = False) -> Tensor:
        """D_alpha of each baseline's map, (B, K): int64; float64 on the CPU if it is the mean of several searches.

        Each step of a search is one sweep of masked forwards over all open rows of the B K. Where s(x) is 0 nothing is
        searched, and D_alpha is P.

        Args:
            maps: the baselines' own attributions.
            n_best, which_only: only the n_best of each example, and only so far as to tell which these are; see
                `bisect`. A mean of several searches needs all of them.

        Warns:
            UserWarning: for some example no baseline's removal ever reaches alpha f(x), so that its D_alpha are all P,
                or an insertion starts above it, so that they are all 1: the baselines can't be told apart.
        """
        rule, problem, count = self._rule, self._problem, maps.count
        reference = self.take_score().at_inputs
        of_row = _everyone(problem).repeat_interleave(count)
        searched = reference > 0
        # Rows without any feature to remove are closed from the start.
        open_counts = torch.where(searched, self._features.counts, 0)[of_row]
        places = self._places(maps, of_row)
        alone = len(self._searches) == 1
        steps = min(rule.max_iterations, math.ceil(math.log2(self._features.count + 1)))
        answers: list[Tensor] = []
        reachable = ~searched
        forwards = [len(of_row) * steps + problem.n_examples * (way == "insertion") for _, way in self._searches]
        with problem.progress(sum(forwards), "fitness") as bar:
            for neutral, way in self._searches:
                answer, possible = bisect(
                    partial(self._falling_score, places, of_row, neutral, way, bar),
                    reference[of_row],
                    open_counts,
                    rule.alpha,
                    rule.tolerance,
                    rule.max_iterations,
                    count,
                    n_best if alone else None,
                    which_only and alone,
                )
                answers.append(torch.where(searched[of_row], answer, self._features.counts[of_row]))
                if way == "deletion":
                    reachable |= possible.view(-1, count).any(1)
                elif searched.any():
                    # An insertion always ends at x; it tells nothing if it starts, with nothing left, above the target.
                    one = torch.arange(0, len(of_row), count, device=of_row.device)
                    everything = torch.full_like(one, self._features.count)
                    emptied = self._falling_score(places, of_row, neutral, "deletion", bar, one, everything)
                    reachable |= emptied < rule.alpha * reference
        if not reachable.all():
            what, value = _UNREACHABLE[rule.ways]
            start = "f(x)" if rule.score == "output" else "its distance from the baselines' outputs"
            warn(
                f"for examples {name_rows(~reachable)} {what} alpha = {rule.alpha} of {start}: D_alpha is {value} for "
                "all their baselines, which therefore can't be told apart and weigh the same (as in ExpectedGradients; "
                "keep takes the first). Choose another neutral, alpha or output, such as "
                f"weighting={type(rule).__name__}(neutral='blur')"
            )
        return (answers[0] if alone else geometric_mean(torch.stack(answers))).view(-1, count)

    def _needs_search(self, fewer: bool) -> bool:
        return self._rule.power > 0 or fewer

    def _places(self, maps: Maps, of_row: Tensor) -> Tensor:
        """The place of each feature in the order of removal, (B K, P)."""
        sign = self.take_score().sign
        places = torch.empty(len(of_row), self._features.count, dtype=torch.int32, device=of_row.device)
        for part in torch.split(torch.arange(len(of_row), device=of_row.device), self._problem.rows()):
            rows = maps.rows(part)
            if sign is not None:
                rows = tuple(r * beside(sign[of_row[part]].to(r), r) for r in rows)
            places[part] = ranks(self._features.scores(rows, self._rule.ranking, of_row[part]))
        return places

    def _falling_score(
        self, places: Tensor, of_row: Tensor, neutral: Values, way: str, bar: Any, rows: Tensor, counts: Tensor
    ) -> Tensor:
        """s of some rows with the first features removed, so many of each row; or mirrored, with the others removed."""
        problem, score, parts = self._problem, self.take_score(), []
        for part, count in zip(*(torch.split(v, problem.rows()) for v in (rows, counts)), strict=True):
            examples = of_row[part]
            removed = (places[part] < count.unsqueeze(1)) == (way == "deletion")
            inputs = tuple(x[examples] for x in problem.inputs)
            values = tuple(v[examples] if len(v) > 1 else v for v in neutral)
            masked = self._features.remove(inputs, values, removed, examples)
            parts.append(score(problem.raw_outputs(masked, examples), examples))
            bar.update(len(part))
        found = torch.cat(parts)
        # The search is for a falling score: a rising one is mirrored at its target.
        return found if way == "deletion" else 2 * self._rule.alpha * score.at_inputs[of_row[rows]].to(found) - found


def _everyone(problem: Problem) -> Tensor:
    return torch.arange(problem.n_examples, device=problem.inputs[0].device)


def geometric_mean(values: Tensor) -> Tensor:
    """The geometric mean over dimension 0 of positive whole numbers (M, R): (R,), float64 on the CPU.

    Of the exact products, so that equal ones give equal means and ties are settled by position.
    """
    # Products of many counts are beyond int64, and float64 is not on every device.
    products = [math.prod(row) for row in values.T.tolist()]
    return torch.tensor([math.exp(math.log(product) / len(values)) for product in products], dtype=torch.float64)
