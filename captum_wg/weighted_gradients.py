"""Weighted Gradients: integrated gradients averaged over baselines, each weighted by how well it explains the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from captum_wg.engine.baseline_set import Baselines, BaselineSet, format_baselines, given_or_bound
from captum_wg.engine.checks import Inputs, accumulation_dtype, check_positive_int, like_inputs
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.engine.targets import Target
from captum_wg.expected_gradients import (
    ADAPTIVE,
    adaptive_average,
    convergence_delta,
    expected_difference,
    is_automatic,
    path_average,
    refined_average,
)
from captum_wg.integrals.adaptive import adaptive_integrals
from captum_wg.integrals.automatic import (
    DELTA_TOLERANCE,
    MAX_STEPS,
    check_refinement,
    outputs_at_baselines,
    refined_integrals,
)
from captum_wg.integrals.nodes import Rule, continuation, nodes_and_weights
from captum_wg.integrals.walk import along, quadrature_paths
from captum_wg.weighting import fitness as fit
from captum_wg.weighting.masking import Features, Neutral, neutral_values


class WeightedGradients(GradientAttribution):
    """Integrated gradients averaged over K baselines with weights by their fitness for this very input:

        phi_i(x) = sum_k w_k IG_i(x, x'_k),      w_k = D_alpha(x, x'_k)^-power / sum_j D_alpha(x, x'_j)^-power,

    where D_alpha(x, x'_k) is the least number of features, in the order of IG(x, x'_k), whose removal brings f(x) down
    to alpha f(x). Completeness: sum_i phi_i = F(x) - sum_k w_k F(x'_k). One baseline: weight 1, no fitness is run, and
    this is IntegratedGradients. power=0 without keep: ExpectedGradients.

    Duc et al. 2025, "Weighted Average Gradients for Feature Attribution". Departures: every integral is a quadrature
    of n_steps points (the published code takes one random point); the branches of Algorithm 1 stand the right way
    round; the tolerance is relative to f(x) (there absolute, 0.01 or 0.005); what the search returns is said in
    `captum_wg.weighting.fitness.bisect`; features are ranked by the signed map unless ranking="absolute" (the published code).
    The ranking should be that of the metric that judges the result. All examples and baselines are searched at once:
    B * K * ceil(log2(P + 1)) masked forwards at most, beside the B * K * n_steps gradients; fewer with keep, as the
    search leaves out baselines that can't be among the kept any more. (So much for each neutral of a list, twice with
    fitness="both", and then none is left out.)

    Beyond the paper: a fitness over several removals (neutral as a list), its insertion twin (fitness), and maps of
    equal L1 norm (normalise_maps). Weights from one removal partly overfit it.

    Args:
        forward_func: the model, or any function of the inputs, that is explained.
        multiply_by_inputs: False leaves the factor x - x'_k out of the maps, which are then ranked and averaged so.
        baselines: used where `attribute` is given none.
    """

    def __init__(self, forward_func: Callable, multiply_by_inputs: bool = True, baselines: Baselines = None):
        super().__init__(forward_func)
        self.gradient_func = input_gradients
        self._multiply_by_inputs = multiply_by_inputs
        self.baselines = baselines

    @log_usage()
    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int | str = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        return_convergence_delta: bool = False,
        *,
        pairing: str | None = None,
        show_progress: bool = False,
        alpha: float = 0.5,
        tolerance: float = 0.01,
        max_iterations: int = 100,
        power: float = 1.0,
        keep: int | float | None = None,
        screening_steps: int | None = None,
        neutral: Neutral | list[Neutral] = "auto",
        ranking: str = "signed",
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        fitness_output: fit.FitnessOutput = "auto",
        fitness: str = "deletion",
        normalise_maps: bool = False,
        return_weights: bool = False,
        delta_tolerance: float = DELTA_TOLERANCE,
        max_steps: int = MAX_STEPS,
        return_steps: bool = False,
    ) -> Any:
        """Weighted gradients of inputs.

        Args:
            inputs, baselines, target, additional_forward_args, n_steps, method, internal_batch_size, pairing,
                show_progress, max_steps, return_steps: as in `ExpectedGradients.attribute`; the steps are 0 for
                baselines left out by screening.
            delta_tolerance: with n_steps="auto": of the convergence delta of every baseline's own integral, relative to
                the mean over baselines of |F(x) - F(x'_k)|, so that it holds for any weights.
            return_convergence_delta: also return sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,).
            alpha: the share of f(x) to come down to, in (0, 1).
            tolerance: how near to alpha f(x), relative to f(x), ends a search; 0: the exact minimum of a monotone
                curve.
            max_iterations: of the search; it needs ceil(log2(P + 1)).
            power: the exponent of the weights, >= 0 (the paper's appendix allows 1 to 2).
            keep: average over the fittest baselines only: an int counts them, a float in (0, 1] is a share of K.
            screening_steps: with keep: choose the baselines by maps of this many steps, and spend n_steps on those kept
                alone; their weights come from the D_alpha of their full maps. Where the points of the coarse rule are
                among those of the full one their gradients are used again ("riemann_middle" with n_steps an odd
                multiple of screening_steps; `captum_wg.integrals.nodes.continuation`); n_steps="auto" goes on from them.
            neutral: what a removed feature is replaced by: "auto" (the image's corners for (B, C, H, W), else 0),
                "corners", "mean", "blur", "black", a number, a Tensor that broadcasts to the input, or a callable of
                the input; for a tuple of inputs possibly a tuple of these. A list of these: one search with each, and
                D_alpha is the geometric mean.
            ranking: the order of removal: "signed" (sum over channels) or "absolute" (sum of absolute values).
            feature_mask: integer group numbers (1 or B, *feature), as in Captum; D_alpha then counts groups. By default
                features are pixels for (B, C, H, W), elements otherwise, of a tuple in one list.
            fitness_output: f of D_alpha out of the model's output: "auto" (the output itself if it is one column or
                lies in [0, 1], its softmax otherwise), "softmax", "identity", or a callable. What is attributed is
                forward_func as given in any case.
            fitness: "deletion" (the paper); "insertion": the least number of features whose restoring, in the same
                order, into the input with all removed brings f up to alpha f(x); "both": the geometric mean of the two,
                for twice the masked forwards.
            normalise_maps: divide each baseline's map by its L1 norm before it is weighted, so that no baseline counts
                for more because its map is larger. One factor per example then restores completeness, so that
                w_k is proportional to D_alpha^-power / ||IG_k||_1; power=0 needs no fitness. A map of zeros gets no
                weight.
            return_weights: also return the weights, (B, K), 0 for baselines left out.

        Returns:
            The attributions, in the inputs' structure, shape, dtype and device; followed by the delta, the weights
            and the steps if these were asked for.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. f(x) <= 0 or not finite with more
                than one baseline. A NaN or infinite gradient.

        Warns:
            UserWarning: no removal reaches alpha f(x) for some example, or an insertion starts above it, so that its
                weights are equal.
        """
        fit.check_settings(alpha, tolerance, max_iterations, power, ranking, fitness)
        if not isinstance(normalise_maps, bool):
            raise TypeError(f"normalise_maps must be True or False, got {normalise_maps!r}")
        automatic = is_automatic(n_steps, method, return_steps)
        delta_tolerance, max_steps = check_refinement(automatic, delta_tolerance, max_steps)
        own_points = automatic or method == ADAPTIVE
        rule = None if own_points else nodes_and_weights(method, n_steps)  # type: ignore[arg-type]
        problem = self._problem(inputs, target, additional_forward_args, internal_batch_size, show_progress)
        given, pairing = given_or_bound(baselines, self.baselines, pairing)
        references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
        n_kept = fit.check_keep(keep, references.count)
        screening: Rule | None = None
        if screening_steps is not None:
            screening = nodes_and_weights(
                "riemann_shared_end" if own_points else method, screening_steps, "screening_steps"
            )
            if n_kept is None:
                raise ValueError("screening_steps chooses which baselines to keep; give keep too")
        search = _Search(
            problem,
            fitness_output,
            neutral,
            feature_mask,
            dict(alpha=alpha, tolerance=tolerance, max_iterations=max_iterations, ranking=ranking, fitness=fitness),
        )

        n_baselines = references.count
        fewer = n_kept is not None and n_kept < n_baselines
        if n_baselines > 1 and (power > 0 or fewer):
            search.take_reference()
        # What is left to be done for the integrals of the baselines kept: `rule`, on top of `done`.
        kept: Tensor | None = None
        done: tuple[Tensor, ...] | None = None
        at_baselines: Tensor | None = None
        if fewer and screening is not None:
            coarse = self._integrals(problem, references, screening, "screening")
            distances = search.d_alpha(self._maps(problem, references, coarse), n_kept, which_only=True)
            kept = fit.kept_baselines(distances, n_kept).to(problem.inputs[0].device)  # type: ignore[arg-type]
            if return_convergence_delta and not automatic and references.shared:
                # Before each example has its own: K forwards do for all of them.
                at_baselines = outputs_at_baselines(problem, references).gather(1, kept)
            references = references.choose(kept)
            # Automatic steps go on from any number; adaptive ones choose their points anew.
            more = continuation(screening, rule) if rule is not None else (None, 1.0) if automatic else None
            if more is not None:
                rule, factor = more
                rows = torch.arange(problem.n_examples, device=kept.device).unsqueeze(1)
                done = tuple(c[rows, kept] * factor for c in coarse)
            del coarse

        equal = references.count == 1 or (power == 0 and (kept is not None or not fewer))
        normalise = normalise_maps and references.count > 1
        delta: Tensor | None = None
        steps: Tensor | None = None
        if equal and done is None and not normalise:
            # Equal weights: nothing to fit, and no need to keep a map for each baseline.
            weights = torch.full((problem.n_examples, references.count), 1 / references.count, dtype=torch.float64)
            if automatic:
                totals, delta, steps = refined_average(
                    problem, references, delta_tolerance, max_steps, self._multiply_by_inputs
                )
            elif rule is None:
                totals, product = adaptive_average(problem, references, n_steps, self._multiply_by_inputs)  # type: ignore[arg-type]
            else:
                paths = quadrature_paths(problem.inputs, references, rule)
                totals, product = path_average(problem, paths, self._multiply_by_inputs, return_convergence_delta)
        else:
            if automatic:
                begun = None if done is None or screening_steps is None else (screening_steps, done)
                integrals, deltas, steps = self._refined(
                    problem, references, delta_tolerance, max_steps, normalise or not equal, begun
                )
            elif rule is None:
                integrals = self._adaptive(problem, references, n_steps)  # type: ignore[arg-type]
            else:
                integrals = self._integrals(problem, references, rule, into=done)
            maps = self._maps(problem, references, integrals)
            if equal:
                weights = torch.full((problem.n_examples, references.count), 1 / references.count, dtype=torch.float64)
            else:
                left_out = fewer and kept is None
                alike = power == 0 or n_kept == 1
                # Weights are few and in float64, which not every device has.
                distances = search.d_alpha(maps, n_kept if left_out else None, which_only=alike).cpu()
                weights = fit.weights(distances, power)
                if left_out:
                    chosen = fit.kept_baselines(distances, n_kept)  # type: ignore[arg-type]
                    weights = torch.zeros_like(weights).scatter_(1, chosen, weights.gather(1, chosen))
                    weights = weights / weights.sum(1, keepdim=True)
            if normalise:
                weights = fit.of_normalised_maps(weights, maps.norms().cpu())
            totals, product = maps.average(weights, return_convergence_delta and not automatic)
            if automatic:
                delta = (weights * deltas).sum(1).to(product)

        dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
        weights = weights.to(dtype).to(problem.inputs[0].device)
        results: list[Any] = [
            like_inputs(tuple(t.to(x.dtype) for t, x in zip(totals, problem.inputs, strict=True)), problem.is_tuple)
        ]
        if return_convergence_delta:
            if delta is None:
                delta = product - expected_difference(problem, references, weights, at_baselines)
            results.append(delta)
        if return_weights:
            results.append(weights if kept is None else _of_all(weights, kept, n_baselines))
        if return_steps:
            results.append(steps if kept is None or steps is None else _of_all(steps, kept, n_baselines))
        return results[0] if len(results) == 1 else tuple(results)

    def fitness(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int | str = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        *,
        pairing: str | None = None,
        show_progress: bool = False,
        alpha: float = 0.5,
        tolerance: float = 0.01,
        max_iterations: int = 100,
        neutral: Neutral | list[Neutral] = "auto",
        ranking: str = "signed",
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        fitness_output: fit.FitnessOutput = "auto",
        fitness: str = "deletion",
        delta_tolerance: float = DELTA_TOLERANCE,
        max_steps: int = MAX_STEPS,
    ) -> Tensor:
        """D_alpha of each baseline for each example, (B, K), in number of features from 1 to P; small is good.

        Arguments as in `attribute`. int64; floating point where it is the geometric mean of several searches.
        """
        fit.check_settings(alpha, tolerance, max_iterations, 1.0, ranking, fitness)
        automatic = is_automatic(n_steps, method, False)
        delta_tolerance, max_steps = check_refinement(automatic, delta_tolerance, max_steps)
        problem = self._problem(inputs, target, additional_forward_args, internal_batch_size, show_progress)
        given, pairing = given_or_bound(baselines, self.baselines, pairing)
        references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
        search = _Search(
            problem,
            fitness_output,
            neutral,
            feature_mask,
            dict(alpha=alpha, tolerance=tolerance, max_iterations=max_iterations, ranking=ranking, fitness=fitness),
        )
        search.take_reference()
        if automatic:
            integrals, _, _ = self._refined(problem, references, delta_tolerance, max_steps)
        elif method == ADAPTIVE:
            integrals = self._adaptive(problem, references, n_steps)  # type: ignore[arg-type]
        else:
            integrals = self._integrals(problem, references, nodes_and_weights(method, n_steps))  # type: ignore[arg-type]
        distances = search.d_alpha(self._maps(problem, references, integrals))
        if distances.is_floating_point():
            distances = distances.to(accumulation_dtype(*(x.dtype for x in problem.inputs)))
        return distances.to(problem.inputs[0].device)

    @log_usage()
    def compute_convergence_delta(
        self,
        attributions: Inputs,
        start_point: Baselines,
        end_point: Inputs,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        pairing: str | None = None,
        weights: Tensor | None = None,
    ) -> Tensor:
        """sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,), of given attributions and the weights (B, K) they came with.

        start_point are the baselines in any form of `attribute` (None: the constructor's, else zeros), end_point the
        inputs.

        Raises:
            ValueError: no weights for more than one baseline (`attribute(..., return_weights=True)` gives them).
        """
        return convergence_delta(
            self,
            attributions,
            start_point,
            end_point,
            target,
            additional_forward_args,
            pairing,
            weights,
            needs_weights=True,
        )

    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Not implemented, as for Captum's own gradient methods."""
        raise NotImplementedError("attribute_future is not implemented for gradient methods")

    def has_convergence_delta(self) -> bool:
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs

    def _problem(
        self,
        inputs: Inputs,
        target: Target,
        additional_forward_args: object,
        internal_batch_size: int | None,
        show_progress: bool,
    ) -> Problem:
        return Problem(
            self.forward_func,
            self.gradient_func,
            inputs,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
            type(self).__name__,
        )

    def _maps(self, problem: Problem, references: BaselineSet, integrals: tuple[Tensor, ...]) -> _Maps:
        return _Maps(problem.inputs, references, integrals, self._multiply_by_inputs)

    def _refined(
        self,
        problem: Problem,
        references: BaselineSet,
        tolerance: float,
        max_steps: int,
        each: bool = True,
        begun: tuple[int, tuple[Tensor, ...]] | None = None,
    ) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
        """The mean gradient along each path, as in `_integrals`, its delta (B, K) and the points taken (B, K)."""
        integrals = self._empty(problem, references)
        steps = torch.zeros(integrals[0].shape[:2], dtype=torch.long, device=integrals[0].device)
        deltas = []
        for part in refined_integrals(problem, references, tolerance, max_steps, each, begun):
            for whole, own in zip(integrals, part.sums, strict=True):
                whole[part.examples] = own
            steps[part.examples] = part.steps.to(steps.device)
            deltas.append(part.deltas)
        return integrals, torch.cat(deltas), steps

    def _adaptive(self, problem: Problem, references: BaselineSet, n_steps: int) -> tuple[Tensor, ...]:
        """The mean gradient along each path, as in `_integrals`, at points that suit each path."""
        check_positive_int(n_steps, "n_steps")
        integrals = self._empty(problem, references)
        for part in adaptive_integrals(problem, references, n_steps):
            for whole, own in zip(integrals, part.sums, strict=True):
                whole[part.example, part.baselines] = own[0]
        return integrals

    def _empty(self, problem: Problem, references: BaselineSet) -> tuple[Tensor, ...]:
        dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
        shape = problem.n_examples, references.count
        return tuple(torch.empty(*shape, *x.shape[1:], dtype=dtype, device=x.device) for x in problem.inputs)

    def _integrals(
        self,
        problem: Problem,
        references: BaselineSet,
        rule: Rule,
        what: str = "gradients",
        into: tuple[Tensor, ...] | None = None,
    ) -> tuple[Tensor, ...]:
        """The mean gradient along each path by a rule, (B, K, *feature) for each element; added to `into` if given."""
        paths = quadrature_paths(problem.inputs, references, rule)
        dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
        n_examples, n_baselines = problem.n_examples, references.count
        sums = into or tuple(
            torch.zeros(n_examples, n_baselines, *x.shape[1:], dtype=dtype, device=x.device) for x in problem.inputs
        )
        per_path = paths.inner // n_baselines
        for tile in problem.gradients(paths, paths.count, what=what) if paths.count else ():
            first, last = tile.points.start, min(tile.points.stop, paths.inner)
            # Weights of one path sum to 1 / K in paths, to 1 in a baseline's own map.
            share = paths.weights[tile.points] * n_baselines
            for k in range(first // per_path, -(-last // per_path)) if first < last else ():
                own = slice(max(first, k * per_path) - first, min(last, (k + 1) * per_path) - first)
                for total, gradient in zip(sums, tile.gradients, strict=True):
                    g = gradient[:, own].to(dtype)
                    total[tile.examples, k] += (g * along(share[own], g)).sum(1)
            if tile.points.stop > paths.inner:
                # x itself, which all paths share: in paths it counts K times as much as on one of them.
                for total, gradient in zip(sums, tile.gradients, strict=True):
                    total[tile.examples] += gradient[:, -1:].to(dtype) * (share[-1] / n_baselines)
        return sums


class _Maps:
    """The maps of all baselines: mean gradients (B, K, *feature), times x - x'_k where they are asked for."""

    def __init__(
        self, inputs: tuple[Tensor, ...], references: BaselineSet, integrals: tuple[Tensor, ...], multiply: bool
    ):
        self.count = references.count
        self._inputs = inputs
        self._references = references
        self._integrals = integrals
        self._multiply = multiply

    def rows(self, numbers: Tensor) -> tuple[Tensor, ...]:
        """The maps of baseline k of example b, b K + k = numbers (r,): (r, *feature)."""
        examples, which = numbers // self.count, numbers % self.count
        found = tuple(i[examples, which] for i in self._integrals)
        if not self._multiply:
            return found
        starts = self._references.of_rows(examples, which)
        return tuple(
            f * (x[examples].to(f.dtype) - s.to(f.dtype)) for f, x, s in zip(found, self._inputs, starts, strict=True)
        )

    def norms(self) -> Tensor:
        """sum_i |map_k,i| over all elements of the inputs, (B, K)."""
        found = self._integrals[0].new_zeros(self._integrals[0].shape[:2])
        everyone = slice(0, len(found))
        for k in range(self.count):
            own = tuple(i[:, k] for i in self._integrals)
            if self._multiply:
                differences = self._references.differences(self._inputs, everyone, k, own[0].dtype)
                own = tuple(i * d for i, d in zip(own, differences, strict=True))
            found[:, k] = sum(m.flatten(1).abs().sum(1).to(found) for m in own)
        return found

    def average(self, weights: Tensor, with_product: bool) -> tuple[tuple[Tensor, ...], Tensor]:
        """sum_k w_k map_k, (B, *feature) for each element; and sum_i of it if multiplied by x - x'_k, (B,)."""
        totals = tuple(torch.zeros_like(i[:, 0]) for i in self._integrals)
        product = totals[0].new_zeros(len(weights))
        everyone = slice(0, len(weights))
        for k in range(self.count):
            differences: tuple[Tensor | None, ...] = (None,) * len(totals)
            if self._multiply or with_product:
                differences = self._references.differences(self._inputs, everyone, k, totals[0].dtype)
            for total, integral, difference in zip(totals, self._integrals, differences, strict=True):
                weighted = integral[:, k] * weights[:, k].to(integral).view(-1, *(1,) * (integral.ndim - 2))
                full = weighted if difference is None else weighted * difference
                total += full if self._multiply else weighted
                if with_product:
                    product += full.reshape(len(full), -1).sum(1)
        return totals, product


class _Search:
    """D_alpha of maps under one call's settings; f(x) is taken once, and only if a fitness is asked for."""

    def __init__(
        self,
        problem: Problem,
        fitness_output: fit.FitnessOutput,
        neutral: Neutral | list[Neutral],
        feature_mask: Tensor | tuple[Tensor, ...] | None,
        settings: dict[str, Any],
    ):
        mask = feature_mask if isinstance(feature_mask, tuple) or feature_mask is None else (feature_mask,)
        self._problem = problem
        self._fitness_output = fitness_output
        self._settings = settings
        self._features = Features(problem.inputs, mask)
        each = neutral if isinstance(neutral, list) else [neutral]
        if not each:
            raise ValueError("neutral is an empty list; give at least one of them, such as neutral='auto'")
        channels = problem.inputs[0].shape[1] if problem.inputs[0].ndim == 4 else 0
        if len(each) == channels > 1 and all(isinstance(one, int | float) for one in each):
            raise ValueError(
                f"neutral={each!r} would be {channels} searches with one number each. For one value per channel give a "
                f"Tensor of shape ({channels}, 1, 1); for several searches say so with Tensors or names"
            )
        self._neutrals = [neutral_values(problem.inputs, one) for one in each]
        fit.check_fitness_output(fitness_output)

    def take_reference(self) -> None:
        """Take f(x) now, before gradients are spent on what it may show to be impossible."""
        self._reference = fit.reference_scores(self._problem, self._fitness_output)

    def d_alpha(self, maps: _Maps, n_best: int | None = None, which_only: bool = False) -> Tensor:
        return fit.d_alpha(
            self._problem,
            maps,
            *self._reference,
            self._features,
            self._neutrals,
            n_best=n_best,
            which_only=which_only,
            **self._settings,
        )


def _of_all(values: Tensor, kept: Tensor, n_baselines: int) -> Tensor:
    """values (B, M) of the baselines kept, 0 for the others, (B, K)."""
    everyone = torch.zeros(len(values), n_baselines, dtype=values.dtype, device=values.device)
    return everyone.scatter_(1, kept, values)
