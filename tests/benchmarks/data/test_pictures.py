import errno
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.data.folders import all_files, labelled_files
from benchmarks.data.masks import MaskFolder
from benchmarks.run.errors import Unreadable


def csv(folder, *rows, header="file,class_index"):
    path = folder / "labels.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


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


def test_the_checksum_sees_names_sizes_and_labels(files):
    def checksum(*rows):
        return labelled_files(files, csv(files, *rows), "files", classes=4).checksum()

    first = checksum("a.png,0", "b.png,1")
    assert first == checksum("a.png,0", "b.png,1")
    assert len({first, checksum("a.png,0", "b.png,2"), checksum("a.png,0")}) == 3
    Image.new("RGB", (64, 64)).save(files / "b.png")
    assert checksum("a.png,0", "b.png,1") != first


def test_a_changed_file_has_another_crc(files):
    found = all_files(files, "files")
    before = found.read(0)[1]
    Image.new("RGB", (8, 6), (99, 0, 255)).save(files / "a.png")
    assert found.read(0)[1] != before


@pytest.fixture
def saved(tmp_path):
    """A function that saves an image and reads it as the commands do: its pixels (H, W, 3)."""

    def read(image, name="a.png", **options):
        image.save(tmp_path / name, **options)
        with Image.open(tmp_path / name) as again:
            kept = again.mode
        return np.asarray(all_files(tmp_path, "files").read(0)[0]), kept

    return read


RAMP = np.linspace(0, 1, 48).reshape(6, 8)


def test_16_bit_grey_is_scaled(saved):
    """By Pillow's own conversion nearly all of it would be white."""
    found, mode = saved(Image.fromarray((RAMP * 65535).round().astype(np.uint16)))
    assert mode == "I;16" and found.shape == (6, 8, 3)
    assert np.abs(found / 255 - RAMP[..., None]).max() <= 0.5 / 255 + 1e-5


def test_floats_in_the_unit_interval_are_scaled(saved):
    """By Pillow's own conversion they would be black."""
    found, mode = saved(Image.fromarray(RAMP.astype(np.float32)), "a.tiff")
    assert mode == "F"
    assert np.abs(found / 255 - RAMP[..., None]).max() <= 0.5 / 255 + 1e-5


@pytest.mark.parametrize(
    "values, message",
    [
        (np.full((6, 8), 200, np.float32), r"a float image must have values in \[0, 1\]; these lie in \[200, 200\]"),
        (np.full((6, 8), np.nan, np.float32), "a float image must have values in"),
        (np.full((6, 8), 200, np.int32), "32-bit integers, of which no value is known to be white"),
    ],
)
def test_values_without_a_known_white_are_refused(saved, values, message):
    with pytest.raises(Unreadable, match=rf"a\.tiff: {message}"):
        saved(Image.fromarray(values), "a.tiff")


def transparent(mode):
    """Red on the left, on the right black or grey that is fully transparent."""
    values = np.zeros((6, 8, 4), np.uint8)
    values[:, :4] = (255, 0, 0, 255)
    image = Image.fromarray(values)
    if mode == "P":
        image = Image.fromarray((values[..., 0] == 0).astype(np.uint8), "P")
        image.putpalette([255, 0, 0, 0, 0, 0])
        image.info["transparency"] = 1
    return image.convert(mode) if mode == "LA" else image


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_shows_white(saved, mode):
    """By Pillow's own conversion it would show the colour that it hides."""
    found, kept = saved(transparent(mode))
    assert kept == mode
    assert (found[:, 4:] == 255).all()
    assert (found[:, :4] == ([76] * 3 if mode == "LA" else [255, 0, 0])).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK"])
def test_other_modes_keep_their_colours(saved, mode):
    grey = np.zeros((6, 8), np.uint8)
    grey[2:4] = 255
    found, kept = saved(Image.fromarray(grey).convert("RGB").convert(mode), "a.tiff")
    assert kept == mode
    assert np.array_equal(found, np.repeat(grey[..., None], 3, 2))


def test_cmyk_jpegs_keep_their_colours(saved):
    found, mode = saved(Image.new("RGB", (8, 6), (255, 0, 0)).convert("CMYK"), "a.jpg")
    assert mode == "CMYK"
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 10


def test_an_image_is_turned_as_its_exif_says(saved):
    """Orientation 6: the camera was held upright, and what is stored lies on its left side."""
    pixels = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    found, _ = saved(Image.fromarray(pixels), exif=exif)
    assert np.array_equal(found, np.rot90(pixels, -1))


def test_another_size_is_unreadable(files):
    found = replace(all_files(files, "files"), size=(8, 8))
    with pytest.raises(Unreadable, match=r"a\.png: 8 x 6 pixels instead of 8 x 8"):
        found.read(0)
    assert replace(found, size=(8, 6)).read(0)[0].size == (8, 6)
