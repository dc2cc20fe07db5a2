import pytest

from benchmarks.data.datasets import NAMES, load
from benchmarks.run.errors import BenchmarkError


def test_each_name_is_a_data_set(image_folder, tmp_path):
    root = image_folder(tmp_path)
    assert [load(name, root)[1].pictures.name for name in NAMES] == ["digits (scikit-learn)", "CIFAR-10 (PNG)"]


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
        load(name, root)
