import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from captum.attr import visualization as captum_visualization
from matplotlib.figure import Figure
from matplotlib.testing.compare import compare_images

from captum_wg.visualization import show_table, show_text

WORDS = [["good", "film"], ["not", "so", "bad"]]


@pytest.fixture
def notebook(monkeypatch):
    """IPython's two names that Captum draws with."""
    monkeypatch.setattr(captum_visualization, "HAS_IPYTHON", True)
    monkeypatch.setattr(captum_visualization, "HTML", lambda data: SimpleNamespace(data=data), raising=False)
    monkeypatch.setattr(captum_visualization, "display", lambda html: None, raising=False)


def coloured(html):
    """Each word and its colour."""
    return re.findall(r'<mark style="background-color: (.*?); .*?><font color="black"> (\S+)', html.data, re.S)


def test_words_are_drawn_by_captum(notebook):
    a = torch.tensor([[2.0, -1.0, 9.0], [0.0, 0.5, 0.25]])  # the first text's third is padding
    html = show_text(WORDS, a, predicted=["pos", "neg"], probabilities=torch.tensor([0.9, 0.6]), explained=["pos"] * 2)
    colour = captum_visualization._get_color
    expected = [(2, "good"), (-1, "film")], [(0, "not"), (0.5, "so"), (0.25, "bad")]
    largest = 2, 0.5
    assert coloured(html) == [
        (colour(value / most), word) for text, most in zip(expected, largest, strict=True) for value, word in text
    ]
    assert "pos (0.90)" in html.data and "neg (0.60)" in html.data
    assert "1.00" in html.data and "0.75" in html.data  # the scores
    assert "Legend" in html.data and "Legend" not in show_text(WORDS, a, legend=False).data


def test_vectors_are_summed_and_zeros_drawn(notebook):
    a = torch.randn(2, 3, 4, dtype=torch.float64)
    assert show_text(WORDS, a).data == show_text(WORDS, a.sum(2)).data
    assert len(coloured(show_text(WORDS, torch.zeros(2, 3)))) == 5


def test_text_without_ipython_says_what_to_install(monkeypatch):
    monkeypatch.setattr(captum_visualization, "HAS_IPYTHON", False)
    with pytest.raises(ImportError, match=r"show_text needs IPython.*pip install ipython"):
        show_text(WORDS, torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"attributions": torch.zeros(3)}, ValueError, r"attributions must have shape \(B, T\) or \(B, T, E\)"),
        ({"attributions": torch.zeros(2, 2)}, ValueError, r"words\[1\] has 3 words, but attributions has 2 numbers"),
        ({"attributions": torch.zeros(3, 3)}, ValueError, "words has 2 entries, but there are 3 texts"),
        ({"attributions": torch.full((2, 3), torch.nan)}, ValueError, "attributions holds NaN"),
        ({"words": ["good film", "bad"]}, TypeError, r"a list of words for each text, got a string.*give \[words\]"),
        ({"predicted": ["a"]}, ValueError, "predicted has 1 entries, but there are 2 texts"),
    ],
)
def test_bad_texts_are_refused(notebook, changes, error, message):
    with pytest.raises(error, match=message):
        show_text(**({"words": WORDS, "attributions": torch.zeros(2, 3)} | changes))


# Tables


def table(n=12, features=4):
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(n, features, generator=draws)
    return {"attributions": 2 * x, "outputs": 2 * x.sum(1) + 1, "data": x, "feature_names": list("abcd")}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("plot", "row"), [("beeswarm", None), ("bar", None), ("bar", 1), ("waterfall", 2)])
def test_tables_are_drawn_by_shap(plot, row):
    pytest.importorskip("shap")
    from matplotlib import pyplot

    pyplot.close("all")
    mine = pyplot.figure()
    figure, axis = show_table(**table(), plot=plot, row=row, max_display=3)
    assert isinstance(figure, Figure) and axis in figure.axes and figure is not mine
    labels = " ".join(label.get_text() for label in axis.get_yticklabels())
    assert any(name in labels for name in "abcd") and "other features" in labels
    assert pyplot.get_fignums() == [mine.number] and pyplot.gcf() is mine and not mine.axes
    figure.savefig("/dev/null", format="png")
    pyplot.close("all")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("plot", "row"), [("bar", None), ("bar", 1), ("waterfall", 2)])  # beeswarm draws by chance
def test_pictures_of_tables_are_shaps(plot, row, tmp_path):
    shap = pytest.importorskip("shap")
    from matplotlib import pyplot

    drawn, expected = tmp_path / "drawn.png", tmp_path / "expected.png"
    show_table(**table(), plot=plot, row=row)[0].savefig(drawn)
    parts = {name: np.asarray(part) for name, part in table().items()}
    a, x, base = parts["attributions"], parts["data"], np.ones(12)
    explanation = shap.Explanation(a, base, x, feature_names=list("abcd"))
    pyplot.figure(layout="constrained")
    pyplot.gcf().add_subplot()
    getattr(shap.plots, plot)(explanation if row is None else explanation[row], show=False)
    pyplot.savefig(expected)
    pyplot.close()
    assert compare_images(str(expected), str(drawn), 0.5) is None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("plot", ["beeswarm", "bar"])
def test_tables_are_drawn_on_given_axes(plot):
    pytest.importorskip("shap")
    from matplotlib import pyplot

    pyplot.close("all")
    figure = Figure(figsize=(5, 3))
    left, right = figure.subplots(1, 2)
    assert show_table(**table(), plot=plot, ax=right) == (figure, right)
    assert not left.has_data() and [label.get_text() for label in right.get_yticklabels()]
    assert figure.get_size_inches().tolist() == [5, 3] and pyplot.get_fignums() == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plot": "violin"}, "plot must be one of .*'beeswarm'"),
        ({"plot": "waterfall"}, "plot='waterfall' is of one row; say which: row=0"),
        ({"plot": "beeswarm", "row": 1}, "plot='beeswarm' is of all rows; leave row out"),
        ({"plot": "waterfall", "row": 1, "ax": Figure().subplots()}, "makes a figure of its own; leave ax out"),
        ({"plot": "bar", "row": 12}, "row must be from 0 to 11, got 12"),
        ({"attributions": torch.zeros(1, 12, 16)}, r"attributions must be of a table, \(B, F\)"),
    ],
)
def test_bad_tables_are_refused(changes, message):
    pytest.importorskip("shap")
    with pytest.raises(ValueError, match=message):
        show_table(**(table() | changes))


def test_numpy_is_no_tensor():
    pytest.importorskip("shap")
    with pytest.raises(TypeError, match="attributions must be Tensors"):
        show_table(np.zeros((2, 3)), torch.zeros(2))
