import numpy as np
import pandas as pd
import pytest

from benchmarks import wg_recipes
from benchmarks.wg_experiment import Experiment
from benchmarks.wg_methods import EG, WG
from benchmarks.wg_recipes import JUDGING, RECIPES, REFERENCE, pairs
from benchmarks.wg_search import price

SMALL = ["--n-baselines", "6", "--levels", "4", "--chunk", "2", "--images", "3"]
FIRST = f"{EG}-pool3-steps4"
FEW = ["--reference", FIRST, "--methods", f"{EG}-pool6-steps2", f"{WG}-pool6-steps2", "--judges"]


def test_every_weighting_is_also_compared_with_equal_weights_of_its_baselines():
    experiment = Experiment(EG, "cifar10", "", n_baselines=50)
    found = pairs(experiment, REFERENCE, RECIPES)
    assert found[: len(RECIPES)] == [(REFERENCE, name) for name in RECIPES]
    # With the reference's own baselines this is the comparison with the reference.
    assert found[len(RECIPES) :] == [
        (f"{EG}-pool10-steps50-normalised", f"{WG}-pool10-steps50-power0.5-normalised"),
        (f"{EG}-pool50-steps5", f"{WG}-pool50-steps5"),
        (f"{EG}-pool50-steps10", f"{WG}-pool50-steps5"),
    ]
    # Equal weights of other baselines, of maps of other norms, or those of no map are not.
    others = [f"{EG}-pool25-steps5", f"{EG}-pool50-steps5-normalised", "Random"]
    assert pairs(experiment, REFERENCE, [*others, f"{WG}-pool50-steps5"]) == [
        (REFERENCE, name) for name in [*others, f"{WG}-pool50-steps5"]
    ]


def test_recipes_end_to_end(tmp_path, folder, capsys):
    out = tmp_path / "out"
    words = [*folder, *SMALL, *FEW, "InsertionAUC", "DeletionAUC", "--out", str(out)]
    assert wg_recipes.main(words) == 0
    text, table = (out / "recipes.md").read_text(), pd.read_csv(out / "recipes.csv")
    assert text in capsys.readouterr().out + "\n"
    what = {"DeletionAUC": "fitted", "InsertionAUC": "same removal"}
    assert table[["judge", "reference", "method", "this judge"]].values.tolist() == [
        [judge, f"{EG}-pool{reference}", name, what[judge] if name.startswith(WG) else "unseen"]
        for judge in ("DeletionAUC", "InsertionAUC")
        for reference, name in (
            ("3-steps4", f"{EG}-pool6-steps2"),
            ("3-steps4", f"{WG}-pool6-steps2"),
            ("6-steps2", f"{WG}-pool6-steps2"),
        )
    ]
    experiment = Experiment(EG, "cifar10", "", n_baselines=6)
    assert table["gradients"].tolist() == [price(experiment, name, 1024, 0.45) for name in table["method"]]
    assert "reference ExpectedGradients-pool3-steps4 takes 12." in text
    # Means by hand, from the scores image by image.
    scores = pd.read_csv(out / "scores.csv")
    means = scores.groupby(["judge", "method"])["score"].mean()
    for row in table.itertuples():
        a, b = means[row.judge, row.reference], means[row.judge, row.method]
        assert (row.n, row.reference_mean, row.mean) == (3, pytest.approx(a), pytest.approx(b))
        assert row.improvement == pytest.approx((b / a - 1) * (1 if row.judge == "InsertionAUC" else -1))
    assert np.isfinite(table["improvement"]).all()
    # More methods take the same results.
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}
    assert wg_recipes.main([*words, "--methods", f"{WG}-pool6-steps2", f"{EG}-pool6-steps2", "Random"]) == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}.items()
    assert "Random" in set(pd.read_csv(out / "recipes.csv")["method"])


@pytest.mark.parametrize(
    "more, message",
    [
        (["--methods", FIRST], "--methods names nothing but the reference"),
        (["--methods", f"{WG}-pool7"], "chooses from 7 baselines, but there are 6"),
        (["--methods", "Nonsense"], "unknown method 'Nonsense'"),
        (["--judges", "Nonsense"], "unknown judge 'Nonsense'"),
        (["--judges", "OverlapAUC"], "OverlapAUC needs masks"),
        (["--baselines", "published"], "--baselines published are not drawn"),
    ],
)
def test_recipes_that_can_not_be(more, message, tmp_path, folder, capsys):
    words = [*folder, *SMALL, "--reference", FIRST, "--methods", WG, "--out", str(tmp_path)]
    assert wg_recipes.main([*words, *more]) == 2
    assert message in capsys.readouterr().err


def test_the_defaults_are_judged_by_all_that_the_search_judges_by():
    given = wg_recipes.parse(["--data", "cifar10", "--root", "x", "--models", "resnet18_cifar10"])
    assert (given.reference, given.methods, given.judges) == (REFERENCE, list(RECIPES), list(JUDGING))
    assert given.n_baselines == 50
