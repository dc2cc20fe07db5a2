import numpy as np
import torch

from benchmarks.data.digits import DIGITS, digits_pictures


def pixels(pictures):
    return torch.stack([DIGITS.image(pictures.read(i)[0]) for i in range(len(pictures))])


def test_digits_are_grey_pictures_of_a_fixed_split():
    (train, test), (_, again) = digits_pictures(), digits_pictures()
    assert len(train) + len(test) == 1797 and len(set(train.names + test.names)) == 1797
    assert test.read(7)[0].size == (8, 8)
    assert np.array_equal(test.sources, again.sources) and test.labels == again.labels
    assert (np.bincount(test.labels, minlength=10) > 50).all() and test.class_names == tuple("0123456789")
    assert not {image.tobytes() for image in train.sources} & {image.tobytes() for image in test.sources}


def test_inputs_are_normalised_enlarged_and_keep_all_shades():
    from sklearn.datasets import load_digits

    x = pixels(digits_pictures()[0])
    assert x.shape[1:] == (3, 32, 32) and x.dtype == torch.float32
    assert abs(x.mean().item()) < 1e-3 and abs(x.std().item() - 1) < 1e-3
    shown = DIGITS.pixels(x)
    assert shown.min() == 0 and shown.max() == 1
    train = digits_pictures()[0]
    assert set(np.unique(train.sources) // 15) == set(load_digits().data.ravel().astype(int))
