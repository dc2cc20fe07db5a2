import copy

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import get_model

from benchmarks.data.pictures import Pictures
from benchmarks.data.preparation import Preparation
from benchmarks.experiment import cells, plan, reading
from benchmarks.experiment.bench import Bench
from benchmarks.experiment.results import Chosen
from benchmarks.experiment.settings import Experiment
from benchmarks.models.networks import Network, load_network

CPU = torch.device("cpu")

# The network of `data`.
MODEL, CLASSES = "shufflenet_v2_x0_5", 5


@pytest.fixture(scope="session")
def tiny_network():
    """A convolutional network for 3x32x32 and 10 classes, with fixed random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(128, 10),
        )
    return model.eval().requires_grad_(False)


@pytest.fixture
def tiny_model(tiny_network):
    """The tiny network, of the test's own."""
    return copy.deepcopy(tiny_network)


@pytest.fixture(scope="session")
def tiny_batch(tiny_network):
    """Three noise images and the classes that the tiny network gives them."""
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return x.numpy(), np.asarray(tiny_network(x).argmax(1))


@pytest.fixture(scope="session")
def references():
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """A folder of noise photographs, labelled by what a tiny network says of them, one truncated, one mislabelled."""
    folder = tmp_path_factory.mktemp("data")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_model(MODEL, weights=None, num_classes=CLASSES)
        # Batch statistics of noise, and sharp outputs, so that the class depends on the image.
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 1.0
        model.train()(torch.nn.functional.interpolate(torch.randn(64, 3, 5, 5), (32, 32)))
    state = model.state_dict()
    state["fc.weight"] *= 5
    torch.save(state, folder / "tiny.pt")
    network = load_network(MODEL, folder / "tiny.pt", resize=36, crop=32)
    generator = np.random.default_rng(0)
    rows = []
    for i in range(14):
        small = generator.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((48, 40), Image.Resampling.NEAREST)
        picture.save(folder / f"{i:02d}.png")
        with torch.no_grad():
            label = int(network.model(network.preparation.image(picture)[None]).argmax())
        mask = np.zeros((40, 48), np.uint8)
        mask[10:30, 12:30] = 255
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(folder / "masks" / f"{i:02d}.png")
        rows.append((f"{i:02d}.png", label))
    assert len({label for _, label in rows}) > 1
    rows[3] = (rows[3][0], (rows[3][1] + 1) % CLASSES)
    content = (folder / "05.png").read_bytes()
    (folder / "05.png").write_bytes(content[: len(content) // 2])
    pd.DataFrame(rows, columns=["file", "class_index"]).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture
def folder(data):
    """The words of a weighted-gradients command that say where `data` and its network are."""
    return [
        *("--data", "imagenet", "--root", str(data), "--labels", str(data / "labels.csv")),
        *("--models", MODEL, "--weights", str(data / "tiny.pt"), "--resize", "36", "--crop", "32"),
    ]


@pytest.fixture
def ready(tiny_model, references, monkeypatch):
    """An experiment's things, for cells of this process: the tiny model, 12 noise images, two baselines."""
    generator = np.random.default_rng(1)
    pictures = Pictures(
        "noise",
        tuple(f"{i:02d}" for i in range(12)),
        [generator.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(12)],
    )
    preparation = Preparation(None, None, mean=(0.5,) * 3, std=(0.25,) * 3)
    experiment = Experiment(model="tiny", data="digits", n_baselines=2, n_steps=2, batch=None, together=2, radius=1.5)
    found = Bench(experiment, Network("tiny", tiny_model, preparation, 10), pictures, CPU, None, references)
    for module in (cells, plan, reading):
        monkeypatch.setattr(module, "bench", lambda experiment: found)
    return found


@pytest.fixture
def chosen(ready):
    """Gives images of the bench at some positions, with the classes that its network gives them."""

    def images(*positions):
        table = cells.predictions(ready.experiment, positions).rename(columns={"name": "image"})
        return tuple(Chosen(one.position, one.image, one.crc, one.predicted) for one in table.itertuples())

    return images
