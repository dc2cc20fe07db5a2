"""Which filters of a trained ResNet-18 matter, checked by removing them.

    python docs/examples/filters.py --weights resnet18_cifar10.pt --root cifar10/test --figure filters.png

Each measure ranks the filters of a layer by its mean size over some images of CIFAR-10 (`captum_wg.filters.rank`). Then
the filters at the head of each ranking are removed (their activations set to 0), and as many random ones, and the
accuracy on other images is taken: the filters of a ranking that is worth something are missed more than random ones.

--root holds a folder of images for each class, --weights the network of `benchmarks.models.checkpoints`; run it from
the checkout. With the defaults it takes some minutes on one core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor, nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.data.cifar10 import CIFAR10
from benchmarks.models.checkpoints import load_checkpoint, ready
from captum_wg import LayerExpectedGradients, LayerGeneralizedAttribution
from captum_wg.filters import Ranking, measures, rank, removed

REFERENCES = 20


def read(root: Path, counts: list[int], seed: int) -> list[tuple[Tensor, Tensor]]:
    """Parts of so many images and labels each, drawn at random without any image in two of them."""
    prepare = v2.Compose(
        [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(CIFAR10.mean), list(CIFAR10.std))]
    )
    folder = ImageFolder(str(root), prepare)
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(seed))
    if len(order) < sum(counts):
        raise SystemExit(f"--root {root} has {len(order)} images, {sum(counts)} are needed; lower --images")
    parts = order[: sum(counts)].split(counts)
    pairs = [[folder[i] for i in part.tolist()] for part in parts]
    return [(torch.stack([x for x, _ in part]), torch.tensor([y for _, y in part])) for part in pairs]


def rankings(
    model: nn.Module, layer: nn.Module, x: Tensor, y: Tensor, references: Tensor, samples: int
) -> dict[str, Ranking]:
    """Of each measure, from `samples` points for each image."""
    settings = {"target": y, "n_samples": samples, "show_progress": False}
    return {
        "expected gradients": rank(LayerExpectedGradients(model, layer), x, references, **settings),
        **rank(LayerGeneralizedAttribution(model, layer), x, references, **settings, measures=measures()),
    }


@torch.no_grad()
def accuracy_without(model: nn.Module, layer: nn.Module, filters: Tensor, x: Tensor, y: Tensor) -> float:
    with removed(layer, filters):
        found = torch.cat([model(part).argmax(1) for part in x.split(50)])
    return (found == y).float().mean().item()


def ablation(
    model: nn.Module, layer: nn.Module, ranked: dict[str, Ranking], x: Tensor, y: Tensor, draws: int
) -> pd.DataFrame:
    """The accuracy without some share of the filters: the first of each ranking, and random ones `draws` times."""
    generator = torch.Generator().manual_seed(0)
    total = len(next(iter(ranked.values())).order)
    whole = accuracy_without(model, layer, torch.arange(0), x, y)
    rows = []
    for share in (0.0, 0.125, 0.25, 0.375, 0.5, 0.625):
        count = round(share * total)
        orders = [(name, ranking.order) for name, ranking in ranked.items()]
        orders += [("random", torch.randperm(total, generator=generator)) for _ in range(draws)]
        for name, order in orders:
            accuracy = accuracy_without(model, layer, order[:count], x, y) if count else whole
            rows.append((name, count, accuracy))
    return pd.DataFrame(rows, columns=["ranking", "filters removed", "accuracy"])


def draw(table: pd.DataFrame, title: str, path: Path) -> None:
    figure, axis = plt.subplots(figsize=(6.5, 4), layout="constrained")
    for name, rows in table.groupby("ranking", sort=False):
        means = rows.groupby("filters removed")["accuracy"].agg(["mean", "min", "max"])
        style = {"color": "black", "linestyle": "--"} if name == "random" else {"marker": "o", "markersize": 4}
        axis.plot(means.index, means["mean"], label=str(name).replace("_", " "), **style)
        if name == "random":
            axis.fill_between(means.index, means["min"], means["max"], color="black", alpha=0.12, linewidth=0)
    axis.set(xlabel="filters removed", ylabel="accuracy", title=title, ylim=(0, 1))
    axis.legend(title="the first ones by")
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a state_dict of the ResNet-18 for 32x32 images")
    parser.add_argument("--root", type=Path, required=True, help="holds CLASS/IMAGE")
    parser.add_argument("--layer", default="layer3", help="whose filters, such as layer2 or layer3.0.conv1")
    parser.add_argument("--images", type=int, default=200, help="to rank by, and as many others for the accuracy")
    parser.add_argument("--samples", type=int, default=10, help="points for each image")
    parser.add_argument("--draws", type=int, default=10, help="of random filters")
    parser.add_argument("--figure", type=Path, help="where to put the figure; none unless given")
    options = parser.parse_args()

    model = ready(load_checkpoint(options.weights), "cpu")
    layer = model.get_submodule(options.layer)
    (x, y), (others, labels), (references, _) = read(options.root, [options.images, options.images, REFERENCES], seed=0)
    ranked = rankings(model, layer, x, y, references, options.samples)
    for name, ranking in ranked.items():
        first = ranking.order[:5].tolist()
        values = ", ".join(f"{f} ({ranking.mean[f]:.2g} +- {ranking.deviation[f]:.2g})" for f in first)
        print(f"{name}: {values}, ...")

    table = ablation(model, layer, ranked, others, labels, options.draws)
    shown = table.groupby(["ranking", "filters removed"], sort=False)["accuracy"].mean().unstack()
    print(f"\naccuracy on {options.images} other images without the first filters of {options.layer}")
    print(shown.to_string(float_format="{:.3f}".format))
    spread = table[table["ranking"] == "random"].groupby("filters removed")["accuracy"].std()
    print(f"standard deviation of random ones: {', '.join(f'{s:.3f}' for s in spread)}")
    if options.figure:
        draw(table, f"ResNet-18, {options.layer}, {options.images} images", options.figure)


if __name__ == "__main__":
    main()
