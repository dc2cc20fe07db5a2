import numpy as np
import pytest
import torch

from benchmarks.judges.columns import JUDGES
from benchmarks.judges.judge import JudgeSettings
from benchmarks.judges.removals import REMOVALS, pixel_ranks
from benchmarks.methods.weightings import NEUTRALS, Fitness
from captum_wg.weighting.masking import neutral_values


@pytest.mark.parametrize("name, removal", [("DeletionAUC", "corners"), ("InsertionAUC-blur", "blur")])
def test_curves_by_hand(name, removal, tiny_model, tiny_batch):
    x, y = tiny_batch[0][:1], int(tiny_batch[1][0])
    a = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    order = np.argsort(-a[0].sum(0).ravel(), kind="stable")
    neutral = neutral_values((torch.from_numpy(x),), removal)[0].expand(1, 3, 32, 32)[0].numpy()
    probabilities = []
    for level in range(1, 5):
        top = np.zeros(1024, bool)
        top[order[: round(level / 4 * 1024)]] = True
        shown = ~top if name.startswith("Deletion") else top
        masked = np.where(shown.reshape(32, 32), x[0], neutral)
        with torch.no_grad():
            probabilities.append(tiny_model(torch.from_numpy(masked)[None]).softmax(1)[0, y].item())
    metric = JUDGES[name].make(JudgeSettings(levels=4))
    assert metric(tiny_model, x, np.array([y]), a)[0] == pytest.approx(np.mean(probabilities), rel=1e-4)


def test_the_settings_reach_the_metrics():
    settings = JudgeSettings(levels=7, ranking="absolute", batch=5)
    for name, ranking in (("DeletionAUC", "absolute"), ("DeletionAUC-signed", "signed"), ("InsertionAUC", "absolute")):
        metric = JUDGES[name].make(settings)
        assert (metric.levels, metric.ranking, metric.internal_batch_size) == (7, ranking, 5)


def test_road_removes_the_highest_pixels_of_colour_images(tiny_model, tiny_batch, monkeypatch):
    from quantus.functions import perturb_func

    x, y = tiny_batch[0][:1], tiny_batch[1][:1]
    a = np.random.default_rng(0).normal(size=x.shape).astype(np.float32)
    removed = []
    whole = perturb_func.noisy_linear_imputation

    def remember(arr, indices, **kwargs):
        removed.append(set(np.asarray(indices).tolist()))
        return whole(arr, indices, **kwargs)

    monkeypatch.setattr("quantus.metrics.faithfulness.road.noisy_linear_imputation", remember)
    for ranking, scores in (("signed", a[0].sum(0)), ("absolute", np.abs(a[0]).sum(0))):
        removed.clear()
        settings = JudgeSettings(ranking=ranking)
        JUDGES["ROAD"].make(settings)(tiny_model, x, y, pixel_ranks(a, settings))
        order = np.argsort(-scores.ravel(), kind="stable").tolist()
        assert [len(pixels) for pixels in removed] == pytest.approx([1024 * p / 100 for p in range(10, 100, 10)], abs=1)
        assert all(pixels == set(order[: len(pixels)]) for pixels in removed)


def test_ranks_are_of_each_map_by_itself():
    maps = np.random.default_rng(0).normal(size=(2, 3, 4, 4))
    found = pixel_ranks(maps, JudgeSettings())
    assert np.array_equal(found[1:], pixel_ranks(maps[1:], JudgeSettings()))
    assert not found[:, 1:].any() and sorted(found[0, 0].ravel()) == list(range(1, 17))
    assert found[0, 0].ravel().argmax() == maps[0].sum(0).ravel().argmax()


def test_a_judge_works_by_what_its_name_says():
    for removal in REMOVALS:
        suffix = "" if removal == "corners" else f"-{removal}"
        for metric, way in (("DeletionAUC", "deletion"), ("InsertionAUC", "insertion")):
            judge = JUDGES[f"{metric}{suffix}"]
            assert judge.works_by == (way, removal) and judge.removes == (way == "deletion")
            assert judge.higher_is_better == (way == "insertion")
    assert JUDGES["ROAD"].removes and JUDGES["DeletionAUC-signed"].works_by is None
    # Every removal that a fitness can be taken with, but black, has its judges.
    known = {judge.works_by for judge in JUDGES.values()}
    assert all(set(Fitness(neutrals=(n,), kind="both").works_by) <= known for n in NEUTRALS if n != "black")
