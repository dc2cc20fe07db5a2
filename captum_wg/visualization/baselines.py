"""What each baseline says of one image: its map, its D_alpha, its weight."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from torch import Tensor

from captum_wg.engine.baseline_set import Baselines, BaselineSet
from captum_wg.engine.checks import check_choice, check_number
from captum_wg.engine.problem import Problem
from captum_wg.engine.targets import Target
from captum_wg.visualization.arrays import AxesArray, Numbers, check_count, input_images, values_of
from captum_wg.visualization.canvas import axes_given, canvas, draw_bare, wrapped, write_below
from captum_wg.visualization.styles import (
    LARGEST,
    SMOOTH,
    SUMMED,
    colour_bar,
    colours_of,
    draw_map,
    largest,
    prepared,
)
from captum_wg.weighted_gradients import WeightedGradients
from captum_wg.weighting.binding import NAMED, Weighting, bind
from captum_wg.weighting.fitness import FitnessWeighting
from captum_wg.weighting.maps import Maps


@dataclass(frozen=True, eq=False)
class BaselineMaps:
    """The pieces of weighted gradients, of B images and K baselines.

    Attributes:
        inputs: (B, C, H, W).
        baselines: (B, K, C, H, W).
        maps: each baseline's own integrated gradients, (B, K, C, H, W).
        weights: (B, K), of sum 1.
        distances: D_alpha of each, (B, K); None where the weighting has none.

    Raises:
        TypeError, ValueError: an entry is no Tensor, or of another shape.
    """

    inputs: Tensor
    baselines: Tensor
    maps: Tensor
    weights: Tensor
    distances: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = {"inputs": "B, C, H, W", "baselines": "B, K, C, H, W", "maps": "B, K, C, H, W"}
        shapes |= {"weights": "B, K", "distances": "B, K"}
        sizes: dict[str, int] = {}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None and name == "distances":
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"{name} must be a Tensor ({shape}), got {type(value).__name__}")
            letters = shape.split(", ")
            own = dict(zip(letters, value.shape, strict=False))
            if value.ndim != len(letters) or any(sizes.setdefault(k, n) != n for k, n in own.items()):
                known = f" with {sizes}" if sizes else ""
                raise ValueError(f"{name} must have shape ({shape}){known}, got {tuple(value.shape)}")

    @property
    def attributions(self) -> Tensor:
        """sum_k w_k map_k, (B, C, H, W)."""
        return (self.weights.to(self.maps)[:, :, None, None, None] * self.maps).sum(1)


def baseline_maps(
    method: WeightedGradients,
    inputs: Tensor,
    baselines: Baselines = None,
    target: Target = None,
    *,
    weighting: Weighting = "deletion",
    **attribute_kwargs: Any,
) -> BaselineMaps:
    """The pieces of one call of `WeightedGradients.attribute`, at no more gradients than it takes.

    Args:
        method: a WeightedGradients.
        inputs: images (B, C, H, W).
        baselines, target, weighting: as in `attribute`; at least two baselines.
        **attribute_kwargs: its others, but screening_steps and what it returns.

    Raises:
        TypeError, ValueError: as `attribute`; another method; inputs that are no images; one baseline, which has weight
            1 and no D_alpha.
    """
    if not isinstance(method, WeightedGradients):
        raise TypeError(f"method must be a WeightedGradients object, got {type(method).__name__}")
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        came = f"shape {tuple(inputs.shape)}" if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(f"inputs must be images, one Tensor (B, C, H, W), got {came}")
    made = NAMED[weighting]() if isinstance(weighting, str) and weighting in NAMED else weighting
    seen: dict[str, Tensor] = {}

    def recorded(problem: Problem, maps: Maps) -> Tensor:
        rows = torch.arange(problem.n_examples * maps.count, device=inputs.device)
        seen["maps"] = maps.rows(rows)[0].reshape(problem.n_examples, maps.count, *inputs.shape[1:])
        of_rows = cast(BaselineSet, problem.baselines).of_rows(rows // maps.count, rows % maps.count)[0]
        seen["baselines"] = of_rows.reshape(seen["maps"].shape)
        if isinstance(made, FitnessWeighting):
            seen["distances"] = made.distances(problem, maps)
            return made.weights(seen["distances"], maps.norms())
        return bind(made, problem, maps.features)(maps)

    if "screening_steps" in attribute_kwargs:
        raise ValueError("screening_steps leaves baselines without a full map; leave it out")
    result = method.attribute(inputs, baselines, target, weighting=recorded, return_weights=True, **attribute_kwargs)
    if not seen:
        raise ValueError("there is one baseline, which has weight 1 and no D_alpha: draw its map with show")
    return BaselineMaps(inputs.detach(), weights=result.weights, **seen)


def show_baselines(
    of: BaselineMaps | WeightedGradients,
    inputs: Tensor | None = None,
    baselines: Baselines = None,
    target: Target = None,
    *,
    example: int = 0,
    names: Sequence[str] | None = None,
    style: str = "overlay",
    smooth: float = SMOOTH,
    cmap: str | Colormap | None = None,
    colorbar: bool = True,
    mean: Numbers | None = None,
    std: Numbers | None = None,
    caption: bool = True,
    cell_size: float = 1.5,
    ax: Any = None,
    use_pyplot: bool = False,
    **attribute_kwargs: Any,
) -> tuple[Figure, AxesArray]:
    """One image's baselines above, and below what each says: its map with its D_alpha and weight, the sum first.

        show_baselines(WeightedGradients(model), x, baselines, target=y, mean=MEAN, std=STD)

    D_alpha is how many features must go until the output has fallen to a share alpha of f(x): a small one means a good
    map and a large weight. All maps have one scale.

    Args:
        of: the pieces from `baseline_maps`; or a method, from which they are made.
        inputs, baselines, target, **attribute_kwargs: with a method, as in `baseline_maps`.
        example: the number of the image among the inputs.
        names: K of them, for the baselines.
        style: "overlay", "heat", "contour" or "topk".
        smooth, cmap, colorbar, mean, std, caption, cell_size, use_pyplot: as in `show`. Baselines outside of what can
            be seen are clipped.
        ax: 2 (K + 1) Axes to draw on; None makes a new figure.

    Returns:
        The figure and a numpy array of its Axes, (2, K + 1).

    Raises:
        TypeError, ValueError: as `baseline_maps` and `show`; inputs beside pieces; another example.
    """
    if isinstance(of, WeightedGradients):
        if inputs is None:
            raise ValueError("inputs is None; with a method give the images")
        pieces = baseline_maps(of, inputs, baselines, target, **attribute_kwargs)
    elif not isinstance(of, BaselineMaps):
        raise TypeError(f"of must be a WeightedGradients object or a BaselineMaps, got {type(of).__name__}")
    elif inputs is not None or baselines is not None or target is not None or attribute_kwargs:
        raise ValueError("inputs, baselines, target and what attribute takes go with a method; the pieces have them")
    else:
        pieces = of
    check_choice(style, "style", SUMMED)
    check_number(smooth, "smooth", 0.0, 1.0)
    n, count = pieces.weights.shape
    if not 0 <= example < n:
        raise ValueError(f"example must be from 0 to {n - 1}, got {example!r}")
    names = [f"baseline {k + 1}" for k in range(count)] if names is None else names
    check_count("names", names, count, "baselines")
    colours = colours_of(cmap)

    image = input_images(pieces.inputs[example], mean, std, "inputs")
    starts = pieces.baselines[example]
    references = input_images(starts.clamp(0, 1) if mean is None and std is None else starts, mean, std, "baselines")
    height, width = image.shape[1:3]
    named = {"attributions": pieces.attributions[example : example + 1], "maps": pieces.maps[example]}
    maps = np.concatenate(
        [prepared(values_of(m, name), name, (height, width), style, smooth)[:, 0] for name, m in named.items()]
    )
    v = largest([maps])
    titles = ["weighted sum"]
    for k in range(count):
        distance = "" if pieces.distances is None else f"\nD = {float(pieces.distances[example, k]):,.0f}"
        titles.append(f"w = {float(pieces.weights[example, k]):.3f}{distance}")

    size = ((count + 1) * cell_size + 0.7 * colorbar, 2 * cell_size * height / width + 0.9 + 0.3 * caption)
    with canvas(axes_given(ax), (2, count + 1), size, use_pyplot, "ax must be") as (figure, flat):
        axes = flat.reshape(2, count + 1)
        above, _ = wrapped(["input", *names], cell_size)
        for axis, picture, name in zip(axes[0], [*image, *references], above, strict=True):
            draw_bare(axis, picture)
            axis.set_title(name, fontsize=8)
        for axis, m, text in zip(axes[1], maps, titles, strict=True):
            drawn = draw_map(axis, m, image[0], style, v, colours, 0.1)
            axis.set_title(text, fontsize=8)
        if colorbar and drawn is not None:
            colour_bar(list(axes[1]), drawn, "right")
        if caption:
            soft = f"smoothed by a Gaussian of {smooth * min(height, width):.2g} pixels" if smooth else "not smoothed"
            text = (
                f"Maps: sum over the channels; {soft}; one scale, to the {100 * LARGEST:.3g} % quantile of magnitudes. "
                "w: weight. D: pixels until the output has moved far enough; small is good."
            )
            write_below(figure, axes[1, 0], text, ax is None)
    return figure, axes
