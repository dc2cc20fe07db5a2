import numpy as np
import pytest
import torch

from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.of_recipes import row_of
from benchmarks.methods.rows import method
from benchmarks.run.errors import BenchmarkError
from captum_wg.recipes import KINDS, RECIPES, recipes_of
from captum_wg.recipes.recipe import Recipe


def test_every_recipe_is_a_row():
    recipes = [one for price in RECIPES for kind in KINDS for one in recipes_of(price, kind)]
    names = [row_of(one) for one in recipes]
    settings = MethodSettings(n_baselines=1000)
    assert [method(name, settings).name for name in names] == names
    assert len(set(names)) == len(set(recipes))


@pytest.mark.parametrize("recipe", [Recipe("SmoothGrad", 3, 5), Recipe("weighted gradients", 3, 2, patches=4)])
def test_a_recipe_without_a_row_is_no_other_row(recipe):
    with pytest.raises(BenchmarkError, match=f"no row is the recipe {recipe.name}"):
        row_of(recipe)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe("expected gradients", 3, 2),
        Recipe("expected gradients", 4, staggered=True),
        Recipe("expected gradients", 3, 2, patches=4),
        Recipe("expected gradients", 3, 2, smooth=3 / 32),
        Recipe("weighted gradients", 3, 2),
        Recipe("integrated gradients", n_steps=4),
        Recipe("DeepLift", 3),
        Recipe("SmoothGrad", 3, 5, patches=4),
        Recipe("DeepLift", 3, patches=4),
        Recipe("patch ablation", patches=4),
    ],
    ids=lambda recipe: recipe.name,
)
def test_the_row_has_the_recipe_s_map(recipe, tiny_model, tiny_batch):
    x, target = torch.from_numpy(tiny_batch[0][:2]), torch.from_numpy(tiny_batch[1][:2])
    references = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    expected = recipe.attribution(tiny_model, references).attribute(x, target, internal_batch_size=8)
    batch = Batch(tiny_model, x, target, ("a", "b"), references, internal_batch_size=8)
    row = method(row_of(recipe), MethodSettings(n_baselines=4))
    values = [own.make(batch) for own in row.ingredients if not own.needs]
    if len(row.ingredients) > 1:
        values.append(row.ingredients[1].make(batch, *values))
    for i in range(2):
        found = row.combine(x[i], tuple(value[i] for value in values), np.random.default_rng(0))
        assert found == pytest.approx(expected[i].numpy(), rel=1e-3, abs=1e-5 * float(expected[i].abs().max()))
