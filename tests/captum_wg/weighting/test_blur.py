from __future__ import annotations

import itertools
import math

import pytest
import torch

from captum_wg.weighting.blur import blurred


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("height, width", [(8, 8), (6, 7), (2, 3), (1, 5), (33, 20)])
def test_blurs_are_torchvisions(draw, dtype, height, width):
    reference = pytest.importorskip("torchvision.transforms.functional").gaussian_blur

    for channels, (sigma, reach), layout in itertools.product(
        (1, 3, 4),
        ((0.3, 2), (0.7, 3), (2.5, 3), (max(height, width) / 8, 2), (9.0, 3)),  # the last reaches beyond every side
        (torch.contiguous_format, torch.channels_last),
    ):
        x = draw(2, channels, height, width).to(dtype).contiguous(memory_format=layout)
        sides = [min(2 * math.ceil(reach * sigma) + 1, 2 * side - 1) for side in (width, height)]
        result = blurred(x, sigma, reach)
        assert result.dtype == dtype
        torch.testing.assert_close(result, reference(x, sides, [sigma, sigma]), atol=1e-6, rtol=1e-6)
