# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A table
#
# Which measurements make a tumour malignant, to a network that learns it on the spot? The table comes with
# scikit-learn, the plots with shap: `pip install "captum-wg[peers]"`. A few seconds.
#
# [This page as a notebook](../table.ipynb)

# %%
import shap
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn

from captum_wg import ExpectedGradients, baselines, to_shap

table = load_breast_cancer(as_frame=True)
train, test, y, y_test = train_test_split(table.data, 1 - table.target, random_state=0, stratify=table.target)
mean, deviation = train.mean(), train.std()
x, x_test = (torch.tensor(((part - mean) / deviation).to_numpy(), dtype=torch.float32) for part in (train, test))
labels = torch.tensor(y.to_numpy(), dtype=torch.float32)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(30, 32), nn.GELU(), nn.Linear(32, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
for _ in range(100):
    optimizer.zero_grad()
    nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], labels).backward()
    optimizer.step()
outputs = model(x_test)[:, 0].detach()
print(f"right for {((outputs > 0).numpy() == y_test).mean():.0%} of {len(x_test)} rows that it has not learnt from")

# %% [markdown]
# Baselines are rows of the training data: here twenty centres of clusters, which stand for all of them. Attributions
# then say how a row differs from the usual one, and sum to the difference of the outputs.

# %%
background = baselines.k_means(x, 20)
found = ExpectedGradients(model).attribute(x_test, background, return_convergence_delta=True)
print(f"largest delta {found.delta.abs().max():.1e}")

# %%
explanation = to_shap(found, outputs, test, list(table.feature_names))
ax = shap.plots.beeswarm(explanation, max_display=8, show=False)

# %%
ax = shap.plots.waterfall(explanation[0], max_display=8, show=False)

# %% [markdown]
# Columns that belong together, such as those of one category, can be one feature: the 30 columns are the mean, the
# error and the worst of ten measurements each.

# %%
names = [name.removeprefix("mean ") for name in table.feature_names[:10]]
groups = (torch.arange(30) % 10).unsqueeze(0)
of_groups = ExpectedGradients(model).attribute(x_test, background, feature_mask=groups, group_attributions="sum")
for value, name in sorted(zip(of_groups.abs().mean(0).tolist(), names, strict=True), reverse=True)[:5]:
    print(f"{name:<20}{value:.2f}")

# %% [markdown]
# Regressions, categories and how far shap's own values agree: `docs/examples/tabular.py` in the repository.
