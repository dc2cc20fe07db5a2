import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.run.errors import BenchmarkError
from benchmarks.wg_methods import CONTROLS, EG, WG, Fitness, edges, kept, method
from captum_wg import ExpectedGradients, WeightedGradients

K = 4


class Sharp(nn.Module):
    """A model whose class goes when its pixels go."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 100 * self.model(x)


class Counted(nn.Module):
    """Counts the rows of the wrapped model's forwards, apart those that are differentiated."""

    def __init__(self, model):
        super().__init__()
        self.model, self.gradients, self.forwards = model, 0, 0

    def forward(self, x):
        if torch.is_grad_enabled():
            self.gradients += len(x)
        else:
            self.forwards += len(x)
        return self.model(x)


@pytest.fixture
def net(tiny_model):
    return Sharp(tiny_model)


@pytest.fixture
def made(net, tiny_batch):
    """One image, four baselines, their maps and D_alpha."""
    x, y = torch.from_numpy(tiny_batch[0][:1]), int(tiny_batch[1][0])
    references = torch.randn(K, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    maps = ExpectedGradients(net).attribute(x.expand_as(references), references[:, None], target=y, n_steps=5)
    distances = WeightedGradients(net).fitness(x, references[None], target=y, n_steps=5)
    return x, y, references, maps.numpy(), distances[0].numpy()


def of(name, made):
    x, _, _, maps, distances = made
    return method(name, K, 5).map(x[0], maps, distances, np.random.default_rng(0))


@pytest.mark.parametrize(
    "name, options", [(EG, {"power": 0}), (WG, {}), (f"{WG}-power2", {"power": 2}), (kept(2), {"keep": 2}),
                      (f"{WG}-power0.5-keep3", {"power": 0.5, "keep": 3}), ("BestSingle", {"keep": 1}),
                      (f"{EG}-normalised", {"power": 0, "normalise_maps": True}),
                      (f"{WG}-keep3-normalised", {"keep": 3, "normalise_maps": True})]
)  # fmt: skip
def test_a_weighting_of_the_maps_is_the_method_itself(name, options, made, net):
    x, y, references, *_ = made
    whole = WeightedGradients(net).attribute(x, references[None], target=y, n_steps=5, **options)[0].numpy()
    assert np.abs(of(name, made) - whole).max() <= 1e-6 * np.abs(whole).max()


@pytest.mark.parametrize("power", [0, 1])
def test_screening_in_a_pool_is_the_methods_own(made, net, power):
    x, y, references, maps, distances = made
    coarse = WeightedGradients(net).fitness(x, references[None], target=y, n_steps=1)[0].numpy()
    name = f"{WG}-pool3-screened1-keep2-power{power}"
    whole = (
        WeightedGradients(net)
        .attribute(x, references[None, :3], target=y, n_steps=5, keep=2, screening_steps=1, power=power)[0]
        .numpy()
    )
    found = method(name, K, 5).map(x[0], maps, distances, np.random.default_rng(0), coarse)
    assert np.abs(found - whole).max() <= 1e-6 * np.abs(whole).max()


def test_evaluations_are_counted_as_they_are_taken(made, net):
    x, y, references, *_ = made
    counted = Counted(net)
    for name, options in (
        (EG, {"power": 0}),
        (WG, {}),
        (f"{WG}-pool1", {}),
        (f"{WG}-pool3-keep1", {"keep": 1}),
        (f"{WG}-pool3-screened2-keep2", {"keep": 2, "screening_steps": 2}),
        (f"{WG}-screened2-keep2-power0", {"keep": 2, "screening_steps": 2, "power": 0}),
        (f"{WG}-pool3-screened2-keep3", {"keep": 3, "screening_steps": 2}),
        (f"{WG}-both-neutral=corners+zero", {"fitness": "both", "neutral": ["corners", 0.0]}),
    ):
        by = method(name, K, 5)
        counted.gradients = counted.forwards = 0
        WeightedGradients(counted).attribute(x, references[None, : by.pool], y, n_steps=5, tolerance=0, **options)
        gradients, forwards = by.evaluations(K, 32 * 32)
        assert counted.gradients == gradients
        # A search may end early.
        assert 0.3 * forwards <= counted.forwards <= forwards
    assert method("Random", K, 5).evaluations(K, 1024) == (0, 0)


def test_shuffled_weights_are_the_same_weights(made):
    _, _, _, maps, distances = made
    assert len(set(distances)) > 1
    shuffled = of("ShuffledWeights", made)
    weights = np.linalg.lstsq(maps.reshape(K, -1).T.astype(float), shuffled.ravel().astype(float), rcond=None)[0]
    expected = method(WG, K, 5).weights(distances)
    assert np.sort(weights) == pytest.approx(np.sort(expected), abs=1e-4)
    assert not np.allclose(weights, expected, atol=1e-3)


def test_weights_sum_to_one_and_keep_the_smallest_distances(made):
    distances = np.array([40, 10, 20, 10])
    for name in (EG, WG, kept(3), "BestSingle"):
        assert method(name, K, 5).weights(distances).sum() == pytest.approx(1)
    assert method(kept(2), K, 5).weights(distances).tolist() == pytest.approx([0, 0.5, 0, 0.5])
    assert method(kept(1), K, 5).weights(distances).tolist() == [0, 1, 0, 0]
    assert method(f"{WG}-power2", K, 5).weights(np.array([1, 2])).tolist() == pytest.approx([0.8, 0.2])


def test_controls_without_a_network(made):
    x = made[0]
    random = of("Random", made)
    assert random.shape == x[0].shape and len(np.unique(random)) > 3000
    step = torch.zeros(3, 8, 8)
    step[:, :, 4:] = 1
    found = edges(step)
    assert found.shape == step.shape
    assert torch.equal(found[0].nonzero()[:, 1].unique(), torch.tensor([3, 4]))
    assert torch.allclose(found[:, :, 3:5], torch.tensor(4.0))


def test_words_change_what_they_name():
    own = Fitness(alpha=0.4, neutrals=("mean",), ranking="absolute")
    plain = method(WG, K, 5, own)
    assert plain.fitness == own and plain.points == "steps5" and plain.needs_fitness
    found = method(f"{WG}-alpha0.3-neutral=corners+zero-signed-both-random1-power2-keep3-normalised", K, 5, own)
    assert found.fitness == Fitness(0.3, ("corners", "zero"), "signed", "both")
    assert found.fitness.neutral == ["corners", 0.0]
    assert (found.points, found.power, found.keep, found.normalised) == ("random1", 2.0, 3, True)
    assert method(f"{WG}-insertion-steps7", K, 5, own).fitness == Fitness(0.4, ("mean",), "absolute", "insertion")
    assert not method(EG, K, 5).needs_fitness and not method(f"{EG}-steps3-normalised", K, 5).needs_fitness
    assert method("ShuffledWeights-both", K, 5).shuffled
    names = {Fitness(a, n, r, k).name for a in (0.3, 0.5) for n in (("mean",), ("mean", "blur"))
             for r in ("signed", "absolute") for k in ("deletion", "both")}  # fmt: skip
    assert len(names) == 16
    assert Fitness(0.1234567).name != Fitness(0.1234568).name


@pytest.mark.parametrize("name", [EG, WG, kept(2), *CONTROLS])
def test_names_are_those_of_the_methods(name):
    assert method(name, K, 5).name == name


@pytest.mark.parametrize(
    "name, message",
    [
        ("WG", "unknown method 'WG'; known are ExpectedGradients"),
        (f"{WG}-keep", "'keep' says nothing of WeightedGradients; known are stepsN"),
        (f"{WG}-alpha1", "'alpha1' says nothing"),
        (f"{WG}-steps0", "'steps0' says nothing"),
        (f"{WG}-neutral=corners+pink", "'neutral=corners.pink' says nothing of WeightedGradients"),
        (f"{WG}-", "'' says nothing"),
        (f"{EG}-keep2", "'keep2' says nothing of ExpectedGradients; known are stepsN, randomN, poolN, normalised$"),
        (f"{WG}-pool5", "chooses from 5 baselines, but there are 4"),
        (f"{WG}-pool2-keep3", "keeps 3 baselines, but there are 2"),
        (f"{WG}-keep2-keep3", "says keep twice"),
        (f"{WG}-steps2-random1", "says points twice"),
        (f"{WG}-both-insertion", "says fitness twice"),
        ("BestSingle-keep3", "says keep twice"),
        (f"{WG}-keep=2", "'keep=2' says nothing"),
        (f"{WG}-neutralcorners", "'neutralcorners' says nothing"),
        (f"{WG}-screened3", "screening chooses which baselines to keep; add keepN"),
        ("Random-keep2", "unknown method 'Random-keep2'"),
        (kept(5), "keeps 5 baselines, but there are 4"),
        (kept(0), "keeps 0 baselines"),
    ],
)
def test_names_that_mean_nothing(name, message):
    with pytest.raises(BenchmarkError, match=message):
        method(name, K, 5)
