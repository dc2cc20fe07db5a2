"""Weighted Gradients: integrated gradients averaged over baselines, each weighted by how well it explains the input."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch
from torch import Tensor

from captum_wg.attribution_base import (
    AttributionResult,
    CompleteAttribution,
    check_smooth_maps,
    groups_of,
    logged,
    logged_overload,
)
from captum_wg.engine.baseline_set import Baselines, BaselineSet
from captum_wg.engine.checks import check_bools
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import In, Inputs, accumulation_dtype, as_tuple
from captum_wg.integrals.average import average, integrals, whole_paths
from captum_wg.integrals.from_arguments import Steps, steps_rule, warn_of_cost
from captum_wg.integrals.rule import Rule, Sums
from captum_wg.smoothing import Smooth
from captum_wg.weighting.binding import NAMED, Weighting, bind
from captum_wg.weighting.fitness import FitnessWeighting
from captum_wg.weighting.maps import PathMaps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import check_keep, equal_weights


class WeightedGradients(CompleteAttribution):
    """Integrated gradients averaged over K baselines with weights by their fitness for this very input:

        phi_i(x) = sum_k w_k IG_i(x, x'_k),      w_k = (1 / D_alpha(x, x'_k)) / sum_j 1 / D_alpha(x, x'_j),

    where D_alpha(x, x'_k) is the least number of features, in the order of IG(x, x'_k), whose removal brings f(x) down
    to alpha f(x); other rules are a matter of `weighting`. Completeness: sum_i phi_i = F(x) - sum_k w_k F(x'_k). One
    baseline: weight 1, no fitness is run, and this is IntegratedGradients. weighting="equal": ExpectedGradients.

    Duc et al. 2025, "Weighted Average Gradients for Feature Attribution". Departures: every integral is a quadrature
    of n_steps points (the published code takes one random point); the branches of Algorithm 1 stand the right way
    round; the tolerance is relative to f(x) (there absolute, 0.01 or 0.005); what the search returns is said in
    `captum_wg.weighting.bisection.bisect`; features are ranked by the signed map unless Deletion(ranking="absolute")
    (the published code): the ranking should be that of the metric that judges the result. All are searched at once: at
    most B * K * ceil(log2(P + 1)) masked forwards beside the B * K * n_steps gradients; fewer with keep.

    Beyond the paper: a fitness over several removals (Deletion(neutral=[...])), as weights from one partly overfit it,
    by insertion (`Insertion`, `Both`), and maps of equal L1 norm (normalise_maps).

    Args:
        forward_func, baselines: as in `CompleteAttribution`.
        multiply_by_inputs: False leaves the factor x - x'_k out of the maps, which are then ranked and averaged so.

    Examples:
        >>> net = lambda z: z @ torch.tensor([1.0, 2.0, 3.0, 4.0])
        >>> x = torch.ones(1, 4)
        >>> baselines = torch.tensor([[0.0, 0, 0, 0], [1.0, 1, 0, -1], [1.0, -1, 1, 1]])
        >>> method = WeightedGradients(net)
        >>> method.fitness(x, baselines)  # features that must go until f(x) = 10 is halved
        tensor([[2, 2, 3]])
        >>> result = method.attribute(x, baselines, return_weights=True)
        >>> result.weights  # 1/2, 1/2 and 1/3 of their sum
        tensor([[0.3750, 0.3750, 0.2500]])
        >>> result.attributions
        tensor([[0.3750, 1.7500, 2.2500, 4.5000]])
    """

    _has_weights = True

    # A flag of which no more is known than that it is a bool may still be False.
    @overload
    def attribute(  # type: ignore[overload-overlap]
        self,
        inputs: In,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: Literal[False] = False,
        *,
        pairing: str | None = None,
        show_progress: bool | None = None,
        weighting: Weighting = "deletion",
        keep: int | float | None = None,
        screening_steps: int | None = None,
        feature_mask: Inputs | None = None,
        smooth: Smooth = None,
        group_attributions: Literal["broadcast"] | None = None,
        return_weights: Literal[False] = False,
        return_steps: Literal[False] = False,
    ) -> In: ...

    @overload
    def attribute(
        self, inputs: In, *args: Any, return_convergence_delta: bool, **kwargs: Any
    ) -> AttributionResult[In]: ...

    @overload
    def attribute(self, inputs: In, *args: Any, return_weights: bool, **kwargs: Any) -> AttributionResult[In]: ...

    @overload
    def attribute(self, inputs: In, *args: Any, return_steps: bool, **kwargs: Any) -> AttributionResult[In]: ...

    @overload
    def attribute(self, inputs: In, *args: Any, group_attributions: str | None, **kwargs: Any) -> Any: ...

    @logged_overload
    def attribute(
        self,
        inputs: In,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        pairing: str | None = None,
        show_progress: bool | None = None,
        weighting: Weighting = "deletion",
        keep: int | float | None = None,
        screening_steps: int | None = None,
        feature_mask: Inputs | None = None,
        smooth: Smooth = None,
        group_attributions: str | None = None,
        return_weights: bool = False,
        return_steps: bool = False,
    ) -> Any:
        """Weighted gradients of inputs.

        Args:
            inputs, baselines, target, additional_forward_args, n_steps, method, internal_batch_size: as in
                `ExpectedGradients.attribute`; the tolerance of automatic steps holds for each baseline's own integral.
            pairing, show_progress, return_steps: as there; the steps are 0 for baselines left out by screening.
            return_convergence_delta: also return sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,).
            weighting: "deletion" (the paper), "insertion", "both" or "equal"; one of `Deletion`, `Insertion`, `Both`,
                `Equal` of captum_wg with its settings; or a callable (problem, maps) -> weights (B, K)
                (`captum_wg.weighting.binding`).
            keep: average over the fittest baselines only: an int counts them, a float in (0, 1] is a share of K.
            screening_steps: with keep: choose the baselines by maps of this many steps, and spend n_steps on those kept
                alone; their weights come from the D_alpha of their full maps. Where the points of the coarse rule are
                among those of the full one their gradients are used again ("riemann_middle" with n_steps an odd
                multiple of screening_steps; `captum_wg.integrals.nodes.continuation`); automatic steps go on from them.
            feature_mask: integer group numbers (1 or B, *feature), as in Captum; D_alpha then counts groups. By default
                features are pixels for (B, C, H, W), voxels for (B, C, D, H, W), elements otherwise, of a tuple in one
                list (`captum_wg.weighting.masking` has a table).
            smooth: as in `ExpectedGradients.attribute`; of what is returned, not of the maps that are ranked.
            group_attributions: return the groups of feature_mask as one number each, "sum" or "broadcast", as in
                `ExpectedGradients.attribute`; None: elements' own attributions, the mask being D_alpha's alone.
            return_weights: also return the weights, (B, K), 0 for baselines left out.

        Returns:
            As `ExpectedGradients.attribute`; the weights come between the delta and the steps.

        Raises:
            TypeError, ValueError: as there. f(x) is not finite with more than one baseline.

        Warns:
            UserWarning: for some example f(x) <= 0 (weighting=Deletion(score="distance") is for that), no removal
                reaches alpha f(x), or an insertion starts above it, so that its weights are equal.
        """
        check_bools(return_convergence_delta=return_convergence_delta, return_weights=return_weights)
        refinable = steps_rule(n_steps, method, return_steps)
        problem, references = self._problem(
            inputs, baselines, target, additional_forward_args, pairing, internal_batch_size, show_progress
        )
        features = _features(problem, feature_mask)
        groups = groups_of(problem, feature_mask, group_attributions)
        check_smooth_maps(problem, smooth)
        weigher = bind(weighting, problem, features)
        n_baselines, n_kept = references.count, check_keep(keep, references.count)
        coarse = None if screening_steps is None else refinable.coarse(screening_steps)
        if coarse is not None and keep is None:
            raise ValueError("screening_steps chooses which baselines to keep; give keep too")
        fewer = n_kept < n_baselines
        warn_of_cost(refinable if coarse is None else coarse, n_baselines)
        if n_baselines > 1:
            weigher.check(fewer)
        completeness = Completeness(problem, references)

        rule: Rule = refinable
        kept: Tensor | None = None
        done: Sums | None = None
        if fewer and coarse is not None and screening_steps is not None:
            parts = coarse.parts(problem, references, completeness, what="screening")
            sums, _ = integrals(problem, parts, n_baselines)
            kept = weigher.choose(self._maps(problem, references, sums, features), n_kept).to(sums[0].device)
            rows = torch.arange(problem.n_examples, device=kept.device).unsqueeze(1)
            rule, done = refinable.going_on(screening_steps, tuple(s[rows, kept] for s in sums))
            del sums
            completeness, references, fewer = completeness.of(kept), references.choose(kept), False

        n_left = references.count
        if weigher.needs_maps(n_left, fewer) or done is not None:
            parts = rule.parts(problem, references, completeness, each=True)
            sums, steps = integrals(problem, parts, n_left, into=done)
            weights = weigher(self._maps(problem, references, sums, features), n_kept if fewer else None)
            parts = whole_paths(problem, references, sums, weights)
            totals, _ = average(problem, parts, self._multiply_by_inputs, n_left)
        else:
            # Equal weights: nothing to fit, and no need to keep a map for each baseline.
            weights = equal_weights(problem.n_examples, n_left)
            parts = rule.parts(problem, references, completeness)
            totals, steps = average(problem, parts, self._multiply_by_inputs, n_left)

        attributions, counted = self._finish(problem, totals, smooth, groups)
        if not (return_convergence_delta or return_weights or return_steps):
            return attributions
        weights = weights.to(totals[0])
        return AttributionResult(
            attributions,
            completeness.delta(counted, weights) if return_convergence_delta else None,
            _of_all(weights, kept, n_baselines) if return_weights else None,
            _of_all(steps, kept, n_baselines) if return_steps and steps is not None else None,
        )

    @logged
    def fitness(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: Steps = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        *,
        pairing: str | None = None,
        show_progress: bool | None = None,
        weighting: str | FitnessWeighting = "deletion",
        feature_mask: Inputs | None = None,
    ) -> Tensor:
        """D_alpha of each baseline for each example, (B, K), in number of features from 1 to P; small is good.

        Arguments as in `attribute`; weighting is "deletion", "insertion", "both" or an object of theirs. int64;
        floating point where it is the geometric mean of several searches.
        """
        rule = steps_rule(n_steps, method)
        made = NAMED[weighting]() if isinstance(weighting, str) and weighting in NAMED else weighting
        if not isinstance(made, FitnessWeighting):
            raise TypeError(
                "weighting must be 'deletion', 'insertion', 'both' or an object such as Deletion(alpha=0.5) to have a "
                f"fitness, got {weighting!r}"
            )
        problem, references = self._problem(
            inputs, baselines, target, additional_forward_args, pairing, internal_batch_size, show_progress
        )
        features = _features(problem, feature_mask)
        weigher = made.bind(problem, features)
        weigher.take_score()
        parts = rule.parts(problem, references, Completeness(problem, references), each=True)
        sums, _ = integrals(problem, parts, references.count)
        distances = weigher.distances(self._maps(problem, references, sums, features))
        if distances.is_floating_point():
            distances = distances.to(accumulation_dtype(*problem.inputs))
        return distances.to(problem.inputs[0].device)

    def _maps(self, problem: Problem, references: BaselineSet, sums: Sums, features: Features) -> PathMaps:
        return PathMaps(problem.inputs, references, sums, self._multiply_by_inputs, features)


def _features(problem: Problem, feature_mask: Inputs | None) -> Features:
    return Features(problem.inputs, problem.feature_mask if feature_mask is None else as_tuple(feature_mask))


def _of_all(values: Tensor, kept: Tensor | None, n_baselines: int) -> Tensor:
    """values (B, M) of the baselines kept, 0 for the others, (B, K)."""
    if kept is None:
        return values
    everyone = torch.zeros(len(values), n_baselines, dtype=values.dtype, device=values.device)
    return everyone.scatter_(1, kept, values)
