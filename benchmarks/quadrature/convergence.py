"""How fast estimates of the expected-gradients map converge: relative L2 error over the number of gradients.

The error of an estimate is |map - reference| / |reference|, the reference being many equal steps per baseline; figures
are medians over images.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from benchmarks.cost.peers import gradient_shap, shap_gradients
from benchmarks.quadrature import estimators
from benchmarks.quadrature.estimators import ESTIMATORS, Estimator
from benchmarks.quadrature.integrands import map_error
from benchmarks.quadrature.problems import PROBLEMS, Problem, Table, resnet18
from benchmarks.quadrature.settings import Settings
from benchmarks.run.randomness import seeded

PEER_ROWS = 50
ROUNDING = 1e-11  # errors below it say nothing of a rate
OURS = [one.name for one in (estimators.SHARED_END, estimators.TWO_STAGE, estimators.STAGGERED_END)]
PEERS = ("Captum GradientShap", "shap GradientExplainer")
KEYS = ["network", "baselines"]
# What errors are also divided by: the estimator, and the budgets at which that is printed, or the smallest or largest.
COMPARED = {"midpoint": (estimators.MIDPOINT, 100, min), "Monte-Carlo": (estimators.MONTE_CARLO, 200, max)}


def measure(problem: Problem, totals: Sequence[int], seed: int, draws: int, peers: bool) -> pd.DataFrame:
    """One row per image, estimator and number of gradients; the error of a random estimator is the mean over draws,
    that of Captum's GradientShap and, if it is installed, shap's GradientExplainer is of one draw each."""
    count = len(problem.references)
    rows = []
    for image in tqdm(range(len(problem.x)), desc=problem.name, unit="image", leave=False):
        integrands = problem.integrands(image)
        for estimator, total in itertools.product(ESTIMATORS, totals):
            if total >= estimator.least * count:
                # The same draws for all images.
                entropies = [(seed, estimator.stream or 0, total, draw) for draw in range(draws)]
                generators = map(np.random.default_rng, entropies if estimator.stream is not None else entropies[:1])
                points = [estimator.estimate(integrands, total, generator) for generator in generators]
                error = np.mean([integrands.error(one) for one in points])
                rows.append((image, estimator.name, total, np.mean([one.gradients for one in points]), error))
        for name, total in itertools.product(PEERS if find_spec("shap") else PEERS[:1], totals if peers else ()):
            with seeded(name, seed, image, total):
                found = _peer_map(name, problem, image, total, seed)
            error = map_error(found.flatten().double().cpu(), integrands.reference)
            rows.append((image, name, total, float(total), error))
    table = pd.DataFrame(rows, columns=["image", "estimator", "budget", "gradients", "error"])
    table.insert(0, "network", problem.name)
    table.insert(1, "baselines", count)
    return table


def _peer_map(name: str, problem: Problem, image: int, total: int, seed: int) -> Tensor:
    x, y, references = problem.x[image : image + 1], problem.y[image : image + 1], problem.references
    if name == PEERS[1]:
        # The highest output is the class explained, as all images are classified as it.
        return torch.as_tensor(np.asarray(shap_gradients(problem.model, x, references, total, seed)))
    # In one call it would run all rows at once.
    sizes = [min(PEER_ROWS, total - start) for start in range(0, total, PEER_ROWS)]
    parts = [gradient_shap(problem.model, x, y, references, n).detach() * n / total for n in sizes]
    return torch.stack(parts).sum(0)


def measure_all(settings: Settings) -> pd.DataFrame:
    """All errors, network by network."""
    cases = [(partial(PROBLEMS[name], settings), settings.gradients) for name in PROBLEMS if name in settings.model]
    if "resnet18" in settings.model and settings.many:
        many = (partial(resnet18, settings, settings.many, settings.many_steps), settings.many_gradients)
        cases.insert(len(cases) - ("efficientnet_lite0" in settings.model), many)
    found = []
    for make, totals in tqdm(cases, unit="network"):
        problem = make()
        draws = min(5, settings.draws) if problem.exact else settings.draws
        found.append(measure(problem, sorted(totals), settings.seed, draws, settings.peers and not problem.exact))
    return pd.concat(found, ignore_index=True)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per network, baselines, estimator and budget: median and quartiles over images, against the midpoint rule's.

    slope is that of log error over log gradients, fitted through all budgets of the estimator.
    """
    table = rows.groupby([*KEYS, "estimator", "budget"], sort=False, as_index=False).agg(
        gradients=("gradients", "median"),
        error=("error", "median"),
        low=("error", lambda e: e.quantile(0.25)),
        high=("error", lambda e: e.quantile(0.75)),
        images=("error", "size"),
    )
    for estimator, *_ in COMPARED.values():
        of = table[table["estimator"] == estimator.name].set_index([*KEYS, "budget"])["error"]
        table[_ratio(estimator)] = table["error"] / table[[*KEYS, "budget"]].join(of, on=[*KEYS, "budget"])["error"]
    for _, part in table.groupby([*KEYS, "estimator"]):
        table.loc[part.index, "slope"] = fitted_slope(part["gradients"].to_numpy(), part["error"].to_numpy())
    return table


def _ratio(estimator: Estimator) -> str:
    return f"to_{estimator.name.lower().replace('-', '_')}"


def fitted_slope(gradients: np.ndarray, error: np.ndarray) -> float:
    """The slope of log error over log gradients by least squares; NaN with fewer than two errors above rounding."""
    usable = error > ROUNDING
    if usable.sum() < 2:
        return float("nan")
    return float(np.polyfit(np.log(gradients[usable]), np.log(error[usable]), 1)[0])


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The printed form of one network's table: estimators by budgets."""
    budgets = sorted(table["budget"].unique())
    rows = []
    for name, part in table.groupby("estimator", sort=False):
        part = part.set_index("budget").reindex(budgets)
        row = {"estimator": name} | {str(b): _text(part["error"][b]) for b in budgets}
        for title, (estimator, usual, other) in COMPARED.items():
            at = usual if usual in budgets else other(budgets)
            row[f"x {title} at {at}"] = _text(part[_ratio(estimator)][at])
        row["slope"] = _text(part["slope"].max(), ".2f")
        taken = part["gradients"].dropna()
        row["exact cost"] = " ".join(f"{taken[b]:g}" for b in taken.index if taken[b] != b)
        rows.append(row)
    return pd.DataFrame(rows)


def _text(value: float, form: str = ".2g") -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def notes(table: pd.DataFrame) -> list[str]:
    """What the figures say, in words."""
    lines = [
        "Random estimators: the mean error of repeated draws; Captum's and shap's own code: one draw.",
        "exact cost: gradients actually taken where that is not the budget. 'end at x': the gradient at x serves all "
        "baselines and counts once.",
    ]
    for (network, baselines, budget), part in table.groupby([*KEYS, "budget"], sort=False):
        own = part[~part["estimator"].isin(PEERS)]
        best = own.loc[own["error"].idxmin()]
        ratios = {title: best[_ratio(estimator)] for title, (estimator, *_) in COMPARED.items()}
        shown = "".join(f" = {ratio:.2g} x {title}" for title, ratio in ratios.items() if np.isfinite(ratio))
        lines.append(
            f"{network}, K = {baselines}, {budget} gradients: the smallest error is that of '{best['estimator']}', "
            f"{best['error']:.2g}{shown}."
        )
    return lines


def draw(table: pd.DataFrame) -> Figure:
    """One log-log panel per network and number of baselines that has several budgets."""
    panels = list(table.groupby(KEYS, sort=False))
    panels = [(key, part) for key, part in panels if part["budget"].nunique() > 1] or panels
    figure = Figure(figsize=(8.5 * len(panels), 6), layout="tight")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, ((network, baselines), part) in zip(axes, panels, strict=True):
        for name, line in part.groupby("estimator", sort=False):
            style, width = "--" if name in PEERS else "-", 2.5 if name in OURS else 1.2
            label = f"{name} ({line['slope'].iloc[0]:.2f})"
            axis.loglog(line["gradients"], line["error"].clip(lower=1e-16), style, marker="o", lw=width, label=label)
        axis.set(title=f"{network}, K = {baselines}", xlabel="gradients per image")
        axis.set_ylabel("relative L2 error of the map (median over images)")
        axis.grid(True, which="both", alpha=0.25)
        axis.legend(fontsize=7, title="fitted slope in brackets", title_fontsize=7)
    return figure


def convergence(settings: Settings, _: Problem | None = None) -> Table:
    """The tables and notes in Markdown, and what they are made of; draws convergence.png."""
    rows = measure_all(settings)
    table = summary(rows)
    draw(table).savefig(Path(settings.out) / "convergence.png", dpi=150)
    parts = [
        f"Relative L2 error of the expected-gradients map, median over {settings.images} images, seed {settings.seed}; "
        f"reference: {settings.reference_steps or 150} midpoints per baseline ({settings.many_steps} for K = "
        f"{settings.many}), to whose grid nodes are moved, by half a cell at most; smooth network: "
        f"{settings.reference_steps or 2000} steps and exact nodes. Peers run the network itself."
    ]
    for (network, baselines), part in table.groupby(KEYS, sort=False):
        parts.append(f"### {network}, K = {baselines} baselines\n\n{wide(part).to_markdown(index=False)}")
    parts.append("\n".join(f"- {line}" for line in notes(table)))
    return "\n\n".join(parts), {"convergence": table, "errors": rows}
