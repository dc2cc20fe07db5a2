"""The data that `captum_wg.baselines.sample` draws rows from, of every kind."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from captum_wg.baselines import sample

pytestmark = pytest.mark.filterwarnings("error")

DATA = torch.randn(20, 3, 6, 5, generator=torch.Generator().manual_seed(5))
IMAGES = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(6))
ROWS = torch.randn(4, 7, generator=torch.Generator().manual_seed(7))


class Labelled(Dataset):
    """(image, label) pairs; counts what is read."""

    def __init__(self, transform=lambda x: x):
        self.read, self.transform = [], transform

    def __len__(self):
        return len(DATA)

    def __getitem__(self, i):
        self.read.append(i)
        return self.transform(DATA[i]), i


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


def positions(baselines):
    """Which rows of DATA these are."""
    return [int((DATA.to(row) == row).flatten(1).all(1).nonzero()) for row in baselines]


def test_sample_draws_different_rows_of_each_kind_of_data():
    kinds = [
        DATA,
        DATA.numpy(),
        DATA.numpy()[::-1],
        list(DATA),
        Labelled(),
        TensorDataset(DATA, torch.arange(20)),
        DataLoader(TensorDataset(DATA, torch.arange(20)), batch_size=6),
        DataLoader(Labelled(), batch_size=6, shuffle=True),
        DataLoader(Labelled(), batch_size=None),
        DataLoader(Stream([(x, 0) for x in DATA]), batch_size=6),
        Stream(DATA),
        Stream([(x.numpy(), 0) for x in DATA]),
    ]
    for data in kinds:
        for k in (1, 7, 20):
            drawn = sample(data, k)(IMAGES)
            assert drawn.shape == (k, 3, 6, 5) and drawn.dtype == IMAGES.dtype
            assert len(set(positions(drawn))) == k


def test_what_is_an_input_can_be_selected():
    items = [{"label": i, "pixels": x} for i, x in enumerate(DATA)]
    assert positions(sample(items, 20, select=lambda item: item["pixels"])(IMAGES)) != list(range(20))
    batches = DataLoader(items, batch_size=7)
    assert len(set(positions(sample(batches, 20, select=lambda item: item["pixels"])(IMAGES)))) == 20


@pytest.mark.parametrize("data", [list(range(8)), "stream"])
def test_every_set_of_rows_is_equally_likely(data):
    rows = [torch.tensor([float(i)]) for i in range(8)]
    counts = torch.zeros(8)
    pairs = {}
    for seed in range(1400):
        drawn = sample(Stream(rows) if data == "stream" else rows, 2, generator=seed)(torch.zeros(1, 1))
        chosen = tuple(sorted(int(v) for v in drawn.flatten()))
        pairs[chosen] = pairs.get(chosen, 0) + 1
        counts[list(chosen)] += 1
    # 350 of each row and 50 of each of the 28 pairs are expected; five standard deviations are allowed.
    assert (counts - 350).abs().max() < 5 * math.sqrt(1400 * 0.25 * 0.75)
    assert len(pairs) == 28 and max(abs(n - 50) for n in pairs.values()) < 5 * math.sqrt(50)


def test_a_dataset_is_read_only_where_drawn_and_only_once():
    data = Labelled()
    references = sample(data, 3)
    assert data.read == []
    first = references(IMAGES)
    assert len(data.read) == 3 and torch.equal(references(IMAGES), first)
    assert torch.equal(references(IMAGES.double()).float(), first) and len(data.read) == 3
    fresh = sample(data, 3, generator=torch.Generator())
    assert not torch.equal(fresh(IMAGES), fresh(IMAGES)) and len(data.read) == 9


def test_kept_rows_hold_no_batch_and_follow_no_change():
    data = DATA.clone()
    for source in (data, data.numpy(), list(data), DataLoader(TensorDataset(data), batch_size=20)):
        references = sample(source, 2)
        first = references(IMAGES).clone()
        assert all(row[0].untyped_storage().nbytes() == 3 * 6 * 5 * 4 for row in references._kept[0])
        data += 1
        assert torch.equal(references(IMAGES), first)


def test_deep_copies_share_the_data_and_the_rows():
    data = Labelled()
    references = sample(data, 3)
    first = references(IMAGES)
    twin = copy.deepcopy(references)
    assert twin.data is data and torch.equal(twin(IMAGES), first) and len(data.read) == 3


def test_read_only_arrays_are_taken():
    array = DATA.numpy().copy()
    array.flags.writeable = False
    assert sample(array, 2)(IMAGES).shape == (2, 3, 6, 5)


def noisy(x):
    return x + torch.rand(()) + np.random.rand() + random.random()


@pytest.mark.parametrize("data", [Labelled(noisy), DataLoader(Labelled(noisy), batch_size=3, shuffle=True)])
def test_random_transforms_repeat_and_leave_no_trace(data):
    first = sample(data, 3)(IMAGES)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(sample(data, 3)(IMAGES), first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]


def test_failing_data_leave_the_global_generators_alone():
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()

    def broken(x):
        noisy(x)
        raise OSError("unreadable")

    for data in (Labelled(broken), DataLoader(Labelled(broken))):
        with pytest.raises(OSError, match="unreadable"):
            sample(data, 2)(IMAGES)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: sample(DATA, 21), ValueError, "k=21 rows cannot be drawn without replacement from data of 20"),
        (lambda: sample(DATA[:0], 1), ValueError, "data is empty"),
        (lambda: sample([], 1), ValueError, "data is empty"),
        (lambda: sample(torch.tensor(1.0), 1), ValueError, "got a single number"),
        (lambda: sample((DATA, DATA[:3]), 1), ValueError, r"tuple of Tensors with \[20, 3\] rows"),
        (lambda: sample({"a": DATA}, 1), TypeError, "data must be a Tensor or array .* got dict"),
        (lambda: sample(iter(DATA), 1), TypeError, "data must be a Tensor or array"),
    ],
)
def test_data_without_enough_rows_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("generator", "inputs", "error", "message"),
    [
        (sample(DATA, 2), ROWS, ValueError, r"row of shapes \[\(3, 6, 5\)\], but .* has \[\(7,\)\]"),
        (sample(DATA, 2), (IMAGES, IMAGES), ValueError, "data has a row of shapes"),
        (
            sample((DATA * 255).to(torch.uint8), 2),
            IMAGES,
            TypeError,
            "data must hold floating-point rows, got torch.uint8",
        ),
        (sample((DATA.numpy() * 255).astype(np.uint8), 2), IMAGES, TypeError, "floating-point rows, got torch.uint8"),
        (sample(DATA * math.nan, 2), IMAGES, ValueError, "data has NaN or infinite values in drawn row 0"),
        (sample(["a", "b"], 1), IMAGES, TypeError, "data must yield Tensors or arrays.* got str; add a transform"),
        (sample([("a", 1), ("b", 2)], 1), IMAGES, TypeError, "data must yield Tensors .* got str"),
        (sample([((DATA[0], "a"), 1)], 1), IMAGES, TypeError, r"data must yield .* got \['Tensor', 'str'\]"),
        (sample(Stream([]), 1), IMAGES, ValueError, "data is empty"),
        (sample(DataLoader(Stream([])), 1), IMAGES, ValueError, "data is empty"),
        (sample(Stream(DATA), 21), IMAGES, ValueError, "k=21 rows cannot be drawn .* data of 20"),
        (sample(DataLoader(TensorDataset(DATA)), 21), IMAGES, ValueError, "k=21 rows cannot be drawn .* of 20"),
        (
            sample(DataLoader([1.0, 2.0], collate_fn=lambda batch: torch.tensor(1.0)), 1),
            IMAGES,
            ValueError,
            r"data yields a batch with inputs of shapes \[\(\)\]",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused(generator, inputs, error, message):
    with pytest.raises(error, match=message):
        generator(inputs)
