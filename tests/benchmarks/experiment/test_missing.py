import numpy as np
import pytest

from benchmarks.experiment.missing import Plan
from benchmarks.experiment.results import Chosen, Selection
from benchmarks.experiment.settings import Experiment
from benchmarks.methods import rows
from benchmarks.methods.method import explained
from benchmarks.methods.weightings import EG, WG
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import open_store


def selected(count=3, **statuses):
    return Selection(tuple(Chosen(i, str(i), i, 0) for i in range(count)), {"used": count, **statuses})


def test_chunks_hold_whole_groups(run):
    with pytest.raises(BenchmarkError, match=r"--chunk 3: 2 images are explained together, .* a multiple of 2"):
        run(chunk=3)


def test_what_is_left_out_says_why(run):
    none = run(["Saliency", "Random"], ["MaxSensitivity", "Sparseness-1ch"], again=0)
    assert none.left_out == {
        ("Saliency", "MaxSensitivity"): "left out: --robustness-images 0",
        ("Random", "MaxSensitivity"): "left out: --robustness-images 0",
    }
    assert len(none.scores) == 2 * 3


def test_slow_rows_are_explained_again_on_request_only(run, monkeypatch, of):
    monkeypatch.setitem(rows.ROWS, "slow", explained("slow", lambda batch: batch.inputs, slow=True))
    left = run(["slow"], ["MaxSensitivity", "Sparseness-1ch"], slow_again=False).left_out
    assert list(left) == [("slow", "MaxSensitivity")]
    assert left["slow", "MaxSensitivity"].startswith("left out: one forward per input element")
    asked = run(["slow"], ["MaxSensitivity"])
    assert len(of(asked, "slow", "MaxSensitivity")) == 2 and not asked.left_out


def test_slow_rows_are_explained_first(ready, chosen, tmp_path):
    selection = Selection(chosen(0, 1), {"used": 2})
    judged = [(name, "Sparseness-1ch") for name in ("Saliency", "FeatureAblation", EG)]
    made = Plan(ready.experiment, open_store(tmp_path, {}), selection, judged, chunk=2)
    kind, work = next(made.missing(made.chunks))
    assert kind == "maps" and [cell.key[1] for cell in work] == ["FeatureAblation", "Saliency", "steps2-first2"]


def test_all_rows_of_a_source_are_explained_again_in_one_cell(run, tmp_path, files):
    run(["Stability-local"], ["MaxSensitivity"])
    before = files(tmp_path)
    names = [f"{measure}-local" for measure in ("LocalIntegratedGradients", "Stability", "Consistency")]
    results = run(names, ["MaxSensitivity", "AvgSensitivity"])
    assert files(tmp_path) == before and results.scores["score"].notna().all() and len(results.scores) == 3 * 2 * 2


def test_ingredients_are_those_of_the_largest_pool(tmp_path):
    experiment = Experiment(model="resnet18_cifar10", data="cifar10", root="", n_baselines=5, n_steps=4)
    names = [
        f"{WG}(pool=2)",
        f"{WG}(pool=3, keep=1, screening_steps=2)",
        f"{EG}(pool=4)",
        f"{EG}(n_steps=7)",
        f"{WG}(weighting=both)",
    ]
    found = Plan(experiment, open_store(tmp_path, {}), selected(), [], names)
    single, screened, equal, more, both = map(experiment.method, names)
    assert {own.key for own, _ in found.ingredients.values() if own.kind == "maps"} == {
        ("maps", "steps4-first5"),
        ("maps", "steps2-first3"),
        ("maps", "steps7-first5"),
    }
    own, two = single.weighting.fitness.name, both.weighting.fitness.name
    assert found.sources(screened) == [
        ("maps", "steps4-first5"),
        ("fitness", f"steps4-{own}-first3"),
        ("fitness", f"steps2-{own}-first3"),
    ]
    assert found.sources(equal) == [("maps", "steps4-first5")] and found.sources(more) == [("maps", "steps7-first5")]
    assert found.sources(both)[1] == ("fitness", f"steps4-{two}-first5")
    assert Plan(experiment, open_store(tmp_path, {}), selected(), [], ["Random"]).ingredients == {}


def test_a_pool_has_the_scores_that_it_has_alone(run, of):
    alone = run([f"{WG}(pool=1)"], ["Sparseness-1ch"])
    among = run([f"{WG}(pool=1)", WG], ["Sparseness-1ch"], folder="b")
    name = f"{WG}(pool=1)"
    assert np.array_equal(of(alone, name, "Sparseness-1ch"), of(among, name, "Sparseness-1ch"))
