"""The photographs that scikit-image and scikit-learn bring along: nothing to download."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from benchmarks.data.data_set import DataSet, Source
from benchmarks.data.pictures import Pictures
from benchmarks.run.errors import BenchmarkError

SKIMAGE, SKLEARN = ("skimage", "data"), ("sklearn", "datasets", "images")
# What an ImageNet network recognises best comes first.
EXPLAINED = (
    (SKIMAGE, "camera.png"),
    (SKIMAGE, "coffee.png"),
    (SKIMAGE, "chelsea.png"),
    (SKIMAGE, "rocket.jpg"),
    (SKLEARN, "china.jpg"),
    (SKIMAGE, "motorcycle_left.png"),
)
# Other scenes, in colour before grey.
REFERENCES = (
    (SKIMAGE, "astronaut.png"),
    (SKLEARN, "flower.jpg"),
    (SKIMAGE, "retina.jpg"),
    (SKIMAGE, "ihc.png"),
    (SKIMAGE, "hubble_deep_field.jpg"),
    (SKIMAGE, "grass.png"),
    (SKIMAGE, "brick.png"),
    (SKIMAGE, "coins.png"),
    (SKIMAGE, "gravel.png"),
    (SKIMAGE, "moon.png"),
)


def photographs() -> tuple[Pictures, Pictures]:
    """Ten photographs to draw baselines from, and six to explain; without labels, so that a network's own class counts.

    Raises:
        BenchmarkError: a package is missing, or one of its files.
    """
    return _pictures(REFERENCES), _pictures(EXPLAINED)


def _pictures(files: tuple[tuple[tuple[str, ...], str], ...]) -> Pictures:
    paths = [_folder(*place) / name for place, name in files]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise BenchmarkError(
            f"{', '.join(missing)} is missing from the installed package; install it again: "
            "pip install --force-reinstall scikit-image scikit-learn"
        )
    return Pictures("photographs of scikit-image and scikit-learn", tuple(path.name for path in paths), paths)


def _folder(package: str, *below: str) -> Path:
    # The package is not imported: scikit-learn takes seconds.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise BenchmarkError(
            "these data need scikit-image and scikit-learn, whose photographs they show: "
            f"pip install 'captum-wg[demo]' ({package} is not installed)"
        )
    return Path(spec.origin).parent.joinpath(*below)


DATA_SET = DataSet(
    lambda places, classes: Source(*reversed(photographs())),
    network="efficientnet_lite0",
    explained="What is explained is the class that the model predicts, right or wrong.",
)
