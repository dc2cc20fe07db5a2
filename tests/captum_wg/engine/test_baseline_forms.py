"""Forms of baselines that Captum's users have in their scripts."""

from __future__ import annotations

import functools
import warnings

import pytest
import torch
from captum.attr import GradientShap, NoiseTunnel

from captum_wg import ExpectedGradients, WeightedGradients
from captum_wg.engine.baseline_set import format_baselines

X = torch.rand(3, 4, generator=torch.Generator().manual_seed(0))
ROWS = torch.rand(5, 4, generator=torch.Generator().manual_seed(1))


class Maker:
    def __call__(self):
        return ROWS


@pytest.mark.parametrize(
    "make", [lambda: ROWS, lambda x: ROWS, Maker(), functools.partial(lambda r: r, ROWS), lambda *x: ROWS]
)
def test_a_callable_of_the_inputs_or_of_nothing(make):
    assert torch.equal(format_baselines(make, (X,)).values[0], ROWS)
    assert torch.equal(format_baselines((make,), (X,), is_tuple=True).values[0], ROWS)


def test_the_callable_that_gradient_shap_takes():
    def model(z):
        return (z**2).sum(1)

    GradientShap(model).attribute(X, baselines=lambda: ROWS)
    assert torch.equal(
        ExpectedGradients(model).attribute(X, baselines=lambda: ROWS), ExpectedGradients(model).attribute(X, ROWS)
    )


@pytest.mark.parametrize("other", [ROWS[:1], 0.5, ROWS.unsqueeze(0).expand(3, 5, 4)])
def test_one_row_beside_several_serves_them_all(other):
    y = X + 1
    found = format_baselines((ROWS[:1], ROWS), (X, y), is_tuple=True)
    assert found.count == 5
    assert torch.equal(found.values[0], ROWS[:1].expand(5, 4))
    mixed = format_baselines((other, ROWS), (X, y), is_tuple=True)
    assert mixed.count == 5


def test_other_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match=r"same number of rows.*\[2, 5\]"):
        format_baselines((ROWS[:2], ROWS), (X, X), is_tuple=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_whole_numbers_serve_floating_inputs(dtype):
    found = format_baselines((ROWS * 10).to(dtype), (X.double(),)).values[0]
    assert found.dtype == torch.float64
    assert torch.equal(found, (ROWS * 10).to(dtype).double())


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64])
def test_truth_values_and_complex_numbers_do_not(dtype):
    with pytest.raises(TypeError, match=r"convert them with \.to\(inputs\.dtype\)"):
        format_baselines(ROWS.to(dtype), (X,))


@pytest.mark.parametrize("rows", [torch.zeros(3, 4), ROWS[:1].expand(3, 4)])
def test_equal_rows_leave_nothing_to_choose(rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        format_baselines(rows, (X,))
    with pytest.warns(UserWarning, match="pairing='shared' or pairing='paired'"):
        format_baselines(ROWS[:3], (X,))


def test_one_baseline_that_a_wrapper_repeats():
    def model(z):
        return (z**2).sum(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = NoiseTunnel(WeightedGradients(model)).attribute(
            X, nt_samples=3, nt_samples_batch_size=3, stdevs=0.0, baselines=ROWS[:1]
        )
    torch.testing.assert_close(found, ExpectedGradients(model).attribute(X, ROWS[:1]))
