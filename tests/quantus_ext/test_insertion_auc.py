import numpy as np
import pytest
import torch
from torch import nn

from quantus_ext import DeletionAUC, InsertionAUC


def test_starts_from_nothing_and_ends_at_the_input(net, images, counting):
    x, y, a = images
    model = counting(net)
    curves = InsertionAUC(levels=3, rule="trapezoid", removal=0.5, return_curve=True, output="softmax")(model, x, y, a)
    seen = torch.cat(model.seen).reshape(4, 4, 3, 6, 7)
    assert (seen[:, 0] == 0.5).all()
    np.testing.assert_array_equal(seen[:, -1], x)
    with torch.no_grad():
        whole = net(torch.from_numpy(x)).softmax(1).numpy()[np.arange(4), y]
    np.testing.assert_allclose([c[-1] for c in curves], whole, atol=1e-6)


def test_puts_the_highest_ranked_back_first(counting):
    model = counting(nn.Linear(4, 2).eval())
    x = np.array([[1.0, 2.0, 3.0, 4.0]], np.float32)
    InsertionAUC(levels=4, removal=0, output="softmax")(model, x, [0], [[0.3, 0.1, 0.4, 0.2]])
    np.testing.assert_array_equal(torch.cat(model.seen), [[0, 0, 3, 0], [1, 0, 3, 0], [1, 0, 3, 4], [1, 2, 3, 4]])


def test_an_informative_ranking_wins_against_its_reverse():
    # The class is in one pixel.
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 2, bias=False)).eval()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].weight[1, 4] = 10
    x, a = np.ones((1, 1, 3, 3), np.float32), np.zeros((1, 1, 3, 3))
    a[0, 0, 1, 1] = 1
    insertion, deletion = InsertionAUC(levels=9, removal=0), DeletionAUC(levels=9, removal=0)
    sure = torch.tensor([0.0, 10.0]).softmax(0)[1].item()
    assert insertion(model, x, [1], a)[0] == pytest.approx(sure)
    assert deletion(model, x, [1], a)[0] == pytest.approx(0.5)
    assert insertion(model, x, [1], -a)[0] == pytest.approx((8 * 0.5 + sure) / 9)
    assert deletion(model, x, [1], -a)[0] == pytest.approx((8 * sure + 0.5) / 9)
