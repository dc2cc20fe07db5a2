from __future__ import annotations

import warnings

import pytest
import torch

from captum_wg.weighting.output import OutputTransform, check_output

pytestmark = pytest.mark.filterwarnings("error::UserWarning")

# A distribution, logits, a distribution again, and logits that happen to be one number each.
MIXED = torch.tensor([[0.2, 0.8], [3.0, -1.0], [0.5, 0.5], [-0.5, 1.5]], dtype=torch.float64)


def scores(output, at_inputs, raw=None, examples=None):
    raw = at_inputs if raw is None else raw
    return OutputTransform(output, at_inputs)(raw, torch.arange(len(raw)) if examples is None else examples)


def test_auto_is_softmax_of_logits(draw):
    x = draw(3, 4)
    torch.testing.assert_close(scores("auto", x), x.softmax(1))


def test_auto_leaves_distributions_and_one_column_alone(draw):
    probabilities = draw(3, 4).softmax(1)
    assert torch.equal(scores("auto", probabilities), probabilities)
    for column in (5 * draw(3), 5 * draw(3, 1)):
        assert torch.equal(scores("auto", column), column)


def test_auto_is_decided_example_by_example():
    found = scores("auto", MIXED)
    expected = torch.stack([MIXED[0], MIXED[1].softmax(0), MIXED[2], MIXED[3].softmax(0)])
    torch.testing.assert_close(found, expected)
    for i in range(4):
        assert torch.equal(scores("auto", MIXED[i : i + 1]), found[i : i + 1])


def test_rows_are_read_as_their_example_whatever_they_are_themselves():
    """A masked copy of an example with logits may happen to be a distribution, and the other way round."""
    raw = torch.tensor([[0.5, 0.5], [4.0, 1.0], [0.1, 0.9]], dtype=torch.float64)
    found = scores("auto", MIXED, raw, torch.tensor([1, 0, 3]))
    torch.testing.assert_close(found, torch.stack([raw[0].softmax(0), raw[1], raw[2].softmax(0)]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_distributions_in_low_precision_are_distributions(draw, dtype):
    low = draw(5, 10).softmax(1).to(dtype)
    assert torch.equal(scores("auto", low), low.float())


def test_outputs_that_may_be_a_sigmoids_are_warned_of():
    doubtful = torch.cat([MIXED, torch.tensor([[0.9, 0.9], [0.0, 0.1]], dtype=torch.float64)])
    with pytest.warns(UserWarning, match=r"examples 4, 5 lie in \[0, 1\] without summing to 1.*output='identity'"):
        found = scores("auto", doubtful)
    torch.testing.assert_close(found[4:], doubtful[4:].softmax(1))
    with pytest.warns(UserWarning, match="say yardstick='identity'"):
        OutputTransform("auto", doubtful, "yardstick")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said in ("softmax", "sigmoid", "identity", torch.exp):
            scores(said, doubtful)


def test_by_name_and_by_callable(draw):
    x = draw(3, 4)
    torch.testing.assert_close(scores("softmax", x.softmax(1)), x.softmax(1).softmax(1))
    torch.testing.assert_close(scores("sigmoid", x), x.sigmoid())
    assert torch.equal(scores("identity", x), x)
    torch.testing.assert_close(scores(torch.exp, x), x.exp())
    cube = draw(3, 4, 2)
    torch.testing.assert_close(scores("softmax", cube), cube.softmax(1))
    assert torch.equal(scores("identity", cube), cube)


def test_half_precision_becomes_float32():
    x = torch.full((2, 4), 3.0, dtype=torch.bfloat16)
    for output in ("auto", "identity", lambda o: o):
        assert scores(output, x).dtype == torch.float32


def test_outputs_of_more_dimensions_need_a_word(draw):
    with pytest.raises(ValueError, match=r"output='auto' can't be found for outputs of shape \(2, 3, 4\); say"):
        OutputTransform("auto", draw(2, 3, 4))


@pytest.mark.parametrize("columns", [(), (1,)])
def test_softmax_of_one_column_is_refused(draw, columns):
    with pytest.raises(ValueError, match="one column is always 1; use 'identity' or 'sigmoid'"):
        OutputTransform("softmax", draw(2, *columns))


def test_output_is_checked():
    for good in ("auto", "softmax", "sigmoid", "identity", torch.exp):
        assert check_output(good) is good
    for bad in ("logits", None, 3):
        with pytest.raises(ValueError, match=r"output must be one of \('auto', 'softmax', 'sigmoid', 'identity'\)"):
            check_output(bad)
