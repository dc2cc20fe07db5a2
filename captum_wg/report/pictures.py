"""The pictures of a report: small, in each of the styles of `captum_wg.visualization.show`, as data: URLs.

A page stays under `LIMIT` bytes of pictures: all are drawn smaller if they are many, and beyond that fewer are shown.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch.nn.functional import interpolate
from tqdm import tqdm

from captum_wg.report.contents import Baseline, Example, Picture
from captum_wg.visualization.arrays import Array, Map, input_images, maps_of
from captum_wg.visualization.arrays import Image as Pixels
from captum_wg.visualization.styles import (
    COLOURS,
    SMOOTH,
    SUMMED,
    colours_of,
    draw_map,
    largest,
    prepared,
    top_photograph,
)

STYLES = SUMMED
LIMIT = 3_400_000  # of 5 MB, a chart library and tables take the rest
SIDES = (192, 144, 112, 80, 56, 40)  # of a picture, in pixels
SMALL = 112  # of a baseline's, at most
TOP = 0.1  # the share of pixels that "topk" shows
_QUALITY = 72


@dataclass(frozen=True, eq=False)
class Start:
    """A baseline to draw: (C, H, W) in [0, 1], and its map (c, h, w)."""

    name: str
    pixels: Map
    map: Map
    weight: float
    distance: float | None = None


@dataclass(frozen=True, eq=False)
class Subject:
    """An image to draw: (C, H, W) in [0, 1], and its maps (c, h, w), which may be coarser, by method.

    Attributes:
        starts: its baselines, whose maps share one scale.
        caption: beneath its baselines.
    """

    name: str
    title: str
    pixels: Map
    maps: Mapping[str, Map]
    starts: Sequence[Start] = field(default_factory=tuple)
    caption: str = ""


def drawn(subjects: Sequence[Subject]) -> tuple[tuple[Example, ...], str]:
    """The pictures of images, and a sentence on what was left out, or "".

    Raises:
        TypeError, ValueError: a map that is none of its image.
    """
    if not subjects:
        return (), ""
    for side in SIDES[:-1]:
        first = _example(subjects[0], side)
        if _size(first) * len(subjects) <= LIMIT:
            made = (first, *(_example(one, side) for one in _bar(subjects[1:])))
            if sum(map(_size, made)) <= LIMIT:
                return made, ""
    found: list[Example] = []
    room = LIMIT
    for one in _bar(subjects):
        example = _example(one, SIDES[-1])
        room -= _size(example)
        if room < 0:
            words = f"Only the first {len(found)} of {len(subjects)} images are shown, so that the page stays small."
            return tuple(found), words
        found.append(example)
    return tuple(found), ""


def check_drawable(subject: Subject) -> None:
    """Raise what drawing an image would raise.

    Raises:
        TypeError, ValueError: a map that is none of its image.
    """
    _example(subject, SIDES[-1])


def _bar(subjects: Sequence[Subject]) -> Iterator[Subject]:
    yield from tqdm(subjects, desc="report", unit="image", delay=2, leave=False, disable=None)


def _size(example: Example) -> int:
    maps = (*example.maps, *(one.map for one in example.baselines))
    urls = [example.photograph, *(one.photograph for one in example.baselines)]
    return sum(map(len, [*urls, *(url for one in maps for url in one.styles.values())]))


def _example(subject: Subject, side: int) -> Example:
    photograph = _shrunk(subject.pixels, side)
    own = {name: _prepared(a, name, subject.pixels, photograph) for name, a in subject.maps.items()}
    maps = _styled(own, photograph, {name: largest([m]) for name, m in own.items()})
    side = min(side, SMALL)
    beneath = _shrunk(subject.pixels, side)
    of_starts = {
        f"{i} {start.name}": _prepared(start.map, start.name, subject.pixels, beneath)
        for i, start in enumerate(subject.starts)
    }
    one_scale = largest(of_starts.values()) if of_starts else 0.0
    pictures = _styled(of_starts, beneath, dict.fromkeys(of_starts, one_scale))
    baselines = tuple(
        Baseline(
            start.name, _url(_shrunk(start.pixels, side)), Picture(start.name, styles), start.weight, start.distance
        )
        for start, styles in zip(subject.starts, pictures.values(), strict=True)
    )
    return Example(
        subject.name,
        subject.title,
        _url(photograph),
        tuple(Picture(name, styles) for name, styles in maps.items()),
        baselines,
        subject.caption,
    )


def _shrunk(pixels: Map, side: int) -> Pixels:
    """A photograph (h, w, 3): its longer side at most `side`, or a multiple of it near that if it is smaller."""
    (picture,) = input_images(pixels, None, None, "pixels")
    longer = max(picture.shape[:2])
    if longer <= side:
        times = max(1, side // longer)
        enlarged: Pixels = picture.repeat(times, 0).repeat(times, 1)
        return enlarged
    height, width = (max(1, round(n * side / longer)) for n in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))


def _prepared(a: Map, name: str, pixels: Map, photograph: Pixels) -> Array:
    """A map as it is drawn on the photograph (h, w), h x w: summed, smoothed, and shrunk as that was."""
    values, _ = maps_of(a, name, ())
    height, width = pixels.shape[-2:]
    m = prepared(values, name, (height, width), "overlay", SMOOTH)
    how = "area" if photograph.shape[0] < height else "nearest"
    found: Array = interpolate(torch.from_numpy(m), photograph.shape[:2], mode=how)[0, 0].numpy()
    return found


def _styled(maps: Mapping[str, Array], photograph: Pixels, ends: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """The pictures of maps (h, w) by name and style; ends: the magnitudes at which the colours end."""
    if not maps:
        return {}
    found: dict[str, dict[str, str]] = {name: {} for name in maps}
    width = photograph.shape[1]
    # One wide picture, a masked column behind each map, on the same axes for all styles: matplotlib's are slow to make.
    scaled = [m / (ends[name] or 1.0) for name, m in maps.items()]
    wide = np.ma.masked_invalid(np.hstack([np.pad(m, ((0, 0), (0, 1)), constant_values=np.nan) for m in scaled]))
    beneath = np.tile(np.pad(photograph, ((0, 0), (0, 1), (0, 0))), (1, len(maps), 1))
    figure = Figure((wide.shape[1] / 100, wide.shape[0] / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    for style in STYLES:
        if style == "topk":  # of each map on its own
            pictures = [top_photograph(photograph, m, TOP) for m in maps.values()]
        else:
            draw_map(axis, wide, beneath, style, 1.0, colours_of(COLOURS), TOP)
            whole = _rendered(figure).reshape(*wide.shape, 4)[..., :3]
            for artist in (*axis.images, *axis.collections):
                artist.remove()
            pictures = [whole[:, i * (width + 1) :][:, :width] for i in range(len(maps))]
        for name, picture in zip(maps, pictures, strict=True):
            found[name][style] = _url(picture)
    return found


def _rendered(figure: Figure) -> Pixels:
    """Its pixels, one after the other."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba")
    return np.frombuffer(buffer.getvalue(), np.uint8)


def _url(picture: Pixels) -> str:
    """A data: URL of a picture (h, w, 3)."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "WEBP", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
