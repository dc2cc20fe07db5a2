import numpy as np
import pytest
import torch

from benchmarks.data import planted as module
from benchmarks.data.datasets import DATA_SETS, load, source
from benchmarks.data.planted import COLOURS, GLYPHS, PLANTED, SIDE, VARIANTS, plant_glyph, plant_pixels, planted
from benchmarks.experiment.settings import Experiment
from benchmarks.models import training
from benchmarks.models.checkpoints import cnn_32
from benchmarks.run.errors import BenchmarkError

pytest.importorskip("skimage")


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_are_of_a_fixed_split_with_as_many_of_each_class(variant):
    train, test = planted(variant)
    for (pictures, masks), (part, count) in zip((train, test), module.COUNTS.items(), strict=True):
        assert len(pictures) == count == len(masks) and pictures.names[3] == f"{part}/00003"
        assert np.bincount(pictures.labels).tolist() == [count // 4] * 4
        assert masks.shape == (count, SIDE, SIDE) and pictures.read(0)[0].size == (SIDE, SIDE)
        assert (masks.sum((1, 2)) == {"glyph": 49, "pixels": 16}[variant]).all()
    planted.cache_clear()
    again = planted(variant)
    assert all(np.array_equal(a, b) for a, b in zip(train[0].sources, again[0][0].sources, strict=True))
    assert np.array_equal(test[1], again[1][1])


def test_a_glyph_fills_its_square_in_either_polarity():
    generator = np.random.default_rng(0)
    corners, polarities = set(), set()
    for label, (name, glyph) in enumerate(GLYPHS.items()):
        for _ in range(20):
            background = generator.integers(1, 255, (SIDE, SIDE, 3), dtype=np.uint8)
            pixels = background.copy()
            mask = plant_glyph(pixels, label, generator)
            assert np.array_equal(pixels[~mask], background[~mask])
            top, left = np.argwhere(mask)[0]
            found = pixels[top : top + 7, left : left + 7]
            assert mask[top : top + 7, left : left + 7].all()
            white = found[..., 0] == 255
            assert np.array_equal(white, glyph) or np.array_equal(white, ~glyph), name
            assert set(np.unique(found)) == {0, 255}
            corners.add((top, left))
            polarities.add((name, bool(white[glyph].all())))
    assert len(corners) > 60 and len(polarities) == 8
    assert len({glyph.tobytes() for glyph in GLYPHS.values()}) == 4


def test_scattered_pixels_have_the_only_colour():
    generator = np.random.default_rng(0)
    for label, colour in enumerate(COLOURS.values()):
        pixels = generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        grey = pixels.mean(2).astype(np.uint8)
        mask = plant_pixels(pixels, label, generator)
        assert mask.sum() == 16 and (pixels[mask] == colour).all()
        assert np.array_equal(pixels[~mask], np.repeat(grey[~mask][:, None], 3, axis=1))


def test_a_network_that_learned_them_decides_by_what_is_planted():
    """Without it a class is a guess, and without the background it stays."""
    (train, _), (test, masks) = planted("pixels")
    inputs = [
        torch.stack([PLANTED.image(part.read(i)[0]) for i in range(count)])
        for part, count in ((train, 1600), (test, 400))
    ]
    labels = [torch.tensor(part.labels[:count]) for part, count in ((train, 1600), (test, 400))]
    pairs = torch.utils.data.TensorDataset(inputs[0], labels[0])
    model = training.train_network(cnn_32(4), pairs, seed=0, epochs=3)
    here = torch.from_numpy(masks[:400])[:, None]

    def right(x):
        with torch.no_grad():
            return (model(x).argmax(1) == labels[1]).float().mean()

    zeros = torch.zeros_like(inputs[1])
    assert right(inputs[1]) > 0.95 and right(torch.where(here, inputs[1], zeros)) > 0.9
    assert right(torch.where(here, zeros, inputs[1])) < 0.4


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_data_set_gives_masks_and_references_of_other_photographs(variant):
    name = f"planted-{variant}"
    found = source(Experiment(model="m", data=name), 4)
    mask, reason = found.mask_of(7, 0)
    (train, _), (test, masks) = planted(variant)
    assert found.pictures is test and found.references is train and reason == ""
    assert np.array_equal(mask, masks[7])
    assert DATA_SETS[name].class_names == test.class_names and "planted pixels" in DATA_SETS[name].explained
    x, label = load(name)[1][7]
    assert x.shape == (3, SIDE, SIDE) and label == test.labels[7]
    with pytest.raises(BenchmarkError, match=f"m has 10 classes; --data {name} needs 4"):
        source(Experiment(model="m", data=name), 10)
