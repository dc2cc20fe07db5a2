"""Attributions of groups of features: the columns that code one category, the pixels of a segment, a word's tokens.

A feature mask numbers the groups, as in Captum's perturbation methods. What a complete method says of a group is the
sum over its elements. It comes in one of two forms, which Captum's KernelShap calls return_input_shape=False and True:

    "sum"        a Tensor (B, P), group j in column j; 0 where an example has no element of it. It sums to
                 F(x) - sum_k w_k F(x'_k), as the elements do.
    "broadcast"  the inputs' structure and shapes, every element having the sum of its whole group. It sums to that
                 if each group is counted once.

Shapes: B examples, P groups.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from captum_wg.engine.checks import check_choice
from captum_wg.engine.tensors import Inputs, as_tuple, at_least_float32, like_inputs
from captum_wg.weighting.masking import Features

FORMS = ("broadcast", "sum")


def grouped(attributions: Inputs, feature_mask: Inputs, form: str = "broadcast") -> Inputs:
    """The sums of attributions over groups, of any method's maps.

    Args:
        attributions: a Tensor (B, *feature), or a tuple of these.
        feature_mask: for each of them an integer Tensor (1 or B, *feature), or one that broadcasts to it, of group
            numbers from 0 to P - 1; a group may have elements in several Tensors of the tuple.
        form: "broadcast" or "sum".

    Returns:
        In the attributions' structure, shape and dtype, or ("sum") (B, P).

    Raises:
        TypeError, ValueError: another form; numbers that are no integers, are negative or leave one out; a mask of
            another shape.
    """
    maps = as_tuple(attributions)
    returned, _ = Groups(form, maps, as_tuple(feature_mask))(maps)
    return like_inputs(returned, isinstance(attributions, tuple) and form == "broadcast")


class Groups:
    """The groups of one call, and the form in which their attributions are returned.

    Args:
        form: of `FORMS`.
        inputs: a tuple of Tensors (B, *feature), what the mask is of.
        feature_mask: as in `grouped`.
    """

    def __init__(self, form: str, inputs: tuple[Tensor, ...], feature_mask: tuple[Tensor, ...] | None):
        self.form = check_choice(form, "group_attributions", FORMS)
        if feature_mask is None:
            raise ValueError(
                f"group_attributions={form!r} needs feature_mask, the number of each element's group; give one"
            )
        self._features = Features(inputs, feature_mask)
        numbers = torch.unique(torch.cat([mask.flatten().cpu() for mask in feature_mask]))
        if int(numbers[0]) != 0 or int(numbers[-1]) != len(numbers) - 1:
            some = ", ".join(map(str, numbers[:10].tolist())) + (", ..." if len(numbers) > 10 else "")
            raise ValueError(
                "feature_mask must number the groups from 0 without gaps where their attributions are returned, got "
                f"{some}; torch.unique(feature_mask, return_inverse=True)[1] numbers them so"
            )
        self._dtypes = [x.dtype for x in inputs]

    def __call__(self, maps: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """What is returned of maps (B, *feature), in the inputs' dtypes, and the same with each group once."""
        sums = self._features.sums(tuple(map(at_least_float32, maps)))
        sums = sums.to(reduce(torch.promote_types, self._dtypes))
        if self.form == "sum":
            return (sums,), (sums,)
        spread = zip(self._features.spread(sums), maps, strict=True)
        return tuple(s.expand_as(m).to(d) for (s, m), d in zip(spread, self._dtypes, strict=True)), (sums,)
