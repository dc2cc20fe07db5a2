"""Pictures of attributions."""

from captum_wg.visualization.channels import (
    GREY,
    QUANTILES,
    magnitude_scale,
    signed_image,
    unsigned_image,
    visualize_attributions,
)
from captum_wg.visualization.grid import SCALES, grid
from captum_wg.visualization.histograms import histogram

__all__ = [
    "GREY",
    "QUANTILES",
    "SCALES",
    "grid",
    "histogram",
    "magnitude_scale",
    "signed_image",
    "unsigned_image",
    "visualize_attributions",
]
