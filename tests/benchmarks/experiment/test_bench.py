import dataclasses
import errno
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.data import datasets
from benchmarks.data.cifar10 import CIFAR10, CIFAR10_CLASSES
from benchmarks.data.preparation import Preparation
from benchmarks.data.selection import sample_references
from benchmarks.experiment import bench as module
from benchmarks.experiment import plan
from benchmarks.experiment.bench import bench, forget
from benchmarks.experiment.cells import predictions
from benchmarks.experiment.results import REFERENCE, Chosen, Selection
from benchmarks.experiment.settings import BASELINES, Experiment
from benchmarks.models.checkpoints import checksum, resnet18_32
from benchmarks.models.networks import Network
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.runner import Runner
from benchmarks.run.store import open_store

# The network of `data`.
MODEL = "shufflenet_v2_x0_5"


def of(data, **changes):
    settings = dict(baselines="uniform", n_baselines=2, resize=36, crop=32)
    places = dict(root=str(data), labels=str(data / "labels.csv"), weights=str(data / "tiny.pt"))
    return Experiment(model=MODEL, data="imagenet", **(places | settings | changes))


@pytest.fixture(autouse=True)
def anew():
    yield
    forget()


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
        preparation = Preparation(resize, crop, "bilinear", CIFAR10.mean, CIFAR10.std)
        return Network(name, tiny_model, preparation, 10)

    monkeypatch.setattr(module, "load_network", load)
    return tmp_path


def of_cifar10(root, **changes):
    return Experiment(model="tiny", data="cifar10", root=str(root), **changes)


@pytest.mark.parametrize("kind", BASELINES)
def test_baselines_of_every_kind(kind, data):
    ready = bench(of(data, baselines=kind, n_baselines=4))
    x = ready.network.preparation.image(ready.pictures.read(0)[0])[None]
    found = ready.baselines(x) if callable(ready.baselines) else ready.baselines
    found = found[0] if found.ndim == 5 else found
    assert found.shape == (4, 3, 32, 32)
    assert len(torch.unique(found.flatten(1), dim=0)) == 4
    if kind == "published":
        pixels = ready.network.preparation.pixels(found)
        assert (pixels[0] - 1).abs().max() < 1e-5 and pixels[1].abs().max() < 1e-5
        assert 0.4 < pixels[2:].mean() < 0.6


def test_the_checksum_of_masks_is_of_the_subfolders_too(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = []
    for content in (b"1", b"2"):
        (tmp_path / "a/mask.png").write_bytes(content)
        found += [module._of_files(tmp_path)] * 2
        assert found[-1] == module._of_files(tmp_path)
    (tmp_path / "a/mask.png").rename(tmp_path / "b/mask.png")
    found.append(module._of_files(tmp_path))
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "error, message",
    [
        (OSError(errno.EIO, "Input/output error"), r"can.t read or write a file .OSError: .*Input/output error: .*png"),
        (PermissionError(errno.EACCES, "Permission denied"), r"Permission denied: .*\.png"),
        (MemoryError(), "too little memory .*with fewer --jobs the same command goes on"),
    ],
)
def test_what_is_no_fault_of_a_photograph_ends_the_run_and_is_not_stored(error, message, data, tmp_path, monkeypatch):
    experiment = of(data)
    store = open_store(tmp_path, bench(experiment).described)
    with Runner(progress=False) as runner:
        chosen = plan.select(experiment, store, runner, 1).images[0]
        before = store.keys("predictions")

        def fail(path):
            raise error

        other = of(data, levels=9)  # nothing of it is in memory
        elsewhere = open_store(tmp_path / "other", {})
        ready = bench(other)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", fail)
            with pytest.raises(BenchmarkError, match=message):
                predictions(other, ready.order()[:3])
            with pytest.raises(BenchmarkError, match=message):
                ready.input(chosen)
            with pytest.raises(BenchmarkError, match=message):
                bench(of(data, baselines="references"))
        assert before and elsewhere.keys("predictions") == []
        assert plan.select(other, elsewhere, runner, 1).images == (chosen,)


def test_a_mask_that_can_not_be_read_now_ends_the_run(data, monkeypatch):
    ready = bench(of(data, masks=str(data / "masks")))
    real = Path.read_bytes

    def fail(path):
        if path.parent.name == "masks":
            raise OSError(errno.EIO, "Input/output error")
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(BenchmarkError, match=r"can.t read or write a file .*masks/00\.png"):
        predictions(ready.experiment, [0])
    with pytest.raises(BenchmarkError, match=r"can.t read or write a file .*masks/00\.png"):
        ready.mask(Chosen(0, "00.png", 0, 0))


def test_a_photograph_that_is_a_reference_is_not_explained(data, tmp_path):
    """Though it lies elsewhere under another name; also a copy of one that is drawn from the data themselves."""
    for i, name in enumerate(("00.png", "01.png")):
        shutil.copy(data / name, tmp_path / f"reference{i}.png")
    apart = of(data, baselines="references", references=str(tmp_path))
    table = predictions(apart, range(4))
    assert table["status"].tolist() == [REFERENCE] * 2 + ["used", "misclassified"]
    assert table["crc"].all() and predictions(of(data), [0, 1])["status"].tolist() == ["used"] * 2

    root = tmp_path / "data"
    shutil.copytree(data, root)
    first = np.random.default_rng([0, 1]).permutation(14)[0]
    copy = next(i for i in np.random.default_rng([0, 1]).permutation(14)[::-1] if i not in (3, 5))
    shutil.copy(root / f"{first:02d}.png", root / f"{copy:02d}.png")
    assert predictions(of(root, baselines="references"), [copy])["status"].item() == "a reference image"


def test_a_missing_folder_of_references_is_named_by_its_option(data, tmp_path):
    with pytest.raises(BenchmarkError, match=r"^--references .*none is not a folder"):
        bench(of(data, baselines="references", references=str(tmp_path / "none")))


def test_masks_of_other_sizes_share_a_reason(data, tmp_path):
    for i in range(2):
        Image.new("L", (10 + i, 12), 255).save(tmp_path / f"{i:02d}.png")
    status = predictions(of(data, masks=str(tmp_path)), [0, 1])["status"]
    assert status[1] == "the mask has another size than the photograph: 12 x 11 instead of 40 x 48"
    assert Selection.of((), status).statuses == {"the mask has another size than the photograph": 2}


def test_an_image_that_changed_since_it_was_chosen(data):
    ready = bench(of(data))
    with pytest.raises(BenchmarkError, match=r"00\.png has changed since it was chosen"):
        ready.input(Chosen(0, "00.png", 123, 0))


def test_cifar10_needs_its_classes(cifar10):
    for part in ("train", "test"):
        for name in set(CIFAR10_CLASSES) - {"cat", "dog"}:
            shutil.rmtree(cifar10 / part / name)
    with pytest.raises(BenchmarkError, match=r"must be CIFAR-10's 10 classes, .*: airplane, .*; got 2: cat, dog$"):
        bench(of_cifar10(cifar10))


def test_images_of_another_size_than_cifar10s_are_unreadable(cifar10):
    order = np.random.default_rng([0, 1]).permutation(20)
    names = [f"{name}/{i}.png" for name in CIFAR10_CLASSES for i in range(2)]
    Image.new("RGB", (32, 30)).save(cifar10 / "train" / names[order[0]])
    Image.new("RGB", (16, 32)).save(cifar10 / "test/bird/0.png")
    experiment = of_cifar10(cifar10, n_baselines=2)
    ready = bench(experiment)
    assert ready.references.inputs.shape == (2, 3, 32, 32)
    wrong = f"unreadable: train/{names[order[0]]}: 32 x 30 pixels instead of 32 x 32"
    assert ready.references.unreadable == (wrong,)
    status = predictions(experiment, [4, 5])["status"]
    assert status[0] == "unreadable: test/bird/0.png: 16 x 32 pixels instead of 32 x 32"
    assert status[1] in ("used", "misclassified")


def test_references_of_different_shapes(cifar10):
    """As where a network resizes the shorter side and nothing is cropped."""
    order = np.random.default_rng([0, 1]).permutation(20)
    names = [f"train/{name}/{i}.png" for name in CIFAR10_CLASSES for i in range(2)]
    Image.new("RGB", (16, 32)).save(cifar10 / names[order[1]])
    first, second = (names[i] for i in order[:2])
    message = f"must have one size .*; {first} has 32 x 32 pixels, {second} has 64 x 32 pixels: give --crop"
    with pytest.raises(BenchmarkError, match=message):
        bench(of_cifar10(cifar10, n_baselines=2, resize=32))
    assert len(bench(of_cifar10(cifar10, resize=32, crop=32)).references.inputs) == 10


def test_the_local_radius_is_a_tenth_of_the_median_distance_to_the_first_images(cifar10):
    ready = bench(of_cifar10(cifar10, n_baselines=3, seed=5))
    x = torch.stack([ready.network.preparation.image(ready.pictures.read(i)[0]) for i in ready.order()])
    distances = torch.cdist(x.flatten(1), ready.references.inputs.flatten(1))
    assert ready.radius == pytest.approx(0.1 * distances.median().item(), rel=6e-3)
    assert bench(of_cifar10(cifar10, radius=float("inf"))).radius == float("inf")


def network_of(path, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        torch.save(resnet18_32().state_dict(), path)
    return str(path)


def test_the_digits_are_those_that_the_network_was_trained_on(tmp_path):
    weights = network_of(tmp_path / "m.pt", 0)
    experiment = Experiment(model="resnet18_digits", data="digits", weights=weights, n_baselines=3)
    ready = bench(experiment)
    train, test = datasets.load("digits")
    for i in (0, 7, 598):
        x, y = test[i]
        assert torch.equal(ready.network.preparation.image(ready.pictures.read(i)[0]), x)
        assert ready.pictures.labels[i] == y
    assert torch.equal(ready.references.inputs, sample_references(train, 3, 0))


def test_a_network_that_changed_under_its_name_is_loaded_anew_or_refused(data, tmp_path):
    """A process lives on between commands, as a worker of a cluster does."""
    state = torch.load(data / "tiny.pt", weights_only=True)
    path = tmp_path / "m.pt"
    torch.save(state, path)
    experiment = of(data, weights=str(path))
    before = experiment.known(bench(experiment).described)
    first = checksum(bench(before).network.model)
    assert bench(before) is bench(before)
    state["fc.bias"] += 1
    torch.save(state, path)
    forget()
    after = experiment.known(bench(experiment).described)
    assert after != before
    assert checksum(bench(after).network.model) != first
    with pytest.raises(BenchmarkError, match="a worker does not have what the command has: weights: "):
        bench(before)
    # It was the file of before again, which this process has not seen yet.
    state["fc.bias"] -= 1
    torch.save(torch.load(data / "tiny.pt", weights_only=True), path)
    assert checksum(bench(before).network.model) == first


@pytest.mark.parametrize(
    "changed, name",
    [
        (lambda made: {"versions": {**made["versions"], "source": "newer"}}, r"versions\.source"),
        (lambda made: {"weights": "others"}, "weights"),
        (lambda made: {"references": "others"}, "references"),
        (lambda made: {"photographs": "others"}, "photographs"),
    ],
)
def test_a_worker_of_other_code_data_or_weights_is_refused(changed, name, data):
    experiment = of(data, baselines="references")
    made = bench(experiment).described
    assert bench(experiment.known(made)).experiment == experiment
    with pytest.raises(BenchmarkError, match=f"a worker does not have what the command has: {name}: "):
        bench(experiment.known({**made, **changed(made)}))


def test_the_settings_tell_experiments_apart_but_not_where_things_are(data, tmp_path):
    made = bench(of(data)).described
    assert {"photographs", "weights", "versions", "preparation", "device", "together", "seed"} <= set(made)
    assert not {"root", "labels", "made_of", "code"} & set(made)
    shutil.copytree(data, tmp_path / "copy")
    assert bench(of(tmp_path / "copy")).described == made
    assert bench(of(data, levels=5)).described != made


def test_references_of_other_content_are_other_settings(data, tmp_path):
    """Files of the same name and size."""
    found = []
    for value in (10, 200):
        for i in range(3):
            Image.new("RGB", (40, 40), (value, 40 * i, 0)).save(tmp_path / f"{i}.bmp")
        forget()
        described = bench(of(data, baselines="references", references=str(tmp_path))).described
        found.append(dict(described))
    assert found[0].pop("references") != found[1].pop("references") and found[0] == found[1]


def test_images_in_the_order_of_the_seed_without_the_references(data):
    ready = bench(of(data, baselines="references", n_baselines=3))
    places = np.random.default_rng(0).permutation(14).tolist()
    own = set(np.random.default_rng([0, 1]).permutation(14)[:3].tolist())
    drawn = set(ready.references.positions)
    assert len(drawn) == 3 and (own == drawn or 5 in own)
    assert ready.order() == [place for place in places if place not in drawn]


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(baselines="published", n_baselines=2), "at least 3 are needed, got 2"),
        (dict(baselines="references", n_baselines=50), "there are only 13 readable reference images"),
        (dict(device="nonsense"), "--device nonsense can't be used here"),
        (dict(root="nowhere"), "is not a folder"),
    ],
)
def test_things_that_can_not_be_made_ready(changes, message, data):
    with pytest.raises(BenchmarkError, match=message):
        bench(dataclasses.replace(of(data), **changes))
