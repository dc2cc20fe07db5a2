"""What deletion and insertion AUC share: everything but which features are removed, and the direction of the score."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from quantus.helpers.enums import DataType, EvaluationCategory
from torch import Tensor

from captum_wg.engine.checks import check_choice, check_positive_int
from quantus_ext.curve_metric import RULES, CurveMetric
from quantus_ext.perturbation_curve import check_classes, in_own_dtype, perturbation_curves
from quantus_ext.removal import check_removal, neutral_like


class PerturbationAUC(CurveMetric):
    """The abstract side of `DeletionAUC` and `InsertionAUC`, which say what it computes."""

    data_applicability: ClassVar = {DataType.IMAGE, DataType.TIMESERIES, DataType.TABULAR}
    evaluation_category = EvaluationCategory.FAITHFULNESS
    sensitive_params = "what replaces a removed feature 'removal' and the order of the features 'ranking'"

    insert: ClassVar[bool]

    def __init__(
        self,
        levels: int = 100,
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
        **kwargs: Any,
    ):
        """Set up the metric. The score is the mean probability of the class over all levels: lower is better when
        features are deleted, higher when they are inserted.

        Args:
            levels: N, the number of levels.
            rule: "mean" of the levels 1/N ... 1, as published, or "trapezoid", which adds the level 0.
            removal: what replaces a removed feature: "corners" (default), per channel the mean of the image's four
                corner squares, for inputs other than images 0; "black", the example's smallest value, as Quantus
                means it; "mean" of the channel; "blur"; a number; an array or Tensor that broadcasts to the inputs
                (channels first), also one value for each example; a callable that takes the inputs (a Tensor with
                channels first) and returns one of these.
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

        Raises:
            ValueError: levels or internal_batch_size below 1; unknown rule, removal or ranking.
        """
        self.rule = check_choice(rule, "rule", RULES)
        self.removal = check_removal(removal)
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
        """The model, the classes, and the values that replace removed features."""
        if data["model"] is None:
            raise ValueError(f"{type(self).__name__} needs a model, got None")
        return {
            "model": in_own_dtype(data["model"]),
            "y_batch": check_classes(data["y_batch"], len(x)),
            "neutral_batch": neutral_like(x, self.removal),
        }

    def curves_of(self, x: np.ndarray, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The model's output for the class at each level."""
        return perturbation_curves(
            data["model"],
            x,
            data["y_batch"],
            places,
            data["neutral_batch"],
            self.fractions,
            insert=self.insert,
            rows=self.internal_batch_size,
            first=first,
            show_progress=self.display_progressbar,
        )

    @property
    def axis_labels(self) -> tuple[str, str]:
        """What the plot says of the levels, and of the curves."""
        return f"Fraction of features {'inserted' if self.insert else 'removed'}", "Output for the class"
