"""Quantus' words for what Captum calls otherwise, and its defaults: a call of `quantus.explain` keeps working."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import captum.attr
from captum.attr import Attribution
from torch import Tensor, nn

from captum_wg.engine.checks import warn
from quantus_ext.explaining.parts import SHARED_BASELINES

WORDS = {"baseline": "baselines", "window": "sliding_window_shapes"}
IGNORED = (
    "abs",
    "normalise",
    "normalise_func",
    "normalise_func_kwargs",
    "pos_only",
    "neg_only",
    "nr_channels",
    "img_size",
)
_CALLS = ("named_modules", "modules", "named_children", "children", "get")


def in_captums_words(kwargs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """kwargs by the names that attribute has for them.

    Warns:
        UserWarning: words that Quantus' examples have and its explain ignores; they are left out.
    """
    ignored = [name for name in kwargs if name in IGNORED and name not in parameters]
    if ignored:
        warn(f"{', '.join(ignored)}: quantus.explain ignores this, and so it is left out here")
        kwargs = {name: value for name, value in kwargs.items() if name not in ignored}
    return {name if name in parameters else WORDS.get(name, name): value for name, value in kwargs.items()}


def with_defaults(kwargs: Mapping[str, Any], attribution: Attribution, x: Tensor) -> dict[str, Any]:
    """What Quantus sets where Captum asks: GradientShap's and DeepLiftShap's baselines, Occlusion's window."""
    defaults: dict[str, Any] = {}
    if isinstance(attribution, SHARED_BASELINES):
        # Two, as DeepLiftShap refuses a single one.
        defaults["baselines"] = x.new_zeros(2, *x.shape[1:])
    if isinstance(attribution, captum.attr.Occlusion):
        defaults["sliding_window_shapes"] = (1, *(min(4, side) for side in x.shape[2:]))
    return {**defaults, **kwargs}


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
