import base64
import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from captum_wg.report import Example, Start, Subject, drawn, pictures
from captum_wg.report.pictures import LIMIT, SIDES, STYLES
from captum_wg.visualization.styles import COLOURS, SMOOTH, colours_of, largest, prepared, top_photograph

SIDE = 24
Make = Callable[..., Subject]


def pixels(url: str) -> np.ndarray:
    kind, _, content = url.partition(",")
    assert kind == "data:image/webp;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")).astype(int)


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """But for what compression loses."""
    return found.shape == expected.shape and float(np.abs(found - expected).mean()) < 12


def blocks(side: int) -> np.ndarray:
    """A map that compression keeps: the quarters of an image."""
    return np.kron([[1.0, -1.0], [0.0, 0.5]], np.ones((side // 2, side // 2)))[None]


def test_every_map_is_drawn_in_every_style() -> None:
    side = max(SIDES)
    photograph = np.full((3, side, side), 0.5)
    m = blocks(side)
    (example,), left_out = drawn([Subject("a", "b", photograph, {"first": m, "second": -2 * m})])
    assert left_out == "" and [one.title for one in example.maps] == ["first", "second"]
    grey = np.full((side, side, 3), 128)
    assert near(pixels(example.photograph), grey)
    for one, sign in zip(example.maps, (1, -1), strict=True):
        assert list(one.styles) == list(STYLES)
        # Each on a scale of its own.
        drawn_map = prepared(sign * m[None], "m", (side, side), "heat", SMOOTH)[0, 0]
        v = largest([drawn_map])
        heat = 255 * colours_of(COLOURS)((np.clip(drawn_map / v, -1, 1) + 1) / 2)[..., :3]
        assert near(pixels(one.styles["heat"]), heat)
        assert near(pixels(one.styles["topk"]), top_photograph(grey.astype(np.uint8), drawn_map, 0.1))
        over = pixels(one.styles["overlay"])
        first, other = over[side // 4, side // 4], over[side // 4, 3 * side // 4]
        assert (first[0] > first[2]) == (sign > 0) and (other[0] > other[2]) == (sign < 0)
        assert not near(pixels(one.styles["contour"]), over)


def test_small_images_are_enlarged_without_blur(subject: Make) -> None:
    (example,), _ = drawn([subject(0)])
    times = max(SIDES) // SIDE
    found = pixels(example.photograph)
    assert found.shape == (times * SIDE, times * SIDE, 3)
    assert len(example.baselines) == 2 and example.baselines[1].weight == 0.25


def test_proportions_stay() -> None:
    wide = Subject("a", "b", np.zeros((3, 150, 300)), {"m": np.ones((1, 75, 150))})
    (example,), _ = drawn([wide])
    assert (
        pixels(example.photograph).shape == (SIDES[0] // 2, SIDES[0], 3) == pixels(example.maps[0].styles["heat"]).shape
    )


def test_maps_of_baselines_share_one_scale() -> None:
    side = 64
    m = blocks(side)
    starts = [Start("strong", np.zeros((3, side, side)), m, 0.5), Start("weak", np.zeros((3, side, side)), m / 10, 0.5)]
    (example,), _ = drawn([Subject("a", "b", np.full((3, side, side), 0.5), {"m": m}, starts)])
    strong, weak = (pixels(one.map.styles["heat"])[20, 20] for one in example.baselines)
    assert np.ptp(strong) > 60 and np.ptp(weak) < 40


def size(examples: tuple[Example, ...]) -> int:
    """Characters of all data: URLs."""
    return sum(len(url) for one in examples for url in re.findall(r"data:[^\']+", repr(one)))


def test_many_images_are_drawn_smaller_and_beyond_that_fewer(monkeypatch: pytest.MonkeyPatch, subject: Make) -> None:
    subjects = [subject(i, baselines=0, side=64) for i in range(4)]
    whole, left_out = drawn(subjects)
    assert len(whole) == 4 and not left_out and size(whole) < LIMIT
    monkeypatch.setattr(pictures, "LIMIT", size(whole) // 2)
    smaller, left_out = drawn(subjects)
    assert len(smaller) == 4 and not left_out and size(smaller) <= size(whole) // 2
    # Of the smallest there is room for some and not for all.
    monkeypatch.setattr(pictures, "SIDES", SIDES[-1:])
    every, _ = drawn(subjects)
    monkeypatch.setattr(pictures, "LIMIT", size(every[:2]) + 1)
    fewer, left_out = drawn(subjects)
    assert fewer == every[:2] and left_out.startswith("Only the first 2 of 4 images are shown")


def test_without_images_nothing_is_drawn() -> None:
    assert drawn([]) == ((), "")


def test_a_map_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match="'m' has 5 x 7 pixels and the image 24 x 24"):
        drawn([Subject("a", "b", np.zeros((3, SIDE, SIDE)), {"m": np.ones((3, 5, 7))})])
