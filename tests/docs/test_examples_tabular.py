"""The example on tables runs, and says what it claims."""

from __future__ import annotations

import itertools
import math
import re
import runpy
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "tabular.py"


@pytest.fixture(scope="module")
def example():
    pytest.importorskip("shap")
    pytest.importorskip("sklearn")
    matplotlib.use("agg")
    return runpy.run_path(str(SCRIPT))


@pytest.mark.filterwarnings("ignore")
def test_ours_agree_with_shaps(example, capsys, tmp_path):
    example["main"](["--rows", "4", "--out", str(tmp_path)])
    printed = capsys.readouterr().out
    agreements = [float(found) for found in re.findall(r"(-?\d\.\d{3}) \(least", printed)]
    assert len(agreements) == 3 + 2 * 3
    assert min(agreements[:3]) > 0.95 and min(agreements[3:]) > 0.9
    spread = [tuple(map(float, found)) for found in re.findall(r"weights from (\S+) to (\S+)", printed)]
    assert float(re.search(r"breast cancer, (\S+)% right", printed)[1]) > 90
    assert float(re.search(r"diabetes, R2 (\S+):", printed)[1]) > 0.25
    # A regression's weights, of outputs below and above 0, are not all the same.
    assert re.search(r"outputs from -\d", printed) and all(most > 1 / 20 > least + 0.01 for least, most in spread)
    names = {
        f"{name}_{plot}.png" for name in ("breast_cancer", "diabetes") for plot in ("bar", "beeswarm", "waterfall")
    }
    assert {path.name for path in tmp_path.iterdir()} == names


def test_whole_groups_give_the_shapley_values_of_groups(example):
    """Against the definition: what a group adds, averaged over all orders in which groups can come."""
    import shap

    generator = torch.Generator().manual_seed(0)
    x, background = (torch.randn(n, 5, generator=generator) for n in (1, 3))
    mask = torch.tensor([[0, 0, 2, 1, 2]])
    function = lambda z: np.sin(z).sum(1) * z[:, 0] + z[:, 2] * z[:, 3]  # noqa: E731
    found = shap.explainers.Exact(function, example["WholeGroups"](background, mask))(x.numpy(), silent=True).values

    def value(groups):
        kept = np.isin(mask[0].numpy(), groups)
        return function(np.where(kept, x.numpy(), background.numpy())).mean()

    expected = np.zeros(3)
    for order in itertools.permutations(range(3)):
        for place, group in enumerate(order):
            expected[group] += (value(order[: place + 1]) - value(order[:place])) / math.factorial(3)
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
