"""Deletion and insertion: the model's output along a ranking of the features.

Shapes: B examples, P features, N levels, R rows (masked copies).
"""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import numpy as np
import torch
from quantus.helpers.enums import ScoreDirection
from torch import Tensor
from tqdm.auto import tqdm

from captum_wg.engine.checks import check_bool, check_choice, check_positive_int
from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output, check_output
from quantus_ext.arrays import named, to_tensor
from quantus_ext.class_score import ClassScore
from quantus_ext.curve_metric import RULES, CurveMetric, Levels
from quantus_ext.removal import check_removal, neutral_like, rise_blur, takes_mask


class PerturbationAUC(CurveMetric):
    """The abstract side of `DeletionAUC` and its kin, which say what it computes."""

    sensitive_params = "what replaces a removed feature 'removal' and the order of the features 'ranking'"
    # The curve is that of the first, less that of the second.
    ways: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        levels: Levels = 100,
        rule: str = "mean",
        removal: Any = "corners",
        ranking: str = "signed",
        *,
        output: Output = "auto",
        feature_mask: Any = None,
        relative: bool = False,
        internal_batch_size: int | None = None,
        definition: str | None = None,
        **options: Any,
    ):
        """Set up the metric.

        Args:
            levels: N, the number of levels; or an ascending list of shares of the features (floats from 0 to 1; ending
                below 1 it looks at the highest ranked alone) or of numbers of features (integers).
            rule: "mean" of the levels 1/N ... 1, as published, or "trapezoid", which adds the level 0. Of levels that
                are a list "mean" is the mean, "trapezoid" goes by their distances, and "steps" counts all distances
                alike; the area is over their range as a unit.
            removal: what replaces a removed feature: "corners", per channel the mean of the image's four corner
                squares, for inputs other than images 0; "black", the example's smallest value, as Quantus means it;
                "mean" of the channel; "blur"; a number; an array or Tensor that broadcasts to the inputs (channels
                first), also one value for each example; a callable that takes the inputs (a Tensor with channels
                first) and returns one of these; a callable of copies (R, C, H, W) and of what is removed of them, bool
                of that shape, that returns values for these, such as `NoisyLinearImputation()` (ROAD).
            ranking: by the sum of the attribution over channels ("signed") or the sum of its absolute values
                ("absolute"); see `WeightedGradients`' argument of that name. Of maps whose channels were summed before
                (the default of Quantus and of `explainer`) "absolute" sees only that sum: keep them (reduce_axes=()).
            output: f out of the model's output (R, classes): "auto" (for each example by the output for itself: as it
                is where that is one column or a distribution, and else its softmax; where all of it lies in [0, 1]
                without summing to 1, as a multi-label sigmoid's does, a warning says so), "softmax", "sigmoid",
                "identity", or a callable of the output that returns scores of that form or (R,). Of a single column
                under "auto" and "sigmoid" class 1 has p, class 0 has 1 - p.
            feature_mask: group numbers (1 or B, *feature), as in Captum: elements of one number are one feature.
            relative: divide each curve by f(x). (Not Quantus' normalise, which is of the attributions.)
            internal_batch_size: rows per forward, whatever the call's batch_size is. None: by the size of an input,
                32 for 3x32x32 on a CPU; more are slower there.
            definition: whose definition these settings are, where they are not the paper's; shown by repr.
            **options: return_curve, to return for each example its curve, an array (N,) or (N + 1,), not the area; and
                Quantus' abs (take absolute values of the attributions first), normalise, normalise_func (its default
                does not change a ranking), normalise_func_kwargs, return_aggregate, aggregate_func (by default the
                mean, of curves the mean curve), default_plot_func (by default `plot_curves`), disable_warnings and
                display_progressbar (over batches, and over the masked inputs of each).

        Raises:
            TypeError, ValueError: a setting that can't be, by its name.
        """
        self.rule = check_choice(rule, "rule", RULES)
        self.removal, self.output = check_removal(removal), check_output(output)
        self.feature_mask = None if feature_mask is None else _group_numbers(torch.as_tensor(feature_mask))
        self.relative = check_bool(relative, "relative")
        self.definition = definition or self.definition
        if internal_batch_size is not None:
            check_positive_int(internal_batch_size, "internal_batch_size")
        self.internal_batch_size = internal_batch_size
        super().__init__(levels, ranking, **options)

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """The score of the model's output, the values that replace removed features, and their groups."""
        score = ClassScore(data["model"], x, data["y_batch"], self.output, self.internal_batch_size, self.relative)
        if self.relative and not (score.at_inputs > 0).all():
            raise ValueError(
                f"relative divides by f(x), which is not positive in {named(~(score.at_inputs > 0))}; choose an output "
                "that is ('softmax'), or relative=False"
            )
        found: dict[str, Any] = {"score": score, "mask": self.feature_mask}
        if not takes_mask(self.removal):
            found["values_batch"] = neutral_like(x, self.removal)
        if (mask := self.feature_mask) is not None and mask.ndim == x.ndim and len(mask) == len(x) > 1:
            found["mask_batch"] = mask.numpy()
        return found

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The model's output for the class at each level; where the number of features is the same it is taken once."""
        score, counts = data["score"], self._counts(features)
        keys, key_of = np.unique(np.arange(len(x))[:, None] * (counts.max() + 1) + counts, return_inverse=True)
        examples, removed = (torch.from_numpy(k).to(score.device) for k in np.divmod(keys, counts.max() + 1))
        values = to_tensor(data["values_batch"]).to(score.device) if "values_batch" in data else self.removal
        x, places, features = x.to(score.device), places.to(score.device), features.to(score.device)

        outputs = np.empty((len(self.ways), len(keys)))
        shown = {"desc": "masked inputs", "unit": "row", "leave": False, "disable": not self.display_progressbar}
        with tqdm(total=outputs.size, **shown) as bar:
            for way, start in itertools.product(range(len(self.ways)), range(0, len(keys), score.rows)):
                rows = slice(start, start + score.rows)
                example = examples[rows]
                top = places[example] < removed[rows, None]
                masked = _masked(x, values, features, ~top if self.ways[way] == "insertion" else top, example)
                outputs[way, rows] = score(masked, example + first)
                bar.update(len(example))

        curves = outputs[:, key_of.reshape(counts.shape)]
        if not np.isfinite(curves).all():
            bad = np.asarray(~np.isfinite(curves).all((0, 2)))
            raise ValueError(f"the model's output is NaN or infinite for masked copies of {named(bad, first)}")
        if self.relative:
            curves /= score.at_inputs[first : first + len(x), None]
        result: np.ndarray = curves[0] if len(curves) == 1 else curves[0] - curves[1]
        return result

    def _counts(self, features: Features) -> np.ndarray:
        """How many of their P features the examples have at each level, (B, N)."""
        levels, of_examples = self._levels, features.counts.numpy()
        if levels.dtype.kind == "f":
            return np.array([[round(k * p) for k in levels.tolist()] for p in of_examples.tolist()])
        if levels[-1] > of_examples.min():
            raise ValueError(f"levels holds {levels[-1]} features, but an example has {of_examples.min()}; end at that")
        self.fractions = levels / features.count
        return np.broadcast_to(levels, (len(of_examples), len(levels)))


def _masked(x: Tensor, values: Any, features: Features, removed: Tensor, examples: Tensor) -> Tensor:
    """Copies of the examples (R,) of x with other values for the features that are marked in removed (R, P)."""
    inputs = x[examples]
    if isinstance(values, Tensor):
        return features.remove((inputs,), (values[examples],), removed, examples)[0]
    (mask,) = features.remove((torch.zeros_like(inputs),), (torch.ones_like(inputs),), removed, examples)
    value = torch.as_tensor(values(inputs, mask.bool())).to(inputs)
    if value.shape != inputs.shape:
        raise ValueError(f"removal must return values of shape {(*inputs.shape,)}, got {(*value.shape,)}")
    return features.remove((inputs,), (value,), removed, examples)[0]


def _group_numbers(mask: Tensor) -> Tensor:
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool or mask.ndim < 2:
        raise ValueError(
            f"feature_mask must hold group numbers (integers) of shape (1 or B, *feature), got {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    return mask.long().cpu()


class DeletionAUC(PerturbationAUC):
    """Area under the deletion curve: how fast the model loses the class when the highest ranked features go.

    With f the model's probability of the given class (`output` says which), P features, N levels and k_i = i / N:

        score = 1/N sum_{i=1..N} f(x(k_i)),    x(k) = x without its round(k P) highest ranked features

    Between 0 and 1; lower is better. round is Python's (halves to even); equal scores are ranked by position.

    A feature is a pixel of an image (B, C, H, W) or a voxel of a volume (B, C, D, H, W), all its channels together; it
    is one element of a tabular input (B, F), of a time series (B, C, T) and of any other input. Attributions have the
    input's shape, or one channel: (B, 1, H, W) or (B, H, W), which counts for all channels of a time series. They may
    be negative throughout, as they rank the features like any others (`quantus.evaluate` refuses such maps of a
    function before a metric sees them; hand them over as an array); attributions that are constant within every example
    rank nothing and are an error.

    Forwards hold at most B * N rows over a call, fewer where levels round to the same number of features, B more for
    k = 0, and B for the examples themselves where output="auto" or relative asks for them.

    Source: Duc et al., "Weighted Average Gradients", 2025, "AUC of Deletion Score", with N = 100. The paper leaves open
    what replaces a removed feature, by what a signed map is ranked and how ties are.

    After a call, `curves` holds the curves (B, number of levels) of its examples and `fractions` their levels; `plot()`
    draws the mean curve in a band of one standard deviation.

    Examples:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).eval()
        >>> net[1].weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
        >>> x, right = np.ones((1, 1, 2, 2)), np.array([[[[4.0, 3.0], [2.0, 1.0]]]])
        >>> metric = DeletionAUC(levels=4, removal=0.0, disable_warnings=True)
        >>> [round(metric(net, x, [0], a)[0], 3) for a in (right, -right)]
        [0.795, 0.87]
    """

    name = "Deletion AUC"
    score_direction = ScoreDirection.LOWER
    axis_labels = "Fraction of features removed", "Output for the class"
    ways = ("deletion",)

    @classmethod
    def rise(cls, pixels: int = 224 * 224, step: int = 224, **kwargs: Any) -> DeletionAUC:
        """The deletion game of RISE: `step` pixels at a time are set to 0 (the mean of normalised images).

        Its area counts all steps alike, also a short last one. y_batch are the predicted classes there, f is their
        softmax, equal scores go by position (there by numpy's unstable sort, backwards). pixels are those of an image;
        kwargs are further arguments of the class, or others in the place of these.

        Source: Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018, and
        its code.
        """
        return cls(**_rise(pixels, step, 0.0, kwargs))


class InsertionAUC(PerturbationAUC):
    """Area under the insertion curve: how fast the model finds the class when the highest ranked features come back.

        score = 1/N sum_{i=1..N} f(x(k_i)),
        x(k) = x with everything removed but its round(k P) highest ranked features

    Between 0 and 1; higher is better. rule="trapezoid" adds k = 0, the input of which nothing is left. All else is as
    in `DeletionAUC`.

    Source: Duc et al., "Weighted Average Gradients", 2025, appendix A, which prefers deletion: an input of which little
    is left lies far from what the model was trained on.

    Examples:
        >>> net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)).eval()
        >>> net[1].weight.data = torch.tensor([[4.0, 3.0, 2.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
        >>> x, right = np.ones((1, 1, 2, 2)), np.array([[[[4.0, 3.0], [2.0, 1.0]]]])
        >>> metric = InsertionAUC(levels=4, removal=0.0, disable_warnings=True)
        >>> [round(metric(net, x, [0], a)[0], 3) for a in (right, -right)]
        [0.995, 0.92]
    """

    name = "Insertion AUC"
    score_direction = ScoreDirection.HIGHER
    axis_labels = "Fraction of features inserted", "Output for the class"
    ways = ("insertion",)

    @classmethod
    def rise(cls, pixels: int = 224 * 224, step: int = 224, **kwargs: Any) -> InsertionAUC:
        """The insertion game of RISE, as `DeletionAUC.rise`: pixels come back into the blurred image (`rise_blur`)."""
        return cls(**_rise(pixels, step, rise_blur, kwargs))


class SymmetricRelevanceGain(PerturbationAUC):
    """Insertion AUC minus deletion AUC by one ranking: how far the lowest ranked features can go before the highest.

        score = 1/N sum_{i=1..N} f(x with everything removed but its top k_i) - f(x without its top k_i)

    Between -1 and 1 for a probability f; higher is better, and random rankings have about 0. Also known as the area
    between perturbation curves (AbPC, LeRF minus MoRF). Arguments as in `DeletionAUC`; with rule="trapezoid" the two
    areas are those of removal in both orders. Twice the forwards.

    Source: Bluecher et al., "Decoupling Pixel Flipping and Occlusion Strategy for Consistent XAI Benchmarks", TMLR
    2024.
    """

    name = "Symmetric relevance gain"
    score_direction = ScoreDirection.HIGHER
    definition = "Bluecher et al. 2024 (SRG)"
    axis_labels = "Fraction of features inserted or removed", "Difference of the output for the class"
    ways = ("insertion", "deletion")


def _rise(pixels: int, step: int, removal: Any, others: dict[str, Any]) -> dict[str, Any]:
    """The settings; the last step may be short."""
    total = check_positive_int(pixels, "pixels")
    levels = [*range(0, total, check_positive_int(step, "step")), total]
    definition = "RISE (Petsiuk et al. 2018, causal metric)"
    return {"levels": levels, "rule": "steps", "removal": removal, "definition": definition, **others}
