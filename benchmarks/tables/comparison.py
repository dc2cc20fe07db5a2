"""Comparing methods on the same images: paired tests, bootstrap intervals, Holm's correction.

For the scores a_i of a reference and b_i of a method, i = 1 ... n the images that have both,

    improvement    mean(b) / mean(a) - 1, with the sign turned where lower scores are better
    low, high      its 95 % bootstrap interval, images resampled in pairs
    t_p            two-sided paired t-test of mean(b - a) = 0
    wilcoxon_p     Wilcoxon's signed ranks of b - a, two-sided
    *_holm         the same p after Holm's correction over all rows of the table

What can't be computed is NaN: of less than two images, of differences that are all the same, and the relative change of
scores that can be negative, such as correlations, where relative to a mean about 0 it would say nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

TESTS = ("t", "wilcoxon")
COLUMNS = (
    *("model", "judge", "method", "reference", "n", "reference_mean", "reference_std", "mean", "std"),
    *("improvement", "low", "high", "t_p", "t_holm", "wilcoxon_p", "wilcoxon_holm"),
)
# The p below which a method is worse than the best of its column.
SIGNIFICANT = 0.01
# Images beyond which the bootstrap is another one; numbers of its resamples that are in memory at a time.
LARGE, NUMBERS = 1000, 2**22


def compare(
    scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], higher_is_better: Mapping[str, bool | None], seed: int = 0
) -> pd.DataFrame:
    """Each method against its reference, for each model and judge: a row of `COLUMNS` for each comparison.

    Args:
        scores: one row for each model, method, judge and image, with the columns model, method, judge, image, score.
        pairs: (reference, method); those that the scores lack are left out.
        higher_is_better: the judges, in the table's order.
        seed: of the bootstrap.
    """
    rows = []
    for model in scores["model"].drop_duplicates():
        # Of tens of thousands of images the intervals take a while.
        for judge, higher in tqdm(higher_is_better.items(), desc=f"{model}: table", unit="judge", leave=False, delay=5):
            of_judge = wide(scores, model, judge)
            for reference, method in pairs:
                if reference in of_judge and method in of_judge:
                    found = paired(of_judge[reference], of_judge[method], higher, seed)
                    rows.append({"model": model, "judge": judge, "method": method, "reference": reference, **found})
    return corrected(pd.DataFrame(rows, columns=list(COLUMNS)))


def wide(scores: pd.DataFrame, model: str, judge: str) -> pd.DataFrame:
    """A model's scores by a judge: a row for each image, in the order of their names, and a column for each method."""
    part = scores.loc[(scores["model"] == model) & (scores["judge"] == judge), ["image", "method", "score"]]
    text = part.astype({"image": object, "method": object})
    return text.pivot(index="image", columns="method", values="score")


def paired(
    reference: Sequence[float] | pd.Series,
    scores: Sequence[float] | pd.Series,
    higher_is_better: bool | None = True,
    seed: int = 0,
    resamples: int = 9999,
) -> dict[str, float]:
    """Scores (N,) against the reference's (N,) of the same images: n ... t_p and wilcoxon_p of `COLUMNS`.

    Raises:
        ValueError: they are not of the same images.
    """
    a, b = np.asarray(reference, dtype=float), np.asarray(scores, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired scores must be two lists of one length, got shapes {a.shape} and {b.shape}")
    a, b = np.stack([a, b])[:, np.isfinite(a) & np.isfinite(b)]
    change = low = high = np.nan
    if len(a) and min(a.min(), b.min()) >= 0:
        with np.errstate(all="ignore"):  # of a mean of 0
            change = float(_relative_change(a, b))
        if len(a) > 1:
            low, high = bootstrap((a, b), _relative_change, seed, resamples)
    if not higher_is_better:
        change, low, high = -change, -high, -low
    # Of no spread but rounding the t-test makes p = 0, however few images there are.
    rounding = 4 * np.finfo(float).eps * max(np.abs(a).max(initial=0), np.abs(b).max(initial=0))
    of_each = {"reference_mean": mean(a), "reference_std": deviation(a), "mean": mean(b), "std": deviation(b)}
    of_change = {"improvement": change, "low": low, "high": high}
    return {"n": len(a), **of_each, **of_change, **p_values(b - a, rounding)}


def against_best(scores: pd.DataFrame, higher: bool) -> pd.DataFrame:
    """Each method of scores (images, methods) against the best of them: method, n, mean, std, best (whether it is), and
    t_p, t_holm, ... of its difference from it on the images that both have, corrected over the methods.

    Empty where there is no method.
    """
    better = scores.mean().sort_values(ascending=not higher)
    if better.empty:
        return pd.DataFrame()
    best = str(better.index[0])
    rows = []
    for method in scores:
        own = scores[method].dropna().to_numpy()
        both = scores[[method, best]].dropna() if method != best else scores[[best, best]].iloc[:0]
        rounding = 4 * np.finfo(float).eps * float(np.abs(both.to_numpy()).max(initial=0))
        rows.append(
            {
                **{"method": method, "n": len(own), "mean": mean(own), "std": deviation(own), "best": method == best},
                **p_values((both.iloc[:, 0] - both.iloc[:, 1]).to_numpy(), rounding),
            }
        )
    return corrected(pd.DataFrame(rows))


def p_values(differences: np.ndarray, rounding: float = 0.0) -> dict[str, float]:
    """t_p and wilcoxon_p of differences (N,) against 0; no t-test where they lie within `rounding` of each other."""
    found = {"t_p": np.nan, "wilcoxon_p": np.nan}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples too small for the normal approximation
        if len(differences) > 1 and np.ptp(differences) > rounding:
            found["t_p"] = float(stats.ttest_1samp(differences, 0).pvalue)
        if differences.any():
            found["wilcoxon_p"] = float(stats.wilcoxon(differences).pvalue)
    return found


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """The table with t_holm and wilcoxon_holm: Holm's correction of t_p and wilcoxon_p over its rows."""
    return table.assign(**{f"{test}_holm": holm(table[f"{test}_p"].to_numpy(dtype=float)) for test in TESTS})


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p-values (M,): rejecting where it is below a level keeps the probability of any
    false rejection below that level. NaN stay NaN and do not count as tests."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p, kind="stable")  # NaN come last
    factors = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 9999) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of values (N,); NaN for fewer than two or equal ones."""
    if len(values) < 2 or np.ptp(values) == 0:
        return np.nan, np.nan
    return bootstrap((values,), np.mean, seed, resamples)


def bootstrap(
    samples: tuple[np.ndarray, ...], statistic: Callable[..., np.ndarray], seed: int = 0, resamples: int = 9999
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a vectorized statistic of samples (N,) that are resampled together.

    BCa for up to 1000 images. Beyond, its correction is a small part of the interval, while its jackknife would take
    N x N numbers: percentiles of at most 999 resamples, drawn in parts.
    """
    how: dict[str, Any] = {"method": "BCa", "n_resamples": resamples}
    if len(samples[0]) > LARGE:
        how = {"method": "percentile", "n_resamples": min(resamples, 999), "batch": max(1, NUMBERS // len(samples[0]))}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of degenerate samples, whose interval is NaN
        found = stats.bootstrap(
            samples, statistic, paired=True, vectorized=True, random_state=np.random.default_rng(seed), **how
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)


def mean(values: np.ndarray) -> float:
    """The mean of values (N,); NaN of none."""
    return float(values.mean()) if len(values) else np.nan


def deviation(values: np.ndarray) -> float:
    """The standard deviation of values (N,); NaN of less than two."""
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _relative_change(a: np.ndarray, b: np.ndarray, axis: int = -1) -> Any:
    return b.mean(axis=axis) / a.mean(axis=axis) - 1
