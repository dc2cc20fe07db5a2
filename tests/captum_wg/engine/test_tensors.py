from __future__ import annotations

import torch

from captum_wg.engine.tensors import accumulation_dtype, along, as_tuple, beside, like_inputs


def test_a_tensor_is_a_tuple_of_one_and_back():
    x = torch.ones(2)
    assert as_tuple(x) == (x,)
    assert as_tuple((x, x)) == (x, x)
    assert like_inputs((x,), is_tuple=False) is x
    assert like_inputs((x,), is_tuple=True) == (x,)


def test_sums_are_kept_in_float32_or_wider_and_in_the_widest_of_a_tuple():
    kept = {t: accumulation_dtype(t) for t in (torch.float16, torch.bfloat16, torch.float32, torch.float64)}
    assert list(kept.values()) == [torch.float32, torch.float32, torch.float32, torch.float64]
    assert accumulation_dtype(torch.bfloat16, torch.float64, torch.float32) == torch.float64


def test_values_of_points_multiply_them():
    assert along(torch.arange(3.0), torch.zeros(2, 3)).shape == (1, 3)
    assert along(torch.arange(3.0), torch.zeros(2, 3, 4, 5)).shape == (1, 3, 1, 1)
    assert along(torch.ones(2, 3), torch.zeros(2, 3, 4, 5)).shape == (2, 3, 1, 1)
    assert beside(torch.ones(2), torch.zeros(2, 3, 4)).shape == (2, 1, 1)
