"""Judges that remove or restore pixels: the one the weights are fitted to, others that they never saw, and ROAD."""

from __future__ import annotations

from typing import Any

import numpy as np
import quantus
import torch

from benchmarks.judges.blocks import by_blocks
from benchmarks.judges.judge import Judge, JudgeSettings
from quantus_ext import DeletionAUC, InsertionAUC

ROAD_PERCENTAGES = range(10, 100, 10)
CHANNELS = "{name} sums over the channels itself."


def noise(x: torch.Tensor) -> torch.Tensor:
    """What no weighting here is fitted to: Gaussian noise of the normalised inputs' spread."""
    return torch.randn(x.shape[1:], generator=torch.Generator().manual_seed(0)).to(x).expand_as(x)


# What takes the place of removed pixels; the first is what D_alpha is taken with by default.
REMOVALS: dict[str, Any] = {"corners": "corners", "blur": "blur", "mean": "mean", "noise": noise, "zero": 0.0}


def _judge(kind: type, removal: str, *, slow: bool, ranking: str = "", cells: int | None = None) -> Judge:
    """Deletion or insertion of pixels, or of the blocks of a grid of cells x cells."""
    grid = [] if cells is None else [f"grid{cells}"]
    words = [kind.__name__, *grid, *([ranking] if ranking else [] if removal == "corners" else [removal])]
    metric = kind if cells is None else by_blocks(kind, cells)
    blocks = "" if cells is None else f", a grid of {cells} x {cells} blocks"
    return Judge(
        "-".join(words),
        lambda own: metric(
            removal=REMOVALS[removal],
            ranking=ranking or own.ranking,
            levels=own.levels,
            internal_batch_size=own.batch,
            disable_warnings=True,
        ),
        higher_is_better=kind is InsertionAUC,
        form=3,
        settings=f'removal="{removal}"' + (f', ranking="{ranking}"' if ranking else "") + blocks,
        notes=(CHANNELS,),
        slow=slow,
        works_by=None if ranking else ("deletion" if kind is DeletionAUC else "insertion", removal),
        removes=kind is DeletionAUC,
    )


def _road(settings: JudgeSettings) -> quantus.ROAD:
    # Of all elements of three channels, of which only the first ranks pixels: see pixel_ranks.
    shares = [percentage / 3 for percentage in ROAD_PERCENTAGES]
    absolute = settings.ranking == "absolute"
    return quantus.ROAD(percentages=shares, noise=0.01, abs=absolute, normalise=False, disable_warnings=True)


def pixel_ranks(maps: np.ndarray, settings: JudgeSettings) -> np.ndarray:
    """Maps (N, C, H, W) for Quantus' ROAD: the pixels' ranks (the highest is P) in the first channel, 0 in the others.

    ROAD ranks all elements of all channels, but takes their places for places of pixels, so that anything outside the
    first channel is an IndexError. With the others below it, its highest P elements are the pixels in their order.
    """
    scores = (np.abs(maps) if settings.ranking == "absolute" else maps).sum(1).reshape(len(maps), -1)
    order = np.argsort(-scores, axis=1, kind="stable")
    found = np.zeros((len(maps), maps.shape[1], scores.shape[1]))
    np.put_along_axis(found[:, 0], order, np.arange(scores.shape[1], 0, -1.0)[None], axis=1)
    return found.reshape(maps.shape)


JUDGES = (
    *(_judge(DeletionAUC, removal, slow=removal == "zero") for removal in REMOVALS),
    Judge(
        "ROAD",
        _road,
        False,
        form=pixel_ranks,
        settings="percentages 10 to 90, noise=0.01",
        slow=True,
        alone=True,
        removes=True,
    ),
    *(_judge(InsertionAUC, removal, slow=removal in ("zero", "mean")) for removal in REMOVALS),
    *(_judge(DeletionAUC, "corners", slow=True, ranking=ranking) for ranking in ("signed", "absolute")),
    *(_judge(kind, way, slow=True, cells=8) for kind in (DeletionAUC, InsertionAUC) for way in ("blur", "noise")),
)
