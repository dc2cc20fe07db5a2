"""What deletion and insertion AUC share: everything but which features are removed, and the direction of the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory
from torch import Tensor

from captum_wg.engine.checks import check_bool, check_choice, check_positive_int
from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output, check_output
from quantus_ext.arrays import named, to_tensor
from quantus_ext.class_score import ClassScore
from quantus_ext.curve_metric import CurveMetric
from quantus_ext.levels import RULES, Levels, counts_at
from quantus_ext.perturbation_curve import perturbation_curves
from quantus_ext.removal import check_removal, neutral_like, takes_mask


class PerturbationAUC(CurveMetric):
    """The abstract side of `DeletionAUC` and `InsertionAUC`, which say what it computes."""

    data_applicability: ClassVar = {DataType.IMAGE, DataType.TIMESERIES, DataType.TABULAR}
    evaluation_category = EvaluationCategory.FAITHFULNESS
    sensitive_params = "what replaces a removed feature 'removal' and the order of the features 'ranking'"

    insert: ClassVar[bool]

    def __init__(
        self,
        levels: Levels = 100,
        rule: str = "mean",
        removal: Any = "corners",
        ranking: str = "signed",
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_curve: bool = False,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] | None = None,
        default_plot_func: Callable[..., Any] | None = None,
        internal_batch_size: int | None = None,
        disable_warnings: bool = False,
        display_progressbar: bool = False,
        *,
        output: Output = "auto",
        feature_mask: Any = None,
        relative: bool = False,
        definition: str | None = None,
        **kwargs: Any,
    ):
        """Set up the metric. The score is the mean probability of the class over all levels: lower is better when
        features are deleted, higher when they are inserted.

        Args:
            levels: N, the number of levels; or the levels themselves, an ascending list of shares of the features
                (floats from 0 to 1; ending below 1 it looks at the highest ranked alone) or of numbers of features
                (integers).
            rule: "mean" of the levels 1/N ... 1, as published, or "trapezoid", which adds the level 0. Of levels that
                are a list "mean" is the mean, "trapezoid" goes by their distances, and "steps" counts all distances
                alike; the area is over their range as a unit.
            removal: what replaces a removed feature: "corners" (default), per channel the mean of the image's four
                corner squares, for inputs other than images 0; "black", the example's smallest value, as Quantus
                means it; "mean" of the channel; "blur"; a number; an array or Tensor that broadcasts to the inputs
                (channels first), also one value for each example; a callable that takes the inputs (a Tensor with
                channels first) and returns one of these; a callable of copies (R, C, H, W) and of what is removed of
                them, bool of that shape, that returns values for these, such as `NoisyLinearImputation()` (ROAD).
            ranking: "signed" ranks by the sum of the attribution over channels, "absolute" by the sum of its absolute
                values. Match it to what the explanation means: see `WeightedGradients`' argument of that name. Of maps
                whose channels were summed before (the default of Quantus and of `explainer`), "absolute" sees only the
                absolute value of that sum; keep the channels with reduce_axes=().
            abs: take absolute values of the attributions first, as in Quantus' metrics.
            normalise: apply normalise_func to the attributions first. Its default does not change a ranking.
            normalise_func: Quantus' normalise_by_max by default.
            normalise_func_kwargs: its keyword arguments.
            return_curve: return for each example its curve, an array (levels,) or (levels + 1,), not the area.
            return_aggregate: return the aggregate over the examples of a call alone.
            aggregate_func: makes it; by default the mean, of curves the mean curve.
            default_plot_func: what `plot` calls; by default `plot_curves`.
            internal_batch_size: rows per forward, whatever the call's batch_size is. None: by the size of an input,
                32 for 3x32x32 on a CPU; more are slower there.
            disable_warnings: no warnings.
            display_progressbar: show a progress bar over batches, and one over the masked inputs of each.
            output: f out of the model's output (R, classes), by the words and the code of the weightings' fitness:
                "auto" (for each example by the output for itself: as it is where that is one column or a distribution,
                not negative with sum 1, and else its softmax; where all of it lies in [0, 1] without being one, as a
                multi-label sigmoid's does, a warning says so), "softmax", "sigmoid", "identity", or a callable of the
                output that returns scores of that form or (R,). Of a single column under "auto" and "sigmoid" class 1
                has p, class 0 has 1 - p.
            feature_mask: integer group numbers (1 or B, *feature), as in Captum: elements with the same number are one
                feature.
            relative: divide each curve by f(x). (Not Quantus' normalise, which is of the attributions.)
            definition: whose definition these settings are, where they are not the paper's; shown by repr.

        Raises:
            TypeError, ValueError: levels or internal_batch_size below 1, levels that don't ascend; unknown rule,
                removal, ranking or output; a switch that is no boolean.
        """
        self.rule = check_choice(rule, "rule", RULES)
        self.removal = check_removal(removal)
        self.output = check_output(output)
        self.feature_mask = check_mask(feature_mask)
        self.relative = check_bool(relative, "relative")
        self.definition = definition or self.definition
        self.internal_batch_size = (
            None if internal_batch_size is None else check_positive_int(internal_batch_size, "internal_batch_size")
        )
        # fmt: off
        super().__init__(
            levels, ranking, abs, normalise, normalise_func, normalise_func_kwargs, return_curve, return_aggregate,
            aggregate_func, default_plot_func, disable_warnings, display_progressbar, **kwargs,
        )
        # fmt: on

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """The score of the model's output, the values that replace removed features, and their groups."""
        if data["model"] is None:
            raise ValueError(f"{type(self).__name__} needs a model, got None")
        score = ClassScore(data["model"], x, data["y_batch"], self.output, self.internal_batch_size, self.relative)
        if self.relative and not (score.at_inputs > 0).all():
            raise ValueError(
                f"relative divides by f(x), which is not positive in {named(~(score.at_inputs > 0))}; choose an output "
                "that is ('softmax'), or relative=False"
            )
        values = (
            {"values": self.removal} if takes_mask(self.removal) else {"values_batch": neutral_like(x, self.removal)}
        )
        mask = self.feature_mask
        if mask is not None and len(mask) == len(x) > 1:
            return {**values, "score": score, "mask_batch": mask.numpy()}
        return {**values, "score": score, "mask": mask}

    def features_of(self, x: Tensor, data: dict[str, Any]) -> Features:
        """Pixels, elements or the mask's groups."""
        mask = data.get("mask_batch", data.get("mask"))
        return Features((x,), None if mask is None else (torch.as_tensor(mask),))

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The model's output for the class at each level."""
        return self._curves(x, features, places, first, data, self.insert)

    def _curves(
        self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any], insert: bool
    ) -> np.ndarray:
        score, counts = data["score"], counts_at(self._levels, features.counts.numpy())
        self.fractions = counts[0] / features.count if self._levels.dtype.kind != "f" else self.fractions
        values = to_tensor(data["values_batch"]) if "values_batch" in data else data["values"]
        curves = perturbation_curves(
            score, x, features, places, values, counts, insert, first, self.display_progressbar
        )
        return curves / score.at_inputs[first : first + len(x), None] if self.relative else curves

    @property
    def axis_labels(self) -> tuple[str, str]:
        """What the plot says of the levels, and of the curves."""
        return f"Fraction of features {'inserted' if self.insert else 'removed'}", "Output for the class"


def check_mask(feature_mask: Any) -> Tensor | None:
    """feature_mask as a Tensor of whole numbers."""
    if feature_mask is None:
        return None
    mask = torch.as_tensor(feature_mask)
    if mask.is_floating_point() or mask.is_complex() or mask.dtype == torch.bool or mask.ndim < 2:
        raise ValueError(
            f"feature_mask must hold group numbers (integers) of shape (1 or B, *feature), got {mask.dtype} of shape "
            f"{tuple(mask.shape)}"
        )
    return mask.long().cpu()
