"""Methods by name, as the command line calls them: one map of one image.

Shapes: x (1, C, H, W), K baselines (K, C, H, W).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import captum.attr
import numpy as np
import torch
from captum.attr import Attribution, LayerAttribution
from torch import Tensor, nn

import captum_wg
from captum_wg import Deletion, OverBaselines, PatchCorrected, recipes
from captum_wg.command_line import baseline_sets
from captum_wg.command_line.errors import ImageError, UsageError
from captum_wg.command_line.models import Network
from captum_wg.engine.problem import Problem
from captum_wg.patch_correction import grid
from captum_wg.weighting.maps import Maps

PRICES = tuple(recipes.RECIPES)
# Parts that a side is cut into by methods that remove patches.
_PATCHES = 8


Settings = Callable[[Tensor, int, int], dict[str, Any]]


@dataclass(frozen=True)
class Method:
    """A method of captum_wg or captum.attr.

    Attributes:
        summary: one line, for the list.
        package: where its class and the class for layers, LayerNAME, are.
        baselines: what --baselines is unless it is given; None: it takes none.
        averages: over several baselines itself; otherwise `OverBaselines` does.
        settings: of `attribute`, made of (x, steps, seed).
        by_layer: "optional"; "needed": of --layer, by default the last convolution; "never".
        hooks: the kind of modules that it hooks, without which it would be another method.
    """

    summary: str
    package: Any = captum.attr
    baselines: str | None = None
    averages: bool = False
    settings: Settings = lambda x, steps, seed: {}
    by_layer: str = "never"
    hooks: type[nn.Module] | None = None


def _steps(x: Tensor, steps: int, seed: int) -> dict[str, Any]:
    return {"n_steps": steps}


def _points(x: Tensor, steps: int, seed: int) -> dict[str, Any]:
    return {"n_samples": 5 * steps, "generator": seed, "pairing": "shared"}


def _paths(x: Tensor, steps: int, seed: int) -> dict[str, Any]:
    return {"n_steps": steps, "pairing": "shared"}


def _window(x: Tensor, steps: int, seed: int) -> dict[str, Any]:
    side = max(1, min(x.shape[2:]) // _PATCHES)
    return {
        "sliding_window_shapes": (x.shape[1], side, side),
        "strides": (x.shape[1], max(1, side // 2), max(1, side // 2)),
        "perturbations_per_eval": 16,
    }


def _of_patches(x: Tensor, steps: int, seed: int) -> dict[str, Any]:
    return {"feature_mask": grid((x,), _PATCHES)[0], "perturbations_per_eval": 16}


_ALL = baseline_sets.DEFAULT


def _ours(summary: str, settings: Settings = _points) -> Method:
    return Method(summary, captum_wg, _ALL, True, settings, "optional")


METHODS: dict[str, Method] = {
    "WeightedGradients": _ours(
        "integrated gradients over baselines, each weighted by how well it explains this image", _paths
    ),
    "ExpectedGradients": _ours("integrated gradients averaged over baselines", _paths),
    "SmoothGrad": _ours("gradients averaged over noisy copies, times what the image has beyond the baselines' mean"),
    "GradientVariance": _ours("how much the gradient varies between the image and the baselines"),
    "Stability": _ours("how little the gradient's direction changes with the direction of the change"),
    "Consistency": _ours("how little the gradient's direction changes at all"),
    "LocalIntegratedGradients": _ours("the mean gradient between the image and the baselines"),
    "IntegratedGradients": Method(
        "gradients along the path from one baseline", baselines="zero", settings=_steps, by_layer="optional"
    ),
    "GradientShap": Method(
        "gradients at random points between the image and the baselines",
        baselines=_ALL,
        averages=True,
        settings=lambda x, steps, seed: {"n_samples": 5 * steps},
        by_layer="optional",
    ),
    "DeepLift": Method(
        "differences from a baseline handed back through the layers",
        baselines="zero",
        by_layer="optional",
        hooks=nn.Module,
    ),
    "Saliency": Method("the magnitude of the gradient"),
    "InputXGradient": Method("the gradient times the input"),
    "GuidedBackprop": Method("the gradient with negative signals stopped at each ReLU", hooks=nn.ReLU),
    "LayerGradCam": Method("a layer's channels weighted by their mean gradients", by_layer="needed", hooks=nn.Conv2d),
    "GuidedGradCam": Method("GuidedBackprop times LayerGradCam", by_layer="needed", hooks=nn.ReLU),
    "Occlusion": Method(
        "what the output loses as a window is moved over the image", baselines="zero", settings=_window
    ),
    "FeatureAblation": Method(
        f"what the output loses with each of {_PATCHES} x {_PATCHES} patches", baselines="zero", settings=_of_patches
    ),
    "KernelShap": Method(
        f"Shapley values of {_PATCHES} x {_PATCHES} patches, by regression",
        baselines="zero",
        settings=lambda x, steps, seed: _of_patches(x, steps, seed) | {"n_samples": 25 * steps},
    ),
}
DEFAULT = "WeightedGradients"


@dataclass(frozen=True)
class Explanation:
    """A map (C, H, W), or (1, H, W).

    Attributes:
        distances, weights: of each baseline, for WeightedGradients; no distances of one baseline alone.
        features: that D_alpha counts: pixels, or places of a layer.
        maps: each baseline's own, summed over the channels, (K, h, w); None where there are no distances.
    """

    attribution: Tensor
    distances: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    features: int = 0
    maps: Tensor | None = None


class Recorded:
    """The paper's weighting, of which D_alpha and the baselines' maps, summed over their channels, are kept."""

    def __init__(self) -> None:
        self._rule = Deletion()
        self.distances: list[int] = []
        self.features = 0
        self.maps: Tensor | None = None

    def __call__(self, problem: Problem, maps: Maps) -> Tensor:
        distances = self._rule.distances(problem, maps)
        self.distances, self.features = distances[0].tolist(), maps.features.count
        found = [maps.rows(torch.tensor([k]))[0] for k in range(maps.count)]
        if all(one.ndim == 4 for one in found):
            self.maps = torch.cat([one.detach().sum(1).cpu() for one in found])
        return self._rule.weights(distances)


class Explainer:
    """What --method, --price, --patches, --layer, --steps and --seed mean for a network.

    Raises:
        UsageError: they don't go together, or don't fit the network.
    """

    def __init__(
        self,
        network: Network,
        method: str | None = None,
        price: int | None = None,
        patches: int | None = None,
        layer: str | None = None,
        steps: int = 16,
        seed: int = 0,
    ):
        if price is not None and not (method is None and patches is None and layer is None):
            raise UsageError("--price chooses the method, so it goes without --method, --patches and --layer")
        self.network, self.price, self.steps, self.seed = network, price, steps, seed
        self.name = method or DEFAULT
        self.method = METHODS[self.name]
        if layer is not None and self.method.by_layer == "never":
            able = [name for name, one in METHODS.items() if one.by_layer != "never"]
            raise UsageError(f"--layer: {self.name} has no form for layers; these have: {', '.join(able)}")
        if patches is not None and (layer is not None or self.name == "LayerGradCam"):
            raise UsageError("--patches corrects maps of the image, not of a layer; leave out one of them")
        self._check_modules(layer)
        self.layer = layer
        if layer is None and self.method.by_layer == "needed":
            self.layer = _last_convolution(network)
        self._of_layer = self.layer is not None and self.name != "GuidedGradCam"
        self._innermost = self._made()
        self.attribution = self._innermost if patches is None else PatchCorrected(self._innermost, patches)
        self.title = f"{self.name}{f', {patches} x {patches} patches' if patches else ''}"
        self.title += f", layer {self.layer}" if self.layer else ""
        if price is not None:
            self.title = f"recipe of price {price}"

    @property
    def baselines(self) -> str | None:
        """What --baselines is unless it is given; None: none are taken."""
        return baseline_sets.DEFAULT if self.price is not None else self.method.baselines

    def explain(self, x: Tensor, baselines: Tensor | None, target: int | None) -> Explanation:
        """The map of an image (1, C, H, W).

        Raises:
            ImageError: a layer's activations have no place in the image.
            TypeError, ValueError, RuntimeError: as the method.
        """
        np.random.seed(self.seed)  # of which Captum's GradientShap draws
        if self.price is not None:
            recipe = recipes.recipes_of(self.price, recipes.known.kind_of(x))[0]
            recipe = recipe.of_fewer(None if baselines is None else len(baselines))
            self.title = f"recipe of price {self.price}: {recipe.name}"
            found = recipes.explain(self.network.model, x, baselines, target, self.price, generator=self.seed)
            return Explanation(found[0])
        settings = self.method.settings(x, self.steps, self.seed)
        if baselines is not None:
            settings["baselines"] = baselines
        if isinstance(self._innermost, OverBaselines):
            settings["generator"] = self.seed
        if self.name != "WeightedGradients":
            return Explanation(self._on_image(self.attribution.attribute(x, target=target, **settings), x))
        recorded = Recorded()
        found, weights = self.attribution.attribute(
            x, target=target, weighting=recorded, return_weights=True, **settings
        )
        return Explanation(
            self._on_image(found, x), recorded.distances, weights[0].tolist(), recorded.features, recorded.maps
        )

    def _check_modules(self, layer: str | None) -> None:
        hooks, network = self.method.hooks, self.network
        if (hooks or layer) and not network.has_modules:
            asked = self.name if hooks else "--layer"
            raise UsageError(
                f"{asked}: {network.name} is a saved program, whose modules can't be hooked; take another method, such "
                f"as {DEFAULT} without --layer, or a network by name"
            )
        if hooks and not any(isinstance(module, hooks) for module in network.model.modules()):
            raise UsageError(
                f"--method {self.name}: {network.name} has no nn.{hooks.__name__}, which it rests on; take another "
                f"method, such as {DEFAULT}"
            )

    def _made(self) -> Attribution:
        name, model = self.name, self.network.model
        arguments: tuple[Any, ...] = (model,)
        if self.layer is not None:
            name = name if self.method.by_layer == "needed" else f"Layer{name}"
            arguments = (model, self.network.layer(self.layer))
        made: Attribution = getattr(self.method.package, name)(*arguments)
        return made if self.method.baselines is None or self.method.averages else OverBaselines(made)

    def _on_image(self, found: Any, x: Tensor) -> Tensor:
        """A map as it is, or a layer's summed over its channels and enlarged to the image, (C or 1, H, W)."""
        if not self._of_layer:
            return found[0]  # type: ignore[no-any-return]
        found = found[0] if isinstance(found, tuple) else found
        if found.ndim != 4:
            raise ImageError(
                f"layer {self.layer} has activations of shape {tuple(found.shape[1:])}, which have no place in the "
                "image; choose one with (channels, height, width)"
            )
        summed = found.detach().sum(1, keepdim=True)
        return LayerAttribution.interpolate(summed, tuple(x.shape[2:]), "bilinear")[0]  # type: ignore[no-any-return]


def _last_convolution(network: Network) -> str:
    names: list[str] = [name for name, module in network.model.named_modules() if isinstance(module, nn.Conv2d)]
    if not names:
        raise UsageError(f"--layer is needed: {network.name} has no nn.Conv2d, of which the last would be taken")
    return names[-1]
