import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks import wg_search
from benchmarks.experiment.settings import Experiment
from benchmarks.methods.weightings import EG, WG
from benchmarks.tables.recipes import CHOOSING, JUDGING, price
from benchmarks.wg_search import candidates, choose, part_of, reference_of, weightings

SEVERAL, OF_BOTH = "neutral=[corners, mean, blur]", "weighting=both, neutral=[corners, blur]"


def experiment_of(n_baselines, **settings):
    return Experiment(model="m", data="cifar10", n_baselines=n_baselines, **settings)


def priced(experiment):
    return lambda name: price(experiment, name, 1024, 0.5)


def test_candidates_are_methods_of_their_experiment_within_the_budget():
    experiment = experiment_of(30, n_steps=1)
    found = candidates(30, [5, 10, 50], [3], 500, priced(experiment))
    assert next(iter(found)) == reference_of(30, 500) == f"{EG}(n_steps=50, pool=10)"
    assert found[f"{EG}(n_steps=50, pool=10)"] == 500
    for name, cost in found.items():
        assert experiment.method(name).name == name
        assert cost == price(experiment, name, 1024, 0.5) <= 500
    assert {
        f"{WG}(n_steps=10, pool=25, keep=10, screening_steps=3)",
        f"{WG}(n_steps=10, pool=10, {OF_BOTH})",
        f"{WG}(n_steps=50, pool=5, keep=3, screening_steps=3, {SEVERAL}, normalise_maps=True)",
        # Plain ones with fewer steps than the budget allows, too.
        *(f"{WG}(n_steps={n}, pool=10)" for n in (5, 10)),
        *(f"{EG}(n_steps={n}, pool=10)" for n in (5, 10, 50)),
    } <= set(found)
    # Others only with the most: 25 * (10 + 0.5 * 11) + 0.5 is within the budget, 25 * (50 + 0.5 * 11) is not.
    assert [name for name in found if "pool=25, power=2, normalise_maps" in name] == [
        f"{WG}(n_steps=10, pool=25, power=2, normalise_maps=True)"
    ]
    assert not [name for name in found if "pool=50" in name or "pool=5, keep=5" in name]
    # Within the budget, but for the maps of the whole pool: 25 * 3 + 50 + 0.5 * (25 * 11 + 1) gradients, 25 * 50 maps.
    assert price(experiment, screened := f"{WG}(n_steps=50, pool=25, keep=1, screening_steps=3)", 1024, 0.5) == 263
    assert screened not in found and screened.replace("50", "10") in found


def test_weightings_are_not_repeated():
    found = weightings(25, [1, 3])
    assert all(found.count(one) == 1 for one in found)
    kept = {"keep": 10, "screening_steps": 1}
    assert (WG, kept) in found
    assert (WG, {**kept, "neutral": ("corners", "mean", "blur"), "normalise_maps": True}) in found
    # The map of one baseline alone: the norm does not change it.
    assert not [own for _, own in found if own.get("keep") == 1 and "normalise_maps" in own]
    assert not [own for _, own in weightings(5, []) if own.get("keep") == 5 or "screening_steps" in own]


@pytest.mark.parametrize("n_baselines, budget, expected", [(50, 500, (10, 50)), (4, 36, (4, 9)), (10, 3, (10, 1))])
def test_the_reference_spends_the_budget(n_baselines, budget, expected):
    assert reference_of(n_baselines, budget) == "{}(n_steps={}, pool={})".format(EG, *reversed(expected))


def test_goals():
    rows = [("a", 0.5, -0.1, 0.3), ("b", 0.2, 0.1, 0.1), ("c", 0.1, 0.1, 0.3), ("d", -0.1, 0.9, 0.9)]
    table = pd.DataFrame(rows, columns=["method", *CHOOSING]).assign(n=5)
    assert choose(table) == {"fitted": "a", "all-round": "c"}
    # One that failed on an image is compared on easier ones.
    assert choose(table.assign(n=[4, 5, 5, 4])) == {"fitted": "b", "all-round": "c"}
    assert choose(table[:1])["all-round"] == "a"
    # What of a gain is not the weights': the best of expected gradients.
    equal = [(f"{EG}(b)", -0.2, 0.1, 0.3), (f"{EG}(c)", 0.1, 0.0, 0.0), (f"{WG}(d)", 0.5, 0.5, 0.5)]
    assert choose(pd.DataFrame(equal, columns=table.columns[:4]).assign(n=5))["equal weights"] == f"{EG}(b)"


def test_the_search_is_judged_on_the_other_half(tmp_path, folder, capsys):
    more = ["--n-baselines", "4", "--steps", "2", "4", "--levels", "4", "--chunk", "2", "--screening-steps", "1"]
    words = [*folder, *more, "--images", "5", "--budget", "32", "--out", str(tmp_path)]
    assert wg_search.main(words) == 0
    text = (tmp_path / "search.md").read_text()
    assert "The chosen ones on the other images" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "chosen on the first 3 images, judged on the other 2" in text and text in capsys.readouterr().out + "\n"
    found, judged = pd.read_csv(tmp_path / "search.csv"), pd.read_csv(tmp_path / "recipes.csv")
    experiment = experiment_of(4)
    expected = candidates(4, [2, 4], [1], 32, lambda name: price(experiment, name, 1024, 0.45))
    assert dict(zip(found["method"], found["cost"], strict=True)) == {
        name: cost for name, cost in expected.items() if name != f"{EG}(n_steps=8, pool=4)"
    }
    assert set(judged["judge"]) == set(JUDGING) and (judged["n"] == 2).all()
    equal = judged["reference"][judged["reference"] != f"{EG}(n_steps=8, pool=4)"].unique()
    assert len(equal) == 1 and equal[0].startswith(EG) and equal[0] in set(judged["method"])
    against = judged[judged["reference"] == f"{EG}(n_steps=8, pool=4)"]
    # Each against the reference, and all but one against that one.
    assert len(judged) == 2 * len(against) - len(JUDGING)
    assert (found["n"] == 3).all()
    assert set(judged[judged["judge"] == "InsertionAUC-mean"]["this judge"]) == {"unseen"}
    assert found.loc[found[CHOOSING[0]].idxmax(), "method"] in set(judged["method"])
    assert (tmp_path / "search.png").stat().st_size > 1000
    # A half's cells hold the images of that half alone.
    names = {path.stem for path in tmp_path.rglob("maps/steps8-first4/*.parquet")}
    assert names == {"000000-000002", "000002-000003", "000003-000005"}
    assert np.isfinite(found[list(CHOOSING)].to_numpy()).all()
    # The same choice, judged on more images.
    assert wg_search.main([*words, "--images", "6", "--choose-on", "3"]) == 0
    again = pd.read_csv(tmp_path / "recipes.csv")
    assert pd.read_csv(tmp_path / "search.csv").equals(found) and (again["n"] == 3).all()
    assert again["method"].tolist() == judged["method"].tolist()


def test_what_a_judge_is_to_a_method():
    experiment = experiment_of(10)
    both = f"{WG}({OF_BOTH})"
    assert [part_of(experiment, both, judge) for judge in ("DeletionAUC", "InsertionAUC-blur")] == ["fitted"] * 2
    assert part_of(experiment, both, "DeletionAUC-mean") == "unseen"
    assert part_of(experiment, both, "DeletionAUC-noise") == "chose"
    # A judge that inserts what the weights' fitness removes has seen that removal.
    assert part_of(experiment, WG, "InsertionAUC") == "same removal"
    assert part_of(experiment, f"{WG}(neutral=blur)", "InsertionAUC-blur") == "same removal"
    assert part_of(experiment, f"{WG}(neutral=blur, weighting=insertion)", "DeletionAUC-blur") == "same removal"
    assert part_of(experiment, f"{WG}(neutral=blur)", "InsertionAUC") == "unseen"
    # Equal weights, weights in a random order and no weights are fitted to nothing.
    assert part_of(experiment, f"{EG}(normalise_maps=True)", "DeletionAUC") == "chose"


def test_a_search_goes_on_with_another_budget(tmp_path, folder):
    """The maps of more baselines are not mistaken for those of fewer."""
    more = ["--n-baselines", "6", "--steps", "2", "--levels", "2", "--images", "2", "--screening-steps"]
    out = tmp_path / "out"
    for budget in (36, 48):
        assert wg_search.main([*folder, *more, "--budget", str(budget), "--out", str(out)]) == 0
    # With 36 gradients only pools of five baselines have a search, with 48 also those of six.
    assert {path.name.rpartition("-")[2] for path in out.rglob("fitness/steps2*")} == {"first5", "first6"}
    assert len(list(out.rglob("maps/*/*.parquet"))) > 2
    fresh = tmp_path / "fresh"
    assert wg_search.main([*folder, *more, "--budget", "48", "--out", str(fresh), "--discard-maps"]) == 0
    assert not list(fresh.rglob("maps/*/*.parquet"))
    for name in ("search.csv", "recipes.csv", "search.md"):
        assert (out / name).read_bytes() == (fresh / name).read_bytes()


@pytest.mark.parametrize(
    "more, message",
    [
        (("--images", "1"), "to choose and to judge needs at least two images"),
        (("--budget", "3"), "--budget 3 does not pay for one step of each of 6 baselines"),
        (("--budget", "7", "--steps", "9"), "--budget 7 pays for no candidate of 9 steps"),
        (("--choose-on", "2"), "--choose-on 2 leaves none of the 2 images to judge"),
        (("--baselines", "blur"), "--baselines blur are not drawn"),
    ],
)
def test_searches_that_can_not_be(more, message, tmp_path, folder, capsys):
    words = [*folder, "--n-baselines", "6", "--images", "2", "--out", str(tmp_path), *more]
    assert wg_search.main(words) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before
