import numpy as np
import pytest
import torch

from benchmarks.judges.columns import JUDGES
from benchmarks.judges.judge import JudgeSettings
from benchmarks.run.randomness import seeded

SETTINGS = JudgeSettings(levels=20, classes=10)


def test_the_published_settings():
    flipping, correlation = (JUDGES[n].make(SETTINGS) for n in ("PixelFlipping-1ch", "FaithfulnessCorrelation"))
    assert flipping.features_in_step == 32
    assert flipping.perturb_func.keywords["perturb_baseline"] == "uniform"
    assert (correlation.nr_runs, correlation.subset_size, correlation.abs) == (100, 32, True)
    assert correlation.perturb_func.keywords["perturb_baseline"] == "uniform"
    for name in ("MaxSensitivity", "AvgSensitivity"):
        sensitivity = JUDGES[name].make(SETTINGS)
        assert sensitivity.nr_samples == 10
        assert sensitivity.perturb_func.keywords["lower_bound"] == 0.2
        assert JUDGES[name].explains and JUDGES[name].stream == "robustness"


def test_the_mask_itself_overlaps_best(tiny_batch):
    x, y = tiny_batch[0][:1], tiny_batch[1][:1]
    a = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    mask = np.zeros((1, 1, 32, 32), bool)
    mask[..., 5:20, 8:16] = True
    metric = JUDGES["OverlapAUC"].make(SETTINGS)
    assert metric(None, x, y, mask + 0.01 * a, mask)[0] == 1 > metric(None, x, y, a, mask)[0]


def test_the_pointing_game_asks_for_the_highest_pixel(tiny_model, tiny_batch):
    x, y = tiny_batch
    mask = np.zeros((3, 1, 32, 32), bool)
    mask[..., 5:20, 8:16] = True
    a = -1 - np.random.default_rng(0).random(x.shape).astype(np.float32)  # negative throughout
    a[0, :, 6, 9] = -0.5
    a[1, :, 25, 25] = -0.5
    a[2, :, 6, 9], a[2, :, 25, 25] = -0.5, -20.0
    judge = JUDGES["PointingGame"]

    def hits(ranking):
        settings = JudgeSettings(ranking=ranking)
        formed = judge.form(a, settings)
        assert formed.shape == (3, 1, 32, 32)
        return [float(hit) for hit in judge.make(settings)(tiny_model, x, y, formed, mask)]

    assert hits("signed") == [1, 0, 1] and hits("absolute")[2] == 0
    assert judge.masks and judge.slow and judge.arrow == "↑"


def test_sanity_checks_compare_with_another_network_and_another_class(tiny_model, tiny_batch):
    x, y = tiny_batch[0][:1], tiny_batch[1][:1]
    asked = []

    def gradient(model, inputs, targets, **_):
        asked.append((model, int(targets[0])))
        leaf = torch.tensor(inputs, requires_grad=True)
        model(leaf)[range(len(inputs)), torch.as_tensor(targets)].sum().backward()
        return leaf.grad.numpy()

    def score(name, a, explain):
        asked.clear()
        with seeded(0, name):
            metric = JUDGES[name].make(SETTINGS)
            return float(metric(tiny_model, x, y, a, explain_func=explain, explain_func_kwargs={})[0])

    a = gradient(tiny_model, x, y)
    randomised = score("MPRT", a, gradient)
    last, label = asked[-1]
    assert label == y[0] and abs(randomised) < 0.5
    assert not torch.equal(last[0].weight, tiny_model[0].weight)

    other = score("RandomLogit", a, gradient)
    assert [label for _, label in asked] != [y[0]] and -1 <= other < 1
    for name in ("MPRT", "RandomLogit"):
        assert score(name, np.abs(x), lambda model, inputs, targets, **_: np.abs(inputs)) == pytest.approx(1)


def test_the_sanity_checks_seed_themselves_by_what_stands_around_them():
    seeds = []
    for word in ("a", "a", "b"):
        with seeded(0, word):
            seeds.append(JUDGES["MPRT"].make(SETTINGS).seed)
    assert seeds[0] == seeds[1] != seeds[2]
