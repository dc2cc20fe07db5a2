"""One way to spend a price: settings, what they cost, and the attribution that they make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from captum.attr import Attribution, DeepLift, FeatureAblation
from torch import Tensor

from captum_wg import baselines
from captum_wg.attribution_base import AttributionResult, logged
from captum_wg.engine.checks import check_choice
from captum_wg.engine.targets import Target
from captum_wg.expected_gradients import ExpectedGradients
from captum_wg.over_baselines import OverBaselines
from captum_wg.patch_correction import PatchCorrected, grid
from captum_wg.smooth_grad import SmoothGrad
from captum_wg.smoothing import check_smooth, smoothed_mix
from captum_wg.weighted_gradients import WeightedGradients

METHODS = (
    *("expected gradients", "weighted gradients", "integrated gradients"),
    *("SmoothGrad", "DeepLift", "patch ablation"),
)
# Forwards that D_alpha takes for one baseline, at most: ceil(log2(P + 1)) of up to 65,535 pixels.
_SEARCH = 16


class Ready(Attribution):  # type: ignore[misc]  # Captum has no types
    """An attribution of which only the inputs and their target are left to say.

    Args:
        method: the attribution, an instance.
        recipe: what it follows.
        settings: made of the inputs when they come: settings(inputs) -> the other arguments of its `attribute`.
    """

    def __init__(self, method: Attribution, recipe: Recipe, settings: Callable[[Tensor], dict[str, Any]]):
        super().__init__(method.forward_func)
        self.method = method
        self.recipe = recipe
        self._settings = settings

    @logged
    def attribute(
        self, inputs: Tensor, target: Target = None, additional_forward_args: object = None, **more: Any
    ) -> Any:
        """The maps of inputs, (B, C, H, W).

        Args:
            more: further arguments of the method (internal_batch_size, ...). smooth stands in place of the recipe's.

        Returns:
            A Tensor, in an `AttributionResult` if more than that was asked for.
        """
        smooth = more.pop("smooth", self.recipe.smooth)
        check_smooth(smooth, (inputs,))
        given = {"target": target, "additional_forward_args": additional_forward_args}
        found = self.method.attribute(inputs, **self._settings(inputs) | given | more)
        if smooth is None:
            return found
        if isinstance(found, AttributionResult):
            # The sum of a map stays, and its delta with it.
            return AttributionResult(smoothed_mix(found.attributions, smooth), found.delta, found.weights, found.steps)
        return smoothed_mix(found, smooth)

    def unsmoothed(self) -> Ready:
        """The same without smoothing."""
        return Ready(self.method, replace(self.recipe, smooth=None), self._settings)

    @property
    def multiplies_by_inputs(self) -> bool:
        return bool(self.method.multiplies_by_inputs)

    def __repr__(self) -> str:
        return f"Ready({self.recipe.name!r})"


@dataclass(frozen=True)
class Recipe:
    """One way to spend a price.

    Attributes:
        method: "expected gradients", "weighted gradients", "integrated gradients" (from zeros), "SmoothGrad" (times the
            input from the mean of references), "DeepLift" (over references), "patch ablation" (each patch alone
            replaced by the channels' means, no gradients).
        n_references: K; n_steps: gradients for each, of SmoothGrad for all together; staggered: these are one for each,
            shifted from path to path.
        patches: the maps are corrected by (`PatchCorrected`), or are, the drops by patches of a grid so fine.
        smooth: the maps are mixed with their blur (`smoothed_mix`); None: not.

    Raises:
        ValueError: another method.
    """

    method: str
    n_references: int = 0
    n_steps: int = 1
    patches: int = 0
    staggered: bool = False
    smooth: float | None = None

    def __post_init__(self) -> None:
        check_choice(self.method, "method", METHODS)

    @property
    def name(self) -> str:
        """As in the table."""
        words = {
            "DeepLift": f"over {self.n_references}",
            "integrated gradients": f"from zeros, {self.n_steps} steps",
            "SmoothGrad": f"{self.n_steps} samples",
        }
        size = words.get(self.method, f"{self.n_references} x {self.n_steps}")
        grid_words = f"{self.patches} x {self.patches} patches"
        if self.method == "patch ablation":
            return f"{self.method}, {grid_words}"
        corrected = f"{size} and {grid_words}" if self.patches else size
        parts = [self.method, corrected, "staggered" * self.staggered, "smoothed" * (self.smooth is not None)]
        return ", ".join(filter(None, parts))

    @property
    def gradients(self) -> int:
        """Gradients an image; the two rows of a DeepLift pair count as two."""
        if self.method == "patch ablation":
            return 0
        if self.method == "SmoothGrad":
            return self.n_steps
        return (2 if self.method == "DeepLift" else 1) * max(1, self.n_references) * self.n_steps

    @property
    def forwards(self) -> int:
        """Forwards an image, of a search for weights the most that there may be (of up to 65,535 pixels)."""
        return self.patches**2 + _SEARCH * self.n_references * (self.method == "weighted gradients")

    def of_fewer(self, n_references: int | None) -> Recipe:
        """The recipe where there are no more references than these (None: enough): more points for each."""
        if n_references is None or n_references >= self.n_references:
            return self
        paths = self.method == "expected gradients"
        steps = self.n_references * self.n_steps // n_references if paths else self.n_steps
        return replace(self, n_references=n_references, n_steps=steps, staggered=False)

    def attribution(
        self, model: Callable[..., Any], references: Tensor | None = None, seed: int | None = None
    ) -> Ready:
        """The recipe for a model, with its references (K, C, H, W), of which it takes the first; seed: of noise."""
        if references is None and self.n_references:
            raise ValueError(f"references are missing: {self.name} takes {self.n_references}; give (K, C, H, W)")
        own = None if references is None else references[: self.n_references]
        settings: dict[str, Any] = {"baselines": own, "pairing": "shared"}
        if self.method == "patch ablation":

            def of_patches(x: Tensor) -> dict[str, Any]:
                return {"baselines": baselines.channel_mean(), "feature_mask": grid((x,), self.patches)[0]}

            return Ready(OverBaselines(FeatureAblation(model)), self, of_patches)
        method: Attribution
        if self.method == "DeepLift":
            method = OverBaselines(DeepLift(model))
        elif self.method == "integrated gradients":
            method, settings = ExpectedGradients(model), {"baselines": 0.0, "n_steps": self.n_steps}
        elif self.method == "SmoothGrad":
            method, settings = SmoothGrad(model), settings | {"n_samples": self.n_steps, "generator": seed}
        else:
            weighted = self.method == "weighted gradients"
            method = WeightedGradients(model) if weighted else ExpectedGradients(model)
            spread = {"n_samples": self.n_references * self.n_steps, "sampling": "staggered"}
            settings |= spread if self.staggered else {"n_steps": self.n_steps}
        return Ready(PatchCorrected(method, self.patches) if self.patches else method, self, lambda x: settings)
