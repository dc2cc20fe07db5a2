import warnings

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from captum.attr import Saliency
from scipy import stats

from captum_wg import ExpectedGradients, recipes
from captum_wg.recipes import Recipe
from captum_wg.recipes.choice import _comparison, _holm

pytestmark = pytest.mark.filterwarnings("ignore:for examples", "ignore:Setting forward", "ignore:Input Tensor")
TARGETS = torch.tensor([0, 1, 2, 0, 1])
EG, FEW = Recipe("expected gradients", 6, 2), Recipe("expected gradients", 3)
IG = Recipe("integrated gradients", n_steps=4)


def literal(net, x, maps, targets, removed, sets, levels):
    """corr and D of each image, one forward at a time: sets: (numbers (H, W) of features, bool (S, P), ranked)."""
    corr, deletion = [], []

    @torch.no_grad()
    def f(image, target):
        return float(net(image[None]).softmax(1)[0, target])

    for i in range(len(x)):
        parts, levels_of = [], []
        for value in removed:
            for numbers, members, ranked in sets:
                sums, drops = [], []
                for own in members:
                    gone = torch.tensor([[bool(own[n]) for n in row] for row in numbers.tolist()])
                    masked = x[i].clone()
                    masked[:, gone] = value[i][:, gone]
                    sums.append(float(maps[i].double()[:, gone].sum()))
                    drops.append(f(x[i], targets[i]) - f(masked, targets[i]))
                parts.append((stats.spearmanr if ranked else stats.pearsonr)(sums, drops).statistic)
            order = maps[i].sum(0).flatten().argsort(descending=True, stable=True)
            for level in range(1, levels + 1):
                masked = x[i].flatten(1).clone()
                first = order[: round(level / levels * len(order))]
                masked[:, first] = value[i].flatten(1)[:, first]
                levels_of.append(f(masked.view_as(x[i]), targets[i]))
        corr.append(np.mean(parts))
        deletion.append(np.mean(levels_of))
    return np.array(corr), np.array(deletion)


def test_the_judges_one_forward_at_a_time(net, images, references):
    x, targets, n_subsets, levels = images[:3], TARGETS[:3], 6, 5
    other = torch.randn(3, 18, 18, generator=torch.Generator().manual_seed(5)).expand(3, 3, 18, 18)
    found = recipes.choose(
        net, x, references, targets, candidates=[EG, IG], removals=[0.3, other], n_subsets=n_subsets, levels=levels
    )
    draws = torch.Generator().manual_seed(0)
    place = torch.arange(18)
    grids = {n: (place * n // 18).view(18, 1) * n + place * n // 18 for n in (5, 9)}
    pixels = torch.arange(18 * 18).view(18, 18)
    subsets = [
        torch.stack([torch.randperm(p, generator=draws) for _ in range(n_subsets)]) < size
        for p, size in ((324, 65), (81, 16))
    ]
    sets = [
        (grids[5], torch.eye(25, dtype=torch.bool), True),
        (grids[9], torch.eye(81, dtype=torch.bool), True),
        (pixels, subsets[0], False),
        (grids[9], subsets[1], False),
    ]
    maps = ExpectedGradients(net).attribute(x, 0.0, targets, n_steps=4)
    removed = [torch.full_like(x, 0.3), other]
    corr, deletion = literal(net, x, maps, targets.tolist(), removed, sets, levels)
    np.testing.assert_allclose(found.scores["corr"][IG.name], corr, atol=1e-4)
    np.testing.assert_allclose(found.scores["D"][IG.name], deletion, atol=1e-4)


def test_the_winner_is_best_by_corr_and_ready(net, images, references):
    found = recipes.choose(net, images, references, TARGETS, 20, n_subsets=20, levels=4)
    table = found.table
    assert table["corr"].iloc[1:].is_monotonic_decreasing and found.winner.recipe.name == table.index[0]
    assert set(table.index) == {recipe.name for recipe in recipes.RECIPES[20]} and not found.left_out
    maps = found.winner.attribute(images, target=TARGETS)
    assert maps.shape == images.shape
    again = recipes.choose(net, images, references, TARGETS, 20, n_subsets=20, levels=4)
    pd.testing.assert_frame_equal(found.scores, again.scores)
    other = recipes.choose(net, images, references, TARGETS, 20, n_subsets=20, levels=4, seed=1)
    assert not found.scores.equals(other.scores)
    assert found.verdict in str(found) and table.index[0] in found.verdict


@pytest.mark.usefixtures("unprobed")
def test_more_candidates_cost_no_more_forwards_of_sets(net, images, references):
    def forwards(candidates):
        net.plain = 0
        recipes.choose(net, images, references, TARGETS, candidates=candidates, n_subsets=10, levels=4)
        return net.plain

    one, three = forwards([EG]), forwards([EG, IG, FEW])
    # Of each image and removal, four levels for each candidate; of each image itself, once for each walk.
    assert three - one <= 2 * 5 * 2 * (4 + 1) + 2 * 5
    assert one >= 5 * 2 * (25 + 81 + 20 + 4)


def test_smoothing_costs_no_gradients(net, images, references):
    smooth = Recipe("expected gradients", 6, 2, smooth=0.1)
    net.graded = 0
    recipes.choose(net, images, references, TARGETS, candidates=[EG], n_subsets=5, levels=2)
    alone, net.graded = net.graded, 0
    found = recipes.choose(net, images, references, TARGETS, candidates=[EG, smooth], n_subsets=5, levels=2)
    assert net.graded == alone and len(found.table) == 2
    direct = recipes.choose(net, images, references, TARGETS, candidates=[smooth], n_subsets=5, levels=2)
    pd.testing.assert_series_equal(direct.scores["corr", smooth.name], found.scores["corr", smooth.name])


def test_fewer_references_make_the_same_recipes_one(net, images, references):
    found = recipes.choose(net, images, references[:10], TARGETS, 20, n_subsets=5, levels=2)
    names = found.table.index.tolist()
    assert "expected gradients, 10 x 2" in names and len(names) == 6


def test_others_are_judged_too_and_may_win(net, images, references):
    constant = Recipe("patch ablation", patches=1)

    def saliency(x, y):
        return Saliency(net).attribute(x, y).mean(1, keepdim=True)

    def integrated(x, y):
        return IG.attribution(net).attribute(x, y)

    found = recipes.choose(
        net,
        images,
        references,
        TARGETS,
        candidates=[constant],
        others={"saliency": saliency, "integrated": integrated},
        n_subsets=9,
        levels=2,
    )
    assert set(found.table.index) == {constant.name, "saliency", "integrated"}
    assert (found.scores["corr", constant.name].abs() < 0.1).all()  # patches of unequal size
    assert found.table.index[0] == "integrated" and found.winner is integrated
    assert np.isnan(found.table.loc["saliency", "gradients"]) and found.table.loc[constant.name, "forwards"] == 1


class Functional(torch.nn.Module):
    def __init__(self, net, twice=False):
        super().__init__()
        self.net, self.twice = net, twice

    def forward(self, x):
        h = self.net.first(x)
        h = self.net.relu(self.net.relu(h) - 0.1) if self.twice else F.relu(h)
        return self.net.last(self.net.pool(h).flatten(1))


@pytest.mark.filterwarnings("error:.*is not complete for this model")
@pytest.mark.parametrize(
    ("twice", "reason"), [(False, "is not complete for this model"), (True, "needs a module of its own")]
)
def test_what_the_model_does_not_allow_is_left_out_and_said(net, images, references, twice, reason):
    deep, fine, smooth = Recipe("DeepLift", 3), Recipe("patch ablation", patches=19), Recipe("DeepLift", 3, smooth=0.1)
    found = recipes.choose(
        Functional(net, twice), images, references, TARGETS, candidates=[IG, smooth, deep, fine], n_subsets=5, levels=2
    )
    assert found.table.index.tolist() == [IG.name] and set(found.left_out) == {deep.name, fine.name}
    assert reason in found.left_out[deep.name] and "more patches than images" in found.left_out[fine.name]
    assert f"Left out: {deep.name}" in str(found)
    function = recipes.choose(
        lambda x: net(x), images, references, TARGETS, candidates=[IG, deep], n_subsets=5, levels=2
    )
    assert function.left_out[deep.name] == "DeepLift needs an nn.Module"
    with pytest.raises(ValueError, match="no candidate is left"):
        recipes.choose(lambda x: net(x), images, references, TARGETS, candidates=[deep], n_subsets=5, levels=2)


class OnABuffer(torch.nn.Module):
    """Another ReLU, called on what is no function of the inputs."""

    def __init__(self, net):
        super().__init__()
        self.net, self.relu = net, torch.nn.ReLU()
        self.register_buffer("offset", torch.zeros(1))

    def forward(self, x):
        return self.net(x) + self.relu(self.offset)


def test_a_rule_that_deep_lift_lacks_leaves_it_out(net, images, references):
    deep = Recipe("DeepLift", 3)
    found = recipes.choose(OnABuffer(net), images, references, TARGETS, candidates=[IG, deep], n_subsets=5, levels=2)
    assert "has no rule for a non-linear module" in found.left_out[deep.name]


class Full(torch.nn.Module):
    """Too many rows at once that want gradients, as on a full device, or a word of its own about them."""

    def __init__(self, net, fail):
        super().__init__()
        self.net, self.fail = net, fail

    def forward(self, x):
        if torch.is_grad_enabled() and len(x) > 3:
            self.fail()
        return self.net(x)


def out_of_memory():
    raise torch.cuda.OutOfMemoryError("out of memory")


@pytest.mark.parametrize(
    ("fail", "error"),
    [(out_of_memory, torch.cuda.OutOfMemoryError), (lambda: warnings.warn("slow", stacklevel=1), UserWarning)],
)
@pytest.mark.filterwarnings("error:slow")
def test_what_is_not_of_deep_lifts_making_is_raised(net, images, references, fail, error):
    with pytest.raises(error):
        recipes.choose(
            Full(net, fail),
            images,
            references,
            TARGETS,
            candidates=[IG, Recipe("DeepLift", 3)],
            n_subsets=5,
            levels=2,
            internal_batch_size=3,
        )


def scores(**columns):
    made = {("corr", name): corr for name, (corr, _) in columns.items()}
    return pd.DataFrame(made | {("D", name): deletion for name, (_, deletion) in columns.items()})


def test_means_intervals_and_paired_tests():
    rng = np.random.default_rng(0)
    a, b, c = rng.normal(0.3, 0.1, 20), rng.normal(0.4, 0.1, 20), rng.normal(0.1, 0.1, 20)
    made = _comparison(scores(a=(a, -a), b=(b, -b), c=(c, -c)))
    assert made.index.tolist() == ["b", "a", "c"]
    assert made.loc["a", "corr"] == pytest.approx(a.mean())
    low, high = stats.t.interval(0.95, 19, a.mean(), stats.sem(a))
    assert (made.loc["a", "corr_low"], made.loc["a", "corr_high"]) == pytest.approx((low, high))
    first, second = stats.ttest_rel(a, b).pvalue, stats.ttest_rel(c, b).pvalue
    assert second < first
    assert made.loc["c", "corr_p"] == pytest.approx(2 * second)
    assert made.loc["a", "corr_p"] == pytest.approx(max(2 * second, first))
    assert np.isnan(made.loc["b", "corr_p"]) and np.isnan(made.loc["b", "D_p"])
    assert made.loc["c", "D_p"] == pytest.approx(2 * stats.ttest_rel(-c, -b).pvalue)
    same = _comparison(scores(a=(a, a), b=(a, a)))
    assert same.loc["b", "corr_p"] == 1


def test_holm_by_hand():
    np.testing.assert_allclose(_holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06])
    np.testing.assert_allclose(_holm([0.5, 0.6]), [1, 1])
    assert len(_holm([])) == 0


def test_the_verdict_says_what_is_chance():
    rng = np.random.default_rng(0)
    a = rng.normal(0.3, 0.1, 20)
    near, far = a - rng.normal(0.001, 0.05, 20), a - rng.normal(0.2, 0.01, 20)

    def verdict(**columns):
        of_images = scores(**columns)
        return recipes.Choice(_comparison(of_images), of_images, None, {}).verdict

    text = verdict(a=(a, a), far=(far, a))
    assert "a is best: corr 0." in text and "n = 20. The other is worse by corr beyond chance (p < 0.05)." in text
    assert "All 2 others are worse" in verdict(a=(a, a), far=(far, a), farther=(far - 0.1, a))
    some = verdict(a=(a, a), near=(near, a), far=(far, a))
    assert "The difference by corr from these is chance (p >= 0.05): near." in some
    assert "No difference by corr is more than chance makes of so few images" in verdict(a=(a, a), near=(near, a))
    assert verdict(a=(a, a)).endswith("n = 20.")


def test_the_best_by_corr_is_passed_over_where_deletion_finds_it_worse():
    rng = np.random.default_rng(0)
    a, d = rng.normal(0.3, 0.1, 20), rng.normal(0.1, 0.02, 20)
    coarse, fine, poor = (
        (a + 0.1, d + rng.normal(0.1, 0.02, 20)),
        (a, d),
        (a - rng.normal(0.2, 0.01, 20), rng.permutation(d)),
    )
    of_images = scores(coarse=coarse, fine=fine, poor=poor)
    table = _comparison(of_images)
    assert table.index.tolist() == ["fine", "coarse", "poor"]
    found = recipes.Choice(table, of_images, None, {})
    assert found.passed_over == ["coarse"] and found.tied == []
    assert "fine is best" in found.verdict and "worse by D beyond chance: coarse. The other is worse" in found.verdict
    # Not where that is chance.
    chance = scores(coarse=(a + 0.1, d + rng.normal(0, 0.02, 20)), fine=fine)
    assert _comparison(chance).index[0] == "coarse"


def test_bad_arguments_are_named(net, images, references):
    with pytest.raises(ValueError, match=r"images must be at least 3 images, one Tensor \(B, C, H, W\)"):
        recipes.choose(net, images[:2], references, TARGETS[:2])
    with pytest.raises(ValueError, match="removals is empty"):
        recipes.choose(net, images, references, TARGETS, removals=[])
    with pytest.raises(ValueError, match="n_subsets must be a whole number of at least 3, got 2"):
        recipes.choose(net, images, references, TARGETS, n_subsets=2)
    with pytest.raises(ValueError, match="levels must be a whole number"):
        recipes.choose(net, images, references, TARGETS, levels=0)
    with pytest.raises(ValueError, match="images must be at least 9 pixels high and wide"):
        recipes.choose(net, images[:, :, :8], references, TARGETS)
    with pytest.raises(ValueError, match=r"others\['bad'\] must return maps"):
        recipes.choose(
            net, images, references, TARGETS, candidates=[IG], others={"bad": lambda x, y: x[0]}, n_subsets=5, levels=1
        )
    with pytest.raises(ValueError, match="maps of 'bad' of examples 0, 1, 2, 3, 4 are NaN"):
        recipes.choose(
            net, images, references, TARGETS, candidates=[IG], others={"bad": lambda x, y: x / 0}, n_subsets=5, levels=1
        )
    with pytest.raises(ValueError, match=r"others has names of recipes, \['expected gradients, 6 x 2'\]"):
        recipes.choose(net, images, references, TARGETS, candidates=[EG], others={EG.name: lambda x, y: x})
    with pytest.raises(TypeError, match="others must be a dict of functions by name, got list"):
        recipes.choose(net, images, references, TARGETS, others=[lambda x, y: x])
    with pytest.raises(TypeError, match=r"candidates must be of Recipe.*got 'DeepLift'"):
        recipes.choose(net, images, references, TARGETS, candidates=["DeepLift"])
    for seed in ("0", torch.Generator(), True):
        with pytest.raises(TypeError, match="seed must be a whole number, got"):
            recipes.choose(net, images, references, TARGETS, seed=seed)


def test_one_removal_needs_no_tuple(net, images, references):
    one, several = (
        recipes.choose(net, images, references, TARGETS, candidates=[EG], removals=r, n_subsets=5, levels=2).scores
        for r in ("blur", ("blur",))
    )
    pd.testing.assert_frame_equal(one, several)
