"""The Python of README and of the guide runs as it is written there, block after block."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import quantus
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/guide.md")


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.fixture(scope="module")
def names():
    """What a reader has: a model, a batch, training images."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 4)).eval()

    def images(n):
        return torch.rand(n, 3, 8, 8, generator=generator)

    x = images(4)
    y = model(x).argmax(1)
    masks = torch.zeros(4, 8, 8)
    masks[:, 2:5, 2:5] = 1
    return {
        "model": model,
        "x": x,
        "y": y,
        "training_images": images(12),
        "train_set": torch.utils.data.TensorDataset(images(20), torch.zeros(20)),
        "fifty_references": images(50),
        "many_references": images(100),
        "quantus": quantus,
        "np": np,
        "x_batch": x.numpy(),
        "y_batch": y.numpy(),
        "a_batch": images(4).numpy() - 0.5,
        "masks": masks.numpy(),
    }


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_blocks_run_one_after_another(names):
    for page in PAGES:
        for number, source in enumerate(blocks(page), 1):
            # The name stands in the traceback of one that fails.
            exec(compile(source, f"{page}, block {number}", "exec"), names)


def test_there_are_blocks():
    assert len(blocks("README.md")) >= 3 and len(blocks("docs/guide.md")) >= 6


def test_links_lead_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in pages:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), f"{page.name}: {link}"
