from pathlib import Path

import pytest

from benchmarks.data.cifar10 import CIFAR10_CLASSES
from benchmarks.data.datasets import DATA, DATA_SETS, NAMES, load, source
from benchmarks.experiment.settings import Experiment
from benchmarks.models import networks
from benchmarks.run.errors import BenchmarkError


def test_each_name_is_a_data_set(image_folder, tmp_path):
    root = image_folder(tmp_path)
    names = ["digits (scikit-learn)", "CIFAR-10 (PNG)", "planted glyph on photographs", "planted pixels on photographs"]
    assert [load(name, root)[1].pictures.name for name in NAMES] == names


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        ("cifar10", None, "needs --root"),
        ("cifar10", "/no/such/folder", "/no/such/folder is not a folder"),
        ("cifar100", None, "unknown data 'cifar100'; known are digits, cifar10"),
        ("coco", None, "unknown data 'coco'; known are digits, cifar10"),
    ],
)
def test_bad_data_arguments(name, root, message):
    with pytest.raises(BenchmarkError, match=message):
        load(name, root)


def test_what_data_sets_declare():
    assert [name for name in DATA if DATA_SETS[name].has_masks] == ["coco", "planted-glyph", "planted-pixels"]
    assert {name: own.network for name, own in DATA_SETS.items() if own.network} == {
        "digits": networks.DIGITS_RESNET18,
        "cifar10": networks.CIFAR10_RESNET18,
        "photographs": networks.EFFICIENTNET_LITE0,
        **{name: network for network, name in networks.PLANTED_CNNS.items()},
    }
    assert DATA_SETS["cifar10"].class_names == CIFAR10_CLASSES and DATA_SETS["digits"].class_names[3] == "digit 3"
    assert "predicts, right or wrong" in DATA_SETS["photographs"].explained
    assert "the mask of that category" in DATA_SETS["coco"].explained
    assert "classifies correctly" in DATA_SETS["digits"].explained == DATA_SETS["imagenet"].explained


def test_whether_a_data_set_has_masks_is_what_it_gives(data):
    """Of those that need no download."""
    given = {
        "digits": {},
        "photographs": {},
        "planted-glyph": {},
        "imagenet": dict(root=str(data), labels=str(data / "labels.csv")),
    }
    for name, places in given.items():
        found = source(Experiment(model="m", data=name, **places), DATA_SETS[name].n_classes or 10)
        assert (found.mask_of is not None) == DATA_SETS[name].has_masks


def test_files_that_decide_the_results():
    def files(data, **places):
        return DATA_SETS[data].files(Experiment(model="m", data=data, root="here", **places))

    assert files("coco") == {"instances": Path("here/instances.json")}
    assert files("coco", instances="there.json") == {"instances": Path("there.json")}
    assert files("imagenet") == {}
