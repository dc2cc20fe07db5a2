"""Which of additional_forward_args go with the examples."""

from __future__ import annotations

import pytest
import torch

from captum_wg.engine.forward_args import ForwardArgs, shared


def test_an_output_that_is_no_tensor():
    with pytest.raises(TypeError, match="forward_func must return a Tensor, got tuple"):
        select((torch.ones(2),), None, 2)


def test_only_tensors_with_a_row_for_each_example_are_expanded():
    batched, other, scalar = torch.arange(3.0), torch.ones(2, 3), torch.tensor(5.0)
    args = ForwardArgs((batched, other, scalar, "text", [1, 2, 3], None), 3).of(torch.tensor([2, 0, 0, 1]))
    assert args[0].tolist() == [2.0, 0.0, 0.0, 1.0]
    assert args[1] is other
    assert args[2] is scalar
    assert args[3:] == ("text", [1, 2, 3], None)


@pytest.mark.parametrize("given", [None, ()])
def test_no_forward_args(given):
    assert ForwardArgs(given, 3).of(torch.arange(3)) == ()


def test_one_forward_arg_needs_no_tuple():
    (arg,) = ForwardArgs(torch.arange(2), 2).of(torch.tensor([1, 1, 0]))
    assert arg.tolist() == [1, 1, 0]
    assert ForwardArgs("flag", 2).of(torch.tensor([1])) == ("flag",)


def test_the_readings_of_what_may_belong_to_the_examples():
    args = ForwardArgs((torch.arange(3), "text", torch.zeros(3, 2), torch.zeros(4), shared(torch.zeros(3))), 3)
    assert args.ambiguous == {0, 2}
    assert list(args.readings()) == [{0, 2}, {0}, {2}, frozenset()]
    args.per_example = frozenset({2})
    found = args.of(torch.tensor([1, 1]))
    assert found[0].tolist() == [0, 1, 2]
    assert found[2].shape == (2, 2)
    assert found[4].shape == (3,)


def test_many_of_them_are_read_all_alike():
    args = ForwardArgs(tuple(torch.zeros(2) for _ in range(6)), 2)
    assert list(args.readings()) == [set(range(6)), frozenset()]
