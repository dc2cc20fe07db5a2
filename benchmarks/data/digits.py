"""scikit-learn's handwritten digits, which need no files."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Enlarged, Images

NAME = "digits (scikit-learn)"


def digits() -> Images:
    """scikit-learn's 1797 handwritten digits, 8x8 grey, enlarged to 3x32x32; a third of each class is for testing."""
    grey, labels, (train, test) = _parts()
    pixels = torch.from_numpy(grey).float().div(16).view(-1, 1, 8, 8)
    pixels = nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    mean, std = round(pixels[train].mean().item(), 4), round(pixels[train].std().item(), 4)
    x = ((pixels - mean) / std).expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(labels).long()
    parts = [TensorDataset(x[torch.from_numpy(p)], y[torch.from_numpy(p)]) for p in (train, test)]
    return Images(NAME, *parts, Enlarged(mean=(mean,) * 3, std=(std,) * 3), 10)


def digits_pictures() -> tuple[Pictures, Pictures]:
    """The digits for training and for testing as 8x8 pictures; their sixteen shades of grey are multiples of 15."""
    grey, labels, parts = _parts()
    pixels = (15 * grey.reshape(-1, 8, 8, 1)).astype(np.uint8).repeat(3, axis=3)
    train, test = (
        Pictures(
            NAME, tuple(f"{name}/{i:04d}" for i in range(len(part))), list(pixels[part]), tuple(labels[part].tolist())
        )
        for name, part in zip(("train", "test"), parts, strict=True)
    )
    return train, test


def _parts() -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Their values (1797, 64) from 0 to 16, their classes, and the places of those for training and for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, labels = load_digits(return_X_y=True)
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    return grey, labels, (train, test)
