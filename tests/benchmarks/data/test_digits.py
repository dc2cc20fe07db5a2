import torch

from benchmarks.data.digits import digits, digits_pictures


def test_digits_are_normalised_colour_images_of_a_fixed_split():
    images, again = digits(), digits()
    assert len(images.train) + len(images.test) == 1797
    x = images.train.tensors[0]
    assert x.shape[1:] == (3, 32, 32)
    assert x.dtype == torch.float32
    assert abs(x.mean().item()) < 1e-3
    assert abs(x.std().item() - 1) < 1e-3
    assert torch.equal(images.test.tensors[0], again.test.tensors[0])
    assert torch.equal(images.test.tensors[1].bincount(minlength=10) > 50, torch.ones(10, dtype=torch.bool))


def test_no_digit_is_in_both_parts():
    images = digits()
    train, test = ({x.numpy().tobytes() for x in part.tensors[0]} for part in (images.train, images.test))
    assert not train & test


def test_pixels_undo_the_normalisation():
    images = digits()
    pixels = images.preparation.pixels(images.test.tensors[0])
    assert pixels.min() == 0
    assert pixels.max() == 1


def test_as_pictures_they_make_the_same_inputs():
    images, pictures = digits(), digits_pictures()
    for part, own in zip((images.train, images.test), pictures, strict=True):
        assert own.labels == tuple(part.tensors[1].tolist())
        for i in (0, len(own) - 1):
            picture, _ = own.read(i)
            assert picture.size == (8, 8)
            torch.testing.assert_close(images.preparation.image(picture), part.tensors[0][i])
