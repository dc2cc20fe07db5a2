"""The network of a data set: from a checkpoint, or trained here, on digits or planted data, and kept in a cache."""

from __future__ import annotations

import math
import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.data import planted
from benchmarks.data.digits import DIGITS, digits_pictures
from benchmarks.data.preparation import Inputs
from benchmarks.data.selection import readable
from benchmarks.models.checkpoints import (
    cnn_32,
    load_checkpoint,
    load_weights,
    read_state,
    resnet18_32,
    save_atomically,
)
from benchmarks.run.errors import BenchmarkError

# Part of the cached files' names: raise it whenever the training below changes.
TRAINING_VERSION = 1
PLANTED_EPOCHS = 6


def trained(
    name: str, classes: int = 10, weights: str | Path | None = None, cache: str | Path | None = None
) -> nn.Module:
    """The network for the data of a name: from a checkpoint; or for "digits" and planted data, without one, trained on
    them and cached. It is a ResNet-18, for planted data a small convolutional network.

    Raises:
        BenchmarkError: no checkpoint for other data, or one that does not fit.
    """
    if name in planted.DATA_SETS:
        return planted_model(name.removeprefix("planted-"), weights, cache)
    if weights is not None:
        return load_checkpoint(weights, classes)
    if name != "digits":
        raise BenchmarkError(
            f"--data {name} needs --weights: the state_dict of a network trained on it; "
            "python -m benchmarks.train_cifar10 makes one"
        )
    return digits_model(cache)


def digits_model(cache: str | Path | None = None, seed: int = 0) -> nn.Module:
    """The network trained on the digits: read from the cache, or trained (about a minute on 2 cores) and put there."""
    return _cached(
        digits_file(cache, seed),
        load_checkpoint,
        lambda: train_network(resnet18_32(), Inputs(digits_pictures()[0], DIGITS.image), seed=seed),
    )


def digits_file(cache: str | Path | None = None, seed: int = 0) -> Path:
    """Where `digits_model` keeps the trained network."""
    return Path(cache or default_cache()) / f"digits_resnet18_v{TRAINING_VERSION}_seed{seed}.pt"


def planted_model(
    variant: str, weights: str | Path | None = None, cache: str | Path | None = None, seed: int = 0
) -> nn.Module:
    """The network for a variant of the planted data, of these weights, from the cache, or trained (seconds)."""
    classes = len(planted.VARIANTS[variant][1])

    def read(path: str | Path) -> nn.Module:
        return load_weights(cnn_32(classes), read_state(path), path, f"a small network of {classes} classes")

    def train() -> nn.Module:
        images = Inputs(planted.pictures(variant)[0], planted.PLANTED.image)
        return train_network(cnn_32(classes), images, seed=seed, epochs=PLANTED_EPOCHS)

    if weights is not None:
        return read(weights)
    file = f"planted_{variant}_cnn_v{TRAINING_VERSION}_seed{seed}.pt"
    return _cached(Path(cache or default_cache()) / file, read, train)


def _cached(path: Path, read: Callable[[Path], nn.Module], train: Callable[[], nn.Module]) -> nn.Module:
    if path.is_file():
        try:
            return read(path)
        except BenchmarkError as error:
            warnings.warn(f"the cached network is unusable and is trained anew: {error}", stacklevel=3)
    model = train()
    try:
        save_atomically(model.state_dict(), path)
    except BenchmarkError as error:
        warnings.warn(f"the trained network could not be cached: {error}", stacklevel=3)
    return model


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
    model: nn.Module, lr: float, steps: int, adam: bool = False
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """SGD with Nesterov momentum (or AdamW) and weight decay, its rate rising to `lr` and falling within the steps."""
    optimizer: torch.optim.Optimizer
    if adam:
        optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.05)
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)


def bfloat16_instructions() -> dict[str, bool]:
    """Which of a CPU's instructions for bfloat16 this one has, as far as PyTorch tells."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    older = {"amx_bf16": "_is_amx_tile_supported", "avx512_bf16": "_is_avx512_bf16_supported"}
    return {name: bool(capabilities.get(name) or getattr(torch.cpu, of, bool)()) for name, of in older.items()}


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


def default_cache() -> Path:
    """The user's cache folder for this project, where the platform keeps such folders."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "captum-wg"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "captum-wg"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "captum-wg" / "Cache"
    return Path.home() / ".cache" / "captum-wg"
