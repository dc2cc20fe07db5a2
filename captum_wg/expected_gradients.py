"""Expected Gradients: integrated gradients averaged over baselines (Erion et al. 2021)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from captum_wg.engine.baseline_set import Baselines, BaselineSet, format_baselines, given_or_bound
from captum_wg.engine.checks import Inputs, accumulation_dtype, as_tuple, check_choice, check_positive_int, like_inputs
from captum_wg.engine.problem import Problem, input_gradients
from captum_wg.engine.targets import Target
from captum_wg.integrals.adaptive import adaptive_integrals
from captum_wg.integrals.automatic import (
    DELTA_TOLERANCE,
    MAX_STEPS,
    check_refinement,
    outputs_at_baselines,
    refined_integrals,
)
from captum_wg.integrals.nodes import METHODS, nodes_and_weights
from captum_wg.integrals.walk import Paths, along, quadrature_paths, random_paths, staggered_paths

SAMPLINGS = ("random", "staggered")
ADAPTIVE = "adaptive"


class ExpectedGradients(GradientAttribution):
    """Integrated gradients averaged over K baselines x'_k:

        phi_i(x) = 1/K sum_k (x_i - x'_k,i) integral_0^1 dF(x'_k + a (x - x'_k)) / dx_i da,

    each integral by a quadrature rule of n_steps points, so that all baselines count equally and the result is the same
    every time; or, with n_samples, by random (baseline, a) pairs as in Captum's GradientShap. One baseline is
    IntegratedGradients. Completeness: sum_i phi_i = F(x) - 1/K sum_k F(x'_k).

    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients"; they draw one random point per baseline.

    Args:
        forward_func: the model, or any function of the inputs, that is explained.
        multiply_by_inputs: False leaves out the factor x_i - x'_k,i ("local" attribution, units of F per unit of
            input).
        baselines: used where `attribute` is given none; for wrappers that expand or refuse K rows (NoiseTunnel,
            sensitivity_max, infidelity).
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
        n_samples: int | None = None,
        sampling: str = "random",
        stdevs: float | tuple[float, ...] = 0.0,
        generator: torch.Generator | int | None = None,
        delta_tolerance: float = DELTA_TOLERANCE,
        max_steps: int = MAX_STEPS,
        return_steps: bool = False,
    ) -> Any:
        """Expected gradients of inputs.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), floating point.
            baselines: None (the constructor's, else zeros); a number; a Tensor (K, *feature) shared by all examples; a
                Tensor (B, K, *feature), each example's own; a callable of the inputs that returns either; for a tuple
                of inputs a tuple of these, row k of each together forming baseline k.
            target, additional_forward_args: as in Captum; of the latter, Tensors with B rows go with the examples, all
                else is passed on as it is.
            n_steps: quadrature points per baseline; B * K * n_steps gradients are taken (see method). "auto": as many
                points of "riemann_shared_end" as bring the convergence delta within delta_tolerance, for each example
                on its own. (That bounds the sum of the map's errors, not the error of the map. One map per baseline is
                held for the examples at work.)
            method: "gausslegendre" (the least error on smooth functions), "riemann_shared_end" (the least on the ReLU
                networks tried; the rule of `captum_wg.integrals.nodes`), "riemann_middle", "riemann_left",
                "riemann_right" or "riemann_trapezoid". A node at the input itself is taken once for all baselines:
                those rules that have one take B * (K * (n_steps - 1) + 1) gradients. "adaptive": as many as
                "riemann_shared_end", the last two fifths of them where the gradient changes most
                (`captum_wg.integrals.adaptive`): less error on ReLU networks, one example at a time.
            internal_batch_size: rows of a micro-batch, any number from 1; None: chosen by the size of an example.
            return_convergence_delta: also return sum_i phi_i - (F(x) - 1/K sum_k F(x'_k)), (B,).
            pairing: how a Tensor of B baselines is read: "shared" (unset: this, with a warning) or "paired", row i
                being example i's only baseline, as in IntegratedGradients.
            show_progress: a progress bar over the gradients.
            n_samples: take this many (baseline, a) pairs instead, the same for all examples of the call; n_steps and
                method are then not used.
            sampling: with n_samples: "random": a uniform on [0, 1], every baseline before any is used twice.
                "staggered": evenly spaced on each path, shifted from path to path, and the input itself
                (`captum_wg.integrals.walk.staggered_paths`): less error from few points for many baselines.
            stdevs: with n_samples: standard deviation of Gaussian noise added to the input at each of them, one number
                or one for each element of a tuple.
            generator: with n_samples: a torch.Generator on the inputs' device, an int seed, or None for a fixed seed.
            delta_tolerance: with n_steps="auto": of the convergence delta, relative to the mean over baselines of
                |F(x) - F(x'_k)|. The gradients taken on the way all count (`captum_wg.integrals.automatic`).
            max_steps: with n_steps="auto": the most points per baseline, of 6, 17, 50, 149, 446, ...; examples left
                outside the tolerance are warned of.
            return_steps: also return the n_steps that each baseline got, (B, K) int64; the last of them is the input
                itself, so that an example took sum_k (steps - 1) + 1 gradients.

        Returns:
            The attributions, in the inputs' structure, shape, dtype and device; followed by the delta and the steps if
            these were asked for.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. A NaN or infinite gradient.
        """
        automatic = is_automatic(n_steps, method, return_steps)
        if automatic and n_samples is not None:
            raise ValueError("n_steps='auto' and n_samples exclude each other; give one of them")
        check_choice(sampling, "sampling", SAMPLINGS)
        if sampling != "random" and n_samples is None:
            raise ValueError(f"sampling={sampling!r} says how n_samples points are spread; give n_samples too")
        tolerance, most = check_refinement(automatic, delta_tolerance, max_steps)
        problem = Problem(
            self.forward_func,
            self.gradient_func,
            inputs,
            target,
            additional_forward_args,
            internal_batch_size,
            show_progress,
            type(self).__name__,
        )
        given, pairing = given_or_bound(baselines, self.baselines, pairing)
        references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
        noisy = any(s != 0 for s in (stdevs if isinstance(stdevs, tuple) else (stdevs,)))
        if noisy and (n_samples is None or sampling != "random"):
            raise ValueError(
                "stdevs adds noise to random samples; give n_samples with sampling='random', or use NoiseTunnel"
            )
        paths: Paths | None
        steps: Tensor | None = None
        delta: Tensor | None = None
        if automatic:
            totals, delta, steps = refined_average(problem, references, tolerance, most, self._multiply_by_inputs)
        else:
            if n_samples is None and method == ADAPTIVE:
                paths = None
            elif n_samples is None:
                paths = quadrature_paths(problem.inputs, references, nodes_and_weights(method, n_steps))  # type: ignore[arg-type]
            elif sampling == "staggered":
                paths = staggered_paths(problem.inputs, references, n_samples, generator)
            else:
                paths = random_paths(problem.inputs, references, n_samples, stdevs, generator)
            if paths is None:
                totals, product = adaptive_average(problem, references, n_steps, self._multiply_by_inputs)  # type: ignore[arg-type]
            else:
                totals, product = path_average(problem, paths, self._multiply_by_inputs, return_convergence_delta)
            if return_convergence_delta:
                delta = product - expected_difference(problem, references)
        results: list[Any] = [
            like_inputs(tuple(t.to(x.dtype) for t, x in zip(totals, problem.inputs, strict=True)), problem.is_tuple)
        ]
        if return_convergence_delta:
            results.append(delta)
        if return_steps:
            results.append(steps)
        return results[0] if len(results) == 1 else tuple(results)

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
        """sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,), of given attributions.

        start_point are the baselines in any form of `attribute` (None: the constructor's, else zeros), end_point the
        inputs; weights (B, K), 1/K if not given.
        """
        return convergence_delta(
            self, attributions, start_point, end_point, target, additional_forward_args, pairing, weights
        )

    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Not implemented, as for Captum's own gradient methods."""
        raise NotImplementedError("attribute_future is not implemented for gradient methods")

    def has_convergence_delta(self) -> bool:
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs


def path_average(
    problem: Problem, paths: Paths, multiply: bool, with_product: bool = False
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The weighted sum over all points of gradient times (x - x'), or of the gradient alone, for each element (B,
    *feature).

    Also sum_i of the former, (B,), which the convergence delta needs even where the product itself isn't returned.
    """
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    totals = tuple(torch.zeros_like(x, dtype=dtype) for x in problem.inputs)
    product = torch.zeros(problem.n_examples, dtype=dtype, device=problem.inputs[0].device)
    weights = paths.weights
    for tile in problem.gradients(paths, paths.count):
        share = weights[tile.points]
        differences: tuple[Tensor | None, ...] = (None,) * len(totals)
        if multiply or with_product:
            differences = paths.differences(tile.examples, tile.points)
        for total, gradient, difference in zip(totals, tile.gradients, differences, strict=True):
            weighted = gradient.to(dtype) * along(share, gradient)
            full = weighted if difference is None else weighted * difference
            total[tile.examples] += (full if multiply else weighted).sum(1)
            if with_product:
                product[tile.examples] += full.flatten(1).sum(1)
    return totals, product


def refined_average(
    problem: Problem, references: BaselineSet, tolerance: float, max_steps: int, multiply: bool
) -> tuple[tuple[Tensor, ...], Tensor, Tensor]:
    """The mean over baselines of integrals refined to a tolerance, the delta (B,), and the steps taken (B, K)."""
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    device = problem.inputs[0].device
    totals = tuple(torch.zeros_like(x, dtype=dtype) for x in problem.inputs)
    deltas, steps = [], []
    for part in refined_integrals(problem, references, tolerance, max_steps):
        for k in range(references.count):
            differences = references.differences(problem.inputs, part.examples, k, dtype) if multiply else None
            for i, (total, integral) in enumerate(zip(totals, part.sums, strict=True)):
                own = integral[:, k] if differences is None else integral[:, k] * differences[i]
                total[part.examples] += own / references.count
        deltas.append(part.deltas.mean(1))
        steps.append(part.steps)
    return totals, torch.cat(deltas).to(dtype).to(device), torch.cat(steps).to(device)


def adaptive_average(
    problem: Problem, references: BaselineSet, n_steps: int, multiply: bool
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The mean over baselines of adaptive integrals, and its sum of gradient times x - x', as `path_average`."""
    check_positive_int(n_steps, "n_steps")
    dtype = accumulation_dtype(*(x.dtype for x in problem.inputs))
    totals = tuple(torch.zeros_like(x, dtype=dtype) for x in problem.inputs)
    product = torch.zeros(problem.n_examples, dtype=dtype, device=problem.inputs[0].device)
    for part in adaptive_integrals(problem, references, n_steps):
        e = part.example
        for place, k in enumerate(range(part.baselines.start, part.baselines.stop)):
            differences = references.differences(problem.inputs, slice(e, e + 1), k, dtype)
            for total, integral, difference in zip(totals, part.sums, differences, strict=True):
                own = integral[0, place] / references.count
                full = own * difference[0]
                total[e] += full if multiply else own
                product[e] += full.sum()
    return totals, product


def is_automatic(n_steps: object, method: str, return_steps: bool) -> bool:
    """Whether n_steps is "auto", and what goes with it fits."""
    check_choice(method, "method", (*METHODS, ADAPTIVE))
    if not isinstance(n_steps, str):
        if return_steps:
            raise ValueError("return_steps tells what n_steps='auto' took; give that, or leave return_steps out")
        return False
    if n_steps != "auto":
        raise ValueError(f"n_steps must be a whole number of at least 1, or 'auto', got {n_steps!r}")
    if method not in ("gausslegendre", "riemann_shared_end"):
        raise ValueError(
            f"method={method!r} can't be refined: n_steps='auto' uses 'riemann_shared_end'; leave method out"
        )
    return True


def expected_difference(
    problem: Problem, references: BaselineSet, weights: Tensor | None = None, at_baselines: Tensor | None = None
) -> Tensor:
    """F(x) - sum_k w_k F(x'_k), (B,), with w_k = 1/K unless weights (B, K) are given; at_baselines are the F(x'_k)."""
    if at_baselines is None:
        at_baselines = outputs_at_baselines(problem, references)
    expected = at_baselines.mean(1) if weights is None else (at_baselines * weights.to(at_baselines)).sum(1)
    return problem.outputs_at_inputs() - expected


def convergence_delta(
    method: Any,
    attributions: Inputs,
    start_point: Baselines,
    end_point: Inputs,
    target: Target,
    additional_forward_args: object,
    pairing: str | None,
    weights: Tensor | None,
    needs_weights: bool = False,
) -> Tensor:
    """What Captum's compute_convergence_delta means, for K weighted baselines."""
    problem = Problem(method.forward_func, input_gradients, end_point, target, additional_forward_args, name="delta")
    given, pairing = given_or_bound(start_point, method.baselines, pairing)
    references = format_baselines(given, problem.inputs, problem.is_tuple, pairing)
    if weights is None and needs_weights and references.count > 1:
        raise ValueError(
            f"weights are missing for {references.count} baselines; take them from attribute(..., return_weights=True)"
        )
    if weights is not None and tuple(weights.shape) != (problem.n_examples, references.count):
        raise ValueError(
            f"weights must have shape (B, K) = ({problem.n_examples}, {references.count}), got {tuple(weights.shape)}"
        )
    parts = as_tuple(attributions)
    shapes = [tuple(a.shape) for a in parts]
    if shapes != [tuple(x.shape) for x in problem.inputs]:
        raise ValueError(f"attributions must have the inputs' shapes, got {shapes}")
    total = sum(a.to(accumulation_dtype(a.dtype)).reshape(len(a), -1).sum(1) for a in parts)
    return total - expected_difference(problem, references, weights)
