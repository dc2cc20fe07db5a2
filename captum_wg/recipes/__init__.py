"""Recipes by price: the best known settings for so many gradients and forwards an image.

    recipes.explain(model, x, references, target, price=60)             # with the first recipe of that price
    choice = recipes.choose(model, images, references, targets, price=60)   # measured on your own model and images
    choice.winner.attribute(x, target=target)
    recipes.table()                                                     # all of them, with what they reached where

A price is the number of gradients (a forward and its backward of one image) and forwards together that a map takes, but
for one forward of the image itself and a few rows of each call in which the model is probed. The best known maps are
those of noisy copies of the image, corrected by what the output loses with each patch; more than 114 of 250 and 364 of
1000 they don't need. They predict removals better than expected gradients of the same price, on three networks (at 20
on two, at 1000 on one; expected gradients corrected alike predict about as well), and by deletion they are no worse
beyond chance. Nor are they by insertion, but at 20 on one network; on it expected gradients are ahead by blocks at 20
and 60 (docs/results.md). Such maps sum to nothing in particular. Expected gradients, which are complete, take one point
on the path from each of up to some fifty references, then more points. Which rule is best depends on the network, so
measure: `choose` does it on a few dozen images.

`table` and `choose` need pandas and scipy (`pip install 'captum-wg[recipes]'`). Shapes: B images (B, C, H, W),
K references, M maps, S sets.
"""

from captum_wg.recipes.choice import Choice, choose
from captum_wg.recipes.known import KINDS, RECIPES, explain, recipes_of, table
from captum_wg.recipes.recipe import Ready, Recipe

__all__ = ["KINDS", "RECIPES", "Choice", "Ready", "Recipe", "choose", "explain", "recipes_of", "table"]
