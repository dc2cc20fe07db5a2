from pathlib import Path

import pytest

from benchmarks.run import versions as module
from benchmarks.run.versions import closure, meaning, versions

CELLS = "benchmarks.experiment.cells"


@pytest.fixture
def edit(monkeypatch):
    """Another text of a module, as if this process had imported it."""

    def change(name, change):
        text = change(module._SOURCES[name])
        assert text != module._SOURCES[name]
        monkeypatch.setitem(module._SOURCES, name, text)
        return versions((CELLS,))["source"]

    return change


def test_the_closure_is_all_that_a_module_imports_of_the_project():
    found = closure([CELLS])
    assert {
        CELLS,
        "benchmarks.experiment.bench",
        "benchmarks.data.coco",
        "benchmarks.judges.removals",
        "benchmarks.methods.controls",
        "benchmarks.models.checkpoints",
        "benchmarks.run.runner",
        "captum_wg.engine.problem",
        "captum_wg.weighting",
        "quantus_ext.explain",
    } <= set(found)
    assert not {
        "benchmarks.attribution_table",
        "benchmarks.wg_tables",
        "benchmarks.tables.report",
        "benchmarks.train_cifar10",
        "benchmarks.experiment.plan",
    } & set(found)
    assert found == sorted(found) and not any(name.startswith(("torch", "numpy")) for name in found)


def test_a_docstring_or_a_comment_is_no_other_code(edit):
    before = versions((CELLS,))["source"]
    assert edit("captum_wg.expected_gradients", lambda text: text.replace('"""', '"""Others say: ', 1)) == before
    assert edit(CELLS, lambda text: text + "\n\n# A comment.\n") == before
    first = "    def values_of(self):\n        return 1\n"
    assert meaning(f"class A:\n{first}") == meaning(f'"""Doc."""\n\nclass A:\n    """Doc."""\n\n{first}')


def test_the_help_of_an_option_is_no_other_code(edit):
    before = versions((CELLS,))["source"]
    name = "benchmarks.experiment.settings"
    assert (
        edit(name, lambda text: text.replace('option("points on each path', 'option("points on every path')) == before
    )
    assert edit(name, lambda text: text.replace('help="images in one cell', 'help="so many images')) == before
    assert edit(name, lambda text: text.replace("default=50, type", "default=49, type")) != before


def test_other_code_of_what_a_module_imports_is_other_code(edit):
    before = versions((CELLS,))["source"]
    found = {
        edit("captum_wg.integrals.nodes", lambda text: text + "\nMORE = 1\n"),
        edit("benchmarks.judges.removals", lambda text: text.replace("noise=0.01", "noise=0.02")),
    }
    assert len(found) == 2 and before not in found
    unused = versions((CELLS,))["source"]
    assert edit("benchmarks.train_cifar10", lambda text: text + "\nMORE = 1\n") == unused


def test_a_table_beside_the_code_counts(edit, monkeypatch):
    before = versions((CELLS,))["source"]
    monkeypatch.setitem(module._TABLES, "benchmarks.data.imagenet_to_coco", "changed")
    assert versions((CELLS,))["source"] != before


def test_the_versions_are_those_of_the_imported_modules(monkeypatch):
    before = versions((CELLS,))
    assert {"torch", "captum", "quantus", "numpy"} <= set(before)
    monkeypatch.setattr(Path, "read_text", lambda *path, **how: "changed since")
    monkeypatch.setattr(Path, "read_bytes", lambda path: b"changed since")
    assert versions((CELLS,))["source"] == before["source"]
