import numpy as np
import pytest
import torch
from torch import nn

from quantus_ext import DeletionAUC, NoisyLinearImputation
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
