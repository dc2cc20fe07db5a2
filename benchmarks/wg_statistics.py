"""The comparisons of a whole table: paired tests of each row, corrected for how many rows there are."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from benchmarks.score_tables import wide
from benchmarks.statistics import bootstrap, paired_comparison

COLUMNS = (
    "model",
    "judge",
    "method",
    "reference",
    "n",
    "reference_mean",
    "reference_std",
    "mean",
    "std",
    "improvement",
    "low",
    "high",
    "t_p",
    "t_holm",
    "wilcoxon_p",
    "wilcoxon_holm",
)


def comparison_table(
    scores: pd.DataFrame,
    pairs: Sequence[tuple[str, str]],
    higher_is_better: Mapping[str, bool],
    seed: int = 0,
) -> pd.DataFrame:
    """Each method against its reference, for each model and judge.

    Args:
        scores: one row for each model, method, judge and image, with the columns model, method, judge, image, score.
        pairs: (reference, method); those that the scores lack are left out.
        higher_is_better: the judges, in the table's order.
        seed: of the bootstrap.

    Returns:
        A row for each comparison. n images have both scores, and the means and standard deviations are over these.
        improvement is the relative change of the mean, positive where the method is better; low and high its 95 %
        bootstrap interval (images resampled in pairs); t_p and wilcoxon_p are two-sided p-values of the paired t-test
        and of Wilcoxon's signed ranks, t_holm and wilcoxon_holm the same after Holm's correction over all rows. What
        can't be computed is NaN.
    """
    rows = []
    # Of tens of thousands of images the intervals take a while.
    for model in scores["model"].drop_duplicates():
        for judge, higher in tqdm(higher_is_better.items(), desc=f"{model}: table", unit="judge", leave=False, delay=5):
            of_judge = wide(scores, model, judge)
            for reference, method in pairs:
                if reference in of_judge and method in of_judge:
                    rows.append({"model": model, "judge": judge, **_row(of_judge, reference, method, higher, seed)})
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for test in ("t", "wilcoxon"):
        table[f"{test}_holm"] = holm(table[f"{test}_p"].to_numpy(dtype=float))
    return table


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p-values (M,): rejecting where it is below a level keeps the probability of any
    false rejection below that level. NaN stay NaN and do not count as tests."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(len(p), np.nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def mean_interval(values: np.ndarray, seed: int = 0, resamples: int = 9999) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of values (N,); NaN for fewer than two or equal ones."""
    if len(values) < 2 or np.ptp(values) == 0:
        return float("nan"), float("nan")
    return bootstrap((values,), np.mean, seed, resamples)


def _row(of_judge: pd.DataFrame, reference: str, method: str, higher: bool, seed: int) -> dict[str, object]:
    both = of_judge[[reference, method]].to_numpy(dtype=float)
    both = both[np.isfinite(both).all(1)]
    a, b = both.T
    found = paired_comparison(a.tolist(), b.tolist(), seed)
    sign, (low, high) = (1, (found.low, found.high)) if higher else (-1, (-found.high, -found.low))
    return {
        "method": method,
        "reference": reference,
        "n": found.n,
        "reference_mean": found.reference_mean,
        "reference_std": _deviation(a),
        "mean": found.mean,
        "std": _deviation(b),
        "improvement": sign * found.relative_change,
        "low": low,
        "high": high,
        "t_p": found.p,
        "wilcoxon_p": wilcoxon(a, b),
    }


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """The two-sided p-value of Wilcoxon's signed ranks of b - a; NaN if all are equal."""
    if not np.any(a != b):
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of samples too small for the normal approximation
        return float(stats.wilcoxon(b, a).pvalue)


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else float("nan")
