import math
from dataclasses import replace

import pytest

from benchmarks.cost import workloads
from benchmarks.cost.workloads import BY_NAME, ROWS, SIZES, Settings
from benchmarks.run.errors import BenchmarkError

PIXELS = 16 * 16


def evaluations(name, task):
    return workloads.run_once(BY_NAME[name], task)[1]


@pytest.fixture
def probe(task):
    """The forwards by which this project's methods ask the model how its rows belong together."""
    gradients, forwards = evaluations("eg", task)
    assert gradients == 2 * 3 * 4 and forwards <= 2 * 15
    return forwards


def test_counts_of_the_bare_loops(task):
    assert evaluations("floor", task) == (2 * 3 * 4, 0)
    assert evaluations("forwards", task) == (0, 2 * 12)
    assert task.model.counter.largest == 8


@pytest.mark.parametrize("name", ["captum-ig", "captum-ig-batch", "gradient-shap"])
def test_counts_of_the_averages_over_baselines(task, name):
    assert evaluations(name, task) == (2 * 3 * 4, 0)


@pytest.mark.parametrize("name", ["wg", "wg-keep", "wg-1"])
def test_counts_of_the_weighted_gradients(task, probe, name):
    gradients, forwards = evaluations(name, task)
    assert gradients == 2 * 3 * (1 if name == "wg-1" else 4)
    assert probe < forwards <= probe + 2 * 3 * math.ceil(math.log2(PIXELS + 1))


def test_screening_spends_the_steps_on_the_kept_baselines(task):
    gradients, _ = evaluations("wg-screened", task)
    # Two of three baselines; x counts once for all of them.
    assert task.settings.screening_steps == 2
    assert gradients == 2 * ((3 * 1 + 1) + (2 * 3 + 1))
    longer = replace(task, settings=replace(task.settings, n_steps=8))
    gradients, _ = evaluations("wg-screened", longer)
    assert gradients == 2 * ((3 * 1 + 1) + 2 * (8 - 2))
    assert replace(task.settings, n_steps=50).screening_steps == 5


def test_counts_of_the_measures(task, probe):
    samples = 2 * 5
    assert evaluations("variance", task) == (samples, probe)
    assert evaluations("consistency", task) == (samples + 2, probe)
    assert evaluations("one-pass", task) == (samples + 2, probe)
    assert evaluations("one-by-one", task) == (4 * samples + 2, 4 * probe)
    assert evaluations("gia-published", task) == (4 * samples + 2, 0)


def test_counts_of_the_deletion_metrics(task):
    assert evaluations("deletion", task) == (0, 2 * (12 + 1))
    assert evaluations("pixel-flipping", task) == (0, 2 * 12)


def test_rows_come_with_what_they_are_compared_with():
    assert [row.name for row in workloads.choose(["pixel-flipping"])] == ["forwards", "deletion", "pixel-flipping"]
    assert [row.name for row in workloads.choose(["wg"])] == ["floor", "eg", "wg"]
    names = ["floor", "one-by-one", "gia-published"]
    assert [row.name for row in workloads.choose(["gia-published"])] == names
    assert workloads.choose(None) == list(ROWS)
    assert all(row.peer in BY_NAME for row in ROWS if row.peer)
    with pytest.raises(BenchmarkError, match="unknown row 'egg'"):
        workloads.choose(["egg"])


def test_each_model_has_sizes_of_its_own_where_none_are_given():
    given = Settings(n_steps=7, weights="w.pt", data="digits")
    own = given.of("efficientnet_lite0")
    assert (own.n_steps, own.baselines, own.weights, own.data) == (
        7,
        SIZES["efficientnet_lite0"]["baselines"],
        None,
        "noise",
    )
    assert (given.of("resnet18").weights, given.of("resnet18").data) == ("w.pt", "digits")
