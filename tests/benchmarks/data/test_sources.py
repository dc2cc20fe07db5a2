import numpy as np
import pytest
from PIL import Image

from benchmarks.data.datasets import source
from benchmarks.experiment.settings import Experiment
from benchmarks.run.errors import BenchmarkError


def of(data, **places):
    return Experiment(model="m", data=data, **places)


def test_the_digits_need_no_files():
    found = source(of("digits"), 10)
    assert (len(found.pictures), len(found.references)) == (599, 1198) and found.mask_of is None
    assert len(set(found.pictures.names)) == 599 and sorted(found.pictures.names) == list(found.pictures.names)
    picture, crc = found.pictures.read(3)
    assert picture.size == (8, 8) and np.asarray(picture).max() == 240 and crc == found.pictures.read(3)[1]


def test_references_and_masks_of_ones_own(data, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    places = dict(root=str(data), labels=str(data / "labels.csv"), masks=str(data / "masks"))
    found = source(of("imagenet", references=str(tmp_path), **places), 5)
    assert found.pictures.name == "ImageNet folder, 14 photographs" and found.references.names == ("one.png",)
    mask, reason = found.mask_of(0, 0)
    assert mask[20, 20] and not mask[0, 0] and reason == ""
    assert source(of("imagenet", **places), 5).references is None


@pytest.mark.parametrize(
    "data, places, classes, message",
    [
        ("digits", {}, 1000, "m has 1000 classes; --data digits needs 10"),
        ("cifar10", {}, 10, "--data cifar10 needs --root"),
        ("imagenet", {}, 1000, "--data imagenet needs --root"),
        ("coco", {"root": "."}, 10, "m has 10 classes; --data coco needs 1000"),
    ],
)
def test_data_that_can_not_be_had(data, places, classes, message):
    with pytest.raises(BenchmarkError, match=message):
        source(of(data, **places), classes)
