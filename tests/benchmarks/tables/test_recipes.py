import pytest

from benchmarks.experiment.settings import Experiment
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.errors import BenchmarkError
from benchmarks.tables.recipes import check_drawn, price, relation

OF_BOTH = "weighting=both, neutral=[corners, blur]"


def experiment_of(n_baselines, **settings):
    return Experiment(model="m", data="cifar10", n_baselines=n_baselines, **settings)


def test_prices_are_gradients_and_forwards():
    experiment = experiment_of(30, n_steps=20)
    # 1024 pixels take at most ceil(log2(1025)) = 11 steps of a search.
    assert price(experiment, f"{EG}(pool=10)", 1024, 0.5) == 200
    # And one of f(x), and for an insertion one with every pixel removed, by each of two removals.
    assert price(experiment, f"{WG}(pool=10)", 1024, 0.5) == 200 + 0.5 * (1 + 110)
    assert price(experiment, f"{WG}(keep=5, screening_steps=3)", 1024, 0.5) == 90 + 100 + 0.5 * (1 + 35 * 11)
    assert price(experiment, f"{WG}(keep=1, screening_steps=3)", 1024, 0.5) == 90 + 20 + 0.5 * (1 + 30 * 11)
    assert price(experiment, f"{WG}(pool=10, {OF_BOTH})", 1024, 0.5) == 200 + 0.5 * (1 + 440 + 2)
    # A row that is no weighting has none.
    assert price(experiment, "Random", 1024, 0.5) == 0


def test_relations_are_those_of_any_of_the_methods():
    experiment = experiment_of(10)
    # Equal weights, weights in a random order and no weights are fitted to nothing.
    for name in (EG, "ShuffledWeights", "Random"):
        assert relation(experiment, "DeletionAUC", name) == "unseen"
    assert relation(experiment, "DeletionAUC", "BestSingle") == "fitted"
    assert relation(experiment, "InsertionAUC", EG, WG) == relation(experiment, "InsertionAUC", WG) == "same removal"
    assert relation(experiment, "InsertionAUC", WG, f"{WG}(weighting=insertion)") == "fitted"


@pytest.mark.parametrize("kind", ["blur", "published"])
def test_baselines_that_are_not_drawn(kind):
    check_drawn("references")
    with pytest.raises(BenchmarkError, match=f"--baselines {kind} are not drawn, so a reason; use references"):
        check_drawn(kind, "a reason")
