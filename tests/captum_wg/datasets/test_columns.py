"""Batches as columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_wg.datasets.columns import flat, joined, nested, of_batch, rows

A, B = torch.arange(6.0).reshape(3, 2), torch.arange(3)


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))


@pytest.mark.parametrize(
    "value",
    [A, (A,), (A, B), {"variance": A, "cosine": (A, B)}, tuple(A[:, :1] + i for i in range(12))],
    ids=["Tensor", "one", "two", "named", "twelve"],
)
def test_nested_undoes_flat(value):
    columns = flat(value, "maps")
    assert all(isinstance(column, torch.Tensor) for column in columns.values())
    # In whatever order they are read.
    assert same(nested(dict(sorted(columns.items(), reverse=True)))["maps"], value)


@pytest.mark.parametrize("name", ["a/b", 3, "3"])
def test_names_that_would_be_read_as_something_else(name):
    with pytest.raises(ValueError, match="a name must hold no '/' and not be a number, so rename these"):
        flat({name: A}, "maps")


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (A, {"inputs": A}),
        (A.numpy(), {"inputs": A}),
        ([A], {"inputs": A}),
        ((A, B), {"inputs": A, "target": B}),
        ([A, B.numpy()], {"inputs": A, "target": B}),
        (([A, A], [0, 1, 2]), {"inputs/0": A, "inputs/1": A, "target": B}),
        ((A, [B, B + 1]), {"inputs": A, "target": torch.stack([B, B + 1], 1)}),
        ((A, [(0, 1), (1, 2), (2, 3)]), {"inputs": A, "target": torch.stack([B, B + 1], 1)}),
        ({"inputs": A, "target": None, "mask": B}, {"inputs": A, "mask": B}),
    ],
    ids=["Tensor", "array", "list of one", "pair", "array target", "two inputs", "collated", "tuples", "dictionary"],
)
def test_forms_of_batches(batch, expected):
    assert same(of_batch(batch), expected)


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        ((A, B, B), TypeError, "loader must yield Tensors of inputs, pairs .*; got tuple of 3"),
        ("text", TypeError, "got str"),
        ({"image": A}, ValueError, r"got a dictionary of \['image'\]"),
        ({"inputs": A, "name": "x"}, TypeError, "name must be a Tensor"),
        ((A, B[:2]), ValueError, "must have one row for each example .* 'target': \\(2,\\)"),
        ((A, A[:, 0]), ValueError, "targets of a batch must be whole numbers .* got torch.float32"),
        ((A, B.reshape(3, 1, 1)), ValueError, "targets of a batch must be whole numbers"),
        ((torch.tensor(1.0),), ValueError, "must have one row for each example"),
    ],
    ids=["three", "text", "no inputs", "strings", "rows", "floats", "3-D", "a number"],
)
def test_batches_of_no_known_form(batch, error, message):
    with pytest.raises(error, match=message):
        of_batch(batch)


def test_rows_and_joined():
    assert rows({"a": A, "b": B}, "this") == 3
    assert same(joined([{"a": A}, {"a": A[:1]}], "this"), {"a": torch.cat([A, A[:1]])})
    with pytest.raises(ValueError, match="this must have the same names and shapes"):
        joined([{"a": A}, {"b": A}], "this")
    assert rows({"a": torch.as_tensor(np.zeros((0, 2)))}, "this") == 0
