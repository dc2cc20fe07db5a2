import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import wg_search
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_methods import EG, WG
from benchmarks.wg_search import CHOOSING, JUDGING, candidates, choose, price


def test_candidates_are_methods_of_their_experiment():
    experiment = Experiment(EG, "cifar10", "", n_baselines=12, n_steps=20)
    names = candidates(12, [1, 3])
    assert len(set(names)) == len(names) and names[0] == f"{EG}-pool5"
    for name in names:
        assert experiment.method(name).name == name
    assert f"{WG}-keep10-pool12-screened3" in names and f"{WG}-keep5-pool5" not in names


def test_prices_are_gradients_and_forwards():
    experiment = Experiment(EG, "cifar10", "", n_baselines=30, n_steps=20)
    # 1024 pixels take at most ceil(log2(1025)) = 11 steps of a search.
    assert price(experiment, f"{EG}-pool10", 1024, 0.5) == 200
    # And one of f(x), and for an insertion one with every pixel removed, by each of two removals.
    assert price(experiment, f"{WG}-pool10-power1", 1024, 0.5) == 200 + 0.5 * (1 + 110)
    assert price(experiment, f"{WG}-keep5-pool30-screened3", 1024, 0.5) == 90 + 100 + 0.5 * (1 + 35 * 11)
    assert price(experiment, f"{WG}-keep1-pool30-screened3", 1024, 0.5) == 90 + 20 + 0.5 * (1 + 30 * 11)
    assert price(experiment, f"{WG}-pool10-{wg_search.BOTH}", 1024, 0.5) == 200 + 0.5 * (1 + 440 + 2)


def test_goals():
    table = pd.DataFrame(
        [("a", 0.5, -0.1, 0.3), ("b", 0.2, 0.1, 0.1), ("c", 0.1, 0.1, 0.3), ("d", -0.1, 0.9, 0.9)],
        columns=["method", *CHOOSING],
    )
    assert choose(table) == {"fitted": "a", "all-round": "c"}
    assert choose(table[:1])["all-round"] == "a"


def test_the_search_is_judged_on_the_other_half(tmp_path, folder, capsys):
    more = ["--n-baselines", "6", "--n-steps", "2", "--levels", "4", "--chunk", "2", "--screening-steps", "1"]
    words = [*folder, *more, "--images", "5", "--budget", "36", "--out", str(tmp_path)]
    assert wg_search.main(words) == 0
    text = (tmp_path / "search.md").read_text()
    assert "chosen on the first 3 images, judged on the other 2" in text and text in capsys.readouterr().out + "\n"
    found, judged = pd.read_csv(tmp_path / "search.csv"), pd.read_csv(tmp_path / "recipes.csv")
    assert (found["cost"] <= 36).all() and set(found["method"]) <= set(candidates(6, [1]))
    assert f"{WG}-pool6-{wg_search.BOTH}" not in set(found["method"])
    assert set(judged["judge"]) == set(JUDGING) and (judged["n"] == 2).all()
    assert set(judged["reference"]) == {f"{EG}-pool6"}
    assert set(judged["this judge"]) == {"fitted", "chose", "unseen"} or not judged["method"].str.contains(WG).any()
    assert set(judged[judged["judge"] == "InsertionAUC-mean"]["this judge"]) == {"unseen"}
    assert found.loc[found[CHOOSING[0]].idxmax(), "method"] in set(judged["method"])
    assert (tmp_path / "search.png").stat().st_size > 1000
    # A half's cells hold the images of that half alone.
    names = {path.stem for path in tmp_path.rglob("maps/steps2/*.parquet")}
    assert names == {"000000-000002", "000002-000003", "000003-000005"}
    assert np.isfinite(found[list(CHOOSING)].to_numpy()).all()


@pytest.mark.parametrize(
    "more, message",
    [(("--images", "1"), "two halves need at least two images"), (("--budget", "3"), "--budget 3 does not even pay")],
)
def test_searches_that_can_not_be(more, message, tmp_path, folder, capsys):
    words = [*folder, "--n-baselines", "6", "--n-steps", "2", "--images", "2", "--out", str(tmp_path), *more]
    assert wg_search.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
