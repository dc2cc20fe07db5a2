import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset
from torchvision import datasets

from benchmarks.data import datasets as data
from benchmarks.models import checkpoints as models
from benchmarks.run.errors import BenchmarkError, Unreadable


def test_digits_are_normalised_colour_images_of_a_fixed_split():
    digits, again = data.load("digits"), data.digits()
    assert len(digits.train) + len(digits.test) == 1797
    x = digits.train.tensors[0]
    assert x.shape[1:] == (3, 32, 32)
    assert x.dtype == torch.float32
    assert abs(x.mean().item()) < 1e-3
    assert abs(x.std().item() - 1) < 1e-3
    assert torch.equal(digits.test.tensors[0], again.test.tensors[0])
    assert torch.equal(digits.test.tensors[1].bincount(minlength=10) > 50, torch.ones(10, dtype=torch.bool))


def test_no_digit_is_in_both_parts():
    digits = data.digits()
    train, test = ({x.numpy().tobytes() for x in part.tensors[0]} for part in (digits.train, digits.test))
    assert not train & test


def test_pixels_undo_the_normalisation():
    digits = data.digits()
    pixels = digits.pixels(digits.test.tensors[0])
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_selection_holds_correctly_classified_images_and_repeats(tiny_model):
    x = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    y = tiny_model(x).argmax(1)
    y[::2] = (y[::2] + 1) % 10
    first, again, other = (data.select_correct(tiny_model, TensorDataset(x, y), 20, seed) for seed in (0, 0, 1))
    assert all(position % 2 for position in first.positions)
    assert torch.equal(tiny_model(first.x).argmax(1), first.y)
    assert torch.equal(first.x, x[list(first.positions)])
    assert first.positions == again.positions != other.positions
    assert len(set(first.positions)) == 20 <= first.tried


def test_a_larger_selection_begins_with_the_smaller_one(tiny_model):
    x = torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    test = TensorDataset(x, tiny_model(x).argmax(1))
    few, more = (data.select_correct(tiny_model, test, count, 0, batch_size=7).positions for count in (5, 30))
    assert more[:5] == few


def test_too_few_correct_images(tiny_model):
    x = torch.randn(10, 3, 32, 32)
    wrong = TensorDataset(x, (tiny_model(x).argmax(1) + 1) % 10)
    with pytest.raises(BenchmarkError, match="only 0 of 10 right; ask for fewer"):
        data.select_correct(tiny_model, wrong, 1, 0)


def test_references_are_distinct_training_images():
    digits = data.digits()
    references = data.sample_references(digits.train, 10, 0)
    train = {x.numpy().tobytes() for x in digits.train.tensors[0]}
    assert references.shape == (10, 3, 32, 32)
    assert all(r.numpy().tobytes() in train for r in references)
    assert torch.equal(references, data.sample_references(digits.train, 10, 0))
    assert not torch.equal(references, data.sample_references(digits.train, 10, 1))


@pytest.mark.parametrize("count", [0, 1199])
def test_impossible_number_of_references(count):
    with pytest.raises(BenchmarkError, match="--baselines must lie between 1 and 1198"):
        data.sample_references(data.digits().train, count, 0)


def write_image_folder(root, suffix="png", classes=("cat", "dog")):
    generator = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in classes:
            folder = root / part / name
            folder.mkdir(parents=True)
            for i in range(2):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.{suffix}")


@pytest.mark.parametrize(("suffix", "name"), [("jpg", "CIFAR-10 (JPEG)"), ("png", "CIFAR-10 (PNG)")])
def test_image_folder_says_what_it_is(tmp_path, suffix, name):
    write_image_folder(tmp_path, suffix)
    images = data.load("cifar10", tmp_path)
    x, y = images.test[3]
    assert (images.name, images.classes, len(images.train)) == (name, 2, 4)
    assert x.shape == (3, 32, 32)
    assert y == 1
    saved = np.asarray(Image.open(tmp_path / "test" / "dog" / f"1.{suffix}"), dtype=np.float32) / 255
    np.testing.assert_allclose(images.pixels(x).permute(1, 2, 0), saved, atol=1e-6)


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_unreadable_images_are_passed_over_and_named(tmp_path):
    write_image_folder(tmp_path)
    damage(tmp_path / "test/cat/0.png")
    (tmp_path / "test/dog/1.png").write_text("no image")
    Image.new("RGB", (16, 32)).save(tmp_path / "test/dog/0.png")
    images = data.cifar10(tmp_path)
    found = data.readable(images.test, range(4))
    assert found.positions == (1,) and torch.equal(found.x[0], images.test[1][0]) and found.y.tolist() == [0]
    assert [message.partition(":")[0] for message in found.unreadable.values()] == [
        "test/cat/0.png",
        "test/dog/0.png",
        "test/dog/1.png",
    ]
    assert found.unreadable[2].endswith(": 16 x 32 pixels instead of 32 x 32")
    with pytest.raises(Unreadable, match=r"test/cat/0\.png: .*truncated"):
        data.stack(images.test, [1, 0])

    def always_cat(x):
        return torch.eye(2)[[0]].expand(len(x), 2)

    seed = next(seed for seed in range(20) if data.order(images.test, seed)[3] == 1)
    selection = data.select_correct(always_cat, images.test, 1, seed, batch_size=2)
    assert selection.positions == (1,) and selection.tried == 4 and set(selection.unreadable) == {0, 2, 3}
    with pytest.raises(BenchmarkError, match=r"only 1 of 4 right \(3 of them are unreadable\); ask for fewer"):
        data.select_correct(always_cat, images.test, 2, seed)
    assert models.accuracy(always_cat, images.test) == 1


def test_a_selection_names_what_it_looked_at_alone(tmp_path):
    """However many images share a forward."""
    write_image_folder(tmp_path)
    damage(tmp_path / "test/dog/1.png")
    test = data.cifar10(tmp_path).test
    seed = next(seed for seed in range(20) if data.order(test, seed)[3] == 3 and data.order(test, seed)[0] < 2)
    selection = data.select_correct(lambda x: torch.eye(2)[[0]].expand(len(x), 2), test, 1, seed)
    assert selection.tried == 1 and selection.unreadable == {}


def test_unreadable_references_give_way_to_the_next(tmp_path, capsys):
    write_image_folder(tmp_path)
    train = data.cifar10(tmp_path).train
    whole = data.sample_references(train, 4, 0)
    first = int(np.random.default_rng([0, 1]).permutation(4)[0])
    damage(tmp_path / "train" / ("cat", "dog")[first // 2] / f"{first % 2}.png")
    found = data.readable_references(train, 3, 0)
    assert torch.equal(found.x, whole[1:]) and list(found.unreadable) == [first]
    capsys.readouterr()
    assert torch.equal(found.x, data.sample_references(train, 3, 0))
    assert capsys.readouterr().err.startswith(f"skipped, unreadable: {found.unreadable[first].partition(':')[0]}: ")
    with pytest.raises(BenchmarkError, match="--baselines 4: only 3 of the 4 training images can be read; the first"):
        data.sample_references(train, 4, 0)


def test_of_many_unreadable_images_the_first_are_named(capsys):
    data.tell_unreadable([f"{i}.png: no image" for i in range(12)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "skipped, unreadable: 0.png: no image" and len(lines) == data.NAMED + 1
    assert lines[-1] == "skipped, unreadable: 12 images in all"


def test_image_folders_of_different_classes(tmp_path):
    write_image_folder(tmp_path)
    (tmp_path / "test" / "cat").rename(tmp_path / "test" / "bird")
    with pytest.raises(BenchmarkError, match="different classes"):
        data.load("cifar10", tmp_path)


def test_empty_image_folder(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
    with pytest.raises(BenchmarkError, match="is no ImageFolder"):
        data.load("cifar10", tmp_path)


def test_cifar10_without_a_network(tmp_path, monkeypatch):
    def no_network(self):
        raise OSError("no route to host")

    monkeypatch.setattr(datasets.CIFAR10, "download", no_network)
    with pytest.raises(BenchmarkError, match=r"could not be downloaded: no route to host.*--data digits"):
        data.load("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "root", "message"),
    [
        ("cifar10", None, "needs --root"),
        ("cifar10", "/no/such/folder", "/no/such/folder is not a folder"),
        ("cifar100", None, "unknown data 'cifar100'; known are digits, cifar10"),
    ],
)
def test_bad_data_arguments(name, root, message):
    with pytest.raises(BenchmarkError, match=message):
        data.load(name, root)
