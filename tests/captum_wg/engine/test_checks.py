from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from captum.attr import NoiseTunnel

from captum_wg import ExpectedGradients
from captum_wg.engine import checks

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


def test_rows_are_named_and_long_lists_cut():
    assert checks.name_rows(torch.tensor([False, True, False, True])) == "1, 3"
    assert checks.name_rows(torch.ones(10, dtype=torch.bool)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9"
    assert checks.name_rows(torch.ones(12, dtype=torch.bool)) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ... (12 in all)"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("shape", [(3,), (3, 2), (3, 2, 2, 2)])
def test_not_finite_finds_the_row(shape, value):
    x = torch.zeros(shape)
    assert checks.not_finite(x).tolist() == [False] * 3
    x[1].fill_(value)
    assert checks.not_finite(x).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("inputs", "error", "match"),
    [
        ((), ValueError, "inputs is an empty tuple"),
        ([torch.ones(2)], TypeError, "got list .make a list a tuple"),
        (np.ones(3), TypeError, "got ndarray"),
        (None, TypeError, "got NoneType"),
        (torch.ones(2, 3).long(), TypeError, "floating point.*int64.*embedding layer"),
        (torch.ones(2, 3) > 0, TypeError, "embedding layer"),
        (torch.ones(2, 3) * 1j, TypeError, "complex64"),
        (torch.tensor(1.0), ValueError, "at least one example"),
        (torch.ones(0, 3), ValueError, r"at least one example.*\(0, 3\)"),
        ((torch.ones(2, 3), torch.ones(3, 3)), ValueError, r"agree in dimension 0.*\[2, 3\]"),
        (torch.tensor([[1.0], [math.nan], [math.inf]]), ValueError, "inputs holds NaN or infinite.*examples 1, 2;"),
        ((torch.ones(2, 1), torch.tensor([1.0, -math.inf])), ValueError, "examples 1;"),
    ],
)
def test_bad_inputs_are_refused(inputs, error, match):
    with pytest.raises(error, match=match):
        checks.check_inputs(inputs)


def test_good_inputs_pass_as_a_tuple():
    x, y = torch.ones(2), torch.ones(2, 3, dtype=torch.bfloat16)
    assert checks.check_inputs(x) == (x,)
    assert checks.check_inputs((x, y)) == (x, y)


@pytest.mark.parametrize("value", [0, -1, 2.0, 1.5, "3", None, True, math.nan])
def test_not_a_positive_int(value):
    with pytest.raises(ValueError, match=f"n_steps must be a whole number of at least 1, got {value!r}"):
        checks.check_positive_int(value, "n_steps")


def test_positive_ints_of_any_kind():
    assert [checks.check_positive_int(v, "n") for v in (1, np.int64(7), torch.tensor(3))] == [1, 7, 3]


def test_choice():
    assert checks.check_choice("b", "method", ("a", "b")) == "b"
    with pytest.raises(ValueError, match=r"method must be one of \('a', 'b'\), got 'c'"):
        checks.check_choice("c", "method", ("a", "b"))


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, "0.5", None, True])
def test_number_outside(value):
    with pytest.raises(ValueError, match=r"alpha must be a number in \[0.0, 1.0\]"):
        checks.check_number(value, "alpha", 0.0, 1.0)


@pytest.mark.parametrize("value", [0, 1, 0.0, 1.0])
def test_bounds_belong_to_closed_intervals_only(value):
    assert checks.check_number(value, "alpha", 0.0, 1.0) == value
    with pytest.raises(ValueError, match=r"alpha must be a number in \(0.0, 1.0\)"):
        checks.check_number(value, "alpha", 0.0, 1.0, open_interval=True)


def test_a_seed_gives_the_same_draws_and_none_is_a_fixed_seed():
    cpu = torch.device("cpu")

    def first(generator):
        return torch.rand(3, generator=checks.check_generator(generator, cpu)).tolist()

    assert first(7) == first(7) == first(torch.Generator().manual_seed(7))
    assert first(7) != first(8)
    assert first(None) == first(None) == first(checks.DEFAULT_SEED)


def test_a_seed_draws_on_the_cpu_for_every_device():
    assert checks.check_generator(3, torch.device("cuda")).device.type == "cpu"


def test_generators_that_do_not_fit():
    with pytest.raises(ValueError, match=r"generator is on cpu, the inputs are on cuda.*torch.Generator\('cuda'\)"):
        checks.check_generator(torch.Generator(), torch.device("cuda"))
    for generator in (1.5, "seed", True):
        with pytest.raises(TypeError, match=r"generator must be a torch\.Generator, an int seed or None"):
            checks.check_generator(generator, torch.device("cpu"))


def test_warnings_point_at_the_callers_line():
    x = torch.ones(2, 3)
    method = ExpectedGradients(lambda x: x.sum(1))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method.attribute(x, torch.eye(3)[:2])
        NoiseTunnel(method).attribute(x, nt_samples=1, baselines=torch.eye(3)[:2])
    assert [w.filename for w in caught] == [__file__] * 2
