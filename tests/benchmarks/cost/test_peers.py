import torch

from benchmarks.cost import peers
from captum_wg import ExpectedGradients


def test_captums_averages_are_expected_gradients(task):
    ours = ExpectedGradients(task.model).attribute(task.x, task.baselines, task.y, n_steps=4)
    for theirs in (peers.captum_looped, peers.captum_one_batch):
        torch.testing.assert_close(theirs(task.model, task.x, task.y, task.baselines, 4).float(), ours)


def test_the_published_algorithms_give_maps(task):
    weighted = peers.published_weighted_gradients(task.model, task.x, task.y, task.baselines[:1], 64)
    exact = ExpectedGradients(task.model).attribute(task.x, task.baselines[:1], task.y, n_steps=64)
    assert torch.corrcoef(torch.stack([weighted.flatten(), exact.flatten()]))[0, 1] > 0.98
    measures = peers.published_measures(task.model, task.x, task.y, task.baselines, 5, 4)
    assert all(m.shape == task.x.shape and torch.isfinite(m).all() for m in measures.values())
    assert measures["variance"].min() > -1e-6
    assert max(measures[name].abs().max() for name in ("stability", "consistency")) <= 1 + 1e-6
