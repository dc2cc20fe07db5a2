import errno
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.datasets import CIFAR10_CLASSES
from benchmarks.data.pictures import MaskFolder, Unreadable, all_files, cifar10_pictures, class_folders, labelled_files
from benchmarks.run.errors import BenchmarkError


def save(path, value=0, size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, 0, 255)).save(path)


@pytest.fixture
def files(tmp_path):
    for i, name in enumerate(("b.png", "a.png", "sub/c.jpg")):
        save(tmp_path / name, i)
    return tmp_path


def csv(folder, *rows, header="file,class_index"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_class_numbers_follow_the_sorted_folders(tmp_path):
    for name in ("zebra/1.png", "ant/2.png", "ant/1.png"):
        save(tmp_path / name)
    found = class_folders(tmp_path, "folder", classes=2)
    assert found.names == ("ant/1.png", "ant/2.png", "zebra/1.png")
    assert found.labels == (0, 0, 1)


def test_files_and_their_labels_stay_together(files):
    found = labelled_files(files, csv(files, "b.png,3", "sub/c.jpg,0"), "files", classes=4)
    assert found.names == ("b.png", "sub/c.jpg")
    assert found.labels == (3, 0)
    assert found.read(0)[0].size == (8, 6)


@pytest.mark.parametrize(
    "rows, header, message",
    [
        (["b.png,4"], "file,class_index", "line 2: class_index must be a whole number from 0 to 3"),
        (["b.png,1", "a.png,-1"], "file,class_index", "line 3: class_index must be .*got '-1'"),
        (["b.png,x"], "file,class_index", "got 'x'"),
        (["b.png,1"], "name,class_index", "lacks the column file; it has name, class_index"),
        (["b.png,1", "b.png,2"], "file,class_index", "line 3: b.png is named twice"),
        ([], "file,class_index", "has no rows"),
        (["1,b.png", "3"], "class_index,file", "line 3: file must name an image below .*; got none"),
        ([",1"], "file,class_index", "line 2: file must name an image below .*; got none"),
    ],
)
def test_labels_that_do_not_fit(files, rows, header, message):
    with pytest.raises(BenchmarkError, match=message):
        labelled_files(files, csv(files, *rows, header=header), "files", classes=4)


def test_labels_in_another_encoding(files):
    (files / "labels.csv").write_bytes("file,class_index\nk\xe4fer.png,1\n".encode("latin-1"))
    with pytest.raises(BenchmarkError, match=r"--labels .*labels\.csv must be a csv in UTF-8 .*Save it as UTF-8"):
        labelled_files(files, files / "labels.csv", "files", classes=4)


def test_a_missing_folder_is_named_by_its_option(tmp_path):
    with pytest.raises(BenchmarkError, match=r"^--references .*none is not a folder"):
        all_files(tmp_path / "none", "x", "--references")
    with pytest.raises(BenchmarkError, match=r"^--references .* holds no images"):
        all_files(tmp_path, "x", "--references")


def test_missing_places(tmp_path):
    with pytest.raises(BenchmarkError, match=r"--labels .* does not exist"):
        labelled_files(tmp_path, tmp_path / "none.csv", "files", 4)
    for make in (lambda f: class_folders(f, "x"), lambda f: all_files(f, "x")):
        with pytest.raises(BenchmarkError, match=r"--root .* is not a folder"):
            make(tmp_path / "none")
    with pytest.raises(BenchmarkError, match="has no class folders"):
        class_folders(tmp_path, "x")
    with pytest.raises(BenchmarkError, match="holds no images"):
        all_files(tmp_path, "x")


def test_another_number_of_class_folders_than_classes(tmp_path):
    save(tmp_path / "a/1.png")
    with pytest.raises(BenchmarkError, match="has 1 class folders, but the model has 1000 classes"):
        class_folders(tmp_path, "x", 1000)


def test_damaged_files_are_unreadable(files):
    content = (files / "sub/c.jpg").read_bytes()
    (files / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (files / "words.png").write_text("no image")
    found = labelled_files(
        files, csv(files, "truncated.jpg,0", "words.png,0", "gone.png,0", "a.png,0"), "files", classes=4
    )
    for i, name in enumerate(("truncated.jpg", "words.png", "gone.png")):
        with pytest.raises(Unreadable, match=re.escape(name)):
            found.read(i)
    found.read(3)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "Input/output error"),
        OSError(errno.EMFILE, "Too many open files"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError(),
    ],
)
def test_what_is_no_fault_of_a_file_is_raised_as_it_is(files, monkeypatch, error):
    """Also of a mask, and while a file is decoded; an error of the system names the file."""
    found = all_files(files, "files")
    masks = MaskFolder(files, found)

    def fail(*arguments):
        raise error

    for place, name in ((Path, "read_bytes"), (Image, "open")):
        with monkeypatch.context() as patch:
            patch.setattr(place, name, fail)
            for read in (lambda: found.read(0), lambda: masks.mask(0, 0)):
                with pytest.raises(type(error)) as raised:
                    read()
                assert raised.value is error
    assert isinstance(error, MemoryError) or "a.png" in str(error)


def test_folders_named_like_images_are_none(files):
    (files / "d.png").mkdir()
    assert all_files(files, "files").names == ("a.png", "b.png", "sub/c.jpg")
    with pytest.raises(IsADirectoryError):
        labelled_files(files, csv(files, "d.png,0"), "files", classes=4).read(0)


def test_the_checksum_sees_names_sizes_and_labels(files):
    def checksum(*rows):
        return labelled_files(files, csv(files, *rows), "files", classes=4).checksum()

    first = checksum("a.png,0", "b.png,1")
    assert first == checksum("a.png,0", "b.png,1")
    assert len({first, checksum("a.png,0", "b.png,2"), checksum("a.png,0")}) == 3
    save(files / "b.png", size=(64, 64))
    assert checksum("a.png,0", "b.png,1") != first


def test_a_changed_file_has_another_crc(files):
    found = all_files(files, "files")
    before = found.read(0)[1]
    save(files / "a.png", 99)
    assert found.read(0)[1] != before


def test_cifar10_as_folders(tmp_path):
    for part, count in (("train", 3), ("test", 2)):
        for label in ("airplane", "bird"):
            for i in range(count):
                save(tmp_path / part / label / f"{i}.jpg", i, size=(32, 32))
    train, test = cifar10_pictures(tmp_path)
    assert (len(train), len(test), test.name) == (6, 4, "CIFAR-10 (JPEG)")
    assert test.names[2] == "test/bird/0.jpg" and test.labels == (0, 0, 1, 1)


def test_cifar10_with_all_its_classes(tmp_path):
    for part in ("train", "test"):
        for label in CIFAR10_CLASSES:
            save(tmp_path / part / label / "0.png", size=(32, 32))
    assert cifar10_pictures(tmp_path, all_classes=True)[1].labels == tuple(range(10))
    for part in ("train", "test"):
        (tmp_path / part / "airplane/0.png").unlink()
        (tmp_path / part / "airplane").rmdir()
    with pytest.raises(BenchmarkError, match="got 9: automobile, "):
        cifar10_pictures(tmp_path, all_classes=True)


@pytest.mark.parametrize("mode", ["1", "L", "I", "I;16", "F", "P", "LA", "RGB", "RGBA"])
def test_a_mask_of_any_mode_is_nonzero_on_the_object(mode, tmp_path):
    """By the smallest values, and the darkest colours, that are nonzero."""
    save(tmp_path / "images/a.jpg")
    on = np.zeros((6, 8), bool)
    on[2:4, 3:] = True
    if mode == "P":
        mask = Image.fromarray(on.astype(np.uint8))
        mask.putpalette([0, 0, 0, 0, 0, 0])  # colours that are still to be filled in: the indices count
    elif mode in ("LA", "RGBA"):
        values = np.zeros((6, 8, len(mode)), np.uint8)
        values[on, -2:] = 1
        values[0, :, 0] = 255  # transparent, whatever its colour
        values[5, :, -1] = 255  # opaque and black
        mask = Image.fromarray(values, mode)
    elif mode == "RGB":
        values = np.zeros((6, 8, 3), np.uint8)
        values[on, 0] = 1
        mask = Image.fromarray(values, mode)
    else:
        kinds = {"1": bool, "L": np.uint8, "I": np.int32, "I;16": np.uint16, "F": np.float32}
        mask = Image.fromarray(on.astype(kinds[mode]) * kinds[mode](0.25 if mode == "F" else 1))
    assert mask.mode == mode
    # What Pillow reads depends on the contents alone.
    mask.save(tmp_path / "a.png", "TIFF" if mode in ("I", "F") else "PNG")
    with Image.open(tmp_path / "a.png") as saved:
        assert saved.mode == mode
    found, reason = MaskFolder(tmp_path, all_files(tmp_path / "images", "files")).mask(0, 0)
    assert reason == "" and found.dtype == bool and np.array_equal(found, on)


def test_a_palette_that_begins_with_white_is_read_by_its_colours(tmp_path):
    save(tmp_path / "images/a.jpg")
    files = all_files(tmp_path / "images", "files")
    for share in (2, 4):  # of five rows: white is the rarer or the commoner colour
        grey = np.zeros((5, 8), np.uint8)
        grey[:share] = 255
        # Pillow itself decides which of the two is index 0.
        mask = Image.fromarray(grey).convert("RGB").quantize(2)
        mask.save(tmp_path / "a.png")
        assert np.array_equal(MaskFolder(tmp_path, files).mask(0, 0)[0], grey > 0)
        mask = Image.fromarray((grey == 0).astype(np.uint8))
        mask.putpalette([255, 255, 255, 0, 0, 0])
        mask.save(tmp_path / "a.png")
        assert np.array_equal(MaskFolder(tmp_path, files).mask(0, 0)[0], grey > 0)
    mask.putpalette([255, 255, 255, 255, 0, 0])
    mask.save(tmp_path / "a.png")
    found, reason = MaskFolder(tmp_path, files).mask(0, 0)
    assert found is None and "index 0 of its palette is not black" in reason


def test_masks_by_folder(files):
    found = all_files(files, "files")
    folder = files / "masks"
    (folder / "sub").mkdir(parents=True)
    mask = np.zeros((6, 8), np.uint8)
    mask[2:4, 3:] = 7
    Image.fromarray(mask).save(folder / "sub/c.png")
    (folder / "a.png").write_text("no image")
    masks = MaskFolder(folder, found)
    by_name = {name: masks.mask(i, 0) for i, name in enumerate(found.names)}
    assert np.array_equal(by_name["sub/c.jpg"][0], mask > 0)
    assert by_name["b.png"] == (None, "no mask")
    assert by_name["a.png"][0] is None and by_name["a.png"][1].startswith("the mask is unreadable: ")
    with pytest.raises(BenchmarkError, match=r"--masks .* is not a folder"):
        MaskFolder(files / "none", found)
