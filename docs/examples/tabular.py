"""Tables: which columns decide, for a classifier and for a regression, and how far shap's values agree.

    pip install "captum-wg[peers]"                   # scikit-learn and shap
    python docs/examples/tabular.py
    python docs/examples/tabular.py --out plots      # shap's bar, beeswarm and waterfall plots as well

Three things are a table's own. Baselines are rows of the training data, few of which stand for all of them best when
they are chosen (centres of clusters, a draw by class). A category takes several columns of the network's input, and is
one feature to its reader: `feature_mask` says so. And the output of a regression has no natural zero, so that weighted
gradients ask how far it is from the baselines' outputs, not how large it is: `Deletion(score="distance")`.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import shap
import torch
from scipy.stats import spearmanr
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from captum_wg import Deletion, ExpectedGradients, WeightedGradients, baselines, to_shap


def trained(x: Tensor, y: Tensor, loss: nn.Module, epochs: int = 100) -> nn.Module:
    """A small network with smooth activations, fitted by full batches."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(x.shape[1], 32), nn.GELU(), nn.Linear(32, 16), nn.GELU(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(epochs):
        optimizer.zero_grad()
        loss(net(x)[:, 0], y).backward()
        optimizer.step()
    return net.eval()


def outputs_of(net: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    """The network as a function of arrays, as shap wants it."""

    def outputs(rows: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return net(torch.tensor(rows, dtype=torch.float32))[:, 0].numpy()

    return outputs


def agreement(ours: Tensor, theirs: np.ndarray) -> str:
    """Rank correlation of two attributions (B, F) of each row: mean and least."""
    each = [spearmanr(a, b).statistic for a, b in zip(ours.numpy(), theirs, strict=True)]
    return f"{np.mean(each):.3f} (least {min(each):.3f})"


def three_sets(train: Tensor, strata: np.ndarray, k: int) -> dict[str, object]:
    """K baselines of the training rows, chosen in three ways."""
    return {
        "drawn rows": baselines.sample(train, k),
        "rows by stratum": baselines.stratified(train, strata, k),
        "centres of clusters": baselines.k_means(train, k),
    }


class WholeGroups(shap.maskers.Masker):
    """shap's background rows, with the features of an example that are not masked, whole groups of columns at once."""

    def __init__(self, background: Tensor, feature_mask: Tensor):
        self.background, self.groups = background.numpy(), feature_mask[0].numpy()
        self.shape = (len(background), self.groups.max() + 1)
        self.mask_shapes = lambda x: [self.shape[1:]]

    def __call__(self, mask: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (np.where(np.broadcast_to(mask, self.shape[1:])[self.groups], x, self.background),)


def breast_cancer(rows: int) -> shap.Explanation:
    """A classifier of 30 numbers, against KernelExplainer with the same background."""
    data = load_breast_cancer()
    x, x_test, y, y_test = train_test_split(
        data.data, data.target, test_size=0.25, random_state=0, stratify=data.target
    )
    mean, deviation = x.mean(0), x.std(0)
    x, x_test = (torch.tensor((part - mean) / deviation, dtype=torch.float32) for part in (x, x_test))
    net = trained(x, torch.tensor(y, dtype=torch.float32), nn.BCEWithLogitsLoss())
    test = x_test[:rows]

    right = ((net(x_test)[:, 0] > 0).numpy() == y_test).mean()
    print(
        f"breast cancer, {right:.1%} right: rank correlations with shap's KernelExplainer of the logit over {rows} rows"
    )
    method = ExpectedGradients(net)
    for name, references in three_sets(x, y, k=20).items():
        background = references(test)
        kernel = shap.KernelExplainer(outputs_of(net), background.numpy())
        theirs = kernel.shap_values(test.numpy(), nsamples=1000, l1_reg=0, silent=True)
        found = method.attribute(test, background, pairing="shared", return_convergence_delta=True)
        print(f"  {name:20} {agreement(found.attributions, theirs)}, delta up to {found.delta.abs().max():.1e}")
    return to_shap(
        found, net(test)[:, 0], test * torch.tensor(deviation) + torch.tensor(mean), list(data.feature_names)
    )


def diabetes(rows: int) -> shap.Explanation:
    """A regression of 8 numbers and two categories in 5 columns, against shap's exact values of the 10 features."""
    data = load_diabetes(as_frame=True, scaled=False)
    table = data.data.astype({"sex": str})  # "1.0" or "2.0": the source does not say which is which
    table["age"] = pd.cut(data.data["age"], [0, 40, 60, 99], right=False).astype(str)
    numbers = table.select_dtypes("number")
    columns = pd.get_dummies(table[["age", "sex"]]).join((numbers - numbers.mean()) / numbers.std())
    # One number for all columns of a category: those of "age_[0, 40)", "age_[40, 60)", ... and of "age" is the same.
    mask = torch.tensor([[list(table).index(name.split("_")[0]) for name in columns]])
    x, x_test, y, y_test, _, shown = train_test_split(
        torch.tensor(columns.to_numpy(np.float32)),
        torch.tensor(((data.target - data.target.mean()) / data.target.std()).to_numpy(np.float32)),
        table,
        test_size=0.25,
        random_state=0,
    )
    net = trained(x, y, nn.MSELoss(), epochs=25)
    left = ((net(x_test)[:, 0] - y_test) ** 2).mean().item() / y_test.var().item()
    x_test, shown = x_test[:rows], shown[:rows]
    outputs = net(x_test)[:, 0].detach()
    print(
        f"diabetes, R2 {1 - left:.2f}: rank correlations with shap's exact values of outputs from {outputs.min():.2f} "
        f"to {outputs.max():.2f}; 10 features in {x.shape[1]} columns"
    )

    strata = pd.qcut(y.numpy(), 5).codes
    rule = Deletion(score="distance")
    for name, references in three_sets(x, strata, k=20).items():
        chosen = references(x_test)
        exact = shap.explainers.Exact(outputs_of(net), WholeGroups(chosen, mask))
        theirs = exact(x_test.numpy(), batch_size=1024, silent=True).values
        arguments = {"feature_mask": mask, "group_attributions": "sum", "pairing": "shared"}
        equal = ExpectedGradients(net).attribute(x_test, chosen, **arguments)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "for examples .* distance from the baselines' outputs")
            weighted = WeightedGradients(net).attribute(
                x_test, chosen, weighting=rule, return_weights=True, **arguments
            )
        print(
            f"  {name:20} expected {agreement(equal, theirs)}, weighted {agreement(weighted.attributions, theirs)}, "
            f"weights from {weighted.weights.min():.3f} to {weighted.weights.max():.3f}"
        )
    return to_shap(equal, outputs, shown)


def drawn(explanation: shap.Explanation, name: str, folder: Path) -> None:
    """shap's own plots of our attributions."""
    plots = {"bar": explanation, "beeswarm": explanation, "waterfall": explanation[0]}
    for plot, shown in plots.items():
        plt.figure()
        getattr(shap.plots, plot)(shown, show=False)
        plt.savefig(folder / f"{name}_{plot}.png", bbox_inches="tight")
        plt.close()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=12, help="test rows that are explained, of each table")
    parser.add_argument("--out", type=Path, help="a folder for plots")
    options = parser.parse_args(arguments)
    made = {"breast_cancer": breast_cancer(options.rows), "diabetes": diabetes(options.rows)}
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for name, explanation in made.items():
            drawn(explanation, name, options.out)


if __name__ == "__main__":
    main()
