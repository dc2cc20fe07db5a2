import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.quadrature import __main__ as command
from benchmarks.quadrature.convergence import fitted_slope, measure, notes, summary
from benchmarks.quadrature.problems import Problem


@pytest.fixture
def problem(tiny_model, tiny_batch, references):
    x, y = tiny_batch
    return Problem("tiny", tiny_model, torch.from_numpy(x[:2]), torch.from_numpy(y[:2]), references, steps=20)


def measured(problem, peers=False, totals=(8, 16)):
    return measure(problem, totals, 0, 2, peers)


def test_slope_leaves_out_rounding_errors():
    assert fitted_slope(np.array([1.0, 2.0, 4.0]), np.array([1.0, 0.25, 1e-16])) == pytest.approx(-2)
    assert np.isnan(fitted_slope(np.array([1.0]), np.array([1.0])))


def test_measure_gives_a_row_per_image_estimator_and_budget(problem):
    rows = measured(problem)
    assert len(rows[rows["estimator"] == "midpoint"]) == 4
    assert (rows["error"] >= 0).all()
    pd.testing.assert_frame_equal(rows, measured(problem))


def test_peers_come_closer_with_more_samples(problem):
    pytest.importorskip("shap")
    rows = measured(problem, peers=True, totals=(8, 500))
    for name in ("Captum GradientShap", "shap GradientExplainer"):
        of = rows[rows["estimator"] == name].groupby("budget")["error"].median()
        assert of[500] < 0.2
        assert of[500] < of[8]


def test_summary_compares_with_the_midpoint_rule(problem):
    table = summary(measured(problem)).set_index(["estimator", "budget"])
    assert table.loc[("midpoint", 8), "to_midpoint"] == 1
    assert table.loc[("trapezoid", 8), "to_midpoint"] == pytest.approx(
        table.loc[("trapezoid", 8), "error"] / table.loc[("midpoint", 8), "error"]
    )
    assert table.loc[("Monte-Carlo", 16), "to_monte_carlo"] == 1


def test_notes_name_the_best(problem):
    table = summary(measured(problem))
    line = next(line for line in notes(table) if "8 gradients" in line)
    at = table[table["budget"] == 8].set_index("estimator")
    best = at["error"].idxmin()
    assert f"is that of '{best}', {at['error'][best]:.2g} = {at['to_midpoint'][best]:.2g} x midpoint" in line


def test_command_writes_its_files(tmp_path, capsys):
    arguments = ["--model", "smooth", "--images", "1", "--baselines", "2", "--reference-steps", "40", "--draws", "1"]
    assert command.main([*arguments, "--gradients", "8", "16", "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "two-stage, end at x" in printed
    assert "the smallest error is that of" in printed
    assert (tmp_path / "quadrature.md").read_text().removeprefix("# Quadrature\n\n") in printed
    assert {p.name for p in tmp_path.iterdir()} == {
        *("convergence.csv", "convergence.png", "errors.csv", "quadrature.md", "report.html", "report.json")
    }
    assert {"estimator", "gradients", "error", "slope"} <= set(pd.read_csv(tmp_path / "convergence.csv").columns)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "resnet18", "--data", "cifar10"], "--data cifar10 needs --root"),
        (["--tables", "samples", "--data", "cifar10", "--root", "."], "no CIFAR-10 under"),
        (["--device", "nowhere"], "--device nowhere can't be used here"),
    ],
)
def test_command_says_what_is_missing(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CIFAR10.download", no_network)
    assert command.main([*arguments, "--out", str(tmp_path / "out")]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def no_network(self):
    raise OSError("no route to host")


def test_numbers_are_checked(capsys):
    with pytest.raises(SystemExit):
        command.main(["--images", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err
