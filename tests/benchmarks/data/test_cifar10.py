import numpy as np
import pytest
from PIL import Image
from torchvision import datasets

from benchmarks.data.cifar10 import CIFAR10, CIFAR10_CLASSES, cifar10_pictures
from benchmarks.data.datasets import load
from benchmarks.run.errors import BenchmarkError


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (7, 0, 255)).save(path)


@pytest.mark.parametrize(("suffix", "name"), [("jpg", "CIFAR-10 (JPEG)"), ("png", "CIFAR-10 (PNG)")])
def test_image_folder_says_what_it_is(image_folder, tmp_path, suffix, name):
    image_folder(tmp_path, suffix)
    train, test = load("cifar10", tmp_path)
    x, y = test[3]
    assert (test.pictures.name, len(train)) == (name, 4)
    assert x.shape == (3, 32, 32)
    assert y == 1
    assert test.pictures.class_names == ("cat", "dog")
    saved = np.asarray(Image.open(tmp_path / "test" / "dog" / f"1.{suffix}"), dtype=np.float32) / 255
    np.testing.assert_allclose(CIFAR10.pixels(x).permute(1, 2, 0), saved, atol=1e-6)


def test_image_folders_of_different_classes(image_folder, tmp_path):
    image_folder(tmp_path)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "bird")
    with pytest.raises(BenchmarkError, match="different classes"):
        cifar10_pictures(tmp_path)


def test_empty_image_folder(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(BenchmarkError, match="has no class folders"):
        cifar10_pictures(tmp_path)


def test_cifar10_without_a_network(tmp_path, monkeypatch):
    def no_network(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    with pytest.raises(BenchmarkError, match=r"could not be downloaded: no route to host.*--data digits"):
        cifar10_pictures(tmp_path)


def test_cifar10_as_folders(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("airplane", "bird"):
            for i in range(count):
                save(tmp_path / part / label / f"{i}.jpg")
    train, test = cifar10_pictures(tmp_path)
    assert (len(train), len(test), test.name) == (6, 4, "CIFAR-10 (JPEG)")
    assert test.names[2] == "test/bird/0.jpg" and test.labels == (0, 0, 1, 1)


def test_cifar10_with_all_its_classes(tmp_path):
    for part in ("train", "test"):
        for label in CIFAR10_CLASSES:
            save(tmp_path / part / label / "0.png")
    assert cifar10_pictures(tmp_path, all_classes=True)[1].labels == tuple(range(10))
    for part in ("train", "test"):
        (tmp_path / part / "airplane/0.png").unlink()
        (tmp_path / part / "airplane").rmdir()
    with pytest.raises(BenchmarkError, match="got 9: automobile, "):
        cifar10_pictures(tmp_path, all_classes=True)


def test_torchvisions_form(tmp_path, monkeypatch):
    """As if its files were there: pixels as they are, classes by number."""
    pixels = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)

    class Found:
        def __init__(self, root, train, download=False):
            self.data, self.targets = (pixels, [3, 0, 9]) if train else (pixels[:1], [3])

    monkeypatch.setattr(datasets, "CIFAR10", Found)
    train, test = load("cifar10", tmp_path)
    assert (test.pictures.name, test.pictures.class_names, len(train), len(test)) == ("CIFAR-10", CIFAR10_CLASSES, 3, 1)
    assert train.pictures.names == ("train/00000", "train/00001", "train/00002")
    x, y = train[2]
    assert y == 9
    np.testing.assert_allclose(CIFAR10.pixels(x).permute(1, 2, 0), pixels[2] / 255, atol=1e-6)
