"""Explanation functions for Quantus: every class of captum_wg and of captum.attr with its real parameters."""

from __future__ import annotations

import difflib
import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import captum.attr
import numpy as np
import quantus
import torch
from captum.attr import Attribution, LayerAttribution
from quantus.helpers.utils import get_wrapped_model
from torch import Tensor, nn

import captum_wg
from captum_wg.engine.checks import warn
from quantus_ext.arrays import chunks, positive_integer, require_finite, to_array, to_tensor
from quantus_ext.perturbation_curve import floating_dtype

Method = str | type | Callable[[nn.Module], Attribution]

_SHARED_BASELINES = tuple(
    getattr(captum.attr, level + name) for level in ("", "Layer", "Neuron") for name in ("GradientShap", "DeepLiftShap")
)
_PERMUTING = (captum.attr.FeaturePermutation, captum.attr.LayerFeaturePermutation)
_PER_EXAMPLE = ("feature_mask", "layer_mask", "neutral")
_MORE_THAN_MAPS = ("return_convergence_delta", "return_weights", "return_steps")
_TORCH_GENERATOR_SEEDS = 2**31


def explain(model: Any, inputs: Any, targets: Any, method: Any = None, **kwargs: Any) -> np.ndarray:
    """Explain inputs; a drop-in for `quantus.explain` that knows more methods, with their own parameters.

    `explain(model, inputs, targets, method=M, **kwargs)` is `explainer(M, **kwargs)(model, inputs, targets)`. A name
    in captum_wg or captum.attr means that class with its own parameters and defaults, also where Quantus has a method
    of the same name: "IntegratedGradients" takes n_steps (50 unless given) and baselines, where Quantus' fixes
    n_steps=10. Any other name ("Gradient", "Control Var. Random Uniform"), no name, another xai_lib than "captum" and
    Keras models go to `quantus.explain` with all kwargs as they are.

    An `attribute` that has a parameter `method` itself (the quadrature rule of IntegratedGradients) takes it through
    `explainer`, as here the word names the class.

    Args:
        model: a torch model; for what is handed on whatever Quantus takes.
        inputs: array or Tensor (N, ...), channels first.
        targets: class numbers (N,); see `explainer`.
        method: a name, a class, or a function of the model that returns a Captum attribution object.
        **kwargs: see `explainer`.

    Returns:
        attributions, by default summed over dim 1: (N, 1, H, W) for images.

    Raises:
        ValueError: a name that neither package nor Quantus knows; and as `explainer`.
    """
    of_quantus = not isinstance(model, nn.Module) or kwargs.get("xai_lib", "captum") != "captum"
    if method is not None and not of_quantus and (not isinstance(method, str) or _find(method) is not None):
        return explainer(method, **kwargs)(model, inputs, targets)

    names = {*quantus.AVAILABLE_XAI_METHODS_CAPTUM, *quantus.DEPRECATED_XAI_METHODS_CAPTUM}
    if isinstance(method, str) and not of_quantus and method not in names:
        raise ValueError(_unknown(method, _names() | names))
    if method is not None:
        kwargs["method"] = method
    if not isinstance(model, nn.Module):
        return quantus.explain(model, inputs, targets, **kwargs)
    # Quantus infers the layout, which square shapes make impossible, and then has no use for it.
    kwargs = {"channel_first": True, "device": _device(model), **kwargs}
    with _evaluating(model):
        return quantus.explain(model, to_array(inputs), to_array(targets), **kwargs)


def explainer(
    method: Method,
    /,
    *,
    init_kwargs: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    reduce_axes: Any = (1,),
    keepdims: bool = True,
    softmax: bool | None = None,
    device: Any = None,
    interpolate: Any = None,
    fresh_draws: bool = False,
    **attribute_kwargs: Any,
) -> Callable[..., np.ndarray]:
    """An explanation function with the signature of `quantus.explain`, made of an attribution class.

        xai_methods = {"WG": explainer("WeightedGradients", baselines=references, n_steps=20)}
        quantus.evaluate(metrics, xai_methods, model, x, y, explain_func_kwargs={})

    The function is called as f(model, inputs, targets, **kwargs). kwargs override what is bound here, but for
    `method`, which is ignored: `quantus.evaluate` passes a row's key by this name. Beware that it also passes the
    options of an entry that is a dictionary on to the entries after it; give it functions only.

    Args:
        method: the name of a class of captum_wg or captum.attr (captum_wg first), a class, or a function of the model
            that returns an attribution object, such as `lambda model: NoiseTunnel(Saliency(model))`.
        init_kwargs: further arguments of the class, such as {"layer": "layer4"}; a layer may be named, so that
            the function serves copies of the model. xai_lib_kwargs, Quantus' word, is the same.
        batch_size: examples per call of `attribute`, in nearly equal chunks of at most that. Cut with the inputs are
            the targets, Tensors with N rows in additional_forward_args, a feature_mask, layer_mask or neutral of the
            inputs' dimensions with N rows, and baselines (N, K, ...). baselines (N, ...) are cut where the class pairs
            them with the inputs (not for GradientShap and DeepLiftShap; for captum_wg if pairing="paired").
            FeaturePermutation exchanges values within a chunk.
        reduce_axes: dims of the attribution that are summed, as in Quantus; () keeps all. Attributions of fewer than
            three dims are left as they are.
        keepdims: keep summed dims with size 1.
        softmax: None explains the model as it is; True and False explain it with and without a softmax at its end,
            as in Quantus.
        device: where to compute: the model is moved there, as by `quantus.explain`. None means where it is.
        interpolate: for layer attributions: True resizes them to the inputs' H and W, a tuple to that size; then also
            interpolate_mode ("nearest" unless given).
        fresh_draws: draw anew in every call of the function: the first call with the seed of `generator` (0 unless
            given), the following ones with seeds derived from it. Metrics that explain an input again
            (MaxSensitivity) otherwise find the very same draws, which flatters a sampler.
        **attribute_kwargs: the arguments of the class's `attribute`: baselines, n_steps, ... Arrays and Tensors are
            brought to the model's device and, if real, to its dtype. `generator`, an int seed or a torch.Generator of
            which one seed is drawn per call, works for every class: those without such an argument, which draw from
            the global generators, find these seeded, and the generators are put back afterwards.

    Returns:
        a function; its result is an array (float64 for a float64 model, else float32). It can be pickled if `method`
        and the arguments can. The model's mode (it is put into evaluation for the call, as by Quantus), its
        gradients and the arguments are left as they were.

    Raises:
        ValueError: an unknown method or argument; inputs or targets that don't fit; a result that is no single map of
            the inputs' shape.
    """
    options = {
        "init_kwargs": init_kwargs,
        "batch_size": batch_size,
        "reduce_axes": reduce_axes,
        "keepdims": keepdims,
        "softmax": softmax,
        "device": device,
        "interpolate": interpolate,
        "fresh_draws": fresh_draws,
    }
    return _Explainer(method, options, attribute_kwargs)


class _Explainer:
    """A class rather than a closure, so that it can be pickled."""

    def __init__(self, method: Method, options: dict[str, Any], attribute_kwargs: dict[str, Any]):
        self._make = _resolve(method)
        self._options, self._kwargs = _merge(options, {}, attribute_kwargs)
        self._calls = 0
        self._shown = f"explainer({method!r}{''.join(f', {k}={_short(v)}' for k, v in attribute_kwargs.items())})"
        self.__name__ = method if isinstance(method, str) else getattr(method, "__name__", "explainer")
        attribute = getattr(self._make, "attribute", None)
        if attribute is not None:
            _check_arguments(attribute, self._kwargs, partial=True)

    def __repr__(self) -> str:
        return self._shown

    def __call__(self, model: nn.Module, inputs: Any, targets: Any, **kwargs: Any) -> np.ndarray:
        kwargs.pop("method", None)
        options, attribute_kwargs = _merge(self._options, self._kwargs, kwargs)
        attribute_kwargs, seed = self._seed(attribute_kwargs, options["fresh_draws"])
        return _attribute(self._make, model, inputs, targets, options, attribute_kwargs, seed)

    def _seed(self, kwargs: dict[str, Any], fresh_draws: bool) -> tuple[dict[str, Any], int | None]:
        kwargs = dict(kwargs)
        generator = kwargs.pop("generator", None)
        if isinstance(generator, torch.Generator):
            draw = torch.randint(_TORCH_GENERATOR_SEEDS, (), generator=generator, device=generator.device)
            return kwargs, int(draw)
        if generator is not None and (
            isinstance(generator, bool) or not isinstance(generator, int | np.integer) or generator < 0
        ):
            raise ValueError(f"generator must be a seed (an int from 0), a torch.Generator or None, got {generator!r}")
        if not fresh_draws:
            return kwargs, None if generator is None else int(generator)
        seed, call = int(generator or 0), self._calls
        self._calls += 1
        return kwargs, int(np.random.SeedSequence([seed, call]).generate_state(1)[0]) if call else seed


def _attribute(
    make: Callable[..., Attribution],
    model: nn.Module,
    inputs: Any,
    targets: Any,
    options: dict[str, Any],
    kwargs: dict[str, Any],
    seed: int | None,
) -> np.ndarray:
    if not isinstance(model, nn.Module):
        raise ValueError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if options["device"] is not None:
        model.to(options["device"])
    with _evaluating(model):
        x = _inputs(inputs, model)
        target = _targets(targets, len(x), x.device)
        axes = _axes(options["reduce_axes"], x.ndim)
        attribution = _attribution(make, model, options, x)
        name = type(attribution).__name__
        parameters = inspect.signature(attribution.attribute).parameters
        takes_target = "target" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())

        mode = kwargs.get("interpolate_mode", "nearest")
        if seed is not None and "generator" in parameters:
            kwargs["generator"], seed = seed, None
        kwargs = _to_class(kwargs, x, parameters)
        parts = []
        with _seeded(seed):
            slices = _slices(len(x), options["batch_size"], attribution)
            for rows in slices:
                call = {key: _cut(key, value, rows, x, attribution, kwargs) for key, value in kwargs.items()}
                if target is not None and takes_target:
                    call["target"] = target if isinstance(target, int) else target[rows]
                _check_arguments(attribution.attribute, call)
                try:
                    # Some of Captum's classes warn of inputs that don't require gradients.
                    result = attribution.attribute(inputs=x[rows].requires_grad_(), **call)
                except ValueError as error:
                    if len(slices) == 1:
                        raise
                    raise ValueError(f"{error} (examples counted from input {rows.start})") from error
                parts.append(_map(result, x[rows], options["interpolate"], mode, name))
        attributions = torch.cat(parts)
    if axes and x.ndim > 2:
        attributions = attributions.sum(axes, keepdim=bool(options["keepdims"]))
    return to_array(attributions)


def _to_class(kwargs: Mapping[str, Any], x: Tensor, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """attribute's arguments: what is ours taken out, arrays as Tensors, the reading of shared baselines settled."""
    kwargs = {
        name: _to_model(name, value, x)
        for name, value in kwargs.items()
        if name != "interpolate_mode" or name in parameters
    }
    baselines = kwargs.get("baselines")
    if (
        isinstance(baselines, Tensor)
        and baselines.ndim == x.ndim
        and "pairing" in parameters
        and kwargs.get("pairing") is None
    ):
        if len(baselines) == len(x) > 1:
            warn(
                f"baselines has as many rows ({len(x)}) as there are inputs. They are shared by all inputs; say "
                "pairing='shared', or pairing='paired' if row i belongs to input i alone"
            )
        # Left unset it would be asked about in every chunk that has as many examples as there are baselines.
        kwargs["pairing"] = "shared"
    return kwargs


def _slices(count: int, batch_size: Any, attribution: Attribution) -> list[slice]:
    size = positive_integer(batch_size, "batch_size")
    if not isinstance(attribution, _PERMUTING):
        return chunks(count, size)
    if count < 2:
        raise ValueError(
            f"{type(attribution).__name__} exchanges values between the examples of a batch, so it needs at "
            f"least 2 of them, got 1; explain several inputs in one call"
        )
    return chunks(count, size, smallest=2)


def _merge(
    options: dict[str, Any], kwargs: dict[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """options and attribute's arguments, with those given now in the place of the former ones."""
    options, kwargs = dict(options), dict(kwargs)
    for name, value in given.items():
        if name in options:
            options[name] = value
        elif name == "xai_lib_kwargs":
            options["init_kwargs"] = value
        elif name == "xai_lib":
            if value != "captum":
                raise ValueError(f"xai_lib must be 'captum' here, got {value!r}; quantus_ext.explain knows others")
        elif name == "channel_first":
            if value is not None and not value:
                raise ValueError("channel_first must be True: torch models take channels first; move them there")
        else:
            kwargs[name] = value
    for name in _MORE_THAN_MAPS:
        if kwargs.get(name):
            raise ValueError(
                f"{name} asks for more than attributions, which are all an explanation function "
                f"returns; call the class's attribute for it"
            )
    return options, kwargs


def _find(name: str) -> type | None:
    for module in (captum_wg, captum.attr):
        found = getattr(module, name, None)
        if inspect.isclass(found) and issubclass(found, Attribution):
            return found
    return None


def _names() -> set[str]:
    return {name for module in (captum_wg, captum.attr) for name in dir(module) if _find(name) is not None}


def _unknown(method: str, names: set[str]) -> str:
    near = difflib.get_close_matches(method, names, n=3)
    return f"unknown method {method!r}{f'; did you mean {near}?' if near else ''}; expected one of {sorted(names)}"


def _resolve(method: Method) -> Callable[..., Attribution]:
    """The class, or the function, that makes the attribution object of a model."""
    make: Any = method
    if isinstance(method, str):
        make = _find(method)
        if make is None:
            raise ValueError(
                f"{_unknown(method, _names())}. Quantus' own methods work with quantus_ext.explain and quantus.explain"
            )
    if inspect.isclass(make):
        of_model = issubclass(make, Attribution) and (
            next(iter(inspect.signature(make).parameters), None) in ("forward_func", "model")
        )
        if not of_model:
            raise ValueError(
                f"{make.__name__} is not made of a model alone; give a function of the model that returns "
                f"the attribution object, such as lambda model: NoiseTunnel(Saliency(model))"
            )
    elif not callable(make):
        raise ValueError(
            f"method must be the name of a class, a class or a function of the model, got {type(method).__name__}"
        )
    return make


def _attribution(make: Callable[..., Attribution], model: nn.Module, options: dict[str, Any], x: Tensor) -> Attribution:
    forward = model
    if options["softmax"] is not None:
        wrapped = get_wrapped_model(model, channel_first=True, softmax=bool(options["softmax"]))
        forward = wrapped.get_softmax_arg_model()
    init_kwargs = {name: _to_model(name, value, x) for name, value in (options["init_kwargs"] or {}).items()}
    if isinstance(init_kwargs.get("layer"), str):
        # Quantus appends a softmax by wrapping the model, and takes one away from a copy.
        owner = model if forward is not model and model in forward.children() else forward
        init_kwargs["layer"] = _layer(owner, init_kwargs["layer"])
    if inspect.isclass(make):
        try:
            inspect.signature(make).bind(forward, **init_kwargs)
        except TypeError as error:
            raise ValueError(
                f"{make.__name__}: {error}; pass its further arguments as init_kwargs, such as "
                f"init_kwargs={{'layer': 'layer4'}}"
            ) from None
    elif init_kwargs:
        raise ValueError("init_kwargs are for a class; a function of the model sets its own")
    attribution = make(forward, **init_kwargs)
    if not callable(getattr(attribution, "attribute", None)):
        raise ValueError(
            f"method must make an attribution object, with a method attribute; it made {type(attribution).__name__}"
        )
    return attribution


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        names = [known for known, _ in model.named_modules() if known]
        raise ValueError(f"layer {name!r} is not in the model; its layers are {names}") from None


def _check_arguments(attribute: Callable[..., Any], kwargs: dict[str, Any], partial: bool = False) -> None:
    signature = inspect.signature(attribute)
    try:
        if partial:
            known = {k: v for k, v in kwargs.items() if k not in ("generator", "interpolate_mode")}
            signature.bind_partial(**known)
        else:
            signature.bind(inputs=None, **kwargs)
    except TypeError as error:
        names = [n for n in signature.parameters if n not in ("self", "inputs", "target", "kwargs")]
        raise ValueError(f"{attribute.__qualname__}: {error}; its arguments are {names}") from None


def _inputs(inputs: Any, model: nn.Module) -> Tensor:
    if not isinstance(inputs, Tensor | np.ndarray):
        raise ValueError(f"inputs must be one array or Tensor (N, ...), got {type(inputs).__name__}")
    x = to_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs.detach()
    dtype = floating_dtype(model)
    if dtype is None:
        dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"inputs must be of shape (N, ...) and not empty, got {tuple(x.shape)}")
    require_finite(to_array(x), "inputs")
    return x.to(_device(model) or x.device, dtype, copy=True)


def _targets(targets: Any, count: int, device: torch.device) -> Any:
    """None, an int for all examples, a Tensor (N,), or a list of tuples for outputs of more dims."""
    if targets is None:
        return None
    values = to_array(targets)
    if not np.issubdtype(values.dtype, np.number) or not (values == np.floor(values)).all():
        raise ValueError(f"targets must be class numbers, got {values.dtype} values that are not whole numbers")
    if values.ndim == 2 and len(values) == count and values.shape[1] > 1:
        return [tuple(row) for row in values.astype(int).tolist()]
    if values.size == 1:
        return int(values.item())
    if values.size != count or values.ndim > 2:
        raise ValueError(f"targets must hold one class number for each of the {count} inputs, got {values.shape}")
    return torch.from_numpy(values.reshape(-1).astype(np.int64)).to(device)


def _axes(reduce_axes: Any, ndim: int) -> tuple[int, ...]:
    axes = (reduce_axes,) if isinstance(reduce_axes, int) else tuple(reduce_axes)
    for axis in axes:
        if not isinstance(axis, int | np.integer) or not -ndim < axis < ndim or axis == 0:
            raise ValueError(f"reduce_axes must name dims of the inputs but the first, 1 to {ndim - 1}, got {axis!r}")
    return axes


def _to_model(name: str, value: Any, x: Tensor) -> Any:
    """Arrays and Tensors, also those in tuples and lists, on the device of x; baselines and real ones in its dtype."""
    if isinstance(value, tuple):
        return tuple(_to_model(name, part, x) for part in value)
    if name == "neutral" and isinstance(value, list):
        return [_to_model(name, part, x) for part in value]
    if not isinstance(value, np.ndarray | Tensor):
        return value
    value = to_tensor(value) if isinstance(value, np.ndarray) else value
    return value.to(x.device, x.dtype if name == "baselines" or value.is_floating_point() else value.dtype)


def _cut(name: str, value: Any, rows: slice, x: Tensor, attribution: Attribution, kwargs: Mapping[str, Any]) -> Any:
    """The part of an argument that belongs to some rows of x; what belongs to all of them is left as it is."""
    if name == "neutral" and isinstance(value, list):
        return [_cut(name, part, rows, x, attribution, kwargs) for part in value]
    if name == "additional_forward_args":
        if isinstance(value, tuple):
            return tuple(_cut(name, part, rows, x, attribution, kwargs) for part in value)
        per_example = isinstance(value, Tensor) and value.ndim > 0
    elif name == "baselines":
        per_example = isinstance(value, Tensor) and (
            value.ndim == x.ndim + 1 or (value.ndim == x.ndim and _paired(attribution, kwargs))
        )
    else:
        per_example = name in _PER_EXAMPLE and isinstance(value, Tensor) and value.ndim == x.ndim
    return value[rows] if per_example and len(value) == len(x) else value


def _paired(attribution: Attribution, kwargs: Mapping[str, Any]) -> bool:
    attribution = getattr(attribution, "attribution_method", attribution)
    if "pairing" in inspect.signature(attribution.attribute).parameters:
        return kwargs.get("pairing") == "paired"
    return not isinstance(attribution, _SHARED_BASELINES)


def _map(result: Any, x: Tensor, interpolate: Any, mode: str, name: str) -> Tensor:
    if isinstance(result, Mapping):
        result = tuple(result.values())
    if isinstance(result, tuple | list) and len(result) == 1:
        result = result[0]
    if not isinstance(result, Tensor):
        what = f"{len(result)} results" if isinstance(result, tuple | list) else type(result).__name__
        raise ValueError(f"{name} returned {what}; an explanation function returns one map per input")
    result = result.detach()
    if interpolate is not None and interpolate is not False:
        size = tuple(x.shape[2:]) if interpolate is True else interpolate
        result = LayerAttribution.interpolate(result, size, mode)
    if (
        result.ndim != x.ndim
        or len(result) != len(x)
        or result.shape[2:] != x.shape[2:]
        or (x.ndim == 2 and result.shape != x.shape)
    ):
        raise ValueError(
            f"{name} returned attributions of shape {tuple(result.shape)} for inputs of shape {tuple(x.shape)}; "
            f"pass interpolate=True to resize those of a convolutional layer"
        )
    return result


def _device(model: nn.Module) -> torch.device | None:
    return next((t.device for t in (*model.parameters(), *model.buffers())), None)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode; each of its modules gets its own mode back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    """The global generators seeded, and put back afterwards."""
    if seed is None:
        yield
        return
    of_numpy, of_python = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        # Before CUDA is in use torch.manual_seed would leave it a seed to start with, which nothing puts back.
        (torch.manual_seed if torch.cuda.is_initialized() else torch.default_generator.manual_seed)(seed)
        np.random.seed(seed % 2**32)
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)
            random.setstate(of_python)


def _short(value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)}>"
    return repr(value)
