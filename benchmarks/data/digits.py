"""scikit-learn's handwritten digits, which need no files."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.utils.data import TensorDataset

from benchmarks.data.preparation import Images, Preparation


def digits() -> Images:
    """scikit-learn's 1797 handwritten digits, 8x8 grey, enlarged to 3x32x32; a third of each class is for testing."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    grey, labels = load_digits(return_X_y=True)
    pixels = torch.from_numpy(grey).float().div(16).view(-1, 1, 8, 8)
    pixels = nn.functional.interpolate(pixels, size=(32, 32), mode="bilinear", align_corners=False)
    train, test = train_test_split(np.arange(len(labels)), test_size=1 / 3, random_state=0, stratify=labels)
    mean, std = round(pixels[train].mean().item(), 4), round(pixels[train].std().item(), 4)
    x = ((pixels - mean) / std).expand(-1, 3, -1, -1).contiguous()
    y = torch.from_numpy(labels).long()
    parts = [TensorDataset(x[torch.from_numpy(p)], y[torch.from_numpy(p)]) for p in (train, test)]
    preparation = Preparation(None, None, mean=(mean,) * 3, std=(std,) * 3)
    return Images("digits (scikit-learn)", *parts, preparation, 10)
