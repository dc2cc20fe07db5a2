import math

import pytest
import torch
from torch import nn

from benchmarks.models import training
from benchmarks.quadrature import __main__ as command
from benchmarks.quadrature import precision
from benchmarks.quadrature.problems import Problem


@pytest.fixture
def normed():
    """A network with a BatchNorm that can be folded."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()
        return nn.Sequential(*layers, nn.Linear(128, 10)).eval().requires_grad_(False)


def test_precisions_are_compared_with_the_float32_map(normed):
    def fail(model):
        raise RuntimeError("no compiler")

    x, references = torch.randn(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)).split((2, 3))
    problem = Problem("tiny", normed, x, normed(x).argmax(1), references)
    forms = {name: form for name, form in precision.FORMS.items() if name != "torch.compile"}
    forms["broken"] = ([fail], precision.plain)
    full = precision.compare(problem, 4, 2, forms).set_index("form")
    assert full.loc["floor (bare float32 loop)", "ratio"] == 1
    assert full.loc["float32", "rank correlation"] == pytest.approx(1)
    assert full.loc["BatchNorm folded", "rank correlation"] > 0.999
    assert full.loc["BatchNorm folded", "change"] == pytest.approx(0, abs=1e-3)
    assert 0.5 < full.loc["bfloat16 autocast", "rank correlation"] < 1
    assert full.loc["broken", "note"] == "RuntimeError: no compiler"
    assert math.isnan(full.loc["broken", "ratio"])


def test_the_heading_says_whether_bfloat16_is_emulated():
    assert precision.instructions("cuda") == ""
    assert precision.instructions("cpu") == "" or "bfloat16 instructions" in precision.instructions("cpu")


def test_the_command_says_which_forms_failed(normed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "digits_model", lambda *_: normed)
    forms = {"float32": precision.FORMS["float32"], "broken": ([lambda model: None], precision.plain)}
    monkeypatch.setattr(precision, "FORMS", forms)
    arguments = ["--tables", "precision", "--images", "1", "--baselines", "2", "--n-steps", "2", "--repeats", "1"]
    assert command.main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "floor (bare float32 loop)" in printed and "TypeError" in printed
