"""The attribution table: methods by metrics, each cell through an unchanged `quantus.evaluate`.

    python -m benchmarks.attribution_table
    python -m benchmarks.attribution_table --data cifar10 --root DIR --weights FILE --images 64

prints it and writes table.md, table.csv, paired.csv, scores.csv (one row per method, metric and image) and maps.png.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import data, judges, methods, models, report
from benchmarks.cells import Cell, Explanations, Store, describe, run_cell
from benchmarks.command_line import integer_from
from benchmarks.errors import BenchmarkError
from benchmarks.judges import Judge
from benchmarks.methods import Method

# The share of the typical distance between an image and a reference that is called local.
LOCAL_SHARE = 0.1


@dataclass(frozen=True)
class Results:
    """All that was computed: cells, seconds per image and maps by method, and what the methods warned of."""

    cells: list[Cell]
    seconds: dict[str, float]
    maps: dict[str, np.ndarray]
    warnings: dict[str, list[str]]


def run(
    model: nn.Module,
    rows: Sequence[Method],
    columns: Sequence[Judge],
    inputs: np.ndarray,
    targets: np.ndarray,
    *,
    robustness_images: int,
    ablation_robustness: bool = False,
    seed: int = 0,
    device: str = "cpu",
    progress: bool = True,
    after_row: Callable[[Results], object] = lambda results: None,
) -> Results:
    """Work off the cells of rows by columns, row by row; the robustness columns use the first images only.

    after_row is called with all results so far whenever a row is finished.
    """
    results = Results([], {}, {}, {})
    with tqdm(total=len(rows) * (len(columns) + 1), unit="cell", disable=not progress) as bar:
        source = ""
        store: Store = {}
        for method in rows:
            if method.source != source:
                source, store = method.source, {}
            explanations = Explanations(method, model, seed, device, store)
            bar.set_description(f"{method.name}: maps")
            failure = _explain(explanations, inputs, targets, results)
            bar.update()
            for judge in columns:
                bar.set_description(f"{method.name}: {judge.name}")
                count = robustness_images if judge.robustness else len(inputs)
                if reason := failure or _left_out(method, judge, count, ablation_robustness):
                    cell = Cell(method.name, judge.name, reason=reason)
                else:
                    cell = run_cell(explanations, judge, inputs[:count], targets[:count], seed)
                results.cells.append(cell)
                bar.update()
            results.warnings[method.name] = explanations.warnings
            after_row(results)
    return results


def _explain(explanations: Explanations, inputs: np.ndarray, targets: np.ndarray, results: Results) -> str | None:
    name = explanations.method.name
    try:
        results.seconds[name] = explanations.seconds_per_image(inputs, targets)
        results.maps[name] = explanations.maps(inputs, targets)
    except Exception as error:  # the row's cells say why; the other rows go on
        return describe(error)
    return None


def _left_out(method: Method, judge: Judge, count: int, ablation_robustness: bool) -> str | None:
    if not judge.robustness:
        return None
    if count == 0:
        return "left out: --robustness-images 0"
    if method.ablation and not ablation_robustness:
        return "left out: one forward per input element and map (--ablation-robustness computes it)"
    return None


def local_radius(inputs: Tensor, references: Tensor) -> float:
    """A tenth of the median distance between an input and a reference, to three digits."""
    distances = torch.cdist(inputs.flatten(1), references.flatten(1))
    return float(f"{LOCAL_SHARE * distances.median().item():.3g}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.attribution_table",
        description="Judge attribution methods of Captum and of this project by Quantus' metrics, side by side.",
    )
    at_least = integer_from
    add = parser.add_argument
    add("--data", choices=data.NAMES, default="digits", help="digits (the default) needs no files")
    add("--root", type=Path, help="folder of CIFAR-10: train/ and test/ as an ImageFolder, or torchvision's form")
    add("--weights", type=Path, help="state_dict of a ResNet-18 for 32x32 images; digits can do without")
    add("--images", type=at_least(1), default=2, help="correctly classified test images to explain (%(default)s)")
    add("--robustness-images", type=at_least(0), default=1, help="of these, for the sensitivity columns (%(default)s)")
    add("--methods", nargs="+", metavar="NAME", help=f"rows (all), by name or group: {', '.join(methods.GROUPS)}")
    add("--metrics", nargs="+", metavar="NAME", help=f"columns (all): {', '.join(judges.available())}")
    add(
        "--baselines", type=at_least(1), default=10, help="reference images, drawn from the training ones (%(default)s)"
    )
    add("--n-steps", type=at_least(1), default=10, help="points per reference image (%(default)s)")
    add("--radius", type=_positive, help="local radius in normalised units (a tenth of the median distance)")
    add("--fresh-draws", action="store_true", help="local measures draw new points for each explanation")
    add("--ablation-robustness", action="store_true", help="also the sensitivity columns of the ablation rows (slow)")
    add("--seed", type=at_least(0), default=0, help="of images, references and all random draws (%(default)s)")
    add("--device", default="cpu", help="where the network runs, such as cpu or cuda (%(default)s)")
    add("--out", type=Path, default=Path("results"), help="folder to write to (%(default)s)")
    add("--cache", type=Path, help=f"folder of the trained digits network ({models.default_cache()})")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; 0 if anything could be computed, 1 if nothing, 2 if the settings can't be used."""
    settings = parse(arguments)
    try:
        return table(settings)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def table(settings: argparse.Namespace) -> int:
    """Compute the table, print it and write its files."""
    started = time.perf_counter()
    device = _device(settings.device)
    columns = judges.choose(judges.available(), settings.metrics)
    images = data.load(settings.data, settings.root)
    references = data.sample_references(images.train, settings.baselines, settings.seed)
    # Names are checked before the minute that a training may take.
    methods.choose(methods.available(methods.MethodSettings(references)), settings.methods)
    _writable(settings.out)

    model = models.ready(_model(settings, images), device)
    selection = data.select_correct(model, images.test, settings.images, settings.seed, device)
    radius = settings.radius or local_radius(selection.x, references)
    rows = methods.choose(
        methods.available(
            methods.MethodSettings(references, settings.n_steps, radius, settings.seed, settings.fresh_draws)
        ),
        settings.methods,
    )
    facts = report.Facts(
        data=images.name,
        images=settings.images,
        tried=selection.tried,
        robustness_images=min(settings.robustness_images, settings.images),
        seed=settings.seed,
        baselines=settings.baselines,
        n_steps=settings.n_steps,
        radius=radius,
        radius_chosen=settings.radius is None,
        fresh_draws=settings.fresh_draws,
        device=settings.device,
        shape=tuple(selection.x.shape[1:]),
    )
    print(report.heading(facts), flush=True)
    results = run(
        model,
        rows,
        columns,
        selection.x.numpy(),
        selection.y.numpy(),
        robustness_images=facts.robustness_images,
        ablation_robustness=settings.ablation_robustness,
        seed=settings.seed,
        device=settings.device,
        # A run that is interrupted leaves the scores of its finished rows.
        after_row=lambda sofar: report.write_scores(settings.out, report.long_scores(sofar.cells, selection, facts)),
    )
    scores = report.long_scores(results.cells, selection, facts)
    written = report.write(settings.out, facts, rows, columns, results, scores, images.pixels(selection.x))
    print(written.text)
    print(f"\n{time.perf_counter() - started:.0f} s; written to {settings.out}: {', '.join(written.files)}")
    return 0 if len(scores) else 1


def _model(settings: argparse.Namespace, images: data.Images) -> nn.Module:
    model = models.trained(settings.data, images, settings.weights, settings.cache)
    if settings.weights is None:
        print(f"digits network: accuracy {models.accuracy(model, images.test):.1%} on {len(images.test)} test images")
    return model


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BenchmarkError(f"--device {name} can't be used here: {' '.join(str(error).split())[:200]}") from error
    return device


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BenchmarkError(f"--out {folder} can't be written to: {error}") from error


def _positive(text: str) -> float:
    value = float(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"must be above 0, got {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
