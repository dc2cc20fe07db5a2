import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def files(tmp_path):
    """A folder of three photographs, one of them in a folder of its own."""
    (tmp_path / "sub").mkdir()
    for i, name in enumerate(("b.png", "a.png", "sub/c.jpg")):
        Image.new("RGB", (8, 6), (i, 0, 255)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def image_folder():
    """A function that writes noise into train/ and test/, two images of each class."""

    def write(root, suffix="png", classes=("cat", "dog")):
        generator = np.random.default_rng(0)
        for part in ("train", "test"):
            for name in classes:
                (root / part / name).mkdir(parents=True)
                for i in range(2):
                    pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(root / part / name / f"{i}.{suffix}")
        return root

    return write
