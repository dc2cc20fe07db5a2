# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A measure of your own
#
# `GeneralizedAttribution` walks over the gradients at points around an input once, and shows them to as many measures
# as you like. A measure is a function of all gradients, or an object that folds them in piece by piece.
#
# [This page as a notebook](../own_measure.ipynb)

# %%
import torch
from torch import nn

from captum_wg import GeneralizedAttribution

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 3)).eval()
x, references = torch.randn(5, 4), torch.randn(20, 4)


# %% [markdown]
# As a function: where does the gradient keep its sign? It gets the gradients `(b, s, *feature)` of b examples at s
# points, the points, the inputs, the gradients at the inputs, and the points' weights `(1 or b, s)`, which sum to 1.


# %%
def share_positive(gradients, points, inputs, input_gradients, weights):
    return ((gradients > 0) * weights.unsqueeze(2)).sum(1)


measures = {"mean": "local_integrated_gradients", "variance": "gradient_variance", "share positive": share_positive}
found = GeneralizedAttribution(model).attribute(x, references, target=0, n_samples=40, measures=measures)
{name: values[0] for name, values in found.items()}


# %% [markdown]
# As an object its memory does not grow with the number of points: `init` begins a group of examples, `update` folds
# in some points, `finish` returns the attribution. This one is the largest magnitude that the gradient takes
# anywhere, and needs no gradient at the input itself.


# %%
class Largest:
    needs_input_gradients = False
    like_inputs = True  # brought to the inputs' dtype

    def init(self, inputs):
        self.largest = None

    def update(self, gradients, points, inputs, input_gradients, weights):
        here = gradients.abs().amax(1)
        self.largest = here if self.largest is None else torch.maximum(self.largest, here)

    def finish(self):
        return self.largest


found = GeneralizedAttribution(model).attribute(
    x, references, target=0, n_samples=10_000, measures={"largest": Largest()}
)
found["largest"][0]

# %% [markdown]
# A class of its own, which people can call like any other attribution, is one line more: the base class has the
# arguments, and the measure is its attribute.

# %%
from captum_wg.local_measures import SingleMeasure


class LargestGradient(SingleMeasure):
    """The largest magnitude of the gradient around the input."""

    measure = Largest


LargestGradient(model).attribute(x, references, target=0)[0]
