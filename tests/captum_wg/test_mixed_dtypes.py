"""A tuple whose elements differ in precision is worked on in the widest, whichever comes first."""

import pytest
import torch

from captum_wg import ExpectedGradients, LocalIntegratedGradients, WeightedGradients

# No removal halves these functions, so the weights are equal; that is not the matter here.
pytestmark = pytest.mark.filterwarnings("ignore:for examples")


def function(narrow, wide):
    return (narrow.double() * wide).square().sum(1) + 1


NARROW, WIDE = torch.tensor([[1.5, 0.25]]), torch.tensor([[1 / 3, 2 / 7]]).double()
ENDS = (torch.tensor([[0.5, -1.0], [0.0, 2.0]]), torch.tensor([[0.1, 0.2], [0.3, -0.7]]).double())


@pytest.mark.parametrize("cls", [ExpectedGradients, WeightedGradients, LocalIntegratedGradients])
def test_a_wide_element_after_a_narrow_one_keeps_its_digits(cls):
    method = cls(function)
    found = method.attribute((NARROW, WIDE), ENDS)
    assert [a.dtype for a in found] == [torch.float32, torch.float64]
    exact = method.attribute((NARROW.double(), WIDE), (ENDS[0].double(), ENDS[1]))
    torch.testing.assert_close(found[0], exact[0].float())
    # The points of the narrow element are themselves rounded to float32.
    torch.testing.assert_close(found[1], exact[1], rtol=1e-6, atol=0)


def test_points_and_sums_of_a_wide_element_are_not_rounded():
    alone = ExpectedGradients(lambda wide: wide.pow(3).sum(1)).attribute(WIDE, ENDS[1])
    beside = ExpectedGradients(lambda narrow, wide: wide.pow(3).sum(1)).attribute((NARROW, WIDE), ENDS)[1]
    torch.testing.assert_close(beside, alone, rtol=1e-14, atol=0)
