from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from captum_wg.command_line import main, report
from captum_wg.report import NAME, PAGE, Cell, Column, Report, Table


def test_a_folder_of_explained_images_becomes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 32, 32)), str(tmp_path / "model.pt"))
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "rose.png")
    out = tmp_path / "out"
    options = ["--model", str(tmp_path / "model.pt"), "--size", "32", "--steps", "2", "--out", str(out)]
    assert main(["explain", str(tmp_path / "rose.png"), *options, "--baselines", "black,white,noise"]) == 0
    with np.load(out / "rose.npz") as values:
        assert values["baseline_pixels"].shape == (4, 3, 32, 32) and values["baseline_pixels"].dtype == np.uint8
        assert values["baseline_pixels"][0].max() == 0 and values["baseline_pixels"][1].min() == 255
        assert values["baseline_maps"].shape == (4, 32, 32)
    capsys.readouterr()

    assert main(["report", str(out)]) == 0
    assert re.fullmatch(rf"wrote {out / PAGE} \(0\.\d\d MB\)\n", capsys.readouterr().out)
    page = (out / PAGE).read_text(encoding="utf-8")
    assert "Baselines of rose" in page and "noise 2" in page and "The baseline black" in page

    # Methods without weights keep no baselines.
    more = ["--method", "Saliency", "--model", str(tmp_path / "model.pt"), "--size", "32", "--out", str(tmp_path / "s")]
    assert main(["explain", str(tmp_path / "rose.png"), *more]) == 0
    with np.load(tmp_path / "s" / "rose.npz") as values:
        assert set(values) == {"attribution", "pixels"}
    assert main(["report", str(tmp_path / "s"), "--out", str(tmp_path / "new" / "page.html")]) == 0
    assert "No maps of single baselines" in (tmp_path / "new" / "page.html").read_text(encoding="utf-8")


def test_the_weights_say_which_map_is_the_sum(tmp_path: Path) -> None:
    """sum_k w_k map_k is the map, so that the baselines' maps are those of the run."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.jit.save(torch.jit.trace(model, torch.zeros(1, 3, 16, 16)), str(tmp_path / "model.pt"))
    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    options = ["--model", str(tmp_path / "model.pt"), "--size", "16", "--steps", "3", "--out", str(tmp_path)]
    assert main(["explain", str(tmp_path / "a.png"), *options, "--baselines", "black,white"]) == 0
    weights = [row["weight"] for row in json.loads((tmp_path / "a.json").read_text())["baselines"]]
    with np.load(tmp_path / "a.npz") as values:
        expected = values["attribution"].sum(0)
        assert np.allclose(
            np.tensordot(weights, values["baseline_maps"], 1), expected, atol=1e-5 * np.abs(expected).max()
        )


def test_a_report_of_a_run_becomes_a_page(tmp_path: Path) -> None:
    made = Report("A run", tables=(Table("t", (Column("a"),), ((Cell("only here"),),)),))
    (tmp_path / NAME).write_text(made.to_json(), encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 0
    assert "only here" in (tmp_path / PAGE).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "content, words",
    [
        (None, r"no such folder"),
        ({}, r"nothing to report; expected NAME\.json beside NAME\.npz.*or report\.json"),
        ({NAME: "{"}, r"can't be reported: report\.json is not what a run writes"),
    ],
)
def test_a_folder_that_cannot_be_reported(
    content: dict[str, str] | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (content or {}).items():
        (tmp_path / name).write_text(text)
    assert main(["report", str(tmp_path if content is not None else tmp_path / "none")]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_a_page_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / NAME).write_text(Report("A run").to_json())
    assert main(["report", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "can't be written" in capsys.readouterr().err

    def missing(of: Report) -> str:
        raise ImportError("needs the package jinja2: pip install 'captum-wg[report]'")

    monkeypatch.setattr(report, "html", missing)
    assert main(["report", str(tmp_path)]) == 2
    assert "pip install 'captum-wg[report]'" in capsys.readouterr().err and not (tmp_path / PAGE).exists()
