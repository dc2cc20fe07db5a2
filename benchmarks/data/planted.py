"""Images whose truth is known: what decides the class was planted, and its pixels are the mask.

    glyph    one of four glyphs of 7 x 7 pixels, white on black or black on white, somewhere on a crop in colour
    pixels   16 pixels of one of four colours, scattered over a crop in grey

Backgrounds are crops of scikit-image's photographs that say nothing of the class: those of the training images, which
baselines are drawn from, are of other photographs than those that are explained.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from benchmarks.data.data_set import DataSet, Source
from benchmarks.data.photographs import photographs
from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Preparation

SIDE, N_PIXELS = 32, 16
COUNTS = {"train": 4000, "test": 600}
PLANTED = Preparation(None, None, mean=(0.45,) * 3, std=(0.25,) * 3)

_FROM_MIDDLE = np.abs(np.arange(7) - 3)
_DOWN, _ACROSS = np.meshgrid(_FROM_MIDDLE, _FROM_MIDDLE, indexing="ij")
GLYPHS = {
    "plus": (_DOWN == 0) | (_ACROSS == 0),
    "cross": _DOWN == _ACROSS,
    "square": np.maximum(_DOWN, _ACROSS) == 3,
    "diamond": _DOWN + _ACROSS == 3,
}
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "yellow": (255, 255, 0)}

# Pixels (H, W, 3), class, generator -> the mask (H, W); the pixels are changed in place.
Plant = Callable[[np.ndarray, int, np.random.Generator], np.ndarray]


def plant_glyph(pixels: np.ndarray, label: int, generator: np.random.Generator) -> np.ndarray:
    """All pixels of the glyph's square are planted: where none of it is says as much as where it is."""
    glyph = [*GLYPHS.values()][label]
    top, left = generator.integers(0, np.array(pixels.shape[:2]) - len(glyph) + 1)
    mask = np.zeros(pixels.shape[:2], bool)
    mask[top : top + len(glyph), left : left + len(glyph)] = True
    pixels[mask] = np.where(glyph ^ (generator.random() < 0.5), 255, 0).reshape(-1, 1)
    return mask


def plant_pixels(pixels: np.ndarray, label: int, generator: np.random.Generator) -> np.ndarray:
    """N_PIXELS of the class' colour, in the image made grey."""
    pixels[:] = pixels.mean(2, keepdims=True)
    mask = np.zeros(pixels.shape[:2], bool)
    mask.flat[generator.permutation(mask.size)[:N_PIXELS]] = True
    pixels[mask] = [*COLOURS.values()][label]
    return mask


VARIANTS: dict[str, tuple[Plant, tuple[str, ...]]] = {
    "glyph": (plant_glyph, tuple(GLYPHS)),
    "pixels": (plant_pixels, tuple(COLOURS)),
}


@lru_cache
def planted(variant: str) -> tuple[tuple[Pictures, np.ndarray], tuple[Pictures, np.ndarray]]:
    """The training and the test images of a variant, each with its masks (N, H, W), bool.

    Raises:
        BenchmarkError: the packages that bring the photographs are missing.
    """
    plant, classes = VARIANTS[variant]
    parts = []
    for number, (part, backgrounds) in enumerate(zip(COUNTS, photographs(), strict=True)):
        generator = np.random.default_rng([number, 14])
        photos = [np.asarray(backgrounds.read(i)[0]) for i in range(len(backgrounds))]
        labels = generator.permutation(np.arange(COUNTS[part]) % len(classes)).tolist()
        images = [_crop(photos[generator.integers(len(photos))], generator) for _ in labels]
        masks = np.stack([plant(image, label, generator) for image, label in zip(images, labels, strict=True)])
        names = tuple(f"{part}/{i:05d}" for i in range(len(labels)))
        pictures = Pictures(f"planted {variant} on photographs", names, images, tuple(labels), classes)
        parts.append((pictures, masks))
    return parts[0], parts[1]


def pictures(variant: str) -> tuple[Pictures, Pictures]:
    """The training and the test images alone."""
    (train, _), (test, _) = planted(variant)
    return train, test


def _crop(photo: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    top, left = generator.integers(0, np.array(photo.shape[:2]) - SIDE + 1)
    return photo[top : top + SIDE, left : left + SIDE].copy()


def _source(variant: str) -> Source:
    (train, _), (test, masks) = planted(variant)
    return Source(test, train, mask_of=lambda position, label: (masks[position], ""))


def _data_set(variant: str) -> DataSet:
    classes = VARIANTS[variant][1]
    return DataSet(
        lambda places, n_classes: _source(variant),
        parts=lambda root: pictures(variant),
        preparation=PLANTED,
        network=f"cnn_planted_{variant}",
        class_names=classes,
        n_classes=len(classes),
        has_masks=True,
        explained="Only images that the model classifies correctly are explained; S are the planted pixels, which "
        "alone decide the class.",
    )


DATA_SETS = {f"planted-{variant}": _data_set(variant) for variant in VARIANTS}
