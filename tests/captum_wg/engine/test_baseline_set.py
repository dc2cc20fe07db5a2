from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.engine.baseline_set import format_baselines

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

B, K = 3, 2


def all_of(references):
    """For each element the baselines of every example, (B, K, *feature), through the way the methods take."""
    which = torch.arange(references.count)
    return tuple(v.expand(B, *v.shape[1:]) for v in references.at(slice(0, B), which))


@pytest.mark.parametrize("value", [None, 0, 0.0, 2.5, -1])
def test_none_and_numbers_fill_every_element(draw, value):
    x, y = draw(B, 4), draw(B, 2, 2)
    references = format_baselines(value, (x, y), is_tuple=True)
    assert references.count == 1 and references.shared
    for filled, like in zip(all_of(references), (x, y), strict=True):
        assert torch.equal(filled, torch.full_like(like, value or 0.0).unsqueeze(1))
        assert filled.dtype == like.dtype


@pytest.mark.parametrize("feature", [(), (4,), (2, 3), (3, 4, 4), (2, 2, 2, 2)])
def test_shared_and_own_baselines_of_any_rank(draw, feature):
    x, shared, own = draw(B, *feature), draw(K, *feature, seed=1), draw(B, K, *feature, seed=2)
    (values,) = all_of(format_baselines(shared, (x,)))
    assert torch.equal(values, shared.expand(B, K, *feature))
    references = format_baselines(own, (x,))
    assert (references.count, references.shared) == (K, False)
    assert torch.equal(all_of(references)[0], own)


def test_at_takes_the_baselines_asked_for(draw):
    x, shared, own = draw(B, 4), draw(K, 4), draw(B, K, 4, seed=1)
    which = torch.tensor([1, 1, 0])
    (values,) = format_baselines(shared, (x,)).at(slice(1, 3), which)
    assert torch.equal(values, shared[which].unsqueeze(0))
    (values,) = format_baselines(own, (x,)).at(slice(1, 3), which)
    assert torch.equal(values, own[1:3][:, which])


@pytest.mark.parametrize("own", [False, True])
def test_choose_gives_each_example_its_own(draw, own):
    x, given = draw(B, 4), draw(B, 5, 4) if own else draw(5, 4)
    kept = torch.tensor([[0, 3], [4, 1], [2, 2]])
    chosen = format_baselines(given, (x,)).choose(kept)
    assert (chosen.count, chosen.shared) == (2, False)
    for b in range(B):
        for m in range(2):
            expected = given[b, kept[b, m]] if own else given[kept[b, m]]
            assert torch.equal(all_of(chosen)[0][b, m], expected)


def test_a_callable_sees_the_inputs_and_may_return_any_form(draw):
    x, y = draw(B, 4), draw(B, 2, seed=1)
    (values,) = all_of(format_baselines(lambda x: x.unsqueeze(1) + torch.arange(2.0).view(1, 2, 1), (x,)))
    assert torch.equal(values, torch.stack([x, x + 1], 1))
    values = all_of(format_baselines(lambda pair: (pair[0][:1], pair[1][:1]), (x, y), is_tuple=True))
    assert torch.equal(values[1], y[:1].expand(B, 1, 2))
    (values,) = all_of(format_baselines(lambda x: 1.5, (x,)))
    assert (values == 1.5).all()
    (values,) = all_of(format_baselines(lambda pair: pair, (x[:1],), is_tuple=True))
    assert torch.equal(values[0, 0], x[0])


def test_elements_of_a_tuple_may_mix_all_forms(draw):
    xs = tuple(draw(B, 2, seed=i) for i in range(5))
    shared, own = draw(K, 2, seed=6), draw(B, K, 2, seed=7)
    given = (shared, own, 3, None, lambda x: x[:K])
    values = all_of(format_baselines(given, xs, is_tuple=True))
    assert all(v.shape == (B, K, 2) for v in values)
    assert torch.equal(values[0], shared.expand(B, K, 2))
    assert torch.equal(values[1], own)
    assert (values[2] == 3).all() and (values[3] == 0).all()
    assert torch.equal(values[4], xs[4][:K].expand(B, K, 2))


def test_paired_rows_are_each_examples_only_baseline(draw):
    x, rows = draw(B, 4), draw(B, 4, seed=1)
    references = format_baselines(rows, (x,), pairing="paired")
    assert (references.count, references.shared) == (1, False)
    assert torch.equal(all_of(references)[0], rows.unsqueeze(1))
    references = format_baselines(rows, (x,), pairing="shared")
    assert (references.count, references.shared) == (B, True)


def test_one_row_and_own_rows_mean_the_same_in_every_pairing(draw):
    x = draw(B, 4)
    for value in (draw(1, 4), draw(B, 1, 4), draw(B, K, 4), 0.5):
        values = [all_of(format_baselines(value, (x,), pairing=p))[0] for p in (None, "shared", "paired")]
        assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])


def test_as_many_rows_as_examples_are_shared_with_a_word():
    x = torch.zeros(B, 4)
    different = torch.arange(4.0 * B).view(B, 4)
    with pytest.warns(UserWarning, match="as many rows .3.*shared by all.*pairing='shared' or pairing='paired'"):
        references = format_baselines(different, (x,))
    assert (references.count, references.shared) == (B, True)
    with pytest.warns(UserWarning, match="as many rows"):
        format_baselines((different, 0), (x, x), is_tuple=True)


@pytest.mark.parametrize("given", [torch.ones(2, 4), torch.ones(3, 3, 4), torch.ones(3, 1, 4), torch.ones(1, 4), 1.0])
def test_no_word_where_there_is_one_reading(given):
    format_baselines(given, (torch.zeros(3, 4),))
    format_baselines(torch.ones(1, 4), (torch.zeros(1, 4),))


def test_baselines_come_detached():
    references = format_baselines(torch.ones(2, 4, requires_grad=True), (torch.zeros(3, 4),))
    assert not references.values[0].requires_grad


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        (torch.ones(0, 4), ValueError, r"baselines are empty, shape \(0, 4\).*K >= 1"),
        (torch.ones(3, 0, 4), ValueError, "baselines are empty"),
        (torch.ones(2, 5), ValueError, r"shape \(K, 4\) or \(B, K, 4\) with B = 3, got \(2, 5\)"),
        (torch.ones(4), ValueError, r"got \(4,\)"),
        (torch.ones(2, 2, 4), ValueError, r"got \(2, 2, 4\)"),
        (torch.ones(3, 2, 2, 4), ValueError, "baselines must have shape"),
        (torch.ones(2, 4).double(), TypeError, "baselines are torch.float64, the inputs torch.float32"),
        (torch.ones(2, 4, device="meta"), ValueError, "baselines are on meta, the inputs on cpu"),
        (torch.tensor([[0.0] * 4, [math.nan] * 4]), ValueError, "NaN or infinite values in rows 1;"),
        (torch.full((3, 2, 4), math.inf), ValueError, "NaN or infinite values in rows 0, 1, 2;"),
        (math.nan, ValueError, "baselines must be finite, got nan"),
        (math.inf, ValueError, "baselines must be finite, got inf"),
        (np.ones((2, 4)), TypeError, "got ndarray .convert it with torch.as_tensor"),
        ([0.0], TypeError, "got list$"),
        ("zeros", TypeError, "got str"),
        (True, TypeError, "got bool"),
        (lambda x: "zeros", TypeError, "got str"),
        ((torch.ones(2, 4), torch.ones(2, 4)), ValueError, "one element for each of the 1 inputs, got a tuple of 2"),
    ],
)
def test_baselines_that_do_not_fit(given, error, match):
    with pytest.raises(error, match=match):
        format_baselines(given, (torch.zeros(3, 4),))


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (torch.ones(2, 4), "one element for each of the 2 inputs, got a single Tensor"),
        ((torch.ones(2, 4),), "got a tuple of 1"),
        (
            (torch.ones(2, 4), torch.ones(3, 4)),
            r"same number of rows in every element of the tuple, or one, got \[2, 3\]",
        ),
        ((torch.ones(3, 3, 4), torch.ones(3, 2, 4)), r"got \[3, 2\]"),
    ],
)
def test_tuples_of_baselines_that_do_not_fit(given, match):
    x = torch.zeros(3, 4)
    with pytest.raises(ValueError, match=match):
        format_baselines(given, (x, x), is_tuple=True, pairing="shared")


def test_the_wrong_element_of_a_tuple_is_named():
    x = torch.zeros(3, 4)
    with pytest.raises(TypeError, match=r"element 1 of the tuple torch\.float32"):
        format_baselines((0, torch.ones(2, 4).double()), (x, x), is_tuple=True)


def test_pairing_is_checked():
    x = torch.zeros(3, 4)
    with pytest.raises(ValueError, match="pairing must be 'shared', 'paired' or None, got 'each'"):
        format_baselines(None, (x,), pairing="each")
    with pytest.raises(ValueError, match="one baseline for each of the 3 examples, got 2 rows"):
        format_baselines(torch.ones(2, 4), (x,), pairing="paired")


@settings(deadline=None, max_examples=60)
@given(
    b=st.integers(1, 4),
    k=st.integers(1, 4),
    feature=st.lists(st.integers(1, 3), max_size=3).map(tuple),
    own=st.booleans(),
    pairing=st.sampled_from([None, "shared"]),
)
def test_row_k_is_baseline_k_for_all_shapes(b, k, feature, own, pairing):
    x = torch.zeros(b, *feature)
    shape = (b, k, *feature) if own else (k, *feature)
    given_rows = torch.arange(float(math.prod(shape))).reshape(shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        references = format_baselines(given_rows, (x,), pairing=pairing)
    assert references.count == k
    for number in range(k):
        (row,) = references.at(slice(0, b), torch.tensor([number]))
        assert row.shape[1:] == (1, *feature)
        expected = given_rows[:, number] if own else given_rows[number].expand(b, *feature)
        assert torch.equal(row.squeeze(1).expand(b, *feature), expected)


def test_baselines_of_whole_numbers_are_whole_numbers():
    ids = torch.tensor([[1, 2], [3, 4]])
    made = format_baselines(3, (ids,))
    assert made.values[0].dtype == torch.int64 and made.values[0].tolist() == [[3, 3]]
    assert format_baselines(torch.tensor([[5, 6]], dtype=torch.int32), (ids,)).values[0].dtype == torch.int64
    for value in (0.5, math.inf, math.nan):
        with pytest.raises(
            TypeError, match=f"baselines must be whole numbers as the inputs are .torch.int64., got {value}"
        ):
            format_baselines(value, (ids,))
