"""How well sums of a map predict drops of the output: what the correlation metrics share.

An additive attribution claims that its sum over some features is what the output loses with them. The sets of features
are the same for all maps, so that one walk of forwards judges any number of them. Shapes: M maps, B examples, P
features, S sets.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from quantus.helpers.enums import DataType, EvaluationCategory, ScoreDirection
from torch import Tensor
from tqdm.auto import tqdm

from captum_wg.engine.checks import check_positive_int, not_finite
from captum_wg.weighting.masking import Features
from captum_wg.weighting.output import Output, check_output
from captum_wg.weighting.set_sums import correlations, set_sums
from quantus_ext.arrays import named, to_tensor
from quantus_ext.attribution_metric import AttributionMetric
from quantus_ext.class_score import ClassScore
from quantus_ext.removal import check_removal, neutral_like, takes_mask

Values = Tensor | Callable[[Tensor, Tensor], Tensor]


class RemovalCorrelation(AttributionMetric):
    """The abstract side of `PatchDeletionCorrelation` and `SubsetCorrelation`, which say which sets are removed."""

    data_applicability: ClassVar = {DataType.IMAGE, DataType.TIMESERIES, DataType.TABULAR}
    evaluation_category = EvaluationCategory.FAITHFULNESS
    score_direction = ScoreDirection.HIGHER
    sensitive_params = "what replaces the removed features 'removal' and which are removed together"
    by_rank = False

    # Whether ranks are compared (Spearman), or values (Pearson).
    ranked: ClassVar[bool]
    _several = False

    def __init__(
        self,
        removal: Any = "corners",
        ranking: str = "signed",
        *,
        output: Output = "auto",
        internal_batch_size: int | None = None,
        **kwargs: Any,
    ):
        """Set up the removals; kwargs are those of `AttributionMetric`."""
        self.removals = tuple(removal) if isinstance(removal, tuple | list) else (removal,)
        if not self.removals:
            raise ValueError("removal is empty; give at least one form, such as 'corners'")
        for form in self.removals:
            check_removal(form)
        self.output = check_output(output)
        self.internal_batch_size = (
            None if internal_batch_size is None else check_positive_int(internal_batch_size, "internal_batch_size")
        )
        super().__init__(ranking, **kwargs)

    def features_of(self, x: Tensor) -> Features:
        """What the sets are made of."""
        raise NotImplementedError

    def sets_of(self, n_features: int, shape: tuple[int, ...]) -> Tensor:
        """The sets as bool (S, P), the same for all inputs of one shape (without B)."""
        raise NotImplementedError

    def scores_of(self, model: Any, x_batch: Any, y_batch: Any, maps: Any, **call: Any) -> np.ndarray:
        """The scores (M, B) of M maps of the same examples, for the forwards of one.

        Args:
            maps: (M, B, ...), or a sequence of maps of one shape, each of which a call of the metric takes as a_batch.
            model, x_batch, y_batch, **call: as in that call.

        Raises:
            ValueError: no maps; and as the call.
        """
        if len(maps) == 0:
            raise ValueError("maps is empty; give (M, B, ...) with at least one map of the examples")
        judge = copy.copy(self)
        judge.return_aggregate, judge.all_evaluation_scores, judge._several = False, [], True
        scores = judge(model, x_batch, y_batch, list(maps), **call)
        return np.asarray(scores).reshape(-1, len(maps)).T

    def attributions(self, a_batch: Any, x: np.ndarray, channel_first: bool) -> Any:
        """As of any metric, or a list of them where there are several maps."""
        check = super().attributions
        return [check(a, x, channel_first) for a in a_batch] if self._several else check(a_batch, x, channel_first)

    def custom_preprocess(self, *, x_batch: np.ndarray, custom_batch: Any, **data: Any) -> dict[str, Any]:
        """The sums of the maps, one or a list of them, over each set, and what the drops need."""
        maps: Sequence[np.ndarray] = custom_batch if self._several else [custom_batch]
        features = self.features_of(to_tensor(x_batch[:1]))
        sets = self.sets_of(features.count, x_batch.shape[1:])
        sums = [set_sums(features.scores((to_tensor(a).double(),), self.ranking), sets) for a in maps]
        common = super().custom_preprocess(x_batch=x_batch, custom_batch=maps[0], **data)
        return {**common, "sums_batch": np.stack(sums, axis=1), "sets": sets}

    def checked(self, x: np.ndarray, data: dict[str, Any]) -> dict[str, Any]:
        """The score of the model's output, and what replaces removed features."""
        score = ClassScore(data["model"], x, data["y_batch"], self.output, self.internal_batch_size, at_inputs=True)
        # Not a sequence, which Quantus would repeat for each example.
        values = {i: form if takes_mask(form) else neutral_like(x, form) for i, form in enumerate(self.removals)}
        return {"score": score, "values": values}

    def evaluate_batch(
        self,
        x_batch: np.ndarray,
        sums_batch: np.ndarray,
        row_batch: np.ndarray,
        score: ClassScore,
        values: Mapping[int, Any],
        sets: Tensor,
        **data: Any,
    ) -> list[Any]:
        """The scores of one batch, or of several maps a list of (M,)."""
        x = to_tensor(x_batch)
        features = self.features_of(x[:1])
        found = np.zeros(sums_batch.shape[:2])
        for form in values.values():
            value = form if callable(form) else to_tensor(form[row_batch])
            drops = self.drops(score, x, features, sets, value, row_batch)
            found += correlations(sums_batch, drops[:, None], self.ranked) / len(values)
        return list(found) if self._several else [float(v) for v in found[:, 0]]

    def drops(
        self, score: ClassScore, x: Tensor, features: Features, sets: Tensor, value: Values, numbers: np.ndarray
    ) -> np.ndarray:
        """f(x) - f(x without S_s), (B, S), of the examples of these numbers; no map has a part in it."""
        return removal_drops(score, x, features, sets, value, numbers, self.display_progressbar)


def removal_drops(
    score: ClassScore,
    x: Tensor,
    features: Features,
    sets: Tensor,
    values: Values,
    numbers: np.ndarray,
    show_progress: bool = False,
) -> np.ndarray:
    """f(x) - f(x without S_s), (B, S), by B S forwards in micro-batches of `score.rows` rows.

    Args:
        score: f, with its `at_inputs`.
        x: inputs (B, *feature), channels first.
        features: what the sets are made of.
        sets: bool (S, P).
        values: what replaces x, (B, *feature); or a function of rows (R, *feature) and of what is removed of them, bool
            of that shape, that returns it for these rows.
        numbers: which of the score's examples these are, (B,).
        show_progress: a progress bar over the rows.

    Raises:
        ValueError: an output that is not finite; values of another shape.
    """
    count, features = len(sets), features.to(score.device)
    x, sets, of_score = x.to(score.device), sets.to(score.device), torch.from_numpy(numbers).to(score.device)
    values = values.to(score.device) if isinstance(values, Tensor) else values
    outputs = np.empty(len(x) * count)
    with tqdm(total=len(outputs), desc="removed sets", unit="row", leave=False, disable=not show_progress) as bar:
        for start in range(0, len(outputs), score.rows):
            rows = torch.arange(start, min(start + score.rows, len(outputs)), device=score.device)
            example, gone = rows // count, sets[rows % count]
            inputs = x[example]
            if isinstance(values, Tensor):
                value = values[example]
            else:
                (mask,) = features.remove((torch.zeros_like(inputs),), (torch.ones_like(inputs),), gone)
                value = torch.as_tensor(values(inputs, mask.bool())).to(inputs)
                if value.shape != inputs.shape:
                    raise ValueError(f"removal must return values of shape {(*inputs.shape,)}, got {(*value.shape,)}")
            (masked,) = features.remove((inputs,), (value,), gone)
            outputs[start : start + len(rows)] = score(masked, of_score[example])
            bar.update(len(rows))
    after = outputs.reshape(-1, count)
    bad = not_finite(torch.from_numpy(after)).numpy()
    if bad.any():
        raise ValueError(f"the model's output is NaN or infinite for masked copies of {named(bad, int(numbers[0]))}")
    drops: np.ndarray = score.at_inputs[numbers, None] - after
    return drops


def patches_of(x: Tensor, patch: tuple[int, int], name: str) -> Features:
    """The patches of images (B, C, H, W) as features, row by row from the top left; the last may be smaller."""
    if x.ndim != 4:
        raise ValueError(f"{name} has patches of images (B, C, H, W) only, got inputs of shape {tuple(x.shape)}")
    rows, columns = (torch.arange(side) // length for side, length in zip(x.shape[2:], patch, strict=True))
    numbers = rows.unsqueeze(1) * (int(columns[-1]) + 1) + columns
    return Features((x,), (numbers.expand(1, *x.shape[1:]),))


def check_patch(patch: Any) -> tuple[int, int]:
    """The patch's height and width, of one number or a pair."""
    sides = tuple(patch) if isinstance(patch, tuple | list) else (patch, patch)
    if len(sides) != 2:
        raise ValueError(f"patch must be a whole number or a pair (height, width), got {patch!r}")
    return check_positive_int(sides[0], "patch"), check_positive_int(sides[1], "patch")
