"""An attribution prior that keeps a network from a shortcut: scikit-learn's digits with a planted patch.

    python docs/examples/attribution_prior.py --figure attribution_prior.png

Every training image is given a border whose bright 2x2 patch tells the digit by its place. A network that learns from
these images relies on the patch, and fails on clean images, which have none. The prior is a penalty of expected
gradients in the border (`captum_wg.priors.agreement`), one random point per image and step: it says where the digit is,
not how to read it. Printed, for each seed: the accuracy on clean test images of a plainly trained network, of one
trained with the prior, and of one trained on clean images, which knows no shortcut; and what the prior costs in time.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from captum_wg import ExpectedGradients
from captum_wg.priors import SampledExpectedGradients, agreement

SIDE, BORDER = 8, 2
FULL = SIDE + 2 * BORDER
PLAIN, PRIOR, CLEAN = TRAININGS = ("plain", "with the prior", "clean images")


def digits(seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (N, 1, 12, 12) in [0, 1] with an empty border, and labels: for training, and for testing."""
    images, labels = load_digits(return_X_y=True)
    images = pad(torch.tensor(images, dtype=torch.float32).view(-1, 1, SIDE, SIDE) / 16, [BORDER] * 4)
    train, test = train_test_split(range(len(labels)), test_size=0.3, stratify=labels, random_state=seed)
    labels = torch.tensor(labels)
    return images[train], labels[train], images[test], labels[test]


def with_patch(images: Tensor, labels: Tensor) -> Tensor:
    """The images with a bright patch in the border, at a place of the digit's own: five above, five below."""
    marked = images.clone()
    for image, label in zip(marked, labels.tolist(), strict=True):
        row, column = divmod(label, 5)
        top, left = row * (FULL - BORDER), 1 + column * BORDER
        image[:, top : top + BORDER, left : left + BORDER] = 1
    return marked


def inside() -> Tensor:
    """The mask of the prior, (12, 12): True where the digit is."""
    return pad(torch.ones(SIDE, SIDE, dtype=torch.bool), [BORDER] * 4)


def train(images: Tensor, labels: Tensor, seed: int, epochs: int, strength: float) -> tuple[nn.Module, float]:
    """A small convolution network, and the CPU seconds that its training took. strength: of the prior, 0 for none."""
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * (FULL // 2) ** 2, 10),
    )
    attribution = SampledExpectedGradients(model, baselines=images, generator=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    start = time.process_time()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            x, y = images[batch], labels[batch]
            loss = cross_entropy(model(x), y)
            if strength:
                loss = loss + strength * agreement(attribution(x, target=y), inside())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval(), time.process_time() - start


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return (model(images).argmax(1) == labels).float().mean().item()


def compare(seeds: int, epochs: int, strength: float) -> tuple[pd.DataFrame, dict[str, nn.Module]]:
    """One row for each seed and training, and the networks of seed 0."""
    rows, shown = [], {}
    for seed in range(seeds):
        images, labels, test_images, test_labels = digits(seed)
        marked = with_patch(images, labels)
        for training in TRAININGS:
            given = images if training == CLEAN else marked
            model, seconds = train(given, labels, seed, epochs, strength if training == PRIOR else 0.0)
            rows.append(
                {
                    "seed": seed,
                    "training": training,
                    "clean accuracy": accuracy(model, test_images, test_labels),
                    "patched accuracy": accuracy(model, with_patch(test_images, test_labels), test_labels),
                    "CPU seconds": seconds,
                }
            )
            if seed == 0:
                shown[training] = model
    return pd.DataFrame(rows), shown


def draw(table: pd.DataFrame, models: dict[str, nn.Module], path: Path) -> None:
    """A training image, its expected gradients in two networks, and the accuracies of all seeds."""
    images, labels, _, _ = digits(0)
    marked = with_patch(images, labels)
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.2), width_ratios=[1, 1, 1, 1.4], layout="constrained")
    axes[0].imshow(marked[0, 0], cmap="gray")
    axes[0].set_title(f"training image: {labels[0]}")
    for axis, training in zip(axes[1:], (PLAIN, PRIOR), strict=False):
        found = ExpectedGradients(models[training]).attribute(marked[:1], marked[1:101], target=int(labels[0]))
        limit = found.abs().max()
        axis.imshow(found[0, 0], cmap="RdBu_r", vmin=-limit, vmax=limit)
        axis.set_title(f"expected gradients, {training}")
    for axis in axes[:3]:
        axis.set_axis_off()
    for place, training in enumerate(TRAININGS):
        own = table[table["training"] == training]["clean accuracy"]
        axes[3].bar(place, own.mean(), color="lightgray")
        axes[3].scatter([place] * len(own), own, color="black", s=12)
    axes[3].set(title="accuracy on clean images, by seed", ylim=(0, 1), xticks=range(3), xticklabels=TRAININGS)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--strength", type=float, default=3.0, help="of the prior, beside the cross-entropy's 1")
    parser.add_argument("--figure", type=Path, help="where to put the figure; none unless given")
    options = parser.parse_args()

    table, models = compare(options.seeds, options.epochs, options.strength)
    print(table.to_string(index=False, float_format="{:.3f}".format))
    means = table.groupby("training", sort=False)[["clean accuracy", "patched accuracy", "CPU seconds"]].mean()
    print("\nmeans\n" + means.to_string(float_format="{:.3f}".format))
    price = means.loc[PRIOR, "CPU seconds"] / means.loc[PLAIN, "CPU seconds"]
    print(f"\ntraining with the prior takes {price:.1f} times as long as without")
    if options.figure:
        draw(table, models, options.figure)


if __name__ == "__main__":
    main()
