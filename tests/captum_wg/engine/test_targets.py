from __future__ import annotations

import numpy as np
import pytest
import torch
from captum._utils.common import _select_targets

from captum_wg.engine.targets import Targets, select

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

ROWS = 4
FORMS = {
    "one output": ((ROWS,), None),
    "one column": ((ROWS, 1), None),
    "int": ((ROWS, 3), 2),
    "int of one column": ((ROWS, 1), 0),
    "negative int": ((ROWS, 3), -1),
    "numpy int": ((ROWS, 3), np.int64(1)),
    "0-D Tensor": ((ROWS, 3), torch.tensor(1)),
    "Tensor of one": ((ROWS, 3), torch.tensor([2])),
    "1-D Tensor": ((ROWS, 3), torch.tensor([0, 2, 1, 1])),
    "1-D int32 Tensor": ((ROWS, 3), torch.tensor([0, 2, 1, 1], dtype=torch.int32)),
    "list": ((ROWS, 3), [2, 1, 0, 1]),
    "tuple of one": ((ROWS, 3), (1,)),
    "tuple": ((ROWS, 3, 2, 2), (1, 0, 1)),
    "list of tuples of one": ((ROWS, 3), [(0,), (2,), (1,), (1,)]),
    "list of tuples": ((ROWS, 3, 2), [(0, 1), (2, 0), (1, 1), (1, 0)]),
}


def captums(output, target):
    if isinstance(target, np.integer):
        target = int(target)
    if isinstance(target, torch.Tensor):
        target = target.long()
    return _select_targets(output, target).reshape(ROWS)


@pytest.mark.parametrize(("shape", "target"), FORMS.values(), ids=FORMS)
def test_every_form_selects_what_captum_selects(draw, shape, target):
    output = draw(*shape)
    chosen = Targets(target, ROWS).select(output, torch.arange(ROWS))
    assert chosen.shape == (ROWS,)
    assert torch.equal(chosen, captums(output, target))


@pytest.mark.parametrize(("shape", "target"), FORMS.values(), ids=FORMS)
def test_rows_take_the_target_of_their_example(draw, shape, target):
    output, examples = draw(*shape), torch.tensor([2, 2, 0, 3, 1, 3])
    chosen = Targets(target, ROWS).select(output[examples], examples)
    assert torch.equal(chosen, captums(output, target)[examples])


def test_negative_targets_of_each_example_count_from_the_end(draw):
    output = draw(ROWS, 3)
    chosen = Targets([-1, 0, -3, 2], ROWS).select(output, torch.arange(ROWS))
    assert torch.equal(chosen, torch.stack([output[0, 2], output[1, 0], output[2, 0], output[3, 2]]))


def test_one_example_takes_a_list_of_one(draw):
    output = draw(2, 3)
    assert torch.equal(Targets([1], 1).select(output, torch.zeros(2, dtype=torch.long)), output[:, 1])


def test_of_no_target_is_none():
    assert Targets(None, 3).of(torch.arange(3)) is None


@pytest.mark.parametrize(
    ("target", "error", "match"),
    [
        (torch.tensor([0.0, 1.0, 2.0, 0.0]), TypeError, "target must hold integers, got a Tensor of torch.float32"),
        (torch.tensor([True] * 4), TypeError, "torch.bool"),
        (torch.tensor([[0], [1], [2], [0]]), ValueError, r"one integer or of one per example, got shape \(4, 1\)"),
        (torch.tensor([0, 1]), ValueError, "target has 2 entries for 4 examples"),
        ([0, 1, 2], ValueError, "target has 3 entries for 4 examples"),
        ([], ValueError, "target has 0 entries"),
        ([(0,)], ValueError, "target has 1 entries"),
        (1.0, TypeError, "target must be an int.*got float"),
        ("1", TypeError, "got str"),
        (True, TypeError, "got bool"),
        ([0, 1.5, 2, 0], TypeError, "got float"),
        ([(0,), 1, (2,), (0,)], TypeError, "got tuple"),
    ],
)
def test_targets_of_no_known_form(target, error, match):
    with pytest.raises(error, match=match):
        Targets(target, ROWS)


@pytest.mark.parametrize(
    ("shape", "target", "match"),
    [
        ((ROWS, 3), None, "target is missing"),
        ((ROWS, 3), 3, r"target 3 is out of range: forward_func returns 3 columns \(0 to 2\)"),
        ((ROWS, 3), -4, "target -4 is out of range"),
        ((ROWS, 3), torch.tensor([0, 1, 2, 3]), "target 3 is out of range"),
        ((ROWS, 3), [0, -4, 2, 0], "target -4 is out of range"),
        ((ROWS, 3), (3,), "out of range"),
        ((ROWS, 3), (1, 1), "out of range.*too many indices"),
        ((ROWS, 3), [(0,), (1,), (2,), (3,)], "out of range"),
        ((ROWS,), 0, "one number per example; leave target out"),
        ((ROWS,), [0] * 4, "leave target out"),
        ((ROWS, 3, 2), 1, r"selects \(2,\) of an output of shape"),
        ((ROWS, 3, 2), [0] * 4, "needs outputs of shape .B, classes."),
        ((ROWS, 3, 2), (1,), "selects"),
        ((ROWS, 3, 2), [(1,)] * 4, "selects"),
        ((ROWS + 1, 3), 1, "4 rows went in"),
        ((), None, "one row per example"),
    ],
)
def test_targets_that_do_not_fit_the_output(draw, shape, target, match):
    with pytest.raises(ValueError, match=match):
        Targets(target, ROWS).select(draw(*shape), torch.arange(ROWS))


def test_a_long_target_is_cut_in_the_message(draw):
    with pytest.raises(ValueError, match=r"\.\.\.\] is out of range") as error:
        select(draw(100, 2), [(5,)] * 100, 100)
    assert len(str(error.value)) < 300


def test_an_output_that_is_no_tensor():
    with pytest.raises(TypeError, match="forward_func must return a Tensor, got tuple"):
        select((torch.ones(2),), None, 2)
