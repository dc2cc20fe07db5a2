"""Attributions as shap's Explanation."""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from captum_wg import ExpectedGradients, to_shap


def test_without_shap(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "shap", None)
    with pytest.raises(ImportError, match="to_shap needs shap; install it: pip install shap"):
        to_shap(draw(2, 3), draw(2))


@pytest.fixture
def shap():
    return pytest.importorskip("shap")


def test_values_data_and_base_values(shap, draw):
    x, references = draw(4, 3), draw(5, 3, seed=1)
    f = lambda z: (z**2).sum(1) + z.prod(1)  # noqa: E731
    found = ExpectedGradients(f).attribute(x, references, return_convergence_delta=True)
    made = to_shap(found, f(x), x, ["a", "b", "c"])
    assert isinstance(made, shap.Explanation)
    np.testing.assert_array_equal(made.values, found.attributions)
    np.testing.assert_array_equal(made.data, x)
    assert made.feature_names == ["a", "b", "c"]
    # Where the bars start is the baselines' mean output, and where they end F(x).
    np.testing.assert_allclose(made.base_values, f(references).mean().expand(4), rtol=1e-9)
    np.testing.assert_allclose(made.base_values + made.values.sum(1), f(x))


def test_tuples_stand_side_by_side(shap, draw):
    x = draw(2, 3), draw(2, 2, seed=1).float()
    made = to_shap((x[0], x[1]), torch.zeros(2), x)
    expected = np.concatenate([x[0], x[1].double()], 1)
    np.testing.assert_array_equal(made.values, expected)
    np.testing.assert_array_equal(made.data, expected)
    assert made[1].values.shape == (5,)


def test_categories_keep_their_words_and_have_codes_to_be_coloured_by(shap, draw):
    table = pd.DataFrame({"age": [31, 52, 47], "colour": ["red", "blue", "red"]})
    made = to_shap(draw(3, 2), draw(3), table)
    assert made.feature_names == ["age", "colour"]
    np.testing.assert_array_equal(made.data, [[31, 1], [52, 0], [47, 1]])
    assert made.display_data[:, 1].tolist() == ["red", "blue", "red"]


@pytest.mark.parametrize("plot", ["bar", "beeswarm", "waterfall"])
@pytest.mark.filterwarnings("ignore")
def test_shaps_plots_draw_it(shap, draw, plot):
    table = pd.DataFrame({"age": [31, 52, 47], "colour": ["red", "blue", "red"]})
    for made in (
        to_shap(draw(3, 2), draw(3), table),
        to_shap(draw(3, 2), draw(3), draw(3, 2)),
        to_shap(draw(3, 2), draw(3)),
    ):
        if plot == "beeswarm" and made.data is None:
            continue  # its colours are the data
        getattr(shap.plots, plot)(made[0] if plot == "waterfall" else made, show=False)
        shown = " ".join(text.get_text() for axes in plt.gcf().axes for text in [*axes.texts, *axes.get_yticklabels()])
        assert ("colour" in shown) == (made.feature_names == ["age", "colour"])
        plt.close("all")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (
            (torch.ones(2, 3, 4), torch.ones(2)),
            ValueError,
            r"of a table, \(B, F\), got shape \(2, 3, 4\); flatten them",
        ),
        ((np.ones((2, 3)), torch.ones(2)), TypeError, "attributions must be Tensors"),
        ((torch.ones(2, 3), torch.ones(2, 1)), ValueError, r"outputs must be .* \(B,\) = \(2,\), got shape \(2, 1\)"),
        ((torch.ones(2, 3), 1.0), ValueError, "outputs must be .* got float"),
        ((torch.ones(2, 3), torch.ones(2), torch.ones(2, 2)), ValueError, "data must have the attributions' shape"),
        ((torch.ones(2, 3), torch.ones(2), None, ["a"]), ValueError, "feature_names must name the 3 features, got 1"),
    ],
)
def test_what_is_no_table(shap, arguments, error, words):
    with pytest.raises(error, match=words):
        to_shap(*arguments)
