"""Area under the overlap curve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar

import numpy as np
from quantus.helpers import warn
from quantus.helpers.enums import DataType, EvaluationCategory, ModelType, ScoreDirection
from quantus.metrics.base import Metric

from captum_wg.weighting.masking import RANKINGS
from quantus_ext.arrays import name_rows, one_of, positive_integer
from quantus_ext.call_arguments import call_arguments, feature_ranks
from quantus_ext.perturbation_curve import fractions
from quantus_ext.plotting import plot_curves

DENOMINATORS = ("top", "mask")


class OverlapAUC(Metric[Any]):
    """Area under the overlap curve: how much of the highest ranked pixels lies on the object.

    With S the pixels of the object's mask, T_k the max(1, round(k |S|)) highest ranked pixels and k_i = i / N:

        score = 1/N sum_{i=1..N} |T_{k_i} & S| / |T_{k_i}|     denominator="top", the precision: between 0 and 1
        score = 1/N sum_{i=1..N} |T_{k_i} & S| / |S|           denominator="mask": at best about (N + 1) / 2N, 0.505

    Higher is better. round is Python's (halves to even); equal scores are ranked by position, so results repeat. The
    model is used only to make attributions: with a_batch it may be None, and y_batch too.

    Masks s_batch are of shape (B, H, W), (B, 1, H, W) or (B, H, W, 1) and hold 0 for the background and one positive
    value (1, 255, True) for the object. Soft masks and masks with numbers for several objects are an error: which
    pixels belong to the object is not for a metric to guess.

    Source: Duc et al., "Weighted Average Gradients", 2025, "AUC of Overlapping Score", with N = 100. Its text, "the
    percentage of the overlapping of T_k with S", fits both denominators; the figures it publishes fit "top". The paper
    does not say how many pixels T_k has where round(k |S|) is 0; here one.

    Attributions that are negative throughout are accepted; attributions that are constant within every example are an
    error. After a call, `curves` holds the curves (B, N) of its examples and `fractions` their levels.
    """

    name = "Overlap AUC"
    data_applicability: ClassVar = {DataType.IMAGE}
    model_applicability: ClassVar = {ModelType.TORCH, ModelType.TF}
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION

    def __init__(
        self,
        levels: int = 100,
        denominator: str = "top",
        ranking: str = "signed",
        abs: bool = False,
        normalise: bool = False,
        normalise_func: Callable[..., np.ndarray] | None = None,
        normalise_func_kwargs: dict[str, Any] | None = None,
        return_curve: bool = False,
        return_aggregate: bool = False,
        aggregate_func: Callable[..., Any] | None = None,
        default_plot_func: Callable[..., Any] | None = None,
        disable_warnings: bool = False,
        display_progressbar: bool = False,
        **kwargs: Any,
    ):
        """Set up the metric. The score is the mean share of the highest ranked pixels that lie on the object: higher
        is better.

        Args:
            levels: N, the number of levels.
            denominator: "top" divides by the number of pixels taken, "mask" by the number of the object's.
            ranking: "signed" ranks by the sum of the attribution over channels, "absolute" by the sum of its absolute
                values.
            abs: take absolute values of the attributions first, as in Quantus' metrics.
            normalise: apply normalise_func to the attributions first. Its default does not change a ranking.
            normalise_func: Quantus' normalise_by_max by default.
            normalise_func_kwargs: its keyword arguments.
            return_curve: return for each example its curve, an array (levels,), not the area.
            return_aggregate: return the aggregate over the examples of a call alone.
            aggregate_func: makes it; by default the mean, of curves the mean curve.
            default_plot_func: what `plot` calls; by default `plot_curves`.
            disable_warnings: no warnings.
            display_progressbar: show a progress bar over batches.

        Raises:
            ValueError: levels below 1; unknown denominator or ranking.
        """
        self.levels = positive_integer(levels, "levels")
        self.denominator = one_of(denominator, DENOMINATORS, "denominator")
        self.ranking = one_of(ranking, RANKINGS, "ranking")
        self.return_curve = return_curve
        self.fractions = fractions(self.levels)
        self.curves: np.ndarray | None = None
        super().__init__(
            abs=abs,
            normalise=normalise,
            normalise_func=normalise_func,
            normalise_func_kwargs=normalise_func_kwargs,
            return_aggregate=return_aggregate,
            aggregate_func=aggregate_func or (partial(np.mean, axis=0) if return_curve else np.mean),
            default_plot_func=default_plot_func or self.plot_curves,
            disable_warnings=disable_warnings,
            display_progressbar=display_progressbar,
            **kwargs,
        )
        if not self.disable_warnings:
            warn.warn_parameterisation(
                metric_name=self.__class__.__name__,
                sensitive_params="the share's 'denominator' and the order of the pixels 'ranking'",
                data_domain_applicability="It needs masks of the objects.",
                citation="Duc et al. 'Weighted Average Gradients', 2025",
            )

    def __call__(
        self,
        model: Any,
        x_batch: Any,
        y_batch: Any,
        a_batch: Any = None,
        s_batch: Any = None,
        channel_first: bool | None = None,
        explain_func: Callable[..., Any] | None = None,
        explain_func_kwargs: Mapping[str, Any] | None = None,
        model_predict_kwargs: dict[str, Any] | None = None,
        softmax: bool | None = None,
        device: Any = None,
        batch_size: int = 64,
        **kwargs: Any,
    ) -> Any:
        """Evaluate attributions. Arrays and torch Tensors are accepted alike; nothing of the caller's is changed.

        Args:
            model: a torch or Keras model; None with a_batch.
            x_batch: images (B, C, H, W).
            y_batch: class numbers (B,), for explain_func; None with a_batch.
            a_batch: attributions (B, C, H, W), (B, 1, H, W) or (B, H, W); without them explain_func makes them,
                batch_size examples at a time.
            s_batch: masks (B, H, W), (B, 1, H, W) or (B, H, W, 1).
            channel_first: where images have their channels; None infers it from the shape.
            explain_func: a function with the signature of `quantus.explain`.
            explain_func_kwargs: its keyword arguments.
            model_predict_kwargs: unused.
            softmax: unused.
            device: handed to explain_func.
            batch_size: how many examples are explained together.

        Returns:
            one float per example, or one array with return_curve.

        Raises:
            ValueError: no masks; an empty mask, a mask that is not binary, shapes that don't fit; NaN or infinite
                values; attributions that rank nothing.
        """
        warn.check_kwargs(kwargs)
        if s_batch is None:
            raise ValueError("OverlapAUC needs s_batch, one mask of the object for each image; got None")
        arguments = call_arguments(
            self,
            model,
            x_batch,
            y_batch,
            a_batch,
            s_batch,
            channel_first,
            explain_func,
            explain_func_kwargs,
            device,
            batch_size,
        )
        return super().__call__(**arguments, model_predict_kwargs=model_predict_kwargs, softmax=softmax)

    def custom_preprocess(  # type: ignore[override]
        self, *, x_batch: np.ndarray, s_batch: np.ndarray, custom_batch: np.ndarray, **kwargs: Any
    ) -> dict[str, Any]:
        """Check the masks and put the attributions in their place."""
        self.a_axes = range(x_batch.ndim - 1)
        self.curves = np.full((len(x_batch), len(self.fractions)), np.nan)
        return {
            "a_batch": custom_batch,
            "s_batch": _masks(s_batch, x_batch.shape),
            "row_batch": np.arange(len(x_batch)),
            "custom_batch": None,
        }

    def evaluate_batch(  # type: ignore[override]
        self,
        x_batch: np.ndarray,
        a_batch: np.ndarray,
        s_batch: np.ndarray,
        row_batch: np.ndarray,
        **kwargs: Any,
    ) -> list[Any]:
        """The scores or curves of one batch, channels first."""
        places = feature_ranks(x_batch, a_batch, self.ranking).numpy()
        curves = overlap_curves(places, s_batch, self.fractions, self.denominator)
        self.curves[row_batch] = curves  # type: ignore[index]
        return list(curves) if self.return_curve else curves.mean(1).tolist()

    def plot_curves(self, results: Any = None, ax: Any = None) -> Any:
        """Draw the mean curve of the last call in its band of one standard deviation.

        Args:
            results: other curves instead, or a dictionary from methods' names to curves, as `quantus.evaluate`
                gives them with return_curve=True.
            ax: matplotlib axes; None makes a figure.

        Raises:
            ValueError: nothing evaluated yet; results that are not curves.
        """
        if results is None and self.curves is None:
            raise ValueError("there are no curves to plot yet: call the metric first, or pass results")
        return plot_curves(
            self.curves if results is None else results,
            self.fractions,
            "Highest ranked pixels, as a fraction of the object's",
            "Share of them on the object" if self.denominator == "top" else "Share of the object covered",
            ax,
        )


def overlap_curves(places: np.ndarray, masks: np.ndarray, ks: np.ndarray, denominator: str) -> np.ndarray:
    """|T_k & S| / |T_k| or / |S| (B, N), from places (B, P) in the ranking and masks (B, P)."""
    in_order = np.zeros_like(masks)
    np.put_along_axis(in_order, places.astype(np.int64), masks, axis=1)
    hits = in_order.cumsum(1)
    area = masks.sum(1)
    sizes = np.array([[max(1, round(k * size)) for k in ks] for size in area.tolist()])
    overlap = np.take_along_axis(hits, sizes - 1, axis=1)
    return overlap / (sizes if denominator == "top" else area[:, None])


def _masks(s: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The masks as bool (B, P)."""
    if len(shape) != 4:
        raise ValueError(f"OverlapAUC needs images of shape (B, C, H, W), got inputs of shape {shape}")
    examples, _, height, width = shape
    forms = ((examples, height, width), (examples, 1, height, width), (examples, height, width, 1))
    if s.shape not in forms:
        raise ValueError(
            f"s_batch has shape {s.shape}, which does not fit inputs of shape {shape}; give one of {forms}"
        )
    flat = s.reshape(examples, -1)
    if not (flat.dtype == bool or np.issubdtype(flat.dtype, np.number)):
        raise ValueError(f"s_batch must hold numbers or booleans, got an array of {flat.dtype}")
    highest = flat.max(1, keepdims=True)
    soft = ~((flat == 0) | ((flat == highest) & (highest > 0))).all(1)
    if soft.any():
        raise ValueError(
            f"s_batch must hold 0 and one positive value (1, 255, True) in each mask, got other values in "
            f"{name_rows(soft)}; say which pixels are the object's, for example s_batch > 0.5"
        )
    empty = highest[:, 0] == 0
    if empty.any():
        raise ValueError(f"s_batch marks no pixel in {name_rows(empty)}; leave these examples out")
    return flat > 0
