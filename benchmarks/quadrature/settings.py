"""The settings of the command, which its command line is made from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from benchmarks.run.command_line import check_at_least


@dataclass(frozen=True)
class Settings:
    """The command line.

    Attributes:
        tables: convergence: the error of eight estimators over the number of gradients. samples: Captum's GradientShap
            beside a few points on each path. steps: fixed numbers of steps beside automatic ones. screening: baselines
            chosen by a coarse first look. precision: other precisions, memory formats and compilers.
        model: of convergence, the networks to measure on; the other tables take the ResNet-18.
        data: of the ResNet-18; digits needs no files.
        root: folder of CIFAR-10, or of photographs for efficientnet_lite0.
        weights: state_dict of the ResNet-18; needed for cifar10.
        cache: folder of the network trained on the digits; None: the user's.
        images: images to explain; of the ResNet-18, correctly classified ones.
        baselines: reference images.
        gradients: budgets of convergence, for each image.
        reference_steps: points per baseline of its reference; None: 150, of the smooth network 2000.
        many: references of its case of few points each (ResNet-18); 0: left out.
        many_gradients: the budgets of that case.
        many_steps: its midpoints per baseline of the reference.
        draws: of random estimators.
        peers: also GradientShap and shap's GradientExplainer.
        compared: of samples and steps, images whose map's error is taken.
        n_steps: fixed steps per baseline of steps, screening and precision.
        n_samples: of GradientShap, in samples.
        screening_steps: of the coarse first look.
        repeats: interleaved repeats of what is timed.
        seed: of the images, the references and all random draws.
        device: where convergence and precision run, such as cpu or cuda.
        out: folder to write to.
    """

    tables: tyro.conf.Positional[tuple[Literal["convergence", "samples", "steps", "screening", "precision"], ...]] = (
        "convergence",
    )
    model: tuple[Literal["smooth", "resnet18", "efficientnet_lite0"], ...] = ("smooth", "resnet18")
    data: Literal["digits", "cifar10"] = "digits"
    root: Path | None = None
    weights: Path | None = None
    cache: Path | None = None
    images: int = 4
    baselines: int = 10
    gradients: tuple[int, ...] = (50, 100, 200, 400)
    reference_steps: int | None = None
    many: int = 100
    many_gradients: tuple[int, ...] = (200,)
    many_steps: int = 40
    draws: int = 20
    peers: bool = True
    compared: int = 8
    n_steps: int = 50
    n_samples: int = 200
    screening_steps: tuple[int, ...] = (2, 5, 6)
    repeats: int = 5
    seed: int = 0
    device: str = "cpu"
    out: Path = Path("quadrature")

    def __post_init__(self) -> None:
        check_at_least(0, self, "many", "seed")
        check_at_least(1, self, "images", "baselines", "gradients", "many_gradients", "draws", "compared", "n_steps")
        check_at_least(1, self, "n_samples", "screening_steps", "repeats")
        check_at_least(2, self, "reference_steps", "many_steps")
