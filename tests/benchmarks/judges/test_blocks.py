import numpy as np
import pytest
import torch

from benchmarks.judges.blocks import grid
from benchmarks.judges.columns import JUDGES
from benchmarks.judges.judge import JudgeSettings
from benchmarks.judges.removals import noise
from captum_wg.weighting.masking import neutral_values

REPLACED = {"blur": lambda x: neutral_values((x,), "blur")[0], "noise": noise}


@pytest.fixture
def one(tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    return x, y, np.random.default_rng(0).normal(size=x.shape).astype(np.float32)


def probability(model, x, y):
    with torch.no_grad():
        return float(model(x).softmax(1)[0, y])


def blocks(cells, side=32):
    """The grid's masks, row by row."""
    size = side // cells
    for i in range(cells):
        for j in range(cells):
            mask = torch.zeros(side, side, dtype=torch.bool)
            mask[i * size : (i + 1) * size, j * size : (j + 1) * size] = True
            yield mask


@pytest.mark.parametrize("removal", ["blur", "noise"])
@pytest.mark.parametrize("metric", ["DeletionAUC", "InsertionAUC"])
def test_curves_over_blocks_by_hand(metric, removal, tiny_model, one):
    x, y, a = one
    masks = list(blocks(8))
    order = np.argsort([-a[0].sum(0)[mask.numpy()].sum(dtype=float) for mask in masks], kind="stable")
    outputs = []
    for level in range(1, 6):
        top = torch.stack([masks[i] for i in order[: round(level / 5 * 64)]]).any(0)
        gone = top if metric == "DeletionAUC" else ~top
        outputs.append(probability(tiny_model, torch.where(gone, REPLACED[removal](x), x), y))
    judge = JUDGES[f"{metric}-grid8-{removal}"]
    found = judge.make(JudgeSettings(levels=5))(tiny_model, x.numpy(), np.array([y]), a)
    assert found[0] == pytest.approx(np.mean(outputs), rel=1e-5)
    assert judge.settings == f'removal="{removal}", a grid of 8 x 8 blocks'
    assert judge.higher_is_better == (metric == "InsertionAUC")


def test_blocks_are_parts_of_the_side_at_any_size():
    numbers = grid((5, 3, 224, 40), 8)
    assert numbers.shape == (1, 3, 224, 40) and torch.equal(numbers[0, 0], numbers[0, 2])
    assert numbers.unique().tolist() == list(range(64))
    assert (numbers[0, 0] == 15).nonzero().tolist() == [[i, j] for i in range(28, 56) for j in range(35, 40)]
    assert [(grid((1, 1, 30, 8), 8)[0, 0, :, 0] == 8 * i).sum() for i in range(8)] == [4] * 7 + [2]
