import numpy as np
import pytest

from benchmarks import old_judges as judges
from benchmarks.run.errors import BenchmarkError


def test_the_columns_of_the_table():
    assert list(judges.available()) == [
        "PixelFlipping-1ch",
        "PixelFlipping-3ch",
        "FaithfulnessCorrelation",
        "DeletionAUC",
        "DeletionAUC-blur",
        "InsertionAUC",
        "MaxSensitivity",
        "AvgSensitivity",
        "Sparseness-1ch",
        "Sparseness-3ch",
        "Complexity-1ch",
        "Complexity-3ch",
    ]


def test_the_published_settings():
    columns = judges.available()
    flipping, correlation = columns["PixelFlipping-1ch"].make(), columns["FaithfulnessCorrelation"].make()
    assert flipping.features_in_step == 32
    assert flipping.perturb_func.keywords["perturb_baseline"] == "uniform"
    assert (correlation.nr_runs, correlation.subset_size, correlation.abs) == (100, 32, True)
    assert correlation.perturb_func.keywords["perturb_baseline"] == "uniform"
    for name in ("MaxSensitivity", "AvgSensitivity"):
        sensitivity = columns[name].make()
        assert sensitivity.nr_samples == 10
        assert sensitivity.perturb_func.keywords["lower_bound"] == 0.2
        assert columns[name].robustness


def test_columns_are_chosen_with_and_without_the_channel_form():
    chosen = judges.choose(judges.available(), ["Complexity-3ch", "PixelFlipping"])
    assert [judge.name for judge in chosen] == ["PixelFlipping-1ch", "PixelFlipping-3ch", "Complexity-3ch"]
    assert len(judges.choose(judges.available(), [])) == 12


def test_unknown_columns_are_named_with_the_known_ones():
    with pytest.raises(BenchmarkError, match=r"unknown metric 'AUC'; known are PixelFlipping, .*Complexity-3ch"):
        judges.choose(judges.available(), ["AUC"])


def test_a_curve_counts_by_its_mean():
    assert judges.per_image([[1.0, 0.5], [0.0, 1.0]], 2).tolist() == [0.75, 0.5]
    assert judges.per_image(np.array([1.0, 2.0]), 2).tolist() == [1, 2]


@pytest.mark.parametrize("scores", [[1.0], 3.0, np.zeros((2, 2, 2))])
def test_scores_that_are_not_one_per_image(scores):
    with pytest.raises(ValueError, match="for 2 images"):
        judges.per_image(scores, 2)
