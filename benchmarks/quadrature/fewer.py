"""How few gradients do: a few points in place of many samples, steps until the convergence delta is small, and
baselines chosen by a coarse first look.

Each table is of a `Problem` with images x (N, C, H, W); it comes with its text, and the frames that are written.
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

from benchmarks.cost.counting import Counted, timed
from benchmarks.cost.peers import gradient_shap
from benchmarks.quadrature.problems import Problem
from benchmarks.quadrature.settings import Settings
from benchmarks.run.randomness import seeded
from benchmarks.tables.comparison import paired
from captum_wg import Automatic, ExpectedGradients, WeightedGradients
from quantus_ext import DeletionAUC

FIXED = ("gausslegendre", "riemann_middle", "riemann_shared_end")
AT_ONCE = 8
REFERENCE_STEPS = 300
SHARE = 0.9
MAX_STEPS = 1400
# How columns are printed: fractions in percent, what is measured with two digits.
PERCENT = ("of_fixed", "within", "relative_change", "low", "high")
TWO_DIGITS = ("tolerance", "delta_median", "delta_quantile", "delta_largest", "map_error", "p")
TWO_DIGITS += ("error", "time_ratio", "error_ratio")

Table = tuple[str, dict[str, pd.DataFrame]]


def scales(problem: Problem) -> Tensor:
    """mean_k |F(x) - F(x'_k)| of each image, (N,)."""
    with torch.no_grad():
        at_x = problem.model(problem.x).gather(1, problem.y.unsqueeze(1))
        return (at_x - problem.model(problem.references).T[problem.y]).abs().mean(1)


def exact_maps(problem: Problem, count: int) -> Tensor:
    """Expected gradients of the first images by 300 midpoints per baseline."""
    few = replace(problem, x=problem.x[:count], y=problem.y[:count])
    attribute = ExpectedGradients(problem.model).attribute
    return _in_parts(few, "reference", attribute, n_steps=REFERENCE_STEPS, method="riemann_middle")


def relative_errors(maps: Tensor, exact: Tensor) -> Tensor:
    """|map - exact| / |exact| of each image that `exact` has, (n,)."""
    return (maps[: len(exact)] - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def deletion_auc(problem: Problem, maps: Tensor) -> np.ndarray:
    """The deletion AUC (N,) of maps (N, C, H, W)."""
    metric = DeletionAUC(disable_warnings=True)
    x, y, a = (values.cpu().numpy() for values in (problem.x, problem.y, maps))
    return np.asarray(metric(problem.model, x, y, a, device=str(problem.x.device), channel_first=True), dtype=float)


def samples(problem: Problem, settings: Settings) -> Table:
    """GradientShap with n_samples beside few points of ExpectedGradients: error and seconds, image by image.

    All rows take turns in every repeat, the first of which warms up and is not counted.
    """
    exact = exact_maps(problem, settings.compared)
    x, y, references = problem.x[: len(exact)], problem.y[: len(exact)], problem.references
    counted, k, n_samples = Counted(problem.model), len(references), settings.n_samples
    most = n_samples // k + 1
    options: list[dict[str, Any]] = [{"method": "riemann_shared_end", "n_steps": n} for n in (2, 3, 4, 6, most)]
    options += [{"method": "adaptive", "n_steps": n} for n in (n_samples // (2 * k) + 1, most)]
    options += [{"sampling": "staggered", "n_samples": n} for n in (2 * k, n_samples)]
    cases: dict[str, Callable[..., Tensor]] = {
        f"GradientShap, n_samples={n_samples}": partial(
            gradient_shap, counted, baselines=references, n_samples=n_samples
        )
    }
    for own in options:
        (_, name), (argument, n) = own.items()
        attribute = ExpectedGradients(counted).attribute
        cases[f"{name}, {argument}={n}"] = partial(attribute, baselines=references, pairing="shared", **own)

    def one_by_one(explain: Callable[..., Tensor]) -> Tensor:
        return torch.cat([explain(x[i : i + 1], target=y[i : i + 1]).detach() for i in range(len(x))])

    gradients = {}
    seconds, errors = pd.DataFrame(columns=list(cases), dtype=float), pd.DataFrame(columns=list(cases), dtype=float)
    for repeat in tqdm(range(settings.repeats + 1), desc="samples", unit="repeat", leave=False):
        for title, explain in cases.items():
            counted.counter.reset()
            with seeded("samples", repeat):
                taken, maps = timed(partial(one_by_one, explain), x.device)
            seconds.loc[repeat, title] = taken / len(x)
            errors.loc[repeat, title] = float(relative_errors(maps, exact).median())
            gradients[title] = counted.counter.gradients // len(x)
    seconds, errors = seconds.loc[1:], errors.loc[1:]
    first = next(iter(cases))
    table = pd.DataFrame(
        {
            "gradients": gradients,
            "seconds": seconds.median(),
            "error": errors.mean(),
            "time_ratio": seconds.div(seconds[first], axis=0).median(),
            "error_ratio": errors.mean() / errors[first].mean(),
        }
    )
    table = table.loc[list(cases)].rename_axis("row").reset_index()
    text = (
        f"{len(x)} images, one call each; gradients and seconds are those of one (median of {settings.repeats} "
        f"interleaved repeats), error the relative L2 distance to {REFERENCE_STEPS} midpoints per baseline (median "
        "over images, mean over repeats, in which GradientShap draws anew). Ratios to the first row."
    )
    return f"{readable(table)}\n\n{text}", {"samples": table}


def steps(problem: Problem, settings: Settings) -> Table:
    """Fixed rules of n_steps points and automatic ones, for all baselines and for a zero one.

    The tolerance of an automatic row is the 0.9 quantile of a fixed rule's relative deltas.
    """
    zero = replace(problem, references=torch.zeros_like(problem.references[:1]))
    of = {f"{len(problem.references)}": problem, "1 (zero)": zero}
    table = pd.DataFrame([row for name, own in of.items() for row in _steps(own, settings, name)])
    text = (
        f"gradients: per image. of_fixed: of {settings.n_steps} per baseline. Deltas are relative to mean_k |F(x) - "
        f"F(x'_k)|; delta_quantile: kept by {SHARE:.0%} of the images; within: share of images within the tolerance. "
        f"map_error: relative L2 distance to {REFERENCE_STEPS} midpoints per baseline, median of "
        f"{min(settings.compared, len(problem.x))} images. warnings: calls of {AT_ONCE} images that left some outside."
    )
    return f"{readable(table)}\n\n{text}", {"steps": table}


def _steps(problem: Problem, settings: Settings, name: str) -> list[dict[str, Any]]:
    counted, scale, images = Counted(problem.model), scales(problem), len(problem.x)
    exact = exact_maps(problem, settings.compared)

    def row(title: str, tolerance: float | None, **options: Any) -> dict[str, Any]:
        counted.counter.reset()
        attribute = ExpectedGradients(counted).attribute
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            maps, deltas = _in_parts(problem, title, attribute, return_convergence_delta=True, **options)
        relative = (deltas.abs() / scale).double().cpu().numpy()
        quantile = float(np.quantile(relative, SHARE, method="higher"))
        tolerance = quantile if tolerance is None else tolerance
        return {
            "baselines": name,
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

    n = settings.n_steps
    fixed = [row(f"{rule}, n_steps={n}", None, n_steps=n, method=rule) for rule in FIXED]
    tolerances = [max(line["delta_quantile"], 1e-12) for line in fixed]  # a linear function has no delta
    automatic = [
        row(f"auto, as {rule}", tolerance, n_steps=Automatic(tolerance, MAX_STEPS))
        for rule, tolerance in zip(FIXED, tolerances, strict=True)
    ]
    return fixed + automatic


def screening(problem: Problem, settings: Settings) -> Table:
    """WeightedGradients and its shorter ways, and each image's deletion AUC.

    Shorter: keep=0.5 with each number of screening steps; all by "riemann_shared_end", whose points screening can use
    again. `all` takes every baseline.
    """
    counted, images = Counted(problem.model), len(problem.x)
    cases: dict[str, dict] = {"all": {}}
    cases |= {f"keep=0.5, screening_steps={s}": dict(keep=0.5, screening_steps=s) for s in settings.screening_steps}
    attribute = partial(WeightedGradients(counted).attribute, n_steps=settings.n_steps, method="riemann_shared_end")
    rows, scores = [], {}
    best = torch.empty(0)
    for title, options in cases.items():
        counted.counter.reset()
        maps, weights = _in_parts(problem, title, attribute, return_weights=True, **options)
        scores[title] = deletion_auc(problem, maps.sum(1, keepdim=True))
        if title == "all":
            # The largest weights are those of the smallest D_alpha.
            best = weights.argsort(dim=1, descending=True, stable=True)[:, : max(1, round(0.5 * weights.shape[1]))]
        alike = float((weights.gather(1, best) > 0).sum(1).float().mean())
        line = {"row": title, "gradients": counted.counter.gradients / images}
        line |= {"forwards": counted.counter.forwards / images}
        line |= {"kept_as_by_full_maps": np.nan if title == "all" else alike}
        found = paired(scores["all"], scores[title], seed=settings.seed)
        line |= {"n": found["n"], "mean": found["mean"], "relative_change": found["improvement"]}
        rows.append(line | {"low": found["low"], "high": found["high"], "p": found["t_p"]})
    table = pd.DataFrame(rows)
    text = (
        f"WeightedGradients, {settings.n_steps} steps of riemann_shared_end. gradients, forwards: per image. "
        "kept_as_by_full_maps: how many of the baselines kept are those that full maps keep. mean: DeletionAUC "
        "(lower is better); change, 95 % bootstrap interval and p (paired t-test) against all baselines."
    )
    each = pd.DataFrame(scores).rename_axis("image").reset_index()
    return f"{readable(table)}\n\n{text}", {"screening": table, "deletion": each}


def _in_parts(problem: Problem, what: str, attribute: Callable[..., Any], **options: Any) -> Any:
    """attribute of all images, a few at a time, its results joined."""
    found = []
    for start in tqdm(range(0, len(problem.x), AT_ONCE), desc=what, unit="chunk", leave=False):
        part = slice(start, start + AT_ONCE)
        found.append(attribute(problem.x[part], problem.references, problem.y[part], pairing="shared", **options))
    if isinstance(found[0], tuple):
        return tuple(torch.cat(part).detach() for part in zip(*found, strict=True))
    return torch.cat(found).detach()


def readable(table: pd.DataFrame) -> str:
    """The table in Markdown, fractions in percent."""
    shown = table.copy()
    for columns, form in ((PERCENT, "{:.1%}"), (TWO_DIGITS, "{:.2g}")):
        for column in shown.columns.intersection(columns):
            shown[column] = [form.format(v).replace("%", " %") if np.isfinite(v) else "-" for v in shown[column]]
    return shown.to_markdown(index=False, floatfmt=".4g")
