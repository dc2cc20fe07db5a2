"""The recipes of each price, best known first, and what they reached where."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_wg import baselines
from captum_wg.data_rows import check_enough, n_rows
from captum_wg.engine.checks import check_choice, check_inputs
from captum_wg.engine.targets import Target
from captum_wg.integrals.random import Seed
from captum_wg.recipes.recipe import Ready, Recipe

if TYPE_CHECKING:
    import pandas as pd

SMALL, PHOTOGRAPHS = "small images", "photographs"
KINDS = (SMALL, PHOTOGRAPHS)
# What they reached: columns price, kind, name, corr, D, I, n, source.
FIGURES = Path(__file__).with_name("figures.csv")
# Images whose shorter side has at least so many pixels are photographs.
PHOTOGRAPH_SIDE = 96
# What smoothing is worth was measured with this share of the side; SmoothGrad's maps corrected by so many patches of a
# side lose by it (docs/results.md).
SMOOTH = 3 / 32
_FINE = 8


def _eg(n_references: int, n_steps: int = 1, **more: Any) -> Recipe:
    return Recipe("expected gradients", n_references, n_steps, **more)


# Of each price, best known first.
RECIPES: dict[int, tuple[Recipe, ...]] = {
    20: (
        Recipe("SmoothGrad", 20, 4, patches=4),
        _eg(20),
        _eg(20, staggered=True),
        _eg(11, patches=3),
        Recipe("DeepLift", 10),
        Recipe("integrated gradients", n_steps=20),
        Recipe("patch ablation", patches=4),
    ),
    60: (
        Recipe("SmoothGrad", 60, 24, patches=6),
        _eg(60),
        _eg(60, staggered=True),
        _eg(24, patches=6),
        Recipe("DeepLift", 30),
        Recipe("DeepLift", 12, patches=6),
        Recipe("integrated gradients", n_steps=60),
        Recipe("patch ablation", patches=7),
    ),
    250: (
        Recipe("SmoothGrad", 60, 50, patches=8),
        _eg(50, 5),
        _eg(37, 5, patches=8),
        Recipe("DeepLift", 125),
        Recipe("DeepLift", 93, patches=8),
        Recipe("integrated gradients", n_steps=250),
        Recipe("patch ablation", patches=15),
    ),
    1000: (
        Recipe("SmoothGrad", 60, 300, patches=8),
        _eg(100, 10),
        _eg(187, 5, patches=8),
        Recipe("weighted gradients", 47, 5),
        Recipe("DeepLift", 500),
        Recipe("patch ablation", patches=31),
    ),
}


def recipes_of(price: int, kind: str = SMALL) -> tuple[Recipe, ...]:
    """The recipes of a price, the best known first. For photographs maps of gradients come smoothed, and once more as
    they are at the end: smoothing takes away noise at their size, but not at that of small images. Those corrected by
    8 x 8 or more patches come as they are alone: such maps predict removals worse when they are smoothed.

    Raises:
        ValueError: another price or kind.
    """
    if not isinstance(price, int) or price not in RECIPES:
        raise ValueError(f"price must be one of {tuple(RECIPES)} gradients and forwards an image, got {price!r}")
    check_choice(kind, "kind", KINDS)
    plain = RECIPES[price]
    if kind == SMALL:
        return plain
    variants = [replace(r, smooth=SMOOTH) if r.gradients and r.patches < _FINE else r for r in plain]
    return tuple(dict.fromkeys((*variants, *plain)))


def explain(
    model: Callable[..., Any],
    inputs: Tensor,
    references: Any,
    target: Target = None,
    price: int = 60,
    *,
    kind: str | None = None,
    additional_forward_args: object = None,
    generator: Seed = None,
    **attribute_kwargs: Any,
) -> Any:
    """Maps of images by the best known recipe of a price.

    Args:
        model: any function of images that is explained.
        inputs: (B, C, H, W), floating point.
        references: images that references are drawn from, prepared like the inputs: a Tensor (N, C, H, W), a Dataset or
            whatever `baselines.sample` takes, of all classes. Of fewer than the recipe wants all are taken, for
            expected gradients with more points for each.
        target, additional_forward_args: as in Captum.
        price: 20, 60, 250 or 1000 gradients and forwards an image.
        kind: "small images" or "photographs"; None: by their size.
        generator: of the draw and of noise; None is a fixed seed.
        **attribute_kwargs: as the recipe's method takes them (internal_batch_size, show_progress, ...); smooth stands
            in place of the recipe's.

    The map is `PatchCorrected`: in units of the probability (or of the output, if that is one column), not complete,
    without a convergence delta. By the second recipe of a price for small images,
    recipes_of(price)[1].attribution(model, references), it is complete, in units of the output.

    Returns:
        (B, C, H, W), in an `AttributionResult` if more than that was asked for.

    Raises:
        TypeError, ValueError: inputs that are no images, or with fewer pixels a side than the recipe has patches (4 at
            20, 6 at 60, 8 from 250 on); another price or kind; as the method.
    """
    images = check_images(inputs)
    recipe = recipes_of(price, kind or kind_of(images))[0]
    if min(images.shape[2:]) < recipe.patches:
        raise ValueError(
            f"inputs must be at least {recipe.patches} pixels high and wide at price {price}, got shape "
            f"{tuple(images.shape)}; take recipes_of({price})[1].attribution(model, references), which needs no patches"
        )
    (ready,) = attributions(model, images, references, (recipe,), generator)
    return ready.attribute(inputs, target, additional_forward_args, **attribute_kwargs)


def table() -> pd.DataFrame:
    """All recipes with their settings, their price in gradients and forwards, and what they reached where.

    Returns:
        One row for each recipe, kind of images and network that it was measured on. corr: how well sums of the map
        predict what removals cost (`quantus_ext.PatchDeletionCorrelation`, `SubsetCorrelation`), higher is better; D
        and I: deletion AUC (lower is better) and insertion AUC (higher is better); n: of how many images; source: of
        which network and data. NaN: not measured.

    Raises:
        ImportError: pandas or scipy is not installed.
    """
    pd = import_pandas()
    rows = [
        {
            "price": price,
            "kind": kind,
            "name": recipe.name,
            "method": recipe.method,
            "references": recipe.n_references,
            "steps": recipe.n_steps if recipe.gradients else 0,
            "patches": recipe.patches**2,
            "staggered": recipe.staggered,
            "smooth": recipe.smooth,
            "gradients": recipe.gradients,
            "forwards": recipe.forwards,
        }
        for kind in KINDS
        for price in RECIPES
        for recipe in recipes_of(price, kind)
    ]
    return pd.DataFrame(rows).merge(pd.read_csv(FIGURES), how="left", on=["price", "kind", "name"])


def import_pandas() -> Any:
    """pandas, which only tables and choices need, and with it scipy.

    Raises:
        ImportError: one of them is not installed.
    """
    try:
        import pandas
        import scipy.stats  # noqa: F401
    except ImportError as error:
        raise ImportError("recipes.table and choose need pandas and scipy: pip install 'captum-wg[recipes]'") from error
    return pandas


def check_images(inputs: object, name: str = "inputs", at_least: int = 1) -> Tensor:
    """inputs, images (B, C, H, W)."""
    x, *rest = check_inputs(inputs, name)
    if rest or isinstance(inputs, tuple) or x.ndim != 4 or len(x) < at_least:
        shapes = [tuple(v.shape) for v in (x, *rest)]
        raise ValueError(
            f"{name} must be {f'at least {at_least} ' if at_least > 1 else ''}images, one Tensor (B, C, H, W), got "
            f"{shapes[0] if len(shapes) == 1 else shapes}; the recipes were found for images"
        )
    return x


def kind_of(images: Tensor) -> str:
    return PHOTOGRAPHS if min(images.shape[2:]) >= PHOTOGRAPH_SIDE else SMALL


def attributions(
    model: Callable[..., Any], inputs: Tensor, references: Any, recipes: Iterable[Recipe], generator: Seed
) -> list[Ready]:
    """The recipes with their references, of which those of one are the first of another's; of fewer than they want
    some become the same."""
    size = n_rows(references)
    check_enough(1, size)
    fitting = list(dict.fromkeys(recipe.of_fewer(size) for recipe in recipes))
    most = max((recipe.n_references for recipe in fitting), default=0)
    pool: Any = baselines.sample(references, most, generator)(inputs) if most else None
    if isinstance(generator, torch.Generator):
        generator = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    return [recipe.attribution(model, pool, generator) for recipe in fitting]
