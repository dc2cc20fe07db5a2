import numpy as np
import pandas as pd
import pytest

from benchmarks import wg_recipes
from benchmarks.experiment.settings import Experiment
from benchmarks.methods.weightings import EG, WG
from benchmarks.tables.recipes import JUDGING, price
from benchmarks.wg_recipes import RECIPES, REFERENCE, pairs

SMALL = ["--n-baselines", "6", "--levels", "4", "--chunk", "2", "--images", "3"]
FIRST = f"{EG}(n_steps=4, pool=3)"
FEW = ["--reference", FIRST, "--methods", f"{EG}(n_steps=2, pool=6)", f"{WG}(n_steps=2, pool=6)", "--judges"]


def test_every_weighting_is_also_compared_with_equal_weights_of_its_baselines():
    experiment = Experiment(model="m", data="cifar10", n_baselines=50)

    def found(*names):
        return pairs(experiment.method(REFERENCE), [experiment.method(name) for name in names])

    assert all(experiment.method(name).name == name for name in (REFERENCE, *RECIPES))
    assert found(*RECIPES)[: len(RECIPES)] == [(REFERENCE, name) for name in RECIPES]
    # With the reference's own baselines this is the comparison with the reference.
    assert found(*RECIPES)[len(RECIPES) :] == [
        (
            f"{EG}(n_steps=50, pool=10, normalise_maps=True)",
            f"{WG}(n_steps=50, pool=10, power=0.5, normalise_maps=True)",
        ),
        (f"{EG}(n_steps=5, pool=50)", f"{WG}(n_steps=5, pool=50)"),
        (f"{EG}(n_steps=10, pool=50)", f"{WG}(n_steps=5, pool=50)"),
    ]
    # Equal weights of other baselines, of maps of other norms or points, or those of no map are not.
    others = ["(n_steps=5, pool=25)", "(n_steps=5, pool=50, normalise_maps=True)", "(n_random=5, pool=50)"]
    names = [*(EG + words for words in others), "Random", f"{WG}(n_steps=5, pool=50)"]
    assert found(*names) == [(REFERENCE, name) for name in names]


def test_recipes_end_to_end(tmp_path, folder, capsys):
    out = tmp_path / "out"
    words = [*folder, *SMALL, *FEW, "InsertionAUC", "DeletionAUC", "--out", str(out)]
    assert wg_recipes.main(words) == 0
    text, table = (out / "recipes.md").read_text(), pd.read_csv(out / "recipes.csv")
    assert "Against equal weights of the same baselines" in (out / "report.html").read_text(encoding="utf-8")
    assert text in capsys.readouterr().out + "\n"
    what = {"DeletionAUC": "fitted", "InsertionAUC": "same removal"}
    assert table[["judge", "reference", "method", "this judge"]].values.tolist() == [
        [judge, f"{EG}({reference})", name, what[judge] if name.startswith(WG) else "unseen"]
        for judge in ("DeletionAUC", "InsertionAUC")
        for reference, name in (
            ("n_steps=4, pool=3", f"{EG}(n_steps=2, pool=6)"),
            ("n_steps=4, pool=3", f"{WG}(n_steps=2, pool=6)"),
            ("n_steps=2, pool=6", f"{WG}(n_steps=2, pool=6)"),
        )
    ]
    experiment = Experiment(model="m", data="cifar10", n_baselines=6)
    assert table["gradients"].tolist() == [price(experiment, name, 1024, 0.45) for name in table["method"]]
    assert f"reference {FIRST} takes 12." in text
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
    assert wg_recipes.main([*words, "--methods", f"{WG}(n_steps=2, pool=6)", f"{EG}(n_steps=2, pool=6)", "Random"]) == 0
    assert before.items() <= {path: path.stat().st_mtime_ns for path in out.rglob("*.parquet")}.items()
    assert "Random" in set(pd.read_csv(out / "recipes.csv")["method"])


@pytest.mark.parametrize(
    "more, message",
    [
        (["--methods", FIRST], "--methods names nothing but the reference"),
        (["--methods", f"{WG}(pool=7)"], "pool must be at most 6, the number of baselines, got 7"),
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
