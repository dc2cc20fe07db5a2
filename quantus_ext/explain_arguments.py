"""What `attribute` is called with: Captum's words for Quantus', Tensors beside the model, and the examples in parts."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr import Attribution
from torch import Tensor, nn

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.checks import check_positive_int, warn
from captum_wg.engine.forward_args import ForwardArgs, Reading, Shared
from captum_wg.engine.outputs import output_tensor
from captum_wg.engine.probe import probe
from captum_wg.engine.problem import automatic_rows
from quantus_ext.arrays import chunks, require_finite, require_real, to_array, to_tensor
from quantus_ext.model import device_of, dtype_of

_WORDS = {"baseline": "baselines", "window": "sliding_window_shapes"}
_IGNORED = {
    "abs",
    "normalise",
    "normalise_func",
    "normalise_func_kwargs",
    "pos_only",
    "neg_only",
    "nr_channels",
    "img_size",
}
_SAMPLES_AT_ONCE = captum.attr.GradientShap, captum.attr.LayerGradientShap, captum.attr.NeuronGradientShap
_BASELINES_AT_ONCE = captum.attr.DeepLiftShap, captum.attr.LayerDeepLiftShap, captum.attr.NeuronDeepLiftShap
_SHARED_BASELINES = (*_SAMPLES_AT_ONCE, *_BASELINES_AT_ONCE)
_PERMUTING = (captum.attr.FeaturePermutation, captum.attr.LayerFeaturePermutation)
# Those that belong to the examples where they have the inputs' dimensions and as many rows.
_PER_EXAMPLE = ("feature_mask", "layer_mask", "weighting")


def to_inputs(inputs: Any, model: nn.Module) -> Tensor:
    """A copy of the inputs where the model is, in its dtype."""
    if not isinstance(inputs, Tensor | np.ndarray):
        raise ValueError(f"inputs must be one array or Tensor (N, ...), got {type(inputs).__name__}")
    x = to_tensor(inputs) if isinstance(inputs, np.ndarray) else inputs.detach()
    if x.ndim < 2 or x.numel() == 0:
        raise ValueError(f"inputs must be of shape (N, ...) and not empty, got {tuple(x.shape)}")
    require_real(x, "inputs")
    require_finite(to_array(x), "inputs")
    dtype = dtype_of(model) or (x.dtype if x.is_floating_point() else torch.get_default_dtype())
    return x.to(device_of(model) or x.device, dtype, copy=True)


def to_targets(targets: Any, count: int, device: torch.device) -> Any:
    """None, an int for all examples, a Tensor (N,), or a list of tuples for outputs of more dims."""
    if targets is None:
        return None
    values = to_array(targets)
    if values.dtype.kind not in "iuf" or not (values == np.floor(values)).all():
        raise ValueError(f"targets must be class numbers, got {values.dtype} values that are not whole numbers")
    if values.ndim == 2 and len(values) == count and values.shape[1] > 1:
        return [tuple(row) for row in values.astype(int).tolist()]
    if values.size == 1:
        return int(values.item())
    if values.size != count or values.ndim > 2:
        raise ValueError(f"targets must hold one class number for each of the {count} inputs, got {values.shape}")
    return torch.from_numpy(values.reshape(-1).astype(np.int64)).to(device)


@contextmanager
def naming_remedies(x: Tensor, targets: Any, where: str = "") -> Iterator[None]:
    """An error also says what may be wrong with inputs or targets that look like these."""
    try:
        yield
    except (AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        remedy = ""
        if isinstance(targets, list) and all(sorted(row) == [0] * (len(row) - 1) + [1] for row in targets):
            remedy = "; if the targets are one-hot rows, pass class numbers: targets.argmax(1)"
        elif x.ndim == 4 and x.shape[3] < min(x.shape[1:3]):
            remedy = (
                f"; inputs of shape {tuple(x.shape)} look as if their channels came last, but torch models take them "
                "first: pass np.moveaxis(inputs, -1, 1)"
            )
        if not remedy and not (where and isinstance(error, ValueError)):
            raise
        raise ValueError(f"{error}{where}{remedy}") from error


def in_captums_words(kwargs: Mapping[str, Any], attribute: Callable[..., Any]) -> dict[str, Any]:
    """kwargs by the names that attribute has for them.

    Warns:
        UserWarning: words that Quantus' examples have and its explain ignores; they are left out.
    """
    parameters = inspect.signature(attribute).parameters
    ignored = [name for name in kwargs if name in _IGNORED and name not in parameters]
    if ignored:
        warn(f"{', '.join(ignored)}: quantus.explain ignores this, and so it is left out here")
    return {k if k in parameters else _WORDS.get(k, k): value for k, value in kwargs.items() if k not in ignored}


def with_defaults(kwargs: Mapping[str, Any], attribution: Attribution, x: Tensor) -> dict[str, Any]:
    """What Quantus sets where Captum asks: GradientShap's and DeepLiftShap's baselines, Occlusion's window.

    Baselines (K, ...) are shared unless pairing says otherwise, also in a chunk of as many examples as baselines. Of
    Captum's classes a forward has at most as many rows as the engine of captum_wg would give it.
    """
    kwargs = dict(kwargs)
    if isinstance(attribution, _SHARED_BASELINES):
        # Two, as DeepLiftShap refuses a single one.
        kwargs.setdefault("baselines", x.new_zeros(2, *x.shape[1:]))
    if isinstance(attribution, captum.attr.Occlusion):
        kwargs.setdefault("sliding_window_shapes", (1, *(min(4, side) for side in x.shape[2:])))
    inner = _inner(attribution)
    if _is_captums(inner) and _takes(inner, "internal_batch_size") and kwargs.get("internal_batch_size") is None:
        kwargs["internal_batch_size"] = automatic_rows((x,), x.device)
    given, unset = kwargs.get("baselines"), kwargs.get("pairing") is None
    if isinstance(given, Tensor) and given.ndim == x.ndim and unset and _takes(attribution, "pairing"):
        kwargs["pairing"] = "shared"
        if len(given) == len(x) > 1 and not torch.equal(given, given[:1].expand_as(given)):
            warn(
                f"baselines has as many rows ({len(x)}) as there are inputs. They are shared by all inputs; say "
                "pairing='shared', or pairing='paired' if row i belongs to input i alone"
            )
    return kwargs


def to_model(kwargs: Mapping[str, Any], x: Tensor) -> dict[str, Any]:
    """Arrays and Tensors beside x, those of baselines and all real ones in its dtype."""

    def moved(name: str, value: np.ndarray | Tensor) -> Tensor:
        value = to_tensor(value) if isinstance(value, np.ndarray) else value
        require_real(value, name)
        return value.to(x.device, x.dtype if name == "baselines" or value.is_floating_point() else value.dtype)

    return {name: _changed(value, partial(moved, name)) for name, value in kwargs.items()}


def parts_of(
    model: nn.Module, kwargs: Mapping[str, Any], batch_size: int | None, x: Tensor, attribution: Attribution
) -> tuple[list[slice], Reading]:
    """The examples of each call of attribute, and which additional_forward_args go with them, as the model tells.

    Without a batch_size a forward has at most as many rows as the engine of captum_wg would give it, and a call 64
    examples. (Captum's GradientShap, DeepLiftShap and NoiseTunnel put all copies of their examples into one forward.)
    """
    permuting, size = isinstance(attribution, _PERMUTING), 64
    if batch_size is not None:
        size = check_positive_int(batch_size, "batch_size")
    elif _is_captums(attribution) and not permuting:
        size = min(64, max(1, automatic_rows((x,), x.device) // _copies(kwargs, attribution)))
    if permuting and len(x) < 2:
        raise ValueError(
            f"{type(attribution).__name__} exchanges values between the examples of a batch, so it needs at "
            f"least 2 of them, got 1; explain several inputs in one call"
        )
    parts = chunks(len(x), size, smallest=2 if permuting else 1)
    if len(parts) == 1:
        return parts, frozenset()
    args = ForwardArgs(kwargs.get("additional_forward_args"), len(x))

    def forward(rows: tuple[Tensor, ...], examples: Tensor, reading: Reading) -> Tensor:
        return output_tensor(model(*(row.clone() for row in rows), *args.of(examples, reading)))

    try:
        with torch.no_grad():
            answer = probe(forward, (x,), args, format_baselines(None, (x,), False), None)
    except Exception:  # whatever the model says to these rows; the explanation says what is wrong
        return parts, args.ambiguous
    return [slice(0, len(x))] if answer.together else parts, answer.per_example


def cut(
    kwargs: Mapping[str, Any], rows: slice, x: Tensor, attribution: Attribution, reading: Reading
) -> dict[str, Any]:
    """The arguments of some rows of x. They are copies, as a model may write into what it is given."""
    inner = _inner(attribution)
    # Whether the class takes row i of baselines of the inputs' dimensions for input i.
    by_pairing = _takes(inner, "pairing")
    paired = kwargs.get("pairing") == "paired" if by_pairing else not isinstance(inner, _SHARED_BASELINES)

    def part(name: str, value: Tensor) -> Tensor:
        if name == "baselines":
            of_examples = value.ndim == x.ndim + 1 or (value.ndim == x.ndim and paired)
        else:
            of_examples = name in _PER_EXAMPLE and value.ndim == x.ndim
        return (value[rows] if of_examples and len(value) == len(x) else value).clone()

    call = {name: _changed(value, partial(part, name)) for name, value in kwargs.items()}
    if (given := kwargs.get("additional_forward_args")) is not None:
        given = given if isinstance(given, tuple) else (given,)
        call["additional_forward_args"] = tuple(
            a[rows] if i in reading else a.value if isinstance(a, Shared) and _is_captums(attribution) else a
            for i, a in enumerate(_changed(given, torch.clone))
        )
    return call


def _changed(value: Any, change: Callable[[Any], Any]) -> Any:
    """value with its arrays and Tensors changed: also those in tuples and lists and in a weighting's neutral."""
    if isinstance(value, tuple | list):
        parts = [_changed(part, change) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, Shared):
        return Shared(_changed(value.value, change))
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and hasattr(value, "neutral"):
        return dataclasses.replace(value, **{"neutral": _changed(value.neutral, change)})
    return change(value) if isinstance(value, np.ndarray | Tensor) else value


def _copies(kwargs: Mapping[str, Any], attribution: Attribution) -> int:
    """How many rows of a forward an example makes."""
    number, baselines, inner = 1, kwargs.get("baselines"), _inner(attribution)
    if isinstance(inner, _SAMPLES_AT_ONCE):
        number = check_positive_int(kwargs.get("n_samples", 5), "n_samples")
    elif isinstance(inner, _BASELINES_AT_ONCE) and isinstance(baselines, Tensor):
        number = max(1, len(baselines))
    if isinstance(attribution, captum.attr.NoiseTunnel):
        noisy = kwargs.get("nt_samples_batch_size") or kwargs.get("nt_samples", 5)
        number *= check_positive_int(noisy, "nt_samples")
    return number


def _inner(attribution: Attribution) -> Any:
    """What a NoiseTunnel wraps."""
    return getattr(attribution, "attribution_method", attribution)


def _is_captums(attribution: Attribution) -> bool:
    return type(attribution).__module__.startswith("captum.")


def _takes(attribution: Any, name: str) -> bool:
    return name in inspect.signature(attribution.attribute).parameters
