"""Attribution priors: attributions inside a training loss (Erion et al. 2021).

    attribution = SampledExpectedGradients(model, baselines=training_images)
    for x, y in loader:
        loss = cross_entropy(model(x), y) + strength * agreement(attribution(x, target=y), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

`SampledExpectedGradients` and `SampledMeasure` estimate attributions from a few random points, one per example and call
unless told otherwise, new ones each time and for each example. The estimate is unbiased, and its graph leads to the
parameters, and to inputs that require gradients. Three penalties of attributions, each a Tensor of one number, at least
float32, with finite derivatives everywhere: `smoothness`, `sparsity`, `agreement`; any other function will do as well.

A penalty of an estimate is not an estimate of the penalty: where it is convex, as these of single maps, noise adds to
it. `agreement` of one point is in expectation that of the true map and the estimate's variance, outside of the mask.
That has the same minimum where the penalty can reach 0; more points (n_samples) make it tighter.

A step with a prior takes a second forward, its backward and the backward of that: about three to four times the time of
a plain one with one point. For attributions of a finished model `captum_wg.ExpectedGradients` and the local measures
are exact, repeatable and bounded in memory; these here keep all that backward needs.

Shapes: B examples, S points, K baselines.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from captum_wg.engine.baseline_set import Baselines, BaselineSet, format_baselines
from captum_wg.engine.checks import (
    check_bool,
    check_choice,
    check_finite,
    check_generator,
    check_inputs,
    check_positive_int,
)
from captum_wg.engine.double_backward import check_double_backward
from captum_wg.engine.forward_args import ForwardArgs
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.targets import Target, Targets
from captum_wg.engine.tensors import In, Inputs, accumulation_dtype, as_tuple, at_least_float32, beside, like_inputs
from captum_wg.engine.train_mode import modules_of
from captum_wg.local_measures import MEASURES
from captum_wg.measures import Measure, Variance
from captum_wg.samplers import check_radius, from_callable

SAMPLERS = ("segments", "ball")


class SampledAttribution:
    """What sampled attributions share: their random points, and gradients there that can be differentiated.

    The modules of forward_func are in evaluation mode while its gradients are taken, and in their own again after: the
    attributions are those of the model as it will be used, and neither BatchNorm's statistics nor dropout see the
    points.

    Args:
        forward_func: the model, or a function that calls it, whose rows do not influence each other.
        baselines: a Tensor (K, *feature) such as the training examples, a number or None (zeros), a tuple of these
            for a tuple of inputs, or a callable of the inputs that returns one of these or each example's own (B, K,
            *feature), called anew each time. Nothing is differentiated with respect to baselines.
        n_samples: S, points for each example and call.
        generator: a torch.Generator, or a seed for one (None: a fixed seed). It goes on from call to call: training
            that is to be resumed stores `generator.get_state()`.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it. At the first call: a model that has no
            double backward; the message names its modules.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        baselines: Baselines,
        n_samples: int,
        generator: torch.Generator | int | None,
    ):
        if not callable(forward_func):
            raise TypeError(f"forward_func must be a module or a callable, got {type(forward_func).__name__}")
        self.forward_func = forward_func
        self.baselines = baselines
        self.n_samples = check_positive_int(n_samples, "n_samples")
        if not isinstance(generator, torch.Generator):
            generator = check_generator(generator, torch.device("cpu"))
        self.generator = generator
        self._kept: tuple[list[Any], BaselineSet] | None = None
        self._differentiable_twice = False

    def _segments(self, inputs: tuple[Tensor, ...], is_tuple: bool, radius: float) -> tuple[list[Tensor], list[Tensor]]:
        """Points x + t (r - x) and the offsets r - x, (B, S, *feature): r any baseline, t uniform up to the radius."""
        references = self._references(inputs, is_tuple)
        shape, x = (len(inputs[0]), self.n_samples), inputs[0]
        drawn = torch.randint(references.count, shape, generator=self.generator, device=self.generator.device)
        which = drawn.to(x.device).flatten()
        examples = torch.arange(len(x), device=x.device).repeat_interleave(self.n_samples)
        ends = (r.view(*shape, *r.shape[1:]) for r in references.of_rows(examples, which))
        dtype = accumulation_dtype(*(x.dtype for x in inputs))
        offsets = [r.to(dtype) - x.unsqueeze(1).to(dtype) for r, x in zip(ends, inputs, strict=True)]
        shares = self._uniform(shape, offsets[0])
        if math.isfinite(radius):
            distance = _norm(offsets)
            shares = shares * radius / distance.clamp(min=radius)
        return _moved(inputs, [beside(shares, o) * o for o in offsets]), offsets

    def _ball(self, inputs: tuple[Tensor, ...], radius: float) -> list[Tensor]:
        """Points uniform in the ball around each input, (B, S, *feature)."""
        dtype = accumulation_dtype(*(x.dtype for x in inputs))
        lead, source = (len(inputs[0]), self.n_samples), self.generator
        normal = [
            torch.randn(*lead, *x.shape[1:], generator=source, device=source.device, dtype=dtype).to(x.device)
            for x in inputs
        ]
        dimension = sum(x[0].numel() for x in inputs)
        lengths = radius * self._uniform(lead, normal[0]) ** (1 / dimension) / _norm(normal)
        return _moved(inputs, [beside(lengths, n) * n for n in normal])

    def _uniform(self, shape: tuple[int, int], like: Tensor) -> Tensor:
        drawn = torch.rand(shape, generator=self.generator, device=self.generator.device, dtype=torch.float64)
        return drawn.to(like.device, like.dtype)

    def _references(self, inputs: tuple[Tensor, ...], is_tuple: bool) -> BaselineSet:
        """The baselines, checked once where they are the same for all batches of such inputs."""
        kind = [(x.shape[1:], x.dtype, x.device) for x in inputs]
        if self._kept is not None and self._kept[0] == kind:
            return self._kept[1]
        detached = tuple(x.detach() for x in inputs)
        references = format_baselines(self.baselines, detached, is_tuple, pairing="shared")
        if not callable(self.baselines):
            if not references.shared:
                raise ValueError(
                    "baselines of shape (B, K, *feature) belong to the examples of one batch; give (K, *feature), or a "
                    "callable of the inputs that returns each batch's own"
                )
            self._kept = kind, references
        return references

    def _gradients(self, points: list[Tensor], target: Target, additional_forward_args: object) -> tuple[Tensor, ...]:
        """The gradients at points (B, S, *feature), with a graph unless under torch.no_grad()."""
        lead = points[0].shape[:2]
        rows = torch.arange(lead[0], device=points[0].device).repeat_interleave(lead[1])
        flat = tuple(p.flatten(0, 1) for p in points)
        flat = tuple(p if p.requires_grad else p.requires_grad_() for p in flat)
        targets = Targets(target, lead[0])
        args = ForwardArgs(additional_forward_args, lead[0]).of(rows)

        def forward(*given: Any) -> Any:
            # The model may write into what it is given.
            return self.forward_func(*(g.clone() for g in given[: len(flat)]), *given[len(flat) :])

        create_graph = torch.is_grad_enabled()
        with evaluation_mode(self.forward_func):
            if create_graph and not self._differentiable_twice:
                check_double_backward(self.forward_func, *(p[:1] for p in flat), *_first(args, len(rows)))
            gradients = input_gradients(forward, flat, targets.of(rows), args or None, targets.bounds, create_graph)
        if all(g is None for g in gradients):
            raise ValueError(
                "the output of forward_func has no gradient: it depends on none of the inputs, or the graph is cut "
                "(detach, no_grad, numpy)"
            )
        if create_graph and not any(g is not None and g.requires_grad for g in gradients):
            raise ValueError(
                "the gradients of forward_func are the same whatever its parameters are (frozen ones, or a backward "
                "without a graph), so that a prior would train nothing"
            )
        self._differentiable_twice |= create_graph
        filled = (torch.zeros_like(p) if g is None else g for g, p in zip(gradients, flat, strict=True))
        return tuple(g.view(*lead, *g.shape[1:]) for g in filled)


class SampledExpectedGradients(SampledAttribution):
    """Expected gradients from S random points for each example, in the loss of a training:

        phi_i(x) = 1/S sum_s (x_i - x'_s,i) dF(x'_s + a_s (x - x'_s)) / dx_i,

    with x'_s any of the baselines and a_s uniform on [0, 1]. In expectation it is `captum_wg.ExpectedGradients`, whose
    completeness it has in expectation only.

    Args:
        forward_func, baselines, n_samples, generator: as in `SampledAttribution`.
        multiply_by_inputs: False leaves out the factor x_i - x'_s,i.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        baselines: Baselines = None,
        n_samples: int = 1,
        multiply_by_inputs: bool = True,
        generator: torch.Generator | int | None = None,
    ):
        super().__init__(forward_func, baselines, n_samples, generator)
        self._multiply_by_inputs = check_bool(multiply_by_inputs, "multiply_by_inputs")

    def __call__(self, inputs: In, target: Target = None, additional_forward_args: object = None) -> In:
        """Attributions in the inputs' structure, shape, dtype and device, with a graph unless under torch.no_grad().

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), floating point.
            target, additional_forward_args: as in Captum; Tensors with B rows go with the examples, unless marked as
                `captum_wg.shared`.
        """
        values = check_inputs(inputs)
        points, offsets = self._segments(values, isinstance(inputs, tuple), math.inf)
        gradients = self._gradients(points, target, additional_forward_args)
        if self._multiply_by_inputs:
            gradients = tuple(-o * g for o, g in zip(offsets, gradients, strict=True))
        return _finished(tuple(g.mean(1) for g in gradients), inputs)


class SampledMeasure(SampledAttribution):
    """A measure of the gradients around each example (Payne et al. 2024) from S random points, in a training's loss.

    In expectation it is that of `captum_wg.LocalIntegratedGradients`, `GradientVariance`, `Stability` or `Consistency`:
    squares around the mean of S points are divided by S - 1.

    Args:
        forward_func, baselines, generator: as in `SampledAttribution`.
        measure: "local_integrated_gradients", "gradient_variance", "stability", "consistency", or an object as
            `captum_wg.measures` has them, such as StabilityCosine(angle="pixel"), made of differentiable operations.
        radius: of the ball around the input, over all elements.
        sampler: "segments", towards the baselines, "ball", which needs none and a finite radius, or a callable: inputs
            -> (B, S, *feature), which should draw new points each time; n_samples is then not used.
        n_samples: S; None: 1, but 2 for the variance.
    """

    def __init__(
        self,
        forward_func: Callable[..., Any],
        baselines: Baselines = None,
        measure: str | Measure = "local_integrated_gradients",
        radius: float = math.inf,
        sampler: str | Callable[..., object] = "segments",
        n_samples: int | None = None,
        generator: torch.Generator | int | None = None,
    ):
        if not isinstance(measure, Measure):
            measure = MEASURES[check_choice(measure, "measure", MEASURES)]()
        self.measure = measure
        least = 2 if isinstance(measure, Variance) else 1
        super().__init__(forward_func, baselines, least if n_samples is None else n_samples, generator)
        if self.n_samples < least:
            raise ValueError("n_samples must be at least 2 for the variance, which one point does not show; got 1")
        self.radius = check_radius(radius)
        self.sampler = sampler if callable(sampler) else check_choice(sampler, "sampler", SAMPLERS)
        if sampler == "ball" and not math.isfinite(self.radius):
            raise ValueError("radius must be finite for sampler='ball', got inf")
        if sampler == "segments" and baselines is None:
            raise ValueError(
                "baselines are the reference points that sampler='segments' goes towards, got None; give some (a "
                "Tensor (K, *feature) of training examples), or use sampler='ball'"
            )

    def __call__(self, inputs: In, target: Target = None, additional_forward_args: object = None) -> In:
        """The measure in the form that `measure` gives it, for the built-in ones that of inputs; arguments as in
        `SampledExpectedGradients`."""
        values = check_inputs(inputs)
        is_tuple = isinstance(inputs, tuple)
        points = self._points(values, is_tuple)
        at_input = getattr(self.measure, "needs_input_gradients", True)
        if at_input:
            # In the same pass as the others.
            points = [torch.cat([p, x.unsqueeze(1)], 1) for p, x in zip(points, values, strict=True)]
        gradients = self._gradients(points, target, additional_forward_args)
        count = points[0].shape[1] - at_input
        dtype = accumulation_dtype(*(x.dtype for x in values))
        measure = copy.copy(self.measure)  # what it gathers holds the graph of this call
        measure.init(inputs)
        measure.update(
            like_inputs(tuple(g[:, :count] for g in gradients), is_tuple),
            like_inputs(tuple(p[:, :count] for p in points), is_tuple),
            inputs,
            like_inputs(tuple(g[:, -1] for g in gradients), is_tuple) if at_input else None,
            torch.full((1, count), 1 / count, dtype=dtype, device=values[0].device),
        )
        result = measure.finish()
        if isinstance(measure, Variance):
            result = like_inputs(tuple(r * count / (count - 1) for r in as_tuple(result)), is_tuple)
        return _finished(as_tuple(result), inputs) if getattr(measure, "like_inputs", False) else result

    def _points(self, inputs: tuple[Tensor, ...], is_tuple: bool) -> list[Tensor]:
        if callable(self.sampler):
            source, count, _ = from_callable(self.sampler, inputs, is_tuple)
            return list(source(slice(None), slice(0, count)).at)
        if self.sampler == "ball":
            return self._ball(inputs, self.radius)
        return self._segments(inputs, is_tuple, self.radius)[0]


def smoothness(attributions: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Total variation: the mean over examples of sum |phi_i - phi_j| over all neighbours i, j. 0 for flat maps.

    Args:
        attributions: (B, *feature).
        dims: along which dimensions elements have neighbours; None: those after the channels of images and volumes, (B,
            C, H, W) and (B, C, D, H, W).

    Raises:
        TypeError, ValueError: no Tensor; no dims for Tensors of other forms, or dims that are not there.
    """
    maps = _check_map(attributions)
    ndim = maps.ndim
    if dims is None:
        if ndim < 4:
            raise ValueError(
                f"dims must say along which dimensions attributions of shape {tuple(attributions.shape)} have "
                "neighbours, such as (1,) for a time series (B, T, F); only (B, C, H, W) and more dimensions need none"
            )
        dims = tuple(range(2, ndim))
    known = isinstance(dims, tuple | list) and all(isinstance(d, int) and d % ndim and -ndim < d < ndim for d in dims)
    if not known or not dims or len({d % ndim for d in dims}) < len(dims):
        raise ValueError(
            f"dims must be a tuple of different dimensions of attributions but the first, 1 to {ndim - 1}, got {dims!r}"
        )
    total = torch.stack([maps.diff(dim=d).abs().sum() for d in dims]).sum()
    return total / len(maps)


def sparsity(attributions: Tensor, per_example: bool = False) -> Tensor:
    """1 - G, with G the Gini coefficient of a_i, the mean |phi_i| over the examples, of n features:

        G = sum_ij |a_i - a_j| / (2 n sum_i a_i),      0 <= G <= 1 - 1/n.

    1 where all features count the same, 1/n where one alone counts.

    Args:
        attributions: (B, *feature).
        per_example: take G of each example's own |phi_i|, and the mean of these: few features for each example, but not
            the same for all.

    Raises:
        TypeError: no Tensor. ValueError: no features.
    """
    sizes = _check_map(attributions).flatten(1).abs()
    if not check_bool(per_example, "per_example"):
        sizes = sizes.mean(0, keepdim=True)
    ordered = sizes.sort(dim=1).values
    n = ordered.shape[1]
    ranks = torch.arange(1, n + 1, device=ordered.device, dtype=ordered.dtype)
    total = ordered.sum(1)
    nothing = total == 0
    gini = ((2 * ranks - n - 1) * ordered).sum(1) / (n * torch.where(nothing, 1, total))
    return (1 - gini).mean()


def agreement(attributions: Tensor, mask: Tensor) -> Tensor:
    """Right for the right reasons: the mean over examples of sum_i ((1 - m_i) phi_i)^2, 0 if all lies within the mask.

    Ross, Hughes and Doshi-Velez 2017, "Right for the right reasons"; they take the gradient of the sum of all log
    probabilities for phi, and A = 1 - m.

    Args:
        attributions: (B, *feature).
        mask: m, bool or numbers in [0, 1]: 1 where attributions belong, 0 where there should be none; a shape that
            broadcasts to that of attributions, such as (H, W), (B, 1, H, W).

    Raises:
        TypeError, ValueError: no Tensor; a mask of another shape, or with other numbers.
    """
    maps = _check_map(attributions)
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a Tensor, got {type(mask).__name__}")
    shape = tuple(maps.shape)
    sizes = zip(reversed(mask.shape), reversed(shape), strict=False)
    if mask.ndim > len(shape) or any(m not in (1, a) for m, a in sizes):
        raise ValueError(
            f"mask must have a shape that broadcasts to that of attributions, {shape}, got {tuple(mask.shape)}"
        )
    share = mask.to(maps)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise ValueError("mask must be bool, or numbers from 0 (no attribution belongs here) to 1")
    return ((1 - share) * maps).square().sum() / len(maps)


@contextmanager
def evaluation_mode(function: object) -> Iterator[None]:
    """The modules that a function calls in evaluation mode, and each in its own mode after."""
    training = [m for model in modules_of(function) for m in model.modules() if m.training]
    try:
        for module in training:
            module.training = False
        yield
    finally:
        for module in training:
            module.training = True


def _finished(maps: tuple[Tensor, ...], inputs: In) -> In:
    cast_down = tuple(m.to(x.dtype) for m, x in zip(maps, as_tuple(inputs), strict=True))
    check_finite(cast_down, "attributions")
    return cast(In, like_inputs(cast_down, isinstance(inputs, tuple)))


def _moved(inputs: tuple[Tensor, ...], offsets: list[Tensor]) -> list[Tensor]:
    return [(x.unsqueeze(1) + o).to(x.dtype) for x, o in zip(inputs, offsets, strict=True)]


def _norm(values: list[Tensor]) -> Tensor:
    """The Euclidean norm over all elements of all Tensors, (B, S)."""
    norm: Tensor = torch.linalg.vector_norm(
        torch.stack([torch.linalg.vector_norm(v.flatten(2), dim=2) for v in values]), dim=0
    )
    return norm


def _first(args: tuple[Any, ...], rows: int) -> tuple[Any, ...]:
    """The arguments of the first of some rows."""
    return tuple(a[:1] if isinstance(a, Tensor) and a.ndim and len(a) == rows else a for a in args)


def _check_map(attributions: Inputs) -> Tensor:
    """The attributions, in a dtype whose range squares and sums of many do not leave."""
    if not isinstance(attributions, Tensor):
        raise TypeError(
            f"attributions must be a Tensor (B, *feature), got {type(attributions).__name__}; of a tuple of inputs "
            "give one element after the other, and add the penalties"
        )
    if attributions.ndim < 2 or attributions.numel() == 0:
        raise ValueError(f"attributions must have shape (B, *feature), got {tuple(attributions.shape)}")
    if not attributions.is_floating_point():
        raise TypeError(f"attributions must be floating point, got {attributions.dtype}")
    return at_least_float32(attributions)
