"""The settings of the command, which its command line is made from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.data.datasets import NAMES
from benchmarks.run.command_line import integer_from, option

NETWORKS = ("smooth", "resnet18", "efficientnet_lite0")


def _number(words: str, default: int | None, least: int = 1) -> Any:
    shown = "" if default is None else " (%(default)s)"
    return option(words + shown, type=integer_from(least), default=default)


def _numbers(words: str, *default: int) -> Any:
    words = f"{words} ({' '.join(map(str, default))})"
    return option(words, type=integer_from(1), nargs="+", default=default)


@dataclass(frozen=True)
class Settings:
    """What is measured. Only convergence takes other networks than the ResNet-18."""

    model: Sequence[str] = option(
        "networks of convergence (smooth resnet18)", nargs="+", choices=NETWORKS, default=NETWORKS[:2]
    )
    data: str = option("of the ResNet-18; digits needs no files (%(default)s)", choices=NAMES, default="digits")
    root: str | None = option("folder of CIFAR-10, or of photographs for efficientnet_lite0", default=None)
    weights: str | None = option("state_dict of the ResNet-18; needed for cifar10", default=None)
    cache: str | None = option("folder of the trained digits network (the user's cache)", default=None)
    images: int = _number("correctly classified images to explain", 4)
    baselines: int = _number("reference images", 10)
    gradients: Sequence[int] = _numbers("of convergence: budgets per image", 50, 100, 200, 400)
    reference_steps: int | None = _number("its reference's points per baseline (150; smooth: 2000)", None, least=2)
    many: int = _number("references of its case of few points each; 0: left out", 100, least=0)
    many_gradients: Sequence[int] = _numbers("budgets of that case", 200)
    many_steps: int = _number("its reference's points per baseline", 40, least=2)
    draws: int = _number("of random estimators", 20)
    peers: bool = option(
        "GradientShap and shap's GradientExplainer, too (they are)", action=argparse.BooleanOptionalAction, default=True
    )
    compared: int = _number("of samples and steps: images whose map's error is taken", 8)
    n_steps: int = _number("fixed steps per baseline", 50)
    n_samples: int = _number("of GradientShap, in samples", 200)
    screening_steps: Sequence[int] = _numbers("of the coarse first look", 2, 5, 6)
    repeats: int = _number("interleaved repeats of what is timed", 5)
    seed: int = _number("of images, references and all random draws", 0, least=0)
    device: str = option("such as cpu or cuda (%(default)s)", default="cpu")
    out: str = option("folder to write to (%(default)s)", default="quadrature")
