from __future__ import annotations

import pytest
import torch

from captum_wg.engine.baseline_set import format_baselines
from captum_wg.weighting.maps import PathMaps, StoredMaps
from captum_wg.weighting.masking import Features


@pytest.mark.parametrize("multiply", [True, False])
@pytest.mark.parametrize("own", [False, True])
def test_maps_of_paths_are_their_gradients_times_the_differences(draw, own, multiply):
    x = (draw(3, 4), draw(3, 2, 2, 2, seed=1))
    shape = (3, 5) if own else (5,)
    starts = (draw(*shape, 4, seed=2), draw(*shape, 2, 2, 2, seed=3))
    sums = (draw(3, 5, 4, seed=4), draw(3, 5, 2, 2, 2, seed=5))
    references = format_baselines(starts, x, is_tuple=True)
    maps = PathMaps(x, references, sums, multiply, Features(x))
    assert maps.count == 5 and maps.features.count == 4 + 4
    expected = []
    for element, start, gradients in zip(x, starts, sums, strict=True):
        each = start if own else start.expand(3, *start.shape)
        expected.append(gradients * (element.unsqueeze(1) - each) if multiply else gradients)
    # Baseline k of example b has the number b K + k.
    numbers = torch.tensor([7, 0, 14, 7])
    for found, whole in zip(maps.rows(numbers), expected, strict=True):
        torch.testing.assert_close(found, torch.stack([whole[1, 2], whole[0, 0], whole[2, 4], whole[1, 2]]))
    norms = sum(whole.abs().flatten(2).sum(2) for whole in expected)
    torch.testing.assert_close(maps.norms(), norms)
    stored = StoredMaps(tuple(expected), Features(x))
    assert stored.count == 5
    torch.testing.assert_close(stored.rows(numbers), maps.rows(numbers))
    torch.testing.assert_close(stored.norms(), norms)
