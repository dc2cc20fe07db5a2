"""What is left of the model's confidence when it sees the input through its explanation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from quantus.helpers.enums import ScoreDirection

from captum_wg.engine.checks import check_positive_int
from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output, check_output
from quantus_ext.arrays import chunks, named, to_tensor
from quantus_ext.attribution_metric import AttributionMetric
from quantus_ext.class_score import ClassScore
from quantus_ext.removal import check_removal, neutral_like, takes_mask


class MaskedConfidence(AttributionMetric):
    """The abstract side of `AverageDrop` and `IncreaseInConfidence`."""

    sensitive_params = "what replaces a removed feature 'removal'"
    definition = "Chattopadhay et al. 'Grad-CAM++', 2018"
    by_rank = False

    def __init__(
        self,
        removal: Any = 0.0,
        ranking: str = "signed",
        *,
        output: Output = "auto",
        internal_batch_size: int | None = None,
        **options: Any,
    ):
        """Set up the metric.

        Args:
            removal: what shows where the map is 0, as in `DeletionAUC` (but no function of a mask); 0 as published.
            ranking: "signed" takes the sum of the attribution over channels, "absolute" the sum of its absolute values.
            output, internal_batch_size, **options: as in `DeletionAUC`, but for return_curve.
        """
        self.removal, self.output = check_removal(removal), check_output(output)
        if takes_mask(removal):
            raise ValueError("removal must not be a function of a mask here, as the map shows through in shades")
        if internal_batch_size is not None:
            check_positive_int(internal_batch_size, "internal_batch_size")
        self.internal_batch_size = internal_batch_size
        super().__init__(ranking, **options)

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """The score of the model's output, f(x), and what shows where the map is 0."""
        score = ClassScore(data["model"], x, data["y_batch"], self.output, self.internal_batch_size, at_inputs=True)
        bad = ~(score.at_inputs > 0)
        if bad.any():
            raise ValueError(
                f"f(x) must be positive to drop from, but is not in {named(bad)}; choose an output that is ('softmax')"
            )
        return {"score": score, "values_batch": neutral_like(x, self.removal)}

    def evaluate_batch(
        self, x_batch: np.ndarray, a_batch: np.ndarray, values_batch: np.ndarray, row_batch: np.ndarray, **data: Any
    ) -> list[float]:
        """The scores of one batch, channels first."""
        score, x, values = data["score"], to_tensor(x_batch), to_tensor(values_batch)
        shown = Features((x,)).scores((to_tensor(a_batch),), self.ranking).clamp(min=0)
        highest = shown.amax(1, keepdim=True)
        shown = shown / highest.where(highest > 0, torch.ones_like(highest))
        shown = shown.reshape(len(x), 1, *x.shape[2:]) if x.ndim > 3 else shown.reshape(x.shape)
        masked = (values + shown.to(values) * (x - values)).to(score.device)
        rows = torch.from_numpy(row_batch).to(score.device)
        through = np.concatenate([score(masked[part], rows[part]) for part in chunks(len(masked), score.rows)])
        return [float(v) for v in self.compared(score.at_inputs[row_batch], through)]

    def compared(self, before: np.ndarray, through: np.ndarray) -> np.ndarray:
        """The scores (B,) of f(x) and of f of the input seen through its map."""
        raise NotImplementedError


class AverageDrop(MaskedConfidence):
    """Average drop: the share of the model's confidence that is lost when it sees the input through its explanation.

        score = max(0, f(x) - f(m x)) / f(x),      m = max(0, a) / max_i a_i per example, one number per pixel

    Between 0 and 1; lower is better. The published number is the mean over examples in percent. The magnitudes of the
    attributions count here, not their order alone.

    Source: Chattopadhay et al., "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks", WACV 2018.
    """

    name = "Average drop"
    score_direction = ScoreDirection.LOWER

    def compared(self, before: np.ndarray, through: np.ndarray) -> np.ndarray:
        """The share that is lost."""
        return np.asarray(np.maximum(0, before - through) / before)


class IncreaseInConfidence(MaskedConfidence):
    """Increase in confidence: 1 where the model is surer when it sees the input through its explanation, else 0.

    Higher is better. The published number is the mean over examples in percent. m and source as in `AverageDrop`.
    """

    name = "Increase in confidence"
    score_direction = ScoreDirection.HIGHER

    def compared(self, before: np.ndarray, through: np.ndarray) -> np.ndarray:
        """Whether it rose."""
        return (through > before).astype(float)
