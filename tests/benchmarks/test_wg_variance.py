import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import wg_variance
from benchmarks.experiment.bench import bench
from benchmarks.experiment.settings import experiments
from benchmarks.methods.weightings import EG, WG, Fitness
from benchmarks.tables.comparison import mean_interval
from captum_wg import ExpectedGradients

MODEL = "shufflenet_v2_x0_5"


@pytest.fixture
def words(folder, tmp_path):
    more = ["--n-baselines", "2", "--sets", "3", "--n-steps", "3", "--images", "3", "--chunk", "2"]
    return [*folder, *more, "--out", str(tmp_path)]


def test_deviations_are_those_of_maps_made_set_by_set(words, tmp_path, capsys):
    assert wg_variance.main(words) == 0
    table = pd.read_csv(tmp_path / "variance.csv").pivot(index="name", columns="what", values="value")
    assert len(table) == 3
    ready = bench(experiments(wg_variance.parse([*words, "--n-baselines", "6"]))[0])
    name = table.index[0]
    x = ready.network.preparation.image(ready.pictures.read(ready.pictures.names.index(name))[0])[None]
    label = int(ready.network.model(x).argmax())
    explain = ExpectedGradients(ready.network.model).attribute
    maps = [explain(x, ready.baselines[i : i + 2], label, n_steps=3, pairing="shared")[0].double() for i in (0, 2, 4)]
    mean = sum(maps) / 3
    variance = sum((m - mean) ** 2 for m in maps) / 2
    assert table.loc[name, EG] == pytest.approx(float(variance.sum().sqrt() / mean.norm()), rel=1e-4)
    assert table.loc[name, f"{EG}, absolute"] == pytest.approx(float(variance.sum().sqrt()), rel=1e-4)
    text = (tmp_path / "variance.md").read_text()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Is D_alpha related" in page and "The deviation of the map" in page
    assert "n = 3 of" in text and "3 sets of 2 baselines (references) x 3 steps" in text and "--sets 3" in text
    assert text.strip() == capsys.readouterr().out.strip()


@pytest.mark.parametrize("kind", ["blur", "published"])
def test_baselines_that_are_not_drawn(kind, folder, tmp_path, capsys):
    assert wg_variance.main([*folder, "--baselines", kind, "--out", str(tmp_path)]) == 2
    assert f"--baselines {kind} are not drawn" in capsys.readouterr().err


@pytest.mark.parametrize("failing", [1, 3])
def test_images_without_maps_are_left_out(failing, words, tmp_path, monkeypatch, capsys):
    real, calls = Fitness.distances, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) <= failing:
            raise ValueError("f(x) is 0")
        return real(*arguments)

    monkeypatch.setattr(Fitness, "distances", fail)
    if failing == 3:
        assert wg_variance.main(words) == 2
        assert "no image could be explained: ValueError: f(x) is 0" in capsys.readouterr().err
        return
    assert wg_variance.main(words) == 0
    table = pd.read_csv(tmp_path / "variance.csv")
    assert table["problem"].notna().sum() == 1 and table["value"].notna().sum() > 10
    assert f"{MODEL}: 1 images left out (ValueError: f(x) is 0)" in (tmp_path / "variance.md").read_text()


def values_of(images):
    """Deviations and correlations, as the command's cells give them."""
    generator = np.random.default_rng(0)
    names = [f"{name}{way}" for name in (EG, *wg_variance.METHODS) for way in ("", ", absolute")]
    names += [f"{sense}{way}" for sense in wg_variance.SENSES for way in ("", ", relative")]
    rows = [("net", f"{i}", what, generator.uniform(0.1, 1), "") for i in range(images) for what in names]
    return pd.DataFrame(
        [*rows, ("net", "x", "", np.nan, "no map")], columns=["model", "name", "what", "value", "problem"]
    )


def test_changes_are_those_of_each_image_against_expected_gradients():
    values = values_of(9)
    table = wg_variance.changes(values, seed=2).set_index("method")
    assert list(table.index) == [f"{name}{way}" for way in ("", ", absolute") for name in wg_variance.METHODS]
    assert (table["n"] == 9).all() and (table["Holm (t)"] >= table["p (t)"]).all()
    wide = values[values["problem"] == ""].pivot(index="name", columns="what", values="value")
    change = wide[f"{WG}, absolute"] / wide[f"{EG}, absolute"] - 1
    row = table.loc[f"{WG}, absolute"]
    assert row["mean change"] == f"{change.mean():+.1%}" and row["EG"] == pytest.approx(wide[f"{EG}, absolute"].mean())
    low, high = mean_interval(change.to_numpy(), 2)
    assert row["95 % interval"] == f"{low:+.1%} ... {high:+.1%}"


def test_correlations_are_means_over_the_images():
    values = values_of(9)
    table = wg_variance.correlations(values, seed=2).set_index("variance")
    assert list(table.index) == ["distance", "distance, relative", "noise", "noise, relative"]
    own = values[values["what"] == "noise, relative"]["value"]
    assert table.loc["noise, relative", "mean correlation"] == pytest.approx(own.mean())
    assert set(table["images above 0"]) == {"100%"} and (table["n"] == 9).all()


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
