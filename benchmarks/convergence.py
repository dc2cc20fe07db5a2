"""How fast estimates of the expected-gradients map converge: relative L2 error over the number of gradients.

    python -m benchmarks.convergence
    python -m benchmarks.convergence --data cifar10 --root DIR --weights FILE --images 8

prints the tables and writes convergence.csv (a row per network, estimator and number of gradients), errors.csv (a row
per image), convergence.md and convergence.png. The error of an estimate is |map - reference| / |reference|, the
reference being many equal steps per baseline; figures are medians over images.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from captum.attr import GradientShap
from torch import Tensor
from tqdm import tqdm

from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from benchmarks.quadrature import problems
from benchmarks.quadrature.estimators import (
    ESTIMATORS,
    MIDPOINT,
    MONTE_CARLO,
    STAGGERED_END,
    TWO_STAGE,
    Estimator,
    Integrands,
)
from benchmarks.quadrature.integrands import map_error
from benchmarks.quadrature.problems import Problem
from benchmarks.run.command_line import integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import seeded

NETWORKS = ("smooth", "resnet18", "efficientnet_lite0")
PEER_ROWS = 50
ROUNDING = 1e-11  # errors below it say nothing of a rate
DRAWN = (
    "Monte-Carlo",
    "Captum GradientShap",
    "shap GradientExplainer",
    "stratified",
    "Sobol",
    "Halton",
    "Gauss-Legendre",
    "midpoint",
    "trapezoid",
    "staggered, end at x",
    "insertion",
    "midpoint, end at x",
    "two-stage, end at x",
    "best weights, midpoints",
)


def errors(
    problem: Integrands, estimators: Sequence[Estimator], totals: Sequence[int], seed: int, repeats: int
) -> Iterator[dict]:
    """The error of each estimator at each number of gradients, for one image; of random ones the mean over repeats."""
    for number, estimator in enumerate(estimators):
        for total in totals:
            if total < estimator.least * problem.count:
                continue
            found, costs = [], []
            for repeat in range(repeats if estimator.random else 1):
                # The same draws for all images.
                points = estimator.estimate(problem, total, np.random.default_rng([seed, number, total, repeat]))
                found.append(problem.error(points))
                costs.append(points.gradients)
            yield {
                "estimator": estimator.name,
                "group": estimator.group,
                "budget": total,
                "gradients": float(np.mean(costs)),
                "error": float(np.mean(found)),
            }


def peer_errors(problem: Problem, image: int, reference: Tensor, totals: Sequence[int], seed: int) -> Iterator[dict]:
    """The error of Captum's GradientShap and, if it is installed, shap's GradientExplainer, one draw each."""
    peers: dict[str, Callable[[int], Tensor]] = {
        "Captum GradientShap": lambda total: _gradient_shap(problem, image, total)
    }
    try:
        import shap

        explainer = shap.GradientExplainer(problem.model, problem.references, batch_size=PEER_ROWS)
        peers["shap GradientExplainer"] = lambda total: _from_shap(explainer, problem.x[image], total, seed)
    except ImportError:
        pass
    for name, explain in peers.items():
        for total in totals:
            with seeded(name, seed, image, total):
                found = explain(total).flatten().double().cpu()
            error = map_error(found, reference)
            yield {"estimator": name, "group": "peer", "budget": total, "gradients": float(total), "error": error}


def _gradient_shap(problem: Problem, image: int, total: int) -> Tensor:
    method = GradientShap(problem.model)
    parts = []
    for start in range(0, total, PEER_ROWS):  # in one call it would run all rows at once
        n = min(PEER_ROWS, total - start)
        found = method.attribute(
            problem.x[image : image + 1],
            baselines=problem.references,
            target=int(problem.y[image]),
            n_samples=n,
            stdevs=0.0,
        )
        parts.append(found.detach() * n / total)
    return torch.stack(parts).sum(0)


def _from_shap(explainer: object, x: Tensor, total: int, seed: int) -> Tensor:
    # The highest output is the class explained, as all images are classified as it.
    values, _ = explainer.shap_values(x[None], nsamples=total, ranked_outputs=1, rseed=seed)  # type: ignore[attr-defined]
    return torch.from_numpy(np.asarray(values, dtype=np.float64).reshape(x.shape))


def measure(
    problem: Problem,
    estimators: Sequence[Estimator],
    totals: Sequence[int],
    seed: int,
    repeats: int,
    peers: bool,
    bar: tqdm,
) -> pd.DataFrame:
    """All errors of a problem, one row per estimator, number of gradients and image."""
    rows = []
    for image in range(len(problem.x)):
        bar.set_description(f"{problem.name}, image {image + 1}")
        integrands = problem.integrands(image)
        found = [*errors(integrands, estimators, totals, seed, repeats)]
        if peers:
            found += peer_errors(problem, image, integrands.reference, totals, seed)  # type: ignore[attr-defined]
        rows += [{"network": problem.name, "baselines": len(problem.references), "image": image, **r} for r in found]
        bar.update()
    return pd.DataFrame(rows)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Per network, baselines, estimator and budget: median and quartiles over images, against the midpoint rule's.

    slope is that of log error over log gradients, fitted through all budgets of the estimator.
    """
    keys = ["network", "baselines", "estimator", "group", "budget"]
    grouped = rows.groupby(keys, sort=False)
    table = grouped.agg(
        gradients=("gradients", "median"),
        error=("error", "median"),
        low=("error", lambda e: e.quantile(0.25)),
        high=("error", lambda e: e.quantile(0.75)),
        images=("error", "size"),
    ).reset_index()
    for name, reference in (("to_midpoint", MIDPOINT.name), ("to_monte_carlo", MONTE_CARLO.name)):
        of = table[table["estimator"] == reference].set_index(["network", "baselines", "budget"])["error"]
        index = pd.MultiIndex.from_frame(table[["network", "baselines", "budget"]])
        table[name] = table["error"].to_numpy() / of.reindex(index).to_numpy()
    table["slope"] = np.nan
    for _, part in table.groupby(["network", "baselines", "estimator"]):
        table.loc[part.index, "slope"] = fitted_slope(part["gradients"].to_numpy(), part["error"].to_numpy())
    return table


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
        part = part.set_index("budget")
        row = {"estimator": name, "kind": part["group"].iloc[0]}
        row |= {str(b): f"{part['error'][b]:.2g}" if b in part.index else "" for b in budgets}
        middle = 100 if 100 in budgets else budgets[0]
        for title, column in (("midpoint", "to_midpoint"), ("Monte-Carlo", "to_monte_carlo")):
            at = middle if column == "to_midpoint" else budgets[-1] if 200 not in budgets else 200
            row[f"x {title} at {at}"] = f"{part[column][at]:.2g}" if at in part.index else ""
        row["slope"] = "" if part["slope"].isna().all() else f"{part['slope'].iloc[0]:.2f}"
        row["exact cost"] = " ".join(f"{part['gradients'][b]:g}" for b in part.index if part["gradients"][b] != b)
        rows.append(row)
    return pd.DataFrame(rows)


def notes(table: pd.DataFrame) -> list[str]:
    """What the figures say, in words."""
    lines = [
        "kind: random (mean of repeated draws), peer (the other library's own code, one draw), per baseline (one "
        "quadrature rule for each), other (better choices of points or weights that were tried), bound (weights found "
        "from the answer: no estimator can have them, none with these points can do better).",
        "exact cost: gradients actually taken where that is not the budget; a forward counts 0.45. 'end at x': the "
        "gradient at x serves all baselines and counts once.",
    ]
    for (network, baselines), part in table.groupby(["network", "baselines"], sort=False):
        usable = part[~part["group"].isin(["bound", "peer"])]
        for budget, at in usable.groupby("budget"):
            affordable = at[at["gradients"] <= budget + 1]
            best = affordable.loc[affordable["error"].idxmin()]
            line = (
                f"{network}, K = {baselines}, {budget} gradients: the smallest error is that of '{best['estimator']}'"
            )
            line += f", {best['error']:.2g}"
            if np.isfinite(best["to_midpoint"]):
                line += f" = {best['to_midpoint']:.2g} x midpoint"
            line += f" = {best['to_monte_carlo']:.2g} x Monte-Carlo" if np.isfinite(best["to_monte_carlo"]) else ""
            bound = part[(part["estimator"] == "best weights, midpoints") & (part["budget"] == budget)]
            if len(bound):
                line += f"; the best possible weights at the midpoints {bound['to_midpoint'].iloc[0]:.2g} x"
            lines.append(line + ".")
        for name in (TWO_STAGE.name, "midpoint, end at x", STAGGERED_END.name):
            ratios = part[(part["estimator"] == name) & part["to_midpoint"].notna()]
            text = ", ".join(f"{m:.2g} ({c:.2g}) at {b}" for m, c, b in _ratios(ratios))
            lines.append(f"{network}, K = {baselines}: '{name}' x midpoint (x Monte-Carlo): {text}.")
    return lines


def _ratios(part: pd.DataFrame) -> Iterator[tuple[float, float, int]]:
    yield from zip(part["to_midpoint"], part["to_monte_carlo"], part["budget"], strict=True)


def draw(table: pd.DataFrame, path: Path) -> None:
    """One log-log panel per network and number of baselines that has several budgets."""
    panels = [(key, part) for key, part in table.groupby(["network", "baselines"], sort=False)]
    panels = [(key, part) for key, part in panels if part["budget"].nunique() > 1] or panels
    figure, axes = plt.subplots(1, len(panels), figsize=(8.5 * len(panels), 6), squeeze=False)
    colours = plt.get_cmap("tab20")
    for axis, ((network, baselines), part) in zip(axes[0], panels, strict=True):
        for number, name in enumerate(DRAWN):
            line = part[part["estimator"] == name].sort_values("gradients")
            if line.empty:
                continue
            slope = line["slope"].iloc[0]
            label = name if np.isnan(slope) else f"{name} ({slope:.2f})"
            group = line["group"].iloc[0]
            axis.loglog(
                line["gradients"],
                line["error"].clip(lower=1e-16),
                {"bound": ":", "peer": "--"}.get(group, "-"),
                marker="o" if group != "bound" else None,
                markersize=4,
                linewidth=2.5 if name in (TWO_STAGE.name, MIDPOINT.name, STAGGERED_END.name) else 1.2,
                color=colours(number),
                label=label,
            )
        axis.set_title(f"{network}, K = {baselines}", fontsize=10)
        axis.set_xlabel("gradients per image")
        axis.set_ylabel("relative L2 error of the map (median over images)")
        axis.grid(True, which="both", alpha=0.25)
        outside = {"loc": "upper left", "bbox_to_anchor": (1.01, 1)}
        axis.legend(fontsize=7, title="fitted slope in brackets", title_fontsize=7, **outside)
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    plt.close(figure)


def report(table: pd.DataFrame, heading: str) -> str:
    """The tables and notes in Markdown."""
    parts = [heading]
    for (network, baselines), part in table.groupby(["network", "baselines"], sort=False):
        parts.append(f"## {network}, K = {baselines} baselines\n\n{wide(part).to_markdown(index=False)}")
    return "\n\n".join([*parts, "## Notes\n\n" + "\n".join(f"- {line}" for line in notes(table))])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.convergence",
        description="Error of the expected-gradients map over the number of gradients, for many estimators.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    number = integer_from
    add("--model", nargs="+", choices=NETWORKS, default=["smooth", "resnet18"], help="networks to measure on")
    add("--data", choices=data.NAMES, default="digits", help="of the ResNet-18; digits needs no files")
    add("--root", type=Path, help="folder of CIFAR-10, or of photographs for efficientnet_lite0")
    add("--weights", type=Path, help="state_dict of the ResNet-18; needed for cifar10")
    add("--images", type=number(1), default=4, help="images to explain")
    add("--baselines", type=number(1), default=10, help="reference images")
    add("--gradients", type=number(1), nargs="+", default=[50, 100, 200, 400], metavar="N", help="budgets per image")
    add("--reference-steps", type=number(2), help="points per baseline of the reference (default: 150; smooth 2000)")
    add(
        "--many", type=number(0), default=100, help="references of the case of few points each (ResNet-18); 0: left out"
    )
    add("--many-gradients", type=number(1), nargs="+", default=[200], metavar="N", help="its budgets per image")
    add("--many-steps", type=number(2), default=40, help="its midpoints per baseline of the reference")
    add("--repeats", type=number(1), default=20, help="draws of random estimators")
    add("--no-peers", action="store_true", help="leave out GradientShap and shap's GradientExplainer")
    add("--seed", type=number(0), default=0, help="of the images, the references and all random draws")
    add("--device", default="cpu", help="where the networks run, such as cpu or cuda")
    add("--out", type=Path, default=Path("convergence"), help="folder to write to")
    add("--cache", type=Path, help=f"folder of the trained digits network (default: {models.default_cache()})")
    return parser.parse_args(arguments)


def run(settings: argparse.Namespace) -> pd.DataFrame:
    """All errors, network by network."""
    makers: list[tuple[Callable[[], Problem], list[int]]] = []
    steps = settings.reference_steps
    if "smooth" in settings.model:
        make = lambda: problems.smooth(settings.images, settings.baselines, steps or 2000, settings.seed)  # noqa: E731
        makers.append((make, settings.gradients))
    if "resnet18" in settings.model:
        makers.append((lambda: problems.resnet18(settings, settings.baselines, steps or 150), settings.gradients))
        if settings.many:
            make = lambda: problems.resnet18(settings, settings.many, settings.many_steps)  # noqa: E731
            makers.append((make, settings.many_gradients))
    if "efficientnet_lite0" in settings.model:
        make = lambda: problems.efficientnet_lite0(settings, settings.baselines, steps or 150)  # noqa: E731
        makers.append((make, settings.gradients))
    found = []
    with tqdm(total=len(makers) * settings.images, unit="image") as bar:
        for make, totals in makers:
            problem = make()
            peers = not (settings.no_peers or problem.exact)
            repeats = min(5, settings.repeats) if problem.exact else settings.repeats
            found.append(measure(problem, ESTIMATORS, sorted(totals), settings.seed, repeats, peers, bar))
    return pd.concat(found, ignore_index=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 if the settings can't be used."""
    settings = parse(arguments)
    started = time.perf_counter()
    try:
        device = torch.device(settings.device)
        torch.zeros(1, device=device)
        settings.out.mkdir(parents=True, exist_ok=True)
        rows = run(settings)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: --out {settings.out} can't be written to: {error}", file=sys.stderr)
        return 2
    table = summary(rows)
    heading = (
        f"Relative L2 error of the expected-gradients map, median over {settings.images} images, seed {settings.seed}; "
        f"reference: {settings.reference_steps or '150'} midpoints per baseline ({settings.many_steps} for K = "
        f"{settings.many}), to whose grid nodes are moved, by half a cell at most; smooth network: "
        f"{settings.reference_steps or 2000} steps and exact nodes. Peers run the network itself."
    )
    text = report(table, heading)
    print(text)
    table.to_csv(settings.out / "convergence.csv", index=False)
    rows.to_csv(settings.out / "errors.csv", index=False)
    (settings.out / "convergence.md").write_text(text + "\n", encoding="utf-8")
    draw(table, settings.out / "convergence.png")
    print(f"\n{time.perf_counter() - started:.0f} s; written to {settings.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
