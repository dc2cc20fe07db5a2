"""f, what a removal is measured by, out of the model's output: for the fitness and for the deletion metrics.

Shapes: B examples, R rows (masked copies), C columns.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice, name_rows, warn
from captum_wg.engine.targets import Targets
from captum_wg.engine.tensors import at_least_float32

Output = str | Callable[[Tensor], Tensor]

OUTPUTS = ("auto", "softmax", "sigmoid", "identity")


class OutputTransform:
    """Makes scores (R, ...) of the model's output for rows that belong to examples.

    "auto" is decided once for each example, by its own unmasked output alone, so that no image's scores depend on its
    company: the output itself where it is one column or a distribution (not negative, with sum 1), its softmax
    otherwise. An output of which all lies in [0, 1] without being one (a sigmoid's, or logits by chance) is warned of.

    Args:
        output: "auto", "softmax" (over dimension 1), "sigmoid", "identity", or a callable of the model's output
            (R, ...) that returns scores of the same form, or one number per row.
        at_inputs: the model's output for the B unmasked inputs.
        name: the argument's name for the messages.

    Raises:
        ValueError: "auto" for outputs of more than two dimensions; "softmax" of one column.
    """

    def __init__(self, output: Output, at_inputs: Tensor, name: str = "output"):
        self._output = check_output(output, name)
        self._softmax: Tensor | None = None  # for which examples, (B,); None: the same for all
        if callable(output):
            return
        one_column = at_inputs.ndim < 2 or at_inputs.shape[1:] == (1,)
        if output == "softmax" and one_column:
            raise ValueError(f"{name}='softmax' of an output of one column is always 1; use 'identity' or 'sigmoid'")
        if output != "auto":
            return
        if at_inputs.ndim > 2:
            raise ValueError(
                f"{name}='auto' can't be found for outputs of shape {tuple(at_inputs.shape)}; say 'softmax' (over "
                "dimension 1), 'sigmoid', 'identity', or give a callable"
            )
        if one_column:
            self._output = "identity"
            return
        wide = at_least_float32(at_inputs)
        slack = max(1e-5, 8 * torch.finfo(at_inputs.dtype).eps) if at_inputs.is_floating_point() else 1e-5
        inside = ((wide >= 0) & (wide <= 1 + slack)).all(1)
        distribution = inside & ((wide.sum(1) - 1).abs() <= slack)
        doubtful = inside & ~distribution
        if doubtful.any():
            warn(
                f"all outputs of examples {name_rows(doubtful)} lie in [0, 1] without summing to 1. Their softmax is "
                f"taken, as for logits; if they are a sigmoid's say {name}='identity', if they are logits "
                f"{name}='softmax' (or 'sigmoid')"
            )
        self._softmax = ~distribution

    def __call__(self, output: Tensor, examples: Tensor) -> Tensor:
        """Scores of the model's output (R, ...) for rows that belong to `examples` (R,), in at least float32."""
        wide = at_least_float32(output)
        if callable(self._output):
            return self._output(wide)
        if self._output == "identity":
            return wide
        if self._output == "sigmoid":
            return wide.sigmoid()
        if self._softmax is None:
            return wide.softmax(dim=1)
        chosen = self._softmax[examples.to(self._softmax.device)].to(wide.device).unsqueeze(1)
        return torch.where(chosen, wide.softmax(dim=1), wide)

    def of_target(self, output: Tensor, examples: Tensor, targets: Targets) -> Tensor:
        """f, (R,), out of the model's output for rows of `examples` (R,): their scores, at target where those of a row
        are several."""
        scores = self(output, examples)
        if not (isinstance(scores, Tensor) and scores.ndim == 1 and len(scores) == len(examples)):
            scores = targets.select(scores, examples)
        # A model may answer on another device than it is asked on.
        return scores.to(examples.device)


def check_output(output: object, name: str = "output") -> Output:
    """output, a known name or a callable."""
    return output if callable(output) else check_choice(output, name, OUTPUTS)
