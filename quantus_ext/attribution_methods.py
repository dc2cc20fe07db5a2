"""Attribution methods by name, and the attribution object of a model."""

from __future__ import annotations

import ast
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

Method = str | type | Callable[[nn.Module], Attribution]

# Those of captum_wg come before Captum's of the same name.
CLASSES: dict[str, type] = {
    name: found
    for module in (captum.attr, captum_wg)
    for name, found in vars(module).items()
    if inspect.isclass(found) and issubclass(found, Attribution)
}
_CALLS = ("named_modules", "modules", "named_children", "children", "get")


def names() -> set[str]:
    """Those that can be used as they are: no bases, and nothing that is made of more than a model."""
    return {name for name, cls in CLASSES.items() if _is_of_model(cls)}


def unknown(method: str, known: set[str]) -> str:
    """What is said of a name that nothing has."""
    near = difflib.get_close_matches(method, known, n=3)
    return f"unknown method {method!r}{f'; did you mean {near}?' if near else ''}; expected one of {sorted(known)}"


def resolve(method: Method) -> Callable[..., Attribution]:
    """The class, or the function, that makes the attribution object of a model."""
    make = CLASSES.get(method) if isinstance(method, str) else method
    if make is None:
        raise ValueError(
            f"{unknown(str(method), names())}. Quantus' own methods work with quantus_ext.explain and quantus.explain"
        )
    if not callable(make):
        raise ValueError(
            f"method must be the name of a class, a class or a function of the model, got {type(method).__name__}"
        )
    if inspect.isclass(make) and not _is_of_model(make):
        abstract = issubclass(make, Attribution) and not hasattr(make, "attribute")
        raise ValueError(
            f"{make.__name__} {'is abstract' if abstract else 'is not made of a model alone'}; give a function of the "
            "model that returns the attribution object, such as lambda model: NoiseTunnel(Saliency(model))"
        )
    return make


def attribution_of(
    model: nn.Module, make: Callable[..., Attribution], init_kwargs: Mapping[str, Any], softmax: bool | None
) -> Attribution:
    """The attribution object of the model, or of the model with (True) or without (False) a softmax at its end."""
    forward, init_kwargs = model, dict(init_kwargs)
    if softmax is not None:
        wrapped: Any = get_wrapped_model(model, channel_first=True, softmax=softmax)
        forward = wrapped.get_softmax_arg_model()
    if isinstance(init_kwargs.get("layer"), str):
        # Quantus appends a softmax by wrapping the model, and takes one away from a copy.
        owner = model if forward is not model and model in forward.children() else forward
        init_kwargs["layer"] = layer_of(owner, init_kwargs["layer"])
    if inspect.isclass(make):
        check_arguments(make, init_kwargs, (forward,))
    elif init_kwargs:
        raise ValueError("init_kwargs are for a class; a function of the model sets its own")
    attribution = make(forward, **init_kwargs)
    if not callable(getattr(attribution, "attribute", None)):
        raise ValueError(
            f"method must make an attribution object, with a method attribute; it made {type(attribution).__name__}"
        )
    return attribution


def check_arguments(
    function: Callable[..., Any], kwargs: Mapping[str, Any], args: tuple[Any, ...] = (), partial: bool = False
) -> None:
    """function takes these arguments (partial: others may follow), and what is True or False by default is one of them:
    Captum would take "no" for True."""
    signature = inspect.signature(function)
    try:
        (signature.bind_partial if partial else signature.bind)(*args, **kwargs)
    except TypeError as error:
        own = [n for n in signature.parameters if n not in ("self", "inputs", "target", "kwargs")]
        remedy = f"its arguments are {own}"
        if inspect.isclass(function):
            remedy = "pass its further arguments as init_kwargs, such as init_kwargs={'layer': 'layer4'}"
        raise ValueError(f"{function.__qualname__}: {error}; {remedy}") from None
    for name, value in kwargs.items():
        if name in signature.parameters and isinstance(signature.parameters[name].default, bool):
            check_bool(value, name)


def layer_of(model: nn.Module, name: str) -> nn.Module:
    """The layer of this name, or of what Quantus evaluates as Python: "model.features[-1]",
    "list(model.named_modules())[3][1]".

    Raises:
        ValueError: no such layer.
    """
    known: dict[str, nn.Module] = dict(model.named_modules())
    if name and name in known:
        return known[name]
    try:
        layer = _evaluated(ast.parse(name, mode="eval").body, model)
    except (AttributeError, LookupError, SyntaxError, TypeError, ValueError):
        layer = None
    if isinstance(layer, nn.Module):
        return layer
    raise ValueError(f"layer {name!r} is not in the model; its layers are {[other for other in known if other]}")


def _evaluated(node: ast.expr, model: nn.Module) -> Any:
    """What an expression of the model's modules says; nothing else is evaluated."""
    match node:
        case ast.Name(id="model"):
            return model
        case ast.Subscript(value=value, slice=index):
            return _evaluated(value, model)[ast.literal_eval(index)]
        case ast.Call(func=ast.Name(id="list"), args=[argument], keywords=[]):
            return list(_evaluated(argument, model))
        case ast.Call(func=ast.Attribute(value=value, attr=attr), args=args, keywords=[]) if attr in _CALLS:
            return getattr(_evaluated(value, model), attr)(*map(ast.literal_eval, args))
        case ast.Attribute(value=value, attr=attr):
            if isinstance(owner := _evaluated(value, model), nn.Module):
                return getattr(owner, attr)
    raise ValueError


def _is_of_model(cls: type) -> bool:
    if not (issubclass(cls, Attribution) and hasattr(cls, "attribute")):
        return False
    return next(iter(inspect.signature(cls).parameters), None) in ("forward_func", "model")
