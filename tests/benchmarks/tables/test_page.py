from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.experiment.results import Weighted
from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import field, page
from benchmarks.tables.comparison import holm
from captum_wg.report import BEST, HIGHER, LOWER, TIED

METHODS = (EG, WG, "Random")


def made(results, **more):
    return page.of_results(results, "Title", "about", "command", ["a note"], **more)


def literal_marks(results, judge, higher):
    """The best by its mean; tied where a paired t-test, corrected by Holm over the others, gives p >= 0.01."""
    scores = results.scores.astype({"method": str, "judge": str, "image": str})
    wide = scores[scores["judge"] == judge].pivot(index="image", columns="method", values="score")
    best = wide.mean().idxmax() if higher else wide.mean().idxmin()
    others = [method for method in METHODS if method != best]
    p = holm(np.array([stats.ttest_rel(wide[method], wide[best]).pvalue for method in others]))
    return {best: BEST, **{method: TIED if value >= 0.01 else "" for method, value in zip(others, p, strict=True)}}


def shifted(results, method, by):
    """Scores of a method that are better or worse for every image."""
    (model,) = results.models
    scores = model.scores.copy()
    scores.loc[scores["method"] == method, "score"] += by
    return replace(results, models=(replace(model, scores=scores),))


def test_the_best_and_what_is_tied_with_it_are_marked(make):
    results = shifted(make(METHODS, ("DeletionAUC", "InsertionAUC", "Sparseness-1ch"), images=12), "Random", 0.5)
    (table,) = made(results).tables
    assert table.title == "net: methods by judges, n = 12 images"
    assert [column.name for column in table.columns] == ["method", "DeletionAUC", "InsertionAUC", "Sparseness-1ch"]
    assert [column.better for column in table.columns] == ["", LOWER, HIGHER, HIGHER]
    for place, (judge, higher) in enumerate(results.directions.items(), start=1):
        marks = {row[0].text: row[place].mark for row in table.rows}
        assert marks == literal_marks(results, judge, higher)
    # The shift is found: worst by one, best by the other.
    assert [row[1].mark for row in table.rows][2] == "" and [row[2].mark for row in table.rows][2] == BEST


def test_judges_that_weights_are_fitted_to_are_named(make):
    blur = f"{WG}(neutral=blur)"
    (table,) = made(make((EG, WG, blur), ("DeletionAUC", "DeletionAUC-blur", "InsertionAUC"))).tables
    assert [column.own for column in table.columns] == [(), (WG,), (blur,), ()]


def test_a_cell_of_fewer_images_says_so(make, fail):
    results = fail(make(METHODS, images=4), "no", f"method == '{WG}' and judge == 'DeletionAUC' and image == '00.png'")
    results = fail(results, "no", "method == 'Random' and judge == 'DeletionAUC'")
    (table,) = made(results).tables
    texts = {row[0].text: row[1] for row in table.rows}
    assert texts[WG].text.endswith(" (n = 3)") and "n =" not in texts[EG].text
    assert texts["Random"].text == "-" and texts["Random"].mark == ""


def test_columns_of_several_judges_stand_for_them(make):
    costs = pd.DataFrame({"seconds": [0.5, 0.7], "gradients": [250.0, np.nan], "forwards": [0.0, 4.0]}, index=[EG, WG])
    (table,) = made(make(METHODS, (*field.JUDGES, "Sparseness-1ch"), costs=costs)).tables
    names = [column.name for column in table.columns]
    assert names[1:7] == ["D", "I", "I - D", "blocks", "corr", "Sparseness-1ch"]
    costs = [[cell.text for cell in row[7:]] for row in table.rows]
    assert dict(zip(names[7:], costs[0], strict=True)) == {"seconds": "0.500", "gradients": "250", "forwards": "0"}
    assert costs[1][names[7:].index("gradients")] == "-" and costs[2] == ["-", "-", "-"]


def test_curves_have_few_points(make):
    fractions = np.arange(1, 201) / 200
    curves = pd.concat(
        pd.DataFrame({"judge": judge, "method": method, "fraction": fractions, "value": fractions / 2})
        for judge in ("DeletionAUC", "InsertionAUC")
        for method in (EG, WG)
    )
    first, second = made(make(METHODS, curves=curves)).charts
    assert (first.title, second.title) == ("DeletionAUC", "InsertionAUC")
    assert first.caption == "A lower curve is better." and "removed" in first.x and "restored" in second.x
    assert [line.name for line in first.lines] == [EG, WG]
    assert len(first.lines[0].x) <= page.POINTS and first.lines[0].y[0] == 0.0025
    assert [line.name for line in made(make(METHODS, curves=curves), methods=[WG]).charts[0].lines] == [WG]


def test_images_with_their_maps_and_baselines(make, drawn_by):
    random = np.random.default_rng(0)
    of = Weighted(
        WG,
        7,
        np.array([5, 2]),
        random.random((2, 3, 8, 8)),
        *(random.normal(size=(2, 3, 8, 8)),),
        np.array([3.0, 4.0]),
        np.array([0.4, 0.3]),
    )
    drawn = replace(drawn_by([EG, WG]), weighted={"01.png": of})
    first, second = made(make(METHODS, drawn=drawn, kind="cifar10")).examples
    assert (first.name, first.title) == ("00.png", "airplane, probability 0.00")
    assert [one.title for one in first.maps] == [EG, WG] and first.baselines == ()
    assert [(one.name, one.weight, one.distance) for one in second.baselines] == [
        ("reference 6", 0.4, 3.0),
        ("reference 3", 0.3, 4.0),
    ]
    assert second.caption == f"Of {WG}, the 2 heaviest of 7 baselines."


def test_several_models_are_told_apart(make, drawn_by):
    one, two = (make(METHODS, model=name, drawn=drawn_by([EG])) for name in ("a", "b"))
    report = made(replace(one, models=(*one.models, *two.models)))
    assert [table.title.partition(":")[0] for table in report.tables] == ["a", "b"]
    assert [example.title.rpartition(", ")[2] for example in report.examples] == ["a", "a", "b", "b"]


@pytest.mark.parametrize("value, text", [(0.12345, "0.123"), (float("nan"), "-"), (3, "3"), ("word", "word")])
def test_frames_as_they_are(value, text):
    table = page.of_frame("title", pd.DataFrame({"a": [value], "b": ["x"]}), "caption")
    assert [[cell.text for cell in row] for row in table.rows] == [[text, "x"]]
    assert [column.name for column in table.columns] == ["a", "b"] and table.caption == "caption"
