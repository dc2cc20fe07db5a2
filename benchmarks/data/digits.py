"""scikit-learn's handwritten digits, which need no files."""

from __future__ import annotations

import numpy as np

from benchmarks.data.data_set import DataSet, Source
from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Enlarged

# Mean and deviation of the training digits' pixels.
DIGITS = Enlarged(mean=(0.3054,) * 3, std=(0.3236,) * 3)


def digits_pictures() -> tuple[Pictures, Pictures]:
    """1797 handwritten digits, 8x8 grey; two thirds of each class are for training, a third for testing.

    Their sixteen shades are multiples of 15.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, labels = load_digits(return_X_y=True)
    pixels = (15 * grey.reshape(-1, 8, 8, 1)).astype(np.uint8).repeat(3, axis=3)
    parts = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    train, test = (
        Pictures(
            "digits (scikit-learn)",
            tuple(f"{name}/{i:04d}" for i in range(len(part))),
            list(pixels[part]),
            tuple(labels[part].tolist()),
            tuple("0123456789"),
        )
        for name, part in zip(("train", "test"), parts, strict=True)
    )
    return train, test


DATA_SET = DataSet(
    lambda places, classes: Source(*reversed(digits_pictures())),
    parts=lambda root: digits_pictures(),
    preparation=DIGITS,
    network="resnet18_digits",
    class_names=tuple(f"digit {i}" for i in range(10)),
    n_classes=10,
)
