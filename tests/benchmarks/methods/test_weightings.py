import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.methods import rows
from benchmarks.methods.method import Batch, MethodSettings
from benchmarks.methods.rows import method
from benchmarks.methods.weightings import EG, NEUTRALS, WG, BaselineMaps, Distances, Fitness, Row
from benchmarks.run.errors import BenchmarkError
from captum_wg import Deletion, Equal, ExpectedGradients, WeightedGradients
from captum_wg.weighting.binding import NAMED

K = 4
SETTINGS = MethodSettings(n_baselines=K, n_steps=5)


class Sharp(nn.Module):
    """A model whose class goes when its pixels go."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return 100 * self.model(x)


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


def of(name, made, *more):
    x, _, _, maps, distances = made
    row = method(name, SETTINGS)
    return row.combine(x[0], (maps, distances, *more)[: len(row.ingredients)], np.random.default_rng(0))


@pytest.mark.parametrize(
    "name, weighting, options",
    [
        (EG, Equal(), {}),
        (WG, Deletion(), {}),
        (f"{WG}(power=2)", Deletion(power=2), {}),
        (f"{WG}(keep=2)", Deletion(), {"keep": 2}),
        (f"{WG}-half", Deletion(), {"keep": 2}),
        (f"{WG}(power=0.5, keep=3)", Deletion(power=0.5), {"keep": 3}),
        ("BestSingle", Deletion(), {"keep": 1}),
        (f"{EG}(normalise_maps=True)", Equal(normalise_maps=True), {}),
        (f"{WG}(keep=3, normalise_maps=True)", Deletion(normalise_maps=True), {"keep": 3}),
    ],
)
def test_a_weighting_of_the_maps_is_the_method_itself(name, weighting, options, made, net):
    x, y, references, *_ = made
    whole = WeightedGradients(net).attribute(x, references[None], y, n_steps=5, weighting=weighting, **options)
    whole = whole[0].numpy()
    assert np.abs(of(name, made) - whole).max() <= 1e-6 * np.abs(whole).max()


@pytest.mark.parametrize("power", [0, 1])
def test_screening_in_a_pool_is_the_methods_own(made, net, power):
    x, y, references, *_ = made
    coarse = WeightedGradients(net).fitness(x, references[None], target=y, n_steps=1)[0].numpy()
    options = dict(keep=2, screening_steps=1, weighting=Deletion(power=power))
    whole = WeightedGradients(net).attribute(x, references[None, :3], target=y, n_steps=5, **options)[0].numpy()
    found = of(f"{WG}(pool=3, screening_steps=1, keep=2, power={power})", made, coarse)
    assert np.abs(found - whole).max() <= 1e-6 * np.abs(whole).max()


def batch_of(net, made, name="a"):
    x, y, references, *_ = made
    return Batch(net, x, torch.tensor([y]), (name,), references)


def by_norm(problem, maps):
    norms = maps.norms()
    return norms / norms.sum(1, keepdim=True)


@pytest.mark.parametrize(
    "words, pool, options",
    [("", K, {}), ("(keep=2)", K, {"keep": 2}), ("(pool=3, keep=2)", 3, {"keep": 2}), ("(pool=1)", 1, {})],
)
@pytest.mark.parametrize("registered", ["row", "rule"])
def test_a_rule_that_is_no_fitness_is_a_row(words, pool, options, registered, made, net, monkeypatch):
    x, y, references, maps, _ = made
    if registered == "row":
        monkeypatch.setitem(rows.ROWS, "ByNorm", Row({"weighting": by_norm}, note="{} goes by norms."))
        row = method(f"ByNorm{words}", SETTINGS)
        assert row.notes == (f"ByNorm{words} goes by norms.",)
    else:
        monkeypatch.setitem(NAMED, "by_norm", type("ByNorm", (), {"__new__": lambda cls: by_norm}))
        row = method(f"{WG}{words[:-1] or '('}{', ' * bool(words)}weighting=by_norm)", SETTINGS)
    assert not row.weighting.fitted
    of_maps, weights = row.ingredients
    made_of = of_maps.make(batch_of(net, made))
    # The maps may be of more baselines than the row has.
    values = made_of[0], weights.make(batch_of(net, made), maps[None])[0]
    whole = WeightedGradients(net).attribute(x, references[None, :pool], y, n_steps=5, weighting=by_norm, **options)
    whole = whole[0].numpy()
    found = row.combine(x[0], values, np.random.default_rng(0))
    assert np.abs(found - whole).max() <= 1e-6 * np.abs(whole).max()


def test_weights_of_a_rule_of_ones_own_are_those_of_its_pool_alone(monkeypatch):
    """Results of one name are taken to be those of the first of more baselines."""
    monkeypatch.setitem(rows.ROWS, "ByNorm", Row({"weighting": by_norm}))
    two, three = (method(f"ByNorm(pool={k})", SETTINGS).ingredients[1] for k in (2, 3))
    assert two.name != three.name and two.count is None


def test_what_a_rule_of_ones_own_gives_is_checked(made, net, monkeypatch):
    monkeypatch.setitem(rows.ROWS, "Wrong", Row({"weighting": lambda problem, maps: -by_norm(problem, maps)}))
    with pytest.raises(ValueError, match="negative weights"):
        method("Wrong", SETTINGS).ingredients[1].make(batch_of(net, made), made[3][None])
    with pytest.raises(BenchmarkError, match="screening_steps chooses by D_alpha, which this weighting has not"):
        method("Wrong(keep=2, screening_steps=1)", SETTINGS)


def test_ingredients_are_the_maps_and_their_fitness(net, made):
    _, _, _, maps, distances = made
    batch = batch_of(net, made)
    found = BaselineMaps("steps5", K).make(batch)
    assert np.array_equal(found, maps[None])
    assert np.array_equal(Distances.of(BaselineMaps("steps5", K), Fitness()).make(batch, found), distances[None])


def test_fewer_baselines_have_the_maps_and_fitness_that_they_have_among_all(net, made):
    batch = batch_of(net, made)
    for points in ("steps2", "random2"):
        every, two = (BaselineMaps(points, count).make(batch) for count in (K, 2))
        assert every.shape[1] == K and np.array_equal(two, every[:, :2])
    by = [Distances.of(BaselineMaps(points, count), Fitness()) for count in (K, 2)]
    assert np.array_equal(by[1].make(batch, every), by[0].make(batch, every)[:, :2])


def test_random_points_follow_from_the_image(net, made):
    first, again, other = (BaselineMaps("random2", 2).make(batch_of(net, made, name)) for name in "aab")
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_shuffled_weights_are_the_same_weights(made):
    _, _, _, maps, distances = made
    assert len(set(distances)) > 1
    shuffled = of("ShuffledWeights", made)
    weights = np.linalg.lstsq(maps.reshape(K, -1).T.astype(float), shuffled.ravel().astype(float), rcond=None)[0]
    expected = method(WG, SETTINGS).weighting.weights(distances)
    assert np.sort(weights) == pytest.approx(np.sort(expected), abs=1e-4)
    assert not np.allclose(weights, expected, atol=1e-3)


def test_weights_sum_to_one_and_keep_the_smallest_distances():
    def weights(name, distances=(40, 10, 20, 10)):
        return method(name, SETTINGS).weighting.weights(np.array(distances))

    for name in (WG, f"{WG}(keep=3)", "BestSingle"):
        assert weights(name).sum() == pytest.approx(1)
    assert weights(f"{WG}(keep=2)").tolist() == pytest.approx([0, 0.5, 0, 0.5])
    assert weights(f"{WG}(keep=1)").tolist() == [0, 1, 0, 0]
    assert weights(f"{WG}(power=2)", (1, 2, 2, 2)).tolist() == pytest.approx([4 / 7, 1 / 7, 1 / 7, 1 / 7])


def test_a_name_changes_what_it_says_and_nothing_else():
    settings = MethodSettings(K, 5, alpha=0.4, neutral="mean", ranking="absolute")
    plain = method(WG, settings).weighting
    assert plain.fitness == Fitness(0.4, ("mean",), "absolute") and plain.fitted
    name = f"{WG}(alpha=0.3, neutral=[corners, zero], ranking=signed, weighting=both, n_random=1, power=2, keep=3)"
    found = method(name, settings).weighting
    assert found.fitness == Fitness(0.3, ("corners", "zero"), "signed", "both")
    assert found.fitness.rule().neutral == ["corners", 0.0]
    assert (found.n_random, found.power, found.keep) == (1, 2, 3)
    assert method(f"{WG}(weighting=insertion)", settings).weighting.fitness == Fitness(
        0.4, ("mean",), "absolute", "insertion"
    )
    assert not method(EG, settings).weighting.fitted and len(method(EG, settings).ingredients) == 1
    assert method("ShuffledWeights(weighting=both)", settings).weighting.shuffled


def test_every_fitness_has_a_name_of_its_own():
    names = {
        Fitness(a, n, r, k).name
        for a in (0.3, 0.5)
        for n in (("mean",), ("mean", "blur"))
        for r in ("signed", "absolute")
        for k in ("deletion", "both")
    }
    assert len(names) == 16
    assert Fitness(0.1234567).name != Fitness(0.1234568).name


def test_what_a_judge_is_to_a_fitness():
    assert Fitness().works_by == [("deletion", "corners")]
    both = Fitness(neutrals=("corners", "blur"), kind="both")
    assert set(both.works_by) == {(way, n) for way in ("deletion", "insertion") for n in ("corners", "blur")}


@pytest.mark.parametrize(
    "name, message",
    [
        (f"{WG}(alpha=1)", r"alpha must be a number in \(0.0, 1.0\), got 1"),
        (f"{WG}(n_steps=0)", "n_steps must be a whole number of at least 1, got 0"),
        (f"{WG}(neutral=[corners, pink])", "neutral must be one of .*got 'pink'"),
        (f"{WG}(neutral=3)", "neutral must be one of .*got 3"),
        (f"{WG}(neutral=[])", "neutral must be one of"),
        (f"{WG}(ranking=up)", "ranking must be one of .*got 'up'"),
        (f"{WG}(weighting=fair)", "weighting must be one of .*got 'fair'"),
        (f"{WG}(power=-1)", "power must be"),
        (f"{WG}(normalise_maps=yes)", "normalise_maps must be"),
        (f"{WG}(pool=5)", "pool must be at most 4, the number of baselines, got 5"),
        (f"{WG}(pool=2, keep=3)", r"keep must be a whole number from 1 to the number of baselines \(2\)"),
        (f"{WG}(keep=5)", r"the number of baselines \(4\)"),
        (f"{WG}(keep=0)", "keep must be"),
        (f"{WG}(keep=1.5)", "keep must be"),
        (f"{WG}(n_steps=2, n_random=1)", "leave one of them out"),
        (f"{WG}(screening_steps=3)", "give keep as well"),
        (f"{WG}(weighting=equal, keep=2)", "leave keep out"),
        (f"{EG}(keep=2)", "ExpectedGradients has no setting 'keep'; known are n_steps, n_random, pool, normalise_maps"),
        ("BestSingle(keep=3)", "BestSingle has no setting 'keep'"),
        (f"{WG}-half(keep=3)", "WeightedGradients-half has no setting 'keep'; known are smooth, blob"),
    ],
)
def test_settings_that_can_not_be(name, message):
    with pytest.raises(BenchmarkError, match=message):
        method(name, SETTINGS)


def test_the_neutral_values_are_those_of_the_rules():
    for name in NEUTRALS:
        assert Fitness(neutrals=(name,)).rule().neutral == [0.0 if name == "zero" else name]
