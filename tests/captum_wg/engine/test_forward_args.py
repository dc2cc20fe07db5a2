from __future__ import annotations

import pytest
import torch

from captum_wg import shared
from captum_wg.engine.forward_args import ForwardArgs


def settled(given, n_examples):
    """Arguments that a first call of the model has left alone."""
    args = ForwardArgs(given, n_examples)
    args.of(torch.tensor([0]))
    args.called()
    return args


def test_only_tensors_with_a_row_for_each_example_are_expanded():
    batched, other, scalar = torch.arange(3.0), torch.ones(2, 3), torch.tensor(5.0)
    args = settled((batched, other, scalar, "text", [1, 2, 3], None), 3).of(torch.tensor([2, 0, 0, 1]))
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


def test_what_may_be_read_either_way_is_read_in_every_combination():
    own, other, scalar = torch.arange(3), torch.ones(2), torch.tensor(1.0)
    args = settled((own, other, own + 1, scalar, shared(own)), 3)
    assert args.ambiguous == {0, 2} == args.per_example
    assert [sorted(r) for r in args.readings()] == [[0, 2], [0], [2], []]
    rows = torch.tensor([2, 0])
    for reading in args.readings():
        given = args.of(rows, reading)
        assert given[0].tolist() == ([2, 0] if 0 in reading else [0, 1, 2])
        assert given[2].tolist() == ([3, 1] if 2 in reading else [1, 2, 3])
        assert given[1] is other and given[3] is scalar and given[4] is own
    args.per_example = frozenset({2})
    assert args.of(rows)[0] is own and args.of(rows)[2].tolist() == [3, 1]


def test_of_many_arguments_all_but_one_of_a_kind_are_tried():
    everyone = frozenset(range(5))
    args = ForwardArgs(tuple(torch.ones(3) for _ in everyone), 3)
    singles = [frozenset({i}) for i in range(5)]
    assert list(args.readings()) == [everyone, *(everyone - one for one in singles), *singles, frozenset()]


def test_what_the_model_writes_into_is_copied_from_then_on():
    kept, written = torch.ones(2), torch.ones(2)
    args = ForwardArgs((kept, written), 3)
    handed = args.of(torch.tensor([0]))
    handed[1].add_(1)
    args.called()
    assert args.written == {1}
    assert args.of(torch.tensor([0]))[0] is kept
    args.of(torch.tensor([0]))[1].add_(1)
    assert written.tolist() == [1.0, 1.0]


def test_a_marked_argument_is_not_marked_twice():
    x = torch.ones(3)
    once = shared(x)
    assert shared(once) is once and once.value is x


def test_sparse_arguments_go_with_their_examples():
    args = ForwardArgs(torch.eye(3).to_sparse(), 3)
    assert args.of(torch.tensor([2, 2, 0]))[0].to_dense().tolist() == [[0, 0, 1], [0, 0, 1], [1, 0, 0]]
