"""Quantus' words for what Captum calls otherwise, and its defaults: a call of `quantus.explain` keeps working."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import captum.attr
from captum.attr import Attribution
from torch import Tensor, nn

from quantus_ext.explaining.arguments import SHARED_BASELINES

WORDS = {"baseline": "baselines", "window": "sliding_window_shapes"}
# Quantus evaluates a layer's text as Python; of that these are understood.
_OF_MODEL = re.compile(r"model\.([\w.]+)")
_NUMBERED = re.compile(r"list\(model\.named_modules\(\)\)\[(-?\d+)\]\[1\]")


def in_captums_words(kwargs: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, Any]:
    """kwargs by the names that attribute has for them."""
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
    """The layer of this name; "model.features.0" and "list(model.named_modules())[3][1]" name one, too.

    Raises:
        ValueError: no such layer.
    """
    known: dict[str, nn.Module] = dict(model.named_modules())
    numbered, of_model = _NUMBERED.fullmatch(name), _OF_MODEL.fullmatch(name)
    if numbered and -len(known) <= int(numbered[1]) < len(known):
        return list(known.values())[int(numbered[1])]
    for each in (name, of_model[1] if of_model else ""):
        if each and each in known:
            return known[each]
    raise ValueError(f"layer {name!r} is not in the model; its layers are {[other for other in known if other]}")
