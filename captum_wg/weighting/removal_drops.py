"""What the output loses with sets of features, each removed by itself. Shapes: B examples, P features, S sets."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_wg.engine.checks import name_rows, not_finite
from captum_wg.engine.problem import Points, Problem
from captum_wg.weighting.masking import Features, Neutral, neutral_values
from captum_wg.weighting.output import Output, OutputTransform


def removal_drops(
    problem: Problem, features: Features, sets: Tensor, neutral: Neutral = "mean", output: Output = "auto"
) -> Tensor:
    """f(x) - f(x without S_s), (B, S), by B S forwards in micro-batches, and one of each example.

    Args:
        problem: the model and its examples, and which output is f.
        features: what sets are made of.
        sets: bool (S, P), the same for all examples.
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
        b, gone = examples.stop - examples.start, sets[chosen]
        numbers = torch.arange(examples.start, examples.stop, device=device).repeat_interleave(len(gone))
        inputs = tuple(x[numbers] for x in problem.inputs)
        neutrals = tuple(v[numbers] if len(v) > 1 else v for v in values)
        masked = features.remove(inputs, neutrals, gone.repeat(b, 1), numbers)
        return Points(tuple(m.view(b, -1, *m.shape[1:]) for m in masked))

    before = score(at_inputs, torch.arange(problem.n_examples, device=device))
    drops = before.unsqueeze(1) - problem.outputs(points, len(sets), "removals", score)
    bad = not_finite(drops)
    if bad.any():
        raise ValueError(
            f"the output is NaN or infinite for examples {name_rows(bad)} or masked copies of them; check the model "
            "there, or choose another neutral"
        )
    return drops
