import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torchvision.models import ResNet50_Weights

from benchmarks.data.coco import MAPPING, imagenet_to_coco, load_coco
from benchmarks.data.datasets import source
from benchmarks.experiment.settings import Experiment
from benchmarks.run.errors import BenchmarkError

pytest.importorskip("pycocotools", reason="pycocotools is not installed")

COCO_80 = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic_light",
    "fire_hydrant",
    "stop_sign",
    "parking_meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports_ball",
    "kite",
    "baseball_bat",
    "baseball_glove",
    "skateboard",
    "surfboard",
    "tennis_racket",
    "bottle",
    "wine_glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot_dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted_plant",
    "bed",
    "dining_table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell_phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy_bear",
    "hair_drier",
    "toothbrush",
]
CATEGORIES = [{"id": i + 1, "name": name.replace("_", " ")} for i, name in enumerate(COCO_80)]


def annotation(number, image, category, polygon):
    return {
        "id": number,
        "image_id": image,
        "category_id": 1 + COCO_80.index(category),
        "segmentation": [polygon],
        "iscrowd": 0,
        "area": 1,
        "bbox": [0, 0, 1, 1],
    }


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "images/one.jpg")
    instances = {
        "images": [{"id": 5, "file_name": "one.jpg", "width": 20, "height": 10}],
        "annotations": [
            annotation(1, 5, "dog", [0, 0, 4, 0, 4, 10, 0, 10]),
            annotation(2, 5, "dog", [10, 0, 12, 0, 12, 10, 10, 10]),
            annotation(3, 5, "person", [15, 0, 20, 0, 20, 10, 15, 10]),
        ],
        "categories": CATEGORIES,
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances))
    return tmp_path


def test_a_mask_is_all_instances_of_the_predicted_category(folder):
    coco = load_coco(folder)
    assert coco.pictures.names == ("one.jpg",)
    mask, reason = coco.mask(0, 207)  # golden retriever
    expected = np.zeros((10, 20), bool)
    expected[:, :4] = expected[:, 10:12] = True
    assert reason == "" and np.array_equal(mask, expected)
    assert coco.mask(0, 281) == (None, "the category is not in the photograph")  # tabby
    assert coco.mask(0, 980) == (None, "the class names no COCO category")  # volcano


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        [[1, 2]],
        [["a"] * 6],
        "dog",
        {"size": [10, 20]},
        {"size": [10, 20], "counts": [5]},
        {"size": [10, 20], "counts": [201, -1]},
        {"size": [5, 20], "counts": [100]},
        {"size": [5, 20], "counts": [0, 200]},
        {"size": [5, 20], "counts": "T3"},  # 100 pixels, none of them on
    ],
)
def test_an_annotation_without_a_usable_mask(folder, segmentation):
    """Even among others of its category."""
    found = json.loads((folder / "instances.json").read_text())
    found["annotations"][1]["segmentation"] = segmentation
    if segmentation is None:
        del found["annotations"][1]["segmentation"]
    (folder / "instances.json").write_text(json.dumps(found))
    mask, reason = load_coco(folder).mask(0, 207)
    assert mask is None and reason.partition(":")[0] == "the annotation has no usable mask"


def test_with_masks_of_its_own_the_category_must_be_in_the_photograph_too(folder):
    (folder / "masks").mkdir()
    own = np.zeros((10, 20), np.uint8)
    own[3:5] = 1
    Image.fromarray(own).save(folder / "masks/one.png")
    places = Experiment(model="resnet50", data="coco", root=str(folder), masks=str(folder / "masks"))
    mask_of = source(places, 1000).mask_of
    mask, reason = mask_of(0, 207)
    assert reason == "" and np.array_equal(mask, own > 0)
    assert mask_of(0, 281) == (None, "the category is not in the photograph")
    assert mask_of(0, 980) == (None, "the class names no COCO category")
    (folder / "masks/one.png").unlink()
    assert mask_of(0, 207) == (None, "no mask")


def test_the_mapping_names_cocos_categories():
    mapping = imagenet_to_coco()
    assert set(mapping.values()) <= {category["name"] for category in CATEGORIES}
    assert [mapping.get(i) for i in (21, 207, 281, 340, 508, 779, 954)] == [
        "bird",  # kite
        "dog",
        "cat",
        "zebra",
        "keyboard",
        "bus",
        "banana",
    ]
    # Wild relatives are not COCO's.
    assert not {269, 273, 286, 346} & set(mapping)


def test_the_mapping_names_imagenets_classes_once():
    table = pd.read_csv(MAPPING, keep_default_na=False)
    assert list(table) == ["imagenet_index", "imagenet_name", "coco_category"]
    assert table["imagenet_index"].is_unique and (table["coco_category"] != "").all()
    classes = ResNet50_Weights.DEFAULT.meta["categories"]
    assert table["imagenet_name"].tolist() == [classes[i] for i in table["imagenet_index"]]


def test_what_is_missing_is_named(folder):
    with pytest.raises(BenchmarkError, match=r"none\.json does not exist; .*--instances"):
        load_coco(folder, instances=folder / "none.json")
    with pytest.raises(BenchmarkError, match=r"is not a folder; .*--images-dir"):
        load_coco(folder, images=folder / "none")
    (folder / "instances.json").write_text("[1]")
    with pytest.raises(BenchmarkError, match="is not in COCO's form"):
        load_coco(folder)


def test_other_categories_than_cocos_are_refused(folder):
    found = json.loads((folder / "instances.json").read_text())
    found["categories"] = found["categories"][20:]
    (folder / "instances.json").write_text(json.dumps(found))
    with pytest.raises(BenchmarkError, match="lacks COCO's categories airplane, "):
        load_coco(folder)


def test_real_annotations(tmp_path):
    path = os.environ.get("CAPTUM_WG_DATA")
    if not path:
        pytest.skip("CAPTUM_WG_DATA is not set: no real data to test on")
    with tarfile.open(Path(path) / "coco_sample.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    coco = load_coco(tmp_path)
    assert len(coco.pictures) == 128
    dogs = [i for i in range(128) if coco.mask(i, 207)[0] is not None]
    assert dogs
    for i in dogs:
        picture, _ = coco.pictures.read(i)
        mask, _ = coco.mask(i, 207)
        assert mask.shape == (picture.height, picture.width) and 0 < mask.mean() < 1
