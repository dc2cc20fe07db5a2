"""COCO: which category an ImageNet class names, whether it is in the photograph, and where."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data.data_set import DataSet, Places, Source
from benchmarks.data.pictures import Pictures
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.faults import one_line, raise_if_of_the_run

MAPPING = Path(__file__).with_name("imagenet_to_coco.csv")


@dataclass(frozen=True, eq=False)
class Coco:
    """Photographs with instance masks.

    Attributes:
        pictures: all photographs of the annotations, by their number.
        annotations: pycocotools' COCO.
        ids: the number of each photograph.
        category_of: the category number that an ImageNet class names, for the classes that name one.
    """

    pictures: Pictures
    annotations: Any
    ids: tuple[int, ...]
    category_of: dict[int, int]

    def mask(self, position: int, label: int) -> tuple[np.ndarray | None, str]:
        """Where the category of an ImageNet class is: (height, width) of the photograph, bool, all instances together.

        Returns:
            the mask and "", or None and why there is none.
        """
        category = self.category_of.get(label)
        if category is None:
            return None, "the class names no COCO category"
        found = self.annotations.loadAnns(self.annotations.getAnnIds(imgIds=[self.ids[position]], catIds=[category]))
        if not found:
            return None, "the category is not in the photograph"
        try:
            return np.any([self._instance(annotation) for annotation in found], axis=0), ""
        except Exception as error:  # pycocotools fails in many ways on what is no polygon and no RLE
            raise_if_of_the_run(error)
            # Without one of its instances the mask would be of a part of the category.
            return None, f"the annotation has no usable mask: {one_line(error)}"

    def _instance(self, annotation: dict[str, Any]) -> np.ndarray:
        photograph = self.annotations.imgs[annotation["image_id"]]
        shape = photograph["height"], photograph["width"]
        segmentation = annotation["segmentation"]
        if isinstance(segmentation, dict):
            # pycocotools takes both as they come, and leaves pixels that run lengths say nothing of at random.
            if tuple(segmentation["size"]) != shape:
                raise ValueError(f"it has the size {segmentation['size']} in a photograph of {shape[0]} x {shape[1]}")
            lengths = segmentation["counts"]
            if isinstance(lengths, list) and sum(lengths) != shape[0] * shape[1]:
                raise ValueError(f"its run lengths are of {sum(lengths)} pixels instead of {shape[0] * shape[1]}")
        return self.annotations.annToMask(annotation)


def load_coco(root: str | Path, instances: str | Path | None = None, images: str | Path | None = None) -> Coco:
    """COCO below a folder.

    Args:
        root: with `images/` and `instances.json`, unless these are given.
        instances: the annotations in COCO's form.
        images: the folder of the photographs.

    Raises:
        BenchmarkError: something is missing, no annotations, or categories that are not COCO's.
    """
    try:
        from pycocotools.coco import COCO
    except ImportError as error:
        raise BenchmarkError("--data coco needs pycocotools: pip install pycocotools") from error
    instances, images = Path(instances or Path(root) / "instances.json"), Path(images or Path(root) / "images")
    if not instances.is_file():
        raise BenchmarkError(f"{instances} does not exist; give the file of COCO's instances with --instances")
    if not images.is_dir():
        raise BenchmarkError(f"{images} is not a folder; give the one that holds COCO's photographs with --images-dir")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            annotations = COCO(str(instances))
        numbers = {category["name"]: category["id"] for category in annotations.dataset["categories"]}
        ids = tuple(sorted(annotations.imgs))
        names = tuple(annotations.imgs[i]["file_name"] for i in ids)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise BenchmarkError(f"{instances} is not in COCO's form: {type(error).__name__}: {error}") from error
    mapping = imagenet_to_coco()
    if unknown := sorted(set(mapping.values()) - set(numbers)):
        raise BenchmarkError(f"{instances} lacks COCO's categories {', '.join(unknown[:5])}; give COCO's instances")
    pictures = Pictures(f"COCO, {len(ids)} photographs", names, [images / name for name in names])
    return Coco(pictures, annotations, ids, {label: numbers[name] for label, name in mapping.items()})


def imagenet_to_coco() -> dict[int, str]:
    """The COCO category that each ImageNet class names; classes that name none are left out.

    A class is mapped where every photograph of it shows a thing that COCO's annotators would put into the category: a
    collie is a dog, a beer glass a cup, a kite (in ImageNet) a bird. Wild relatives such as wolves and bison are not.
    """
    return pd.read_csv(MAPPING, index_col="imagenet_index")["coco_category"].to_dict()


def _open(places: Places, classes: int) -> Source:
    found = load_coco(str(places.root), places.instances, places.images_dir)
    return Source(found.pictures, mask_of=found.mask)


DATA_SET = DataSet(
    _open,
    n_classes=1000,
    root="the folder of the photographs",
    has_masks=True,
    explained="Only images whose predicted class names a category that is in the photograph are explained; S is the "
    "mask of that category in the input.",
    files=lambda places: {"instances": Path(places.instances or Path(str(places.root)) / "instances.json")},
)
