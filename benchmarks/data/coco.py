"""COCO: which category an ImageNet class names, whether it is in the photograph, and where."""

from __future__ import annotations

import contextlib
import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
        masks = []
        for annotation in found:
            try:
                masks.append(self._instance(annotation))
            except Exception as error:  # pycocotools fails in many ways on what is no polygon and no RLE
                raise_if_of_the_run(error)
                # Without one of its instances the mask would be of a part of the category.
                return None, f"the annotation has no usable mask: {one_line(error)}"
        return np.any(masks, axis=0), ""

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
    root = Path(root)
    instances, images = Path(instances or root / "instances.json"), Path(images or root / "images")
    if not instances.is_file():
        raise BenchmarkError(f"{instances} does not exist; give the file of COCO's instances with --instances")
    if not images.is_dir():
        raise BenchmarkError(f"{images} is not a folder; give the one that holds COCO's photographs with --images-dir")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            annotations = COCO(str(instances))
        numbers = {category["name"]: category["id"] for category in annotations.dataset["categories"]}
        records = [annotations.imgs[i] for i in sorted(annotations.imgs)]
        names = tuple(record["file_name"] for record in records)
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise BenchmarkError(f"{instances} is not in COCO's form: {type(error).__name__}: {error}") from error
    mapping = imagenet_to_coco()
    if unknown := sorted(set(mapping.values()) - set(numbers)):
        raise BenchmarkError(f"{instances} lacks COCO's categories {', '.join(unknown[:5])}; give COCO's instances")
    return Coco(
        Pictures(f"COCO, {len(records)} photographs", names, [images / name for name in names]),
        annotations,
        tuple(record["id"] for record in records),
        {label: numbers[name] for label, name in mapping.items()},
    )


def imagenet_to_coco(path: str | Path = MAPPING) -> dict[int, str]:
    """The COCO category that each ImageNet class names; classes that name none are left out.

    A class is mapped where every photograph of it shows a thing that COCO's annotators would put into the category: a
    collie is a dog, a beer glass a cup, a kite (in ImageNet) a bird. Wild relatives such as wolves and bison are not.

    Raises:
        BenchmarkError: a row is not of this form, its class number and name do not belong together, or a class stands
            twice.
    """
    from torchvision.models import ResNet50_Weights

    classes = ResNet50_Weights.DEFAULT.meta["categories"]
    mapping: dict[int, str] = {}
    with Path(path).open(newline="", encoding="utf-8") as file:
        for line, row in enumerate(csv.DictReader(file), start=2):
            try:
                index, name, category = int(row["imagenet_index"]), row["imagenet_name"], row["coco_category"]
                known = classes[index] if 0 <= index < len(classes) else None
            except (KeyError, TypeError, ValueError) as error:
                raise BenchmarkError(
                    f"{path}, line {line}: imagenet_index, imagenet_name and coco_category are needed, got {row}"
                ) from error
            if known != name or not category:
                raise BenchmarkError(f"{path}, line {line}: ImageNet's class {index} is {known!r}, not {name!r}")
            if index in mapping:
                raise BenchmarkError(f"{path}, line {line}: class {index} ({name}) stands twice")
            mapping[index] = category
    return mapping
