"""The recipe of a price that is best on a user's own model and images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.engine.checks import check_finite, check_positive_int
from captum_wg.engine.gradient import input_gradients
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.engine.tensors import finest
from captum_wg.patch_correction import grid
from captum_wg.recipes.known import attributions, check_images, import_pandas, kind_of, recipes_of
from captum_wg.recipes.recipe import Ready, Recipe
from captum_wg.smoothing import smoothed_mix
from captum_wg.weighting.masking import Features, Neutral, ranks
from captum_wg.weighting.output import Output
from captum_wg.weighting.removal_scores import removal_scores

if TYPE_CHECKING:
    import pandas as pd

# Grids that no recipe removes the patches of.
_JUDGED_GRIDS = (5, 9)
_SHARE = 0.2
_LEVEL = 0.05
_JUDGES = ("corr", "D")


@dataclass(frozen=True, eq=False)
class Choice:
    """What `choose` found.

    Attributes:
        table: a row for each candidate, the winner first and the others by corr: gradients, forwards; the means corr
            and D with their 95 % intervals (corr_low, ...), and corr_p and D_p, of a paired t-test against the winner,
            after Holm's correction over the column (NaN: the winner).
        scores: corr and D of each image, with columns (judge, candidate).
        winner: the attribution, of which only inputs and target are left to say.
        left_out: candidates that this model does not allow, smoothed or not, and why.
    """

    table: pd.DataFrame
    scores: pd.DataFrame
    winner: Any
    left_out: Mapping[str, str]

    @property
    def passed_over(self) -> list[str]:
        """The rivals with a higher corr than the winner's, which deletion finds worse than the best beyond chance."""
        return [str(name) for name in self.table.index[self.table["corr"] > self.table["corr"].iloc[0]]]

    @property
    def tied(self) -> list[str]:
        """The other rivals that corr does not find worse than the winner beyond chance (p >= 0.05)."""
        near = self.table.index[self.table["corr_p"] >= _LEVEL]
        return [str(name) for name in near if name not in self.passed_over]

    @property
    def verdict(self) -> str:
        """Who is best, and whether that is more than chance."""
        best, n = self.table.iloc[0], len(self.scores)
        passed_over, tied, rivals = self.passed_over, self.tied, len(self.table) - 1
        words = f"{best.name} is best: corr {best['corr']:.3f} ({best['corr_low']:.3f} to {best['corr_high']:.3f}), "
        words += f"D {best['D']:.3f} ({best['D_low']:.3f} to {best['D_high']:.3f}), n = {n}."
        if passed_over:
            words += f" Passed over, higher by corr, but worse by D beyond chance: {'; '.join(passed_over)}."
        if len(tied) == rivals > 0:
            words += f" No difference by corr is more than chance makes of so few images (p >= {_LEVEL}):"
            words += " take more of them, or the cheapest."
        elif tied:
            words += f" The difference by corr from these is chance (p >= {_LEVEL}): {'; '.join(tied)}."
        elif rest := rivals - len(passed_over):
            others = "The other is" if rest == 1 else f"All {rest} others are"
            words += f" {others} worse by corr beyond chance (p < {_LEVEL})."
        return words

    def __str__(self) -> str:
        left_out = [f"Left out: {name} ({shorten(reason, 200)})" for name, reason in self.left_out.items()]
        return "\n".join([self.verdict, "", self.table.to_string(float_format="{:.3g}".format), *left_out])


def choose(
    model: Callable[..., Any],
    images: Tensor,
    references: Any,
    targets: Target,
    price: int = 60,
    *,
    kind: str | None = None,
    candidates: Iterable[Recipe] | None = None,
    others: Mapping[str, Callable[..., Tensor]] | None = None,
    removals: Sequence[Neutral] | str | None = None,
    n_subsets: int = 64,
    levels: int = 20,
    output: Output = "auto",
    seed: int = 0,
    additional_forward_args: object = None,
    internal_batch_size: int | None = None,
    show_progress: bool | None = None,
) -> Choice:
    """The recipe of a price that is best on your own model and images.

    Each candidate explains all images. Its maps are judged by

        corr    how well its sums over sets of pixels go with what their removal costs: the mean of Spearman's
                correlation over single patches of grids of 5 x 5 and of 9 x 9, and of Pearson's over random subsets of
                a fifth of the pixels and of the patches;
        D       the mean output while pixels are removed in the map's order, in `levels` equal parts.

    Both are means over removals. The sets, and so the forwards for corr, are the same for all candidates, and no
    candidate is made of these patches or removals. The winner has the highest mean corr of those whose D is not higher
    than the lowest beyond chance: coarse patches may predict removals well, and yet not say which pixels count. Its
    mean is flattered a little, being the highest of several: measure it on other images if it matters.

    Args:
        model, references, kind, additional_forward_args: as in `explain`.
        images: (B, C, H, W), a few dozen that the model gets right; at least 3.
        targets: their classes, in Captum's forms.
        price: 20, 60, 250 or 1000 gradients and forwards an image.
        candidates: other recipes than those of the price.
        others: maps to compare with, whatever they cost: functions (images, targets) -> (B, C or 1, H, W) by name.
        removals: what removed pixels are replaced by, in the forms of `Deletion`'s neutral; None: the blurred image,
            and noise of its channels' mean and spread.
        n_subsets: how many random subsets of each kind.
        output: f out of the model's output at the targets: as in `Deletion`.
        seed: of the draw of references, subsets and noise.
        internal_batch_size, show_progress: as in `ExpectedGradients.attribute`.

    Returns:
        A `Choice`; print it. (106 + 2 n_subsets) forwards an image and removal, `levels` for each candidate and
        removal, and what the candidates cost.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it. No candidate is left.
        ImportError: pandas or scipy is not installed.
    """
    pd = import_pandas()
    from captum_wg.weighting.set_sums import correlations, set_sums

    x = check_images(images, "images", at_least=3)
    if check_positive_int(n_subsets, "n_subsets") < 3:
        raise ValueError(f"n_subsets must be a whole number of at least 3, got {n_subsets}")
    if min(x.shape[2:]) < max(_JUDGED_GRIDS):
        raise ValueError(f"images must be at least {max(_JUDGED_GRIDS)} pixels high and wide, got {tuple(x.shape)}")
    check_positive_int(levels, "levels")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be a whole number, got {seed!r}")
    kind = kind or kind_of(x)
    chosen = recipes_of(price, kind) if candidates is None else tuple(candidates)
    if strangers := [c for c in chosen if not isinstance(c, Recipe)]:
        raise TypeError(f"candidates must be of Recipe; give other methods by others, got {strangers[0]!r}")
    if others is not None and not isinstance(others, Mapping):
        raise TypeError(f"others must be a dict of functions by name, got {type(others).__name__}")
    if isinstance(removals, str):
        removals = (removals,)
    removals = ("blur", _Noise(seed)) if removals is None else tuple(removals)
    if not removals:
        raise ValueError("removals is empty; give at least one form, such as 'blur', or leave it out")
    ready = attributions(model, x, references, chosen, seed)
    if taken := sorted({one.recipe.name for one in ready} & set(others or {})):
        raise ValueError(f"others has names of recipes, {taken}; give other names")
    problem = Problem(
        model, input_gradients, x, targets, additional_forward_args, internal_batch_size, show_progress, "choose"
    )
    problem.probe(format_baselines(None, problem.inputs, False, None))

    pixels = Features((x,))
    grids = [Features((x,), grid((x,), n)) for n in _JUDGED_GRIDS]
    draws = torch.Generator().manual_seed(seed)
    judged = [
        *((features, torch.eye(features.count, dtype=torch.bool), True) for features in grids),
        *((features, _subsets(features.count, n_subsets, draws), False) for features in (pixels, grids[-1])),
    ]
    drops = [
        [removal_scores(problem, features, sets, removal, output).drops.cpu().double().numpy() for removal in removals]
        for features, sets, _ in judged
    ]

    def judge(maps: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """corr and D of one candidate's maps, (B,) each."""
        corr = np.zeros(len(x))
        for (features, sets, ranked), of_removals in zip(judged, drops, strict=True):
            sums = set_sums(features.scores((maps.to(finest(maps.device)),)).cpu().double(), sets)
            corr += sum(correlations(sums, own, ranked) for own in of_removals)
        sizes = torch.linspace(0, pixels.count, levels + 1)[1:].round().to(x.device)
        gone = ranks(pixels.scores((maps,))).unsqueeze(1) < sizes.view(1, -1, 1)
        after = [removal_scores(problem, pixels, gone, removal, output).after.mean(1) for removal in removals]
        return corr / (len(judged) * len(removals)), torch.stack(after).mean(0).cpu().double().numpy()

    scores: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    left_out: dict[str, str] = {}
    plain: dict[Recipe, Tensor] = {}  # smoothing costs nothing
    more = {"internal_batch_size": internal_batch_size, "show_progress": show_progress}
    for one in ready:
        recipe, bare = one.recipe, one.unsmoothed()
        if bare.recipe.name in left_out:
            continue
        try:
            if bare.recipe not in plain:
                plain[bare.recipe] = _maps(bare, model, x, targets, additional_forward_args, more)
        except _LeftOut as error:
            left_out[bare.recipe.name] = str(error)
            continue
        maps = plain[bare.recipe]
        scores[recipe.name] = judge(maps if recipe.smooth is None else smoothed_mix(maps, recipe.smooth))
    for name, function in (others or {}).items():
        scores[name] = judge(_checked(function(x, targets), x, name))
    if not scores:
        raise ValueError(f"no candidate is left: {left_out}; give others by candidates or others")

    of_images = pd.DataFrame(
        {(judge_, name): values for name, both in scores.items() for judge_, values in zip(_JUDGES, both, strict=True)}
    )
    table = _comparison(of_images[list(_JUDGES)])
    by_name = {one.recipe.name: one for one in ready}
    prices = [by_name[name].recipe if name in by_name else None for name in table.index]
    table.insert(0, "gradients", [np.nan if r is None else r.gradients for r in prices])
    table.insert(1, "forwards", [np.nan if r is None else r.forwards for r in prices])
    return Choice(table, of_images, by_name.get(table.index[0]) or (others or {})[table.index[0]], left_out)


class _LeftOut(Exception):
    """A candidate that this model or these images don't allow."""


class _Noise:
    """Noise of each image's channels' mean and spread, the same for all images but for these."""

    def __init__(self, seed: int):
        self._seed = seed

    def __call__(self, x: Tensor) -> Tensor:
        field = torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(self._seed)).to(x)
        return x.mean((2, 3), keepdim=True) + x.std((2, 3), keepdim=True) * field


def _maps(
    ready: Ready, model: Callable[..., Any], x: Tensor, targets: Target, args: object, more: dict[str, Any]
) -> Tensor:
    """The maps of a candidate.

    Raises:
        _LeftOut: it can't be, or would be plain gradients in part.
    """
    recipe = ready.recipe
    if recipe.patches > min(x.shape[2:]):
        raise _LeftOut(f"more patches than images of shape {tuple(x.shape[1:])} have pixels")
    if recipe.method != "DeepLift":
        maps: Tensor = ready.attribute(x, targets, args, **more)
        return maps
    if not isinstance(model, nn.Module):
        raise _LeftOut("DeepLift needs an nn.Module")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*is not complete for this model")
        try:
            maps = ready.attribute(x, targets, args, **more)
        except UserWarning as error:
            if "is not complete" not in str(error):
                raise
            raise _LeftOut(str(error)) from error
        except ValueError as error:  # OverBaselines says what DeepLift can't do with this model
            raise _LeftOut(str(error)) from error
    return maps


def _checked(maps: object, x: Tensor, name: str) -> Tensor:
    """Maps that another function made."""
    shape = tuple(maps.shape) if isinstance(maps, Tensor) else type(maps).__name__
    if not isinstance(maps, Tensor) or shape not in (tuple(x.shape), (len(x), 1, *x.shape[2:])):
        raise ValueError(f"others[{name!r}] must return maps (B, C or 1, H, W) of images {tuple(x.shape)}, got {shape}")
    check_finite((maps,), f"maps of {name!r}")
    return maps.detach().to(x)


def _subsets(n_features: int, n_subsets: int, draws: torch.Generator) -> Tensor:
    """Random subsets of a fifth of the features, bool (S, P)."""
    size = max(1, round(_SHARE * n_features))
    places = torch.stack([torch.randperm(n_features, generator=draws) for _ in range(n_subsets)])
    return places < size


def _comparison(scores: pd.DataFrame) -> pd.DataFrame:
    """Means of scores, with columns (judge, candidate), their intervals, and p against the winner, who is first.

    The winner has the highest corr of those whose D is not higher than the lowest beyond chance.
    """
    import pandas as pd
    from scipy import stats

    n, means = len(scores), scores.mean()
    by_corr = means["corr"].sort_values(ascending=False, kind="stable").index
    worse = _against(scores["D"], means["D"].idxmin()) < _LEVEL
    winner = next(name for name in by_corr if not worse.get(name, False))
    order = [winner, *(name for name in by_corr if name != winner)]
    columns: dict[str, Any] = {}
    for judge in _JUDGES:
        of_one = scores[judge][order]
        mean, half = of_one.mean(), stats.t.ppf(0.975, n - 1) * of_one.sem()
        columns |= {judge: mean, f"{judge}_low": mean - half, f"{judge}_high": mean + half}
        columns[f"{judge}_p"] = _against(of_one, winner)
    return pd.DataFrame(columns, index=order)


def _against(scores: pd.DataFrame, reference: Any) -> pd.Series:
    """p of each other candidate's scores against those of one, after Holm's correction."""
    import pandas as pd

    others = [name for name in scores if name != reference]
    found = [_p((scores[name] - scores[reference]).to_numpy()) for name in others]
    return pd.Series(_holm(found), index=others, dtype=float)


def _p(differences: np.ndarray) -> float:
    """Of a two-sided t-test of mean 0; 1 where all differences are 0."""
    from scipy import stats

    return float(stats.ttest_1samp(differences, 0).pvalue) if np.ptp(differences) > 0 else float(not differences.any())


def _holm(p: Sequence[float]) -> np.ndarray:
    """p after Holm's correction: the i-th smallest of m, times m - i + 1, never below a smaller one's."""
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1)).clip(max=1)
    corrected = np.empty(len(p))
    corrected[order] = raised
    return corrected
