"""captum-wg explain: for each image a picture, the map, and what made it."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d
from tqdm import tqdm

from captum_wg.command_line.baseline_sets import BaselineSet
from captum_wg.command_line.errors import ImageError, UsageError
from captum_wg.command_line.methods import Explainer
from captum_wg.command_line.models import Network, for_side, load
from captum_wg.command_line.panel import write_panel
from captum_wg.command_line.photographs import PANEL, find, read

# Of the baselines' pictures that are kept for a report.
_SIDE = 112


def explain(settings: argparse.Namespace) -> int:
    """Explain the images of the parsed arguments: 0, or 1 if some of them could not be.

    Raises:
        UsageError: the arguments can't be used.
    """
    images = find(settings.images)
    network = _network(settings)
    explainer = Explainer(
        network, settings.method, settings.price, settings.patches, settings.layer, settings.steps, settings.seed
    )
    if settings.baselines is not None and explainer.baselines is None:
        raise UsageError(f"--baselines: {explainer.name} takes none; leave it out")
    named = settings.baselines or explainer.baselines
    baselines = None if named is None else BaselineSet.parse(named)
    target = None if settings.target is None else network.class_number(settings.target)
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {settings.out} can't be made: {error.strerror}") from error

    one = _Run(settings, network, explainer, baselines, named, target)
    failed = 0
    with warnings.catch_warnings(), tqdm(images.items(), unit="image", disable=None) as bar:
        for start in ("Setting .*hooks", "Input Tensor"):  # Captum says so at each call
            warnings.filterwarnings("ignore", message=start)
        warnings.showwarning = lambda message, *_, **__: tqdm.write(f"warning: {message}", file=sys.stderr)
        for name, path in bar:
            try:
                tqdm.write(one.explain(name, path), file=sys.stdout)
            except UsageError:
                raise
            except Exception as error:  # networks and Captum fail in many ways, and one image's failure is its own
                failed += 1
                tqdm.write(f"{path}: {error or type(error).__name__}", file=sys.stderr)
    if failed:
        print(f"{failed} of {len(images)} images could not be explained", file=sys.stderr)
    return 1 if failed else 0


@dataclass(frozen=True)
class _Run:
    """What is the same for all images."""

    settings: argparse.Namespace
    network: Network
    explainer: Explainer
    baselines: BaselineSet | None
    named: str | None
    target: int | None

    def explain(self, name: str, path: Path) -> str:
        """Explain one image, write its files, and say what came out."""
        start = time.perf_counter()
        preparation = self.network.preparation
        x = preparation.input(read(path)).unsqueeze(0)
        number, probability, words = self._class(x)
        rows: Tensor | None = None
        labels: list[str] = []
        if self.baselines is not None:
            rows, labels = self.baselines.of(x, path, preparation, self.settings.seed)
        found = self.explainer.explain(x, rows, number)
        out = self.settings.out / name
        attribution = found.attribution.detach()
        pixels = preparation.pixels(x[0])
        panel, values, made_by = (out.with_name(f"{out.name}{end}") for end in (PANEL, ".npz", ".json"))
        write_panel(panel, pixels, attribution, self.settings.style, (f"{path.name}: {words}", self.explainer.title))
        arrays: dict[str, Any] = {"attribution": attribution.numpy(), "pixels": pixels.numpy()}
        if rows is not None and found.maps is not None:
            bytes_ = (_small(preparation.pixels(rows)) * 255).round().astype(np.uint8)
            arrays |= {"baseline_pixels": bytes_, "baseline_maps": _small(found.maps)}
        np.savez_compressed(values, **arrays)
        table = [
            {"name": label} | ({"D_alpha": d, "weight": w} if w is not None else {})
            for label, d, w in _padded(labels, found.distances, found.weights)
        ]
        record = {
            "image": str(path),
            "class": number,
            "class_name": None if number is None else self.network.class_name(number),
            "probability": probability,
            "baselines": table,
            "arguments": {k: _plain(v) for k, v in vars(self.settings).items() if not callable(v)},
            "method": self.explainer.title,
            "baselines_named": self.named,
            "preparation": vars(preparation),
            "seconds": round(time.perf_counter() - start, 2),
            "versions": {package: version(package) for package in ("captum-wg", "captum", "torch")},
        }
        made_by.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        lines = [f"{path}: {words}"]
        if found.weights:
            lines += [f"  {'baseline':<24}{'D_alpha':>9}{'share':>8}{'weight':>8}"]
            for label, d, w in _padded(labels, found.distances, found.weights):
                share = "" if d is None else f"{d / found.features:.1%}"
                lines += [f"  {label:<24}{'' if d is None else d:>9}{share:>8}{w:>8.3f}"]
        return "\n".join([*lines, f"  wrote {panel}, {values.name}, {made_by.name} ({record['seconds']:.1f} s)"])

    def _class(self, x: Tensor) -> tuple[int | None, float, str]:
        """The class that is explained, its probability (of a single output that output), and both in words."""
        try:
            with torch.no_grad():
                out = self.network.model(x)
        except (RuntimeError, AssertionError) as error:  # a program asserts its shapes
            last = str(error).strip().splitlines()[-1]
            raise ImageError(
                f"{self.network.name} does not take images of shape {tuple(x.shape)} ({last}); if it wants another "
                "size, give --size"
            ) from error
        if not isinstance(out, Tensor) or out.ndim not in (1, 2):
            came = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise UsageError(f"--model must return scores (B, classes), got {came}")
        row = out.reshape(len(x), -1)[0].float()
        if not torch.isfinite(row).all():
            raise ImageError(f"{self.network.name} answers with NaN or infinite values")
        if len(row) == 1:
            return (0 if out.ndim == 2 else None), float(row[0]), f"output {float(row[0]):.4g}"
        if self.target is not None and self.target >= len(row):
            raise UsageError(f"--target {self.target}: {self.network.name} has the classes 0 to {len(row) - 1}")
        is_distribution = bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 1e-3
        probabilities = row if is_distribution else row.softmax(0)
        number = int(row.argmax()) if self.target is None else self.target
        probability = float(probabilities[number])
        return number, probability, f"{self.network.class_name(number)}, probability {probability:.3f}"


def _network(settings: argparse.Namespace) -> Network:
    """The network, prepared for and named as the arguments say."""
    network = load(settings.model, settings.weights)
    preparation = network.preparation
    if settings.size is not None:
        sizes = for_side(settings.size)
        preparation = replace(preparation, resize=sizes.resize, crop=sizes.crop)
    if settings.mean is not None:
        preparation = replace(preparation, mean=settings.mean)
    if settings.std is not None:
        if min(settings.std) <= 0:
            raise UsageError(f"--std must be above 0, got {min(settings.std):g}")
        preparation = replace(preparation, std=settings.std)
    classes = network.classes
    if settings.classes is not None:
        try:
            classes = tuple(settings.classes.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--classes {settings.classes} can't be read: {error}") from error
    return replace(network, preparation=preparation, classes=classes)


def _small(pictures: Tensor) -> np.ndarray:
    """Pictures (K, C, H, W) or (K, H, W) for a report, which are averaged to a side of `_SIDE` if they are larger."""
    times = max(1, min(pictures.shape[-2:]) // _SIDE)
    small: np.ndarray = avg_pool2d(pictures, times).numpy()
    return small


def _padded(labels: list[str], *columns: list[Any]) -> list[tuple[Any, ...]]:
    """Rows of columns, of which some are empty."""
    return list(zip(labels, *(column or [None] * len(labels) for column in columns), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return str(value) if isinstance(value, Path) else value
