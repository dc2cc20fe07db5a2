"""The model's output along a ranking of the features: the one engine of deletion and insertion.

Shapes: B examples, P features, N levels, U different numbers of removed features, R rows (masked copies).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from quantus.helpers.model.model_interface import ModelInterface
from quantus.helpers.model.pytorch_model import PyTorchModel
from torch import Tensor, nn
from tqdm.auto import tqdm

from captum_wg.engine.problem import automatic_rows
from captum_wg.weighting.masking import Features
from quantus_ext.arrays import named, to_array, to_tensor
from quantus_ext.model_state import device_of, dtype_of


def perturbation_curves(
    model: ModelInterface[Any],
    x: np.ndarray,
    y: np.ndarray,
    places: Tensor,
    neutral: np.ndarray,
    ks: np.ndarray,
    insert: bool,
    rows: int | None = None,
    first: int = 0,
    show_progress: bool = False,
) -> np.ndarray:
    """The model's output for class y (B, N) with the round(k P) highest ranked features removed, for each k.

    Levels that round to the same number of features are evaluated once: R = B * U rows, in forwards of at most
    `rows` of them.

    Args:
        x, neutral: inputs and what replaces them, (B, *feature), channels first.
        y: classes (B,).
        places: the place (B, P) of each feature in the ranking, 0 for the highest.
        ks: the levels (N,), shares of the features.
        insert: those features are put back into an input of which everything is removed, instead of being removed.
        rows: rows per forward; None: by the size of an input, as `captum_wg.engine.problem.automatic_rows` says.
        first: the number of the first example, for messages.
        show_progress: a progress bar over the rows.

    Raises:
        ValueError: an output that is not (R, classes) or not finite; a class out of range; one column under softmax.
    """
    inputs, value, classes = to_tensor(x), to_tensor(neutral), torch.from_numpy(y)
    features = Features((inputs,))
    counts, level_of = np.unique([round(k * features.count) for k in ks], return_inverse=True)
    different = torch.from_numpy(counts)
    total = len(x) * len(counts)
    device = device_of(model.model) if isinstance(model.model, nn.Module) else None
    rows = rows or automatic_rows((inputs,), device or torch.device("cpu"))

    outputs = np.empty(total)
    with tqdm(total=total, desc="masked inputs", unit="row", leave=False, disable=not show_progress) as bar:
        for start in range(0, total, rows):
            row = torch.arange(start, min(start + rows, total))
            example, count = row // len(counts), different[row % len(counts)]
            top = places[example] < count[:, None]
            (masked,) = features.remove((inputs[example],), (value[example],), ~top if insert else top)
            outputs[start : start + len(row)] = _predict(model, masked.numpy(), classes[example].numpy())
            bar.update(len(row))

    curves = outputs.reshape(len(x), len(counts))
    bad = ~np.isfinite(outputs).reshape(curves.shape).all(1)
    if bad.any():
        raise ValueError(
            f"the model's output is NaN or infinite for masked copies of {named(np.append(np.zeros(first, bool), bad))}"
        )
    return curves[:, level_of.reshape(-1)]


def check_classes(y: np.ndarray | None, examples: int) -> np.ndarray:
    """y as int64 (B,)."""
    if y is None or y.size != examples or y.ndim > 2 or not np.issubdtype(y.dtype, np.number):
        came = "None" if y is None else f"an array of {y.dtype} of shape {y.shape}"
        raise ValueError(f"y_batch must hold one class number for each of the {examples} examples, got {came}")
    bad = ~(np.isreal(y) & (y == np.floor(np.real(y))) & (y >= 0)).reshape(-1)
    if bad.any():
        raise ValueError(f"y_batch must hold class numbers from 0, got {y.reshape(-1)[bad][0]!r} ({named(bad)})")
    return y.reshape(-1).astype(np.int64)


def in_own_dtype(model: ModelInterface[Any]) -> ModelInterface[Any]:
    """The model's interface; Quantus' own casts inputs to float32, on which a model of another dtype fails."""
    if not isinstance(model, PyTorchModel):
        return model
    dtype = dtype_of(model.model)
    if dtype in (None, torch.float32):
        return model
    return _OwnDtypeModel(
        model.model,
        channel_first=bool(model.channel_first),
        softmax=model.softmax,
        model_predict_kwargs=model.model_predict_kwargs,
        device=model.device,
    )


class _OwnDtypeModel(PyTorchModel):
    def predict(self, x: Any, grad: bool = False, **kwargs: Any) -> np.ndarray:
        if self.model.training:
            raise AttributeError("Torch model needs to be in the evaluation mode.")
        with torch.set_grad_enabled(grad):
            rows = torch.as_tensor(x).to(self.device, dtype_of(self.model))
            return to_array(self.get_softmax_arg_model()(rows, **{**self.model_predict_kwargs, **kwargs}))


def _predict(model: ModelInterface[Any], masked: np.ndarray, classes: np.ndarray) -> np.ndarray:
    shaped = model.shape_input(masked, masked.shape, channel_first=True, batched=True)
    output = np.asarray(model.predict(shaped))
    if output.ndim != 2 or len(output) != len(masked):
        raise ValueError(
            f"the model must return one row of class scores per input, (R, classes); "
            f"for {len(masked)} inputs it returned an array of shape {output.shape}"
        )
    if output.shape[1] == 1 and model.softmax:
        raise ValueError(
            "the model returns a single column, whose softmax is always 1; pass softmax=False to the metric's call"
        )
    if classes.max() >= output.shape[1]:
        raise ValueError(
            f"y_batch holds class {classes.max()}, but the model returns {output.shape[1]} columns "
            f"(classes 0 to {output.shape[1] - 1})"
        )
    chosen: np.ndarray = output[np.arange(len(output)), classes]
    return chosen
