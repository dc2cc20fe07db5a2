import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import wg_experiment, wg_run, wg_variance
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_methods import EG, WG
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
    settings = wg_variance.parse([*words, "--n-baselines", "6"])
    experiment = wg_run.experiments(settings)[0]
    ready = wg_experiment.bench(experiment)
    name = table.index[0]
    image = wg_experiment.Chosen(ready.pictures.names.index(name), name, 0, 0)
    picture, _ = ready.pictures.read(image.position)
    x = ready.network.preparation.image(picture)[None]
    label = int(ready.network.model(x).argmax())
    references = ready.baselines_of(x)
    maps = torch.stack(
        [
            ExpectedGradients(ready.network.model).attribute(x, references[i : i + 2], label, n_steps=3)[0]
            for i in (0, 2, 4)
        ]
    ).double()
    mean = sum(maps) / 3
    variance = sum((m - mean) ** 2 for m in maps) / 2
    assert table.loc[name, EG] == pytest.approx(float(variance.sum().sqrt() / mean.norm()), rel=1e-4)
    assert table.loc[name, f"{EG}, absolute"] == pytest.approx(float(variance.sum().sqrt()), rel=1e-4)
    text = (tmp_path / "variance.md").read_text()
    assert "n = 3 of" in text and "3 sets of 2 baselines x 3 steps" in text and "--sets 3" in text
    assert text == capsys.readouterr().out


def test_a_map_that_does_not_depend_on_the_set_has_no_deviation():
    experiment = Experiment("m", "cifar10", "", n_baselines=4, n_steps=1)
    maps = np.tile(np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32), (2, 1, 1, 1))
    distances = np.array([3.0, 8.0, 3.0, 8.0])
    x = torch.zeros(3, 4, 4)
    assert wg_variance.over_sets(experiment, WG, "a", x, maps, distances, 2) == pytest.approx((0, 0), abs=1e-7)
    other = np.array([3.0, 8.0, 8.0, 3.0])
    assert wg_variance.over_sets(experiment, WG, "a", x, maps, other, 2)[0] > 0.1
    assert wg_variance.over_sets(experiment, EG, "a", x, maps, other, 2) == pytest.approx((0, 0), abs=1e-7)


def test_shuffled_weights_are_drawn_for_each_image():
    experiment = Experiment("m", "cifar10", "", n_baselines=4, n_steps=1)
    maps = np.random.default_rng(0).normal(size=(6, 3, 4, 4)).astype(np.float32)
    distances = np.array([3.0, 8.0, 30.0, 3.0, 8.0, 30.0])
    found = {
        wg_variance.over_sets(experiment, "ShuffledWeights", image, torch.zeros(3, 4, 4), maps, distances, 3)
        for image in "abcdef"
    }
    assert len(found) > 2


@pytest.mark.parametrize("kind", ["blur", "published"])
def test_baselines_that_are_not_drawn(kind, folder, tmp_path, capsys):
    assert wg_variance.main([*folder, "--baselines", kind, "--out", str(tmp_path)]) == 2
    assert f"--baselines {kind} are not drawn" in capsys.readouterr().err


def test_correlations():
    assert wg_variance.correlation(np.array([1, 2, 3]), np.array([10, 40, 90])) == 1
    assert wg_variance.correlation(np.array([1, 2, 3]), np.array([3, 2, 1])) == -1
    assert np.isnan(wg_variance.correlation(np.array([1, 1, 1]), np.array([3, 2, 1])))


def test_the_noise_of_one_point_is_the_variance_of_maps_of_one_point(folder):
    """Against maps of single random points, many of them."""
    settings = wg_variance.parse([*folder, "--n-baselines", "2", "--n-steps", "600"])
    experiment = wg_run.experiments(settings)[0]
    ready = wg_experiment.bench(experiment)
    x = ready.network.preparation.image(ready.pictures.read(0)[0])[None]
    found = wg_experiment.path_variance(ready, x, 0, "a")
    generator = torch.Generator().manual_seed(5)
    for k, reference in enumerate(ready.baselines_of(x)):
        alphas = torch.rand(600, 1, 1, 1, generator=generator)
        points = (reference + alphas * (x - reference)).requires_grad_()
        gradients = torch.autograd.grad(ready.network.model(points)[:, 0].sum(), points)[0]
        expected = ((x - reference) * gradients).double().var(0).sum()
        assert found[k] == pytest.approx(float(expected), rel=0.2)


@pytest.mark.parametrize("failing", [1, 3])
def test_images_without_maps_are_left_out(failing, words, tmp_path, monkeypatch, capsys):
    real, calls = wg_experiment.baseline_fitness, []

    def fail(*arguments):
        calls.append(arguments)
        if len(calls) <= failing:
            raise ValueError("f(x) is 0")
        return real(*arguments)

    monkeypatch.setattr(wg_experiment, "baseline_fitness", fail)
    if failing == 3:
        assert wg_variance.main(words) == 2
        assert "no image could be explained: ValueError: f(x) is 0" in capsys.readouterr().err
        return
    assert wg_variance.main(words) == 0
    table = pd.read_csv(tmp_path / "variance.csv")
    assert table["problem"].notna().sum() == 1 and table["value"].notna().sum() > 10
    assert f"{MODEL}: 1 images left out (ValueError: f(x) is 0)" in (tmp_path / "variance.md").read_text()
