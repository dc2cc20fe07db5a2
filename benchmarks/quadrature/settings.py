"""The settings of the command, which its command line is made from."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.data.datasets import NAMES
from benchmarks.run.command_line import add_options, integer_from, option

TABLES = ("convergence", "samples", "steps", "screening", "precision")
NETWORKS = ("smooth", "resnet18", "efficientnet_lite0")


@dataclass(frozen=True)
class Settings:
    """What is measured. Only convergence takes other networks than the ResNet-18."""

    tables: Sequence[str] = option("which tables (convergence)", nargs="+", choices=TABLES, default=TABLES[:1])
    model: Sequence[str] = option(
        "networks of convergence (smooth resnet18)", nargs="+", choices=NETWORKS, default=NETWORKS[:2]
    )
    data: str = option("of the ResNet-18; digits needs no files (%(default)s)", choices=NAMES, default="digits")
    root: str | None = option("folder of CIFAR-10, or of photographs for efficientnet_lite0", default=None)
    weights: str | None = option("state_dict of the ResNet-18; needed for cifar10", default=None)
    cache: str | None = option("folder of the trained digits network (the user's cache)", default=None)
    images: int = option("correctly classified images to explain (%(default)s)", type=integer_from(1), default=4)
    baselines: int = option("reference images (%(default)s)", type=integer_from(1), default=10)
    gradients: Sequence[int] = option(
        "of convergence: budgets per image (50 100 200 400)",
        type=integer_from(1),
        nargs="+",
        default=(50, 100, 200, 400),
    )
    reference_steps: int | None = option(
        "its reference's points per baseline (150; smooth: 2000)", type=integer_from(2), default=None
    )
    many: int = option(
        "references of its case of few points each; 0: left out (%(default)s)", type=integer_from(0), default=100
    )
    many_gradients: Sequence[int] = option(
        "budgets of that case (200)", type=integer_from(1), nargs="+", default=(200,)
    )
    many_steps: int = option("its reference's points per baseline (%(default)s)", type=integer_from(2), default=40)
    draws: int = option("of random estimators (%(default)s)", type=integer_from(1), default=20)
    peers: bool = option(
        "GradientShap and shap's GradientExplainer, too (they are)", action=argparse.BooleanOptionalAction, default=True
    )
    compared: int = option(
        "of samples and steps: images whose map's error is taken (%(default)s)", type=integer_from(1), default=8
    )
    n_steps: int = option("fixed steps per baseline (%(default)s)", type=integer_from(1), default=50)
    n_samples: int = option("of GradientShap, in samples (%(default)s)", type=integer_from(1), default=200)
    screening_steps: Sequence[int] = option(
        "of the coarse first look (2 5 6)", type=integer_from(1), nargs="+", default=(2, 5, 6)
    )
    repeats: int = option("interleaved repeats of what is timed (%(default)s)", type=integer_from(1), default=5)
    seed: int = option("of images, references and all random draws (%(default)s)", type=integer_from(0), default=0)
    device: str = option("such as cpu or cuda (%(default)s)", default="cpu")
    out: str = option("folder to write to (%(default)s)", default="quadrature")


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """The command line's settings."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.quadrature",
        description="How exact a map is for its number of gradients, and how fewer or cheaper ones do.",
    )
    add_options(parser, Settings)
    return Settings(**vars(parser.parse_args(arguments)))
