"""What a caller hands over as maps and images: read, checked, and brought to one form.

Shapes: B images, C channels, H, W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Map = Tensor | np.ndarray
Array = NDArray[np.float64]
Image = NDArray[np.uint8]
AxesArray = NDArray[np.object_]
Bounds = tuple[float, float]
Numbers = float | Sequence[float]

FLAT = 1e-6  # a few float32 roundings: differences below this share of the magnitude are no structure


def values_of(attributions: Map, name: str) -> Array:
    """The numbers as a float64 array on the CPU; empty or not finite ones are refused."""
    if isinstance(attributions, Tensor) and not attributions.is_complex():
        # To the CPU first: not every device has float64.
        values = attributions.detach().cpu().double().numpy()
    elif isinstance(attributions, np.ndarray) and attributions.dtype.kind in "fiub":
        values = attributions.astype(np.float64)
    else:
        kind = getattr(attributions, "dtype", type(attributions).__name__)
        raise TypeError(
            f"{name} must be a Tensor or a numpy array of real numbers, got {kind}; of a tuple of attributions give "
            "one element at a time"
        )
    if values.size == 0:
        raise ValueError(f"{name} has shape {values.shape}, which holds no values; give at least one map")
    bad = ~np.isfinite(values)
    if bad.any():
        where = f" in rows {np.unique(bad.nonzero()[0]).tolist()}" if values.ndim > 3 else ""
        raise ValueError(f"{name} holds NaN or infinite values{where}; pictures need finite ones")
    return values


def maps_of(attributions: Map, name: str = "attributions", channels: tuple[int, ...] = (1, 3)) -> tuple[Array, bool]:
    """The maps as float64 (B, C, H, W), and whether a batch was given.

    channels: how many there may be; none: any number.
    """
    values = values_of(attributions, name)
    shape = values.shape
    if values.ndim == 2:
        return values[None, None], False
    if values.ndim not in (3, 4) or (channels and shape[-3] not in channels):
        last = values.ndim in (3, 4) and shape[-1] in (1, 3)
        remedy = "channels come first here: move the last axis"
        raise ValueError(
            f"{name} must have shape (H, W), (C, H, W) or (B, C, H, W)"
            f"{' with 1 or 3 channels' if channels else ''}, got {shape}; "
            + (remedy if last else "sum over the channels, or show three of them at a time; texts are for show_text")
        )
    return (values, True) if values.ndim == 4 else (values[None], False)


def refuse_texts(maps: Mapping[str, Map], image: Map | None = None) -> None:
    """Raise for a map (1, H, W) that could as well be a text's (B, T, E), and no image of another form says otherwise.

    maps: by the names that messages use.
    """
    if image is not None and not (np.ndim(image) == 3 and np.shape(image)[0] == 1):
        return
    for name, a in maps.items():
        if isinstance(a, Tensor | np.ndarray) and a.ndim == 3 and a.shape[0] == 1:
            raise ValueError(
                f"{name} has shape {tuple(a.shape)}, which may be a text (B, T, E) as well as a grey map: draw a text "
                "with show_text, and give a grey map as (H, W) or (1, 1, H, W)"
            )


def check_named(maps: Any, by: str, name: str = "maps", what: str = "attributions") -> None:
    if not isinstance(maps, Mapping):
        raise TypeError(f"{name} must be a dict of {what} by {by}, got {type(maps).__name__}")
    if not maps:
        raise ValueError(f"{name} is empty; give the {what} of at least one {by}")


def check_count(
    name: str, given: Sequence[Any] | Array | Tensor, count: int, of: str, entries: str = "entries"
) -> None:
    if len(given) != count:
        raise ValueError(f"{name} has {len(given)} {entries}, but there are {count} {of}; give one for each")


def input_images(images: Map, mean: Numbers | None, std: Numbers | None, name: str = "images") -> Image:
    """Images as they are seen, (B, H, W, 3): images * std + mean, clipped to [0, 1]."""
    values, _ = maps_of(images, name)
    if (mean is None) != (std is None):
        raise ValueError("give both mean and std, or neither")
    if mean is not None:
        channels = values.shape[1]
        shift, spread = (np.asarray(v, dtype=np.float64).reshape(-1, 1, 1) for v in (mean, std))
        for name, v, sign in (("mean", shift, ""), ("std", spread, "positive ")):
            if len(v) not in (1, channels) or not np.isfinite(v).all() or (sign and v.min() <= 0):
                raise ValueError(
                    f"{name} must be one finite {sign}number or one for each of the {channels} channels, got "
                    f"{v.ravel().tolist()}"
                )
        values = np.clip(values * spread + shift, 0, 1)
    elif str(images.dtype).endswith("uint8"):
        values = values / 255
    if values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ValueError(
            f"{name} must lie in [0, 1], got values from {values.min():.4g} to {values.max():.4g}; give the mean and "
            "std they were normalised with"
        )
    return rgb(np.rint(255 * np.clip(values, 0, 1)))


def rgb(pixels: Array) -> Image:
    """(B, C, H, W) with C = 1 or 3 as uint8 (B, H, W, 3)."""
    colours = np.broadcast_to(pixels, (len(pixels), 3, *pixels.shape[2:]))
    return np.moveaxis(colours, 1, -1).astype(np.uint8)
