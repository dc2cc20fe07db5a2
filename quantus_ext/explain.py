"""Explanation functions for Quantus: every class of captum_wg and of captum.attr with its real parameters."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution
from quantus.functions.explanation_func import explain as quantus_explain
from quantus.helpers import constants
from torch import Tensor, nn

from captum_wg.engine.checks import check_bools
from quantus_ext import explain_arguments as arguments
from quantus_ext.arrays import to_array
from quantus_ext.attribution_methods import CLASSES, Method, attribution_of, check_arguments, names, resolve, unknown
from quantus_ext.model import check_is_module, check_is_no_function, device_of, evaluating, seeded

_MORE_THAN_MAPS = ("return_convergence_delta", "return_weights", "return_steps")
_TORCH_GENERATOR_SEEDS = 2**31


def explain(model: Any, inputs: Any, targets: Any, method: Any = None, **kwargs: Any) -> np.ndarray:
    """Explain inputs; a drop-in for `quantus.explain` that knows more methods, with their own parameters.

    `explain(model, inputs, targets, method=M, **kwargs)` is `explainer(M, **kwargs)(model, inputs, targets)`. A name
    in captum_wg or captum.attr means that class with its own parameters and defaults, also where Quantus has a method
    of the same name: "IntegratedGradients" takes n_steps (50 unless given) and baselines, where Quantus' fixes
    n_steps=10. Any other name ("Gradient", "Control Var. Random Uniform"), no name, another xai_lib than "captum" and
    Keras models go to `quantus.explain` with all kwargs as they are. A parameter `method` of `attribute` itself (the
    quadrature rule of IntegratedGradients) is for `explainer`, as here the word names the class.

    Raises:
        ValueError: a name that neither package nor Quantus knows; and as `explainer`.
    """
    check_is_no_function(model)
    captums = isinstance(model, nn.Module) and kwargs.get("xai_lib", "captum") == "captum"
    if captums and method is not None and (not isinstance(method, str) or method in CLASSES):
        return explainer(method, **kwargs)(model, inputs, targets)

    of_quantus = {*constants.AVAILABLE_XAI_METHODS_CAPTUM, *constants.DEPRECATED_XAI_METHODS_CAPTUM}
    if captums and isinstance(method, str) and method not in of_quantus:
        raise ValueError(unknown(method, names() | of_quantus))
    if method is not None:
        kwargs["method"] = method
    if not isinstance(model, nn.Module):
        return quantus_explain(model, inputs, targets, **kwargs)
    # Quantus infers the layout, which square shapes make impossible, and then has no use for it.
    kwargs = {"channel_first": True, "device": device_of(model), **kwargs}
    with evaluating(model):
        x = arguments.to_inputs(inputs, model)
        with arguments.naming_remedies(x, arguments.to_targets(targets, len(x), x.device)):
            return quantus_explain(model, to_array(inputs), to_array(targets), **kwargs)


@dataclasses.dataclass(frozen=True)
class Options:
    """What `explainer` takes beside the arguments of attribute."""

    init_kwargs: Mapping[str, Any] | None = None
    batch_size: int | None = None
    reduce_axes: Any = (1,)
    keepdims: bool = True
    softmax: bool | None = None
    device: Any = None
    interpolate: Any = None
    interpolate_mode: str | None = None
    fresh_draws: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.interpolate, str | int | float) and not isinstance(self.interpolate, bool):
            raise ValueError(f"interpolate must be True, False or a size (H, W), got {self.interpolate!r}")
        softmax = {} if self.softmax is None else {"softmax": self.softmax}
        check_bools(keepdims=self.keepdims, fresh_draws=self.fresh_draws, **softmax)


class explainer:
    """An explanation function with the signature of `quantus.explain`, made of an attribution class.

        xai_methods = {"WG": explainer("WeightedGradients", baselines=references, n_steps=20)}
        quantus.evaluate(metrics, xai_methods, model, x, y, explain_func_kwargs={})

    It is called as f(model, inputs, targets, **kwargs) with an array or Tensor (N, ...), channels first, and class
    numbers (N,), one for all, or rows of indices where the output has more dimensions. kwargs override what is bound
    here, but for `method`, which is ignored: `quantus.evaluate` passes a row's key by this name. (It also passes the
    options of an entry that is a dictionary on to the entries after it; give it functions only.)

    The result is an array (float64 for a float64 model, else float32). The model's mode (it is put into evaluation for
    the call, as by Quantus), its gradients and the arguments are left as they were. Of a model that returns a
    ModelOutput or a dictionary the logits are explained. The function can be pickled if `method` and the arguments can.
    Threads take turns, as the model's mode, Captum's hooks and the global generators are everyone's; what runs beside
    them (a class of Captum by itself, a training step) is not held off.

    Args:
        method: the name of a class of captum_wg or captum.attr (captum_wg first), a class, or a function of the model
            that returns an attribution object, such as `lambda model: NoiseTunnel(Saliency(model))`.
        init_kwargs: further arguments of the class, such as {"layer": "layer4"}; a layer may be named, so that
            the function serves copies of the model. Quantus' words: xai_lib_kwargs is the same, gc_layer is its layer.
        batch_size: examples per call of `attribute`, in nearly equal chunks of at most that; None: at most 64, and for
            Captum's classes so few that a forward has no more rows than the engine of captum_wg would give it (32 of
            3x32x32 on a CPU), to which their internal_batch_size is set, too, unless given. Cut with the inputs are the
            targets, Tensors with N rows in additional_forward_args, a feature_mask, layer_mask or neutral of the
            inputs' dimensions with N rows, and baselines (N, K, ...). baselines (N, ...) are cut where the class pairs
            them with the inputs (not for GradientShap and DeepLiftShap; for captum_wg if pairing="paired").
            FeaturePermutation exchanges values within a chunk.
        reduce_axes: dims that are summed if there are more than two, as in Quantus, by default (1,); () keeps all.
        keepdims: keep summed dims with size 1 (the default).
        softmax: explain the model with (True) or without (False) a softmax at its end, as in Quantus; None: as it is.
        device: the model is moved there, as by `quantus.explain`; None: where it is.
        interpolate: for layer attributions: True resizes them to the inputs' H and W, a tuple to that size; then also
            interpolate_mode ("nearest" unless given).
        generator: an int seed or a torch.Generator of which one seed is drawn per call, also for classes that draw from
            the global generators, which then are seeded and put back.
        fresh_draws: draw anew in every call: the first time with the seed of `generator` (0 unless given), then with
            seeds derived from it. Metrics that explain an input again (MaxSensitivity) otherwise find the very same
            draws, which flatters a sampler.
        **attribute_kwargs: the arguments of the class's `attribute`: baselines, n_steps, ... or Quantus' words for
            them, baseline and window. GradientShap and DeepLiftShap without baselines have zeros, and Occlusion without
            sliding_window_shapes has (1, 4, 4), as in Quantus. Arrays and Tensors are brought to the model's device
            and dtype (integers stay integers).

    Raises:
        ValueError: an unknown method or argument; inputs or targets that don't fit; a result that is no single map of
            the inputs' shape.

    Examples:
        >>> net = nn.Linear(2, 1)
        >>> net.weight.data = torch.tensor([[1.0, 2.0]])
        >>> explainer("ExpectedGradients", n_steps=5)(net, np.ones((1, 2), dtype=np.float32), [0])
        array([[1., 2.]], dtype=float32)
    """

    def __init__(self, method: Method, /, **kwargs: Any):
        self._method, self._make = method, resolve(method)
        # A class rather than a closure, so that it can be pickled.
        self._shown = f"explainer({method!r}{''.join(f', {k}={_short(v)}' for k, v in kwargs.items())})"
        self.__name__ = method if isinstance(method, str) else getattr(method, "__name__", "explainer")
        self._bound = _merged({}, kwargs)
        self._kwargs = dict(self._bound)
        own = {f.name: self._kwargs.pop(f.name) for f in dataclasses.fields(Options) if f.name in self._kwargs}
        self._options, self._generator = Options(**own), self._kwargs.pop("generator", None)
        self._calls = [0]
        if (attribute := getattr(self._make, "attribute", None)) is not None:
            check_arguments(attribute, arguments.in_captums_words(self._kwargs, attribute), partial=True)

    def __repr__(self) -> str:
        return self._shown

    def __call__(self, model: nn.Module, inputs: Any, targets: Any, **kwargs: Any) -> np.ndarray:
        """The attributions of the inputs."""
        kwargs.pop("method", None)
        if kwargs:
            other = explainer(self._method, **_merged(self._bound, kwargs))
            other._calls = self._calls
            return other(model, inputs, targets)
        check_is_module(model)
        options = self._options
        with evaluating(model):
            seed = self._seed()
            if options.device is not None:
                model.to(options.device)
            x = arguments.to_inputs(inputs, model)
            target = arguments.to_targets(targets, len(x), x.device)
            axes = _axes(options.reduce_axes, x.ndim)
            attributions = torch.cat(self._maps(model, x, target, seed))
        if axes and x.ndim > 2:
            attributions = attributions.sum(axes, keepdim=options.keepdims)
        return to_array(attributions)

    def _maps(self, model: nn.Module, x: Tensor, target: Any, seed: int | None) -> list[Tensor]:
        options, kwargs = self._options, dict(self._kwargs)
        attribution = attribution_of(
            model, self._make, arguments.to_model(options.init_kwargs or {}, x), options.softmax
        )
        parameters = inspect.signature(attribution.attribute).parameters
        takes_target = "target" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if seed is not None and "generator" in parameters:
            kwargs["generator"], seed = seed, None
        if options.interpolate_mode is not None and "interpolate_mode" in parameters:
            kwargs["interpolate_mode"] = options.interpolate_mode
        kwargs = arguments.with_defaults(
            arguments.to_model(arguments.in_captums_words(kwargs, attribution.attribute), x), attribution, x
        )
        parts, of_examples = arguments.parts_of(model, kwargs, options.batch_size, x, attribution)
        maps = []
        with seeded(seed):
            for rows in parts:
                call = arguments.cut(kwargs, rows, x, attribution, of_examples)
                if target is not None and takes_target:
                    call["target"] = target if isinstance(target, int) else target[rows]
                check_arguments(attribution.attribute, {"inputs": None, **call})
                where = f" (examples counted from input {rows.start})" if len(parts) > 1 else ""
                with arguments.naming_remedies(x, target, where):
                    # Some of Captum's classes warn of inputs that don't require gradients.
                    result = attribution.attribute(inputs=x[rows].requires_grad_(), **call)
                maps.append(_map(result, x[rows], options, type(attribution).__name__))
        return maps

    def _seed(self) -> int | None:
        """The seed of this call."""
        given = self._generator
        if isinstance(given, torch.Generator):
            return int(torch.randint(_TORCH_GENERATOR_SEEDS, (), generator=given, device=given.device))
        whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
        if given is not None and not (whole and given >= 0):
            raise ValueError(f"generator must be a seed (an int from 0), a torch.Generator or None, got {given!r}")
        if not self._options.fresh_draws:
            return None if given is None else int(given)
        call, self._calls[0] = self._calls[0], self._calls[0] + 1
        seed = int(given or 0)
        return int(np.random.SeedSequence([seed, call]).generate_state(1)[0]) if call else seed


def _merged(bound: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """All arguments by their names here, those given now in the place of those bound."""
    given = dict(given)
    if (xai_lib := given.pop("xai_lib", "captum")) != "captum":
        raise ValueError(f"xai_lib must be 'captum' here, got {xai_lib!r}; quantus_ext.explain knows others")
    if given.pop("channel_first", None) not in (None, True):
        raise ValueError("channel_first must be True: torch models take channels first; move them there")
    if "xai_lib_kwargs" in given:
        given["init_kwargs"] = given.pop("xai_lib_kwargs")
    merged = {**bound, **given}
    if "gc_layer" in merged:
        merged["init_kwargs"] = {**(merged.get("init_kwargs") or {}), "layer": merged.pop("gc_layer")}
    for name in _MORE_THAN_MAPS:
        if merged.get(name):
            raise ValueError(
                f"{name} asks for more than attributions, which are all an explanation function "
                f"returns; call the class's attribute for it"
            )
    return merged


def _axes(reduce_axes: Any, ndim: int) -> tuple[int, ...]:
    """reduce_axes as dims of the inputs, any but the first."""
    axes = (reduce_axes,) if isinstance(reduce_axes, int) else tuple(reduce_axes)
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int | np.integer) or not -ndim < axis < ndim or axis == 0:
            raise ValueError(f"reduce_axes must name dims of the inputs but the first, 1 to {ndim - 1}, got {axis!r}")
    return axes


def _map(result: Any, x: Tensor, options: Options, name: str) -> Tensor:
    """One map per input of what the class returned."""
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor):
        what = f"{len(result)} results" if isinstance(result, tuple | list) else type(result).__name__
        raise ValueError(f"{name} returned {what}; an explanation function returns one map per input")
    if options.interpolate not in (None, False):
        size = tuple(x.shape[2:]) if options.interpolate is True else options.interpolate
        result = LayerAttribution.interpolate(result, size, options.interpolate_mode or "nearest")
    fits = result.ndim == x.ndim and len(result) == len(x) and result.shape[2:] == x.shape[2:]
    if not fits or (x.ndim == 2 and result.shape != x.shape):
        raise ValueError(
            f"{name} returned attributions of shape {tuple(result.shape)} for inputs of shape {tuple(x.shape)}; "
            f"pass interpolate=True to resize those of a convolutional layer"
        )
    tensor: Tensor = result.detach()
    return tensor


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    return repr(value)
