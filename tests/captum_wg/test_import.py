"""What `import captum_wg` loads beside Captum: nothing that takes long, nothing that an extra installs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import captum_wg

ROOT = Path(__file__).parents[2]


def run(script):
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout


@pytest.fixture(scope="module")
def added():
    """The processor's seconds that the import takes after Captum's own, and the packages that it adds to Captum's."""
    script = """
import sys, time
import captum.attr
before = set(sys.modules)
start = time.process_time()
import captum_wg
print(time.process_time() - start, *{name.partition(".")[0] for name in set(sys.modules) - before})
"""
    seconds, *packages = run(script).split()
    return float(seconds), set(packages)


def test_nothing_but_ours_and_the_standard_library(added):
    assert added[1] - set(sys.stdlib_module_names) == {"captum_wg"}


def test_it_takes_a_moment(added):
    assert added[0] < 0.3


def test_methods_work_with_what_the_extras_install_missing():
    script = """
import sys
for name in "torchvision pandas scipy sklearn skimage shap safetensors joblib IPython quantus".split():
    sys.modules[name] = None  # its import raises ImportError
import torch
from captum_wg import Deletion, ExpectedGradients, WeightedGradients, baselines, visualization
net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(72, 3)).eval()
x = torch.rand(2, 3, 8, 8)
blurs = baselines.gaussian_blur([1, 2])
ExpectedGradients(net).attribute(x, blurs, target=0, n_steps=2, smooth=0.1)
WeightedGradients(net).attribute(x, blurs, target=0, n_steps=2, weighting=Deletion(neutral="blur"))
visualization.show(x, x)
print("done")
"""
    assert run(script).endswith("done\n")


def test_the_version_is_said_once():
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", captum_wg.__version__)
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'version = { attr = "captum_wg.__version__" }' in settings and captum_wg.__version__ not in settings
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    changes = (ROOT / "docs" / "changelog.md").read_text(encoding="utf-8")
    assert f"\nversion: {captum_wg.__version__}\n" in citation and f"\n## {captum_wg.__version__}" in changes
