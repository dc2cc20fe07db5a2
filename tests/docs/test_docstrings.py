"""The examples in docstrings print what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import captum_wg
import quantus_ext

MODULES = [
    module.name
    for package in (captum_wg, quantus_ext)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.name.endswith("__main__")
]


def examples(name):
    module = importlib.import_module(name)
    return [test for test in doctest.DocTestFinder().find(module) if test.examples]


WITH_EXAMPLES = [test for name in MODULES for test in examples(name)]


@pytest.mark.parametrize("test", WITH_EXAMPLES, ids=lambda test: test.name)
def test_an_example(test):
    lines = []
    failed = doctest.DocTestRunner(verbose=False).run(test, out=lines.append).failed
    assert not failed, "".join(lines)


def test_the_classes_that_everyone_begins_with_have_examples():
    names = {test.name.rpartition(".")[2] for test in WITH_EXAMPLES}
    assert names >= {
        "ExpectedGradients",
        "WeightedGradients",
        "GeneralizedAttribution",
        "OverBaselines",
        "PatchCorrected",
    }
    assert names >= {"DeletionAUC", "InsertionAUC", "OverlapAUC", "explainer", "LayerExpectedGradients", "Deletion"}
