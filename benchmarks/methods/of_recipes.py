"""The rows of `captum_wg.recipes`: what `recipes.explain` gives for a price, judged as any row is."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from benchmarks.methods.patch_corrected import PATCHES
from benchmarks.methods.rows import written
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.errors import BenchmarkError
from captum_wg.recipes import Recipe


def row_of(recipe: Recipe) -> str:
    """The name of a recipe's row.

    Raises:
        BenchmarkError: there is none of such a recipe.
    """
    # PatchCorrected has no row around WG, and SmoothGrad none without it.
    if recipe.method == ("weighted gradients" if recipe.patches else "SmoothGrad"):
        raise BenchmarkError(f"no row is the recipe {recipe.name}")
    of_paths: dict[str, Any] = {"n_steps": recipe.n_steps, "pool": recipe.n_references}
    # What a row has where its name says nothing is not said, so that it is the same row.
    words: dict[str, Any] = {"patches": recipe.patches} if recipe.patches not in (0, PATCHES) else {}
    if recipe.method == "patch ablation":
        base = "PatchAblation"
    elif recipe.method == "DeepLift" and recipe.patches:
        base, words = "PatchCorrected", {"pool": recipe.n_references, **words, "method": "DeepLift"}
    elif recipe.method == "SmoothGrad":
        base, words = "PatchCorrected", of_paths | words | {"method": "SmoothGrad"}
    elif recipe.method == "DeepLift":
        base, words = "DeepLiftShap", {"pool": recipe.n_references}
    elif recipe.method == "integrated gradients":
        base, words = "IntegratedGradients-zero", {"n_steps": recipe.n_steps}
    elif recipe.staggered:
        base = "SampledGradients"
        words = {"n_samples": recipe.gradients, "sampling": "staggered", "pool": recipe.n_references}
    else:
        weighted = recipe.method == "weighted gradients"
        base, words = "PatchCorrected" if recipe.patches else WG if weighted else EG, of_paths | words
    if recipe.smooth is not None:
        words = words | {"smooth": Fraction(recipe.smooth).limit_denominator(1000)}
    return written(base, words)
