"""Which filters of a convolution layer matter: layer attributions summarised for each filter.

    ranking = rank(LayerExpectedGradients(model, model.layer3), x, references, target=y)
    with removed(model.layer3, ranking.order[:10]):
        accuracy_without = ...

A filter is a channel of the layer's activation (B, C, *positions); for dense layers (B, C) a neuron. Layers of tokens
or steps, (B, T, E), have their features last and are refused: turn their attributions, as `rank` says. The local
measures of Payne et al. 2024 are ranked together, from one pass, with `measures()`, in which angles are each filter's
own:

    rankings = rank(LayerGeneralizedAttribution(model, model.layer3), x, references, target=y, measures=measures())

A ranking by cosines, which have no size, tells filters apart by how their gradients behave, and need not be one by
what they matter. Without half of layer3's filters a ResNet-18 is right for 0.55 of 200 CIFAR-10 images where expected
gradients rank them, 0.64 to 0.67 by the mean, the variance and stability, 0.81 by consistency, as by chance (0.82,
standard deviation 0.02), and 0.90 with all filters (docs/examples/filters.py).

Shapes: B examples, C filters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import LayerAttribution
from torch import Tensor, nn

from captum_wg.attribution_base import AttributionResult
from captum_wg.engine.checks import name_rows, not_finite
from captum_wg.engine.tensors import as_tuple, at_least_float32
from captum_wg.measures import ConsistencyCosine, Mean, Measure, StabilityCosine, Variance

# Modules that work on the last dimension, whatever is before it.
_FEATURES_LAST = (
    nn.Embedding,
    nn.Linear,
    nn.RNNBase,
    nn.MultiheadAttention,
    nn.TransformerEncoderLayer,
    nn.TransformerDecoderLayer,
)


@dataclass(frozen=True, eq=False)
class Ranking:
    """The filters of a layer, by the mean size of their attributions.

    Attributes:
        order: the numbers of the filters (C,), the largest mean first; equal ones as they stand in the layer.
        mean: of each filter (C,), over examples and positions: mean |phi|.
        deviation: of each filter (C,), the standard deviation (n - 1) of the examples' own means; 0 for one example.
    """

    order: Tensor
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, scores: Tensor) -> Ranking:
        """The ranking of each example's scores (B, C): `per_filter` of one batch, or of many put together.

        Raises:
            TypeError: no Tensor. ValueError: another shape, no examples, NaN or infinite scores; the same scores for
                all of several filters, so that there is no order.
        """
        if not isinstance(scores, Tensor):
            raise TypeError(f"scores must be a Tensor (B, C), got {type(scores).__name__}")
        if scores.ndim != 2 or not scores.numel():
            raise ValueError(f"scores must have shape (B, C), got {tuple(scores.shape)}")
        scores = at_least_float32(scores.detach())
        if (bad := not_finite(scores)).any():
            raise ValueError(f"scores are NaN or infinite for examples {name_rows(bad)}")
        if scores.shape[1] > 1 and bool((scores == scores[:, :1]).all()):
            raise ValueError(
                f"all {scores.shape[1]} filters have the same scores: either the output depends on none of them, or "
                "the measure is one of angles over all filters of a position; give measures=filters.measures()"
            )
        mean = scores.mean(0)
        deviation = scores.std(0) if len(scores) > 1 else torch.zeros_like(mean)
        return cls(mean.argsort(descending=True, stable=True), mean, deviation)


def per_filter(attributions: Tensor) -> Tensor:
    """Of attributions (B, C, *positions) the mean |phi| over positions, (B, C), in at least float32.

    For data that come in batches: Ranking.of(torch.cat([per_filter(method.attribute(...)) for ... in loader])).

    Raises:
        TypeError: no Tensor. ValueError: one of less than two dimensions.
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(f"attributions must be a Tensor (B, C, *positions), got {type(attributions).__name__}")
    if attributions.ndim < 2:
        raise ValueError(f"attributions must have shape (B, C, *positions), got {tuple(attributions.shape)}")
    sizes = at_least_float32(attributions.detach()).abs()
    return sizes.flatten(2).mean(2) if sizes.ndim > 2 else sizes


def rank(method: LayerAttribution, *args: Any, **kwargs: Any) -> Any:
    """The filters of a layer by their attributions.

    Args:
        method: a layer method: any of `captum_wg.layers`, or of Captum, with its layer.
        args, kwargs: of its `attribute`.

    Returns:
        A `Ranking`; of a list of layers a list of these, of several measures (`LayerGeneralizedAttribution`) a dict of
        these by the measures' names.

    Raises:
        TypeError: no layer method, or one whose attributions are no Tensor (B, C, *positions).
        ValueError: as `attribute` and `Ranking.of`; a layer of tokens or steps, (B, T, E), such as an embedding or a
            dense layer: of its attributions Ranking.of(per_filter(attributions.transpose(1, -1))) ranks the E features.
    """
    if not isinstance(method, LayerAttribution):
        raise TypeError(
            "method must be a layer method with its layer, such as LayerExpectedGradients(model, model.layer3), got "
            f"{type(method).__name__}"
        )
    inputs = kwargs["inputs"] if "inputs" in kwargs else args[0] if args else ()
    ids = [x.shape for x in as_tuple(inputs) if isinstance(x, Tensor) and not x.is_floating_point()]
    layers = method.layer if isinstance(method.layer, list) else [method.layer]
    return _ranked(method.attribute(*args, **kwargs), layers, ids)


def _ranked(attributions: Any, layers: list[nn.Module], ids: list[torch.Size]) -> Any:
    if isinstance(attributions, AttributionResult):
        return _ranked(attributions.attributions, layers, ids)
    if isinstance(attributions, dict):
        return {name: _ranked(value, layers, ids) for name, value in attributions.items()}
    if isinstance(attributions, list):
        return [_ranked(value, [layer], ids) for value, layer in zip(attributions, layers, strict=True)]
    if isinstance(attributions, Tensor):
        _check_filters(layers[0], attributions, ids)
    return Ranking.of(per_filter(attributions))


def _check_filters(layer: nn.Module, values: Tensor, ids: Sequence[torch.Size] = ()) -> None:
    """Raise if dimension 1 of a layer's values holds tokens or steps; ids: the shapes of the model's token ids."""
    if values.ndim > 2 and (isinstance(layer, _FEATURES_LAST) or values.shape[:-1] in ids):
        raise ValueError(
            f"layer ({type(layer).__name__}) has shape {tuple(values.shape)}, with tokens or steps in dimension 1 and "
            "its features last: it has no filters (B, C, *positions). To rank its features turn the attributions: "
            "Ranking.of(per_filter(attributions.transpose(1, -1)))"
        )


def measures() -> dict[str, Measure]:
    """The four measures, for the measures of `LayerGeneralizedAttribution` at a layer (B, C, *positions).

    Angles are between vectors of all positions of one filter (`OfFilters`): at a layer the usual ones are between
    vectors of all filters at one position, and the same for all filters.
    """
    return {
        "local_integrated_gradients": Mean(),
        "gradient_variance": Variance(),
        "stability": OfFilters(StabilityCosine("pixel")),
        "consistency": OfFilters(ConsistencyCosine("pixel")),
    }


class OfFilters:
    """A measure that is given positions for channels and filters for positions: each filter's vector is one "pixel".

    Args:
        measure: of one Tensor (B, C, *positions), such as StabilityCosine("pixel").
    """

    like_inputs = True

    def __init__(self, measure: Measure):
        self._measure = measure
        self.needs_input_gradients = getattr(measure, "needs_input_gradients", True)

    def init(self, inputs: Tensor) -> None:
        if not isinstance(inputs, Tensor) or inputs.ndim < 2:
            raise ValueError("filters are those of one layer's activation, a Tensor (B, C, *positions)")
        self._shape = inputs.shape
        self._measure.init(_turned(inputs, 1))

    def update(
        self, gradients: Tensor, points: Tensor, inputs: Tensor, input_gradients: Tensor | None, weights: Tensor
    ) -> None:
        at_inputs = None if input_gradients is None else _turned(input_gradients, 1)
        self._measure.update(_turned(gradients, 2), _turned(points, 2), _turned(inputs, 1), at_inputs, weights)

    def finish(self) -> Tensor:
        found: Tensor = self._measure.finish()
        return found.squeeze(-1).transpose(1, 2).reshape(self._shape)


def _turned(values: Tensor, channel: int) -> Tensor:
    """(..., C, *positions) as (..., positions, C, 1), with C in dimension `channel`."""
    return values.reshape(*values.shape[: channel + 1], -1).transpose(channel, channel + 1).unsqueeze(-1)


@contextmanager
def removed(layer: nn.Module, filters: Sequence[int] | Tensor, value: float | Tensor = 0.0) -> Iterator[None]:
    """A model in which filters of a layer say nothing: `value` stands in their place in the layer's output.

    Args:
        layer: a module whose output is a Tensor (B, C, *positions).
        filters: their numbers, a sequence or Tensor of whole ones.
        value: a number, or one for each filter of the layer (C,), such as their mean activations.

    Raises:
        TypeError: layer is no module; filters that are no whole numbers, such as a mask.
        TypeError, ValueError: where the layer is called: its output has another form, as that of tokens, or fewer
            filters; values for
            another number of them.
        ValueError: at the end: the layer was not called, so that nothing was removed.
    """
    if not isinstance(layer, nn.Module):
        raise TypeError(f"layer must be a module of the model, such as model.layer3, got {type(layer).__name__}")
    which = _numbers(filters)
    called = False

    def replace(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        nonlocal called
        called = True
        if not isinstance(output, Tensor) or output.ndim < 2:
            raise TypeError(f"layer must return a Tensor (B, C, *positions), got {type(output).__name__}")
        _check_filters(module, output)
        count = output.shape[1]
        if any(number not in range(count) for number in which.tolist()):
            raise ValueError(f"filters must be numbers from 0 to {count - 1}, got {which.tolist()}")
        values = torch.as_tensor(value, dtype=output.dtype, device=output.device)
        if values.ndim and values.shape != (count,):
            raise ValueError(f"value must be a number, or one for each of {count} filters, got {tuple(values.shape)}")
        chosen = torch.zeros(count, dtype=torch.bool, device=output.device)
        chosen[which.to(output.device)] = True
        shape = (count, *(1,) * (output.ndim - 2))
        return torch.where(chosen.view(shape), values.expand(count).view(shape), output)

    hook = layer.register_forward_hook(replace)
    try:
        yield
    finally:
        hook.remove()
    if not called:
        raise ValueError(
            f"layer ({type(layer).__name__}) was never called, so that none of its filters was removed: give a module "
            "that the model holds and calls, and call the model within `with removed(...)`"
        )


def _numbers(filters: object) -> Tensor:
    try:
        which = torch.as_tensor(filters).flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"filters must be whole numbers, such as ranking.order[:10], got {filters!r}") from error
    if which.numel() and (which.dtype == torch.bool or which.is_floating_point() or which.is_complex()):
        mask = "; of a mask give mask.nonzero()" if which.dtype == torch.bool else ""
        raise TypeError(f"filters must be whole numbers, such as ranking.order[:10], got {which.dtype}{mask}")
    return which.long()
