import copy
import math
import pickle
import random
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from captum_wg.baselines import (
    channel_mean,
    compose,
    constant,
    gaussian,
    gaussian_blur,
    maximum_distance,
    sample,
    uniform,
)

DATA = torch.randn(20, 3, 6, 5, generator=torch.Generator().manual_seed(5))
IMAGES = torch.randn(2, 3, 6, 5, generator=torch.Generator().manual_seed(6))
ROWS = torch.randn(4, 7, generator=torch.Generator().manual_seed(7))
ALL = [
    constant(0.0, (0.1, 0.2, 0.3)),
    uniform(3),
    gaussian(3, 0.5),
    gaussian(3, (0.5, 1.0, 2.0), center=0.0),
    gaussian_blur([1.0, 2.0]),
    channel_mean(),
    maximum_distance(),
    sample(DATA, 4),
    compose(constant(0.0), uniform(2), gaussian_blur(1.5)),
]
SEEDED = [
    lambda seed: uniform(3, generator=seed),
    lambda seed: gaussian(3, 0.5, generator=seed),
    lambda seed: gaussian(3, 0.5, center=0.0, generator=seed),
    lambda seed: sample(DATA, 4, generator=seed),
    lambda seed: sample(DataLoader(TensorDataset(DATA), batch_size=3, shuffle=True), 4, generator=seed),
    lambda seed: compose(uniform(2, generator=seed), gaussian(2, 1.0, generator=seed)),
]


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


class Stream(IterableDataset):
    def __init__(self, rows):
        self.rows = rows

    def __iter__(self):
        return iter(self.rows)


# Formulas, in loops


def test_constant():
    assert torch.equal(constant(0)(IMAGES), torch.zeros(1, 3, 6, 5))
    result = constant(0.5, (1, 2, 3), torch.tensor([0.0, 1.0, 0.0]))(IMAGES)
    assert result.shape == (3, 3, 6, 5)
    for c in range(3):
        assert (result[0, c] == 0.5).all() and (result[1, c] == c + 1).all() and (result[2, c] == c % 2).all()
    assert constant(range(7))(ROWS).tolist() == [[0, 1, 2, 3, 4, 5, 6]]


def test_uniform_is_low_plus_width_times_u():
    x = IMAGES.double()
    u = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    result = uniform(4, -1, (1, 2, 3), generator=9)(x)
    own = uniform(4, generator=9)(x)
    for k in range(4):
        for c in range(3):
            low, high = min(x[:, c].flatten().tolist()), max(x[:, c].flatten().tolist())
            for i in range(6):
                for j in range(5):
                    draw = float(u[k, c, i, j])
                    assert float(result[k, c, i, j]) == pytest.approx(-1 + (c + 2) * draw)
                    assert float(own[k, c, i, j]) == pytest.approx(low + (high - low) * draw)


def test_the_range_of_other_inputs_is_that_of_the_whole_tensor():
    result = uniform(4000)(ROWS)
    assert result.shape == (4000, 7)
    assert float(result.min()) >= float(ROWS.min()) and float(result.max()) <= float(ROWS.max())
    width = float(ROWS.max() - ROWS.min())
    assert float(result.min() - ROWS.min()) < 0.01 * width > float(ROWS.max() - result.max())
    assert float(result.mean()) == pytest.approx(float(ROWS.max() + ROWS.min()) / 2, abs=0.02 * width)


def test_one_bound_may_be_the_inputs_own():
    result = uniform(500, low=-9.0)(ROWS)
    assert -9 <= float(result.min()) < -8.5 and float(result.max()) <= float(ROWS.max())


def test_gaussian_around_each_input_and_around_a_center():
    x, stdev = IMAGES.double(), (0.5, 1.0, 2.0)
    noise = torch.randn(4, 3, 6, 5, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    around = gaussian(4, stdev, generator=9)(x)
    pure = gaussian(4, stdev, center=(1, 2, 3), generator=9)(x)
    assert around.shape == (2, 4, 3, 6, 5) and pure.shape == (4, 3, 6, 5)
    for k in range(4):
        for c in range(3):
            offset = stdev[c] * noise[k, c]
            assert torch.allclose(pure[k, c], c + 1 + offset)
            for b in range(2):
                assert torch.allclose(around[b, k, c], x[b, c] + offset)


def test_gaussian_moments():
    result = gaussian(20000, 3.0, center=2.0)(ROWS)
    assert float(result.mean()) == pytest.approx(2, abs=0.05) and float(result.std()) == pytest.approx(3, abs=0.05)


def literal_blur(image, sigma):
    """A weighted mean of the neighbours, mirrored at the border without repeating the edge."""
    height, width = image.shape
    reach = [min(math.ceil(3 * sigma), side - 1) for side in (height, width)]
    weights = [[math.exp(-0.5 * (d / sigma) ** 2) for d in range(-r, r + 1)] for r in reach]
    result = torch.zeros_like(image)
    mirror = lambda i, side: abs(i) if i < side else 2 * (side - 1) - i  # noqa: E731
    for i in range(height):
        for j in range(width):
            total = 0.0
            for di in range(-reach[0], reach[0] + 1):
                for dj in range(-reach[1], reach[1] + 1):
                    w = weights[0][di + reach[0]] * weights[1][dj + reach[1]]
                    total += w * float(image[mirror(i + di, height), mirror(j + dj, width)])
            result[i, j] = total / (sum(weights[0]) * sum(weights[1]))
    return result


def test_gaussian_blur():
    x = IMAGES.double()
    sigmas = [0.7, 5.0]
    result = gaussian_blur(sigmas)(x)
    assert result.shape == (2, 2, 3, 6, 5)
    for k, sigma in enumerate(sigmas):
        assert torch.allclose(result[1, k, 2], literal_blur(x[1, 2], sigma))
    assert torch.equal(gaussian_blur(0.7)(x)[:, 0], result[:, 0])
    assert torch.allclose(gaussian_blur(3.0)(torch.full((1, 1, 9, 1), 2.0)), torch.tensor(2.0))


def test_channel_mean():
    x = IMAGES.double()
    result = channel_mean()(x)
    assert result.shape == (2, 1, 3, 6, 5)
    for b in range(2):
        for c in range(3):
            mean = sum(x[b, c].flatten().tolist()) / 30
            assert torch.allclose(result[b, 0, c], torch.tensor(mean, dtype=torch.float64))
    assert torch.allclose(channel_mean()(ROWS)[:, 0], ROWS.mean(1, keepdim=True).expand(4, 7))
    assert torch.equal(channel_mean()(ROWS[:, 0])[:, 0], ROWS[:, 0])


@pytest.mark.parametrize("bounds", [(None, None), (-1.0, 1.0), (0.0, (0.5, 1.0, 2.0)), ((-3.0, -2.0, -1.0), None)])
def test_maximum_distance(bounds):
    x = IMAGES.double()
    result = maximum_distance(*bounds)(x)
    assert result.shape == (2, 1, 3, 6, 5)
    for c in range(3):
        own = (float(x[:, c].min()), float(x[:, c].max()))
        low, high = (o if v is None else v[c] if isinstance(v, tuple) else v for v, o in zip(bounds, own, strict=True))
        for b in range(2):
            for i in range(6):
                for j in range(5):
                    value = float(x[b, c, i, j])
                    expected = high if abs(high - value) > abs(value - low) else low
                    assert float(result[b, 0, c, i, j]) == expected


def test_ties_of_maximum_distance_go_to_low():
    assert maximum_distance(0, 1)(torch.tensor([[0.5, 0.49, 0.51]])).tolist() == [[[0.0, 1.0, 0.0]]]


floats = st.floats(-1e6, 1e6, width=32)


@settings(max_examples=100, deadline=None)
@given(st.lists(floats, min_size=1, max_size=6), floats, floats, st.integers(0, 2**63 - 1))
def test_draws_and_corners_lie_in_the_range(values, a, b, seed):
    x, low, high = torch.tensor([values]), min(a, b), max(a, b)
    draws = uniform(5, low, high, generator=seed)(x)
    assert float(draws.min()) >= low and float(draws.max()) <= high
    corner = maximum_distance(low, high)(x)
    assert all(v in (low, high) for v in corner.flatten().tolist())
    # No point of the range is farther.
    for inside in (low, high, (low + high) / 2):
        assert ((corner[:, 0].double() - x).abs() >= (inside - x.double()).abs() - 1e-6 * (1 + abs(inside))).all()


# Tuples


def test_tuple_inputs_give_tuples():
    inputs = (IMAGES, torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    own = {gaussian_blur, channel_mean, maximum_distance}
    for generator in (
        constant(0, 1),
        uniform(3),
        gaussian(3, 1.0),
        gaussian_blur(1.0),
        channel_mean(),
        maximum_distance(),
    ):
        result = generator(inputs)
        assert isinstance(result, tuple) and len(result) == 2
        for b, x in zip(result, inputs, strict=True):
            assert b.shape[-3:] == x.shape[1:] and b.dtype == x.dtype
        if type(generator) in own or isinstance(generator, constant):
            assert torch.equal(result[1], generator(inputs[1]))
        assert isinstance(generator((IMAGES,)), tuple)
    one, two = uniform(3, 0, 1)((ROWS, ROWS))
    assert not torch.equal(one, two)


def test_rows_of_a_tuple_stay_together():
    left = torch.arange(10.0).view(10, 1)
    right = torch.stack([left[:, 0], -left[:, 0]], 1)
    inputs = (torch.zeros(2, 1), torch.zeros(2, 2))
    kinds = [
        (left, right),
        (left.numpy(), right.numpy()),
        [((a, b), 0) for a, b in zip(left, right, strict=True)],
        DataLoader([((a, b), 0) for a, b in zip(left, right, strict=True)], batch_size=4),
    ]
    for data in kinds:
        one, two = sample(data, 5)(inputs)
        assert one.shape == (5, 1) and two.shape == (5, 2)
        assert torch.equal(one[:, 0], two[:, 0]) and torch.equal(one[:, 0], -two[:, 1])
    both = compose(sample((left, right), 5), channel_mean())(inputs)
    assert [b.shape for b in both] == [(2, 6, 1), (2, 6, 2)]


# Composition


def test_compose_joins_in_order():
    shared = compose(constant(1.0, 2.0), constant(3.0))(ROWS)
    assert shared.shape == (3, 7) and shared[:, 0].tolist() == [1, 2, 3]
    own = compose(constant(1.0), channel_mean(), gaussian_blur([1.0, 2.0]), DATA[:2])(IMAGES)
    assert own.shape == (2, 6, 3, 6, 5)
    for b in range(2):
        assert (own[b, 0] == 1).all()
        assert torch.equal(own[b, 1], channel_mean()(IMAGES)[b, 0])
        assert torch.equal(own[b, 2:4], gaussian_blur([1.0, 2.0])(IMAGES)[b])
        assert torch.equal(own[b, 4:], DATA[:2])


def test_compose_takes_functions_and_baselines_of_each_example():
    own = compose(lambda x: x.unsqueeze(1) / 2, ROWS.unsqueeze(1))(ROWS)
    assert torch.equal(own, torch.stack([ROWS / 2, ROWS], 1))


def test_parts_without_a_seed_draw_different_noise():
    parts = compose(uniform(2), uniform(2), compose(uniform(2), uniform(2)), gaussian(2, 1.0, center=0.0))(ROWS)
    assert len({tuple(row) for row in parts.tolist()}) == 10
    assert torch.equal(parts[:2], uniform(2)(ROWS))
    assert torch.equal(parts[2:4], uniform(2, generator=1)(ROWS))
    same = compose(uniform(2, generator=3), uniform(2, generator=3))(ROWS)
    assert torch.equal(same[:2], same[2:])


# The contract of all


@pytest.mark.parametrize("generator", ALL, ids=repr)
def test_results_follow_the_inputs(generator):
    reference = generator(IMAGES.double())
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = IMAGES.to(dtype).requires_grad_()
        result = generator(x)
        assert result.dtype == dtype and result.device == x.device and not result.requires_grad
        assert result.shape == reference.shape
        tolerance = {torch.float32: 1e-5, torch.bfloat16: 0.05, torch.float16: 0.01}[dtype]
        if not isinstance(generator, maximum_distance):
            assert torch.allclose(result.double(), reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("generator", ALL, ids=repr)
def test_repeated_copied_and_pickled_generators_give_the_same_bits(generator):
    first = generator(IMAGES)
    for twin in (generator, copy.deepcopy(generator), copy.copy(generator), pickle.loads(pickle.dumps(generator))):
        assert torch.equal(twin(IMAGES), first)
        assert repr(twin) == repr(generator)


@pytest.mark.parametrize("generator", ALL, ids=repr)
def test_examples_come_in_the_batch_order(generator):
    result, mirrored = generator(IMAGES), generator(IMAGES.flip(0))
    assert torch.equal(mirrored, result.flip(0) if result.ndim == 5 else result)


@pytest.mark.parametrize("make", SEEDED)
def test_randomness_comes_from_the_generator_alone(make):
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    first = make(3)(IMAGES)
    torch.manual_seed(2), np.random.seed(2), random.seed(2)
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    assert torch.equal(make(3)(IMAGES), first)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.random.get_state()[1].tolist() == states[1] and random.getstate() == states[2]
    assert not torch.equal(make(4)(IMAGES), first)
    assert torch.equal(make(None)(IMAGES), make(None)(IMAGES))


@pytest.mark.parametrize("make", SEEDED)
def test_a_torch_generator_goes_on(make):
    source = torch.Generator().manual_seed(3)
    generator = make(source)
    first, second = generator(IMAGES), generator(IMAGES)
    assert not torch.equal(first, second)
    source.manual_seed(3)
    assert torch.equal(generator(IMAGES), first) and torch.equal(generator(IMAGES), second)
    if torch.__version__ >= (2, 4):  # before, a torch.Generator can't be copied
        twin = copy.deepcopy(generator)
        assert torch.equal(twin(IMAGES), generator(IMAGES))


def test_reprs():
    assert repr(constant(0, (1, 2))) == "constant(0.0, (1.0, 2.0))"
    assert repr(uniform(3, low=0)) == "uniform(k=3, low=0.0, high=None, generator=None)"
    assert repr(sample(DATA, 4)) == "sample(<Tensor of 20>, k=4, generator=None)"
    assert repr(sample(Stream(DATA), 4)) == "sample(<Stream>, k=4, generator=None)"
    assert repr(compose(gaussian_blur(2), DATA)) == "compose(gaussian_blur(sigmas=(2.0,)), <Tensor (20, 3, 6, 5)>)"


def test_generators_serve_an_attribution():
    from captum.attr import GradientShap

    references = compose(constant(0.0), sample(DATA, 3), uniform(2))
    shap = GradientShap(lambda x: x.flatten(1).pow(2).sum(1))
    assert shap.attribute(IMAGES, references(IMAGES), n_samples=2).shape == IMAGES.shape


# Guards


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: constant(), ValueError, "constant needs at least one value"),
        (lambda: constant("0"), TypeError, "values must be a number or a sequence of numbers"),
        (lambda: constant(True), TypeError, "values must be a number"),
        (lambda: constant([]), ValueError, "values must be finite, and at least one"),
        (lambda: constant(math.nan), ValueError, "values must be finite"),
        (lambda: uniform(0), ValueError, "k must be a whole number of at least 1, got 0"),
        (lambda: uniform(2.0), ValueError, "k must be a whole number of at least 1, got 2.0"),
        (lambda: uniform(True), ValueError, "k must be a whole number of at least 1, got True"),
        (lambda: gaussian(-1, 1.0), ValueError, "k must be a whole number of at least 1"),
        (lambda: sample(DATA, 0), ValueError, "k must be a whole number of at least 1"),
        (lambda: uniform(2, 1, 0), ValueError, "low must not be above high, got low=1.0 and high=0.0"),
        (lambda: uniform(2, (0, 0.5), (1, 0.4)), ValueError, "low must not be above high"),
        (lambda: uniform(2, (0, 0.5), (1, 1, 1)), ValueError, "low has 2 numbers and high has 3"),
        (lambda: maximum_distance(1, 0), ValueError, "low must not be above high"),
        (lambda: maximum_distance(math.inf), ValueError, "low must be finite"),
        (lambda: gaussian(2, 0.0), ValueError, "stdev must be above 0, got 0.0"),
        (lambda: gaussian(2, (1.0, -1.0)), ValueError, "stdev must be above 0"),
        (lambda: gaussian(2, "1"), TypeError, "stdev must be a number"),
        (lambda: gaussian(2, 1.0, center=math.inf), ValueError, "center must be finite"),
        (lambda: gaussian_blur(0), ValueError, "sigmas must be above 0"),
        (lambda: gaussian_blur([1.0, -2.0]), ValueError, "sigmas must be above 0"),
        (lambda: gaussian_blur([]), ValueError, "sigmas must be finite, and at least one"),
        (lambda: uniform(2, generator="0"), TypeError, "generator must be a torch.Generator, an int seed or None"),
        (lambda: uniform(2, generator=True), TypeError, "generator must be a torch.Generator, an int seed or None"),
        (lambda: compose(), ValueError, "compose needs at least one generator"),
        (lambda: compose(constant(0), 0.5), TypeError, r"parts\[1\] must be callable or a Tensor.*use constant"),
        (lambda: compose(()), TypeError, r"parts\[0\] must be callable or a Tensor of baselines, got tuple"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("generator", "inputs", "error", "message"),
    [
        (constant(0), [1.0], TypeError, "inputs must be a Tensor or a tuple of Tensors, got list"),
        (constant(0), (IMAGES, 1), TypeError, "inputs must be a Tensor or a tuple of Tensors, got int"),
        (constant(0), (), ValueError, "inputs is an empty tuple"),
        (constant(0), torch.zeros(2, 3, dtype=torch.uint8), TypeError, "inputs must be floating point.*torch.uint8"),
        (uniform(1), torch.zeros(0, 3), ValueError, r"inputs must have at least one example.*got shape \(0, 3\)"),
        (constant((1, 2)), IMAGES, ValueError, "values has 2 numbers, but inputs .* have 3; give one number"),
        (constant((1,)), ROWS[:, 0], ValueError, "values has 1 numbers, but inputs"),
        (uniform(1, (0, 0), 1), IMAGES, ValueError, "low has 2 numbers"),
        (gaussian(1, (1.0, 1.0)), IMAGES, ValueError, "stdev has 2 numbers"),
        (gaussian(1, 1.0, center=(1, 1)), IMAGES, ValueError, "center has 2 numbers"),
        (uniform(1, low=100), IMAGES, ValueError, "low=100.0 and high=the largest input; give both"),
        (maximum_distance(high=-100), IMAGES, ValueError, "low=the smallest input and high=-100.0"),
        (uniform(1), ROWS * math.nan, ValueError, "inputs hold NaN or infinite values, which give no range"),
        (maximum_distance(0), ROWS / 0, ValueError, "inputs hold NaN or infinite"),
        (gaussian_blur(1.0), ROWS, ValueError, r"gaussian_blur needs images \(B, C, H, W\), got .* \(4, 7\)"),
        (compose(lambda x: 0), ROWS, TypeError, r"parts\[0\] \(<<lambda>>\) must give a Tensor.* got int"),
        (compose(lambda x: ROWS[:, :6]), ROWS, ValueError, r"parts\[0\] .*shape \(K, 7\) or .* got \(4, 6\)"),
        (compose(0 * ROWS, lambda x: ROWS[:0]), ROWS, ValueError, r"parts\[1\] .*empty.* at least one \(K >= 1\)"),
        (compose(ROWS), (ROWS,), TypeError, "must give a tuple of Tensors, as the inputs are, got Tensor"),
        (compose((ROWS,)), (ROWS, ROWS), ValueError, r"parts\[0\] .*each of the 2 inputs, got a tuple of 1"),
        (compose((ROWS, ROWS[:2])), (ROWS, ROWS), ValueError, r"parts\[0\] .*same number of rows .*got \[4, 2\]"),
    ],
)
def test_bad_inputs_are_refused(generator, inputs, error, message):
    with pytest.raises(error, match=message):
        generator(inputs)


@pytest.mark.parametrize("make", SEEDED)
def test_a_generator_on_another_device_is_refused(make):
    with pytest.raises(ValueError, match="generator is on cpu, the inputs are on meta"):
        make(torch.Generator())(IMAGES.to("meta"))
