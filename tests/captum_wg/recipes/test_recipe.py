import pytest
import torch
from captum.attr import DeepLift, FeatureAblation, NoiseTunnel

from captum_wg import ExpectedGradients, OverBaselines, PatchCorrected, SmoothGrad, WeightedGradients, recipes
from captum_wg.recipes import RECIPES, Recipe
from captum_wg.smoothing import smoothed_mix

pytestmark = [
    pytest.mark.filterwarnings("error::UserWarning:captum_wg"),
    pytest.mark.filterwarnings("ignore:for examples"),
]
TARGET = [0, 1, 2, 0, 1]


@pytest.mark.parametrize("price", RECIPES)
def test_no_recipe_costs_more_than_its_price(price):
    for recipe in RECIPES[price]:
        # Which is as good for less than half of its price.
        least = 0 if recipe.method == "SmoothGrad" and recipe.patches == 8 else 0.7 * price
        assert least < recipe.gradients + recipe.forwards <= price, recipe.name


@pytest.mark.usefixtures("unprobed")
@pytest.mark.parametrize("price", [20, 60])
def test_a_map_takes_what_its_recipe_says(net, images, references, price):
    for recipe in RECIPES[price]:
        if recipe.method == "DeepLift":
            continue
        net.graded = net.plain = 0
        with torch.no_grad():
            recipe.attribution(net, references).attribute(images, TARGET)
        forwards = net.plain + (0 if recipe.patches or recipe.gradients else net.graded)
        assert net.graded == 5 * recipe.gradients, recipe.name
        # One of the image itself, and of a model that may answer for fewer rows.
        assert 5 * recipe.forwards <= forwards <= 5 * (recipe.forwards + 2), recipe.name


def test_the_search_for_weights_takes_no_more_than_it_says(net, images, references):
    recipe = Recipe("weighted gradients", 4, 2)
    assert (recipe.gradients, recipe.forwards) == (8, 64)
    recipe.attribution(net, references).attribute(images, TARGET)
    assert net.graded >= 5 * 8 and net.plain <= 5 * (64 + 8)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_settings_are_those_of_the_methods_by_hand(net, images, references):
    x, eg = images, ExpectedGradients(net)
    corrected = PatchCorrected(eg, 4)
    grey = x.mean((2, 3), keepdim=True).expand_as(x)
    groups = ((torch.arange(18) * 3 // 18).view(18, 1) * 3 + torch.arange(18) * 3 // 18).expand(1, 3, 18, 18)
    by_hand = {
        Recipe("expected gradients", 7, 3): eg.attribute(x, references[:7], TARGET, n_steps=3),
        Recipe("expected gradients", 7, staggered=True): eg.attribute(
            x, references[:7], TARGET, n_samples=7, sampling="staggered"
        ),
        Recipe("expected gradients", 6, 2, patches=4): corrected.attribute(x, references[:6], TARGET, n_steps=2),
        Recipe("weighted gradients", 4, 2): WeightedGradients(net).attribute(x, references[:4], TARGET, n_steps=2),
        Recipe("integrated gradients", n_steps=9): eg.attribute(x, 0.0, TARGET, n_steps=9),
        Recipe("SmoothGrad", 6, 5): SmoothGrad(net).attribute(x, references[:6], TARGET, n_samples=5),
        Recipe("SmoothGrad", 6, 5, patches=4): PatchCorrected(SmoothGrad(net), 4).attribute(
            x, references[:6], TARGET, n_samples=5
        ),
        Recipe("DeepLift", 6): OverBaselines(DeepLift(net)).attribute(x, references[:6], TARGET),
        Recipe("patch ablation", patches=3): FeatureAblation(net).attribute(x, grey, TARGET, feature_mask=groups),
    }
    for recipe, expected in by_hand.items():
        ready = recipe.attribution(net, references)
        torch.testing.assert_close(ready.attribute(x, TARGET), expected, msg=recipe.name)
        assert ready.recipe is recipe and recipe.name in repr(ready)
    smooth = Recipe("expected gradients", 7, 3, smooth=0.1).attribution(net, references)
    plain = eg.attribute(x, references[:7], TARGET, n_steps=3)
    torch.testing.assert_close(smooth.attribute(x, TARGET), smoothed_mix(plain, 0.1))
    torch.testing.assert_close(smooth.unsmoothed().attribute(x, TARGET), plain)


def test_names_tell_the_settings():
    names = [
        recipe.name for price in RECIPES for kind in recipes.KINDS[1:] for recipe in recipes.recipes_of(price, kind)
    ]
    assert len(set(names)) == len(names)
    for name in (
        "expected gradients, 24 x 1 and 6 x 6 patches",
        "expected gradients, 60 x 1, staggered, smoothed",
        "SmoothGrad, 24 samples and 6 x 6 patches, smoothed",
        "integrated gradients, from zeros, 60 steps",
        "SmoothGrad, 24 samples and 6 x 6 patches",
        "DeepLift, over 30",
        "patch ablation, 7 x 7 patches",
    ):
        assert name in names


@pytest.mark.parametrize(
    ("recipe", "count", "expected"),
    [
        (Recipe("expected gradients", 50, 5), 25, Recipe("expected gradients", 25, 10)),
        (Recipe("expected gradients", 60, staggered=True), 25, Recipe("expected gradients", 25, 2)),
        (Recipe("expected gradients", 37, 5, patches=8), 10, Recipe("expected gradients", 10, 18, patches=8)),
        (Recipe("SmoothGrad", 60, 104, patches=12), 10, Recipe("SmoothGrad", 10, 104, patches=12)),
        (Recipe("DeepLift", 125), 10, Recipe("DeepLift", 10)),
        (Recipe("weighted gradients", 47, 5), 10, Recipe("weighted gradients", 10, 5)),
        (Recipe("expected gradients", 50, 5), 50, Recipe("expected gradients", 50, 5)),
        (Recipe("expected gradients", 50, 5), None, Recipe("expected gradients", 50, 5)),
        (Recipe("patch ablation", patches=7), 1, Recipe("patch ablation", patches=7)),
    ],
)
def test_of_fewer_references_all_with_more_points(recipe, count, expected):
    assert recipe.of_fewer(count) == expected


def test_it_is_an_attribution_for_wrappers(net, images, references):
    ready = Recipe("expected gradients", 7, 3).attribution(net, references)
    found = NoiseTunnel(ready).attribute(images, nt_samples=2, stdevs=0.0, target=TARGET)
    torch.testing.assert_close(found, ready.attribute(images, TARGET))
    assert ready.multiplies_by_inputs
    with pytest.raises(ValueError, match="references are missing: expected gradients, 7 x 3 takes 7"):
        Recipe("expected gradients", 7, 3).attribution(net)
    with pytest.raises(ValueError, match=r"method must be one of .*'DeepLift'.*got 'deeplift'"):
        Recipe("deeplift", 3)
