import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from captum_wg.report import explained

Write = Callable[..., Path]


def test_a_folder_of_explained_images(explained_folder: Write) -> None:
    report = explained(explained_folder("a", "deeper/b"))
    assert report is not None and report.title == "Explanations: 2 images" and not report.notes
    assert report.lead == ("WeightedGradients: model net, steps 4, seed 0, baselines black,white.",)
    (table,) = report.tables
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["a", "cat (7)", "0.250", "WeightedGradients", "1.5"],
        ["deeper/b", "cat (7)", "0.500", "WeightedGradients", "1.5"],
    ]
    a, b = report.examples
    assert (a.name, a.title, b.name) == ("a", "cat (7), probability 0.250", "deeper/b")
    assert [one.title for one in a.maps] == ["WeightedGradients"]
    assert [(one.name, one.distance, one.weight) for one in a.baselines] == [
        ("baseline 1", 10, 0.5),
        ("baseline 2", 9, 0.5),
    ]


def test_the_steps_of_a_price_are_its_recipe_s(explained_folder: Write) -> None:
    report = explained(explained_folder("a", arguments={"model": "net", "steps": 4, "seed": 0, "price": 60}))
    assert report is not None
    assert report.lead == ("WeightedGradients: model net, seed 0, price 60, baselines black,white.",)


def test_images_without_pictures_of_baselines(explained_folder: Write) -> None:
    report = explained(explained_folder("a", with_baselines=False, class_name=None))
    assert report is not None and report.examples[0].baselines == () and report.examples[0].title.startswith("7, ")


def test_files_that_are_no_explanations_are_passed_over(explained_folder: Write) -> None:
    folder = explained_folder("a", "broken", "cut")
    for name, text in (("settings", "{}"), ("list", "[1]"), ("alone", '{"image": "x"}')):
        (folder / f"{name}.json").write_text(text)
    for name in ("settings", "list"):
        np.savez(folder / f"{name}.npz", x=np.zeros(1))
    (folder / "broken.json").write_text("{")
    (folder / "cut.npz").write_bytes((folder / "cut.npz").read_bytes()[:100])
    report = explained(folder)
    assert report is not None and [one.name for one in report.examples] == ["a"]
    assert [note.split(" is left out, as")[0] for note in report.notes] == ["broken", "cut"]


@pytest.mark.parametrize("kind", ["empty", "flipped", "probability", "arguments", "shape", "nan", "more maps"])
def test_an_image_with_broken_files_is_left_out_and_named(kind: str, explained_folder: Write) -> None:
    folder = explained_folder("a", "bad")
    record, file = folder / "bad.json", folder / "bad.npz"
    if kind == "empty":
        file.write_bytes(b"")
    elif kind == "flipped":
        data = bytearray(file.read_bytes())
        data[60:160] = bytes(255 - byte for byte in data[60:160])
        file.write_bytes(bytes(data))
    elif kind in ("probability", "arguments"):
        record.write_text(json.dumps(json.loads(record.read_text()) | {kind: None}))
    else:
        with np.load(file) as arrays:
            values = dict(arrays)
        if kind == "more maps":
            values["baseline_maps"] = np.concatenate([values["baseline_maps"]] * 2)
        else:
            a = values["attribution"]
            values["attribution"] = np.zeros(5) if kind == "shape" else np.full_like(a, np.nan)
        np.savez(file, **values)
    report = explained(folder)
    assert report is not None and [one.name for one in report.examples] == ["a"]
    assert len(report.notes) == 1 and report.notes[0].startswith("bad is left out, as its files can't be used: ")
    # Where nothing else is there, the reason is the error.
    (folder / "a.npz").unlink()
    with pytest.raises(ValueError, match="bad is left out"):
        explained(folder)


def test_a_folder_without_any(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    assert explained(tmp_path) is None
