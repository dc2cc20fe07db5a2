from collections.abc import Callable
from pathlib import Path

import numpy as np

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


def test_a_folder_without_any(tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    assert explained(tmp_path) is None
