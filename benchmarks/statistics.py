"""Comparing two methods on the same images."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
from scipy import stats

# Images beyond which the bootstrap is another one; numbers of its resamples that are in memory at a time.
LARGE, NUMBERS = 1000, 2**22


@dataclass(frozen=True)
class PairedComparison:
    """How a method's scores differ from a reference method's, image by image.

    Attributes:
        n: images that have both scores.
        reference_mean, mean: the two means over these.
        relative_change: mean / reference_mean - 1; negative = lower than the reference. NaN, with its interval, of
            scores that can be negative, such as correlations: relative to a mean about 0 it would say nothing.
        low, high: its 95 % bootstrap interval (images resampled in pairs), see `bootstrap`.
        p: two-sided p-value of the paired t-test of equal means.

    Where n < 2 or all the differences are the same (up to rounding), what can't be computed is NaN.
    """

    n: int
    reference_mean: float
    mean: float
    relative_change: float
    low: float
    high: float
    p: float


def paired_comparison(
    reference: Sequence[float], scores: Sequence[float], seed: int = 0, resamples: int = 9999, level: float = 0.95
) -> PairedComparison:
    """Compare scores (N,) with the reference's (N,) of the same images; pairs with a NaN are left out."""
    a, b = np.asarray(reference, dtype=float), np.asarray(scores, dtype=float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"paired scores must be two lists of one length, got shapes {a.shape} and {b.shape}")
    paired = np.isfinite(a) & np.isfinite(b)
    a, b = a[paired], b[paired]
    if len(a) == 0:
        return PairedComparison(0, *(float("nan"),) * 6)
    low = high = p = float("nan")
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # of degenerate samples, whose results are NaN
        relative = min(a.min(), b.min()) >= 0
        change = float(_relative_change(a, b)) if relative else float("nan")
        # Of no spread the t-test makes p = 0, however few images there are.
        if np.ptp(b - a) > 4 * np.finfo(float).eps * max(np.abs(a).max(), np.abs(b).max()):
            p = float(stats.ttest_rel(b, a).pvalue)
        if len(a) > 1 and relative:
            low, high = bootstrap((a, b), _relative_change, seed, resamples, level)
    return PairedComparison(len(a), float(a.mean()), float(b.mean()), change, low, high, p)


def bootstrap(
    samples: tuple[np.ndarray, ...],
    statistic: Callable[..., np.ndarray],
    seed: int = 0,
    resamples: int = 9999,
    level: float = 0.95,
) -> tuple[float, float]:
    """The bootstrap interval of a vectorized statistic of samples (N,) that are resampled together.

    BCa for up to 1000 images. Beyond, its correction is a small part of the interval, while its jackknife would take
    N x N numbers: percentiles of at most 999 resamples, drawn in parts.
    """
    large = len(samples[0]) > LARGE
    interval = stats.bootstrap(
        samples,
        statistic,
        paired=True,
        vectorized=True,
        confidence_level=level,
        n_resamples=min(resamples, 999) if large else resamples,
        method="percentile" if large else "BCa",
        batch=max(1, NUMBERS // len(samples[0])) if large else None,
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def compare(
    scores: pd.DataFrame, pairs: Sequence[tuple[str, str]], judges: Sequence[str], seed: int = 0
) -> pd.DataFrame:
    """The paired comparison of each (reference, method) under each judge, one row each.

    Args:
        scores: one row per method, judge and image, with the columns method, judge, image, score; methods or judges
            that it does not hold are left out.
    """
    rows = []
    for reference, method in pairs:
        for judge in judges:
            of_judge = scores[scores["judge"] == judge].pivot(index="image", columns="method", values="score")
            if reference not in of_judge or method not in of_judge:
                continue
            result = paired_comparison(of_judge[reference].tolist(), of_judge[method].tolist(), seed)
            rows.append({"judge": judge, "method": method, "reference": reference, **asdict(result)})
    columns = ["judge", "method", "reference", *PairedComparison.__dataclass_fields__]
    return pd.DataFrame(rows, columns=columns)


def _relative_change(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
    return b.mean(axis=axis) / a.mean(axis=axis) - 1
