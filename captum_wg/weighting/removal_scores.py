"""The output for copies of examples without some features. Shapes: B examples, P features, S sets of them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from captum_wg.engine.checks import name_rows, not_finite
from captum_wg.engine.problem import Points, Problem
from captum_wg.weighting.masking import Features, Neutral, neutral_values
from captum_wg.weighting.output import Output, OutputTransform


class RemovalScores(NamedTuple):
    """f(x), (B,), and f(x without S_s), (B, S)."""

    before: Tensor
    after: Tensor

    @property
    def drops(self) -> Tensor:
        """f(x) - f(x without S_s), (B, S)."""
        return self.before.unsqueeze(1) - self.after


def removal_scores(
    problem: Problem, features: Features, sets: Tensor, neutral: Neutral = "mean", output: Output = "auto"
) -> RemovalScores:
    """f with nothing removed, and with each set removed by itself, by B S forwards in micro-batches and B more.

    Args:
        problem: the model and its examples, and which output is f.
        features: what sets are made of.
        sets: bool (S, P), the same for all examples; or (B, S, P), each example's own.
        neutral: what a removed feature is replaced by (`captum_wg.weighting.masking.neutral_values`).
        output: f out of the model's output (`captum_wg.weighting.output`).

    Raises:
        TypeError, ValueError: neutral or output does not fit; rows that influence each other; an f that is not finite.
    """
    problem.refuse_together("what is removed of one example must not change another")
    device = problem.inputs[0].device
    values, sets = neutral_values(problem.inputs, neutral), sets.to(device)
    at_inputs = problem.raw_outputs_at_inputs()
    transform = OutputTransform(output, at_inputs)

    def score(raw: Tensor, examples: Tensor) -> Tensor:
        return transform.of_target(raw, examples, problem.targets)

    def points(examples: slice, chosen: slice) -> Points:
        b, s = examples.stop - examples.start, chosen.stop - chosen.start
        numbers = torch.arange(examples.start, examples.stop, device=device).repeat_interleave(s)
        gone = sets[chosen].repeat(b, 1) if sets.ndim == 2 else sets[examples, chosen].flatten(0, 1)
        inputs = tuple(x[numbers] for x in problem.inputs)
        neutrals = tuple(v[numbers] if len(v) > 1 else v for v in values)
        masked = features.remove(inputs, neutrals, gone, numbers)
        return Points(tuple(m.view(b, s, *m.shape[1:]) for m in masked))

    before = score(at_inputs, torch.arange(problem.n_examples, device=device))
    found = RemovalScores(before, problem.outputs(points, sets.shape[-2], "removals", score))
    bad = not_finite(found.drops)
    if bad.any():
        raise ValueError(
            f"the output is NaN or infinite for examples {name_rows(bad)} or masked copies of them; check the model "
            "there, or choose another neutral"
        )
    return found
