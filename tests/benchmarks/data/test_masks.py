import numpy as np
import pytest
from PIL import Image

from benchmarks.data.folders import all_files
from benchmarks.data.masks import MaskFolder
from benchmarks.run.errors import BenchmarkError


def photograph(path):
    path.parent.mkdir()
    Image.new("RGB", (8, 6)).save(path)


@pytest.mark.parametrize("mode", ["1", "L", "I", "I;16", "F", "P", "LA", "RGB", "RGBA"])
def test_a_mask_of_any_mode_is_nonzero_on_the_object(mode, tmp_path):
    """By the smallest values, and the darkest colours, that are nonzero."""
    photograph(tmp_path / "images/a.jpg")
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
    photograph(tmp_path / "images/a.jpg")
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
