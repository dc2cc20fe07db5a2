import numpy as np
import pytest
import quantus
import torch
from scipy.stats import spearmanr
from torch import nn

from quantus_ext import DeletionAUC, NoisyLinearImputation, PatchDeletionCorrelation, explainer


def literal(net, image, label, attribution, patch, value, absolute=False):
    """Patch by patch; value (C, H, W) replaces it."""
    _, height, width = image.shape
    a = np.abs(attribution) if absolute else attribution
    sums, drops = [], []
    with torch.no_grad():
        start = net(torch.from_numpy(image)[None]).softmax(1)[0, label].item()
        for i in range(0, height, patch[0]):
            for j in range(0, width, patch[1]):
                here = (slice(None), slice(i, i + patch[0]), slice(j, j + patch[1]))
                without = image.copy()
                without[here] = value[here]
                sums.append(a[here].sum())
                drops.append(start - net(torch.from_numpy(without)[None]).softmax(1)[0, label].item())
    return spearmanr(sums, drops).statistic


@pytest.mark.parametrize("patch", [2, (3, 2), (1, 7)])
@pytest.mark.parametrize("ranking", ["signed", "absolute"])
def test_agrees_with_a_literal_loop(net, images, patch, ranking):
    x, y, a = images
    pair = patch if isinstance(patch, tuple) else (patch, patch)
    expected = [
        literal(net, *each, pair, np.full_like(x[0], 0.5), ranking == "absolute") for each in zip(x, y, a, strict=True)
    ]
    metric = PatchDeletionCorrelation(patch, removal=0.5, ranking=ranking)
    assert metric(net, x, y, a, batch_size=3) == pytest.approx(expected, abs=1e-6)
    assert PatchDeletionCorrelation(patch, 0.5, ranking, internal_batch_size=5)(net, x, y, a) == pytest.approx(expected)


def test_several_removals_are_averaged(net, images):
    x, y, a = images
    forms = ("mean", "blur", lambda z: torch.zeros_like(z[:1]) + 1, NoisyLinearImputation())
    each = [PatchDeletionCorrelation(2, form)(net, x, y, a) for form in forms]
    assert len({tuple(scores) for scores in each}) == 4
    assert PatchDeletionCorrelation(2, forms)(net, x, y, a) == pytest.approx(np.mean(each, 0))
    mean = np.broadcast_to(x[0].mean((1, 2), keepdims=True), x[0].shape)
    assert each[0][0] == pytest.approx(literal(net, x[0], y[0], a[0], (2, 2), mean), abs=1e-6)


def test_many_maps_for_the_forwards_of_one(counting, net, images):
    x, y, a = images
    model = counting(net)
    maps = np.stack([a, -a, np.random.default_rng(5).normal(size=a.shape)])
    metric = PatchDeletionCorrelation(2, ("mean", 0.0), return_aggregate=True)
    one = metric(model, x, y, a, batch_size=3)
    rows, model.rows = sum(model.rows), []
    scores = metric.scores_of(model, x, y, maps, batch_size=3)
    assert rows == sum(model.rows) == 4 + 4 * 12 * 2
    assert scores.shape == (3, 4) and metric.evaluation_scores == one == [pytest.approx(scores[0].mean())]
    for scores_of_one, m in zip(scores, maps, strict=True):
        assert PatchDeletionCorrelation(2, ("mean", 0.0))(net, x, y, m) == pytest.approx(list(scores_of_one))
    np.testing.assert_allclose(scores[1], -scores[0])
    # Maps of other forms, side by side; Tensors; one map.
    mixed = metric.scores_of(net, torch.from_numpy(x), torch.from_numpy(y), [torch.from_numpy(a), a.sum(1)])
    np.testing.assert_allclose(mixed, scores[[0, 0]])
    assert metric.scores_of(net, x, y, a[None]).shape == (1, 4)
    assert metric.scores_of(net, x[:1], y[:1], maps[:, :1]).shape == (3, 1)


class Additive(nn.Module):
    """Two logits whose difference is a sum of what each pixel is worth."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.eval()

    def forward(self, x):
        value = (x * self.weights).flatten(1).sum(1, keepdim=True)
        return torch.cat([-value, value], 1)


def test_the_truth_of_an_additive_model_has_1(images):
    x, _, _ = images
    weights = torch.from_numpy(np.random.default_rng(2).normal(size=x.shape[1:]).astype(np.float32))
    model, y = Additive(weights), np.ones(len(x), int)
    truth = x * weights.numpy()
    for output in ("auto", "identity"):
        assert PatchDeletionCorrelation(2, 0.0, output=output)(model, x, y, truth) == pytest.approx([1] * 4)
    assert PatchDeletionCorrelation(2, 0.0)(model, x, y, -truth) == pytest.approx([-1] * 4)
    # Of the logits and of the probability the ranks are the same, for softmax=False as for any other word.
    assert PatchDeletionCorrelation(2, 0.0)(model, x, y, truth, softmax=False) == pytest.approx([1] * 4)


def test_what_tells_nothing_has_0(net, images):
    x, y, a = images
    with_constant = a.copy()
    with_constant[1] = 0.1
    assert PatchDeletionCorrelation((2, 1))(net, x, y, with_constant)[1] == 0
    assert PatchDeletionCorrelation((2, 1))(net, x, y, np.zeros_like(a)) == [0.0] * 4
    # The model sees no difference.
    assert PatchDeletionCorrelation((2, 1))(net, np.ones_like(x), y, a) == [0.0] * 4


def test_in_evaluate(net, images):
    x, y, _ = images
    methods = {"IG": explainer("IntegratedGradients", n_steps=5), "saliency": explainer("Saliency")}
    metrics = {
        "patches": PatchDeletionCorrelation(2, ("mean", "blur")),
        "mean": PatchDeletionCorrelation(2, ("mean", "blur"), return_aggregate=True),
        "deletion": DeletionAUC(levels=3),
    }
    results = quantus.evaluate(metrics, methods, net, x, y, explain_func_kwargs={})
    maps = [make(net, x, y) for make in methods.values()]
    shared = metrics["patches"].scores_of(net, x, y, maps)
    for row, name in zip(shared, methods, strict=True):
        assert results[name]["patches"] == pytest.approx(list(row))
        assert results[name]["mean"] == [pytest.approx(row.mean())]
    assert metrics["patches"].score_direction.value == "higher"
    assert "Alvarez-Melis" in repr(metrics["patches"])


def test_bad_calls(net, images, tabular):
    x, y, a = images
    model, table, labels, table_map = tabular
    with pytest.raises(ValueError, match=r"PatchDeletionCorrelation has patches of images .* only, got .*\(1, 5\)"):
        PatchDeletionCorrelation()(model, table, labels, table_map)
    with pytest.raises(ValueError, match=r"patch=\(8, 8\) cuts inputs of shape \(3, 6, 7\) into 1; .* at least 3"):
        PatchDeletionCorrelation()(net, x, y, a)
    with pytest.raises(ValueError, match="PatchDeletionCorrelation needs a model, got None"):
        PatchDeletionCorrelation(2)(None, x, y, a)
    with pytest.raises(ValueError, match="removal is empty"):
        PatchDeletionCorrelation(2, ())
    with pytest.raises(ValueError, match=r"removal must be one of .* got 'grey'"):
        PatchDeletionCorrelation(2, ("mean", "grey"))
    with pytest.raises(ValueError, match="internal_batch_size must be a whole number"):
        PatchDeletionCorrelation(2, internal_batch_size=0)
    with pytest.raises(ValueError, match="output must be one of"):
        PatchDeletionCorrelation(2, output="logits")
    with pytest.raises(ValueError, match="maps is empty"):
        PatchDeletionCorrelation(2).scores_of(net, x, y, [])
    with pytest.raises(ValueError, match="a_batch has shape"):
        PatchDeletionCorrelation(2).scores_of(net, x, y, a)
    with pytest.raises(ValueError, match="removal must return values of shape"):
        PatchDeletionCorrelation(2, lambda z, gone: z[:, :1])(net, x, y, a)


def test_an_output_that_is_not_finite_is_named(images):
    x, y, a = images

    class Breaks(nn.Module):
        def forward(self, z):
            scores = z.flatten(1)[:, :5]
            return torch.where((z == 7).flatten(1).any(1, keepdim=True) & (z[:, :1, 0, 0] == 3), torch.nan, scores)

    x = x.copy()
    x[2, 0, 0, 0] = 3
    with pytest.raises(ValueError, match="NaN or infinite for masked copies of row 2"):
        PatchDeletionCorrelation(2, 7.0)(Breaks().eval(), x, y, a)
