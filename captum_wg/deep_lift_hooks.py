"""Where DeepLift loses its rule: what in a model it has no hook on, and which modules it meets twice.

Captum's DeepLift replaces the gradients of non-linear modules that it knows by differences. A non-linear function that
is called without a module, or by a module it does not know, keeps its plain gradient, and nothing says so. The rules
for max pooling and softmax are not exact, and mix the rows of a batch
(https://github.com/meta-pytorch/captum/issues/1276).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple

from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_NON_LINEAR = """
relu relu6 leaky_relu elu celu selu gelu silu mish glu prelu rrelu hardswish hardsigmoid hardtanh softplus softsign
logsigmoid sigmoid tanh softmax log_softmax softmin exp log log1p logsumexp sqrt rsqrt pow square abs sin cos erf
reciprocal rdiv rtruediv clamp clamp_min clamp_max clip where maximum minimum max min amax amin threshold norm sort topk
max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d layer_norm group_norm
instance_norm rms_norm normalize local_response_norm scaled_dot_product_attention multi_head_attention_forward lstm gru
rnn_tanh rnn_relu
"""
# Linear in each factor, but not in two that both come from the inputs.
_PRODUCTS = "mul div truediv matmul bmm mm baddbmm einsum"
_INEXACT = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.Softmax)
_FACTORS = dict.fromkeys(_NON_LINEAR.split(), 1) | dict.fromkeys(_PRODUCTS.split(), 2)


class Uses(NamedTuple):
    """What one forward of a model called: non-linear functions without an exact rule, and modules used repeatedly."""

    gaps: list[str]
    reused: list[str]


def uses(model: nn.Module, forward: Callable[[], object]) -> Uses:
    """What DeepLift can't see in a forward of the model, by the modules' names.

    Args:
        model: the module that is explained.
        forward: calls it once, with inputs that require gradients.
    """
    with _watched(model) as watch:
        forward()
    reused = [f"{name} is used {count} times" for name, count in watch.calls.items() if count > 1]
    return Uses(list(watch.gaps), reused)


class _Watch(TorchFunctionMode):
    """Notes which functions are called inside of which module."""

    def __init__(self) -> None:
        super().__init__()
        self.gaps: dict[str, None] = {}
        self.calls: Counter[str] = Counter()
        self.inside: list[tuple[str, nn.Module]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").strip("_")  # without those of operators and of what works in place
        if self.inside and name in _FACTORS:
            label, module = self.inside[-1]
            given = (*args, *(kwargs or {}).values())
            of_inputs = sum(isinstance(a, Tensor) and a.grad_fn is not None for a in given)
            known = type(module) in SUPPORTED_NON_LINEAR
            if known and module._backward_hooks:
                self.gaps[f"{label} has a backward hook already"] = None
            elif known and isinstance(module, _INEXACT):
                self.gaps[f"{label} has no exact rule"] = None
            elif not known and of_inputs >= _FACTORS[name]:
                self.gaps[f"{label} calls {name}"] = None
        return func(*args, **(kwargs or {}))


@contextmanager
def _watched(model: nn.Module) -> Iterator[_Watch]:
    watch = _Watch()

    def enter(label: str, module: nn.Module, args: Any) -> None:
        watch.inside.append((label, module))
        if type(module) in SUPPORTED_NON_LINEAR:
            watch.calls[label] += 1

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        watch.inside.pop()

    with ExitStack() as stack:
        for name, module in model.named_modules():
            label = f"{name or 'the model'} ({type(module).__name__})"
            for handle in (
                module.register_forward_pre_hook(partial(enter, label)),
                module.register_forward_hook(leave, always_call=True),
            ):
                stack.callback(handle.remove)
        stack.enter_context(watch)
        yield watch
