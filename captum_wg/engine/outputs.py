"""The Tensor among the forms that a model's output comes in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import torch
from torch import Tensor


def output_tensor(output: object) -> Tensor:
    """The output itself, or its logits (as of transformers' ModelOutput), else a TypeError with the wrapper to use."""
    if isinstance(output, Tensor):
        if output.is_nested or output.layout != torch.strided or output.is_complex():
            kind = "nested" if output.is_nested else "complex" if output.is_complex() else str(output.layout)
            raise TypeError(
                f"forward_func must return an ordinary Tensor of real numbers, got a {kind} one; wrap it (.to_dense(), "
                ".abs(), .real, ...)"
            )
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    part = ""
    if isinstance(output, Mapping) and output:
        part = f"[{next(iter(output), 'name')!r}]"
    elif isinstance(output, tuple | list) and output:
        part = f".{output._fields[0]}" if hasattr(output, "_fields") else "[0]"
    elif dataclasses.is_dataclass(output):
        part = f".{dataclasses.fields(output)[0].name}"
    raise TypeError(
        f"forward_func must return a Tensor, got {type(output).__name__}"
        + (f"; wrap it so that it returns one, such as lambda *x: model(*x){part}" if part else "")
    )
