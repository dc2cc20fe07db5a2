"""Examples in groups: which they are, and which loaders have none that can be told."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from captum_wg.datasets.source import Rows, Stream, source_of


class Counted(Dataset):
    """Tells what was read."""

    def __init__(self, n):
        self.n, self.read = n, []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.read.append(i)
        return torch.tensor([float(i)])


class Streamed(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return (torch.tensor([float(i)]) for i in range(self.n))


def numbers(group):
    return group.columns["inputs"].flatten().int().tolist()


@given(
    n=st.integers(1, 30),
    batch=st.integers(1, 12),
    group=st.integers(1, 7),
    per_shard=st.integers(1, 3),
    data=st.sampled_from([Counted, Streamed]),
)
def test_groups_are_consecutive_examples(n, batch, group, per_shard, data):
    source = source_of(DataLoader(data(n), batch), group, group * per_shard)
    shards = range(-(-n // (group * per_shard)))
    found = [(g.shard, g.number, numbers(g)) for g in source.groups(shards)]
    literal = [
        (start // (group * per_shard), start // group, list(range(start, min(start + group, n))))
        for start in range(0, n, group)
    ]
    assert found == literal


def test_a_shard_is_read_without_the_others():
    data = Counted(100)
    source = source_of(DataLoader(data, 3), 4, 8)
    assert isinstance(source, Rows) and source.examples == 100 and source.order_digest is None
    assert [(g.shard, numbers(g)) for g in source.groups([2, 12])] == [
        (2, [16, 17, 18, 19]),
        (2, [20, 21, 22, 23]),
        (12, [96, 97, 98, 99]),
    ]
    assert data.read == [*range(16, 24), *range(96, 100)]


def test_a_long_set_is_read_as_it_is_needed():
    data = Counted(10**9)
    source = source_of(DataLoader(data), 2, 4)
    assert [numbers(g) for g in islice(source.groups([7, 5]), 3)] == [[28, 29], [30, 31], [20, 21]]


def test_a_group_of_a_stream_does_not_hold_its_batch():
    whole = torch.arange(1000.0)
    for group in source_of([whole], 4, 8).groups([0]):
        assert group.columns["inputs"].untyped_storage().nbytes() == 16


def test_reading_draws_nothing_from_the_global_generator():
    before = torch.get_rng_state()
    list(source_of(DataLoader(Counted(5), 2), 2, 4).groups([0, 1]))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_order_of_ones_own():
    data = Counted(9)
    order = [8, 1, 1, 0, 5]
    plain = source_of(DataLoader(data, 2, sampler=order), 2, 4)
    batched = source_of(DataLoader(data, batch_sampler=[[8, 1], [1, 0, 5]]), 2, 4)
    for source in (plain, batched):
        assert [numbers(g) for g in source.groups([0, 1])] == [[8, 1], [1, 0], [5]]
    assert plain.order_digest == batched.order_digest != source_of(DataLoader(data, sampler=order[::-1]), 2, 4)


def test_a_loader_that_collates_nothing_is_a_stream():
    source = source_of(DataLoader(TensorDataset(torch.ones(3, 5, 2)), batch_size=None), 4, 8)
    assert isinstance(source, Stream)
    assert [g.columns["inputs"].shape for g in source.groups([0])] == [(4, 2), (4, 2), (4, 2), (3, 2)]


@pytest.mark.parametrize(
    ("loader", "error", "message"),
    [
        (DataLoader(Counted(9), shuffle=True), ValueError, "another order each time it is read .* shuffle=False"),
        (
            DataLoader(Counted(9), batch_sampler=BatchSampler(RandomSampler(range(9)), 2, False)),
            ValueError,
            "another order each time",
        ),
        (DataLoader(Counted(9), 2, drop_last=True), ValueError, "loader has drop_last=True"),
        (
            DataLoader(Counted(9), batch_sampler=BatchSampler(range(9), 2, drop_last=True)),
            ValueError,
            "loader has drop_last=True",
        ),
        (torch.ones(3, 2), TypeError, "loader must be a DataLoader, or another iterable .* got Tensor"),
        (iter([torch.ones(3, 2)]), TypeError, "starts from the beginning each time"),
        (3, TypeError, "got int"),
    ],
    ids=["shuffle", "random batches", "drop_last", "drop_last of batches", "Tensor", "iterator", "int"],
)
def test_loaders_that_are_refused(loader, error, message):
    with pytest.raises(error, match=message):
        source_of(loader, 2, 4)


def test_examples_of_different_shapes():
    with pytest.raises(ValueError, match="the examples of loader must have the same names and shapes"):
        list(source_of([torch.ones(1, 2), torch.ones(1, 3)], 2, 4).groups([0]))
