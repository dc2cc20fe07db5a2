"""How few gradients do: steps until the convergence delta is small, and baselines chosen by a coarse first look.

    python -m benchmarks.fewer
    python -m benchmarks.fewer --data cifar10 --root DIR --weights FILE --images 32
    python -m benchmarks.fewer --data cifar10 --root DIR --weights FILE --images 64 --only screening

prints three tables and writes them as samples.csv, steps.csv, screening.csv and fewer.md:

- samples: the error and time of Captum's GradientShap beside a few points on each path.
- steps: fixed numbers of steps beside n_steps="auto" at the relative convergence delta that a fixed rule keeps for 90 %
  of the images; gradients, deltas and the error of the map.
- screening: WeightedGradients with half of its baselines, chosen by their full maps or by coarse ones; evaluations
  and the deletion AUC, paired with that of all baselines.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from captum.attr import GradientShap
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.cost.counting import Counted
from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from benchmarks.run.command_line import integer_from
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import seeded
from benchmarks.statistics import paired_comparison
from captum_wg import ExpectedGradients, WeightedGradients
from quantus_ext import DeletionAUC

FIXED = ("gausslegendre", "riemann_middle", "riemann_shared_end")
AT_ONCE = 8
REFERENCE_STEPS = 300
SHARE = 0.9


def scales(model: nn.Module, x: Tensor, y: Tensor, references: Tensor) -> Tensor:
    """mean_k |F(x) - F(x'_k)| of each image, (N,)."""
    with torch.no_grad():
        at_x = model(x).gather(1, y.unsqueeze(1))
        return (at_x - model(references).T[y]).abs().mean(1)


def exact_maps(model: nn.Module, x: Tensor, y: Tensor, references: Tensor, name: str = "") -> Tensor:
    """Expected gradients of x (N, C, H, W) by 300 midpoints per baseline."""
    method = ExpectedGradients(model)
    return _in_parts(
        lambda e: method.attribute(
            x[e], references, y[e], n_steps=REFERENCE_STEPS, method="riemann_middle", pairing="shared"
        ),
        len(x),
        f"{name} reference".strip(),
    )


def relative_errors(maps: Tensor, exact: Tensor) -> Tensor:
    """|map - exact| / |exact| of each image, (N,)."""
    return (maps - exact).flatten(1).norm(dim=1) / exact.flatten(1).norm(dim=1)


def samples_table(
    model: nn.Module, x: Tensor, y: Tensor, references: Tensor, exact: Tensor, n_samples: int, repeats: int
) -> pd.DataFrame:
    """GradientShap with n_samples beside few points of ExpectedGradients: error and seconds, image by image.

    All rows take turns in every repeat, the first of which warms up and is not counted.
    """
    ours, counted = ExpectedGradients, Counted(model)
    cases: dict[str, Callable[[Tensor, int], Tensor]] = {
        f"GradientShap, n_samples={n_samples}": lambda z, t: GradientShap(counted).attribute(
            z, references, n_samples=n_samples, stdevs=0.0, target=t
        )
    }
    for n in (2, 3, 4, 6, n_samples // len(references) + 1):
        cases[f"riemann_shared_end, n_steps={n}"] = lambda z, t, n=n: ours(counted).attribute(
            z, references, t, n_steps=n, method="riemann_shared_end", pairing="shared"
        )
    for n in (n_samples // (2 * len(references)) + 1, n_samples // len(references) + 1):
        cases[f"adaptive, n_steps={n}"] = lambda z, t, n=n: ours(counted).attribute(
            z, references, t, n_steps=n, method="adaptive", pairing="shared"
        )
    for n in (2 * len(references), n_samples):
        cases[f"staggered, n_samples={n}"] = lambda z, t, n=n: ours(counted).attribute(
            z, references, t, n_samples=n, sampling="staggered", pairing="shared"
        )
    seconds: dict[str, list[float]] = {title: [] for title in cases}
    errors: dict[str, list[float]] = {title: [] for title in cases}
    gradients: dict[str, int] = {}
    for repeat in tqdm(range(repeats + 1), desc="samples", unit="repeat", leave=False):
        for title, explain in cases.items():
            counted.counter.reset()
            started = time.perf_counter()
            with seeded("samples", repeat):
                maps = torch.cat([explain(x[i : i + 1], int(y[i])).detach() for i in range(len(x))])
            if repeat > 0:
                seconds[title].append((time.perf_counter() - started) / len(x))
                errors[title].append(float(relative_errors(maps, exact).median()))
            gradients[title] = counted.counter.gradients // len(x)
    first = next(iter(cases))
    return pd.DataFrame(
        {
            "row": title,
            "gradients": gradients[title],
            "seconds": float(np.median(seconds[title])),
            "error": float(np.mean(errors[title])),
            "time_ratio": float(np.median([a / b for a, b in zip(seconds[title], seconds[first], strict=True)])),
            "error_ratio": float(np.mean(errors[title]) / np.mean(errors[first])),
        }
        for title in cases
    )


def steps_table(
    model: nn.Module, x: Tensor, y: Tensor, references: Tensor, n_steps: int, exact: Tensor, name: str
) -> pd.DataFrame:
    """Fixed rules of n_steps points and n_steps="auto" on images x (N, C, H, W).

    The tolerance of an automatic row is the 0.9 quantile of a fixed rule's relative deltas. The error of the map is
    that to `exact`, the maps of the first images.
    """
    counted = Counted(model)
    method = ExpectedGradients(counted)
    scale = scales(model, x, y, references)
    rows: list[dict] = []

    def add(title: str, tolerance: float | None, **options: object) -> None:
        counted.counter.reset()
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            maps, deltas = _in_parts(
                lambda e: method.attribute(
                    x[e], references, y[e], return_convergence_delta=True, pairing="shared", **options
                ),
                len(x),
                f"{name}, {title}",
            )
        relative = (deltas.abs() / scale).double().numpy()
        quantile = float(np.quantile(relative, SHARE, method="higher"))
        error = relative_errors(maps[: len(exact)], exact)
        rows.append(
            {
                "baselines": name,
                "row": title,
                "images": len(x),
                "gradients": counted.counter.gradients / len(x),
                "of_fixed": counted.counter.gradients / (len(x) * len(references) * n_steps),
                "tolerance": quantile if tolerance is None else tolerance,
                # Equal but for rounding where both rules take the same points.
                "within": float((relative <= (1 + 1e-5) * (quantile if tolerance is None else tolerance)).mean()),
                "delta_median": float(np.median(relative)),
                "delta_quantile": quantile,
                "delta_largest": float(relative.max()),
                "map_error": float(error.median()),
                "warnings": sum("delta_tolerance" in str(w.message) for w in said),
            }
        )

    for rule in FIXED:
        add(f"{rule}, n_steps={n_steps}", None, n_steps=n_steps, method=rule)
    for fixed, rule in zip(list(rows), FIXED, strict=True):
        tolerance = max(fixed["delta_quantile"], 1e-12)  # a linear function has no delta
        add(f"auto, as {rule}", tolerance, n_steps="auto", delta_tolerance=tolerance, max_steps=1400)
    return pd.DataFrame(rows)


def screening_table(
    model: nn.Module, x: Tensor, y: Tensor, references: Tensor, n_steps: int, screening: Sequence[int], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """WeightedGradients and its shorter ways on images x (N, C, H, W), and each image's deletion AUC.

    Shorter: keep=0.5 with each number of screening steps; all by "riemann_shared_end", whose points screening can use
    again. `all` takes every baseline.
    """
    counted = Counted(model)
    method = WeightedGradients(counted)
    metric = DeletionAUC(disable_warnings=True)
    cases: dict[str, dict] = {"all": {}}
    cases |= {f"keep=0.5, screening_steps={s}": {"keep": 0.5, "screening_steps": s} for s in screening}
    rows, scores = [], {}
    for title, options in cases.items():
        counted.counter.reset()
        maps, weights = _in_parts(
            lambda e, options=options: method.attribute(
                x[e],
                references,
                y[e],
                n_steps=n_steps,
                method="riemann_shared_end",
                return_weights=True,
                pairing="shared",
                **options,
            ),
            len(x),
            title,
        )
        scores[title] = np.asarray(
            metric(
                model=model,
                x_batch=x.numpy(),
                y_batch=y.numpy(),
                a_batch=maps.sum(1, keepdim=True).numpy(),
                channel_first=True,
            ),
            dtype=float,
        )
        if title == "all":
            # The largest weights are those of the smallest D_alpha.
            count = max(1, round(0.5 * len(references)))
            best = weights.argsort(dim=1, descending=True, stable=True)[:, :count]
        kept_alike = (weights.gather(1, best) > 0).sum(1).float().mean() if options else torch.tensor(float("nan"))
        rows.append(
            {
                "row": title,
                "gradients": counted.counter.gradients / len(x),
                "forwards": counted.counter.forwards / len(x),
                "kept_as_by_full_maps": float(kept_alike),
                **{
                    k: v
                    for k, v in asdict(paired_comparison(scores["all"], scores[title], seed)).items()
                    if k != "reference_mean"
                },
            }
        )
    each = pd.DataFrame(scores).rename_axis("image").reset_index()
    return pd.DataFrame(rows), each


def _in_parts(attribute, count: int, what: str):
    """attribute(slice) over `count` images, a few at a time, its results joined."""
    found = []
    for start in tqdm(range(0, count, AT_ONCE), desc=what, unit="chunk", leave=False):
        found.append(attribute(slice(start, min(start + AT_ONCE, count))))
    if isinstance(found[0], tuple):
        return tuple(torch.cat(part).detach() for part in zip(*found, strict=True))
    return torch.cat(found).detach()


def readable(table: pd.DataFrame) -> str:
    """The table in Markdown, fractions in percent."""
    shown = table.copy()
    for column in ("of_fixed", "within", "relative_change", "low", "high"):
        if column in shown:
            shown[column] = [f"{100 * v:.1f} %" if np.isfinite(v) else "-" for v in shown[column]]
    for column in (
        "tolerance",
        "delta_median",
        "delta_quantile",
        "delta_largest",
        "map_error",
        "p",
        "error",
        "time_ratio",
        "error_ratio",
    ):
        if column in shown:
            shown[column] = [f"{v:.2g}" if v is not None and np.isfinite(v) else "-" for v in shown[column]]
    return shown.to_markdown(index=False, floatfmt=".4g", disable_numparse=False)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.fewer",
        description="Fewer gradients for the same answer: automatic steps, and screening of baselines.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--only", choices=("samples", "steps", "screening"), help="one of the tables")
    add("--data", choices=data.NAMES, default="digits", help="digits needs no files")
    add("--root", type=Path, help="folder of CIFAR-10")
    add("--weights", type=Path, help="state_dict of the ResNet-18; needed for cifar10")
    add("--images", type=integer_from(1), default=4, help="correctly classified images to explain")
    add("--compared", type=integer_from(1), default=8, help="of these, images whose map's error is taken")
    add("--baselines", type=integer_from(1), default=10, help="reference images")
    add("--n-steps", type=integer_from(1), default=50, help="fixed steps per baseline")
    add("--n-samples", type=integer_from(1), default=200, help="of GradientShap")
    add("--repeats", type=integer_from(1), default=5, help="interleaved repeats of the first table")
    add("--screening-steps", type=integer_from(1), nargs="+", default=[2, 5, 6], help="of the coarse first look")
    add("--seed", type=int, default=0, help="of the images and the references")
    add("--out", type=Path, default=Path("fewer"), help="folder to write to")
    add("--cache", type=Path, help=f"folder of the trained digits network (default: {models.default_cache()})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0, or 2 if the settings can't be used."""
    given = parse(arguments)
    started = time.perf_counter()
    try:
        given.out.mkdir(parents=True, exist_ok=True)
        images = data.load(given.data, given.root)
        references = data.sample_references(images.train, given.baselines, given.seed)
        model = models.ready(models.trained(given.data, images, given.weights, given.cache), "cpu")
        chosen = data.select_correct(model, images.test, given.images, given.seed)
        data.tell_unreadable(chosen.unreadable.values())
    except (BenchmarkError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    x, y = chosen.x, chosen.y
    few = slice(0, min(given.compared, len(x)))
    parts = [
        f"# Fewer gradients\n\nResNet-18 at 32x32, {images.name}, n = {len(x)} correctly classified images, "
        f"K = {given.baselines} reference images, seed {given.seed}, {torch.get_num_threads()} threads."
    ]
    if given.only != "screening":
        exact = exact_maps(model, x[few], y[few], references, f"{given.baselines} baselines,")
    if given.only in (None, "samples"):
        samples = samples_table(model, x[few], y[few], references, exact, given.n_samples, given.repeats)
        samples.to_csv(given.out / "samples.csv", index=False)
        parts.append(f"## Samples\n\n{readable(samples)}")
        parts.append(
            f"{len(exact)} images, one call each; gradients and seconds are those of one (median of {given.repeats} "
            f"interleaved repeats), error the relative L2 distance to {REFERENCE_STEPS} midpoints per baseline (median "
            "over images, mean over repeats, in which GradientShap draws anew). Ratios to the first row."
        )
    if given.only in (None, "steps"):
        zero = torch.zeros_like(references[:1])
        exact_of_one = exact_maps(model, x[few], y[few], zero, "1 baseline,")
        many = steps_table(model, x, y, references, given.n_steps, exact, f"{given.baselines}")
        one = steps_table(model, x, y, zero, given.n_steps, exact_of_one, "1 (zero)")
        steps = pd.concat([many, one], ignore_index=True)
        steps.to_csv(given.out / "steps.csv", index=False)
        parts.append(f"## Steps\n\n{readable(steps)}")
        parts.append(
            f"gradients: per image. of_fixed: of {given.n_steps} per baseline. Deltas are relative to mean_k |F(x) - "
            f"F(x'_k)|; delta_quantile: kept by {SHARE:.0%} of the images; within: share of images within the "
            "tolerance. "
            f"map_error: relative L2 distance to {REFERENCE_STEPS} midpoints per baseline, median of {len(exact)} "
            "images. warnings: calls of 8 images that left some outside."
        )
    if given.only in (None, "screening"):
        screening, each = screening_table(model, x, y, references, given.n_steps, given.screening_steps, given.seed)
        screening.to_csv(given.out / "screening.csv", index=False)
        each.to_csv(given.out / "deletion.csv", index=False)
        parts.append(f"## Screening\n\n{readable(screening)}")
        parts.append(
            f"WeightedGradients, {given.n_steps} steps of riemann_shared_end. gradients, forwards: per image. "
            "kept_as_by_full_maps: how many of the baselines kept are those that full maps keep. mean: DeletionAUC "
            "(lower is better); change, 95 % bootstrap interval and p (paired t-test) against all baselines."
        )
    text = "\n\n".join(parts)
    print(text)
    (given.out / "fewer.md").write_text(text + "\n", encoding="utf-8")
    print(f"\n{time.perf_counter() - started:.0f} s; written to {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
