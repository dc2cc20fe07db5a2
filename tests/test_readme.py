"""The Python of README and of docs runs as it is written there, block after block, and every link leads somewhere.

Their commands: tests/docs/test_commands.py.
"""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import quantus
import torch
from torch import nn

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS]
# What README's links begin with, so that they hold on the package index, too; of this checkout's files.
OURS = (
    "https://github.com/captum-wg/captum-wg/blob/main/",
    "https://raw.githubusercontent.com/captum-wg/captum-wg/main/",
)


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def links(page):
    return re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))


def network(*parts):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(*(part() for part in parts)).eval()


@pytest.fixture(scope="module")
def names():
    """What a reader has: a model, a batch, training images; a table, and a model of it."""
    generator = torch.Generator().manual_seed(0)
    model = network(lambda: nn.Conv2d(3, 4, 3), nn.ReLU, nn.Flatten, lambda: nn.Linear(4 * 6 * 6, 4))

    def images(n):
        return torch.rand(n, 3, 8, 8, generator=generator)

    x = images(4)
    y = model(x).argmax(1)
    masks = torch.zeros(4, 8, 8)
    masks[:, 2:5, 2:5] = 1
    return {
        "model": model,
        "x": x,
        "y": y,
        "training_images": images(12),
        "train_set": torch.utils.data.TensorDataset(images(20), torch.zeros(20)),
        "fifty_references": images(50),
        "many_references": images(100),
        "quantus": quantus,
        "np": np,
        "x_batch": x.numpy(),
        "y_batch": y.numpy(),
        "a_batch": images(4).numpy() - 0.5,
        "masks": masks.numpy(),
        "table_model": network(lambda: nn.Linear(3, 8), nn.Tanh, lambda: nn.Linear(8, 2)),
        "rows": torch.rand(6, 3, generator=generator),
        "background": torch.rand(10, 3, generator=generator),
        "feature_names": ["age", "height", "weight"],
    }


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
def test_the_blocks_run_one_after_another(names, tmp_path, monkeypatch):
    matplotlib.use("agg")
    monkeypatch.chdir(tmp_path)  # for the files that they write
    for page in PAGES:
        for number, source in enumerate(blocks(page), 1):
            if "shap.plots" in source:
                if importlib.util.find_spec("shap") is None:
                    continue  # it is of the extra dev
                names["shap"] = importlib.import_module("shap")
            # The name stands in the traceback of one that fails.
            exec(compile(source, f"{page.name}, block {number}", "exec"), names)


def test_there_are_blocks():
    assert len(blocks(ROOT / "README.md")) >= 4 and len(blocks(ROOT / "docs" / "guide.md")) >= 6


def anchors(page):
    """Those that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def place(page, link):
    """The file in this checkout that a link leads to, and the part of it; None if it leads elsewhere."""
    target, _, part = link.partition("#")
    for base in OURS:
        if target.startswith(base):
            return ROOT / target.removeprefix(base), part
    return None if target.startswith("http") else (page.parent / target if target else page, part)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for found, link in ((place(page, link), link) for link in links(page)):
        assert not found or found[0].is_file(), f"{page.name}: {link}"
        assert not found or not found[1] or found[1] in anchors(found[0]), f"{page.name}: {link}"


def test_readme_reads_on_the_index():
    assert not [link for link in links(ROOT / "README.md") if not link.startswith("https://")]


def test_every_picture_is_shown():
    shown = {found[0] for page in PAGES for link in links(page) if (found := place(page, link))}
    assert {path for kind in ("png", "jpg") for path in (ROOT / "docs").glob(f"*.{kind}") if path not in shown} == set()


def test_the_extras_that_pages_install_exist():
    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8"), flags=re.M)
    for page in PAGES:
        for install in re.findall(r"pip install .*", page.read_text(encoding="utf-8")):
            for named in re.findall(r"\[([\w,]+)\]", install):
                assert {*named.split(",")} <= {*extras}, f"{page.name}: {install}"
