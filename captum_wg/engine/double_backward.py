"""Whether a function's gradients can be differentiated once more, and if not, which module stands in the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from captum_wg.engine.train_mode import modules_of


def check_double_backward(forward_func: Callable[..., Any], *args: Any) -> None:
    """Raise if the gradients of forward_func at args, Tensors or not, have a part that autograd can't differentiate.

    Takes one forward and two backward passes, which leave no `.grad` behind.

    Raises:
        ValueError: there is such a part; the message names the innermost modules that hold one.
    """
    error = _refusal(forward_func, args, {})
    if error is None:
        return
    names = _at_fault(forward_func, args)
    where = f"in {', '.join(names)}" if names else "outside of any module"
    raise ValueError(
        f"forward_func can't be differentiated twice, {where}: {str(error).splitlines()[0]}. Replace that part, or "
        "train fused attention within torch.nn.attention.sdpa_kernel(SDPBackend.MATH), LSTM, GRU and RNN on a GPU "
        "within torch.backends.cudnn.flags(enabled=False), an autograd.Function with a backward that autograd can "
        "differentiate"
    ) from error


def _refusal(call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> RuntimeError | None:
    """What autograd says when asked for the second derivatives of a call; None: it gives them, or there are none."""
    args, kwargs = tuple(map(_leaf, args)), {name: _leaf(value) for name, value in kwargs.items()}
    leaves = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor) and a.requires_grad]
    with torch.enable_grad():
        result = call(*map(_copy, args), **{name: _copy(value) for name, value in kwargs.items()})
        outputs = [o for o in _tensors(result) if o.requires_grad]
        if not outputs or not leaves:
            return None
        # Where only a constant comes into it, a backward of one use counts as linear and says nothing.
        seeds = [torch.ones_like(o, requires_grad=True) for o in outputs]
        first = torch.autograd.grad(outputs, leaves, seeds, create_graph=True, allow_unused=True)
        gradients = [g for g in first if g is not None and g.grad_fn is not None]
        # All that the graph leads to: what refuses hangs on leaves that are nobody's parameters.
        ends = list(_ends(gradients))
        if not ends:
            return None
        try:
            torch.autograd.grad(gradients, ends, [torch.ones_like(g) for g in gradients], allow_unused=True)
        except RuntimeError as error:
            return error
    return None


def _at_fault(forward_func: Callable[..., Any], args: tuple[Any, ...]) -> list[str]:
    """The modules that can't be differentiated twice although all that they hold can: "name (class)"."""
    names = {m: name for model in modules_of(forward_func) for name, m in model.named_modules()}
    calls: dict[nn.Module, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def record(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        calls[module] = given, named

    hooks = [m.register_forward_pre_hook(record, with_kwargs=True) for m in names]
    try:
        with torch.enable_grad():  # without, some modules take a shorter way past their parts
            forward_func(*map(_copy, args))
    finally:
        for hook in hooks:
            hook.remove()
    refusing = {m for m, (given, named) in calls.items() if _refusal(m, given, named) is not None}
    innermost = [m for m in refusing if not any(inner in refusing for inner in m.modules() if inner is not m)]
    return sorted(f"{names[m] or 'the model itself'} ({type(m).__name__})" for m in innermost)


def _leaf(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().clone().requires_grad_()
    return value


def _copy(value: Any) -> Any:
    """What the call may write into."""
    return value.clone() if isinstance(value, Tensor) else value


def _tensors(output: Any) -> Iterator[Tensor]:
    """The Tensors in an output of any form."""
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping | tuple | list):
        for part in output.values() if isinstance(output, Mapping) else output:
            yield from _tensors(part)


def _ends(gradients: list[Tensor]) -> Iterator[Tensor]:
    """The leaves that a graph of gradients leads to."""
    nodes: list[Any] = [g.grad_fn for g in gradients]
    seen = set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if node.name().endswith("AccumulateGrad"):
            yield node.variable
        nodes += [following for following, _ in node.next_functions]
