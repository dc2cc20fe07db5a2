import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks.models import training
from benchmarks.quadrature import __main__ as command
from benchmarks.quadrature import fewer
from benchmarks.quadrature.problems import Problem
from benchmarks.quadrature.settings import Settings
from captum_wg import ExpectedGradients


@pytest.fixture
def problem(tiny_model, tiny_batch, references):
    return Problem("tiny", tiny_model, *map(torch.from_numpy, tiny_batch), references)


def test_scales_are_mean_changes_of_the_output(problem):
    model, x, y = problem.model, problem.x, problem.y
    found = fewer.scales(problem)
    for i in range(3):
        changes = [abs(float(model(x[i : i + 1])[0, y[i]] - model(r[None])[0, y[i]])) for r in problem.references]
        assert float(found[i]) == pytest.approx(np.mean(changes), rel=1e-5)


def test_steps_of_fixed_and_automatic_rows(problem):
    _, frames = fewer.steps(Settings(n_steps=12, compared=2), problem)
    table = frames["steps"]
    assert len(table) == 12 and (table["images"] == 3).all() and set(table["baselines"]) == {"2", "1 (zero)"}
    table = table[:6]
    fixed, automatic = table[:3], table[3:].reset_index(drop=True)
    assert fixed["gradients"].tolist() == [24, 24, 23]
    assert fixed["of_fixed"].tolist() == pytest.approx([1, 1, 23 / 24])
    # Of three images none may be left out of nine in ten.
    assert (fixed["within"] == 1).all() and (fixed["delta_quantile"] == fixed["delta_largest"]).all()
    assert automatic["tolerance"].tolist() == fixed["tolerance"].tolist()
    assert (automatic["within"] == 1).all() and (automatic["delta_largest"] <= automatic["tolerance"]).all()
    assert (table["map_error"] > 0).all() and (table["map_error"] < 0.5).all() and (table["warnings"] == 0).all()
    _, delta = ExpectedGradients(problem.model).attribute(
        problem.x, problem.references, problem.y, n_steps=12, return_convergence_delta=True, pairing="shared"
    )
    relative = delta.abs() / fewer.scales(problem)
    assert fixed["delta_largest"][0] == pytest.approx(float(relative.max()), rel=1e-3)


def test_steps_that_do_not_suffice_are_counted(problem, monkeypatch):
    monkeypatch.setattr(fewer, "SHARE", 0.0)  # the tolerance is the smallest delta
    monkeypatch.setattr(fewer, "MAX_STEPS", 6)
    _, frames = fewer.steps(Settings(n_steps=50, compared=1), problem)
    assert frames["steps"]["warnings"].tolist() == [0, 0, 0, 1, 1, 1] * 2


def test_samples_beside_gradient_shap(problem):
    _, frames = fewer.samples(Settings(n_samples=40, repeats=2), problem)
    table = frames["samples"].set_index("row")
    assert table["gradients"].tolist() == [40, 3, 5, 7, 11, 41, 21, 41, 4, 40]
    assert table["error_ratio"].iloc[0] == table["time_ratio"].iloc[0] == 1
    shared = table.loc[[f"riemann_shared_end, n_steps={n}" for n in (2, 6, 21)], "error"]
    assert (shared.diff().dropna() < 0).all() and shared.iloc[-1] < 0.3 * table["error"].iloc[0]
    assert (table["seconds"] > 0).all()


def test_exact_maps_are_complete(problem):
    model, x, y = problem.model, problem.x, problem.y
    found = fewer.exact_maps(problem, 3).flatten(1).sum(1)
    at_x = model(x).gather(1, y.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(found, at_x - model(problem.references).T[y].mean(1), rtol=0.02, atol=1e-3)
    assert len(fewer.exact_maps(problem, 2)) == 2
    assert fewer.relative_errors(torch.ones(3, 3), torch.tensor([[1.0] * 3, [2.0] * 3])).tolist() == [0, 0.5]


def test_screening_spends_less_and_is_judged_by_image(tiny_model, tiny_batch):
    references = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    problem = Problem("tiny", tiny_model, *map(torch.from_numpy, tiny_batch), references)
    _, frames = fewer.screening(Settings(n_steps=8, screening_steps=(2, 8)), problem)
    table, each = frames["screening"], frames["deletion"]
    assert table["row"].tolist() == ["all", "keep=0.5, screening_steps=2", "keep=0.5, screening_steps=8"]
    # Seven inner points and x; then one, x, and the six missing of three.
    assert table["gradients"].tolist() == [43, 6 + 1 + 3 * 6, 43]
    assert 0 <= table["kept_as_by_full_maps"][1] <= table["kept_as_by_full_maps"][2] == 3
    assert list(each.columns) == ["image", *table["row"]] and len(each) == 3
    assert table["mean"].tolist() == pytest.approx([each[row].mean() for row in table["row"]])
    change = each["keep=0.5, screening_steps=2"].mean() / each["all"].mean() - 1
    assert table["relative_change"][1] == pytest.approx(change)


def test_the_command_writes_its_files(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(training, "digits_model", lambda *_: tiny_model)
    monkeypatch.setattr(fewer, "REFERENCE_STEPS", 20)
    arguments = ["--repeats", "1", "--n-samples", "8", "--images", "2", "--baselines", "2", "--n-steps", "6"]
    arguments += ["--screening-steps", "2", "--tables"]
    names = ["samples", "steps", "screening"]
    assert command.main([*arguments, *names, "--out", str(tmp_path / "all")]) == 0
    printed = capsys.readouterr().out
    assert "n = 2 correctly classified images, K = 2" in printed and "auto, as riemann_middle" in printed
    assert len(pd.read_csv(tmp_path / "all/steps.csv")) == 12
    assert len(pd.read_csv(tmp_path / "all/screening.csv")) == len(pd.read_csv(tmp_path / "all/deletion.csv")) == 2
    for name in names:
        assert command.main([*arguments, name, "--out", str(tmp_path / name)]) == 0
        assert [other for other in names if (tmp_path / name / f"{other}.csv").exists()] == [name]
