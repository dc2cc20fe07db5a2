"""Explanation functions for Quantus: every class of captum_wg and of captum.attr with its real parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from quantus.functions.explanation_func import explain as quantus_explain
from quantus.helpers import constants
from torch import nn

from quantus_ext.arrays import to_array
from quantus_ext.explaining.arguments import naming_remedies, to_inputs, to_targets
from quantus_ext.explaining.explanation_function import ExplanationFunction, Options
from quantus_ext.explaining.methods import Method, find, names, unknown
from quantus_ext.model import check_is_no_function, device_of, evaluating


def explain(model: Any, inputs: Any, targets: Any, method: Any = None, **kwargs: Any) -> np.ndarray:
    """Explain inputs; a drop-in for `quantus.explain` that knows more methods, with their own parameters.

    `explain(model, inputs, targets, method=M, **kwargs)` is `explainer(M, **kwargs)(model, inputs, targets)`. A name
    in captum_wg or captum.attr means that class with its own parameters and defaults, also where Quantus has a method
    of the same name: "IntegratedGradients" takes n_steps (50 unless given) and baselines, where Quantus' fixes
    n_steps=10. Quantus' words for Captum's arguments are understood: see `explainer`. Any other name ("Gradient",
    "Control Var. Random Uniform"), no name, another xai_lib than "captum" and Keras models go to `quantus.explain`
    with all kwargs as they are.

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
    check_is_no_function(model)
    captums = isinstance(model, nn.Module) and kwargs.get("xai_lib", "captum") == "captum"
    if captums and method is not None and (not isinstance(method, str) or find(method) is not None):
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
        x = to_inputs(inputs, model)
        with naming_remedies(x, to_targets(targets, len(x), x.device)):
            return quantus_explain(model, to_array(inputs), to_array(targets), **kwargs)


def explainer(
    method: Method,
    /,
    *,
    init_kwargs: Mapping[str, Any] | None = None,
    batch_size: int | None = None,
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
            the function serves copies of the model. Quantus' words: xai_lib_kwargs is the same, gc_layer is its layer.
        batch_size: examples per call of `attribute`, in nearly equal chunks of at most that; None: at most 64, and for
            Captum's classes so few that a forward has no more rows than the engine of captum_wg would give it (32 of
            3x32x32 on a CPU), to which their internal_batch_size is set, too, unless given. Cut with the inputs are the
            targets, Tensors with N rows in additional_forward_args, a feature_mask, layer_mask or neutral of the
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
        **attribute_kwargs: the arguments of the class's `attribute`: baselines, n_steps, ... or Quantus' words for
            them, baseline and window. GradientShap and DeepLiftShap without baselines have zeros, and Occlusion without
            sliding_window_shapes has (1, 4, 4), as in Quantus. Arrays and Tensors are brought to the model's device
            and dtype (integers stay integers). `generator`, an int seed or a torch.Generator of
            which one seed is drawn per call, works for every class: those without such an argument, which draw from
            the global generators, find these seeded, and the generators are put back afterwards.

    Returns:
        a function; its result is an array (float64 for a float64 model, else float32). It can be pickled if `method`
        and the arguments can. The model's mode (it is put into evaluation for the call, as by Quantus), its
        gradients and the arguments are left as they were. Of a model that returns a ModelOutput or a dictionary the
        logits are explained. Threads take turns in these functions, as the model's mode, Captum's hooks and the global
        generators are everyone's; what runs beside them (a class of Captum by itself, a training step) is not held off.

    Raises:
        ValueError: an unknown method or argument; inputs or targets that don't fit; a result that is no single map of
            the inputs' shape.
    """
    options = Options(
        init_kwargs=init_kwargs,
        batch_size=batch_size,
        reduce_axes=reduce_axes,
        keepdims=keepdims,
        softmax=softmax,
        device=device,
        interpolate=interpolate,
        fresh_draws=fresh_draws,
    )
    return ExplanationFunction(method, options, attribute_kwargs)
