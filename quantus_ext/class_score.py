"""f, the output for an example's class, of masked copies of the example."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_wg.engine.problem import automatic_rows
from captum_wg.weighting.output import Output, OutputTransform
from quantus_ext.arrays import chunks, named, to_tensor
from quantus_ext.model import device_of, dtype_of, tensor_of


class ClassScore:
    """Scores rows (R, *feature) that belong to examples (R,) by what the model says of the examples' classes.

    Of a single column, a probability, class 1 has p and class 0 has 1 - p.

    Args:
        model: Quantus' interface of the model; its softmax=False asks for the output as it is, without a softmax that
            is the model's last module.
        x, y: the B examples as arrays, channels first, and their classes.
        output: what f makes of the model's output, as in `captum_wg.weighting.output`.
        rows: rows per forward; None: by the size of an input, as `captum_wg.engine.problem.automatic_rows` says.
        at_inputs: whether f of the examples themselves is asked for, in B forwards more. "auto" looks there, too.

    Attributes:
        at_inputs: f(x) (B,), float64, if it was asked for.

    Raises:
        ValueError: an output that is not (R, classes); a class out of range; one column that is no probability.
    """

    def __init__(
        self,
        model: Any,
        x: np.ndarray,
        y: np.ndarray | None,
        output: Output = "auto",
        rows: int | None = None,
        at_inputs: bool = False,
    ):
        as_it_is = output == "auto" and model.softmax is False
        module = model.model if isinstance(model.model, nn.Module) else None
        self._interface, self._output = model, "identity" if as_it_is else output
        self._forward = model.get_softmax_arg_model() if as_it_is else model.model
        self._dtype = (dtype_of(module) if module else None) or torch.float32
        self.device = torch.device(getattr(model, "device", None) or (device_of(module) if module else None) or "cpu")
        self.rows = rows or automatic_rows((torch.empty(1, device="meta").expand(x.shape),), self.device)
        self._classes = torch.from_numpy(_classes(y, len(x))).to(self.device)
        self._transform: OutputTransform | None = None
        if self._output != "auto" and not at_inputs:
            return
        outputs = torch.cat([self._outputs(to_tensor(x[part]).to(self.device)) for part in chunks(len(x), self.rows)])
        self._transform = OutputTransform(self._output, outputs)
        if self._output == "auto" and outputs.shape[1] == 1 and not ((outputs >= 0) & (outputs <= 1)).all():
            raise ValueError(
                "the model returns a single column that is no probability; say output='sigmoid' if it is a logit, or "
                "output='identity' (with y_batch 0) if it is a value by itself"
            )
        if at_inputs:
            self.at_inputs = self._of_class(outputs, torch.arange(len(x), device=self.device))

    def __call__(self, rows: Tensor, examples: Tensor) -> np.ndarray:
        return self._of_class(self._outputs(rows), examples)

    def _outputs(self, rows: Tensor) -> Tensor:
        """The model's output (R, C)."""
        kwargs = self._interface.model_predict_kwargs
        if isinstance(self._forward, nn.Module):
            if self._interface.model.training:
                raise AttributeError("the model must be in evaluation mode: call model.eval() first")
            with torch.no_grad():
                output = tensor_of(self._forward(rows.to(self._dtype), **kwargs))
        else:
            masked = rows.cpu().numpy()
            shaped = self._interface.shape_input(masked, masked.shape, channel_first=True, batched=True)
            output = torch.as_tensor(self._forward.predict(shaped, **kwargs))
        if output.ndim < 2 and output.numel() == len(rows):
            output = output.reshape(-1, 1)
        if output.ndim != 2 or len(output) != len(rows):
            raise ValueError(
                f"the model must return one row of class scores per input, (R, classes); "
                f"for {len(rows)} inputs it returned an output of shape {tuple(output.shape)}"
            )
        return output.to(self.device)

    def _of_class(self, outputs: Tensor, examples: Tensor) -> np.ndarray:
        self._transform = self._transform or OutputTransform(self._output, outputs)
        scores, classes = self._transform(outputs, examples), self._classes[examples]
        if scores.ndim == 2 and scores.shape[1] == 1 and self._output in ("auto", "sigmoid"):
            scores = torch.cat((1 - scores, scores), 1)
        if scores.ndim == 2:
            if classes.max() >= scores.shape[1]:
                raise ValueError(
                    f"y_batch holds class {int(classes.max())}, but the model returns {scores.shape[1]} columns "
                    f"(classes 0 to {scores.shape[1] - 1})"
                )
            scores = scores.gather(1, classes.unsqueeze(1)).squeeze(1)
        if scores.shape != classes.shape:
            raise ValueError(
                f"output must make scores (R, classes) or (R,) of the model's output {tuple(outputs.shape)}, got "
                f"{tuple(scores.shape)}"
            )
        values: np.ndarray = scores.detach().cpu().numpy().astype(np.float64)
        return values


def _classes(y: np.ndarray | None, examples: int) -> np.ndarray:
    """y as int64 (B,)."""
    if y is None or y.size != examples or y.ndim > 2 or y.dtype.kind not in "iuf":
        came = "None" if y is None else f"an array of {y.dtype} of shape {y.shape}"
        raise ValueError(f"y_batch must hold one class number for each of the {examples} examples, got {came}")
    bad = ((y != np.floor(y)) | (y < 0)).reshape(-1)
    if bad.any():
        raise ValueError(f"y_batch must hold class numbers from 0, got {y.reshape(-1)[bad][0]!r} ({named(bad)})")
    return y.reshape(-1).astype(np.int64)
