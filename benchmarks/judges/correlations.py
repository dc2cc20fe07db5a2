"""Judges of what an additive map claims: that its sum over some pixels is what the output loses with them."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Any

import numpy as np
from torch import Tensor

from benchmarks.judges.blocks import by_blocks
from benchmarks.judges.judge import Judge
from benchmarks.judges.removals import CHANNELS, REMOVALS
from quantus_ext import PatchDeletionCorrelation, SubsetCorrelation

# Removals that no weighting is fitted to by default; the scores are the mean over them.
OVER = ("blur", "noise")
# The drops of so many batches of images by one judge and removal are kept.
KEPT = 512
_DROPS: OrderedDict[bytes, np.ndarray] = OrderedDict()


def remembering(kind: type) -> type:
    """A `RemovalCorrelation` that takes the drops of its latest images from memory: rows differ in their maps alone."""

    class Remembering(kind):  # type: ignore[misc]
        __doc__ = kind.__doc__

        def drops(self, score: Any, x: Tensor, features: Any, sets: Tensor, value: Any, numbers: np.ndarray) -> Any:
            """As without the memory; f(x) stands for the network and the class."""
            if callable(value):
                return super().drops(score, x, features, sets, value, numbers)
            digest = hashlib.sha256(score.at_inputs[numbers].tobytes())
            for part in (x, sets, value):
                digest.update(part.contiguous().numpy().tobytes())
            key = digest.digest()
            if key not in _DROPS:
                _DROPS[key] = super().drops(score, x, features, sets, value, numbers)
                while len(_DROPS) > KEPT:
                    _DROPS.popitem(last=False)
            return _DROPS[key]

    Remembering.__name__ = kind.__name__
    return Remembering


def _judge(kind: type, cells: int | None, **settings: Any) -> Judge:
    """The correlation over single features or subsets of them: pixels, or the blocks of a grid."""
    name = kind.__name__ if cells is None else f"{kind.__name__}-grid{cells}"
    told = [f"removal={OVER}", *([] if cells is None else [f"a grid of {cells} x {cells} blocks"])]
    metric = remembering(kind if cells is None else by_blocks(kind, cells))
    return Judge(
        name,
        lambda own: metric(
            removal=tuple(REMOVALS[removal] for removal in OVER),
            ranking=own.ranking,
            internal_batch_size=own.batch,
            disable_warnings=True,
            **settings,
        ),
        True,
        form=3,
        settings=", ".join([*told, *(f"{word}={value}" for word, value in settings.items())]),
        notes=(CHANNELS,),
        slow=True,
    )


JUDGES = (
    _judge(PatchDeletionCorrelation, 4),
    _judge(PatchDeletionCorrelation, 7),
    _judge(PatchDeletionCorrelation, 8),
    _judge(SubsetCorrelation, None, n_subsets=100, share=0.2),
    _judge(SubsetCorrelation, 8, n_subsets=100, share=0.2),
)
