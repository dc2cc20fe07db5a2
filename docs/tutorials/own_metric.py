# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A metric of your own
#
# Often it is one that is there with other settings: what replaces a pixel, which pixels go together, how far a curve
# goes. Here is one of each, and then a metric that is new. `pip install "captum-wg[quantus]"`.
#
# [This page as a notebook](../own_metric.ipynb)

# %%
import numpy as np
import quantus
import torch
from torch import nn

from quantus_ext import DeletionAUC, explainer

torch.manual_seed(0)
model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 6 * 6, 4)).eval()
x = np.random.default_rng(0).random((6, 3, 8, 8), dtype=np.float32)
y = model(torch.from_numpy(x)).argmax(1).numpy()


# %% [markdown]
# A removal is any function of the inputs. Blocks of pixels go together by a `feature_mask`, and levels that end at a
# half look at the highest ranked alone.


# %%
def upside_down(images):
    return images.flip(2)


blocks = (torch.arange(8)[:, None] // 2 * 4 + torch.arange(8) // 2).expand(1, 3, 8, 8)
metrics = {
    "upside down": DeletionAUC(removal=upside_down, disable_warnings=True),
    "blocks": DeletionAUC(levels=16, feature_mask=blocks, disable_warnings=True),
    "first half": DeletionAUC(levels=[0.1, 0.2, 0.3, 0.4, 0.5], disable_warnings=True),
}

# %% [markdown]
# A metric that is new subclasses `AttributionMetric`, which brings everything to one form: arrays or Tensors,
# channels first, checked shapes, chunks of examples. It says what it needs of a call (`checked`), and scores a batch.
# This one: how much of the map's magnitude is in its largest tenth of pixels?

# %%
from quantus.helpers.enums import EvaluationCategory, ScoreDirection

from quantus_ext.attribution_metric import AttributionMetric


class ShareOfTop(AttributionMetric):
    """The share of a map's magnitude that its largest pixels have; higher is sparser, and better."""

    name = "Share of top"
    score_direction = ScoreDirection.HIGHER
    evaluation_category = EvaluationCategory.COMPLEXITY
    sensitive_params = "the share 'top'"
    definition = "this page"

    def __init__(self, top=0.1, **options):
        """Set up the metric: top is the share of pixels."""
        self.top = top
        super().__init__("absolute", **options)

    def checked(self, x, data):
        return {}

    def evaluate_batch(self, x_batch, a_batch, **data):
        sizes = np.sort(np.abs(a_batch).sum(1).reshape(len(a_batch), -1))[:, ::-1]
        count = max(1, round(self.top * sizes.shape[1]))
        return [float(share) for share in sizes[:, :count].sum(1) / sizes.sum(1)]


metrics["share of top"] = ShareOfTop(disable_warnings=True)

# %% [markdown]
# All of them in `quantus.evaluate`, beside Quantus' own, for methods of both packages.

# %%
references = torch.rand(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
scores = quantus.evaluate(
    metrics={"Sparseness": quantus.Sparseness(disable_warnings=True), **metrics},
    xai_methods={
        "EG": explainer("ExpectedGradients", baselines=references, n_steps=5),
        "WG": explainer("WeightedGradients", baselines=references, n_steps=5),
        "Saliency": explainer("Saliency"),
    },
    model=model,
    x_batch=x,
    y_batch=y,
    explain_func_kwargs={},
)
for method, found in scores.items():
    print(method, {name: round(float(np.mean(values)), 3) for name, values in found.items()})
