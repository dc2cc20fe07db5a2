import importlib.util

import numpy as np
import pytest

from benchmarks.data import photographs as module
from benchmarks.data.photographs import photographs
from benchmarks.run.errors import BenchmarkError

pytest.importorskip("skimage")


def test_the_photographs_are_files_of_the_packages_and_can_be_read():
    references, explained = photographs()
    assert len(references) == 10
    assert len(explained) == 6
    assert not set(references.names) & set(explained.names)
    for pictures in (references, explained):
        assert pictures.labels is None
        for i in range(len(pictures)):
            picture, _ = pictures.read(i)
            assert picture.mode == "RGB"
            assert np.asarray(picture).std() > 10  # no blank


def test_they_are_what_the_packages_themselves_load():
    from skimage import data
    from sklearn.datasets import load_sample_image

    _, explained = photographs()
    coffee, _ = explained.read(explained.names.index("coffee.png"))
    china, _ = explained.read(explained.names.index("china.jpg"))
    assert np.array_equal(np.asarray(coffee), data.coffee())
    assert np.array_equal(np.asarray(china), load_sample_image("china.jpg"))


def test_a_missing_package_names_the_extra(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "skimage" else find(name))
    with pytest.raises(BenchmarkError, match=r"captum-wg\[demo\].*skimage is not installed"):
        photographs()


def test_a_missing_file_is_named(monkeypatch):
    monkeypatch.setattr(module, "EXPLAINED", ((module.SKIMAGE, "nowhere.png"),))
    with pytest.raises(BenchmarkError, match=r"nowhere\.png is missing .* pip install"):
        photographs()
