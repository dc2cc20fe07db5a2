"""The example of filters, on pictures of noise and a network that has learned nothing: that it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torchvision.io import write_png

from benchmarks.models.checkpoints import resnet18_32

ROOT = Path(__file__).parents[3]


def test_the_example_ranks_and_removes(tmp_path):
    torch.save(resnet18_32().state_dict(), tmp_path / "weights.pt")
    for label in range(10):
        folder = tmp_path / "images" / str(label)
        folder.mkdir(parents=True)
        for i in range(3):
            write_png(torch.randint(256, (3, 32, 32), dtype=torch.uint8), str(folder / f"{i}.png"))
    figure = tmp_path / "figure.png"
    command = [sys.executable, ROOT / "docs/examples/filters.py", "--weights", tmp_path / "weights.pt"]
    command += ["--root", tmp_path / "images", "--images", "4", "--samples", "2", "--draws", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run([*command, "--figure", figure], env=environment, capture_output=True, text=True, check=True)
    table = run.stdout.split("\n\n")[1]
    for name in ("expected gradients", "gradient_variance", "stability", "consistency", "random"):
        assert f"\n{name} " in table
    assert figure.stat().st_size > 5000

    few = subprocess.run([*command, "--images", "6"], env=environment, capture_output=True, text=True, check=False)
    assert few.returncode and "has 30 images, 32 are needed" in few.stderr
