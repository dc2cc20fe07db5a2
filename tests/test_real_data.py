"""The methods on a trained network and real images; skipped where CAPTUM_WG_DATA names no folder with them."""

from __future__ import annotations

import io
import os
import tarfile
from itertools import islice
from pathlib import Path

import pytest
import torch
from captum.attr import IntegratedGradients
from PIL import Image
from torchvision import transforms

from benchmarks.models.checkpoints import load_checkpoint
from captum_wg import ExpectedGradients, WeightedGradients

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
prepare = transforms.Compose(
    [transforms.ToTensor(), transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))]
)


@pytest.fixture(scope="module")
def folder():
    path = os.environ.get("CAPTUM_WG_DATA")
    if not path:
        pytest.skip("CAPTUM_WG_DATA is not set: no real data to test on")
    return Path(path)


@pytest.fixture(scope="module")
def net(folder):
    return load_checkpoint(folder / "resnet18_cifar10.pt")


def read_images(archive, count, step):
    """Every step-th image of the archive, with its class."""
    with tarfile.open(archive) as tar:
        members = islice((m for m in tar if m.isfile()), 0, count * step, step)
        pairs = [
            (prepare(Image.open(io.BytesIO(tar.extractfile(m).read()))), CLASSES.index(Path(m.name).parent.name))
            for m in members
        ]
    return torch.stack([x for x, _ in pairs]), torch.tensor([y for _, y in pairs])


@pytest.fixture(scope="module")
def images(folder, net):
    x, y = read_images(folder / "cifar10_jpeg_test.tar.gz", 24, 400)
    with torch.no_grad():
        correct = net(x).argmax(1) == y
    assert correct.float().mean() > 0.7
    return x[correct][:2], y[correct][:2]


@pytest.fixture(scope="module")
def references(folder):
    return read_images(folder / "cifar10_jpeg_train.tar.gz", 3, 500)[0]


def test_expected_gradients_are_the_mean_of_captums_integrated_gradients(net, images, references):
    x, y = images
    ours = ExpectedGradients(net).attribute(x, references, target=y, n_steps=5)
    captums = torch.stack(
        [IntegratedGradients(net).attribute(x, r[None], target=y, n_steps=5) for r in references]
    ).mean(0)
    assert torch.allclose(ours, captums, atol=1e-4 * captums.abs().max())


def test_fitness_is_the_literal_search_on_a_real_network(net, images, references):
    x, y = images
    found = WeightedGradients(net).fitness(x, references, target=y, n_steps=3)
    for i in range(len(x)):
        corners = [
            x[i, :, h, w].mean((1, 2)) for h in (slice(0, 3), slice(-3, None)) for w in (slice(0, 3), slice(-3, None))
        ]
        neutral = torch.stack(corners).mean(0)

        def probability(image, label=y[i]):
            with torch.no_grad():
                return net(image[None]).softmax(1)[0, label].item()

        start = probability(x[i])
        for k, reference in enumerate(references):
            alone = ExpectedGradients(net).attribute(x[i : i + 1], reference[None], target=int(y[i]), n_steps=3)
            scores = alone[0].sum(0).flatten()
            order = sorted(range(1024), key=lambda pixel, scores=scores: -scores[pixel].item())
            low, high, answer = 1, 1024, 1024
            while low <= high:
                middle = (low + high) // 2
                masked = x[i].flatten(1).clone()
                masked[:, order[:middle]] = neutral[:, None]
                score = probability(masked.view(3, 32, 32))
                if abs(score - 0.5 * start) <= 0.01 * start:
                    answer = middle
                    break
                if score <= 0.5 * start:
                    answer, high = middle, middle - 1
                else:
                    low = middle + 1
            # Maps of a batch and of one image differ in their last bits, and so may pixels of nearly equal rank.
            assert abs(answer - found[i, k].item()) <= 2
