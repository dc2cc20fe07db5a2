import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import fewer
from benchmarks.models import checkpoints as models
from captum_wg import ExpectedGradients


@pytest.fixture
def batch(tiny_batch):
    x, y = tiny_batch
    return torch.from_numpy(x), torch.from_numpy(y)


def test_scales_are_mean_changes_of_the_output(tiny_model, batch, references):
    x, y = batch
    found = fewer.scales(tiny_model, x, y, references)
    for i in range(3):
        changes = [abs(float(tiny_model(x[i : i + 1])[0, y[i]] - tiny_model(r[None])[0, y[i]])) for r in references]
        assert float(found[i]) == pytest.approx(np.mean(changes), rel=1e-5)


def test_steps_of_fixed_and_automatic_rows(tiny_model, batch, references):
    x, y = batch
    exact = fewer.exact_maps(tiny_model, x[:2], y[:2], references)
    table = fewer.steps_table(tiny_model, x, y, references, 12, exact, "2")
    assert len(table) == 6 and (table["images"] == 3).all()
    fixed, automatic = table[:3], table[3:].reset_index(drop=True)
    assert fixed["gradients"].tolist() == [24, 24, 23]
    assert fixed["of_fixed"].tolist() == pytest.approx([1, 1, 23 / 24])
    # Of three images none may be left out of nine in ten.
    assert (fixed["within"] == 1).all() and (fixed["delta_quantile"] == fixed["delta_largest"]).all()
    assert automatic["tolerance"].tolist() == fixed["tolerance"].tolist()
    assert (automatic["within"] == 1).all() and (automatic["delta_largest"] <= automatic["tolerance"]).all()
    assert (table["map_error"] > 0).all() and (table["map_error"] < 0.5).all()
    _, delta = ExpectedGradients(tiny_model).attribute(
        x, references, y, n_steps=12, return_convergence_delta=True, pairing="shared"
    )
    relative = delta.abs() / fewer.scales(tiny_model, x, y, references)
    assert fixed["delta_largest"][0] == pytest.approx(float(relative.max()), rel=1e-3)


def test_samples_beside_gradient_shap(tiny_model, batch, references):
    x, y = batch
    exact = fewer.exact_maps(tiny_model, x, y, references)
    table = fewer.samples_table(tiny_model, x, y, references, exact, 40, 2).set_index("row")
    assert table["gradients"].tolist() == [40, 3, 5, 7, 11, 41, 21, 41, 4, 40]
    assert table["error_ratio"].iloc[0] == table["time_ratio"].iloc[0] == 1
    shared = table.loc[[f"riemann_shared_end, n_steps={n}" for n in (2, 6, 21)], "error"]
    assert (shared.diff().dropna() < 0).all() and shared.iloc[-1] < 0.3 * table["error"].iloc[0]
    assert (table["seconds"] > 0).all()


def test_exact_maps_are_complete(tiny_model, batch, references):
    x, y = batch
    found = fewer.exact_maps(tiny_model, x, y, references).flatten(1).sum(1)
    at_x = tiny_model(x).gather(1, y.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(found, at_x - tiny_model(references).T[y].mean(1), rtol=0.02, atol=1e-3)
    assert fewer.relative_errors(torch.ones(2, 3), torch.tensor([[1.0] * 3, [2.0] * 3])).tolist() == [0, 0.5]


def test_screening_spends_less_and_is_judged_by_image(tiny_model, batch):
    x, y = batch
    references = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    table, each = fewer.screening_table(tiny_model, x, y, references, 8, [2, 8], 0)
    assert table["row"].tolist() == ["all", "keep=0.5, screening_steps=2", "keep=0.5, screening_steps=8"]
    # Seven inner points and x; then one, x, and the six missing of three.
    assert table["gradients"].tolist() == [43, 6 + 1 + 3 * 6, 43]
    assert 0 <= table["kept_as_by_full_maps"][1] <= table["kept_as_by_full_maps"][2] == 3
    assert list(each.columns) == ["image", *table["row"]] and len(each) == 3
    assert table["mean"].tolist() == pytest.approx([each[row].mean() for row in table["row"]])
    change = each["keep=0.5, screening_steps=2"].mean() / each["all"].mean() - 1
    assert table["relative_change"][1] == pytest.approx(change)


def test_the_command_writes_its_files(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(models, "digits_model", lambda *_: tiny_model)
    monkeypatch.setattr(fewer, "REFERENCE_STEPS", 20)
    arguments = [
        "--repeats",
        "1",
        "--n-samples",
        "8",
        "--images",
        "2",
        "--baselines",
        "2",
        "--n-steps",
        "6",
        "--screening-steps",
        "2",
    ]
    assert fewer.main([*arguments, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "n = 2 correctly classified images, K = 2" in printed and "auto, as riemann_middle" in printed
    assert len(pd.read_csv(tmp_path / "steps.csv")) == 12
    assert len(pd.read_csv(tmp_path / "screening.csv")) == 2 and len(pd.read_csv(tmp_path / "deletion.csv")) == 2
    assert (tmp_path / "fewer.md").read_text() in printed
    names = ("samples", "steps", "screening")
    for only in names:
        assert fewer.main([*arguments, "--only", only, "--out", str(tmp_path / only)]) == 0
        assert [name for name in names if (tmp_path / only / f"{name}.csv").exists()] == [only]


def test_what_is_missing_is_said(tmp_path, capsys):
    assert fewer.main(["--data", "cifar10", "--root", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "error: no CIFAR-10 under" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        fewer.main(["--images", "0"])
    assert "must be at least 1, got 0" in capsys.readouterr().err
