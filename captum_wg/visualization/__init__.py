"""Pictures of attributions.

show                    a map over its photograph, or images by methods, so that a person reads them
show_baselines          what each baseline of weighted gradients says: its map, D_alpha and weight
show_curves             deletion and insertion curves, and the paired differences of their areas
show_text, show_table   words by Captum, tables by shap
show_displays           a map in the usual display, times the input, and in Payne et al.'s
histogram               how values are distributed, such as a trained model's against a random one's
grid, visualize_attributions, signed_image, unsigned_image, usual_image, magnitude_scale
                        the pictures of Payne et al. (2024), per colour channel
"""

from captum_wg.visualization.baselines import BaselineMaps, baseline_maps, show_baselines
from captum_wg.visualization.channels import (
    GREY,
    QUANTILES,
    magnitude_scale,
    signed_image,
    unsigned_image,
    visualize_attributions,
)
from captum_wg.visualization.curves import show_curves
from captum_wg.visualization.displays import show_displays, usual_image
from captum_wg.visualization.grid import SCALES, grid
from captum_wg.visualization.histograms import histogram
from captum_wg.visualization.hosts import show_table, show_text
from captum_wg.visualization.show import show
from captum_wg.visualization.styles import STYLES

__all__ = [
    "GREY",
    "QUANTILES",
    "SCALES",
    "STYLES",
    "BaselineMaps",
    "baseline_maps",
    "grid",
    "histogram",
    "magnitude_scale",
    "show",
    "show_baselines",
    "show_curves",
    "show_displays",
    "show_table",
    "show_text",
    "signed_image",
    "unsigned_image",
    "usual_image",
    "visualize_attributions",
]
