"""How few gradients do: a few points in place of many samples, steps until the convergence delta is small, and
baselines chosen by a coarse first look.

Each table is of a `Problem` with images x (N, C, H, W); it comes as a text, with the frames that are written.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from benchmarks.cost.peers import gradient_shap
from benchmarks.quadrature.problems import Problem, Table
from benchmarks.quadrature.settings import Settings
from benchmarks.run.counting import Counted, in_turns, timed
from benchmarks.run.randomness import seeded
from benchmarks.tables.comparison import paired
from captum_wg import Automatic, ExpectedGradients, WeightedGradients

FIXED = ("gausslegendre", "riemann_middle", "riemann_shared_end")
AT_ONCE = 8
REFERENCE_STEPS = 300
SHARE = 0.9
MAX_STEPS = 1400
# How columns are printed, if not with four digits.
FORMS = {
    **dict.fromkeys(("of_fixed", "within", "relative_change", "low", "high"), "{:.1%}"),
    **dict.fromkeys(("tolerance", "delta_median", "delta_quantile", "delta_largest", "map_error", "p"), "{:.2g}"),
    **dict.fromkeys(("error", "time_ratio", "error_ratio"), "{:.2g}"),
}


def scales(problem: Problem) -> Tensor:
    """mean_k |F(x) - F(x'_k)| of each image, (N,)."""
    with torch.no_grad():
        at_x = problem.model(problem.x).gather(1, problem.y.unsqueeze(1))
        return (at_x - problem.model(problem.references).T[problem.y]).abs().mean(1)


def exact_maps(problem: Problem, count: int) -> Tensor:
    """Expected gradients of the first images by 300 midpoints per baseline."""
    few = replace(problem, x=problem.x[:count], y=problem.y[:count])
    options = {"n_steps": REFERENCE_STEPS, "method": "riemann_middle", "pairing": "shared"}
    return few.explain(ExpectedGradients(few.model).attribute, AT_ONCE, **options)


def relative_errors(maps: Tensor, exact: Tensor) -> Tensor:
    """|map - exact| / |exact| of each image that `exact` has, (n,)."""
    return (maps[: len(exact)] - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def samples(settings: Settings, problem: Problem) -> Table:
    """GradientShap with n_samples beside few points of ExpectedGradients: error and seconds, image by image.

    All rows take turns in every repeat, the first of which warms up and is not counted.
    """
    exact = exact_maps(problem, settings.compared)
    few = replace(problem, x=problem.x[: len(exact)], y=problem.y[: len(exact)])
    counted, k, n_samples = Counted(problem.model), len(problem.references), settings.n_samples
    first, most = f"GradientShap, n_samples={n_samples}", n_samples // k + 1
    cases: dict[str, Callable[..., Tensor]] = {first: partial(gradient_shap, counted, n_samples=n_samples)}
    for rule, argument, numbers in (
        ("riemann_shared_end", "n_steps", (2, 3, 4, 6, most)),
        ("adaptive", "n_steps", (n_samples // (2 * k) + 1, most)),
        ("staggered", "n_samples", (2 * k, n_samples)),
    ):
        kind = "sampling" if rule == "staggered" else "method"
        explain = partial(ExpectedGradients(counted).attribute, pairing="shared", **{kind: rule})
        cases |= {f"{rule}, {argument}={n}": partial(explain, **{argument: n}) for n in numbers}

    runs = []
    turns = [*in_turns(cases, settings.repeats + 1)]
    for repeat, row in tqdm(turns, desc="samples", unit="run", leave=False):
        counted.counter.reset()
        with seeded("samples", repeat):
            seconds, maps = timed(partial(few.explain, cases[row], 1), few.x.device)
        error = float(relative_errors(maps, exact).median())
        runs.append((repeat, row, counted.counter.gradients // len(exact), seconds / len(exact), error))
    every = pd.DataFrame(runs, columns=["repeat", "row", "gradients", "seconds", "error"]).query("repeat > 0")
    by_repeat = every.pivot(index="repeat", columns="row")
    seconds, error = by_repeat["seconds"], by_repeat["error"].mean()
    table = pd.DataFrame({"gradients": by_repeat["gradients"].max(), "seconds": seconds.median(), "error": error})
    table["time_ratio"] = seconds.div(seconds[first], axis=0).median()
    table["error_ratio"] = error / error[first]
    table = table.loc[list(cases)].reset_index()
    text = (
        f"{len(exact)} images, one call each; gradients and seconds are those of one (median of {settings.repeats} "
        f"interleaved repeats), error the relative L2 distance to {REFERENCE_STEPS} midpoints per baseline (median "
        "over images, mean over repeats, in which GradientShap draws anew). Ratios to the first row."
    )
    return problem.text(settings, readable(table), text), {"samples": table}


def steps(settings: Settings, problem: Problem) -> Table:
    """Fixed rules of n_steps points and automatic ones, for all baselines and for a zero one.

    The tolerance of an automatic row is the 0.9 quantile of a fixed rule's relative deltas.
    """
    zero = replace(problem, references=torch.zeros_like(problem.references[:1]))
    rows = []
    for baselines, own in ((f"{len(problem.references)}", problem), ("1 (zero)", zero)):
        exact, n = exact_maps(own, settings.compared), settings.n_steps
        row = partial(_steps, own, settings, baselines, exact)
        fixed = [row(f"{rule}, n_steps={n}", None, n_steps=n, method=rule) for rule in FIXED]
        rows += fixed
        for rule, line in zip(FIXED, fixed, strict=True):
            tolerance = max(line["delta_quantile"], 1e-12)  # a linear function has no delta
            rows.append(row(f"auto, as {rule}", tolerance, n_steps=Automatic(tolerance, MAX_STEPS)))
    table = pd.DataFrame(rows)
    text = (
        f"gradients: per image. of_fixed: of {settings.n_steps} per baseline. Deltas are relative to mean_k |F(x) - "
        f"F(x'_k)|; delta_quantile: kept by {SHARE:.0%} of the images; within: share of images within the tolerance. "
        f"map_error: relative L2 distance to {REFERENCE_STEPS} midpoints per baseline, median of "
        f"{min(settings.compared, len(problem.x))} images. warnings: calls of {AT_ONCE} images that left some outside."
    )
    return problem.text(settings, readable(table), text), {"steps": table}


def _steps(
    problem: Problem,
    settings: Settings,
    baselines: str,
    exact: Tensor,
    title: str,
    tolerance: float | None,
    **options: Any,
) -> dict[str, Any]:
    counted, images = Counted(problem.model), len(problem.x)
    attribute = ExpectedGradients(counted).attribute
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        more = {"return_convergence_delta": True, "pairing": "shared"}
        maps, deltas = problem.explain(attribute, AT_ONCE, **more, **options)
    relative = (deltas.abs() / scales(problem)).double().cpu().numpy()
    quantile = float(np.quantile(relative, SHARE, method="higher"))
    tolerance = quantile if tolerance is None else tolerance
    return {
        "baselines": baselines,
        "row": title,
        "images": images,
        "gradients": counted.counter.gradients / images,
        "of_fixed": counted.counter.gradients / (images * len(problem.references) * settings.n_steps),
        "tolerance": tolerance,
        # Equal but for rounding where both rules take the same points.
        "within": float((relative <= (1 + 1e-5) * tolerance).mean()),
        "delta_median": float(np.median(relative)),
        "delta_quantile": quantile,
        "delta_largest": float(relative.max()),
        "map_error": float(relative_errors(maps, exact).median()),
        "warnings": sum("within tolerance" in str(w.message) for w in said),
    }


def screening(settings: Settings, problem: Problem) -> Table:
    """WeightedGradients and its shorter ways, and each image's deletion AUC.

    Shorter: keep=0.5 with each number of screening steps; all by "riemann_shared_end", whose points screening can use
    again. `all` takes every baseline.
    """
    counted, images = Counted(problem.model), len(problem.x)
    cases: dict[str, dict] = {"all": {}}
    cases |= {f"keep=0.5, screening_steps={s}": dict(keep=0.5, screening_steps=s) for s in settings.screening_steps}
    common = {"n_steps": settings.n_steps, "method": "riemann_shared_end", "pairing": "shared", "return_weights": True}
    rows, scores, best = [], {}, torch.empty(0)
    for title, options in cases.items():
        counted.counter.reset()
        maps, weights = problem.explain(WeightedGradients(counted).attribute, AT_ONCE, **common, **options)
        scores[title] = problem.deletion_auc(maps.sum(1, keepdim=True))
        if title == "all":
            # The largest weights are those of the smallest D_alpha.
            best = weights.argsort(dim=1, descending=True, stable=True)[:, : max(1, round(0.5 * weights.shape[1]))]
        alike = float((weights.gather(1, best) > 0).sum(1).float().mean())
        found = paired(scores["all"], scores[title], seed=settings.seed)
        line = {"row": title, "gradients": counted.counter.gradients / images}
        line |= {"forwards": counted.counter.forwards / images}
        line |= {"kept_as_by_full_maps": np.nan if title == "all" else alike}
        rows.append(line | {name: found[name] for name in ("n", "mean", "improvement", "low", "high", "t_p")})
    table = pd.DataFrame(rows).rename(columns={"improvement": "relative_change", "t_p": "p"})
    text = (
        f"WeightedGradients, {settings.n_steps} steps of riemann_shared_end. gradients, forwards: per image. "
        "kept_as_by_full_maps: how many of the baselines kept are those that full maps keep. mean: DeletionAUC "
        "(lower is better); change, 95 % bootstrap interval and p (paired t-test) against all baselines."
    )
    each = pd.DataFrame(scores).rename_axis("image").reset_index()
    return problem.text(settings, readable(table), text), {"screening": table, "deletion": each}


def readable(table: pd.DataFrame) -> str:
    """The table in Markdown, fractions in percent."""
    shown = table.copy()
    for name in shown.columns.intersection(list(FORMS)):
        shown[name] = [FORMS[name].format(v).replace("%", " %") if np.isfinite(v) else "-" for v in shown[name]]
    return shown.to_markdown(index=False, floatfmt=".4g")
