"""Attribution methods by name, and the attribution object of a model."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import captum.attr
from captum.attr import Attribution
from quantus.helpers.utils import get_wrapped_model
from torch import nn

import captum_wg
from captum_wg.engine.checks import check_bool
from quantus_ext.explaining.quantus_words import layer_of

Method = str | type | Callable[[nn.Module], Attribution]


def find(name: str) -> type | None:
    """The attribution class of this name, of captum_wg or else of captum.attr."""
    for module in (captum_wg, captum.attr):
        found = getattr(module, name, None)
        if inspect.isclass(found) and issubclass(found, Attribution):
            return found
    return None


def names() -> set[str]:
    """Those that can be used as they are: no bases, and nothing that is made of more than a model."""
    known = {name for module in (captum_wg, captum.attr) for name in dir(module)}
    return {name for name in known if (found := find(name)) is not None and _is_of_model(found)}


def unknown(method: str, known: set[str]) -> str:
    """What is said of a name that nothing has."""
    near = difflib.get_close_matches(method, known, n=3)
    return f"unknown method {method!r}{f'; did you mean {near}?' if near else ''}; expected one of {sorted(known)}"


def resolve(method: Method) -> Callable[..., Attribution]:
    """The class, or the function, that makes the attribution object of a model."""
    make = find(method) if isinstance(method, str) else method
    if make is None:
        raise ValueError(
            f"{unknown(str(method), names())}. Quantus' own methods work with quantus_ext.explain and quantus.explain"
        )
    if inspect.isclass(make):
        if not _is_of_model(make):
            what = "is abstract" if _is_base(make) else "is not made of a model alone"
            raise ValueError(
                f"{make.__name__} {what}; give a function of the model that returns "
                f"the attribution object, such as lambda model: NoiseTunnel(Saliency(model))"
            )
    elif not callable(make):
        raise ValueError(
            f"method must be the name of a class, a class or a function of the model, got {type(method).__name__}"
        )
    return make


def attribution_of(
    model: nn.Module, make: Callable[..., Attribution], init_kwargs: Mapping[str, Any], softmax: bool | None
) -> Attribution:
    """The attribution object of the model, or of the model with (True) or without (False) a softmax at its end."""
    forward, init_kwargs = model, dict(init_kwargs)
    if softmax is not None:
        wrapped: Any = get_wrapped_model(model, channel_first=True, softmax=bool(softmax))
        forward = wrapped.get_softmax_arg_model()
    if isinstance(init_kwargs.get("layer"), str):
        # Quantus appends a softmax by wrapping the model, and takes one away from a copy.
        owner = model if forward is not model and model in forward.children() else forward
        init_kwargs["layer"] = layer_of(owner, init_kwargs["layer"])
    if inspect.isclass(make):
        try:
            inspect.signature(make).bind(forward, **init_kwargs)
        except TypeError as error:
            raise ValueError(
                f"{make.__name__}: {error}; pass its further arguments as init_kwargs, such as "
                f"init_kwargs={{'layer': 'layer4'}}"
            ) from None
        _check_switches(inspect.signature(make), init_kwargs)
    elif init_kwargs:
        raise ValueError("init_kwargs are for a class; a function of the model sets its own")
    attribution = make(forward, **init_kwargs)
    if not callable(getattr(attribution, "attribute", None)):
        raise ValueError(
            f"method must make an attribution object, with a method attribute; it made {type(attribution).__name__}"
        )
    return attribution


def check_arguments(attribute: Callable[..., Any], kwargs: Mapping[str, Any], partial: bool = False) -> None:
    """attribute takes these arguments; partial: others may follow."""
    signature = inspect.signature(attribute)
    try:
        (signature.bind_partial if partial else signature.bind)(**kwargs)
    except TypeError as error:
        own = [n for n in signature.parameters if n not in ("self", "inputs", "target", "kwargs")]
        raise ValueError(f"{attribute.__qualname__}: {error}; its arguments are {own}") from None
    _check_switches(signature, kwargs)


def _check_switches(signature: inspect.Signature, kwargs: Mapping[str, Any]) -> None:
    """What is True or False by default is one of them: Captum would take "no" for True."""
    for name, value in kwargs.items():
        if name in signature.parameters and isinstance(signature.parameters[name].default, bool):
            check_bool(value, name)


def _is_of_model(cls: type) -> bool:
    if not issubclass(cls, Attribution) or _is_base(cls):
        return False
    return next(iter(inspect.signature(cls).parameters), None) in ("forward_func", "model")


def _is_base(cls: type) -> bool:
    return issubclass(cls, Attribution) and not hasattr(cls, "attribute")
