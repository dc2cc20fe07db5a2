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
from typing import Any, NamedTuple, cast

import torch
from captum.attr import Attribution, DeepLift, LayerAttribution, NeuronDeepLift
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_wg.engine.activations import Layers, Neuron
from captum_wg.engine.checks import warn
from captum_wg.engine.problem import Problem
from captum_wg.engine.tensors import at_least_float32

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
# Of what the output changes by, this much may be missing of the sum of a map before a reason is looked for.
_GAP = 0.02
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


def uses_of(problem: Problem, examples: Tensor) -> Uses:
    """What DeepLift can't see in a forward of some of a problem's examples (R,)."""

    def forward() -> None:
        with torch.inference_mode(False), torch.enable_grad():
            rows = tuple(x[examples].clone().requires_grad_() * 1 for x in problem.inputs)
            problem.forward_func(*rows, *problem.args.of(examples))

    return uses(cast(nn.Module, problem.forward_func), forward)


class SumCheck:
    """Compares the sums of DeepLift's maps with what the output changes by, and warns once where they miss it.

    The outputs are noted in DeepLift's own forwards; those of NeuronDeepLift's neuron take two more for each
    micro-batch. Other methods, and maps that promise no sum, are left alone.

    Args:
        method: any attribution.
        problem: what it explains.
        attribute_kwargs: the method's own arguments.
    """

    def __init__(self, method: Attribution, problem: Problem, attribute_kwargs: dict[str, Any]):
        self._method, self._problem, self._given = method, problem, attribute_kwargs
        # Multipliers alone are times x - x'_k, where that is at hand.
        has_sum = isinstance(method, DeepLift | NeuronDeepLift) and (
            method.multiplies_by_inputs or not isinstance(method, LayerAttribution)
        )
        custom = attribute_kwargs.get("custom_attribution_func") is not None
        self._is_due = has_sum and not custom and not problem.together
        self._output: Tensor | None = None
        self._norm = 0.0

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Around the method's work for one micro-batch."""

        def note(module: nn.Module, args: Any, output: Tensor) -> None:
            self._output = output.detach()

        if not (self._is_due and isinstance(self._method, DeepLift)):
            yield
            return
        # Before DeepLift's own hook, which puts the outputs at inputs and at baselines side by side.
        handle = self._method.forward_func.register_forward_hook(note)
        try:
            yield
        finally:
            handle.remove()

    def __call__(self, starts: tuple[Tensor, ...], numbers: Tensor, maps: tuple[Tensor, ...]) -> None:
        """Look at the maps of a micro-batch: of examples `numbers` (R,) and their baselines (R, *feature)."""
        if not self._is_due:
            return
        ends = tuple(x[numbers] for x in self._problem.inputs)
        change = self._change(ends, starts, numbers)
        if not self._method.multiplies_by_inputs:
            maps = tuple(m * (end - start) for m, end, start in zip(maps, ends, starts, strict=True))
        flat = torch.cat([m.to(change.dtype).flatten(1) for m in maps], dim=1)
        gap, largest, norm = (float(v.abs().max()) for v in (flat.sum(1) - change, change, flat.abs().sum(1)))
        self._norm = max(self._norm, norm)
        # Half precision rounds coarser.
        share = max(_GAP, *(3 * torch.finfo(m.dtype).eps ** 0.5 for m in maps))
        if gap <= share * max(largest, share * self._norm):
            return
        self._is_due = False
        seen = uses_of(self._problem, numbers)
        of_what = "neuron" if isinstance(self._method, NeuronDeepLift) else "model"
        warn(
            f"{type(self._method).__name__} is not complete for this {of_what}: sums of its maps miss F(x) - F(x'_k), "
            f"which is up to {largest:.3g}, by up to {gap:.3g}. Where it has no hook on a function it takes plain "
            f"gradients, in silence: {some(seen.gaps + seen.reused) or 'none such was found, though'}. Use modules "
            "that it knows (nn.ReLU, nn.Tanh, ...), or a path method such as ExpectedGradients"
        )

    def _change(self, ends: tuple[Tensor, ...], starts: tuple[Tensor, ...], numbers: Tensor) -> Tensor:
        """F(x) - F(x'_k) of each pair, (R,)."""
        problem = self._problem
        if isinstance(self._method, NeuronDeepLift):
            at_input = bool(self._given.get("attribute_to_neuron_input"))
            layers = Layers(self._method.forward_func, [self._method.layer], at_input)
            neuron = Neuron(layers, self._given["neuron_selector"])
            with torch.no_grad():
                at_inputs, at_starts = (
                    at_least_float32(neuron(*(r.clone() for r in rows), *problem.args.of(numbers)))
                    for rows in (ends, starts)
                )
        elif self._output is not None and len(self._output) == 2 * len(numbers):
            at_inputs, at_starts = (problem.explained(half, numbers) for half in self._output.chunk(2))
        else:  # of a model spread over several devices
            at_inputs, at_starts = (
                problem.explained(problem.raw_outputs(rows, numbers), numbers) for rows in (ends, starts)
            )
        return at_inputs - at_starts


def some(names: list[str], most: int = 5) -> str:
    """The first of several, for a message."""
    return "; ".join(names[:most]) + (f"; ... ({len(names)} in all)" if len(names) > most else "")


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
