"""s, what a removal is followed by: the explained output f, or how far it still is from that of the baselines.

Shapes: B examples, K baselines, R rows (masked copies).
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice, name_rows, warn
from captum_wg.engine.problem import Points, Problem
from captum_wg.weighting.output import Output, OutputTransform

SCORES = ("output", "distance")


class Score:
    """The score of any rows, and of the examples themselves, which a removal is to bring down to a share of.

        "output"      s(z) = f(z), which must be positive: a probability.
        "distance"    s(z) = sign(f(x) - c) (f(z) - c),   c = mean_k f(x'_k),   s(x) = |f(x) - c|,

    so that the distance is followed on x's side of c: to overshoot c is to have removed enough. It is the same for f
    and a f + b, whatever a (not 0) and b, as it should be where the output has no natural zero: a regression, a logit.
    It takes B K forwards more.

    f is one number per row: a callable `output` may return it, or scores of the model's form, in which target is then
    looked up.

    Args:
        problem: with the `baselines` of its call, if score is "distance".
        output: what makes f of the model's output (`captum_wg.weighting.output`).
        score: "output" or "distance".

    Attributes:
        at_inputs: s(x), (B,); 0 where it can't be said how much of it a removal takes: f(x) is not positive, or is c,
            or "auto" does not know what f is.
        sign: of f(x) - c, (B,), 1 or -1; None for "output".

    Raises:
        ValueError: as `OutputTransform`; f(x) or f(x'_k) is NaN or infinite; no baselines to be distant from.

    Warns:
        UserWarning: examples of which s(x) is 0 in this sense, and the ways out.
    """

    def __init__(self, problem: Problem, output: Output = "auto", score: str = "output"):
        check_choice(score, "score", SCORES)
        self._problem = problem
        self._center: Tensor | None = None
        self.sign: Tensor | None = None
        raw = problem.raw_outputs_at_inputs()
        everyone = torch.arange(problem.n_examples, device=problem.inputs[0].device)
        if output == "auto" and raw.ndim > 2:
            warn(
                f"outputs of shape {tuple(raw.shape)} do not tell how much of f(x) a removal takes: all baselines "
                "weigh the same, as in ExpectedGradients. Say what f is by the weighting's output: "
                "Deletion(output='softmax') (over dimension 1), 'sigmoid', 'identity' or a callable"
            )
            self._transform = OutputTransform("identity", raw)
            self.at_inputs = torch.zeros(problem.n_examples, device=everyone.device)
            return
        self._transform = OutputTransform(output, raw)
        at_inputs = self(raw, everyone)
        _check_finite(at_inputs, "f(x)")
        if score == "distance":
            self._center = self._mean_at_baselines()
            _check_finite(self._center, "E f(x'_k)")
            difference = at_inputs - self._center
            self.sign = torch.where(difference < 0, -1.0, 1.0).to(difference)
            at_inputs = difference.abs()
        _warn_of_low(at_inputs, score)
        self.at_inputs = at_inputs.clamp(min=0)

    def __call__(self, raw: Tensor, examples: Tensor) -> Tensor:
        """s out of the model's output for rows of `examples` (R,): (R,)."""
        f = self._transform.of_target(raw, examples, self._problem.targets)
        return f if self._center is None or self.sign is None else self.sign[examples] * (f - self._center[examples])

    def _mean_at_baselines(self) -> Tensor:
        """c, (B,)."""
        problem, baselines = self._problem, self._problem.baselines
        if baselines is None:
            raise ValueError(
                "score='distance' is from the outputs at the call's baselines, which this problem does not have; set "
                "problem.baselines"
            )
        which = torch.arange(baselines.count, device=baselines.values[0].device)

        def points(examples: slice, chosen: slice) -> Points:
            rows, b = baselines.at(examples, which[chosen]), examples.stop - examples.start
            return Points(tuple(r.expand(b, *r.shape[1:]) for r in rows))

        return problem.outputs(points, baselines.count, "at baselines", score=self).mean(1)


def _check_finite(scores: Tensor, what: str) -> None:
    if (bad := ~torch.isfinite(scores)).any():
        raise ValueError(f"the output {what} is NaN or infinite for examples {name_rows(bad)}; check the model there")


def _warn_of_low(scores: Tensor, score: str) -> None:
    low = scores <= 0
    if not low.any():
        return
    if score == "distance":
        warn(
            f"the output f(x) of examples {name_rows(low)} is the mean of f at their baselines, so that nothing is "
            "left to explain: their baselines all weigh the same, as in ExpectedGradients"
        )
        return
    warn(
        f"the output f(x) of examples {name_rows(low)} is not positive "
        f"({', '.join(f'{v:.3g}' for v in scores[low][:5].tolist())}; exactly 0 is often a head that was never "
        "trained), so it can't be said how much of it a removal takes: their baselines all weigh the same, as in "
        "ExpectedGradients. Say what f is by the weighting's output: Deletion(output='softmax'), 'sigmoid' or a "
        "callable such as torch.exp; or, of a regression, follow its distance from the baselines' outputs: "
        "Deletion(score='distance')"
    )
