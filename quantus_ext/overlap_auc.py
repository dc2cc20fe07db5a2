"""Area under the overlap curve."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from quantus.helpers.enums import DataType, EvaluationCategory, ScoreDirection
from torch import Tensor

from captum_wg.engine.checks import check_choice
from captum_wg.weighting.masking import Features
from quantus_ext.arrays import named
from quantus_ext.curve_metric import CurveMetric, Levels


class OverlapAUC(CurveMetric):
    """Area under the overlap curve: how much of the highest ranked pixels lies on the object.

    With S the pixels of the object's mask, T_k the max(1, round(k |S|)) highest ranked pixels and k_i = i / N:

        score = 1/N sum_{i=1..N} |T_{k_i} & S| / |T_{k_i}|     denominator="top", the precision: between 0 and 1
        score = 1/N sum_{i=1..N} |T_{k_i} & S| / |S|           denominator="mask": at best about (N + 1) / 2N, 0.505

    Higher is better. Rounding, ties, attributions and `curves` are as in `DeletionAUC`. The model is used only to make
    attributions: with a_batch it may be None, and y_batch too.

    Masks s_batch (B, H, W), (B, 1, H, W) or (B, H, W, 1) hold 0 for the background and one positive value (1, 255,
    True) for the object. Soft masks and masks with numbers for several objects are an error: which pixels belong to
    the object is not for a metric to guess.

    Source: Duc et al., "Weighted Average Gradients", 2025, "AUC of Overlapping Score", with N = 100. Its text, "the
    percentage of the overlapping of T_k with S", fits both denominators; the figures it publishes fit "top". The paper
    does not say how many pixels T_k has where round(k |S|) is 0; here one.

    Examples:
        >>> x, map = np.zeros((1, 1, 2, 2)), np.array([[[[4.0, 3.0], [2.0, 1.0]]]])
        >>> mask = np.array([[[1, 0], [1, 0]]])
        >>> OverlapAUC(levels=2, disable_warnings=True)(None, x, None, map, s_batch=mask)  # 1 of 1, then 1 of 2
        [0.75]
    """

    name = "Overlap AUC"
    data_applicability: ClassVar = {DataType.IMAGE}
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.LOCALISATION
    sensitive_params = "the share's 'denominator' and the order of the pixels 'ranking'"
    needs_masks = True

    def __init__(self, levels: Levels = 100, denominator: str = "top", ranking: str = "signed", **options: Any):
        """Set up the metric.

        Args:
            levels: N, the number of levels; or the levels themselves, an ascending list of shares (floats).
            denominator: "top" divides by the number of pixels taken, "mask" by the number of the object's.
            ranking, **options: as in `DeletionAUC`.
        """
        self.denominator = check_choice(denominator, "denominator", ("top", "mask"))
        share = "Share of them on the object" if denominator == "top" else "Share of the object covered"
        self.axis_labels = "Highest ranked pixels, as a fraction of the object's", share
        super().__init__(levels, ranking, **options)
        if self._levels.dtype.kind != "f":
            raise ValueError(
                f"levels must be a number of levels, or shares of the object's area (floats); got {levels!r}"
            )

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """The masks as bool (B, P)."""
        s, shape = data["s_batch"], x.shape
        if len(shape) != 4:
            raise ValueError(f"OverlapAUC needs images of shape (B, C, H, W), got inputs of shape {shape}")
        examples, _, height, width = shape
        forms = ((examples, height, width), (examples, 1, height, width), (examples, height, width, 1))
        if s.shape not in forms:
            raise ValueError(
                f"s_batch has shape {s.shape}, which does not fit inputs of shape {shape}; give one of {forms}"
            )
        flat = s.reshape(examples, -1)
        if flat.dtype.kind not in "biuf":
            raise ValueError(f"s_batch must hold numbers or booleans, got an array of {flat.dtype}")
        highest = flat.max(1, keepdims=True)
        soft = ~((flat == 0) | ((flat == highest) & (highest > 0))).all(1)
        if soft.any():
            raise ValueError(
                f"s_batch must hold 0 and one positive value (1, 255, True) in each mask, got other values in "
                f"{named(soft)}; say which pixels are the object's, for example s_batch > 0.5"
            )
        empty = highest[:, 0] == 0
        if empty.any():
            raise ValueError(f"s_batch marks no pixel in {named(empty)}; leave these examples out")
        return {"s_batch": flat > 0}

    def curves_of(self, x: Tensor, features: Features, places: Tensor, first: int, data: dict[str, Any]) -> np.ndarray:
        """The share at each level."""
        masks = data["s_batch"]
        in_order = np.zeros_like(masks)
        np.put_along_axis(in_order, places.numpy().astype(np.int64), masks, axis=1)
        area = masks.sum(1)
        sizes = np.array([[max(1, round(k * size)) for k in self.fractions] for size in area.tolist()])
        hits = np.take_along_axis(in_order.cumsum(1), sizes - 1, axis=1)
        return np.asarray(hits / (sizes if self.denominator == "top" else area[:, None]))
