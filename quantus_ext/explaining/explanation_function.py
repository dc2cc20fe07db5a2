"""An attribution class as a function of model, inputs and targets, in the way of `quantus.explain`."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_wg.engine.checks import check_bools
from quantus_ext.arrays import to_array
from quantus_ext.explaining.arguments import naming_remedies, to_axes, to_inputs, to_model, to_targets
from quantus_ext.explaining.methods import Method, attribution_of, check_arguments, resolve
from quantus_ext.explaining.parts import bounded, cut, probed, settle_pairing
from quantus_ext.explaining.quantus_words import in_captums_words, with_defaults
from quantus_ext.model import check_is_module, evaluating, seeded

_MORE_THAN_MAPS = ("return_convergence_delta", "return_weights", "return_steps")
_TORCH_GENERATOR_SEEDS = 2**31


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
        softmax = {} if self.softmax is None else {"softmax": self.softmax}
        if isinstance(self.interpolate, str | int | float) and not isinstance(self.interpolate, bool):
            raise ValueError(f"interpolate must be True, False or a size (H, W), got {self.interpolate!r}")
        check_bools(keepdims=self.keepdims, fresh_draws=self.fresh_draws, **softmax)


class ExplanationFunction:
    """A class rather than a closure, so that it can be pickled."""

    def __init__(self, method: Method, options: Options, attribute_kwargs: dict[str, Any]):
        self._make = resolve(method)
        self._options, self._kwargs = _merge(options, {}, attribute_kwargs)
        self._calls = 0
        self._shown = f"explainer({method!r}{''.join(f', {k}={_short(v)}' for k, v in attribute_kwargs.items())})"
        self.__name__ = method if isinstance(method, str) else getattr(method, "__name__", "explainer")
        attribute = getattr(self._make, "attribute", None)
        if attribute is not None:
            known = {k: v for k, v in self._kwargs.items() if k != "generator"}
            parameters = inspect.signature(attribute).parameters
            check_arguments(attribute, in_captums_words(known, parameters), partial=True)

    def __repr__(self) -> str:
        return self._shown

    def __call__(self, model: nn.Module, inputs: Any, targets: Any, **kwargs: Any) -> np.ndarray:
        kwargs.pop("method", None)
        options, kwargs = _merge(self._options, self._kwargs, kwargs)
        check_is_module(model)
        with evaluating(model):
            seed = self._seed(kwargs.pop("generator", None), options.fresh_draws)
            if options.device is not None:
                model.to(options.device)
            x = to_inputs(inputs, model)
            target = to_targets(targets, len(x), x.device)
            axes = to_axes(options.reduce_axes, x.ndim)
            attributions = torch.cat(self._maps(model, x, target, options, kwargs, seed))
        if axes and x.ndim > 2:
            attributions = attributions.sum(axes, keepdim=bool(options.keepdims))
        return to_array(attributions)

    def _maps(
        self, model: nn.Module, x: Tensor, target: Any, options: Options, kwargs: dict[str, Any], seed: int | None
    ) -> list[Tensor]:
        attribution = attribution_of(model, self._make, to_model(options.init_kwargs or {}, x), options.softmax)
        parameters = inspect.signature(attribution.attribute).parameters
        takes_target = "target" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if seed is not None and "generator" in parameters:
            kwargs, seed = {**kwargs, "generator": seed}, None
        if options.interpolate_mode is not None and "interpolate_mode" in parameters:
            kwargs = {**kwargs, "interpolate_mode": options.interpolate_mode}
        kwargs = with_defaults(to_model(in_captums_words(kwargs, parameters), x), attribution, x)
        parts, kwargs = bounded(settle_pairing(kwargs, x, attribution), options.batch_size, x, attribution)
        maps, of_examples = [], frozenset[int]()
        if len(parts) > 1:
            of_examples, together = probed(model, kwargs.get("additional_forward_args"), x)
            parts = [slice(0, len(x))] if together else parts
        with seeded(seed):
            for rows in parts:
                call = cut(kwargs, rows, x, attribution, of_examples)
                if target is not None and takes_target:
                    call["target"] = target if isinstance(target, int) else target[rows]
                check_arguments(attribution.attribute, {"inputs": None, **call})
                where = f" (examples counted from input {rows.start})" if len(parts) > 1 else ""
                with naming_remedies(x, target, where):
                    # Some of Captum's classes warn of inputs that don't require gradients.
                    result = attribution.attribute(inputs=x[rows].requires_grad_(), **call)
                maps.append(_map(result, x[rows], options, type(attribution).__name__))
        return maps

    def _seed(self, generator: Any, fresh_draws: bool) -> int | None:
        """The seed of this call."""
        if isinstance(generator, torch.Generator):
            draw = torch.randint(_TORCH_GENERATOR_SEEDS, (), generator=generator, device=generator.device)
            return int(draw)
        if generator is not None and (
            isinstance(generator, bool) or not isinstance(generator, int | np.integer) or generator < 0
        ):
            raise ValueError(f"generator must be a seed (an int from 0), a torch.Generator or None, got {generator!r}")
        if not fresh_draws:
            return None if generator is None else int(generator)
        seed, call = int(generator or 0), self._calls
        self._calls += 1
        return int(np.random.SeedSequence([seed, call]).generate_state(1)[0]) if call else seed


def _merge(options: Options, kwargs: Mapping[str, Any], given: Mapping[str, Any]) -> tuple[Options, dict[str, Any]]:
    """options and attribute's arguments, with those given now in the place of the former ones."""
    given = dict(given)
    if "xai_lib_kwargs" in given:
        given["init_kwargs"] = given.pop("xai_lib_kwargs")
    xai_lib = given.pop("xai_lib", "captum")
    if xai_lib != "captum":
        raise ValueError(f"xai_lib must be 'captum' here, got {xai_lib!r}; quantus_ext.explain knows others")
    if given.pop("channel_first", None) not in (None, True):
        raise ValueError("channel_first must be True: torch models take channels first; move them there")
    if "gc_layer" in given:
        given["init_kwargs"] = {**(given.get("init_kwargs", options.init_kwargs) or {}), "layer": given.pop("gc_layer")}
    own = {field.name: given.pop(field.name) for field in dataclasses.fields(Options) if field.name in given}
    kwargs = {**kwargs, **given}
    for name in _MORE_THAN_MAPS:
        if kwargs.get(name):
            raise ValueError(
                f"{name} asks for more than attributions, which are all an explanation function "
                f"returns; call the class's attribute for it"
            )
    return dataclasses.replace(options, **own), kwargs


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
