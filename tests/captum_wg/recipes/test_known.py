import sys
from dataclasses import replace

import pytest
import torch
from torch.utils.data import TensorDataset

from captum_wg import PatchCorrected, SmoothGrad, baselines, recipes
from captum_wg.recipes import RECIPES, Recipe
from captum_wg.smoothing import smoothed_mix

TARGET = [0, 1, 2, 0, 1]


@pytest.mark.parametrize(("price", "samples", "patches"), [(20, 4, 4), (60, 24, 6), (250, 50, 8), (1000, 300, 8)])
def test_explain_is_the_first_recipe_with_drawn_references(net, images, references, price, samples, patches):
    def explain(pool, **more):
        return recipes.explain(net, images, pool, TARGET, price, **more)

    drawn = baselines.sample(references, min(price, 60))
    method = PatchCorrected(SmoothGrad(net), patches)
    expected = method.attribute(images, drawn, TARGET, n_samples=samples)
    torch.testing.assert_close(explain(references), expected)
    torch.testing.assert_close(explain(TensorDataset(references, torch.zeros(70))), expected)
    assert not torch.allclose(explain(references, generator=1), expected)
    few = method.attribute(images, references[:10], TARGET, n_samples=samples)
    torch.testing.assert_close(explain(references[:10]), few)


def test_photographs_are_told_by_their_size_and_smoothed(references):
    wide = torch.randn(1, 1, 96, 120, generator=torch.Generator().manual_seed(0))
    others = torch.randn(20, 1, 96, 120, generator=torch.Generator().manual_seed(1))

    def f(x):
        return x.square().mean((1, 2, 3))

    def explain(side, kind=None):
        return recipes.explain(f, wide[..., :side], others[..., :side], price=20, kind=kind)

    torch.testing.assert_close(explain(120), smoothed_mix(explain(120, "small images"), 3 / 32))
    assert not torch.allclose(explain(120), explain(120, "small images"))
    torch.testing.assert_close(explain(95), explain(95, "small images"))


def test_noise_has_the_seed_of_the_draw(net, images, references):
    def explain(generator):
        return recipes.explain(net, images, references[:60], TARGET, generator=generator)

    # Of 60 references all are taken, whatever the seed, so that the maps differ by the noise.
    first, again, other = explain(1), explain(1), explain(2)
    assert torch.equal(first, again) and not torch.allclose(first, other, rtol=1e-3)
    draws, more = (torch.Generator().manual_seed(7) for _ in range(2))
    assert torch.equal(explain(draws), explain(more)) and not torch.equal(explain(draws), explain(more.manual_seed(7)))


def test_at_photographs_size_what_smoothing_helps_comes_smoothed_first():
    firsts = {price: recipes.recipes_of(price, "photographs")[0] for price in RECIPES}
    assert [(r.method, r.patches, r.smooth is None) for r in firsts.values()] == [
        ("SmoothGrad", 4, False),
        ("SmoothGrad", 6, False),
        ("SmoothGrad", 8, True),
        ("SmoothGrad", 8, True),
    ]
    for price in RECIPES:
        every = recipes.recipes_of(price, "photographs")
        assert len(set(every)) == len(every) and set(RECIPES[price]) <= set(every)
        smoothed = [r for r in every if r.smooth is not None]
        assert {replace(r, smooth=None) for r in smoothed} == {
            r for r in RECIPES[price] if r.gradients and r.patches < 8
        }
        assert every.index(smoothed[-1]) < every.index(replace(smoothed[0], smooth=None))


def test_the_table_has_all_recipes_with_the_figures_that_there_are():
    table = recipes.table()
    for kind in recipes.KINDS:
        for price in RECIPES:
            rows = table[(table["kind"] == kind) & (table["price"] == price)]
            assert rows["name"].drop_duplicates().tolist() == [
                recipe.name for recipe in recipes.recipes_of(price, kind)
            ]
            assert (rows["gradients"] + rows["forwards"] <= price).all()
    measured = table[table["corr"].notna()]
    assert len(measured) and measured["source"].notna().all() and (measured["n"] > 0).all()


def test_all_figures_belong_to_recipes():
    import pandas as pd

    figures = pd.read_csv(recipes.known.FIGURES)
    assert figures.columns.tolist() == ["price", "kind", "name", "corr", "D", "I", "n", "source"]
    keys = ["price", "kind", "name"]
    assert not figures.duplicated([*keys, "source"]).any()
    assert len(figures.merge(recipes.table()[keys].drop_duplicates(), on=keys)) == len(figures)


def test_bad_arguments_are_named(net, images, references):
    with pytest.raises(ValueError, match=r"price must be one of \(20, 60, 250, 1000\) gradients and forwards.*got 100"):
        recipes.explain(net, images, references, TARGET, price=100)
    with pytest.raises(ValueError, match=r"kind must be one of \('small images', 'photographs'\), got 'large'"):
        recipes.explain(net, images, references, TARGET, kind="large")
    for bad in (images[0], (images,), images.flatten(1)):
        with pytest.raises(ValueError, match=r"inputs must be images, one Tensor \(B, C, H, W\)"):
            recipes.explain(net, bad, references, TARGET)
    with pytest.raises(ValueError, match="data is empty"):
        recipes.explain(net, images, references[:0], TARGET)
    with pytest.raises(ValueError, match=r"inputs must be at least 4 pixels high.* at price 20.*take recipes_of\(20\)"):
        recipes.explain(net, images[..., :3, :3], references[..., :3, :3], TARGET, price=20)
    of_four = recipes.explain(lambda x: x.mean((2, 3)), images[..., :4, :4], references[..., :4, :4], 0, price=20)
    assert of_four.shape[2:] == (4, 4)
    for price in ([60], "60"):
        with pytest.raises(ValueError, match="price must be one of"):
            recipes.explain(net, images, references, TARGET, price)


def test_smooth_stands_in_place_of_the_recipes_and_results_keep_their_delta(references):
    wide = torch.randn(2, 1, 96, 120, generator=torch.Generator().manual_seed(0))
    others = torch.randn(4, 1, 96, 120, generator=torch.Generator().manual_seed(1))

    def f(x):
        return x.pow(3).mean((1, 2, 3))

    def explain(**more):
        return recipes.explain(f, wide, others, price=20, **more)

    plain = PatchCorrected(SmoothGrad(f), 4).attribute(wide, baselines.sample(others, 4), n_samples=4)
    torch.testing.assert_close(explain(smooth=None), plain, rtol=0, atol=0)
    torch.testing.assert_close(explain(smooth=3 / 32), explain(kind="photographs"), rtol=0, atol=0)
    torch.testing.assert_close(explain(smooth=0.2), smoothed_mix(plain, 0.2), rtol=0, atol=0)
    with pytest.raises(ValueError, match="smooth must be a number in"):
        explain(smooth=21)
    with pytest.raises(TypeError, match="corrected maps are not complete"):
        explain(return_convergence_delta=True)
    (ready,) = recipes.known.attributions(f, wide, others, (Recipe("expected gradients", 4, smooth=0.2),), 0)
    found, delta = ready.attribute(wide, return_convergence_delta=True)
    torch.testing.assert_close(found, ready.attribute(wide), rtol=0, atol=0)
    torch.testing.assert_close(delta, ready.attribute(wide, smooth=None, return_convergence_delta=True).delta)


@pytest.mark.parametrize("package", ["pandas", "scipy.stats"])
def test_without_the_extra_the_remedy_is_named(package, net, images, references, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    for call in (recipes.table, lambda: recipes.choose(net, images, references, TARGET)):
        with pytest.raises(ImportError, match=r"need pandas and scipy: pip install 'captum-wg\[recipes\]'"):
            call()
