import pickle

import numpy as np
import pytest
import torch
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC, NoisyLinearImputation
from quantus_ext.removal import takes_mask


def test_a_function_of_the_mask(net, images):
    x, y, a = images
    seen = []

    def removal(rows, removed):
        seen.append((rows.shape, removed.dtype, removed.shape))
        # The mean of what is left.
        left = (rows * ~removed).sum((2, 3), keepdim=True) / (~removed).sum((2, 3), keepdim=True).clamp(min=1)
        return left.expand_as(rows)

    scores = DeletionAUC(levels=[7, 21], removal=removal)(net, x, y, a)
    assert seen == [(torch.Size([8, 3, 6, 7]), torch.bool, torch.Size([8, 3, 6, 7]))]
    for image, label, attribution, score in zip(x, y, a, scores, strict=True):
        order, curve = np.argsort(-attribution.sum(0).ravel(), kind="stable"), []
        for k in (7, 21):
            masked = image.reshape(3, 42).copy()
            for c in range(3):
                masked[c, order[:k]] = masked[c, order[k:]].mean()
            with torch.no_grad():
                curve.append(net(torch.from_numpy(masked.reshape(1, 3, 6, 7))).softmax(1)[0, label].item())
        assert score == pytest.approx(np.mean(curve), abs=1e-6)


def test_a_function_of_the_mask_may_return_an_array_of_the_copies_shape(net, images):
    x, y, a = images
    half = DeletionAUC(levels=5, removal=0.5)(net, x, y, a)
    assert DeletionAUC(levels=5, removal=lambda rows, mask: np.full(rows.shape, 0.5))(net, x, y, a) == half
    with pytest.raises(ValueError, match=r"removal must return values of shape \(20, 3, 6, 7\), got \(20, 1\)"):
        DeletionAUC(levels=5, removal=lambda rows, mask: rows[:, :1, 0, 0])(net, x, y, a)


def test_which_functions_take_a_mask():
    assert takes_mask(NoisyLinearImputation()) and takes_mask(lambda x, removed: x)
    for other in (lambda x: x, lambda x, sigma=3: x, torch.zeros_like, nn.Identity(), "blur", 0.5, torch.ones(2)):
        assert not takes_mask(other)


def test_bad_removals(tabular):
    model, x, y, a = tabular
    with pytest.raises(ValueError, match="NoisyLinearImputation needs images"):
        DeletionAUC(removal=NoisyLinearImputation())(model, x, y, a)
    with pytest.raises(ValueError, match="noise must be a number"):
        NoisyLinearImputation(noise=-1)
    with pytest.raises(ValueError, match="removal must hold real numbers"):
        DeletionAUC(removal=np.ones(5) * 1j)


def literal_imputation(image, mask):
    """Each removed pixel is the weighted mean of its neighbours, solved densely."""
    channels, height, width = image.shape
    pixels = [(i, j) for i in range(height) for j in range(width) if mask[i, j]]
    result = image.copy()
    for c in range(channels):
        matrix, right = np.zeros((len(pixels), len(pixels))), np.zeros(len(pixels))
        for row, (i, j) in enumerate(pixels):
            total = 0.0
            for k in range(i - 1, i + 2):
                for m in range(j - 1, j + 2):
                    if (k, m) == (i, j) or not (0 <= k < height and 0 <= m < width):
                        continue
                    weight = 1 / 6 if k == i or m == j else 1 / 12
                    total += weight
                    if mask[k, m]:
                        matrix[row, pixels.index((k, m))] -= weight
                    else:
                        right[row] += weight * image[c, k, m]
            matrix[row, row] += total
        for (i, j), value in zip(pixels, np.linalg.solve(matrix, right), strict=True):
            result[c, i, j] = value
    return result


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_noisy_linear_imputation(channels, share):
    rng = np.random.default_rng(0)
    image, mask = rng.normal(size=(channels, 7, 8)), rng.random((7, 8)) < share
    x = torch.from_numpy(image)[None]
    removed = torch.from_numpy(mask).expand(1, channels, 7, 8)
    quiet = NoisyLinearImputation(noise=0)(x, removed)
    np.testing.assert_allclose(quiet[0], literal_imputation(image, mask), atol=1e-10)
    noisy = NoisyLinearImputation()(x, removed)
    assert 0.005 < (noisy - quiet)[removed].std() < 0.015 and torch.equal(noisy[~removed], x[~removed])
    assert torch.equal(NoisyLinearImputation()(x, removed), noisy)
    assert not torch.equal(NoisyLinearImputation(seed=1)(x, removed), noisy)


def test_agrees_with_quantus_on_grey():
    from quantus.functions.perturb_func import noisy_linear_imputation

    rng = np.random.default_rng(1)
    image, mask = rng.normal(size=(1, 9, 9)), rng.random(81) < 0.4
    expected = noisy_linear_imputation(image, np.flatnonzero(mask), noise=0)
    found = NoisyLinearImputation(noise=0)(torch.from_numpy(image)[None], torch.from_numpy(mask.reshape(1, 1, 9, 9)))
    np.testing.assert_allclose(found[0], expected, atol=1e-9)


def test_an_image_of_which_nothing_is_left():
    x = torch.ones(1, 3, 4, 4)
    assert (NoisyLinearImputation(noise=0)(x, torch.ones_like(x, dtype=torch.bool)) == 0).all()
    assert torch.equal(NoisyLinearImputation(noise=0)(x, torch.zeros_like(x, dtype=torch.bool)), x)


@pytest.mark.parametrize("cls", [DeletionAUC, InsertionAUC])
def test_road_in_a_metric(net, images, cls):
    x, y, a = images
    metric = cls(levels=6, removal=NoisyLinearImputation(noise=0))
    scores = metric(net, x, y, a, batch_size=3)
    for image, label, attribution, score in zip(x, y, a, scores, strict=True):
        order, curve = np.argsort(-attribution.sum(0).ravel(), kind="stable"), []
        for k in range(7, 43, 7):
            mask = np.full(42, cls is InsertionAUC)
            mask[order[:k]] = cls is DeletionAUC
            mask = mask.reshape(6, 7)
            masked = np.zeros_like(image) if mask.all() else literal_imputation(image, mask)
            with torch.no_grad():
                curve.append(net(torch.from_numpy(masked.astype(np.float32))[None]).softmax(1)[0, label].item())
        assert score == pytest.approx(np.mean(curve), abs=1e-6)
    assert cls(levels=6, removal=NoisyLinearImputation(), internal_batch_size=1)(net, x, y, a) == pytest.approx(
        cls(levels=6, removal=NoisyLinearImputation())(net, x, y, a), abs=1e-6
    )
    pickle.loads(pickle.dumps(metric))
