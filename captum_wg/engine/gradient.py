"""The gradient of the explained output at one micro-batch: the only call of autograd in this package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_wg.engine.forward_args import args_tuple
from captum_wg.engine.targets import Target, Targets, select
from captum_wg.engine.tensors import Inputs, as_tuple


def input_gradients(
    forward_fn: Callable[..., Any],
    inputs: Inputs,
    target_ind: Target = None,
    additional_forward_args: object = None,
    bounds: tuple[int, int] | None = None,
    create_graph: bool = False,
) -> tuple[Tensor | None, ...]:
    """Gradients of the output at target_ind with respect to inputs: Captum's `compute_gradients` with its calling form.

    Unlike it, an element of inputs on which the output does not depend gets None, all of them where the output has no
    gradient, and what cannot be differentiated is said in an error's words. The function may write into what it is
    given. `bounds` are the smallest and largest of per-example targets, if already known; with `create_graph` the
    gradients can be differentiated themselves.
    """
    points = as_tuple(inputs)
    with torch.inference_mode(False), torch.enable_grad():
        # A tensor made under inference_mode can't take part in autograd.
        args = args_tuple(additional_forward_args)
        args = tuple(a.clone() if isinstance(a, Tensor) and a.is_inference() else a for a in args)
        rows = len(points[0])
        if bounds is None:
            target_ind = Targets(target_ind, rows).of(torch.arange(rows, device=points[0].device))
        try:
            raw = forward_fn(*points, *args)
        except RuntimeError as error:
            if "leaf Variable that requires grad" not in str(error):
                raise
            # An in-place first layer, which may write into a copy.
            raw = forward_fn(*(p.clone() for p in points), *args)
        output = select(raw, target_ind, rows, bounds)
        if not output.requires_grad:
            return (None,) * len(points)
        try:
            gradients: tuple[Tensor | None, ...] = torch.autograd.grad(
                output, points, grad_outputs=torch.ones_like(output), create_graph=create_graph, allow_unused=True
            )
        except RuntimeError as error:
            if "cudnn RNN" in str(error):
                raise RuntimeError(
                    "cuDNN's RNNs have no backward pass in eval mode: put the RNN modules alone into train mode "
                    "(dropout off), or run within torch.backends.cudnn.flags(enabled=False)"
                ) from error
            raise
    return gradients


class Differentiated(TorchFunctionMode):
    """Sees what torch.autograd.grad is asked to differentiate, and spares the backward pass: zeros for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: tuple[Tensor, ...] = ()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is not torch.autograd.grad:
            return func(*args, **kwargs)
        asked = (*args, kwargs.get("outputs"), kwargs.get("inputs"))[:2]
        outputs, inputs = (tuple(a) if isinstance(a, tuple | list) else (a,) for a in asked)
        self.outputs += outputs
        return tuple(map(torch.zeros_like, inputs))
