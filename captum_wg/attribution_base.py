"""What all attribution classes of this package are: one place makes a call's problem, references and deltas."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor

from captum_wg.engine.baseline_set import Baselines, BaselineSet, format_baselines
from captum_wg.engine.checks import check_bool, check_finite
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import In, Inputs, as_tuple, like_inputs
from captum_wg.feature_groups import Groups
from captum_wg.smoothing import Smooth, check_smooth, smoothed

Function = TypeVar("Function", bound=Callable[..., Any])


def logged(function: Function) -> Function:
    """Captum's log_usage, which NoiseTunnel needs to find on every `attribute`, with the function's own type."""
    return cast(Function, log_usage()(function))


def logged_overload(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same for an implementation whose type its overloads tell."""
    return logged(function)


def check_smooth_maps(problem: Problem, smooth: Smooth, maps: tuple[Tensor, ...] | None = None) -> None:
    """Raise before gradients are taken, if maps (None: of the problem's inputs) can't be smoothed so.

    Raises:
        TypeError, ValueError: as `captum_wg.smoothing.check_smooth`; tokens, whose vectors would be taken for space.
    """
    if smooth is not None and problem.feature_mask is not None:
        raise ValueError(
            "smooth has no meaning for the vectors of tokens (B, T, E), whose last dimension is no space; leave it "
            "out, or give captum_wg.smoothing.smoothed_mix the map with its last two dimensions exchanged"
        )
    check_smooth(smooth, problem.inputs if maps is None else maps)


def groups_of(problem: Problem, feature_mask: Inputs | None, form: str | None) -> Groups | None:
    """The groups whose attributions a call asks for; None if elements' own."""
    if form is None:
        return None
    return Groups(form, problem.inputs, problem.feature_mask if feature_mask is None else as_tuple(feature_mask))


class AttributionResult(tuple[Any, ...], Generic[In]):
    """What `attribute` returns when it was asked for more than attributions: a tuple of these, as Captum's, by name.

    It unpacks to the attributions and whatever was asked for, in this order: delta, weights, steps.

    Attributes (None: not asked for):
        attributions: in the inputs' structure, shape, dtype and device.
        delta: the convergence delta (B,).
        weights: of the baselines (B, K).
        steps: n_steps of each baseline's path (B, K) int64.
    """

    attributions: In
    delta: Tensor | None
    weights: Tensor | None
    steps: Tensor | None

    def __new__(
        cls, attributions: In, delta: Tensor | None = None, weights: Tensor | None = None, steps: Tensor | None = None
    ) -> AttributionResult[In]:
        asked: list[Tensor] = [value for value in (delta, weights, steps) if value is not None]
        made = super().__new__(cls, (attributions, *asked))
        made.attributions, made.delta, made.weights, made.steps = attributions, delta, weights, steps
        return made

    def __getnewargs__(self) -> tuple[Any, ...]:
        return self.attributions, self.delta, self.weights, self.steps


class BaselineAttribution(GradientAttribution):  # type: ignore[misc]  # Captum has no types
    """An attribution from reference points, over the space of the inputs.

    Another space (a layer's, a neuron's) can be put under a method by overriding `_problem` alone.

    Args:
        forward_func: the model, or any function of the inputs, that is explained.
        baselines: used where `attribute` is given none; for wrappers that expand or refuse K rows (NoiseTunnel,
            sensitivity_max, infidelity).
    """

    def __init__(self, forward_func: Callable[..., Any], baselines: Baselines = None):
        super().__init__(forward_func)
        self.gradient_func = input_gradients
        self.baselines = baselines

    def _problem(
        self,
        inputs: Inputs | None,
        baselines: Baselines,
        target: Target,
        additional_forward_args: object,
        pairing: str | None = None,
        internal_batch_size: int | None = None,
        show_progress: bool | None = False,
        whole_numbers: bool = False,
    ) -> tuple[Problem, BaselineSet]:
        """What a call explains, and the baselines of its examples."""
        explained = self.forward_func, self.gradient_func, inputs, target, additional_forward_args
        problem = Problem(*explained, internal_batch_size, show_progress, type(self).__name__, whole_numbers)
        if baselines is None and self.baselines is not None:
            # A Tensor that was bound before the inputs were known can't be meant to be paired with them.
            baselines, pairing = self.baselines, pairing or "shared"
        references = format_baselines(baselines, problem.inputs, problem.is_tuple, pairing)
        problem.baselines = references
        if problem.inputs:
            problem.probe(references)
        return problem, references

    def _finish(
        self, problem: Problem, totals: tuple[Tensor, ...], smooth: Smooth = None, groups: Groups | None = None
    ) -> tuple[Inputs, Inputs]:
        """Attributions in the inputs' structure and dtypes, after a look at whether they can be right, smoothed and
        grouped; and what of them is counted once in their sum.

        Raises:
            ValueError: the output depends on no input; attributions that are NaN or infinite.
        """
        problem.check_dependence(totals)
        maps = smoothed(totals, smooth)
        if groups is None:
            returned = counted = tuple(m.to(x.dtype) for m, x in zip(maps, problem.inputs, strict=True))
        else:
            returned, counted = groups(maps)
        check_finite(returned, "attributions")
        if groups is not None and groups.form == "sum":
            return returned[0], counted
        return like_inputs(returned, problem.is_tuple), counted

    def attribute_future(self, *args: Any, **kwargs: Any) -> None:
        """Not implemented, as for Captum's own gradient methods."""
        raise NotImplementedError("attribute_future is not implemented for gradient methods")

    def has_convergence_delta(self) -> bool:
        return False


class CompleteAttribution(BaselineAttribution):
    """One whose maps sum to F(x) - sum_k w_k F(x'_k).

    Args:
        forward_func, baselines: as in `BaselineAttribution`.
        multiply_by_inputs: False leaves the factor x - x'_k out of the maps ("local" attribution, units of F per unit
            of input); they then sum to nothing in particular, and the delta says nothing of convergence.
    """

    def __init__(self, forward_func: Callable[..., Any], multiply_by_inputs: bool = True, baselines: Baselines = None):
        super().__init__(forward_func, baselines)
        self._multiply_by_inputs = check_bool(multiply_by_inputs, "multiply_by_inputs")

    # Whether baselines count differently, so that a delta can't be told without their weights.
    _has_weights = False

    @logged
    def compute_convergence_delta(
        self,
        attributions: Inputs,
        start_point: Baselines,
        end_point: Inputs,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        pairing: str | None = None,
        weights: Tensor | AttributionResult[Any] | None = None,
    ) -> Tensor:
        """sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,), of given attributions: what `attribute` returns with them.

        Args:
            attributions: the maps, of the inputs' shapes; not those of groups, whose delta `attribute` returns.
            start_point: the baselines, in any form of `attribute` (None: the constructor's, else zeros).
            end_point: the inputs.
            target, additional_forward_args, pairing: as in `attribute`.
            weights: (B, K), or the result of `attribute(..., return_weights=True)` that holds them. 1/K where a method
                has no others.

        Raises:
            ValueError: no weights after WeightedGradients with more than one baseline; shapes that don't fit.
        """
        problem, references = self._problem(end_point, start_point, target, additional_forward_args, pairing)
        count = references.count
        if isinstance(weights, AttributionResult):
            weights = weights.weights
        if weights is None:
            if self._has_weights and count > 1:
                raise ValueError(
                    f"weights are missing for {count} baselines; attribute(..., return_weights=True) has them"
                )
        elif not isinstance(weights, Tensor) or weights.is_complex():
            raise TypeError(
                "weights must be a Tensor (B, K) of real numbers, or the result of attribute(..., return_weights=True)"
                f", got {type(weights).__name__}"
            )
        elif tuple(weights.shape) != (problem.n_examples, count):
            raise ValueError(
                f"weights must have shape (B, K) = {problem.n_examples, count}, got {tuple(weights.shape)}"
            )
        shapes = [tuple(a.shape) for a in as_tuple(attributions)]
        if shapes != [tuple(x.shape) for x in problem.inputs]:
            raise ValueError(
                f"attributions must have the inputs' shapes, got {shapes}; of groups attribute itself returns the delta"
            )
        return Completeness(problem, references).delta(attributions, weights)

    def has_convergence_delta(self) -> bool:
        return True

    @property
    def multiplies_by_inputs(self) -> bool:
        return self._multiply_by_inputs
