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
from captum_wg.visualization.show import show
from captum_wg.visualization.styles import STYLES

__all__ = [
    "GREY",
    "QUANTILES",
    "SCALES",
    "STYLES",
    "grid",
    "histogram",
    "magnitude_scale",
    "show",
    "signed_image",
    "unsigned_image",
    "visualize_attributions",
]
