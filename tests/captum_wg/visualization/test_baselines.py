import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients
from matplotlib.figure import Figure
from torch import nn

from captum_wg import Deletion, WeightedGradients, baselines
from captum_wg.visualization import BaselineMaps, baseline_maps, show_baselines


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 36, 3)).double().eval()
    network[3].weight.data *= 10  # sure of its classes
    return network


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


SOFTMAX = Deletion(output="softmax", neutral=0.0)
REFERENCES = baselines.compose(baselines.constant(0.0, 1.0), baselines.gaussian_blur([2]))


def test_the_pieces_are_those_of_the_call(model, images):
    method, target = WeightedGradients(model), model(images).argmax(1)
    settings = {"target": target, "weighting": SOFTMAX, "n_steps": 6}
    pieces = baseline_maps(method, images, REFERENCES, **settings)
    whole = method.attribute(images, REFERENCES, return_weights=True, **settings)
    assert torch.allclose(pieces.weights, whole.weights) and torch.allclose(pieces.attributions, whole.attributions)
    assert (pieces.distances == method.fitness(images, REFERENCES, **settings)).all()
    ig = IntegratedGradients(model)
    for k in range(3):
        own = ig.attribute(images, pieces.baselines[:, k], target, n_steps=6, method="gausslegendre")
        assert torch.allclose(pieces.maps[:, k], own)
    assert (pieces.baselines[:, 1] == 1).all()


def test_other_weightings_have_no_fitness(model, images):
    pieces = baseline_maps(WeightedGradients(model), images, REFERENCES, 0, weighting="equal", n_steps=2)
    assert pieces.distances is None and torch.allclose(pieces.weights, torch.full((2, 3), 1 / 3, dtype=torch.float64))
    _, axes = show_baselines(pieces)
    assert axes[1, 1].get_title() == "w = 0.333"
    halves = torch.tensor([[0.5, 0.0, 0.5]] * 2)
    own = baseline_maps(WeightedGradients(model), images, REFERENCES, 0, weighting=lambda p, m: halves, n_steps=2)
    assert (own.weights == halves).all()


def test_a_kept_baseline_has_the_weight(model, images):
    pieces = baseline_maps(
        WeightedGradients(model), images, REFERENCES, model(images).argmax(1), weighting=SOFTMAX, keep=1, n_steps=2
    )
    best = pieces.distances.argmin(1)
    assert (pieces.weights.argmax(1) == best).all() and ((pieces.weights > 0).sum(1) == 1).all()


def pieces_of(n=2, count=3, side=6):
    draws = torch.Generator().manual_seed(3)
    maps = torch.randn(n, count, 3, side, side, generator=draws)
    weights = torch.softmax(torch.randn(n, count, generator=draws), 1)
    inputs, starts = torch.rand(n, 3, side, side, generator=draws), torch.rand(n, count, 3, side, side, generator=draws)
    return BaselineMaps(inputs, starts, maps, weights, torch.arange(1, n * count + 1).reshape(n, count) * 1000)


def test_each_baseline_stands_over_its_map():
    pieces = pieces_of()
    figure, axes = show_baselines(pieces, example=1, names=["black", "blur", "noise"], smooth=0.0)
    assert isinstance(figure, Figure) and axes.shape == (2, 4) and len(figure.axes) == 9
    assert [axis.get_title() for axis in axes[0]] == ["input", "black", "blur", "noise"]
    assert axes[1, 0].get_title() == "weighted sum"
    total = np.zeros((6, 6))
    for k in range(3):
        weight = float(pieces.weights[1, k])
        assert axes[1, k + 1].get_title() == f"w = {weight:.3f}\nD = {4 + k},000"
        m = pieces.maps[1, k].double().sum(0).numpy()
        assert np.allclose(axes[1, k + 1].get_images()[1].get_array(), m)
        start = axes[0, k + 1].get_images()[0].get_array()
        assert np.abs(start - 255 * pieces.baselines[1, k].movedim(0, -1).numpy()).max() <= 0.51
        total += weight * m
    assert np.allclose(axes[1, 0].get_images()[1].get_array(), total, atol=1e-5)
    assert len({axis.get_images()[1].norm.vmax for axis in axes[1]}) == 1


def test_one_call_makes_and_draws_them(model, images):
    figure, axes = show_baselines(
        WeightedGradients(model),
        images,
        REFERENCES,
        1,
        weighting=SOFTMAX,
        n_steps=2,
        style="heat",
        colorbar=False,
        caption=False,
    )
    assert axes.shape == (2, 4) and len(figure.axes) == 8 and "D = " in axes[1, 1].get_title()


def test_baselines_that_cannot_be_seen_are_clipped():
    pieces = pieces_of(1, 2)
    seen = show_baselines(BaselineMaps(pieces.inputs, pieces.baselines + 5, pieces.maps, pieces.weights))[1][0, 1]
    assert (np.asarray(seen.get_images()[0].get_array()) == 255).all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"example": 2}, ValueError, "example must be from 0 to 1, got 2"),
        ({"names": ["a"]}, ValueError, "names has 1 entries, but there are 3 baselines"),
        ({"style": "signed"}, ValueError, "style must be one of .*'overlay'"),
        ({"inputs": torch.zeros(1)}, ValueError, "go with a method; the pieces have them"),
        ({"n_steps": 3}, ValueError, "go with a method; the pieces have them"),
        (
            {"of": IntegratedGradients(None), "inputs": torch.zeros(1, 3, 4, 4)},
            TypeError,
            "must be a WeightedGradients",
        ),
        ({"of": WeightedGradients(None)}, ValueError, "inputs is None; with a method give the images"),
        ({"ax": Figure().subplots()}, ValueError, "ax must be 8 Axes"),
    ],
)
def test_bad_pictures_are_refused(changes, error, message):
    with pytest.raises(error, match=message):
        show_baselines(**({"of": pieces_of()} | changes))


def test_bad_pieces_are_refused(model, images):
    pieces = pieces_of()
    with pytest.raises(ValueError, match=r"weights must have shape \(B, K\) with .*'K': 3.*, got \(2, 2\)"):
        BaselineMaps(pieces.inputs, pieces.baselines, pieces.maps, pieces.weights[:, :2])
    with pytest.raises(TypeError, match=r"maps must be a Tensor \(B, K, C, H, W\), got ndarray"):
        BaselineMaps(pieces.inputs, pieces.baselines, pieces.maps.numpy(), pieces.weights)
    method = WeightedGradients(model)
    with pytest.raises(TypeError, match="method must be a WeightedGradients object, got IntegratedGradients"):
        baseline_maps(IntegratedGradients(model), images)
    with pytest.raises(ValueError, match="one baseline, which has weight 1 and no D_alpha: draw its map with show"):
        baseline_maps(method, images, 0.0, 0, n_steps=2)
    with pytest.raises(ValueError, match=r"inputs must be images, one Tensor \(B, C, H, W\), got shape \(2, 3\)"):
        baseline_maps(method, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="screening_steps leaves baselines without a full map"):
        baseline_maps(method, images, REFERENCES, 0, keep=1, screening_steps=2)
