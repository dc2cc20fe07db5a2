"""Any Captum attribution from one baseline, averaged over many."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from captum.attr import (
    Attribution,
    DeepLift,
    DeepLiftShap,
    GradientShap,
    LayerAttribution,
    LayerGradientShap,
    NeuronDeepLift,
    NeuronDeepLiftShap,
    NeuronGradientShap,
)
from torch import Tensor

from captum_wg.attribution_base import (
    AttributionResult,
    BaselineAttribution,
    CompleteAttribution,
    groups_of,
    logged,
)
from captum_wg.deep_lift_hooks import SumCheck, some, uses_of
from captum_wg.engine.baseline_set import Baselines, BaselineSet
from captum_wg.engine.checks import check_bools, check_finite, check_generator
from captum_wg.engine.completeness import Completeness
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import Inputs, accumulation_dtype, as_tuple, like_inputs
from captum_wg.feature_groups import Groups
from captum_wg.smoothing import Smooth, check_smooth, smoothed
from captum_wg.weighting.binding import Weighting, bind
from captum_wg.weighting.equal import Equal
from captum_wg.weighting.maps import StoredMaps
from captum_wg.weighting.masking import Features
from captum_wg.weighting.weights import check_keep, equal_weights

_OVER_MANY = (
    BaselineAttribution,
    DeepLiftShap,
    GradientShap,
    LayerGradientShap,
    NeuronDeepLiftShap,
    NeuronGradientShap,
)
_OURS = ("inputs", "baselines", "target", "additional_forward_args", "return_convergence_delta", "internal_batch_size")


class _Part(NamedTuple):
    """What the method returned for the pairs of some examples and baselines: (b, s, *feature) for each element."""

    examples: slice
    baselines: slice
    maps: tuple[Tensor, ...]
    is_tuple: bool


class OverBaselines(CompleteAttribution):
    """The maps of a method over K baselines, averaged:

        phi(x) = sum_k w_k method(x, x'_k),      w_k = 1 / K, or by their fitness for this very input (weighting).

    The method is any Captum attribution that takes a baseline: DeepLift above all, LayerDeepLift, IntegratedGradients,
    Occlusion, FeatureAblation, ShapleyValueSampling, KernelShap, their Layer and Neuron forms. Over DeepLift with equal
    weights this is what DeepLiftShap computes, which expands all B x K pairs into one batch; here pairs go to the
    method in micro-batches, and of equal weights no more than the running mean is kept. With one baseline it is the
    method itself.

    (InputXGradient takes no baseline. The gradient at x times x - x'_k, averaged, is
    `ExpectedGradients(model).attribute(x, baselines, target, n_steps=1, method="riemann_right")`.)

    Captum's DeepLift keeps the plain gradient of every non-linear function that is not a module it knows (F.relu,
    nn.GELU, attention), in silence. Where maps of it, LayerDeepLift or NeuronDeepLift miss their sums, a warning names
    what it has no hook on. Captum's rules for max pooling and nn.Softmax miss the sum, too, and mix the rows of a
    micro-batch: explain logits, and prefer networks without max pooling.

    Source for DeepLift over many baselines: Lundberg and Lee, "A Unified Approach to Interpreting Model Predictions",
    NeurIPS 2017 (DeepSHAP).

    Args:
        method: the attribution, an instance: OverBaselines(DeepLift(model)).
        weighting: "equal"; or as in `WeightedGradients.attribute`, of the K maps, which are then kept: "deletion",
            "insertion", "both", an object with its settings, a callable. It needs maps of the inputs' shape, which
            those of layers have not.
        baselines: used where `attribute` is given none; for wrappers that expand or refuse K rows (NoiseTunnel,
            sensitivity_max, infidelity).

    Raises:
        TypeError, ValueError: no instance of an attribution, one that takes no baseline, or that averages over
            baselines itself.

    Examples:
        >>> from captum.attr import DeepLift
        >>> net = torch.nn.Linear(2, 1, bias=False)
        >>> net.weight.data = torch.tensor([[1.0, 2.0]])
        >>> references = torch.tensor([[0.0, 0.0], [2.0, 4.0]])
        >>> OverBaselines(DeepLift(net)).attribute(torch.tensor([[3.0, 3.0]]), references)  # of a mean of (1, 2)
        tensor([[2., 2.]])
    """

    def __init__(self, method: Attribution, weighting: Weighting = "equal", baselines: Baselines = None):
        if not isinstance(method, Attribution):
            made = f"; make an instance of it: {method.__name__}(model)" if isinstance(method, type) else ""
            raise TypeError(f"method must be a Captum attribution such as DeepLift(model), got {method!r}{made}")
        name = type(method).__name__
        if isinstance(method, _OVER_MANY):
            raise ValueError(
                f"{name} averages over baselines itself: call it with all of them, or give the method for one baseline "
                "(DeepLift for DeepLiftShap, IntegratedGradients for GradientShap and ExpectedGradients)"
            )
        self._parameters = frozenset(inspect.signature(method.attribute).parameters)
        if "baselines" not in self._parameters:
            raise ValueError(f"method must take baselines, but {name}.attribute has no argument of that name")
        super().__init__(method.forward_func, bool(getattr(method, "multiplies_by_inputs", True)), baselines)
        self.method = method
        self.weighting = weighting
        self._has_weights = not (
            weighting == "equal" or (isinstance(weighting, Equal) and not weighting.normalise_maps)
        )

    @logged
    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        return_convergence_delta: bool = False,
        *,
        internal_batch_size: int | None = None,
        pairing: str | None = None,
        show_progress: bool | None = None,
        keep: int | float | None = None,
        feature_mask: Inputs | None = None,
        smooth: Smooth = None,
        group_attributions: str | None = None,
        generator: torch.Generator | int | None = None,
        return_weights: bool = False,
        **attribute_kwargs: Any,
    ) -> Any:
        """The method's attributions, averaged over baselines.

        Args:
            inputs, baselines, target, additional_forward_args, pairing: as in `ExpectedGradients.attribute`.
            return_convergence_delta: also return sum_i phi_i - (F(x) - sum_k w_k F(x'_k)), (B,). It is 0 but for
                rounding where the method is complete.
            internal_batch_size: pairs of an example and a baseline that go to the method at once, any number from 1
                (DeepLift runs two rows for each); handed on to methods that have an argument of that name, as the
                steps of IntegratedGradients. None: by the size of an example.
            show_progress: a progress bar over the pairs; None: after five seconds, False: never.
            keep: with a weighting by fitness, average over the fittest baselines only, as in `WeightedGradients`.
            feature_mask: group numbers (1 or B, *feature), for the weighting, and for the method where it takes them.
            smooth: mix the result with its blur (`captum_wg.smoothing.smoothed_mix`); None: don't.
            group_attributions: return the groups of feature_mask as one number each, "sum" or "broadcast", as in
                `ExpectedGradients.attribute`; for maps of the inputs' shape, of methods that take no feature_mask.
            generator: for methods that draw: a torch.Generator on the inputs' device, an int seed, or None for a fixed
                seed. The global generators are put back afterwards. The same seed and internal_batch_size give the same
                bits.
            return_weights: also return the weights, (B, K), 0 for baselines left out.
            **attribute_kwargs: the method's own (sliding_window_shapes, n_steps, neuron_selector, ...).

        Returns:
            What the method returns for one baseline; in an `AttributionResult` with the delta and the weights if these
            were asked for.

        Raises:
            TypeError, ValueError: an argument does not fit; the message names it. Modules that DeepLift meets twice, or
                on what is no function of the inputs.

        Warns:
            UserWarning: DeepLift falls back to plain gradients; the message names the modules.
        """
        check_bools(return_convergence_delta=return_convergence_delta, return_weights=return_weights)
        self._check_arguments(attribute_kwargs, target, return_convergence_delta)
        problem, references = self._problem(
            inputs, baselines, target, additional_forward_args, pairing, internal_batch_size, show_progress
        )
        if not isinstance(self.method, LayerAttribution):
            check_smooth(smooth, problem.inputs)
        masks = None if feature_mask is None else as_tuple(feature_mask)
        groups = self._groups(problem, feature_mask, group_attributions)
        features = Features(problem.inputs, masks)
        weigher = bind(self.weighting, problem, features)
        count, n_kept = references.count, check_keep(keep, references.count)
        fewer = n_kept < count
        if count > 1:
            weigher.check(fewer)
        needs_maps = weigher.needs_maps(count, fewer)
        if masks is not None and not (needs_maps or groups) and "feature_mask" not in self._parameters:
            raise ValueError(
                f"feature_mask is used neither by {type(self.method).__name__} nor by the weighting; to sum its maps "
                "over groups say group_attributions='broadcast' or 'sum'"
            )

        with _seeded(generator, problem.inputs[0].device):
            parts = self._parts(problem, references, masks, attribute_kwargs)
            if needs_maps:
                maps, is_tuple, dtypes = _stored(parts, problem.n_examples, count)
                self._check_shapes(maps, problem)
                weights = weigher(StoredMaps(maps, features), n_kept if fewer else None)
                totals = _weighted(maps, weights)
            else:
                weights = equal_weights(problem.n_examples, count)
                totals, is_tuple, dtypes = _mean(parts, problem.n_examples, count)

        totals = smoothed(totals, smooth)
        if groups is None:
            returned = counted = tuple(t.to(dtype) for t, dtype in zip(totals, dtypes, strict=True))
        else:
            returned, counted = groups(totals)
        check_finite(returned, "attributions")
        attributions = like_inputs(returned, is_tuple and group_attributions != "sum")
        if not (return_convergence_delta or return_weights):
            return attributions
        weights = weights.to(totals[0])
        delta = Completeness(problem, references).delta(counted, weights) if return_convergence_delta else None
        return AttributionResult(attributions, delta, weights if return_weights else None)

    def has_convergence_delta(self) -> bool:
        return bool(self.method.has_convergence_delta())

    def _check_arguments(self, attribute_kwargs: dict[str, Any], target: Target, delta: bool) -> None:
        name = type(self.method).__name__
        unknown = sorted(set(attribute_kwargs) - (self._parameters - set(_OURS)))
        if unknown:
            raise TypeError(f"{name}.attribute has no argument {', '.join(map(repr, unknown))}")
        if "target" not in self._parameters:
            if target is not None:
                raise TypeError(f"{name}.attribute takes no target; leave it out")
            if delta:
                raise ValueError(f"{name} explains no output of the model, so that it has no convergence delta")

    def _parts(
        self,
        problem: Problem,
        references: BaselineSet,
        masks: tuple[Tensor, ...] | None,
        attribute_kwargs: dict[str, Any],
    ) -> Iterator[_Part]:
        """The method's maps of all pairs, in micro-batches."""
        device = problem.inputs[0].device
        check = SumCheck(self.method, problem, attribute_kwargs)
        with problem.progress(problem.n_examples * references.count) as bar:
            for examples, chosen in problem.tiles(references.count):
                for part in chosen:
                    b, s = examples.stop - examples.start, part.stop - part.start
                    numbers = torch.arange(examples.start, examples.stop, device=device).repeat_interleave(s)
                    which = torch.arange(part.start, part.stop, device=device).repeat(b)
                    starts = references.of_rows(numbers, which)
                    with check.noting():
                        result = self._pairs(problem, starts, numbers, masks, attribute_kwargs)
                    maps = tuple(m.detach() for m in as_tuple(result))
                    self._check_rows(maps, len(numbers))
                    check(starts, numbers, maps)
                    shaped = tuple(m.reshape(b, s, *m.shape[1:]) for m in maps)
                    yield _Part(examples, part, shaped, isinstance(result, tuple))
                    bar.update(b * s)

    def _pairs(
        self,
        problem: Problem,
        starts: tuple[Tensor, ...],
        numbers: Tensor,
        masks: tuple[Tensor, ...] | None,
        attribute_kwargs: dict[str, Any],
    ) -> Any:
        """The method's result for one micro-batch: examples `numbers` (R,) and their baselines (R, *feature)."""
        with torch.inference_mode(False), torch.enable_grad(), _hushed():
            rows = tuple(x[numbers] for x in problem.inputs)
            known = {
                "target": problem.targets.of(numbers),
                "additional_forward_args": problem.args.of(numbers) or None,
                "internal_batch_size": len(numbers),
            }
            if masks is not None:
                known["feature_mask"] = like_inputs(
                    tuple(
                        m[numbers.to(m.device)] if m.ndim == x.ndim and len(m) > 1 else m
                        for m, x in zip(masks, problem.inputs, strict=True)
                    ),
                    problem.is_tuple,
                )
            try:
                return self.method.attribute(
                    like_inputs(rows, problem.is_tuple),
                    baselines=like_inputs(tuple(s.clone() for s in starts), problem.is_tuple),
                    **{name: value for name, value in known.items() if name in self._parameters},
                    **attribute_kwargs,
                )
            except RuntimeError as error:
                # What DeepLift can't do with this model; anything else is none of its own.
                if "being used more than once" in str(error):
                    reused = some(uses_of(problem, numbers).reused)
                    raise ValueError(
                        f"DeepLift needs a module of its own for each use, but {reused or 'one is used again'}; "
                        "make one for each place where it is called"
                    ) from error
                if "doesn't require gradient" in str(error) and isinstance(self.method, DeepLift | NeuronDeepLift):
                    raise ValueError(
                        "DeepLift has no rule for a non-linear module that is called on what does not depend on the "
                        "inputs, such as a buffer; call a function there (F.relu), or use a path method such as "
                        "ExpectedGradients"
                    ) from error
                raise

    def _check_rows(self, maps: tuple[Tensor, ...], n_rows: int) -> None:
        shapes = [tuple(m.shape) for m in maps]
        if any(not shape or shape[0] != n_rows for shape in shapes):
            raise ValueError(
                f"{type(self.method).__name__} must return one map per example: {n_rows} pairs went in, shapes "
                f"{shapes} came back"
            )

    def _check_shapes(self, maps: tuple[Tensor, ...], problem: Problem) -> None:
        if [m.shape[2:] for m in maps] != [x.shape[1:] for x in problem.inputs]:
            raise ValueError(
                f"weighting={self.weighting!r} looks at maps of the inputs' shape, but {type(self.method).__name__} "
                f"returns {[tuple(m.shape[2:]) for m in maps]}; use weighting='equal'"
            )

    def _groups(self, problem: Problem, feature_mask: Inputs | None, form: str | None) -> Groups | None:
        if form is not None and (isinstance(self.method, LayerAttribution) or "feature_mask" in self._parameters):
            why = "has maps of layers" if isinstance(self.method, LayerAttribution) else "takes feature_mask itself"
            raise ValueError(f"group_attributions: {type(self.method).__name__} {why}; leave it out")
        return groups_of(problem, feature_mask, form)


def _mean(
    parts: Iterator[_Part], n_examples: int, n_baselines: int
) -> tuple[tuple[Tensor, ...], bool, list[torch.dtype]]:
    """The mean over baselines, (B, *feature) for each element; no more than that is kept."""
    totals: tuple[Tensor, ...] = ()
    for part in parts:
        totals = totals or tuple(
            m.new_zeros(n_examples, *m.shape[2:], dtype=accumulation_dtype(m.dtype)) for m in part.maps
        )
        for total, m in zip(totals, part.maps, strict=True):
            total[part.examples] += m.to(total.dtype).sum(1)
        is_tuple, dtypes = part.is_tuple, [m.dtype for m in part.maps]
    return tuple(total / n_baselines for total in totals), is_tuple, dtypes


def _stored(
    parts: Iterator[_Part], n_examples: int, n_baselines: int
) -> tuple[tuple[Tensor, ...], bool, list[torch.dtype]]:
    """All maps, (B, K, *feature) for each element."""
    stored: tuple[Tensor, ...] = ()
    for part in parts:
        stored = stored or tuple(
            m.new_zeros(n_examples, n_baselines, *m.shape[2:], dtype=accumulation_dtype(m.dtype)) for m in part.maps
        )
        for maps, m in zip(stored, part.maps, strict=True):
            maps[part.examples, part.baselines] = m.to(maps.dtype)
        is_tuple, dtypes = part.is_tuple, [m.dtype for m in part.maps]
    return stored, is_tuple, dtypes


def _weighted(maps: tuple[Tensor, ...], weights: Tensor) -> tuple[Tensor, ...]:
    """sum_k w_k map_k with weights (B, K), one baseline after another."""
    totals = tuple(torch.zeros_like(m[:, 0]) for m in maps)
    for total, m in zip(totals, maps, strict=True):
        for of_one, weight in zip(m.unbind(1), weights.to(m).unbind(1), strict=True):
            total += of_one * weight.view(-1, *(1,) * (total.ndim - 1))
    return totals


@contextmanager
def _seeded(generator: torch.Generator | int | None, device: torch.device) -> Iterator[None]:
    """The global generators of torch and numpy seeded, and put back afterwards."""
    source = check_generator(generator, device)
    seed = int(torch.randint(2**31, (1,), generator=source, device=source.device))
    of_numpy = np.random.get_state()
    cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if cuda else []):
        # torch.manual_seed would seed other devices too, which nothing puts back.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what Captum says at each call: of its hooks, of inputs that get gradients, of several examples."""
    with warnings.catch_warnings():
        for start in ("Setting forward, backward hooks", "Input Tensor", "You are providing multiple inputs for Lime"):
            warnings.filterwarnings("ignore", message=rf"\s*{start}")
        yield
