from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_wg.weighting.masking import NEUTRALS, Features, neutral_values, numbered, ranks

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def integers(*values):
    return torch.tensor(values)


# --- features and their scores


def test_pixels_of_images_voxels_of_volumes_and_elements_of_everything_else(draw):
    counts = {(): 1, (5,): 5, (4, 3): 12, (3, 4, 5): 20, (2, 3, 2, 2): 12}
    for feature, count in counts.items():
        features = Features((draw(2, *feature),))
        assert features.count == count and features.counts.tolist() == [count] * 2
    inputs = tuple(draw(2, *feature) for feature in counts)
    assert Features(inputs).count == sum(counts.values())


@pytest.mark.parametrize("ranking", ["signed", "absolute"])
def test_scores_against_a_loop(draw, ranking):
    size = abs if ranking == "absolute" else float
    image, table = draw(2, 3, 4, 5), draw(2, 6, seed=1)
    scores = Features((image, table)).scores((image, table), ranking)
    assert scores.shape == (2, 26)
    for b in range(2):
        expected = [sum(size(image[b, c, h, w].item()) for c in range(3)) for h in range(4) for w in range(5)] + [
            size(v) for v in table[b].tolist()
        ]
        assert scores[b].tolist() == pytest.approx(expected)


def test_a_map_of_one_channel_serves_for_an_image(draw):
    image, shown = draw(2, 3, 2, 2), draw(2, 1, 2, 2)
    assert torch.equal(Features((image,)).scores((shown,)), shown.flatten(1))
    grouped = Features((image,), (integers(0, 0, 1, 1).view(1, 1, 2, 2),)).scores((shown,))
    torch.testing.assert_close(grouped, 3 * torch.stack([shown[:, 0, 0].sum(1), shown[:, 0, 1].sum(1)], 1))


def test_examples_without_features_have_one(draw):
    x = draw(3)
    features = Features((x,))
    assert torch.equal(features.scores((x,)), x.unsqueeze(1))
    (removed,) = features.remove((x,), (torch.zeros(1).double(),), torch.tensor([[True], [False], [True]]))
    assert removed.tolist() == [0, x[1].item(), 0]


@pytest.mark.parametrize("ranking", ["signed", "absolute"])
def test_scores_of_groups_against_a_loop(draw, ranking):
    x, y = draw(2, 4), draw(2, 1, 2, 2, seed=1)
    masks = (integers([7, 7, 2, 5], [2, 5, 5, 7]), integers(5, 9, 9, 2).view(1, 1, 2, 2))
    scores = Features((x, y), masks).scores((x, y), ranking)
    for b in range(2):
        for place, group in enumerate((2, 5, 7, 9)):
            members = [x[b, i] for i in range(4) if masks[0][b, i] == group]
            members += [y[b].flatten()[i] for i in range(4) if masks[1].flatten()[i] == group]
            total = sum(v.abs() if ranking == "absolute" else v for v in members)
            assert scores[b, place] == pytest.approx(float(total))


def test_rows_of_groups_follow_their_example(draw):
    x = draw(2, 3)
    features = Features((x,), (integers([0, 0, 1], [1, 0, 0]),))
    values = torch.tensor([[1.0, 10.0, 100.0]] * 3)
    assert features.scores((values,), examples=integers(1, 0, 1)).tolist() == [[110, 1], [11, 100], [110, 1]]


def test_groups_an_example_does_not_have_come_last_and_do_not_count(draw):
    x = draw(2, 4)
    features = Features((x,), (integers([0, 1, 2, 3], [5, 5, 2, 2]),))
    assert features.count == 5
    assert features.counts.tolist() == [4, 2]
    scores = features.scores((torch.full_like(x, -1.0),))
    assert scores.tolist() == [[-1, -1, -1, -1, -math.inf], [-math.inf, -math.inf, -2, -math.inf, -2]]
    assert ranks(scores)[1, [2, 4]].tolist() == [0, 1]


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int32, torch.int64])
def test_group_numbers_of_any_integer_dtype(draw, dtype):
    features = Features((draw(2, 3),), (integers(1, 0, 1).to(dtype),))
    assert features.scores((torch.tensor([[1.0, 2.0, 3.0]] * 2),)).tolist() == [[2, 4]] * 2


def test_group_masks_that_broadcast_raise_no_warning(draw):
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            image = draw(2, 3, 2, 2)
            assert Features((image,), (torch.arange(4).view(1, 1, 2, 2),)).count == 4
            assert Features((image,), (torch.arange(4).view(2, 2),)).count == 4
            assert Features((image,), (torch.arange(3).view(3, 1, 1),)).count == 3
    finally:
        torch.set_warn_always(False)


@pytest.mark.parametrize("grouped", [False, True])
def test_on_another_device_all_of_it_is_there(draw, grouped):
    x = draw(2, 3, 4, 4)
    features = Features((x,), (torch.arange(16).view(1, 1, 4, 4) // 3,) if grouped else None)
    moved, marked = features.to(torch.device("meta")), torch.zeros(2, features.count, dtype=torch.bool, device="meta")
    away = x.to("meta")
    assert moved.count == features.count and moved.counts.is_meta and not features.counts.is_meta
    assert moved.scores((away,)).is_meta and moved.remove((away,), (away,), marked)[0].is_meta
    held = [part for value in vars(moved).values() for part in (value if isinstance(value, list) else [value])]
    assert all(part.is_meta for part in held if isinstance(part, torch.Tensor))


def test_unknown_ranking(draw):
    with pytest.raises(ValueError, match=r"ranking must be one of \('signed', 'absolute'\), got 'abs'"):
        Features((draw(2, 3),)).scores((draw(2, 3),), "abs")


@pytest.mark.parametrize(
    ("masks", "error", "match"),
    [
        ((integers(0, 1, 2), integers(0, 1, 2)), ValueError, "feature_mask is a tuple of 2, but there are 1 inputs"),
        ((torch.zeros(3),), TypeError, r"integer Tensors .group numbers., got torch\.float32"),
        (([0, 1, 2],), TypeError, "got list"),
        ((integers(0, 1),), ValueError, r"feature_mask has shape \(2,\), which does not broadcast to .*\(2, 3\)"),
        ((torch.zeros(3, 3).long(),), ValueError, r"shape \(3, 3\)"),
        ((torch.zeros(1, 2, 3).long(),), ValueError, "does not broadcast"),
    ],
)
def test_feature_masks_that_do_not_fit(draw, masks, error, match):
    with pytest.raises(error, match=match):
        Features((draw(2, 3),), masks)


@pytest.mark.parametrize("rows", [1, 4])
def test_a_mask_of_steps_is_not_taken_for_one_of_features(draw, rows):
    steps = torch.arange(4).expand(rows, 4)
    with pytest.raises(ValueError, match=r"the first or the last dimensions .*mask\.unsqueeze\(-1\), else mask"):
        Features((draw(4, 4, 4),), (steps,))
    with pytest.raises(ValueError, match=r"not broadcast to the input's \(4, 4, 5\); for .*mask\.unsqueeze\(-1\)"):
        Features((draw(4, 4, 5),), (steps,))
    x = draw(4, 4, 4)
    by_step, by_feature = (Features((x,), (mask,)).scores((x,)) for mask in (steps.unsqueeze(-1), steps.unsqueeze(1)))
    torch.testing.assert_close(by_step, x.sum(2))
    torch.testing.assert_close(by_feature, x.sum(1))
    # Of other shapes there is one reading.
    torch.testing.assert_close(Features((x,), (torch.arange(4),)).scores((x,)), x.sum(1))
    assert Features((x,), (torch.zeros(1, 1, dtype=torch.long),)).count == 1


@settings(deadline=None, max_examples=50)
@given(st.lists(st.lists(st.integers(-9, 9), min_size=1, max_size=6), min_size=1, max_size=3))
def test_numbers_without_gaps(lists):
    made, count = numbered(tuple(map(torch.tensor, lists)))
    known = sorted({number for values in lists for number in values})
    assert count == len(known)
    assert [mask.tolist() for mask in made] == [[known.index(number) for number in values] for values in lists]


# --- ranks


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 12).flatmap(lambda n: st.lists(st.lists(st.integers(-3, 3), min_size=n, max_size=n), min_size=1)))
def test_ranks_are_those_of_a_stable_sort(rows):
    found = ranks(torch.tensor(rows, dtype=torch.float32))
    for row, places in zip(rows, found.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        assert [places[i] for i in order] == list(range(len(row)))


def test_ranks_below_n_mark_n_features(draw):
    places = ranks(draw(3, 10))
    for n in range(11):
        assert (places < n).sum(1).tolist() == [n] * 3


# --- removal


def test_removal_against_a_loop(draw):
    image, table = draw(2, 3, 2, 2), draw(2, 3, seed=1)
    neutral = (draw(1, 3, 1, 1, seed=2), draw(2, 1, seed=3))
    removed = torch.rand(2, 7, generator=torch.Generator().manual_seed(4)) < 0.5
    first, second = Features((image, table)).remove((image, table), neutral, removed)
    for b in range(2):
        for p in range(4):
            h, w = divmod(p, 2)
            expected = neutral[0][0, :, 0, 0] if removed[b, p] else image[b, :, h, w]
            assert torch.equal(first[b, :, h, w], expected)
        for p in range(3):
            assert second[b, p] == (neutral[1][b, 0] if removed[b, 4 + p] else table[b, p])


def test_removal_of_groups_against_a_loop(draw):
    image, table = draw(1, 3, 2, 2), draw(1, 3, seed=1)
    masks = (torch.tensor([[[4, 4], [1, 8]]]), integers(8, 1, 1))
    zeros = (torch.zeros(1, 1, 1, 1).double(), torch.zeros(1, 1).double())
    features = Features((image, table), masks)
    rows = torch.eye(3, dtype=torch.bool)
    first, second = features.remove((image, table), zeros, rows, torch.zeros(3, dtype=torch.long))
    for row, group in enumerate((1, 4, 8)):
        keep = (masks[0] != group).expand(3, 2, 2)
        assert torch.equal(first[row], image[0] * keep)
        assert torch.equal(second[row], table[0] * (masks[1] != group))


def test_removal_by_groups_of_each_example(draw):
    x = draw(2, 3).abs() + 1
    features = Features((x,), (integers([0, 0, 1], [1, 0, 0]),))
    examples = integers(1, 0)
    (masked,) = features.remove(
        (x[examples],), (torch.zeros(1, 1).double(),), torch.tensor([[True, False]] * 2), examples
    )
    assert (masked == 0).tolist() == [[False, True, True], [True, True, False]]


def test_nothing_and_everything_removed(draw):
    x, value = draw(2, 3, 4, 4), draw(2, 3, 1, 1, seed=1)
    features = Features((x,))
    none = torch.zeros(2, 16, dtype=torch.bool)
    assert torch.equal(features.remove((x,), (value,), none)[0], x)
    assert torch.equal(features.remove((x,), (value,), ~none)[0], value.expand_as(x))


# --- neutral values


@pytest.mark.parametrize(("height", "width"), [(4, 4), (10, 10), (19, 21), (20, 35), (1, 1)])
def test_corners_against_a_loop(draw, height, width):
    x = draw(2, 3, height, width)
    h, w = max(1, int(0.1 * height)), max(1, int(0.1 * width))
    (value,) = neutral_values((x,), "corners")
    assert value.shape == (2, 3, 1, 1)
    for b in range(2):
        for c in range(3):
            means = []
            for top in (0, height - h):
                for left in (0, width - w):
                    square = [x[b, c, top + i, left + j].item() for i in range(h) for j in range(w)]
                    means.append(sum(square) / len(square))
            assert value[b, c].item() == pytest.approx(sum(means) / 4, rel=1e-12)


def test_auto_is_corners_for_images_and_zero_otherwise(draw):
    image, table, volume = draw(2, 3, 4, 4), draw(2, 5), draw(2, 3, 4, 4, 4)
    values = neutral_values((image, table, volume))
    assert torch.equal(values[0], neutral_values((image,), "corners")[0])
    assert values[1].tolist() == [[0.0]] and values[2].flatten().tolist() == [0.0]
    assert values[1].dtype == table.dtype


@pytest.mark.parametrize("feature", [(), (5,), (4, 3), (3, 4, 5), (2, 3, 2, 2)])
def test_black_is_the_examples_smallest_value(draw, feature):
    x = draw(3, *feature)
    (value,) = neutral_values((x,), "black")
    assert value.ndim == x.ndim
    assert value.flatten().tolist() == [x[b].min().item() for b in range(3)]


@pytest.mark.parametrize("feature", [(), (5,), (4, 3), (3, 4, 5), (2, 3, 2, 2)])
def test_mean_is_that_of_the_channel_or_of_all_features_and_of_one_example(draw, feature):
    x = draw(3, *feature)
    (value,) = neutral_values((x,), "mean")
    for b in range(3):
        if len(feature) < 2:
            assert value[b].item() == pytest.approx(x[b].mean().item())
        else:
            for c in range(feature[0]):
                assert value[b, c].item() == pytest.approx(x[b, c].mean().item())


def test_blur_leaves_broad_colours_only(draw):
    flat = torch.ones(1, 1, 8, 12).double() * 3
    torch.testing.assert_close(neutral_values((flat,), "blur")[0], flat)
    x = draw(2, 3, 16, 24)
    (value,) = neutral_values((x,), "blur")
    assert value.shape == x.shape
    assert value.var() < x.var() / 20
    for shape in ((1, 1, 1, 1), (1, 1, 2, 9)):
        assert neutral_values((torch.ones(shape),), "blur")[0].shape == shape


def test_numbers_tensors_callables_and_tuples_of_them(draw):
    image, table = draw(2, 3, 4, 4), draw(2, 5)
    values = neutral_values((image, table), 2)
    assert [v.flatten().tolist() for v in values] == [[2.0]] * 2
    assert [v.ndim for v in values] == [4, 2]
    colour = torch.tensor([1.0, 2.0, 3.0]).view(3, 1, 1)
    values = neutral_values((image, table), (colour, lambda x: x.amax(1, keepdim=True)))
    assert torch.equal(values[0], colour.unsqueeze(0).double())
    assert torch.equal(values[1], table.amax(1, keepdim=True))
    assert neutral_values((table,), lambda x: 1.5)[0].tolist() == [[1.5]]
    assert torch.equal(neutral_values((table,), (table,))[0], table)


@pytest.mark.parametrize(
    ("neutral", "error", "match"),
    [
        ("white", ValueError, "neutral must be one of .*'blur'.*got 'white'"),
        ("corners", ValueError, r"neutral='corners' needs images of shape \(B, C, H, W\), got .*\(2, 5\)"),
        ("blur", ValueError, "neutral='blur' needs images"),
        (torch.ones(4), ValueError, r"neutral has shape \(4,\), which does not broadcast to the input's \(2, 5\)"),
        (torch.ones(3, 2, 5), ValueError, "does not broadcast"),
        (lambda x: torch.ones(3, 5), ValueError, r"\(3, 5\), which does not broadcast"),
        (math.nan, ValueError, "neutral holds NaN or infinite"),
        (torch.full((5,), math.inf), ValueError, "neutral holds NaN or infinite"),
        (None, TypeError, "got NoneType"),
        (True, TypeError, "got bool"),
        ([0.0], TypeError, "got list"),
        ((0.0, 0.0), ValueError, "neutral is a tuple of 2, but there are 1 inputs"),
    ],
)
def test_neutral_values_that_do_not_fit(draw, neutral, error, match):
    with pytest.raises(error, match=match):
        neutral_values((draw(2, 5),), neutral)


def test_the_argument_is_called_what_the_caller_calls_it(draw):
    with pytest.raises(ValueError, match="removal must be one of"):
        neutral_values((draw(2, 5),), "white", name="removal")


@pytest.mark.parametrize("neutral", NEUTRALS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_values_have_the_inputs_dtype_and_one_example_at_a_time_gives_the_same(draw, neutral, dtype):
    x = draw(3, 2, 6, 6).to(dtype)
    (values,) = neutral_values((x,), neutral)
    assert values.dtype == dtype
    for b in range(3):
        (alone,) = neutral_values((x[b : b + 1],), neutral)
        torch.testing.assert_close(alone.expand(1, 2, 6, 6), values.expand(3, 2, 6, 6)[b : b + 1])


def test_a_vector_is_no_neutral_value_of_images():
    # Three values would broadcast along a width of three.
    with pytest.raises(ValueError, match=r"one value per channel reshape it to \(C, 1, 1\)"):
        neutral_values((torch.zeros(2, 3, 3, 3),), torch.zeros(3))


def test_auto_may_be_something_else(draw):
    images, vectors = draw(2, 3, 4, 4), draw(2, 5)
    auto = draw(1, 3, 4, 4, seed=1), draw(2, 5, seed=2)
    assert all(a is b for a, b in zip(neutral_values((images, vectors), auto=auto), auto, strict=True))
    mixed = neutral_values((images, vectors), ("auto", 3), auto=auto)
    assert mixed[0] is auto[0] and mixed[1].item() == 3
    assert neutral_values((images,), "corners", auto=auto)[0].shape == (2, 3, 1, 1)
