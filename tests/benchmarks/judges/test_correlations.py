import copy
import functools

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr

from benchmarks.judges.columns import JUDGES
from benchmarks.judges.correlations import JUDGES as CORRELATIONS
from benchmarks.judges.judge import JudgeSettings
from benchmarks.judges.removals import noise
from captum_wg.weighting.masking import neutral_values


@pytest.mark.parametrize("cells", [4, 8])
def test_over_single_blocks_by_hand(cells, tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    a = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    size, wanted = 32 // cells, []
    for values in (neutral_values((x,), "blur")[0], noise(x)):
        sums, drops = [], []
        for i in range(cells):
            for j in range(cells):
                part = np.s_[..., i * size : (i + 1) * size, j * size : (j + 1) * size]
                without = x.clone()
                without[part] = values[part]
                with torch.no_grad():
                    drops.append(float(tiny_model(x).softmax(1)[0, y] - tiny_model(without).softmax(1)[0, y]))
                sums.append(a[part].sum(dtype=float))
        wanted.append(spearmanr(sums, drops).statistic)
    metric = JUDGES[f"PatchDeletionCorrelation-grid{cells}"].make(JudgeSettings())
    assert metric(tiny_model, x.numpy(), np.array([y]), a)[0] == pytest.approx(np.mean(wanted), abs=1e-3)


@pytest.mark.parametrize("name, side", [("SubsetCorrelation", 1), ("SubsetCorrelation-grid8", 4)])
def test_over_subsets_by_hand(name, side, tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    a = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    metric = JUDGES[name].make(JudgeSettings())
    sets = metric.sets_of((32 // side) ** 2, x.shape[1:]).numpy()
    assert sets.shape == (100, (32 // side) ** 2) and set(sets.sum(1)) == {round(0.2 * (32 // side) ** 2)}
    wanted = []
    for values in (neutral_values((x,), "blur")[0], noise(x)):
        sums, drops = [], []
        for members in sets:
            gone = members.reshape(32 // side, -1).repeat(side, 0).repeat(side, 1)
            without = torch.where(torch.from_numpy(gone), values, x)
            with torch.no_grad():
                drops.append(float(tiny_model(x).softmax(1)[0, y] - tiny_model(without).softmax(1)[0, y]))
            sums.append(a[0, :, gone].sum(dtype=float))
        wanted.append(pearsonr(sums, drops).statistic)
    assert metric(tiny_model, x.numpy(), np.array([y]), a)[0] == pytest.approx(np.mean(wanted), abs=1e-4)


def test_many_maps_cost_the_forwards_of_one(tiny_model, tiny_batch):
    x, y = tiny_batch
    maps = np.random.default_rng(1).normal(size=(4, *x.shape)).astype(np.float32)
    for judge in CORRELATIONS:
        rows = []
        handle = tiny_model.register_forward_pre_hook(lambda module, inputs, rows=rows: rows.append(len(inputs[0])))
        metric = judge.make(JudgeSettings())
        together = metric.scores_of(tiny_model, x, y, maps)
        count = sum(rows)
        rows.clear()
        one = metric(tiny_model, x, y, maps[2])
        handle.remove()
        assert together.shape == (4, 3) and together[2] == pytest.approx(one, abs=1e-9), judge.name
        # Another row's maps of the same images take f(x) alone, the drops being known.
        assert sum(rows) == len(x) < count


def test_remembered_drops_are_those_of_the_same_network_images_and_classes(tiny_network, tiny_model, tiny_batch):
    x, y = tiny_batch
    a = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    (judge,) = [judge for judge in CORRELATIONS if judge.name == "PatchDeletionCorrelation-grid4"]
    fresh = type(judge.make(JudgeSettings())).__mro__[1]  # without the memory

    def both(model, inputs, classes):
        kept = judge.make(JudgeSettings())
        forgetful = copy.copy(kept)
        forgetful.drops = functools.partial(fresh.drops, forgetful)
        return kept(model, inputs, classes, a), forgetful(model, inputs, classes, a)

    other = copy.deepcopy(tiny_model)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    found = [
        both(*one) for one in ((tiny_model, x, y), (tiny_model, x, (y + 1) % 3), (other, x, y), (tiny_model, -x, y))
    ]
    for kept, forgetful in found:
        assert kept == forgetful
    assert len({tuple(kept) for kept, _ in found}) == 4


def test_they_are_asked_for_by_name_and_say_how():
    assert all(judge.slow and judge.higher_is_better and judge.works_by is None for judge in CORRELATIONS)
    assert JUDGES["SubsetCorrelation-grid8"].settings == (
        "removal=('blur', 'noise'), a grid of 8 x 8 blocks, n_subsets=100, share=0.2"
    )
    metric = JUDGES["SubsetCorrelation"].make(JudgeSettings(ranking="absolute", batch=5))
    assert (metric.ranking, metric.internal_batch_size) == ("absolute", 5)
