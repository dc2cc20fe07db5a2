import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.methods.weightings import EG, WG
from benchmarks.tables import field

METHODS = (EG, WG, "Random")


@pytest.fixture
def results(make):
    costs = pd.DataFrame(
        {"seconds": [0.5, 0.7, 0.0], "gradients": [250.0, 250.0, 0.0], "forwards": [0.0, 400.0, 0.0]}, index=METHODS
    )
    return make(METHODS, (*field.JUDGES, "Sparseness-1ch"), images=12, costs=costs)


def literal(results, method, names):
    """The mean over judges of a method's scores, by image."""
    scores = results.scores.astype({"method": str, "judge": str, "image": str})
    found = {}
    for image in sorted(set(scores["image"])):
        own = scores[(scores["method"] == method) & (scores["image"] == image)]
        found[image] = np.mean([own[own["judge"] == name]["score"].item() for name in names])
    return np.array(list(found.values()))


def test_columns_are_means_of_judges_image_by_image(results):
    table = field.table(results).set_index(["method", "column"])
    columns = ["D", "I", "I - D", "blocks", "corr"]
    assert field.table(results)["column"].unique().tolist() == [*columns, *field.JUDGES, "Sparseness-1ch"]
    (judge,) = {one for one in field.CORRELATIONS if one.endswith("grid4")}
    assert table.loc[(EG, judge), "mean"] == pytest.approx(literal(results, EG, [judge]).mean())
    for method in METHODS:
        insertion, deletion = (literal(results, method, names) for names in (field.INSERTION, field.DELETION))
        assert table.loc[(method, "I - D"), "mean"] == pytest.approx((insertion - deletion).mean())
        assert table.loc[(method, "D"), "mean"] == pytest.approx(deletion.mean())
        assert table.loc[(method, "corr"), "mean"] == pytest.approx(literal(results, method, field.CORRELATIONS).mean())
        blocks = literal(results, method, field.BLOCK_INSERTION) - literal(results, method, field.BLOCK_DELETION)
        assert table.loc[(method, "blocks"), "mean"] == pytest.approx(blocks.mean())
        assert table.loc[(method, "D"), "n"] == 12
        low, high = table.loc[(method, "corr"), ["low", "high"]]
        assert low < table.loc[(method, "corr"), "mean"] < high
    assert not table.loc[(EG, "D"), "higher"] and table.loc[(EG, "I"), "higher"]
    assert table.loc[(WG, "D"), "forwards"] == 400


def test_every_row_is_tested_against_the_best_of_its_column(results):
    table = field.table(results)
    for column, names in (("D", field.DELETION), ("corr", field.CORRELATIONS)):
        own = table[table["column"] == column].set_index("method")
        values = {method: literal(results, method, names) for method in METHODS}
        best = (min if column == "D" else max)(METHODS, key=lambda method: values[method].mean())
        assert own["best"].to_dict() == {method: method == best for method in METHODS}
        others = sorted(
            (stats.ttest_rel(values[method], values[best]).pvalue, method) for method in METHODS if method != best
        )
        (small, first), (large, second) = others
        assert own.loc[first, "t_holm"] == pytest.approx(min(1, 2 * small))
        assert own.loc[second, "t_holm"] == pytest.approx(min(1, max(2 * small, large)))
        assert math.isnan(own.loc[best, "t_p"])


def test_the_text_marks_the_best_and_what_is_tied_with_it(results):
    heading, text = field.text(field.table(results))
    assert heading == "## net"
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "--" not in line]
    assert lines[0][:6] == ["method", "gradients", "forwards", "seconds", "D ↓", "I ↑"]
    rows = {line[0]: line[1:] for line in lines[1:]}
    assert rows[WG][:3] == ["250", "400", "0.70"]
    table = field.table(results).set_index(["column", "method"])
    for place, column in enumerate(("D", "I", "I - D", "blocks", "corr"), start=3):
        for method in METHODS:
            row, cell = table.loc[(column, method)], rows[method][place]
            assert cell.startswith("**") == row["best"]
            assert cell.endswith("=") == (not row["best"] and row["t_holm"] >= field.SIGNIFICANT)


def test_columns_whose_judges_are_not_all_there_are_left_out(make):
    found = field.table(make(METHODS, (*field.DELETION, field.CORRELATIONS[0])))
    assert found["column"].unique().tolist() == ["D", *field.DELETION, field.CORRELATIONS[0]]
    _, text = field.text(found)
    assert "PatchDeletionCorrelation-grid4" in text and "DeletionAUC-blur" not in text


def test_the_figure_shows_every_method_at_its_price(results):
    figure = field.figure(field.table(results), {"ours": [EG, WG]})
    for axes, column in zip(figure.axes, ("corr", "I - D"), strict=True):
        table = field.table(results)
        means = table[table["column"] == column].set_index("method")["mean"]
        (line,) = axes.lines
        assert np.allclose(line.get_xydata(), [[250, means[EG]], [650, means[WG]]])
        assert np.allclose(axes.collections[0].get_offsets(), [[1, means["Random"]]])
        assert [text.get_text() for text in axes.texts] == ["Random"]


def test_names_in_the_figure_are_not_written_over_each_other(results):
    table = field.table(results)
    extra = table[table["method"] == "Random"].assign(method="Edges")
    far = extra.assign(method="Far", gradients=1000)
    for axes in field.figure(pd.concat([table, extra, far]), {}).axes:
        places = {text.get_text(): text.xy for text in axes.texts}
        low, high = sorted([places["Random"], places["Edges"]], key=lambda place: place[1])
        heights = [y for _, y in axes.collections[0].get_offsets()]
        assert high[1] - low[1] == pytest.approx(0.025 * np.ptp(heights)) and low[1] == places["Far"][1]


def test_any_number_of_lines_is_drawn_in_colours_of_their_own(results):
    lines = {f"line {i}": [EG, WG] for i in range(6)}
    for axes in field.figure(field.table(results), {"of no row": ["Absent"], **lines}).axes:
        assert [line.get_label() for line in axes.lines] == list(lines)
        assert len({line.get_color() for line in axes.lines}) == 6


def test_the_charts_show_what_the_figure_shows(results):
    table = field.table(results)
    charts = field.charts(table, {"ours": [WG, EG]})
    assert [chart.title for chart in charts] == ["net: corr over price", "net: I - D over price"]
    for chart, column in zip(charts, ("corr", "I - D"), strict=True):
        means = table[table["column"] == column].set_index("method")["mean"]
        ours, random = chart.lines
        assert chart.logarithmic and (ours.name, random.name) == ("ours", "Random")
        assert ours.x == (250, 650) and ours.y == (means[EG], means[WG]) and random.x == (1,)
