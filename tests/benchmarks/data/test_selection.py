import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from benchmarks.data import selection
from benchmarks.data.datasets import load
from benchmarks.models.training import accuracy
from benchmarks.run.errors import BenchmarkError, Unreadable


def test_selection_holds_correctly_classified_images_and_repeats(tiny_model):
    x = torch.randn(200, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    y = tiny_model(x).argmax(1)
    y[::2] = (y[::2] + 1) % 10
    first, again, other = (selection.select_correct(tiny_model, TensorDataset(x, y), 20, seed) for seed in (0, 0, 1))
    assert all(position % 2 for position in first.positions)
    assert torch.equal(tiny_model(first.x).argmax(1), first.y)
    assert torch.equal(first.x, x[list(first.positions)])
    assert first.positions == again.positions != other.positions
    assert len(set(first.positions)) == 20 and first.unreadable == {}


def test_a_larger_selection_begins_with_the_smaller_one(tiny_model):
    x = torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    test = TensorDataset(x, tiny_model(x).argmax(1))
    few, more = (selection.select_correct(tiny_model, test, count, 0, batch_size=7).positions for count in (5, 30))
    assert more[:5] == few


def test_too_few_correct_images(tiny_model):
    x = torch.randn(10, 3, 32, 32)
    wrong = TensorDataset(x, (tiny_model(x).argmax(1) + 1) % 10)
    with pytest.raises(BenchmarkError, match="only 0 of 10 right; ask for fewer"):
        selection.select_correct(tiny_model, wrong, 1, 0)


def test_references_are_distinct_training_images():
    train = TensorDataset(torch.arange(40.0).view(40, 1, 1, 1).expand(-1, 3, 2, 2), torch.zeros(40))
    references = selection.sample_references(train, 10, 0)
    assert references.shape == (10, 3, 2, 2)
    assert len(references[:, 0, 0, 0].unique()) == 10
    assert torch.equal(references, selection.sample_references(train, 10, 0))
    assert not torch.equal(references, selection.sample_references(train, 10, 1))


@pytest.mark.parametrize("count", [0, 1199])
def test_impossible_number_of_references(count):
    with pytest.raises(BenchmarkError, match="--baselines must lie between 1 and 1198"):
        selection.sample_references(load("digits")[0], count, 0)


def damage(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_unreadable_images_are_passed_over_and_named(image_folder, tmp_path):
    image_folder(tmp_path)
    damage(tmp_path / "test/cat/0.png")
    (tmp_path / "test/dog/1.png").write_text("no image")
    Image.new("RGB", (16, 32)).save(tmp_path / "test/dog/0.png")
    test = load("cifar10", tmp_path)[1]
    found = selection.readable(test, range(4))
    assert found.positions == (1,) and torch.equal(found.x[0], test[1][0]) and found.y.tolist() == [0]
    assert [message.partition(":")[0] for message in found.unreadable.values()] == [
        "test/cat/0.png",
        "test/dog/0.png",
        "test/dog/1.png",
    ]
    assert found.unreadable[2].endswith(": 16 x 32 pixels instead of 32 x 32")
    with pytest.raises(Unreadable, match=r"test/cat/0\.png: .*truncated"):
        selection.stack(test, [1, 0])

    def always_cat(x):
        return torch.eye(2)[[0]].expand(len(x), 2)

    seed = next(seed for seed in range(20) if selection.order(test, seed)[3] == 1)
    found = selection.select_correct(always_cat, test, 1, seed, batch_size=2)
    assert found.positions == (1,) and set(found.unreadable) == {0, 2, 3}
    with pytest.raises(BenchmarkError, match=r"only 1 of 4 right \(3 of them are unreadable\); ask for fewer"):
        selection.select_correct(always_cat, test, 2, seed)
    assert accuracy(always_cat, test) == 1


def test_a_selection_names_what_it_looked_at_alone(image_folder, tmp_path):
    """However many images share a forward."""
    image_folder(tmp_path)
    damage(tmp_path / "test/dog/1.png")
    test = load("cifar10", tmp_path)[1]
    orders = [selection.order(test, seed).tolist() for seed in range(20)]
    seed = next(seed for seed, places in enumerate(orders) if places[3] == 3 and places[0] < 2)
    found = selection.select_correct(lambda x: torch.eye(2)[[0]].expand(len(x), 2), test, 1, seed)
    assert found.positions == (orders[seed][0],) and found.unreadable == {}


def test_unreadable_references_give_way_to_the_next(image_folder, tmp_path, capsys):
    image_folder(tmp_path)
    train = load("cifar10", tmp_path)[0]
    whole = selection.sample_references(train, 4, 0)
    first = int(np.random.default_rng([0, 1]).permutation(4)[0])
    damage(tmp_path / "train" / ("cat", "dog")[first // 2] / f"{first % 2}.png")
    assert torch.equal(selection.sample_references(train, 3, 0), whole[1:])
    assert capsys.readouterr().err.startswith(f"skipped, unreadable: {train.pictures.names[first]}: ")
    with pytest.raises(BenchmarkError, match="--baselines 4: only 3 of the 4 training images can be read; the first"):
        selection.sample_references(train, 4, 0)


def test_of_many_unreadable_images_the_first_are_named(capsys):
    selection.tell_unreadable([f"{i}.png: no image" for i in range(12)])
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "skipped, unreadable: 0.png: no image" and len(lines) == selection.NAMED + 1
    assert lines[-1] == "skipped, unreadable: 12 images in all"


def test_a_disk_that_fails_is_no_unreadable_image(image_folder, tmp_path, monkeypatch):
    test = load("cifar10", image_folder(tmp_path))[1]

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(BenchmarkError, match="can't read or write a file"):
        selection.readable(test, range(4))
