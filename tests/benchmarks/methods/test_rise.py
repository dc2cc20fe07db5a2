import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods.rise import rise
from benchmarks.run.counting import Counted


def literal(model, x, target, n_masks, s, seen, seed):
    """Mask by mask, pixel by pixel, with the draws in their order."""
    generator = torch.Generator().manual_seed(seed)
    height, width = x.shape[2:]
    cell_h, cell_w = int(np.ceil(height / s)), int(np.ceil(width / s))
    grids = (torch.rand(n_masks, 1, s, s, generator=generator) < seen).float()[:, 0].numpy()
    down = torch.randint(cell_h, (n_masks,), generator=generator).numpy()
    right = torch.randint(cell_w, (n_masks,), generator=generator).numpy()
    saliency = np.zeros((height, width))
    for grid, first_row, first_column in zip(grids, down, right, strict=True):
        mask = np.zeros((height, width))
        for i in range(height):
            for j in range(width):
                # Where the pixel's middle lies among the grid's s cells, which are stretched over s + 1.
                v = ((i + first_row + 0.5) / ((s + 1) * cell_h) * s - 0.5).clip(0, s - 1)
                u = ((j + first_column + 0.5) / ((s + 1) * cell_w) * s - 0.5).clip(0, s - 1)
                top, left = int(v), int(u)
                bottom, after = min(top + 1, s - 1), min(left + 1, s - 1)
                upper = (1 - (u - left)) * grid[top, left] + (u - left) * grid[top, after]
                lower = (1 - (u - left)) * grid[bottom, left] + (u - left) * grid[bottom, after]
                mask[i, j] = (1 - (v - top)) * upper + (v - top) * lower
        logits = model(x * torch.from_numpy(mask).float())[0].double().numpy()
        saliency += np.exp(logits[target]) / np.exp(logits).sum() * mask
    return saliency / (n_masks * seen)


@pytest.mark.parametrize("seen", [0.5, 0.2])
def test_it_is_the_mean_of_the_masks_weighted_by_the_probability(tiny_model, tiny_batch, seen):
    x, y = torch.from_numpy(tiny_batch[0][:1, :, :10, :13]), int(tiny_batch[1][0])
    model = nn.Sequential(nn.AdaptiveAvgPool2d(32), tiny_model)
    found = rise(model, x, y, n_masks=9, cells=3, seen=seen, seed=4, rows=4)
    assert found.shape == (1, 1, 10, 13)
    assert found[0, 0].numpy() == pytest.approx(literal(model, x, y, 9, 3, seen, 4), abs=1e-6)


def test_it_finds_the_pixels_that_the_class_hangs_on():
    class Corner(nn.Module):
        def forward(self, x):
            seen = x[:, 0, :4, 12:].mean((1, 2))
            return torch.stack([8 * seen, torch.full_like(seen, 4)], 1)

    found = rise(Corner(), torch.ones(1, 1, 16, 16), 0, n_masks=500, cells=4)[0, 0]
    assert divmod(int(found.argmax()), 16) in [(i, j) for i in range(4) for j in range(12, 16)]
    assert found[:4, 12:].mean() > 1.3 * found[8:, :8].mean()


def test_where_nothing_matters_each_pixel_has_the_probability():
    even = nn.Sequential(nn.Flatten(), nn.Linear(256, 4))
    nn.init.zeros_(even[1].weight), nn.init.zeros_(even[1].bias)
    found = rise(even, torch.ones(1, 1, 16, 16), 0, n_masks=4000)
    assert found.mean() == pytest.approx(0.25, rel=0.02)


def test_the_seed_gives_the_masks_and_rows_only_bound_the_memory(tiny_model, tiny_batch):
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    counted = Counted(tiny_model)
    settings = dict(n_masks=30, cells=4)
    one = rise(counted, x, y, **settings, rows=7)
    assert counted.counter.evaluations() == (0, 30)
    assert counted.counter.largest == 7
    state = torch.get_rng_state()
    assert rise(tiny_model, x, y, **settings) == pytest.approx(one, abs=1e-6)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(rise(tiny_model, x, y, **settings, seed=1, rows=7), one)
