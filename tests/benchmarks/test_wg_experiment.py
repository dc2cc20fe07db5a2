import errno
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import wg_experiment, wg_run
from benchmarks.data.cifar10 import CIFAR10, CIFAR10_CLASSES
from benchmarks.models.networks import Network
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import open_store
from benchmarks.wg_experiment import Chosen, Experiment

# The network of `data`.
MODEL = "shufflenet_v2_x0_5"


def of(data, **changes):
    settings = dict(baselines="uniform", n_baselines=2, resize=36, crop=32)
    places = dict(root=str(data), labels=str(data / "labels.csv"), weights=str(data / "tiny.pt"))
    return Experiment(MODEL, "imagenet", **places, **(settings | changes))


@pytest.fixture
def cifar10(tmp_path, tiny_model, monkeypatch):
    """CIFAR-10 as folders, with two noise images of each class in each part, for a network that leaves sizes alone."""
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in CIFAR10_CLASSES:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(2):
                noise = Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8))
                noise.save(tmp_path / part / name / f"{i}.png")

    def load(name, weights, device, *, resize, crop):
        preparation = replace(CIFAR10, resize=resize, crop=crop)
        return Network(name, tiny_model, preparation, 10)

    monkeypatch.setattr(wg_experiment, "load_network", load)
    yield tmp_path
    wg_experiment.bench.cache_clear()


def test_the_checksum_of_masks_is_of_the_subfolders_too(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = []
    for content in (b"1", b"2"):
        (tmp_path / "a/mask.png").write_bytes(content)
        found += [wg_experiment._of_files(tmp_path)] * 2
        assert found[-1] == wg_experiment._of_files(tmp_path)
    (tmp_path / "a/mask.png").rename(tmp_path / "b/mask.png")
    found.append(wg_experiment._of_files(tmp_path))
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "error, message",
    [
        (
            OSError(errno.EIO, "Input/output error"),
            r"can.t read or write a file .OSError: .*Input/output error: .*\.png",
        ),
        (PermissionError(errno.EACCES, "Permission denied"), r"Permission denied: .*\.png"),
        (MemoryError(), "too little memory .*with fewer --jobs the same command goes on"),
    ],
)
def test_what_is_no_fault_of_a_photograph_ends_the_run_and_is_not_stored(error, message, data, tmp_path, monkeypatch):
    experiment = of(data)
    store = open_store(tmp_path, wg_experiment.describe(experiment))
    with Runner(progress=False) as runner:
        chosen = wg_run.select(experiment, store, runner, 1).images[0]
        before = store.keys("predictions")

        def fail(path):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", fail)
            other = of(data, levels=9)  # nothing of it is in memory
            ready = wg_experiment.bench(other)
            store = open_store(tmp_path / "other", {})
            with pytest.raises(BenchmarkError, match=message):
                wg_run.select(other, store, runner, 1)
            with pytest.raises(BenchmarkError, match=message):
                ready.input(chosen)
            with pytest.raises(BenchmarkError, match=message):
                wg_experiment.bench(of(data, baselines="references"))
        assert before and store.keys("predictions") == []
        assert wg_run.select(other, store, runner, 1).images == (chosen,)


def test_a_mask_that_can_not_be_read_now_ends_the_run(data, monkeypatch):
    ready = wg_experiment.bench(of(data, masks=str(data / "masks")))
    real = Path.read_bytes

    def fail(path):
        if path.parent.name == "masks":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(BenchmarkError, match=r"can.t read or write a file .*masks/00\.png"):
        wg_experiment.predictions(ready.experiment, [0])
    with pytest.raises(BenchmarkError, match=r"can.t read or write a file .*masks/00\.png"):
        wg_experiment.input_mask(ready, Chosen(0, "00.png", 0, 0))


def test_a_photograph_that_is_a_reference_is_not_explained(data, tmp_path):
    """Though it lies elsewhere under another name; also a copy of one that is drawn from the data themselves."""
    for i, name in enumerate(("00.png", "01.png")):
        shutil.copy(data / name, tmp_path / f"reference{i}.png")
    apart = of(data, baselines="references", references=str(tmp_path))
    table = wg_experiment.predictions(apart, range(4))
    assert table["status"].tolist() == [wg_experiment.REFERENCE] * 2 + ["used", "misclassified"]
    assert table["crc"].all() and wg_experiment.predictions(of(data), [0, 1])["status"].tolist() == ["used"] * 2

    root = tmp_path / "data"
    shutil.copytree(data, root)
    first = np.random.default_rng([0, 1]).permutation(14)[0]
    copy = next(i for i in np.random.default_rng([0, 1]).permutation(14)[::-1] if i not in (3, 5))
    shutil.copy(root / f"{first:02d}.png", root / f"{copy:02d}.png")
    assert wg_experiment.predictions(of(root, baselines="references"), [copy])["status"].item() == "a reference image"


def test_a_missing_folder_of_references_is_named_by_its_option(data, tmp_path):
    with pytest.raises(BenchmarkError, match=r"^--references .*none is not a folder"):
        wg_experiment.bench(of(data, baselines="references", references=str(tmp_path / "none")))


def test_masks_of_other_sizes_share_a_reason(data, tmp_path):
    for i in range(2):
        Image.new("L", (10 + i, 12), 255).save(tmp_path / f"{i:02d}.png")
    status = wg_experiment.predictions(of(data, masks=str(tmp_path)), [0, 1])["status"]
    assert status[1] == "the mask has another size than the photograph: 12 x 11 instead of 40 x 48"
    assert wg_run._short_statuses(status) == {"the mask has another size than the photograph": 2}


def test_cifar10_needs_its_classes(cifar10):
    for part in ("train", "test"):
        for name in set(CIFAR10_CLASSES) - {"cat", "dog"}:
            shutil.rmtree(cifar10 / part / name)
    with pytest.raises(BenchmarkError, match=r"must be CIFAR-10's 10 classes, .*: airplane, .*; got 2: cat, dog$"):
        wg_experiment.bench(Experiment("tiny", "cifar10", str(cifar10)))


def test_images_of_another_size_than_cifar10s_are_unreadable(cifar10):
    order = np.random.default_rng([0, 1]).permutation(20)
    names = [f"{name}/{i}.png" for name in CIFAR10_CLASSES for i in range(2)]
    Image.new("RGB", (32, 30)).save(cifar10 / "train" / names[order[0]])
    Image.new("RGB", (16, 32)).save(cifar10 / "test/bird/0.png")
    experiment = Experiment("tiny", "cifar10", str(cifar10), n_baselines=2)
    ready = wg_experiment.bench(experiment)
    assert ready.references.shape == (2, 3, 32, 32)
    wrong = f"unreadable: train/{names[order[0]]}: 32 x 30 pixels instead of 32 x 32"
    assert ready.unreadable_references == (wrong,)
    status = wg_experiment.predictions(experiment, [4, 5])["status"]
    assert status[0] == "unreadable: test/bird/0.png: 16 x 32 pixels instead of 32 x 32"
    assert status[1] in ("used", "misclassified")


def test_references_of_different_shapes(cifar10):
    """As where a network resizes the shorter side and nothing is cropped."""
    order = np.random.default_rng([0, 1]).permutation(20)
    names = [f"train/{name}/{i}.png" for name in CIFAR10_CLASSES for i in range(2)]
    Image.new("RGB", (16, 32)).save(cifar10 / names[order[1]])
    experiment = Experiment("tiny", "cifar10", str(cifar10), n_baselines=2, resize=32)
    message = f"must have one size .*; {names[order[0]]} has 32 x 32 pixels, {names[order[1]]} 64 x 32: give --crop"
    with pytest.raises(BenchmarkError, match=message):
        wg_experiment.bench(experiment)
    assert len(wg_experiment.bench(Experiment("tiny", "cifar10", str(cifar10), resize=32, crop=32)).references) == 10
