import numpy as np
import pytest
import torch

from benchmarks import wg_judges, wg_methods
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.randomness import seeded
from benchmarks.wg_judges import available, choose
from benchmarks.wg_methods import Fitness

CPU = torch.device("cpu")


@pytest.fixture
def judged(tiny_model, tiny_batch):
    x, y = tiny_batch
    a = np.random.default_rng(0).normal(size=x[0].shape).astype(np.float32)
    mask = np.zeros((32, 32), bool)
    mask[5:20, 8:16] = True
    return tiny_model, x[0], int(y[0]), a, mask, CPU


@pytest.mark.parametrize("name", [name for name, judge in available().items() if not judge.explains])
def test_every_judge_gives_a_number_and_repeats(name, judged):
    judge = available(levels=10)[name]
    results = []
    for _ in range(2):
        with seeded(0, name):
            results.append(judge.score(*judged))
    assert 0 <= results[0] <= 1 and results[0] == results[1]


@pytest.mark.parametrize("name, removal", [("DeletionAUC", "corners"), ("InsertionAUC-blur", "blur")])
def test_curves_by_hand(name, removal, judged):
    from captum_wg.weighting.masking import neutral_values

    model, x, y, a, _, _ = judged
    order = np.argsort(-a.sum(0).ravel(), kind="stable")
    neutral = neutral_values((torch.from_numpy(x)[None],), removal)[0].expand(1, 3, 32, 32)[0].numpy()
    probabilities = []
    for level in range(1, 5):
        top = np.zeros(1024, bool)
        top[order[: round(level / 4 * 1024)]] = True
        shown = ~top if name.startswith("Deletion") else top
        masked = np.where(shown.reshape(32, 32), x, neutral)
        with torch.no_grad():
            probabilities.append(model(torch.from_numpy(masked)[None]).softmax(1)[0, y].item())
    assert available(levels=4)[name].score(*judged) == pytest.approx(np.mean(probabilities), rel=1e-4)


def test_road_removes_the_highest_pixels_of_colour_images(judged, monkeypatch):
    from quantus.functions import perturb_func

    a = judged[3]
    removed = []
    whole = perturb_func.noisy_linear_imputation

    def remember(arr, indices, **kwargs):
        removed.append(set(np.asarray(indices).tolist()))
        return whole(arr, indices, **kwargs)

    monkeypatch.setattr("quantus.metrics.faithfulness.road.noisy_linear_imputation", remember)
    for ranking, scores in (("signed", a.sum(0)), ("absolute", np.abs(a).sum(0))):
        removed.clear()
        available(ranking=ranking)["ROAD"].score(*judged)
        order = np.argsort(-scores.ravel(), kind="stable").tolist()
        assert [len(pixels) for pixels in removed] == pytest.approx([1024 * p / 100 for p in range(10, 100, 10)], abs=1)
        assert all(pixels == set(order[: len(pixels)]) for pixels in removed)


def test_the_mask_itself_overlaps_best(judged):
    model, x, y, a, mask, device = judged
    judge = available(levels=20)["OverlapAUC"]
    best = judge.score(model, x, y, mask + 0.01 * a, mask, device)
    assert best == 1 > judge.score(*judged)
    with pytest.raises(ValueError, match="OverlapAUC needs the object's mask; got none"):
        judge.score(model, x, y, a, None, device)


def test_choosing():
    judges = available()
    assert [judge.name for judge in choose(judges, None, masks=True)] == [
        n for n, judge in judges.items() if not judge.slow
    ]
    assert "OverlapAUC" not in {judge.name for judge in choose(judges, None, masks=False)}
    assert [judge.name for judge in choose(judges, ["ROAD", "DeletionAUC"], masks=False)] == ["DeletionAUC", "ROAD"]
    with pytest.raises(BenchmarkError, match="unknown judge 'Road'; known are DeletionAUC"):
        choose(judges, ["Road"], masks=False)
    with pytest.raises(BenchmarkError, match="OverlapAUC needs masks: --data coco, or --masks"):
        choose(judges, ["OverlapAUC"], masks=False)


def test_sanity_checks_compare_with_another_network_and_another_class(judged, tiny_model):
    model, x, y, _, mask, device = judged
    asked = []

    def gradient(model, inputs, targets, **_):
        asked.append((model, int(targets[0])))
        leaf = torch.tensor(inputs, requires_grad=True)
        model(leaf)[range(len(inputs)), torch.as_tensor(targets)].sum().backward()
        return leaf.grad.numpy()

    judges = available(classes=10)
    a = gradient(tiny_model, x[None], [y])[0]
    asked.clear()
    randomised = judges["MPRT"].score(model, x, y, a, mask, device, gradient)
    last, label = asked[-1]
    assert label == y and abs(randomised) < 0.5
    assert not torch.equal(last[0].weight, tiny_model[0].weight)

    asked.clear()
    other = judges["RandomLogit"].score(model, x, y, a, mask, device, gradient)
    assert [label for _, label in asked] != [y] and -1 <= other < 1

    edges = lambda model, inputs, targets, **_: np.abs(inputs)  # noqa: E731
    for name in ("MPRT", "RandomLogit"):
        blind = judges[name].score(model, x, y, np.abs(x), mask, device, edges)
        assert blind == pytest.approx(1)
        with pytest.raises(ValueError, match=f"{name} explains again and needs a function for it"):
            judges[name].score(model, x, y, a, mask, device)


def test_fitted_judges_work_as_the_fitness_does():
    assert wg_judges.fitted(Fitness()) == ["DeletionAUC"]
    assert wg_judges.fitted(Fitness(neutrals=("blur", "zero"), kind="insertion")) == [
        "InsertionAUC-blur",
        "InsertionAUC-zero",
    ]
    assert set(wg_judges.fitted(Fitness(neutrals=("corners", "blur"), kind="both"))) == {
        f"{metric}{removal}" for metric in ("DeletionAUC", "InsertionAUC") for removal in ("", "-blur")
    }
    known = set(wg_judges.available())
    for neutral in wg_methods.NEUTRALS:
        if neutral != "black":
            assert set(wg_judges.fitted(Fitness(neutrals=(neutral,), kind="both"))) <= known
