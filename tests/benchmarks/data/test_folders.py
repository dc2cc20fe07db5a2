import pytest
from PIL import Image

from benchmarks.data.folders import all_files, class_folders, labelled_files
from benchmarks.run.errors import BenchmarkError


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (7, 0, 255)).save(path)


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
    assert found.class_names == ("ant", "zebra")


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


def test_folders_named_like_images_are_none(files):
    (files / "d.png").mkdir()
    assert all_files(files, "files").names == ("a.png", "b.png", "sub/c.jpg")
    with pytest.raises(IsADirectoryError):
        labelled_files(files, csv(files, "d.png,0"), "files", classes=4).read(0)
