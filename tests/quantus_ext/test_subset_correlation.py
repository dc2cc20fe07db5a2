import numpy as np
import pytest
import quantus
import torch
from scipy.stats import pearsonr

from quantus_ext import SubsetCorrelation, explainer


def literal(net, image, label, attribution, subsets, value):
    """Subset by subset, pixel by pixel; subsets (S, H, W)."""
    sums, drops = [], []
    with torch.no_grad():
        start = net(torch.from_numpy(image)[None]).softmax(1)[0, label].item()
        for subset in subsets:
            without, total = image.copy(), 0.0
            for i, j in zip(*np.nonzero(subset), strict=True):
                total += attribution[:, i, j].sum()
                without[:, i, j] = value[:, i, j]
            sums.append(total)
            drops.append(start - net(torch.from_numpy(without)[None]).softmax(1)[0, label].item())
    return pearsonr(sums, drops).statistic


def test_agrees_with_a_literal_loop(net, images):
    x, y, a = images
    metric = SubsetCorrelation(20, 0.3, removal=-0.5)
    subsets = metric.sets_of(42, (3, 6, 7)).numpy()
    assert subsets.shape == (20, 42) and (subsets.sum(1) == 13).all() and len(np.unique(subsets, axis=0)) == 20
    places = subsets.reshape(20, 6, 7)
    expected = [literal(net, *each, places, np.full_like(x[0], -0.5)) for each in zip(x, y, a, strict=True)]
    assert metric(net, x, y, a, batch_size=3) == pytest.approx(expected, abs=1e-5)
    assert SubsetCorrelation(20, 0.3, removal=-0.5, internal_batch_size=7)(net, x, y, a) == pytest.approx(expected)


def test_subsets_of_patches(net, images):
    x, y, a = images
    metric = SubsetCorrelation(15, 0.4, patch=(2, 3), removal=0.0)
    subsets = metric.sets_of(9, (3, 6, 7)).numpy()
    assert (subsets.sum(1) == 4).all()
    places = subsets.reshape(15, 3, 3).repeat(2, 1).repeat(3, 2)[:, :, :7]
    expected = [literal(net, *each, places, np.zeros_like(x[0])) for each in zip(x, y, a, strict=True)]
    assert metric(net, x, y, a) == pytest.approx(expected, abs=1e-5)


def test_subsets_depend_on_the_seed_and_the_shape_alone(net, images):
    x, y, a = images
    metric, again = SubsetCorrelation(12), SubsetCorrelation(12)
    first = metric.sets_of(42, (3, 6, 7))
    assert torch.equal(first, metric.sets_of(42, (3, 6, 7))) and torch.equal(first, again.sets_of(42, (3, 6, 7)))
    assert not torch.equal(first, SubsetCorrelation(12, seed=1).sets_of(42, (3, 6, 7)))
    assert not torch.equal(first, metric.sets_of(42, (3, 7, 6)))
    # No image's score depends on its company, nor the second call's on the first.
    together = metric(net, x, y, a)
    assert metric(net, x[2:], y[2:], a[2:]) == pytest.approx(together[2:])
    assert metric(net, x, y, a) == together


def test_tables(tabular):
    model, x, y, a = tabular
    metric = SubsetCorrelation(10, 0.4, removal="mean")
    sets = metric.sets_of(5, (5,)).numpy()
    with torch.no_grad():
        start, drops = model(torch.from_numpy(x)).softmax(1).numpy(), []
        for row in x:
            copies = np.where(sets, row.mean(), row).astype(np.float32)
            drops.append(model(torch.from_numpy(copies)).softmax(1).numpy())
    expected = [pearsonr(sets @ a[i], start[i, y[i]] - drops[i][:, y[i]]).statistic for i in range(3)]
    assert metric(model, x, y, a) == pytest.approx(expected, abs=1e-5)


def test_many_maps_for_the_forwards_of_one(counting, net, images):
    x, y, a = images
    model = counting(net)
    maps = [a, 2 * a + 0, -a]
    scores = SubsetCorrelation(10, removal=("mean", "blur")).scores_of(model, x, y, maps)
    assert sum(model.rows) == 4 + 4 * 10 * 2 and scores.shape == (3, 4)
    np.testing.assert_allclose(scores, [scores[0], scores[0], -scores[0]], atol=1e-7)


def test_what_tells_nothing_has_0(net, images):
    x, y, a = images
    for patch, side in ((None, 6), (3, 6)):
        metric = SubsetCorrelation(10, 0.4, patch=patch)
        square = x[..., :side]
        assert metric(net, square, y, np.full_like(square, 0.1)) == [0.0] * 4
        assert metric(net, np.ones_like(square), y, a[..., :side]) == [0.0] * 4


def test_in_evaluate(net, images):
    x, y, _ = images
    methods = {"IG": explainer("IntegratedGradients", n_steps=5), "saliency": explainer("Saliency")}
    metrics = {"pixels": SubsetCorrelation(9), "patches": SubsetCorrelation(9, patch=2, display_progressbar=True)}
    results = quantus.evaluate(metrics, methods, net, x, y, explain_func_kwargs={})
    maps = [make(net, x, y) for make in methods.values()]
    for name, metric in metrics.items():
        shared = metric.scores_of(net, x, y, maps)
        assert [results[method][name] for method in methods] == pytest.approx(shared)
    assert "Bhatt" in repr(metrics["pixels"])


def test_bad_arguments(net, images):
    x, y, a = images
    with pytest.raises(ValueError, match="n_subsets must be at least 3 for a correlation, got 2"):
        SubsetCorrelation(2)
    for share in (0, 1, 1.5):
        with pytest.raises(ValueError, match=r"share must be a number in \(0.0, 1.0\)"):
            SubsetCorrelation(share=share)
    for seed in (-1, False, 0.0):
        with pytest.raises(ValueError, match=f"seed must be a whole number of at least 0, got {seed}"):
            SubsetCorrelation(seed=seed)
    with pytest.raises(ValueError, match=r"share=0.9 of 4 features is all of them"):
        SubsetCorrelation(5, 0.9, patch=(3, 4))(net, x, y, a)
