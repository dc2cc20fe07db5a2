"""Every method at a layer of a model, or of one neuron, on the contracts of Captum's layer and neuron classes.

At a layer a method explains f(activation, *inputs): the model run on the inputs with the layer's activation replaced.
Paths are straight between the activations of a baseline and those of the input, as in Captum's
LayerIntegratedGradients (its LayerGradientShap differs: it follows the path of the inputs). Of a neuron it explains
the neuron as a function of the inputs. Nothing else is new, so all that holds for inputs holds here.

Captum's LLMGradientAttribution takes classes of its own only; a subclass takes these too:

    class LLMAttribution(LLMGradientAttribution):
        SUPPORTED_METHODS = (*LLMGradientAttribution.SUPPORTED_METHODS, LayerExpectedGradients, LayerWeightedGradients)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from math import prod
from typing import Any, ClassVar

import torch
from captum.attr import LayerAttribution, NeuronAttribution
from captum.attr._utils.attribution import InternalAttribution
from torch import Tensor, nn

from captum_wg.attribution_base import AttributionResult, BaselineAttribution, logged
from captum_wg.engine.activations import Activations, FromActivations, Layers, Neuron
from captum_wg.engine.baseline_set import Baselines, BaselineSet
from captum_wg.engine.checks import check_bool, check_inputs, warn
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import Inputs, accumulation_dtype, as_tuple, like_inputs
from captum_wg.expected_gradients import ExpectedGradients
from captum_wg.local_measures import (
    Consistency,
    GeneralizedAttribution,
    GradientVariance,
    LocalIntegratedGradients,
    Stability,
)
from captum_wg.smooth_grad import SmoothGrad
from captum_wg.weighted_gradients import WeightedGradients

# What an id counts for in the size of an example: it becomes a vector.
_EMBEDDED = 512

_AT_LAYER = """At the layer; the arguments are those of the method for inputs, but for these.

        Args:
            inputs: a Tensor or tuple of Tensors (B, *feature), whole numbers (token ids) included.
            baselines: of the inputs, in the same forms and of the same dtype; where paths start are their activations.
            additional_forward_args: those that go with the examples are there for the baselines' activations too.
            feature_mask, smooth, radius, samplers and measures of your own: are of the layer's activations.
            attribute_to_layer_input: whether the layer's input (its positional arguments) is meant, not its output.
            grad_kwargs: for Captum's sake: materialize_grads or allow_unused. An unused layer gets zeros anyway.

        Returns:
            As the method for inputs, in the structure of the layer's activations: a Tensor, or a tuple of its
            floating-point Tensors; of a list of layers a list of these. Deltas, weights and steps as ever.

        Raises:
            TypeError, ValueError: as the method for inputs; a layer that is not in the model, is not called, is called
                twice, or within torch.utils.checkpoint, holds no floating-point Tensor, or one whose rows are not the
                examples.

        The method for inputs:

        """

_OF_NEURON = """Of the neuron; the arguments are those of the method for inputs, but for `target` and these.

        Args:
            neuron_selector: which number of the layer's activation (B, ...) is explained: an int (B, N), a tuple of one
                int or slice for each dimension but the first, selected neurons being summed, or a callable of the
                activation that returns (B,), or a sum over all of them.
            attribute_to_neuron_input: whether the layer's input (its positional arguments) is meant, not its output.

        Raises:
            TypeError, ValueError: as the method for inputs; a selector that is out of range or selects more than one
                number; a layer that is not in the model, is not called, is called twice, holds no floating-point
                Tensor, or one whose rows are not the examples.

        The method for inputs:

        """


def _at_layer(method: Callable[..., Any]) -> Any:
    """A method for inputs as one at a layer: attribute_to_layer_input and grad_kwargs follow its positional arguments.

    It is called on a copy, which knows what was asked for.
    """
    own = {"attribute_to_layer_input": False, "grad_kwargs": None}
    parameters = list(inspect.signature(method).parameters.values())
    place = len([p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])
    parameters[place:place] = [_parameter(name, value) for name, value in own.items()]

    def call(form: LayerForm, arguments: dict[str, Any]) -> Any:
        at_input, grad_kwargs = (arguments.pop(name, value) for name, value in own.items())
        if grad_kwargs is not None and not (
            isinstance(grad_kwargs, Mapping) and set(grad_kwargs) <= {"materialize_grads", "allow_unused"}
        ):
            raise ValueError(
                f"grad_kwargs may hold materialize_grads and allow_unused, got {grad_kwargs!r}; leave it out"
            )
        form.at_input = check_bool(at_input, "attribute_to_layer_input")
        for name in {"attributions", "feature_mask"} & set(arguments):
            if isinstance(arguments[name], list):
                arguments[name] = tuple(t for value in arguments[name] for t in as_tuple(value))
        result = method(form, **arguments)
        if method.__name__ == "attribute":
            form.warn_of_unused()
        whole = arguments.get("group_attributions") == "sum"  # groups may have elements in several layers
        return form.by_layer(result) if method.__name__ == "attribute" and not whole else result

    return _form_of(method, call, parameters, _AT_LAYER)


def _of_neuron(method: Callable[..., Any]) -> Any:
    """A method for inputs as one of a neuron.

    neuron_selector comes before the baselines, or where there are none in place of the target, which is left out, and
    attribute_to_neuron_input after internal_batch_size.
    """
    given = inspect.signature(method).parameters
    parameters: list[inspect.Parameter] = []
    for parameter in given.values():
        if parameter.name == ("baselines" if "baselines" in given else "target"):
            parameters.append(_parameter("neuron_selector"))
        if parameter.name == "return_convergence_delta":  # of which Captum's neuron classes know nothing
            parameter = parameter.replace(kind=parameter.KEYWORD_ONLY)
        if parameter.name != "target":
            parameters.append(parameter)
    place = len([p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD])
    parameters.insert(place, _parameter("attribute_to_neuron_input", False))

    def call(form: NeuronForm, arguments: dict[str, Any]) -> Any:
        at_input = check_bool(arguments.pop("attribute_to_neuron_input", False), "attribute_to_neuron_input")
        selector = arguments.pop("neuron_selector")
        form.forward_func = Neuron(Layers(form.forward_func, form.modules(), at_input), selector)
        return method(form, **arguments)

    return _form_of(method, call, parameters, _OF_NEURON)


def _parameter(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)


def _form_of(
    method: Callable[..., Any],
    call: Callable[[Any, dict[str, Any]], Any],
    parameters: list[inspect.Parameter],
    doc: str,
) -> Any:
    """A method of these parameters: call(a copy of self, the arguments by name)."""
    signature = inspect.Signature(parameters)

    @wraps(method)
    def form(*args: Any, **kwargs: Any) -> Any:
        try:
            arguments = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise TypeError(f"{method.__name__}() {error}") from None
        return call(copy(arguments.pop("self")), arguments)

    form.__signature__ = signature  # type: ignore[attr-defined]
    form.__doc__ = (doc if "inputs" in signature.parameters else "As `attribute` was called. ") + (method.__doc__ or "")
    return logged(form)


class InternalForm(InternalAttribution):  # type: ignore[misc]  # Captum has no types
    """What layer and neuron forms of a method have in common.

    Args:
        forward_func: the model, or a function that calls it.
        layer: a module in it that it calls once; of layer forms also a list of some.
        device_ids: for Captum's sake; rows stay on one device.
        settings: of the method for inputs: multiply_by_inputs (of those that have it), baselines.
    """

    takes_lists: ClassVar[bool] = False

    def __init__(
        self,
        forward_func: Callable[..., Any],
        layer: nn.Module | list[nn.Module],
        device_ids: list[int] | None = None,
        *settings: Any,
        **named_settings: Any,
    ):
        # The next of the method's own classes, as Captum's constructors call no other.
        super(InternalAttribution, self).__init__(forward_func, *settings, **named_settings)
        self.layer: Any = layer
        self.device_ids = device_ids
        if not self.modules() or not all(isinstance(m, nn.Module) for m in self.modules()):
            several = ", or a list of some" if self.takes_lists else ""
            raise TypeError(f"layer must be a torch.nn.Module of the model{several}, got {layer!r}")
        if len(set(self.modules())) < len(self.modules()):
            raise ValueError(f"layer is a list with the same module twice, got {layer!r}; give each once")
        if device_ids is not None and len(device_ids) > 1:
            raise ValueError(
                f"device_ids={device_ids}: the rows of a call stay on one device; give the model itself "
                "(data_parallel.module) as forward_func, and each device a process of its own"
            )

    def modules(self) -> list[nn.Module]:
        return self.layer if self.takes_lists and isinstance(self.layer, list) else [self.layer]


class LayerForm(InternalForm, LayerAttribution, BaselineAttribution):  # type: ignore[misc]
    """A method at a layer, or at several at once: of those in a list none should lead to the output through others of
    it alone, as it then gets zeros, and a warning says so.

    Completeness holds at the layer: attributions sum to F(x) - sum_k w_k f(a(x'_k), x), with a(x'_k) the layer's
    activation for baseline k; the last is F(x'_k) where all ways from input to output lead through the layer.

    D_alpha removes pixels of (B, C, H, W) activations (and voxels), tokens of the (B, ..., E) vectors of ids (B, ...),
    and elements otherwise, or the groups of feature_mask; by the mean activation of the baselines unless a neutral is
    given. Tokens are the groups of group_attributions, too, if there is no mask: "sum" gives (B, T).
    """

    takes_lists = True
    at_input = False
    counts: list[int]
    explained: Problem

    def _problem(
        self,
        inputs: Inputs | None,
        baselines: Baselines,
        target: Target,
        additional_forward_args: object,
        pairing: str | None = None,
        internal_batch_size: int | None = None,
        show_progress: bool | None = False,
        whole_numbers: bool = True,
    ) -> tuple[Problem, BaselineSet]:
        """What a call explains, as a function of activations, and the baselines' activations."""
        if inputs is None:
            raise ValueError("inputs is None: an attribution over a set alone has no layer form; give the inputs")
        layers = Layers(self.forward_func, self.modules(), self.at_input)

        # The same call of another function: the activations.
        outer = copy(self)
        outer.forward_func = taken = Activations(layers)
        before, starts = super(LayerForm, outer)._problem(
            inputs, baselines, None, additional_forward_args, pairing, internal_batch_size, False, whole_numbers
        )
        before.sized_by = tuple(
            x if x.is_floating_point() else x.unsqueeze(-1).expand(*x.shape, _EMBEDDED) for x in before.inputs
        )
        activations = taken.split(before.raw_outputs_at_inputs())
        values, shared = _at_baselines(before, starts)
        references = BaselineSet(taken.split(values), shared)
        check_inputs(activations, "the layer's activation")
        check_inputs(references.values, "the layer's activation at baselines")
        self.counts = taken.counts

        problem = Problem(
            FromActivations(layers, taken.counts),
            self.gradient_func,
            like_inputs(activations, len(activations) > 1),
            target,
            (*before.inputs, *_as_arguments(additional_forward_args)),
            internal_batch_size,
            show_progress,
            type(self).__name__,
        )
        problem.sized_by = (*before.sized_by, *activations)
        problem.neutral = tuple(
            v.mean(0 if shared else 1, keepdim=shared, dtype=accumulation_dtype(v.dtype)).to(v.dtype)
            for v in references.values
        )
        embeddings = [
            isinstance(m, nn.Embedding) for m, n in zip(self.modules(), taken.counts, strict=True) for _ in range(n)
        ]
        problem.feature_mask = _token_groups(activations, before.inputs, embeddings)
        problem.of_what = "the layer's Tensors (those within its tuples, an LSTM's (h, c), stay as they are)"
        problem.baselines = references
        problem.probe(references)
        self.explained = problem
        return problem, references

    def _nowhere(self) -> Baselines:
        # An input has activations, if anything has.
        return lambda inputs: like_inputs(tuple(x[:1] for x in as_tuple(inputs)), isinstance(inputs, tuple))

    def warn_of_unused(self) -> None:
        """Warn of layers of a list that get zeros, as all ways from there lead through others, whose values are set."""
        unused, layers = iter(self.explained.without_gradient()), Layers(self.forward_func, self.modules())
        for number, count in enumerate(self.counts):
            if all([next(unused) for _ in range(count)]):
                warn(
                    f"{layers.name(number)} gets zeros: the output depends on it in no way, "
                    "or through other layers of the list alone; attribute it in a call of its own"
                )

    def by_layer(self, result: Any) -> Any:
        """The results of a list of layers as a list."""
        if not isinstance(self.layer, list):
            return result
        if isinstance(result, AttributionResult):
            return AttributionResult(self.by_layer(result.attributions), result.delta, result.weights, result.steps)
        if isinstance(result, dict):
            return {name: self.by_layer(value) for name, value in result.items()}
        parts = iter(as_tuple(result))
        if len(as_tuple(result)) != sum(self.counts):
            return result  # of a measure with another structure
        return [like_inputs(tuple(next(parts) for _ in range(n)), n > 1) for n in self.counts]


class NeuronForm(InternalForm, NeuronAttribution, BaselineAttribution):  # type: ignore[misc]
    """A method of one neuron, which is F; the attributions are of the inputs."""


def _at_baselines(problem: Problem, starts: BaselineSet) -> tuple[Tensor, bool]:
    """The activations at baselines, (K, n) and True if examples share them, else (B, K, n) and False."""
    everyone = torch.arange(problem.n_examples, device=problem.inputs[0].device)
    if starts.shared and not problem.args.per_example and not problem.together:
        return _outputs(problem, starts.values, everyone.new_zeros(starts.count)), True
    found = []
    for k in range(starts.count):
        rows = _outputs(problem, starts.of_rows(everyone, torch.full_like(everyone, k)), everyone)
        # Alike where arguments of the examples are not for this layer.
        found.append(rows[:1] if torch.equal(rows, rows[:1].expand_as(rows)) else rows)
    if all(len(rows) == 1 for rows in found):
        return torch.cat(found), True
    return torch.stack([rows.expand(len(everyone), -1) for rows in found], dim=1), False


def _outputs(problem: Problem, rows: tuple[Tensor, ...], examples: Tensor) -> Tensor:
    """The model's whole output for any number of rows, in micro-batches."""
    parts = problem.parts(len(examples), problem.rows())
    return torch.cat([problem.raw_outputs(tuple(r[part] for r in rows), examples[part]) for part in parts])


def _token_groups(
    activations: tuple[Tensor, ...], inputs: tuple[Tensor, ...], embeddings: list[bool]
) -> tuple[Tensor, ...] | None:
    """Group numbers (1, *feature) in which a token is one feature; None where there are no tokens."""
    ids = [x.shape for x in inputs if not x.is_floating_point()]
    tokens = [known or a.shape[:-1] in ids for a, known in zip(activations, embeddings, strict=True)]
    if not any(tokens):
        return None
    groups, first = [], 0
    for a, is_token in zip(activations, tokens, strict=True):
        shape = (*a.shape[1:-1], 1) if is_token else (1, *a.shape[2:]) if a.ndim > 3 else a.shape[1:]
        groups.append(torch.arange(first, first + prod(shape), device=a.device).view(1, *shape))
        first += prod(shape)
    return tuple(groups)


def _as_arguments(additional_forward_args: object) -> tuple[Any, ...]:
    if additional_forward_args is None:
        return ()
    return additional_forward_args if isinstance(additional_forward_args, tuple) else (additional_forward_args,)


class LayerExpectedGradients(LayerForm, ExpectedGradients):
    """`ExpectedGradients` at a layer: the mean over baselines of Captum's LayerIntegratedGradients.

    Examples:
        >>> net = nn.Sequential(nn.Embedding(3, 2), nn.Flatten(), nn.Linear(4, 1))
        >>> ids, padding = torch.tensor([[1, 2]]), torch.tensor([[0, 0]])
        >>> found = LayerExpectedGradients(net, net[0]).attribute(ids, padding, return_convergence_delta=True)
        >>> found.attributions.shape, found.delta.abs().item() < 1e-5
        (torch.Size([1, 2, 2]), True)
    """

    attribute = _at_layer(ExpectedGradients.attribute)
    compute_convergence_delta = _at_layer(ExpectedGradients.compute_convergence_delta)


class LayerWeightedGradients(LayerForm, WeightedGradients):
    """`WeightedGradients` at a layer."""

    attribute = _at_layer(WeightedGradients.attribute)
    fitness = _at_layer(WeightedGradients.fitness)
    compute_convergence_delta = _at_layer(WeightedGradients.compute_convergence_delta)


class LayerSmoothGrad(LayerForm, SmoothGrad):
    """`SmoothGrad` at a layer: noisy are its activations, which are compared with the mean of the baselines'."""

    attribute = _at_layer(SmoothGrad.attribute)


class LayerGeneralizedAttribution(LayerForm, GeneralizedAttribution):
    """`GeneralizedAttribution` at a layer."""

    attribute = _at_layer(GeneralizedAttribution.attribute)


class LayerLocalIntegratedGradients(LayerForm, LocalIntegratedGradients):
    """`LocalIntegratedGradients` at a layer."""

    attribute = _at_layer(LocalIntegratedGradients.attribute)


class LayerGradientVariance(LayerForm, GradientVariance):
    """`GradientVariance` at a layer."""

    attribute = _at_layer(GradientVariance.attribute)


class LayerStability(LayerForm, Stability):
    """`Stability` at a layer."""

    attribute = _at_layer(Stability.attribute)


class LayerConsistency(LayerForm, Consistency):
    """`Consistency` at a layer."""

    attribute = _at_layer(Consistency.attribute)


class NeuronExpectedGradients(NeuronForm, ExpectedGradients):
    """`ExpectedGradients` of a neuron: the mean over baselines of Captum's NeuronIntegratedGradients."""

    attribute = _of_neuron(ExpectedGradients.attribute)
    compute_convergence_delta = _of_neuron(ExpectedGradients.compute_convergence_delta)


class NeuronWeightedGradients(NeuronForm, WeightedGradients):
    """`WeightedGradients` of a neuron, whose positive values D_alpha takes for f; negative ones want
    weighting=Deletion(score="distance")."""

    attribute = _of_neuron(WeightedGradients.attribute)
    fitness = _of_neuron(WeightedGradients.fitness)
    compute_convergence_delta = _of_neuron(WeightedGradients.compute_convergence_delta)


class NeuronSmoothGrad(NeuronForm, SmoothGrad):
    """`SmoothGrad` of a neuron."""

    attribute = _of_neuron(SmoothGrad.attribute)


class NeuronGeneralizedAttribution(NeuronForm, GeneralizedAttribution):
    """`GeneralizedAttribution` of a neuron."""

    attribute = _of_neuron(GeneralizedAttribution.attribute)


class NeuronLocalIntegratedGradients(NeuronForm, LocalIntegratedGradients):
    """`LocalIntegratedGradients` of a neuron."""

    attribute = _of_neuron(LocalIntegratedGradients.attribute)


class NeuronGradientVariance(NeuronForm, GradientVariance):
    """`GradientVariance` of a neuron."""

    attribute = _of_neuron(GradientVariance.attribute)


class NeuronStability(NeuronForm, Stability):
    """`Stability` of a neuron."""

    attribute = _of_neuron(Stability.attribute)


class NeuronConsistency(NeuronForm, Consistency):
    """`Consistency` of a neuron."""

    attribute = _of_neuron(Consistency.attribute)
