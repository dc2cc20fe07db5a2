"""Expected Gradients: integrated gradients averaged over baselines (Erion et al. 2021)."""

from __future__ import annotations

from typing import Any, Literal, overload

import torch

from captum_wg.attribution_base import (
    AttributionResult,
    CompleteAttribution,
    check_smooth_maps,
    groups_of,
    logged_overload,
)
from captum_wg.engine.baseline_set import Baselines
from captum_wg.engine.checks import check_bool
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import In, Inputs
from captum_wg.integrals.average import average
from captum_wg.integrals.from_arguments import Steps, rule_of, warn_of_cost
from captum_wg.smoothing import Smooth


class ExpectedGradients(CompleteAttribution):
    """Integrated gradients averaged over K baselines x'_k:

        phi_i(x) = 1/K sum_k (x_i - x'_k,i) integral_0^1 dF(x'_k + a (x - x'_k)) / dx_i da,

    each integral by a quadrature rule of n_steps points, so that all baselines count equally and the result is the same
    every time; or, with n_samples, by random (baseline, a) pairs as in Captum's GradientShap. One baseline is
    IntegratedGradients. Completeness: sum_i phi_i = F(x) - 1/K sum_k F(x'_k).

    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution priors and expected
    gradients"; they draw one random point per baseline.

    Args:
        forward_func, multiply_by_inputs, baselines: as in `CompleteAttribution`.

    Examples:
        >>> x = torch.tensor([[3.0, 1.0]])
        >>> baselines = torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> product = ExpectedGradients(lambda z: z.prod(1))
        >>> product.attribute(x, baselines)  # (3 / 2 + 2) / 2, (3 / 2 + 0) / 2
        tensor([[1.7500, 0.7500]])
        >>> result = product.attribute(x, baselines, return_convergence_delta=True)
        >>> result.attributions.sum().item(), result.delta.abs().item() < 1e-6  # 3 - (0 + 1) / 2
        (2.5, True)
    """

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
        n_samples: int | None = None,
        sampling: str = "random",
        stdevs: float | tuple[float, ...] = 0.0,
        generator: torch.Generator | int | None = None,
        smooth: Smooth = None,
        feature_mask: Inputs | None = None,
        group_attributions: Literal["broadcast"] | None = None,
        return_steps: Literal[False] = False,
    ) -> In: ...

    @overload
    def attribute(
        self, inputs: In, *args: Any, return_convergence_delta: bool, **kwargs: Any
    ) -> AttributionResult[In]: ...

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
        n_samples: int | None = None,
        sampling: str = "random",
        stdevs: float | tuple[float, ...] = 0.0,
        generator: torch.Generator | int | None = None,
        smooth: Smooth = None,
        feature_mask: Inputs | None = None,
        group_attributions: str | None = None,
        return_steps: bool = False,
    ) -> Any:
        """Expected gradients of inputs.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), floating point.
            baselines: None (the constructor's, else zeros); a number; a Tensor (K, *feature) shared by all examples; a
                Tensor (B, K, *feature), each example's own; a callable of the inputs that returns either; for a tuple
                of inputs a tuple of these, row k of each together forming baseline k.
            target, additional_forward_args: as in Captum. Of the latter, Tensors with B rows go with the examples or
                are the same for all: a probe tells which (`captum_wg.engine.probe`), or `captum_wg.shared`. Where rows
                of the model influence each other, a warning says so, and all B stay together at each point.
            n_steps: quadrature points per baseline; B * K * n_steps gradients are taken (see method). "auto", short for
                Automatic(): as many points of "riemann_shared_end" as bring the convergence delta within a tolerance,
                for each example on its own; Automatic(tolerance, max_steps) sets it.
            method: "gausslegendre" (the least error on smooth functions), "riemann_shared_end" (the least on the ReLU
                networks tried; `captum_wg.integrals.nodes`), "riemann_middle", "riemann_left", "riemann_right" or
                "riemann_trapezoid". Rules with a node at the input itself take it once for all baselines: B * (K *
                (n_steps - 1) + 1) gradients. "adaptive": as many as "riemann_shared_end", two fifths of them where the
                gradient changes most (`captum_wg.integrals.adaptive`): less error on ReLU networks, one example at a
                time.
            internal_batch_size: rows of a micro-batch, any number from 1; None: chosen by the size of an example. Short
                ones are filled up with repeats to a small size, or where the model takes no other.
            return_convergence_delta: also return sum_i phi_i - (F(x) - 1/K sum_k F(x'_k)), (B,).
            pairing: how a Tensor of B baselines is read: "shared" (unset: this, with a warning) or "paired", row i
                being example i's only baseline, as in IntegratedGradients.
            show_progress: a progress bar over the gradients; None: after five seconds, False: never.
            n_samples: take this many (baseline, a) pairs instead, the same for all examples of the call; n_steps and
                method are then not used.
            sampling: with n_samples: "random": a uniform on [0, 1], every baseline before any is used twice.
                "staggered": evenly spaced on each path, shifted from path to path, and the input itself where there
                are more than one for each (`captum_wg.integrals.random.Staggered`): less error from few points for many
                baselines.
            stdevs: with n_samples: standard deviation of Gaussian noise added to the input at each of them, one number
                or one for each element of a tuple.
            generator: with n_samples: a torch.Generator on the inputs' device, an int seed, or None for a fixed seed.
            smooth: mix the map with its blur (`captum_wg.smoothing.smoothed_mix`), which keeps its sum; None: don't.
            feature_mask: with group_attributions: integer group numbers from 0 (1 or B, *feature), as in Captum; a
                group may have elements in several Tensors of a tuple.
            group_attributions: what each group has in sum over its elements (`captum_wg.feature_groups`): "sum": (B,
                P), which is complete; "broadcast": in the inputs' shape, at each element that of its whole group, as
                Captum's perturbation methods return it. Deltas count each group once. None: elements' own.
            return_steps: also return the n_steps that each baseline got, (B, K) int64: sum_k (steps - 1) + 1 gradients,
                as the last is the input itself.

        Returns:
            The attributions, in the inputs' structure, shape, dtype and device; in an `AttributionResult` with the
            delta and the steps if these were asked for.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. A NaN or infinite gradient.
        """
        check_bool(return_convergence_delta, "return_convergence_delta")
        if feature_mask is not None and group_attributions is None:
            raise ValueError(
                "feature_mask alone changes nothing here; say what is returned for the groups: "
                "group_attributions='broadcast' (in the inputs' shape) or 'sum' (one number a group)"
            )
        rule = rule_of(n_steps, method, return_steps, n_samples, sampling, stdevs, generator)
        problem, references = self._problem(
            inputs, baselines, target, additional_forward_args, pairing, internal_batch_size, show_progress
        )
        groups = groups_of(problem, feature_mask, group_attributions)
        check_smooth_maps(problem, smooth)
        warn_of_cost(rule, references.count)
        completeness = Completeness(problem, references)
        parts = rule.parts(problem, references, completeness)
        totals, steps = average(problem, parts, self._multiply_by_inputs, references.count)
        attributions, counted = self._finish(problem, totals, smooth, groups)
        if not (return_convergence_delta or return_steps):
            return attributions
        delta = completeness.delta(counted) if return_convergence_delta else None
        return AttributionResult(attributions, delta, steps=steps if return_steps else None)
