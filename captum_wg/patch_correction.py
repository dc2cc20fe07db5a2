"""An attribution corrected by what the output loses without patches."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from captum.attr import Attribution, LayerAttribution, NoiseTunnel, PerturbationAttribution
from torch import Tensor

from captum_wg.attribution_base import AttributionResult, BaselineAttribution, logged
from captum_wg.engine.baseline_set import Baselines
from captum_wg.engine.checks import check_finite, check_number, check_positive_int
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import Inputs, as_tuple, finest, like_inputs
from captum_wg.over_baselines import OverBaselines
from captum_wg.weighting.masking import Features, Neutral, numbered
from captum_wg.weighting.output import Output, check_output
from captum_wg.weighting.removal_scores import removal_scores

Patches = int | Sequence[int]

# What the scale of a map to the drops takes their cosine for where it is less.
_LEAST_COSINE = 0.2


class PatchCorrected(BaselineAttribution):
    """A method's map e, corrected by what the output loses with each patch S_s of the input alone:

        m = argmin_m sum_s (v_s - m(S_s))^2 + lambda |S_s| ||m - b e||^2 on S_s,      v_s = f(x) - f(x without S_s),

    where m(S) is the sum of m over S. Patches are disjoint, so that this ridge regression has a closed form: the sum of
    each patch moves the share 1 / (1 + lambda) of the way from b e(S_s) to v_s, and what it moves by is spread evenly
    over the patch, channels alike. Inside a patch the map keeps its details. The scale b = max(c, .2) ||v|| / ||e(S)||,
    c being the cosine of the map's patch sums and the drops, is that of least squares, but not less where the two have
    little in common or go against each other: there the details would fade away. It is 0 where all drops or sums are.

    Gradients know a pixel's details, but not what x itself loses; a removal knows that, but only by patches. By a
    ResNet-18 on CIFAR-10 (docs/results.md, 100 images, removals other than these) sums of the maps of `SmoothGrad`, 50
    samples, with 8 x 8 patches predict drops with a correlation of .429, of expected gradients over 50 references x 5
    with .271, and the drops alone with .371; deletion by single pixels is .176, .190 and .327 (lower is better).

    The price: P forwards an example for P patches, without gradients, and one of the example itself. Completeness is
    given up: the map is in units of f (a probability, unless `output` says otherwise), its sum is nothing in
    particular, and there is no convergence delta. A judge that removes the very same patches by the same neutral value
    reads its own yardstick in part; judge by other sets of features and other removals.

    Args:
        method: the attribution, an instance: PatchCorrected(SmoothGrad(model)). Any of this package or of
            Captum's with a map of the inputs' shape; none of layers or neurons.
        patches: into how many parts each dimension of space is cut, 8 being a grid of 8 x 8: a number, or one for each.
            Sides differ by one at most. Inputs without space, such as tables, need a feature_mask.
        neutral: what a removed patch is replaced by: "mean" (of each channel of the example), "corners", "blur",
            "black", "auto", a number, a Tensor that broadcasts to the input, or a callable of the input; for a tuple of
            inputs possibly a tuple of these. For tables give the columns' means.
        shrinkage: lambda, from 0 (patch sums are the drops) to math.inf (the map times b).
        output: f out of the model's output at target: "auto" (the output itself if it is one column or, for this
            example, a distribution; its softmax otherwise), "softmax", "sigmoid", "identity", or a callable. What the
            method explains is forward_func as given in any case.

    Raises:
        TypeError, ValueError: no instance of an attribution, or one of a layer or neuron; a setting that can't be.

    Examples:
        >>> from captum_wg import ExpectedGradients
        >>> method = ExpectedGradients(lambda z: z.prod(1))
        >>> x, columns = torch.tensor([[3.0, 1.0]]), torch.tensor([[0, 1]])
        >>> method.attribute(x)
        tensor([[1.5000, 1.5000]])
        >>> PatchCorrected(method, neutral=0.0, output="identity").attribute(x, feature_mask=columns)  # 0 without
        tensor([[3., 3.]])
    """

    def __init__(
        self,
        method: Attribution,
        patches: Patches = 8,
        neutral: Neutral = "mean",
        shrinkage: float = 1.0,
        *,
        output: Output = "auto",
    ):
        if not isinstance(method, Attribution):
            made = f"; make an instance of it: {method.__name__}(model)" if isinstance(method, type) else ""
            raise TypeError(f"method must be an attribution such as ExpectedGradients(model), got {method!r}{made}")
        inner = _innermost(method)
        takes = set(inspect.signature(inner.attribute).parameters)
        if isinstance(inner, LayerAttribution) or "target" not in takes:
            raise ValueError(
                f"method must explain an output of the model by its inputs, but {type(inner).__name__} explains a "
                "neuron, or a layer, which has no patches of the inputs"
            )
        super().__init__(method.forward_func)
        # What wraps another hands on to it what it does not know.
        self._parameters = takes | set(inspect.signature(method.attribute).parameters)
        self._perturbs = isinstance(inner, PerturbationAttribution)
        self.method = method
        several = isinstance(patches, Sequence) and not isinstance(patches, str)
        self.patches = (
            tuple(check_positive_int(n, "patches") for n in patches)  # type: ignore[union-attr]
            if several
            else check_positive_int(patches, "patches")
        )
        self.neutral = neutral
        self.shrinkage = check_number(shrinkage, "shrinkage", 0.0)
        self.output = check_output(output)

    @property
    def multiplies_by_inputs(self) -> bool:
        return bool(self.method.multiplies_by_inputs)

    @logged
    def attribute(
        self,
        inputs: Inputs,
        baselines: Baselines = None,
        target: Target = None,
        additional_forward_args: object = None,
        *,
        internal_batch_size: int | None = None,
        show_progress: bool | None = None,
        feature_mask: Inputs | None = None,
        **attribute_kwargs: Any,
    ) -> Any:
        """The method's attributions of inputs, corrected.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), floating point.
            baselines, target, additional_forward_args: as the method takes them.
            internal_batch_size: rows of a micro-batch, also of the method where it has an argument of that name; None:
                by the size of an example.
            show_progress: a progress bar over the removals, and over the method's own work where it has one; None:
                after five seconds, False: never.
            feature_mask: group numbers (1 or B, *feature) in place of the grid: superpixels, the columns of a table.
                The groups are also the method's features if it perturbs them (KernelShap, FeatureAblation). Gaps in
                the numbers mean nothing.
            **attribute_kwargs: the method's own (n_steps, weighting, pairing, ...).

        Returns:
            In the inputs' structure, shapes and dtypes; where the method was asked for weights or steps, in an
            `AttributionResult` with these.

        Raises:
            TypeError, ValueError: as the method; a convergence delta is asked for; inputs that can't be cut into
                patches; maps that are not of the inputs' shape; rows that influence each other.
        """
        name = type(self.method).__name__
        if attribute_kwargs.pop("return_convergence_delta", False):
            raise TypeError("corrected maps are not complete: they have no convergence delta; leave it out")
        problem, _ = self._problem(
            inputs, None, target, additional_forward_args, None, internal_batch_size, show_progress
        )
        masks = grid(problem.inputs, self.patches) if feature_mask is None else as_tuple(feature_mask)
        features = Features(problem.inputs, masks)
        groups = None if feature_mask is None else like_inputs(numbered(masks)[0], problem.is_tuple)
        each = torch.eye(features.count, dtype=torch.bool)
        drops = removal_scores(problem, features, each, self.neutral, self.output).drops

        given = {"baselines": baselines, "additional_forward_args": additional_forward_args, "target": target}
        ours = {
            "internal_batch_size": internal_batch_size,
            "show_progress": show_progress,
            "feature_mask": groups if self._perturbs else None,
        }
        if unknown := [k for k, v in given.items() if v is not None and k not in self._parameters]:
            raise TypeError(f"{name}.attribute has no argument {', '.join(map(repr, unknown))}")
        known = {k: v for k, v in (given | ours).items() if v is not None and k in self._parameters}
        result = self.method.attribute(inputs, **known, **attribute_kwargs)
        found = result.attributions if isinstance(result, AttributionResult) else result
        maps = tuple(m.detach() for m in as_tuple(found))
        if [m.shape for m in maps] != [x.shape for x in problem.inputs]:
            raise ValueError(
                f"{name} must return maps of the inputs' shapes {[tuple(x.shape) for x in problem.inputs]}, got "
                f"{[tuple(m.shape) for m in maps]}"
            )
        corrected = toward_drops(maps, drops, features, self.shrinkage)
        check_finite(corrected, "attributions")
        attributions = like_inputs(corrected, problem.is_tuple)
        if isinstance(result, AttributionResult):
            return AttributionResult(attributions, weights=result.weights, steps=result.steps)
        return attributions


def toward_drops(
    attributions: tuple[Tensor, ...], drops: Tensor, features: Features, shrinkage: float = 1.0
) -> tuple[Tensor, ...]:
    """Maps whose sum over each feature moves the share 1 / (1 + shrinkage) from b e(S_s) to its drop v_s, evenly over
    the feature's elements (see `PatchCorrected`).

    Args:
        attributions: e, (B, *feature) for each element of the inputs.
        drops: v, (B, P).
        features: the P features, groups that hold all elements.
        shrinkage: lambda >= 0, possibly math.inf.

    Returns:
        In the shapes and dtypes of attributions; computed in float64 where the device has it.
    """
    dtype = finest(drops.device)
    wide, v = tuple(a.to(dtype) for a in attributions), drops.to(dtype)
    sums, sizes = (features.sums(values) for values in (wide, tuple(map(torch.ones_like, wide))))
    claimed, lost = (values.norm(dim=1, keepdim=True) for values in (sums, v))
    cosine = (sums * v).sum(1, keepdim=True) / (claimed * lost)
    b = torch.where(claimed * lost > 0, cosine.clamp(min=_LEAST_COSINE) * lost / claimed, 0.0)
    moved = features.spread((v - b * sums) / (1 + shrinkage) / sizes.clamp(min=1))
    return tuple(
        (b.view(-1, *(1,) * (w.ndim - 1)) * w + m).to(a.dtype)
        for a, w, m in zip(attributions, wide, moved, strict=True)
    )


def grid(inputs: tuple[Tensor, ...], patches: int | tuple[int, ...]) -> tuple[Tensor, ...]:
    """Group numbers (1, 1, *space) of each of inputs (B, C, *space) cut into patches along each dimension of space.

    Args:
        patches: into how many parts, a number or one for each dimension of space.

    Raises:
        ValueError: an input without space; of another number of dimensions of space; more parts than a side is long.
    """
    masks, first = [], 0
    for x in inputs:
        shape, space = tuple(x.shape), x.shape[2:]
        if not space:
            raise ValueError(
                f"patches are of inputs with space, (B, C, H, W) and the like, got shape {shape}; give the features "
                "by feature_mask, such as torch.arange(x.shape[1])[None] for the columns of a table"
            )
        each = (patches,) * len(space) if isinstance(patches, int) else patches
        if len(each) != len(space):
            raise ValueError(f"patches must be a number, or one for each dimension of space of {shape}, got {patches}")
        if any(n > side for n, side in zip(each, space, strict=True)):
            raise ValueError(f"patches={patches} are more than inputs of shape {shape} are long; give fewer")
        numbers = torch.full((1, 1), first, device=x.device)
        place = torch.zeros((), dtype=torch.long, device=x.device)
        for n, side in zip(each, space, strict=True):
            place = place.unsqueeze(-1) * n + torch.arange(side, device=x.device) * n // side
        masks.append(numbers.view(1, 1, *(1,) * len(space)) + place)
        first += math.prod(each)
    return tuple(masks)


def _innermost(method: Attribution) -> Attribution:
    """The attribution that others are wrapped around."""
    while isinstance(method, OverBaselines | PatchCorrected | NoiseTunnel):
        method = method.attribution_method if isinstance(method, NoiseTunnel) else method.method
    return method
