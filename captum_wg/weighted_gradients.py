"""Weighted Gradients: integrated gradients averaged over baselines, each weighted by how well it explains the input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from captum_wg import fitness as fit
from captum_wg.arguments import Inputs, accumulation_dtype, like_inputs
from captum_wg.baseline_set import Baselines, BaselineSet, format_baselines, given_or_bound
from captum_wg.expected_gradients import convergence_delta, expected_difference, path_average
from captum_wg.gradients import Problem, input_gradients
from captum_wg.masking import Features, Neutral, neutral_values
from captum_wg.paths import along, quadrature_paths
from captum_wg.quadrature import nodes_and_weights
from captum_wg.targets import Target


class WeightedGradients(GradientAttribution):
    """Integrated gradients averaged over K baselines with weights by their fitness for this very input:

        phi_i(x) = sum_k w_k IG_i(x, x'_k),      w_k = D_alpha(x, x'_k)^-power / sum_j D_alpha(x, x'_j)^-power,

    where D_alpha(x, x'_k) is the least number of features, in the order of IG(x, x'_k), whose removal brings f(x) down
    to alpha f(x). Completeness: sum_i phi_i = F(x) - sum_k w_k F(x'_k). One baseline: weight 1, no fitness is run, and
    this is IntegratedGradients. power=0 without keep: ExpectedGradients.

    Duc et al. 2025, "Weighted Average Gradients for Feature Attribution". Departures: every integral is a quadrature
    of n_steps points (the published code takes one random point); the branches of Algorithm 1 stand the right way
    round; the tolerance is relative to f(x) (there absolute, 0.01 or 0.005); what the search returns is said in
    `captum_wg.fitness.bisect`; features are ranked by the signed map unless ranking="absolute" (the published code).
    The ranking should be that of the metric that judges the result. All examples and baselines are searched at once:
    B * K * ceil(log2(P + 1)) masked forwards at most, beside the B * K * n_steps gradients.

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
        n_steps: int = 50,
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
        neutral: Neutral = "auto",
        ranking: str = "signed",
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        fitness_output: fit.FitnessOutput = "auto",
        return_weights: bool = False,
    ) -> Any:
        """Weighted gradients of inputs.

        Args:
            inputs, baselines, target, additional_forward_args, n_steps, method, internal_batch_size, pairing,
                show_progress: as in `ExpectedGradients.attribute`.
            return_convergence_delta: also return sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,).
            alpha: the share of f(x) to come down to, in (0, 1).
            tolerance: how near to alpha f(x), relative to f(x), ends a search; 0: the exact minimum of a monotone
                curve.
            max_iterations: of the search; it needs ceil(log2(P + 1)).
            power: the exponent of the weights, >= 0 (the paper's appendix allows 1 to 2).
            keep: average over the fittest baselines only: an int counts them, a float in (0, 1] is a share of K.
            screening_steps: with keep: choose the baselines by maps of this many steps, and spend n_steps on those kept
                alone; their weights come from the D_alpha of their full maps.
            neutral: what a removed feature is replaced by: "auto" (the image's corners for (B, C, H, W), else 0),
                "corners", "mean", "blur", "black", a number, a Tensor that broadcasts to the input, or a callable of
                the input; for a tuple of inputs possibly a tuple of these.
            ranking: the order of removal: "signed" (sum over channels) or "absolute" (sum of absolute values).
            feature_mask: integer group numbers (1 or B, *feature), as in Captum; D_alpha then counts groups. By default
                features are pixels for (B, C, H, W), elements otherwise, of a tuple in one list.
            fitness_output: f of D_alpha out of the model's output: "auto" (the output itself if it is one column or
                lies in [0, 1], its softmax otherwise), "softmax", "identity", or a callable. What is attributed is
                forward_func as given in any case.
            return_weights: also return the weights, (B, K), 0 for baselines left out.

        Returns:
            The attributions, in the inputs' structure, shape, dtype and device; followed by the delta and the weights
            if these were asked for.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. f(x) <= 0 or not finite with more
            than
                one baseline. A NaN or infinite gradient.

        Warns:
            UserWarning: no removal reaches alpha f(x) for some example, so its weights are equal.
        """
        fit.check_settings(alpha, tolerance, max_iterations, power, ranking)
        problem = self._problem(inputs, target, additional_forward_args, internal_batch_size, show_progress)
        given, pairing = given_or_bound(baselines, self.baselines, pairing)
        references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
        nodes_and_weights(method, n_steps)
        n_kept = fit.check_keep(keep, references.count)
        if screening_steps is not None:
            nodes_and_weights(method, screening_steps)
            if n_kept is None:
                raise ValueError("screening_steps chooses which baselines to keep; give keep too")
        search = _Search(
            problem,
            fitness_output,
            neutral,
            feature_mask,
            dict(alpha=alpha, tolerance=tolerance, max_iterations=max_iterations, ranking=ranking),
        )

        n_baselines = references.count
        kept: Tensor | None = None
        fewer = n_kept is not None and n_kept < n_baselines
        if n_baselines > 1 and (power > 0 or fewer):
            search.take_reference()
        if n_kept is not None and fewer and screening_steps is not None:
            coarse = self._maps(problem, references, screening_steps, method)
            kept = fit.kept_baselines(search.d_alpha(coarse), n_kept)
            del coarse
            references = references.choose(kept)

        if references.count == 1 or (power == 0 and (kept is not None or not fewer)):
            # Equal weights: nothing to fit, and no need to keep a map for each baseline.
            paths = quadrature_paths(problem.inputs, references, n_steps, method)
            totals, product = path_average(problem, paths, self._multiply_by_inputs, return_convergence_delta)
            weights = torch.full((problem.n_examples, references.count), 1 / references.count, dtype=torch.float64)
        else:
            maps, products = self._maps_and_products(problem, references, n_steps, method)
            # Weights are few and in float64, which not every device has.
            distances = search.d_alpha(maps).cpu()
            weights = fit.weights(distances, power)
            if n_kept is not None and kept is None and fewer:
                dropped = torch.ones_like(weights, dtype=torch.bool).scatter_(
                    1, fit.kept_baselines(distances, n_kept), False
                )
                weights = weights.masked_fill(dropped, 0)
                weights = weights / weights.sum(1, keepdim=True)
            totals = tuple(_average(m, weights) for m in maps)
            product = (products * weights.to(products)).sum(1)

        dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
        weights = weights.to(dtype).to(problem.inputs[0].device)
        attributions = like_inputs(
            tuple(t.to(x.dtype) for t, x in zip(totals, problem.inputs, strict=True)), problem.is_tuple
        )
        results: list[Any] = [attributions]
        if return_convergence_delta:
            results.append(product - expected_difference(problem, references, weights))
        if return_weights:
            if kept is not None:
                weights = torch.zeros(
                    problem.n_examples, n_baselines, dtype=weights.dtype, device=weights.device
                ).scatter_(1, kept, weights)
            results.append(weights)
        return results[0] if len(results) == 1 else tuple(results)

    def fitness(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        n_steps: int = 50,
        method: str = "gausslegendre",
        internal_batch_size: int | None = None,
        *,
        pairing: str | None = None,
        show_progress: bool = False,
        alpha: float = 0.5,
        tolerance: float = 0.01,
        max_iterations: int = 100,
        neutral: Neutral = "auto",
        ranking: str = "signed",
        feature_mask: Tensor | tuple[Tensor, ...] | None = None,
        fitness_output: fit.FitnessOutput = "auto",
    ) -> Tensor:
        """D_alpha of each baseline for each example, (B, K) int64, in number of features from 1 to P; small is good.

        Arguments as in `attribute`.
        """
        fit.check_settings(alpha, tolerance, max_iterations, 1.0, ranking)
        problem = self._problem(inputs, target, additional_forward_args, internal_batch_size, show_progress)
        given, pairing = given_or_bound(baselines, self.baselines, pairing)
        references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
        search = _Search(
            problem,
            fitness_output,
            neutral,
            feature_mask,
            dict(alpha=alpha, tolerance=tolerance, max_iterations=max_iterations, ranking=ranking),
        )
        search.take_reference()
        return search.d_alpha(self._maps(problem, references, n_steps, method))

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

    def _maps(self, problem: Problem, references: BaselineSet, n_steps: int, method: str) -> tuple[Tensor, ...]:
        return self._maps_and_products(problem, references, n_steps, method)[0]

    def _maps_and_products(
        self, problem: Problem, references: BaselineSet, n_steps: int, method: str
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """The map of each baseline, (B, K, *feature) for each element, and its sum of gradient times x - x', (B, K)."""
        paths = quadrature_paths(problem.inputs, references, n_steps, method)
        dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
        n_examples, n_baselines = problem.n_examples, references.count
        maps = tuple(
            torch.zeros(n_examples, n_baselines, *x.shape[1:], dtype=dtype, device=x.device) for x in problem.inputs
        )
        for tile in problem.gradients(paths, paths.count, what="gradients"):
            first, last = tile.points.start, tile.points.stop
            # Weights of one path sum to 1 / K in paths, to 1 in a baseline's own map.
            share = paths.weights[tile.points] * n_baselines
            for k in range(first // n_steps, -(-last // n_steps)):
                own = slice(max(first, k * n_steps) - first, min(last, (k + 1) * n_steps) - first)
                for total, gradient in zip(maps, tile.gradients, strict=True):
                    g = gradient[:, own].to(dtype)
                    total[tile.examples, k] += (g * along(share[own], g)).sum(1)

        products = torch.zeros(n_examples, n_baselines, dtype=dtype, device=problem.inputs[0].device)
        for e in range(n_examples):
            # Example by example: one difference for all B * K would double the memory of the maps.
            here = slice(e, e + 1)
            for total, x, r in zip(
                maps,
                problem.inputs,
                references.at(here, torch.arange(n_baselines, device=products.device)),
                strict=True,
            ):
                product = total[here] * (x[here].unsqueeze(1).to(dtype) - r.to(dtype))
                products[here] += product.flatten(2).sum(2) if product.ndim > 2 else product
                if self._multiply_by_inputs:
                    total[here] = product
        return maps, products


class _Search:
    """D_alpha of maps under one call's settings; f(x) is taken once, and only if a fitness is asked for."""

    def __init__(
        self,
        problem: Problem,
        fitness_output: fit.FitnessOutput,
        neutral: Neutral,
        feature_mask: Tensor | tuple[Tensor, ...] | None,
        settings: dict[str, Any],
    ):
        mask = feature_mask if isinstance(feature_mask, tuple) or feature_mask is None else (feature_mask,)
        self._problem = problem
        self._fitness_output = fitness_output
        self._settings = settings
        self._features = Features(problem.inputs, mask)
        self._neutral = neutral_values(problem.inputs, neutral)
        fit.check_fitness_output(fitness_output)

    def take_reference(self) -> None:
        """Take f(x) now, before gradients are spent on what it may show to be impossible."""
        self._reference = fit.reference_scores(self._problem, self._fitness_output)

    def d_alpha(self, maps: tuple[Tensor, ...]) -> Tensor:
        return fit.d_alpha(self._problem, maps, *self._reference, self._features, self._neutral, **self._settings)


def _average(maps: Tensor, weights: Tensor) -> Tensor:
    """sum_k w_k maps_k, (B, *feature)."""
    total = torch.zeros_like(maps[:, 0])
    for k in range(maps.shape[1]):
        total += maps[:, k] * weights[:, k].to(maps).view(-1, *(1,) * (maps.ndim - 2))
    return total
