"""Baselines that stand for a data set: centres of clusters, and draws by stratum."""

from __future__ import annotations

import copy
import pickle
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from captum_wg import ExpectedGradients, LayerExpectedGradients, baselines
from captum_wg.baselines import compose, k_means, sample, stratified

CENTRES = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 20.0]])


@pytest.fixture
def clusters(draw):
    """300 rows around three centres, shuffled, and the centre of each."""
    names = torch.randperm(300, generator=torch.Generator().manual_seed(0)) % 3
    return CENTRES[names] + 0.1 * draw(300, 2).float(), names


# --- k_means


def test_centres_are_the_means_of_clusters_that_are_apart(clusters):
    rows, names = clusters
    found = k_means(rows, 3)(torch.zeros(1, 2))
    expected = torch.stack([rows[names == c].double().mean(0) for c in range(3)]).float()
    order = torch.cdist(expected, found).argmin(1)
    assert sorted(order.tolist()) == [0, 1, 2]
    torch.testing.assert_close(found[order], expected)


def test_nearest_are_rows_literally(clusters):
    rows, names = clusters
    found = k_means(rows, 3, nearest=True)(torch.zeros(1, 2)).tolist()
    expected = []
    for c in range(3):
        own = rows[names == c].double()
        distances = [float((row - own.mean(0)).square().sum()) for row in own]
        expected.append(own[distances.index(min(distances))].float().tolist())
    assert sorted(found) == sorted(expected)


def test_centres_of_tuples_are_of_whole_rows(draw):
    data = draw(40, 3), draw(40, 2, 2, seed=1)
    inputs = torch.zeros(1, 3, dtype=torch.float64), torch.zeros(1, 2, 2)
    first, second = k_means(data, 4)(inputs)
    assert first.shape == (4, 3) and second.shape == (4, 2, 2) and second.dtype == torch.float32
    flat = k_means(torch.cat([data[0], data[1].flatten(1)], 1), 4)(torch.zeros(1, 7, dtype=torch.float64))
    torch.testing.assert_close(torch.cat([first, second.double().flatten(1)], 1), flat, rtol=1e-6, atol=1e-6)
    row, other = k_means(data, 4, nearest=True)(inputs)
    where = [int((data[0] == r).all(1).nonzero()) for r in row]
    assert torch.equal(other, data[1][where].float())


def test_as_many_centres_as_rows_are_the_rows(draw):
    rows = draw(5, 3)
    found = k_means(rows.numpy(), 5)(rows)
    torch.testing.assert_close(found.sort(0).values, rows.sort(0).values)
    assert torch.cdist(found, rows).min(1).values.max() < 1e-12


# --- stratified


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_strata_have_their_shares(data):
    sizes = data.draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    k = data.draw(st.integers(1, sum(sizes)))
    names = np.repeat(np.arange(len(sizes)), sizes)[np.random.default_rng(0).permutation(sum(sizes))]
    rows = torch.arange(float(sum(sizes))).unsqueeze(1)
    found = stratified(rows, names, k, generator=data.draw(st.integers(0, 99)))(rows).flatten().long()
    assert len(found.unique()) == k
    counts = np.bincount(names[found.numpy()], minlength=len(sizes))
    # Literally: every stratum its rounded-down share, the rest one after another to the largest remainders.
    exact = [k * size / sum(sizes) for size in sizes]
    expected = [k * size // sum(sizes) for size in sizes]
    while sum(expected) < k:
        expected[max(range(len(sizes)), key=lambda i: (round(exact[i] - expected[i], 9), -i))] += 1
    assert counts.tolist() == expected


def test_equal_remainders_go_by_position():
    rows = torch.arange(12.0).unsqueeze(1)
    found = stratified(rows, [0, 1] + [2] * 10, 4)(rows).flatten()  # shares of 1/3, 1/3 and 10/3
    assert found[0] == 0 and (found[1:] > 1).all()


def test_rows_of_no_known_stratum_are_one_of_their_own():
    rows = torch.arange(6.0).unsqueeze(1)
    found = stratified(rows, [0.0, np.nan, 0.0, np.nan, 0.0, np.nan], 4)(rows).flatten()
    assert sorted(int(row) % 2 for row in found) == [0, 0, 1, 1]


def test_equal_parts():
    names = ["a"] * 50 + ["b"] * 5 + ["c"] * 5
    rows = torch.arange(60.0).unsqueeze(1)
    found = stratified(rows, names, 9, allocation="equal")(rows).flatten()
    assert [int(((found >= low) & (found < high)).sum()) for low, high in ((0, 50), (50, 55), (55, 60))] == [3, 3, 3]


def test_every_row_of_a_stratum_is_as_likely():
    rows, names = torch.arange(6.0).unsqueeze(1), [0, 0, 0, 1, 1, 1]
    drawn = [stratified(rows, names, 2, generator=seed)(rows) for seed in range(300)]
    counts = torch.bincount(torch.cat(drawn).flatten().long(), minlength=6)
    assert counts.sum() == 600 and (counts - 100).abs().max() < 40


def test_a_stratified_draw_spreads_less_than_another(clusters):
    rows, names = clusters

    def spread(make):
        return torch.stack([make(seed)(rows).mean(0) for seed in range(40)]).std(0).norm()

    assert spread(lambda s: stratified(rows, names, 6, s)) < 0.2 * spread(lambda s: sample(rows, 6, s))


def test_strata_of_a_dataset(clusters):
    rows, names = clusters
    found = stratified(TensorDataset(rows, names), names, 6)(rows)
    assert torch.equal(found, stratified(rows, names, 6)(rows))


# --- both


@pytest.mark.parametrize(
    "drawn",
    [
        sample(torch.arange(12).view(6, 2), 2),
        sample(TensorDataset(torch.arange(12).view(6, 2)), 2),
        k_means(torch.arange(12).view(6, 2), 2, nearest=True),
        stratified(np.arange(12).reshape(6, 2), [0, 0, 0, 1, 1, 1], 2),
    ],
)
def test_token_ids_have_rows_of_ids_for_baselines(drawn):
    ids = torch.tensor([[1, 2], [3, 4], [5, 6]], dtype=torch.int32)
    rows = drawn(ids)
    assert rows.dtype == torch.int32 and all(row.tolist() in np.arange(12).reshape(6, 2).tolist() for row in rows)
    padded = compose(drawn, torch.zeros(1, 2, dtype=torch.int32))
    assert torch.equal(padded(ids), torch.cat([rows, torch.zeros(1, 2)]).int())
    model = torch.nn.Sequential(torch.nn.Embedding(12, 3), torch.nn.Flatten(), torch.nn.Linear(6, 1))
    method = LayerExpectedGradients(model, model[0])
    expected = method.attribute(ids, padded(ids), pairing="shared")
    assert torch.equal(method.attribute(ids, padded, pairing="shared"), expected)
    with pytest.raises(TypeError, match=r"data must hold floating-point rows, got torch.int64"):
        drawn(ids.float())


def make(kind, data, names, k=4, **kwargs):
    return kind(data, k, **kwargs) if kind is k_means else kind(data, names, k, **kwargs)


@pytest.mark.parametrize("kind", [k_means, stratified])
def test_seeds_copies_and_pickles(kind, draw):
    rows, names = draw(60, 3), np.arange(60) % 4
    one = make(kind, rows, names, generator=7)
    first = one(rows)
    assert torch.equal(make(kind, rows, names, generator=7)(rows), first)
    for other in (one, copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert torch.equal(other(rows), first)
    assert not torch.equal(make(kind, rows, names, generator=8)(rows), first)
    state = torch.random.get_rng_state(), np.random.get_state()[1].copy()
    make(kind, rows, names)(rows)
    assert torch.equal(torch.random.get_rng_state(), state[0]) and (np.random.get_state()[1] == state[1]).all()
    own = make(kind, rows, names, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(own(rows), own(rows))
    assert f"k=4, generator={7!r}" in repr(one)


@pytest.mark.parametrize("kind", [k_means, stratified, sample])
def test_a_data_frame_is_an_array(kind, draw):
    frame = pytest.importorskip("pandas").DataFrame(draw(20, 3).numpy(), index=range(5, 25), columns=list("abc"))
    of_frame, of_array = (
        kind(data, np.arange(20) % 2, 4) if kind is stratified else kind(data, 4) for data in (frame, frame.to_numpy())
    )
    assert torch.equal(of_frame(draw(2, 3)), of_array(draw(2, 3)))


@pytest.mark.parametrize("kind", [k_means, stratified])
def test_in_a_composition_and_a_method(kind, draw):
    rows, names = draw(60, 3), np.arange(60) % 4
    twice = compose(make(kind, rows, names), make(kind, rows, names))(rows)
    assert not torch.equal(twice[:4], twice[4:])
    x = draw(2, 3, seed=1)
    found = ExpectedGradients(lambda z: (z**2).sum(1)).attribute(x, make(kind, rows, names))
    assert torch.equal(found, ExpectedGradients(lambda z: (z**2).sum(1)).attribute(x, make(kind, rows, names)(x)))


def test_they_are_generators_of_the_baselines_module():
    assert {"k_means", "stratified"} <= set(baselines.__all__)


ROWS = torch.arange(12.0).view(6, 2)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: k_means(ROWS, 7), ValueError, "k=7 rows cannot be drawn"),
        (lambda: k_means(ROWS, 0), ValueError, "k must be a whole number"),
        (lambda: k_means(ROWS, 2, nearest=1), TypeError, "nearest must be True or False"),
        (lambda: k_means(TensorDataset(ROWS), 2), TypeError, "data must be a Tensor or array .* baselines.sample"),
        (lambda: k_means(ROWS // 6, 3)(ROWS), ValueError, "data has 2 different rows, too few for k=3"),
        (lambda: k_means(ROWS * torch.nan, 2)(ROWS), ValueError, "data has NaN or infinite values"),
        (lambda: k_means(ROWS, 2)(ROWS[:, :1]), ValueError, "data has a row of shapes"),
        (
            lambda: k_means(ROWS.long(), 2)(ROWS.long()),
            TypeError,
            r"data must hold rows of whole numbers.*nearest=True",
        ),
        (lambda: stratified(ROWS > 2, [0] * 6, 2)(ROWS.long()), TypeError, "rows of whole numbers.*got torch.bool"),
        (lambda: stratified(ROWS, [0] * 5, 2), ValueError, r"strata must name the stratum of each row .* \(6,\), got"),
        (lambda: stratified(DataLoader(ROWS), [0], 2), TypeError, "data must have a length to have strata"),
        (lambda: stratified(ROWS, [0] * 6, 7), ValueError, "k=7 rows cannot be drawn"),
        (lambda: stratified(ROWS, [0] * 6, 2, allocation="optimal"), ValueError, "allocation must be one of"),
        (
            lambda: stratified(ROWS, list("aaaaab"), 4, allocation="equal")(ROWS),
            ValueError,
            "stratum .*b.* has 1 rows, too few for 2 of k=4",
        ),
    ],
)
def test_what_can_not_be(call, error, words):
    with pytest.raises(error, match=words):
        call()


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ImportError, match="k_means needs scikit-learn; install it"):
        k_means(ROWS, 2)(ROWS)
