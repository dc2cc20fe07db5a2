"""Rows of Captum, as `quantus.explain` gives them by its defaults."""

from __future__ import annotations

from functools import partial

import numpy as np
import quantus

from benchmarks.methods.method import NEW_DRAWS, NO_DRAWS, Batch, explained

NAMES = (
    "IntegratedGradients",
    "Saliency",
    "GradientShap",
    "FeatureAblation",
    "FeaturePermutation",
    "Deconvolution",
)
_OF_ALL = "Rows of Captum: `quantus.explain` with its defaults."
_NOTES = {
    "FeaturePermutation": "FeaturePermutation exchanges values between the images of a block.",
    "Deconvolution": "Deconvolution changes modules nn.ReLU alone: without any, as in networks of ReLU6, it is the "
    "gradient.",
}


def by_quantus(name: str, batch: Batch) -> np.ndarray:
    """By the defaults of `quantus.explain`, except that the channels are kept; it sums them otherwise."""
    inputs, targets, device = batch.inputs.cpu().numpy(), batch.targets.cpu().numpy(), str(batch.inputs.device)
    return quantus.explain(batch.model, inputs, targets, method=name, reduce_axes=(), device=device)


ROWS = {
    name: explained(
        name,
        partial(by_quantus, name),
        group="captum",
        notes=(_OF_ALL, *([_NOTES[name]] if name in _NOTES else [])),
        slow=name in ("FeatureAblation", "FeaturePermutation"),
        draws=NEW_DRAWS if name in ("GradientShap", "FeaturePermutation") else NO_DRAWS,
    )
    for name in NAMES
}
