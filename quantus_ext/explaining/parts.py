"""The examples in parts: how many go into one call of attribute, and which part of each argument goes with them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import captum.attr
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.checks import check_positive_int, warn
from captum_wg.engine.forward_args import ForwardArgs, Reading, Shared
from captum_wg.engine.outputs import output_tensor
from captum_wg.engine.probe import probe
from captum_wg.engine.problem import automatic_rows
from quantus_ext.arrays import chunks
from quantus_ext.explaining.arguments import changed

_SAMPLES_AT_ONCE = tuple(getattr(captum.attr, level + "GradientShap") for level in ("", "Layer", "Neuron"))
_BASELINES_AT_ONCE = tuple(getattr(captum.attr, level + "DeepLiftShap") for level in ("", "Layer", "Neuron"))
SHARED_BASELINES = (*_SAMPLES_AT_ONCE, *_BASELINES_AT_ONCE)
_PERMUTING = (captum.attr.FeaturePermutation, captum.attr.LayerFeaturePermutation)
# Those that belong to the examples where they have the inputs' dimensions and as many rows.
_PER_EXAMPLE = ("feature_mask", "layer_mask", "weighting")


def bounded(
    kwargs: Mapping[str, Any], batch_size: int | None, x: Tensor, attribution: Attribution
) -> tuple[list[slice], dict[str, Any]]:
    """The examples of each call of attribute, and its arguments, with an internal_batch_size for a class of Captum's.

    Without a batch_size a forward has at most as many rows as the engine of captum_wg would give it, and a call 64
    examples. (Captum's GradientShap, DeepLiftShap and NoiseTunnel put all copies of their examples into one forward.)
    """
    rows, kwargs = automatic_rows((x,), x.device), dict(kwargs)
    inner = getattr(attribution, "attribution_method", attribution)
    has_bound = _is_captums(inner) and "internal_batch_size" in inspect.signature(inner.attribute).parameters
    if has_bound and kwargs.get("internal_batch_size") is None:
        kwargs["internal_batch_size"] = rows
    if batch_size is not None:
        size = check_positive_int(batch_size, "batch_size")
    elif not _is_captums(attribution) or isinstance(attribution, _PERMUTING):
        size = 64
    else:
        size = min(64, max(1, rows // _copies(kwargs, attribution, inner)))
    if not isinstance(attribution, _PERMUTING):
        return chunks(len(x), size), kwargs
    if len(x) < 2:
        raise ValueError(
            f"{type(attribution).__name__} exchanges values between the examples of a batch, so it needs at "
            f"least 2 of them, got 1; explain several inputs in one call"
        )
    return chunks(len(x), size, smallest=2), kwargs


def _copies(kwargs: Mapping[str, Any], attribution: Attribution, inner: Attribution) -> int:
    """How many rows of a forward an example makes."""
    number, baselines = 1, kwargs.get("baselines")
    if isinstance(inner, _SAMPLES_AT_ONCE):
        number = check_positive_int(kwargs.get("n_samples", 5), "n_samples")
    elif isinstance(inner, _BASELINES_AT_ONCE) and isinstance(baselines, Tensor):
        number = max(1, len(baselines))
    if isinstance(attribution, captum.attr.NoiseTunnel):
        noisy = kwargs.get("nt_samples_batch_size") or kwargs.get("nt_samples", 5)
        number *= check_positive_int(noisy, "nt_samples")
    return number


def probed(model: nn.Module, additional_forward_args: Any, x: Tensor) -> tuple[Reading, bool]:
    """Which additional_forward_args go with the examples, and whether these must stay together, as the model tells."""
    args = ForwardArgs(additional_forward_args, len(x))

    def forward(rows: tuple[Tensor, ...], examples: Tensor, reading: Reading) -> Tensor:
        return output_tensor(model(*(row.clone() for row in rows), *args.of(examples, reading)))

    try:
        with torch.no_grad():
            answer = probe(forward, (x,), args, format_baselines(None, (x,), False), None)
    except Exception:  # whatever the model says to these rows; the explanation says what is wrong
        return args.ambiguous, False
    return answer.per_example, answer.together


def settle_pairing(kwargs: dict[str, Any], x: Tensor, attribution: Attribution) -> dict[str, Any]:
    """Baselines (K, ...) are shared unless pairing says otherwise, also in a chunk of as many examples as baselines."""
    baselines = kwargs.get("baselines")
    if not isinstance(baselines, Tensor) or baselines.ndim != x.ndim or kwargs.get("pairing") is not None:
        return kwargs
    if "pairing" not in inspect.signature(attribution.attribute).parameters:
        return kwargs
    if len(baselines) == len(x) > 1 and not torch.equal(baselines, baselines[:1].expand_as(baselines)):
        warn(
            f"baselines has as many rows ({len(x)}) as there are inputs. They are shared by all inputs; say "
            "pairing='shared', or pairing='paired' if row i belongs to input i alone"
        )
    return {**kwargs, "pairing": "shared"}


def cut(
    kwargs: Mapping[str, Any], rows: slice, x: Tensor, attribution: Attribution, reading: Reading
) -> dict[str, Any]:
    """The arguments of some rows of x. They are copies, as a model may write into what it is given."""

    def part(name: str, value: Tensor) -> Tensor:
        if name == "baselines":
            of_examples = value.ndim == x.ndim + 1 or (value.ndim == x.ndim and _paired(attribution, kwargs))
        else:
            of_examples = name in _PER_EXAMPLE and value.ndim == x.ndim
        return (value[rows] if of_examples and len(value) == len(x) else value).clone()

    call = {name: changed(value, partial(part, name)) for name, value in kwargs.items()}
    if (given := kwargs.get("additional_forward_args")) is not None:
        given = given if isinstance(given, tuple) else (given,)
        call["additional_forward_args"] = tuple(
            a[rows] if i in reading else a.value if isinstance(a, Shared) and _is_captums(attribution) else a
            for i, a in enumerate(changed(given, torch.clone))
        )
    return call


def _is_captums(attribution: Attribution) -> bool:
    return type(attribution).__module__.startswith("captum.")


def _paired(attribution: Attribution, kwargs: Mapping[str, Any]) -> bool:
    """Whether the class takes row i of baselines of the inputs' dimensions for input i."""
    attribution = getattr(attribution, "attribution_method", attribution)
    if "pairing" in inspect.signature(attribution.attribute).parameters:
        return kwargs.get("pairing") == "paired"
    return not isinstance(attribution, SHARED_BASELINES)
