import pytest
import torch

from quantus_ext import PatchDeletionCorrelation, SubsetCorrelation
from quantus_ext.removal_correlation import check_patch, patches_of


def test_patches_row_by_row_the_last_ones_smaller():
    x = torch.zeros(1, 2, 5, 7)
    features = patches_of(x, (2, 3), "it")
    assert features.count == 9
    value = torch.arange(35.0).reshape(1, 1, 5, 7)
    expected = [value[..., i : i + 2, j : j + 3].sum().item() for i in (0, 2, 4) for j in (0, 3, 6)]
    assert features.scores((value.expand(1, 1, 5, 7),))[0].tolist() == [2 * v for v in expected]


def test_a_map_of_one_channel_sums_as_the_sum_over_channels(net, images):
    x, y, a = images
    for metric in (PatchDeletionCorrelation(2), SubsetCorrelation(9), SubsetCorrelation(9, patch=2)):
        kwargs = {"batch_size": 3}
        assert metric(net, x, y, a.sum(1, keepdims=True), **kwargs) == pytest.approx(metric(net, x, y, a, **kwargs))


def test_patches_are_checked():
    assert check_patch(4) == (4, 4) and check_patch([2, 3]) == (2, 3)
    for bad in (0, 1.5, True, (2, 0)):
        with pytest.raises(ValueError, match="patch must be a whole number of at least 1"):
            check_patch(bad)
    with pytest.raises(ValueError, match=r"patch must be a whole number or a pair \(height, width\)"):
        check_patch((1, 2, 3))
