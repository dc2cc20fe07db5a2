"""Generalized integrated attributions: statistics of the gradients over a set of interest (Payne et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import groupby
from typing import Any, ClassVar, cast

import torch
from torch import Tensor

from captum_wg.attribution_base import BaselineAttribution, check_smooth_maps, logged
from captum_wg.engine.baseline_set import Baselines
from captum_wg.engine.checks import check_choice, check_finite
from captum_wg.engine.problem import Points, Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import In, Inputs, accumulation_dtype, as_tuple, like_inputs
from captum_wg.integrals.random import Seed
from captum_wg.measures import Collected, ConsistencyCosine, Mean, Measure, StabilityCosine, Variance
from captum_wg.samplers import Sample, Sampler, make_points
from captum_wg.smoothing import Smooth, smoothed

MEASURES: dict[str, Callable[[], Measure]] = {
    "local_integrated_gradients": Mean,
    "gradient_variance": Variance,
    "stability": StabilityCosine,
    "consistency": ConsistencyCosine,
}

# What a plain function may hold of one group of examples before it is asked to become a streaming measure.
COLLECTED_BYTES = 2**31

Measures = Mapping[str, object] | list[str] | tuple[str, ...] | None


class LocalAttribution(BaselineAttribution):
    """What all local measures share: reference points that only some samplers need.

    Args:
        forward_func, baselines: as in `BaselineAttribution`.
    """

    def __init__(self, forward_func: Callable[..., Any], *, baselines: Baselines = None):
        super().__init__(forward_func, baselines)

    def _around(
        self, how: tuple[Sampler, float, int, Seed], inputs: Inputs | None, baselines: Baselines, *others: Any
    ) -> tuple[Problem, Sample]:
        """The problem, and the points of a sampler, its radius, n_samples and generator."""
        sampler, *settings = how
        needless = callable(sampler) or sampler == "ball"
        missing = baselines is None and self.baselines is None
        problem, references = self._problem(inputs, self._nowhere() if needless else baselines, *others)
        given = None if missing else references
        return problem, make_points(sampler, problem.inputs, problem.is_tuple, given, *settings)

    def _nowhere(self) -> Baselines:
        """The baselines of samplers that need none, which must not stumble over any."""
        return 0.0


class GeneralizedAttribution(LocalAttribution):
    """Any number of statistics of the gradients around an input, from one pass over one sample of points.

    Equation 9 of Payne et al. 2024: the integral over a set S of A(F, x) p_S(x) dx, by Monte Carlo,

        sum_s w_s A(grad F(s), s, x, grad F(x)),      s in the sample, w_s = 1 / S unless `weights` are given.

    Args:
        forward_func, baselines: as in `ExpectedGradients`. F is the output at `target`, as everywhere in Captum (the
            code published with the paper takes the sum of all logits: for that, give `lambda x: model(x).sum(1)` and
            no target).

    Examples:
        >>> square = GeneralizedAttribution(lambda z: z.square().sum(1))
        >>> x, references = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> found = square.attribute(x, references, sampler="staggered", n_samples=4, measures={
        ...     "mean": "local_integrated_gradients",
        ...     "largest": lambda gradients, *_: gradients.amax(1),
        ... })
        >>> found["mean"], found["largest"]
        (tensor([[1.7500, 3.5000]]), tensor([[3.2500, 6.5000]]))
    """

    @logged
    def attribute(
        self,
        inputs: Inputs | None,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        radius: float = math.inf,
        sampler: Sampler = "segments",
        n_samples: int = 100,
        generator: Seed = None,
        internal_batch_size: int | None = None,
        *,
        measures: Measures = None,
        weights: Tensor | None = None,
        pairing: str | None = None,
        show_progress: bool | None = None,
        smooth: Smooth = None,
    ) -> dict[str, Any]:
        """Attributions by measure.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature). None for an attribution over a set alone, with no input
                that it is around: sampler is then a callable, called with None, that returns (1, S, *feature), and
                the results have B = 1.
            baselines: the K reference points that all but "ball" and your own sampler go towards, in any form
                ExpectedGradients takes (each example's own included); None for the constructor's.
            target, additional_forward_args, internal_batch_size, pairing, show_progress: as in
                `ExpectedGradients.attribute`.
            radius: of the ball around the input, in the inputs' units, over all their elements; inf: no limit.
            sampler: "segments", "staggered", "ball", "rays" (`captum_wg.samplers`), or a callable: inputs -> (B, S,
                *feature), in the inputs' structure; radius, n_samples and generator are then not used.
            n_samples: S; with K references each is used S / K times, and every one before any is used twice.
            generator: a torch.Generator on the inputs' device, an int seed, or None for a fixed seed.
            measures: a mapping of names to measures, or a list of names. A measure is the name of a built-in one
                ("local_integrated_gradients", "gradient_variance", "stability", "consistency"), an object with init,
                update and finish (`captum_wg.measures`), whose memory does not grow with the points, or a plain
                function f(gradients, points, inputs, input_gradients, weights) -> (b, ...) of all of them, called for
                each group of b examples, where they fit into 2 GiB. None: the four built-in ones.
            weights: p_S where the points are not drawn from it: (S,) or (B, S), not negative; normalised to sum 1.
            smooth: mix maps with their blur (`captum_wg.smoothing.smoothed_mix`): those of the built-in measures, and
                of others with like_inputs = True. None: don't.

        Returns:
            A dict of the results by name, in the order of measures; the built-in ones have the inputs' structure,
            shape, dtype and device.

        Raises:
            ValueError, TypeError: an argument does not fit; the message names it. A NaN or infinite gradient.
        """
        others = target, additional_forward_args, pairing, internal_batch_size, show_progress
        around = self._around((sampler, radius, n_samples, generator), inputs, baselines, *others)
        return _measured(_make_measures(measures), *around, weights, smooth)


class SingleMeasure(LocalAttribution):
    """One measure of the gradients around an input, which `measure` names."""

    measure: ClassVar[Callable[[], Measure]]

    @logged
    def attribute(
        self,
        inputs: In,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        radius: float = math.inf,
        sampler: Sampler = "segments",
        n_samples: int = 100,
        generator: Seed = None,
        internal_batch_size: int | None = None,
        *,
        weights: Tensor | None = None,
        pairing: str | None = None,
        show_progress: bool | None = None,
        smooth: Smooth = None,
    ) -> In:
        """The measure, in the inputs' structure, shape, dtype and device; arguments as in
        `GeneralizedAttribution.attribute`."""
        others = target, additional_forward_args, pairing, internal_batch_size, show_progress
        around = self._around((sampler, radius, n_samples, generator), inputs, baselines, *others)
        return cast(In, _measured({"": type(self).measure()}, *around, weights, smooth)[""])


class AngleMeasure(LocalAttribution):
    """One measure of angles between vectors around an input, which `measure` names."""

    measure: ClassVar[Callable[[str], Measure]]

    @logged
    def attribute(
        self,
        inputs: In,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        radius: float = math.inf,
        sampler: Sampler = "segments",
        n_samples: int = 100,
        generator: Seed = None,
        internal_batch_size: int | None = None,
        *,
        angle: str = "auto",
        weights: Tensor | None = None,
        pairing: str | None = None,
        show_progress: bool | None = None,
        smooth: Smooth = None,
    ) -> In:
        """The measure, in the inputs' structure, shape, dtype and device; `angle` as in `Stability`, other arguments as
        in `GeneralizedAttribution.attribute`."""
        others = target, additional_forward_args, pairing, internal_batch_size, show_progress
        around = self._around((sampler, radius, n_samples, generator), inputs, baselines, *others)
        return cast(In, _measured({"": type(self).measure(angle)}, *around, weights, smooth)[""])


class LocalIntegratedGradients(SingleMeasure):
    """The mean gradient over a set around the input (Payne et al. 2024, Eq. 4 and 5): E_s[grad F(s)].

    With sampler="segments" and radius=inf this is expected gradients without the multiplication by x - x'. In units of
    F per unit of input.
    """

    measure = Mean


class GradientVariance(SingleMeasure):
    """The variance of the gradient around the input (Payne et al. 2024, Eq. 6): E_s[(grad F(s) - E grad F)^2].

    The population variance, never negative, exactly 0 for a constant gradient. In squared units of F per unit of input.

    Examples:
        >>> x, references = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> GradientVariance(lambda z: z.sum(1)).attribute(x, references)  # the gradient is 1 everywhere
        tensor([[0., 0.]])
    """

    measure = Variance


class Stability(AngleMeasure):
    """Whether the gradients around the input point back to it (Payne et al. 2024, Eq. 7): E_s[cos(s - x, grad F(s))].

    In [-1, 1]: -1 where every gradient points at the input (it is a local maximum), 1 where all point away from it.
    The offset is s - x as in the paper; the code published with it takes x - s.

    angle: between which vectors the cosine is taken, see `captum_wg.cosines.cosines`: "channel_pairs" (the published
    form, images of 3 channels), "pixel", "global" (the equation to the letter) or "auto". A zero vector counts as 0.

    Examples:
        >>> peak = lambda z: -z.square().sum(1)
        >>> Stability(peak).attribute(torch.zeros(1, 2), sampler="ball", radius=1.0)  # one number for each example
        tensor([[-1.0000, -1.0000]])
    """

    measure = StabilityCosine


class Consistency(AngleMeasure):
    """Whether the gradients around the input agree with that at the input (Payne et al. 2024, Eq. 8).

    E_s[cos(grad F(x), grad F(s))], in [-1, 1]: 1 where the function is linear. Takes one gradient more per example.
    `angle` as in `Stability`.

    Examples:
        >>> Consistency(lambda z: z.sum(1)).attribute(torch.zeros(1, 2), sampler="ball", radius=1.0)
        tensor([[1.0000, 1.0000]])
    """

    measure = ConsistencyCosine


def _measured(
    measures: dict[str, Measure], problem: Problem, sample: Sample, weights: Tensor | None, smooth: Smooth
) -> dict[str, Any]:
    """The results of measures by name: one walk over the gradients, every tile shown to every measure."""
    points, n_points, like = sample
    is_tuple = problem.is_tuple if problem.inputs else len(like) > 1
    check_smooth_maps(problem, smooth, like)
    shares = _check_weights(weights, problem.n_examples, n_points, like)
    wanted = {name: getattr(m, "needs_input_gradients", True) for name, m in measures.items()}
    at_inputs = _gradients_at_inputs(problem) if problem.inputs and any(wanted.values()) else None
    held = 2 * max(1, problem.rows(like) // n_points) * n_points * sum(x[0].numel() * x.element_size() for x in like)
    plain = [name for name, measure in measures.items() if isinstance(measure, Collected)]
    if plain and held > COLLECTED_BYTES:
        raise ValueError(
            f"measures[{plain[0]!r}] is a plain function and would have to be given all {n_points} gradients at once, "
            f"{held / 2**30:.1f} GiB; make it an object with init, update and finish (captum_wg.measures), or lower "
            "n_samples"
        )

    def of(examples: slice, values: tuple[Tensor, ...] | None) -> Inputs | None:
        return like_inputs(tuple(v[examples] for v in values), is_tuple) if values else None

    results: dict[str, list[Any]] = {name: [] for name in measures}
    for examples, tiles in groupby(problem.gradients(points, n_points, like), lambda tile: tile.examples):
        inputs, input_gradients = of(examples, problem.inputs), of(examples, at_inputs)
        for measure in measures.values():
            measure.init(inputs)
        for tile in tiles:
            gradients, at = like_inputs(tile.gradients, is_tuple), like_inputs(tile.at, is_tuple)
            share = (shares if len(shares) == 1 else shares[examples])[:, tile.points]
            for name, measure in measures.items():
                measure.update(gradients, at, inputs, input_gradients if wanted[name] else None, share)
        for name, measure in measures.items():
            results[name].append(_checked(name, measure.finish(), examples.stop - examples.start))
    problem.check_dependence()
    return {name: _join(parts, like, measures[name], smooth) for name, parts in results.items()}


def _gradients_at_inputs(problem: Problem) -> tuple[Tensor, ...]:
    def source(examples: slice, _: slice) -> Points:
        return Points(tuple(x[examples].unsqueeze(1) for x in problem.inputs))

    tiles = [tile.gradients for tile in problem.gradients(source, 1, what="at the inputs")]
    return tuple(torch.cat(parts).squeeze(1) for parts in zip(*tiles, strict=True))


def _make_measures(measures: Measures) -> dict[str, Measure]:
    if measures is None:
        measures = list(MEASURES)
    if isinstance(measures, list | tuple):
        measures = {name: name for name in measures}
    if not isinstance(measures, Mapping) or not measures:
        raise TypeError(
            "measures must be a mapping of names to measures, or a list of built-in names, with at least one; got "
            f"{measures!r}"
        )
    made: dict[str, Measure] = {}
    for name, measure in measures.items():
        if isinstance(measure, str):
            measure = MEASURES[check_choice(measure, f"measures[{name!r}]", MEASURES)]
        if isinstance(measure, type):
            measure = measure()
        if not isinstance(measure, Measure):
            if not callable(measure):
                raise TypeError(
                    f"measures[{name!r}] must be a built-in name, an object with init, update and finish, or a "
                    f"function, got {type(measure).__name__}"
                )
            measure = Collected(measure)
        if any(measure is other for other in made.values()):
            raise ValueError(
                f"measures[{name!r}] is the same object as another one; a measure has a state, so make one for each "
                "name"
            )
        made[name] = measure
    return made


def _check_weights(weights: Tensor | None, n_examples: int, n_points: int, like: tuple[Tensor, ...]) -> Tensor:
    """Weights of the points, (1 or B, S), that sum to 1."""
    dtype = accumulation_dtype(*like)
    if weights is None:
        return torch.full((1, n_points), 1 / n_points, dtype=dtype, device=like[0].device)
    if not isinstance(weights, Tensor) or weights.is_complex():
        came = "complex numbers" if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"weights must be a Tensor of real numbers, got {came}")
    if tuple(weights.shape) not in ((n_points,), (n_examples, n_points)):
        raise ValueError(
            f"weights must have shape (S,) = ({n_points},) or (B, S) = ({n_examples}, {n_points}), got "
            f"{tuple(weights.shape)}"
        )
    rows = weights.detach().to(dtype=torch.float64, device="cpu").reshape(-1, n_points)
    if not torch.isfinite(rows).all() or (rows < 0).any() or (rows.amax(1) <= 0).any():
        raise ValueError("weights must be finite and not negative, with a positive sum for each example")
    rows = rows / rows.amax(1, keepdim=True)  # whose sum can't overflow
    return (rows / rows.sum(1, keepdim=True)).to(dtype=dtype, device=like[0].device)


def _checked(name: str, result: Any, n_examples: int) -> Any:
    """What a measure gave for a group of b examples: one row for each of them."""
    for part in as_tuple(result):
        if not isinstance(part, Tensor):
            raise TypeError(
                f"measures[{name!r}] must return a Tensor or a tuple of Tensors (b, ...), got {type(part).__name__}"
            )
        if part.ndim == 0 or part.shape[0] != n_examples:
            raise ValueError(
                f"measures[{name!r}] must return one row for each example of a group, (b, ...) = ({n_examples}, ...), "
                f"got shape {tuple(part.shape)}; reduce over dimension 1, the points, only"
            )
    return result


def _join(parts: list[Any], like: tuple[Tensor, ...], measure: Measure, smooth: Smooth) -> Any:
    """The results of all groups as one; smoothed, and in the inputs' dtype, if they are of the inputs' structure."""
    joined = tuple(torch.cat(pieces) for pieces in zip(*map(as_tuple, parts), strict=True))
    if getattr(measure, "like_inputs", False):
        joined = tuple(j.to(x.dtype) for j, x in zip(smoothed(joined, smooth), like, strict=True))
        check_finite(joined, "attributions")
    return like_inputs(joined, isinstance(parts[0], tuple))
